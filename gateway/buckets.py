"""How often one may ask: a token bucket for each key, in a table that is bounded. Pure but for the lock around it."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """How fast a bucket fills, and how much it holds.

    Attributes:
        per_s: requests per second in the long run; 0 = no limit.
        burst: requests at once after a pause.
    """

    per_s: float
    burst: int


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at_s: float


class Buckets:
    """One bucket for each key. Safe to share between threads.

    Above `most` keys the one that asked longest ago is forgotten: it begins anew with a full bucket. Who wants to gain
    by that needs `most` other keys, and the time they take.
    """

    def __init__(self, rate: Rate, *, most: int) -> None:
        """Begin with full buckets; `most` is the number of keys that are remembered."""
        self._rate = rate
        self._most = most
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._turn = threading.Lock()

    def take(self, key: str, now_s: float) -> int:
        """Take one token; return 0, or if there is none the whole seconds until there will be one."""
        return self._ask(key, now_s, tokens=1)

    def wait_s(self, key: str, now_s: float) -> int:
        """Return what `take` would, and take nothing."""
        return self._ask(key, now_s, tokens=0)

    def __len__(self) -> int:
        return len(self._buckets)

    def _ask(self, key: str, now_s: float, *, tokens: int) -> int:
        if not self._rate.per_s:
            return 0
        with self._turn:
            bucket = self._filled(key, now_s)
            if bucket.tokens < 1:
                return max(1, math.ceil((1 - bucket.tokens) / self._rate.per_s))
            bucket.tokens -= tokens
            return 0

    def _filled(self, key: str, now_s: float) -> _Bucket:
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = _Bucket(float(self._rate.burst), now_s)
            if len(self._buckets) > self._most:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(key)
            passed_s = max(0.0, now_s - bucket.at_s)  # the clock may be set back
            bucket.tokens = min(float(self._rate.burst), bucket.tokens + passed_s * self._rate.per_s)
            bucket.at_s = now_s
        return bucket
