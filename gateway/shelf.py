"""Model snapshots by SHA-256, one file each. Bytes with a digest: never parsed here, never unpickled."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
from pathlib import Path

from gateway.errors import Code, Refusal, StoreUnavailable

_DIGEST = re.compile(r"[0-9a-f]{64}")


class Shelf:
    """A folder of content-addressed files: FOLDER/<first two digits>/<digest>."""

    def __init__(self, folder: Path) -> None:
        """Open or create the folder. Raises `StoreUnavailable` if that cannot be done."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreUnavailable(f"cannot create {folder}: {error.strerror}") from error
        self._folder = folder.resolve()  # Flask takes a relative path as one beside its own modules

    def put(self, digest: str, body: bytes) -> bool:
        """Store `body` durably; return whether it is new.

        Raises `Refusal` if its SHA-256 is not `digest`, and `StoreUnavailable` if nothing was stored.
        """
        path = self._path(digest)
        found = hashlib.sha256(body).hexdigest()
        if found != digest:
            raise Refusal(422, Code.DIGEST_MISMATCH, f"the body's SHA-256 is {found}, not {digest}")
        try:
            if path.exists():
                _sync(path.parent)  # whoever stores it at this moment may not have got so far
                return False
            path.parent.mkdir(exist_ok=True)
            _write(path, body)
            _sync(path.parent)
            _sync(self._folder)
        except OSError as error:
            raise StoreUnavailable(f"cannot store a model: {error.strerror}") from error
        return True

    def find(self, digest: str) -> Path:
        """Return the file of `digest`. Raises `Refusal` 404 if there is none."""
        path = self._path(digest)
        if not path.is_file():
            raise Refusal(404, Code.NOT_FOUND, f"no model {digest} here; it may be uploaded later", retry=True)
        return path

    def size(self) -> tuple[int, int]:
        """Return how many models there are, and their bytes together."""
        sizes: list[int] = []
        for one in self._folder.glob("??/" + "?" * 64):
            with contextlib.suppress(FileNotFoundError):  # it may go while we look
                sizes.append(one.stat().st_size)
        return len(sizes), sum(sizes)

    def _path(self, digest: str) -> Path:
        if not _DIGEST.fullmatch(digest):
            raise Refusal(400, Code.BAD_REQUEST, "a model is named by its SHA-256: 64 lower-case hex digits")
        return self._folder / digest[:2] / digest


def _write(path: Path, body: bytes) -> None:
    """Write a file whole or not at all."""
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as part:
        try:
            part.write(body)
            part.flush()
            os.fsync(part.fileno())
            Path(part.name).replace(path)
        except BaseException:
            Path(part.name).unlink(missing_ok=True)
            raise


def _sync(folder: Path) -> None:
    """Make the names in a folder durable: a renamed file can vanish with the power otherwise."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
