"""Snapshots that have arrived in part: files that a cut transfer, or a restarted agent, goes on with."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from device_agent.errors import StorageFault
from device_agent.link.limits import Limits

_SUFFIX = ".part"


class Part:
    """The bytes of one transfer so far. Raises `StorageFault` where the disk does not take them."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self._path = path
        self.size_bytes = size_bytes
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self.received = os.fstat(self._file).st_size
            if self.received > size_bytes:
                os.ftruncate(self._file, 0)
                self.received = 0
            os.lseek(self._file, self.received, os.SEEK_SET)
        except OSError as error:
            raise StorageFault(f"{path}: {error.strerror}") from error

    def take(self, block: memoryview) -> None:
        """Append what has arrived."""
        try:
            while block:
                written = os.write(self._file, block)
                self.received += written
                block = block[written:]
        except OSError as error:
            raise StorageFault(f"{self._path}: {error.strerror}") from error

    def finish(self) -> bytes:
        """Return all bytes, and remove the file."""
        try:
            data = os.pread(self._file, self.size_bytes, 0)
            self._path.unlink()
        except OSError as error:
            raise StorageFault(f"{self._path}: {error.strerror}") from error
        self.close()
        return data

    def close(self) -> None:
        """Keep it for later."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1


class Parts:
    """The folder of unfinished transfers: bounded, the oldest go first."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        """Use `folder`, which is made if it is missing. Raises `StorageFault`."""
        self._folder = folder
        self._limits = limits
        self._open: set[Path] = set()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageFault(f"{folder}: {error.strerror}") from error

    def open(self, *, digest: str, sha256: str, size_bytes: int) -> Part:
        """Go on with the transfer of these packed bytes, or begin it.

        Raises `StorageFault` if there is no room for it, or it is under way already.
        """
        path = self._folder / f"{digest}.{sha256}{_SUFFIX}"
        if path in self._open:
            raise StorageFault(f"{path.name} is being received already")
        try:
            self._make_room(path, size_bytes)
            free_bytes = shutil.disk_usage(self._folder).free
            kept_bytes = path.stat().st_size if path.exists() else 0
        except OSError as error:
            raise StorageFault(f"{self._folder}: {error.strerror}") from error
        if free_bytes < size_bytes - kept_bytes + self._limits.spare_bytes:
            raise StorageFault(f"{self._folder}: no room for {size_bytes} bytes, only {free_bytes} are free")
        part = Part(path, size_bytes)
        self._open.add(path)
        return part

    def done(self, part: Part) -> None:
        """Say that a part is not written to any more."""
        part.close()
        self._open.discard(part._path)

    def _make_room(self, wanted: Path, size_bytes: int) -> None:
        """Drop the oldest until what is kept and the new one are within the limit."""
        old = [one for one in self._folder.glob(f"*{_SUFFIX}") if one != wanted and one not in self._open]
        old.sort(key=lambda one: one.stat().st_mtime)
        kept_bytes = sum(one.stat().st_size for one in old)
        for one in old:
            if kept_bytes + size_bytes <= self._limits.kept_bytes:
                return
            kept_bytes -= one.stat().st_size
            one.unlink()
