"""How long an encounter takes on this device, learned from past ones: it is begun only if all of it fits a contact."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

_WEIGHT: Final = 0.25
"""Of the newest measurement."""
_MARGIN: Final = 1.25
_HALF_LIFE_S: Final = 3600.0
"""A device that never begins what seems too long measures nothing any more: what it learned fades."""
_OPENING: Final = 64


class Pace:
    """Running means of what an encounter is made of. Times are monotonic seconds; sizes, bytes of snapshots."""

    def __init__(self, expected_s: float) -> None:
        """Begin with what an encounter is expected to take in all."""
        self._expected_s = expected_s
        self._began: OrderedDict[bytes, float] = OrderedDict()
        self._opening_s: float | None = None
        self._per_byte_s: float | None = None
        self._work_s: float | None = None
        self._measured_s = 0.0

    def began(self, key: bytes, now_s: float) -> None:
        """An encounter is to be opened on chain."""
        self._began.setdefault(key, now_s)
        if len(self._began) > _OPENING:
            self._began.popitem(last=False)

    def opened(self, key: bytes, now_s: float) -> None:
        """It was; nothing for one that did not begin here."""
        began_s = self._began.pop(key, None)
        if began_s is not None:
            self._opening_s = self._mean(self._opening_s, now_s - began_s, now_s)

    def fetched(self, size_bytes: int, took_s: float, now_s: float) -> None:
        """A snapshot came over the link."""
        self._per_byte_s = self._mean(self._per_byte_s, took_s / max(1, size_bytes), now_s)

    def worked(self, took_s: float, now_s: float) -> None:
        """A contribution was made."""
        self._work_s = self._mean(self._work_s, took_s, now_s)

    def encounter_s(self, size_bytes: int, now_s: float, *, on_credit: bool = False) -> float:
        """Return how long an encounter about a model of that size will probably take; on credit it is not opened.

        While a part of it was never measured, that is what was expected in the beginning.
        """
        opening_s = 0.0 if on_credit else self._opening_s
        if opening_s is None or self._per_byte_s is None or self._work_s is None:
            return self._expected_s
        learned_s = _MARGIN * (opening_s + 2 * size_bytes * self._per_byte_s + self._work_s)
        left = 0.5 ** (max(0.0, now_s - self._measured_s) / _HALF_LIFE_S)
        return self._expected_s + float(left) * (learned_s - self._expected_s)

    def _mean(self, usual: float | None, measured: float, now_s: float) -> float:
        self._measured_s = now_s
        return measured if usual is None else usual + _WEIGHT * (measured - usual)
