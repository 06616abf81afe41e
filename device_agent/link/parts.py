"""Snapshots that have arrived in part: files that a cut transfer, or a restarted agent, goes on with."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from device_agent.errors import StorageFault
from device_agent.link.limits import Limits

_SUFFIX = ".part"
_KEEP_EVERY_S = 1.0


class Part:
    """The bytes of one transfer so far: in memory, and on disk a second later at the latest.

    A quick transfer never touches the disk, one that is cut leaves all it had there.
    """

    def __init__(self, path: Path, size_bytes: int) -> None:
        """Go on with what the file holds. Raises `StorageFault` if it cannot be used."""
        self.path = path
        self.size_bytes = size_bytes
        self._data = bytearray(size_bytes)
        self._kept = 0
        self._kept_at_s = time.monotonic()
        try:
            if path.exists() and path.stat().st_size <= size_bytes:
                with path.open("rb") as file:
                    self._kept = file.readinto(self._data)
        except OSError as error:
            raise StorageFault(f"{path}: {error.strerror}") from error
        self.received = self._kept

    def add(self, data: bytes) -> None:
        """Take the next bytes. Raises `StorageFault` if the disk does not take what is due to be kept."""
        end = self.received + len(data)
        self._data[self.received : end] = data
        self.received = end
        if time.monotonic() - self._kept_at_s > _KEEP_EVERY_S and self.received < self.size_bytes:
            self.keep()

    def keep(self) -> None:
        """Write what is not on disk yet. Raises `StorageFault`."""
        self._kept_at_s = time.monotonic()
        if self.received == self._kept:
            return
        try:
            with self.path.open("r+b" if self._kept else "wb") as file:
                file.seek(self._kept)
                file.write(memoryview(self._data)[self._kept : self.received])
        except OSError as error:
            raise StorageFault(f"{self.path}: {error.strerror}") from error
        self._kept = self.received

    def finish(self) -> bytearray:
        """Return all bytes, and remove what was kept of them."""
        self._kept = self.received
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            raise StorageFault(f"{self.path}: {error.strerror}") from error
        return self._data


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
        """Say that a part is not received any more: what there is of it is kept. Raises `StorageFault`."""
        self._open.discard(part.path)
        part.keep()

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
