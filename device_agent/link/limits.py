"""What a peer may cost this device on the link: bytes, seconds and places."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of the link. Times in seconds.

    Attributes:
        connections: open at the same time, those still shaking hands among them.
        connections_per_host: of one address.
        handshake_s: for a TLS handshake, and for connecting.
        unknown_s: for a stranger to say who it is.
        answer_s: for a small request or its answer, from first to last byte.
        idle_s: without a byte during a transfer.
        patience_s: how long a cut transfer is taken up again without a byte arriving.
        slowest_bytes_per_s: a transfer slower than that in all is ended.
        transfers: served, or taken, at the same time.
        sessions: of peers that have said who they are.
        messages_per_s: of one peer, on the long run.
        messages_at_once: of one peer, before that rate matters.
        served_bytes_per_hour: of snapshots, to one peer.
        kept_bytes: of unfinished transfers on disk.
        spare_bytes: of disk that a transfer leaves free.
    """

    connections: int = 64
    connections_per_host: int = 8
    handshake_s: float = 5.0
    unknown_s: float = 10.0
    answer_s: float = 5.0
    idle_s: float = 10.0
    patience_s: float = 30.0
    slowest_bytes_per_s: int = 16 << 10
    transfers: int = 2
    sessions: int = 128
    messages_per_s: float = 5.0
    messages_at_once: int = 20
    served_bytes_per_hour: int = 1 << 30
    kept_bytes: int = 256 << 20
    spare_bytes: int = 32 << 20

    def longest_s(self, size_bytes: int) -> float:
        """Return how long a transfer of that size may take."""
        return self.patience_s + size_bytes / self.slowest_bytes_per_s


DEFAULT_LIMITS = Limits()
