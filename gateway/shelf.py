"""Model snapshots by SHA-256, one file each. Bytes with a digest: never parsed here, never unpickled.

FOLDER/<first two digits>/<digest>   a model, whole and checked; its time is that of its last use
FOLDER/owners/<owner>/<digest>       an empty file: who is charged for it
FOLDER/partial/                      what is being uploaded (`gateway.partial`)

A name of a digest is given last, so whenever the process ends no half model has one. What is left behind is swept.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from gateway.config import ModelSettings
from gateway.errors import Code, Refusal, StoreUnavailable
from gateway.partial import Partials, remove_if_older, whole_upload
from gateway.sizes import Sizes

EVERYONE: Final = "everyone"
"""The owner of what is uploaded by nobody that is known."""

_log = logging.getLogger(__name__)
_DIGEST = re.compile(r"[0-9a-f]{64}")
_OWNERS: Final = "owners"
_PARTIAL: Final = "partial"
_DAY_S: Final = 86_400.0
_SWEEP_EVERY_S: Final = 3_600.0


class Shelf:
    """A folder of content-addressed files. Safe to share between threads and processes."""

    def __init__(
        self, folder: Path, *, settings: ModelSettings | None = None, now_s: Callable[[], float] = time.time
    ) -> None:
        """Open or create the folder; `now_s` is the wall clock. Raises `StoreUnavailable` if that cannot be done."""
        self._folder = folder.resolve()  # Flask takes a relative path as one beside its own modules
        self._settings = settings or ModelSettings()
        self._now_s = now_s
        try:
            for place in (folder, folder / _OWNERS, folder / _PARTIAL):
                place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreUnavailable(f"cannot create {folder}: {error.strerror}") from error
        self._partials = Partials(self._folder / _PARTIAL)
        self._sizes = Sizes(self._folder)
        self._sweep_at_s = float("-inf")
        self._naming = threading.Lock()

    def put(self, digest: str, chunks: Iterable[bytes], *, size_bytes: int, owner: str = EVERYONE) -> bool:
        """Store a model durably as it arrives; return whether it is new.

        Raises `Refusal` if its SHA-256 is not `digest` or there is no room, `StoreUnavailable` if nothing was stored.
        """
        path = self._path(digest)
        self._sweep()
        try:
            if path.exists():
                _check(digest, _sha256(chunks))
                self._keep_known(path)
                return False
            self._check_room(owner, size_bytes)
            with whole_upload(self._folder / _PARTIAL) as (part, write):
                _check(digest, write(chunks))
                self._publish(part, digest, owner)
        except OSError as error:
            raise StoreUnavailable(f"cannot store a model: {error.strerror}") from error
        return True

    def put_part(
        self, digest: str, chunks: Iterable[bytes], *, start: int, total_bytes: int, owner: str = EVERYONE
    ) -> int:
        """Store the next part of a model; return how many bytes are there. With the last one it is a model.

        Raises `Refusal` 409 if the part does not begin where the last one ended, and otherwise as `put` does.
        """
        path = self._path(digest)
        self._sweep()
        try:
            if path.exists():
                _sha256(chunks)  # whoever reads them checks them
                self._keep_known(path)
                return total_bytes
            self._check_room(owner, total_bytes - self._partials.received(digest, owner))
            with self._partials.appended(digest, owner, chunks, start=start, total_bytes=total_bytes) as part:
                size_bytes = part.stat().st_size
                if size_bytes == total_bytes:
                    _check(digest, _sha256(_read(part)))
                    self._publish(part, digest, owner)
        except OSError as error:
            raise StoreUnavailable(f"cannot store a part of a model: {error.strerror}") from error
        return size_bytes

    def received(self, digest: str, *, owner: str = EVERYONE) -> int:
        """Return how many bytes of a model are here: all of it, or the parts that this owner has uploaded."""
        path = self._path(digest)
        return path.stat().st_size if path.is_file() else self._partials.received(digest, owner)

    def find(self, digest: str) -> Path:
        """Return the file of `digest`, which is used by that. Raises `Refusal` 404 if there is none."""
        path = self._path(digest)
        if not path.is_file():
            raise Refusal(404, Code.NOT_FOUND, f"no model {digest} here; it may be uploaded later", retry=True)
        with contextlib.suppress(OSError):  # a disk that takes no writes can still be read
            self._touch(path)
        return path

    def size(self) -> tuple[int, int]:
        """Return how many models there are, and their bytes together; none while the disk cannot be read."""
        try:
            sizes = self._sizes.now().values()
        except OSError:
            return 0, 0
        return sum(map(len, sizes)), _total(sizes)

    def expire(self, now_s: float) -> int:
        """Remove models that nobody used for `keep_days`, and uploads that went on for none; return how many files.

        Uploads do so once an hour: a disk fills by nothing else. An encounter that is not settled names no model as
        old: `keep_days` is well above the life of an encounter, and uploading or fetching a model begins its time anew.
        Raises `StoreUnavailable`.
        """
        before_s = now_s - self._settings.keep_days * _DAY_S
        try:
            removed = self._partials.expire(now_s - self._settings.partial_hours * 3600)
            removed += sum(remove_if_older(path, before_s) for path in list(self._models()))
            with self._naming:
                for mark in (self._folder / _OWNERS).glob("*/*"):
                    if not self._path(mark.name).exists():
                        mark.unlink(missing_ok=True)
        except OSError as error:
            raise StoreUnavailable(f"cannot remove old models: {error.strerror}") from error
        return removed

    def _sweep(self) -> None:
        now_s = self._now_s()
        if now_s < self._sweep_at_s:
            return
        self._sweep_at_s = now_s + _SWEEP_EVERY_S
        try:
            self.expire(now_s)
        except StoreUnavailable as error:
            _log.warning("%s", error)  # there may be room all the same

    def _check_room(self, owner: str, more_bytes: int) -> None:
        sizes = self._sizes.now()
        own = (mark.name for mark in (self._folder / _OWNERS / owner).glob("*"))
        used_bytes = sum(sizes.get(name[:2], {}).get(name, 0) for name in own) + self._partials.used_bytes(owner)
        if used_bytes + more_bytes > self._settings.quota_per_device_bytes:
            words = f"{owner} has {used_bytes} bytes here, of {self._settings.quota_per_device_bytes}"
            raise Refusal(507, Code.QUOTA_FULL, words, retry=True)
        all_bytes = _total(sizes.values()) + self._partials.used_bytes()
        if all_bytes + more_bytes > self._settings.quota_bytes:
            raise Refusal(507, Code.SHELF_FULL, "this gateway has no room for more models now", retry=True)

    def _publish(self, part: Path, digest: str, owner: str) -> None:
        """Give a whole and durable file its name; the mark of its owner goes before."""
        path = self._path(digest)
        mark = self._folder / _OWNERS / owner / digest
        path.parent.mkdir(exist_ok=True)
        mark.parent.mkdir(exist_ok=True)
        with self._naming:  # or its mark would be swept as that of a model that is gone
            mark.touch()
            part.replace(path)
        self._touch(path)
        _sync(path.parent)
        _sync(self._folder)

    def _keep_known(self, path: Path) -> None:
        self._touch(path)
        _sync(path.parent)  # whoever stores it at this moment may not have got so far

    def _touch(self, path: Path) -> None:
        now_s = self._now_s()
        os.utime(path, (now_s, now_s))

    def _models(self) -> Iterator[Path]:
        return (path for path in self._folder.glob("[0-9a-f][0-9a-f]/*") if _DIGEST.fullmatch(path.name))

    def _path(self, digest: str) -> Path:
        if not _DIGEST.fullmatch(digest):
            raise Refusal(400, Code.BAD_REQUEST, "a model is named by its SHA-256: 64 lower-case hex digits")
        return self._folder / digest[:2] / digest


def _check(digest: str, found: str) -> None:
    if found != digest:
        raise Refusal(422, Code.DIGEST_MISMATCH, f"the body's SHA-256 is {found}, not {digest}")


def _sha256(chunks: Iterable[bytes]) -> str:
    sha256 = hashlib.sha256()
    for chunk in chunks:
        sha256.update(chunk)
    return sha256.hexdigest()


def _read(file: Path) -> Iterator[bytes]:
    with file.open("rb") as stream:
        while chunk := stream.read(1 << 16):
            yield chunk


def _total(sizes: Iterable[Mapping[str, int]]) -> int:
    return sum(sum(one.values()) for one in sizes)


def _sync(folder: Path) -> None:
    """Make the names in a folder durable: a renamed file can vanish with the power otherwise."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
