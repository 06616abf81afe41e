"""Counts requests: of a device, of a network address, and of all together.

Each device has a bucket of its own, and only what it lets through is counted for all: a noisy device is stopped by its
own bucket and takes nothing from the others. Where no signature tells who asks, it is the address that counts; many
devices may share one, so it has a larger bucket. Buckets are of one process and forgotten with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gateway.buckets import Buckets, Rate
from gateway.config import Limits
from gateway.errors import Code, Refusal

_MOST_KEYS: Final = 20_000
_ALL: Final = "all"


class Turnstile:
    """Lets through as many requests as the limits allow. Each method raises `Refusal` 429 with a Retry-After."""

    def __init__(self, limits: Limits, now_s: Callable[[], float]) -> None:
        """Set the limits; `now_s` is any clock in seconds."""
        self._now_s = now_s
        self._devices = Buckets(Rate(per_s=limits.requests_per_s, burst=limits.requests_burst), most=_MOST_KEYS)
        self._peers = Buckets(Rate(per_s=limits.peer_requests_per_s, burst=limits.peer_requests_burst), most=_MOST_KEYS)
        self._all = Buckets(Rate(per_s=limits.all_requests_per_s, burst=limits.all_requests_burst), most=1)

    def device(self, account: str) -> None:
        """Let through a request of which it is known that this account made it."""
        _refuse(self._devices.take(account, self._now_s()), f"{account} asks")
        self._everyone()

    def peer(self, address: str) -> None:
        """Let through a request from a network address."""
        _refuse(self._peers.take(address, self._now_s()), f"{address} asks")
        self._everyone()

    def blame(self, address: str) -> None:
        """Count a request that was refused against its address."""
        self._peers.take(address, self._now_s())

    def look(self, address: str, account: str | None = None) -> None:
        """Turn a request away that would not get through, before it costs anything, and count nothing.

        That an account did make it is not known yet: nobody can use up another one's bucket.
        """
        _refuse(self._peers.wait_s(address, self._now_s()), f"{address} asks")
        if account is not None:
            _refuse(self._devices.wait_s(account, self._now_s()), f"{account} asks")

    def _everyone(self) -> None:
        _refuse(self._all.take(_ALL, self._now_s()), "all devices together ask")


def _refuse(wait_s: int, who: str) -> None:
    if wait_s:
        headers = {"Retry-After": str(wait_s)}
        words = f"{who} too often: ask again in {wait_s} s"
        raise Refusal(429, Code.TOO_MANY_REQUESTS, words, retry=True, headers=headers)
