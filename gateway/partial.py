"""Uploads on their way, which are no models yet: one file each."""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final, TypeAlias

from gateway.errors import Code, Refusal

MOST_AT_ONCE: Final = 8
"""Unfinished uploads of one owner."""

Write: TypeAlias = Callable[[Iterable[bytes]], str]


class Partials:
    """The unfinished uploads in one folder, each of one owner and one digest."""

    def __init__(self, folder: Path) -> None:
        """Keep them in a folder that is there."""
        self._folder = folder

    def received(self, digest: str, owner: str) -> int:
        """Return how many bytes of an upload are here."""
        return _size(self._file(digest, owner))

    def used_bytes(self, owner: str = "*") -> int:
        """Return how many bytes the uploads of an owner, or all, have now."""
        return sum(map(_size, self._folder.glob(f"{owner}.*")))

    @contextmanager
    def appended(
        self, digest: str, owner: str, chunks: Iterable[bytes], *, start: int, total_bytes: int
    ) -> Iterator[Path]:
        """Append a part durably and yield the file, while nobody else may append to it.

        Whoever takes the file takes the upload with it; a whole one that is not taken is removed. Raises `Refusal`.
        """
        file = self._file(digest, owner)
        if not file.exists() and len(list(self._folder.glob(f"{owner}.*"))) >= MOST_AT_ONCE:
            words = f"{owner} has {MOST_AT_ONCE} unfinished uploads: finish one first"
            raise Refusal(507, Code.QUOTA_FULL, words, retry=True)
        with file.open("ab") as stream:
            _lock(stream)
            there = os.fstat(stream.fileno()).st_size
            if start != there:
                headers = {"Upload-Offset": str(there)}
                raise Refusal(409, Code.WRONG_OFFSET, f"go on from byte {there}", retry=True, headers=headers)
            try:
                for chunk in chunks:
                    stream.write(chunk)
                stream.flush()
                os.fsync(stream.fileno())
            except BaseException:
                stream.truncate(there)
                raise
            whole = os.fstat(stream.fileno()).st_size >= total_bytes
            try:
                yield file
            finally:
                if whole:
                    file.unlink(missing_ok=True)

    def expire(self, before_s: float) -> int:
        """Remove what nobody has written to since a time, left-overs of a process that ended among it."""
        return sum(remove_if_older(file, before_s) for file in list(self._folder.iterdir()))

    def _file(self, digest: str, owner: str) -> Path:
        return self._folder / f"{owner}.{digest}"


def remove_if_older(file: Path, before_s: float) -> bool:
    """Remove a file that nobody has touched since a time; return whether that was done. It may go while we look."""
    try:
        if file.stat().st_mtime >= before_s:
            return False
        file.unlink()
    except FileNotFoundError:
        return False
    return True


@contextmanager
def whole_upload(folder: Path) -> Iterator[tuple[Path, Write]]:
    """Yield a new file, and how to write to it durably (that returns the SHA-256); it is removed unless it is taken."""
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".part", delete=False) as part:
        file = Path(part.name)

        def write(chunks: Iterable[bytes]) -> str:
            sha256 = hashlib.sha256()
            for chunk in chunks:
                sha256.update(chunk)
                part.write(chunk)
            part.flush()
            os.fsync(part.fileno())
            return sha256.hexdigest()

        try:
            yield file, write
        finally:
            file.unlink(missing_ok=True)


def _lock(stream: IO[bytes]) -> None:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        words = "another part of this model is on its way: wait for its answer"
        raise Refusal(409, Code.UPLOAD_BUSY, words, retry=True) from None


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0
