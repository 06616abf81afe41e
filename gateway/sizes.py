"""How large the models of a shelf are, without a look at each one: a folder that has not changed is not read again.

Nothing is counted along, so what is told is right after a crash, and when another process stores or removes models.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_FOLDER: Final = re.compile(r"[0-9a-f]{2}")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_TICK_NS: Final = 2 * 10**9
"""Above the coarsest clock of a file system: what changes twice within one tick shows no second change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    changed_ns: int
    settled: bool
    sizes: Mapping[str, int]


class Sizes:
    """The sizes of the models in FOLDER/<first two digits>/<digest>. Safe to share between threads."""

    def __init__(self, folder: Path) -> None:
        """Look at nothing yet."""
        self._folder = folder
        self._read: dict[str, _Read] = {}
        self._lock = threading.Lock()

    def now(self) -> Mapping[str, Mapping[str, int]]:
        """Return the bytes of each model, by the first two digits and by digest. Raises `OSError`."""
        with self._lock:
            names = [one for one in os.listdir(self._folder) if _FOLDER.fullmatch(one)]  # noqa: PTH208  (names will do)
            self._read = {name: self._newest(name) for name in names}
            return {name: one.sizes for name, one in self._read.items()}

    def _newest(self, name: str) -> _Read:
        place, began_ns = self._folder / name, time.time_ns()
        changed_ns = place.stat().st_mtime_ns
        known = self._read.get(name)
        if known is not None and known.settled and known.changed_ns == changed_ns:
            return known
        sizes: dict[str, int] = {}
        for file in place.iterdir():
            if _DIGEST.fullmatch(file.name):
                try:
                    sizes[file.name] = file.stat().st_size
                except FileNotFoundError:  # removed meanwhile
                    continue
        return _Read(changed_ns=changed_ns, settled=changed_ns + _TICK_NS < began_ns, sizes=sizes)
