"""The reference model of the panel draw: which validator seats may vote on an encounter.

The seed is known only once both salts are revealed, so neither side alone can choose it.
"""

from collections.abc import Callable, Collection, Iterable
from typing import Final

from eth_hash.auto import keccak

PANEL_SEATS: Final = 8
"""Seats on a panel at most: the first V vote at once, the rest stand by."""

DRAW_LIMIT: Final = 64
"""Draws after which a panel stays smaller than it could be."""

_SEAT_BITS = 24


def seed(encounter: bytes, salts: tuple[bytes, bytes]) -> bytes:
    """The 32-byte seed of a draw: the hash of the encounter id, the Learner's and the Neighbor's salt."""
    return keccak(encounter + salts[0] + salts[1])


def record(updated: bytes, seats: Iterable[int]) -> bytes:
    """What the contract keeps of a report during voting: the hash of the digest and the panel."""
    return keccak(updated + pack(seats).to_bytes(32, "big"))


def draw(
    *,
    seed: bytes,
    seat_count: int,
    eligible: Callable[[int], bool],
    excluded: Collection[int],
    size: int = PANEL_SEATS,
    limit: int = DRAW_LIMIT,
) -> tuple[int, ...]:
    """Draw seats (numbered from 1), skipping duplicates, the excluded and those not eligible.

    Args:
        seed: see `seed`.
        seat_count: seats that take part, ``Terms.seats``.
        eligible: whether somebody holds a seat.
        excluded: the parties' own seats.
        size: seats wanted.
        limit: draws allowed.
    """
    seats: list[int] = []
    if seat_count == 0:
        return ()
    for k in range(limit):
        if len(seats) == size:
            break
        seat = int.from_bytes(keccak(seed + k.to_bytes(32, "big")), "big") % seat_count + 1
        if seat not in excluded and seat not in seats and eligible(seat):
            seats.append(seat)
    return tuple(seats)


def pack(seats: Iterable[int]) -> int:
    """Seats as the contract stores them: 24 bits each, the first in the lowest bits."""
    return sum(seat << (_SEAT_BITS * position) for position, seat in enumerate(seats))


def unpack(packed: int) -> tuple[int, ...]:
    """The seats of a packed panel; a zero ends it."""
    seats: list[int] = []
    while packed:
        seats.append(packed & (2**_SEAT_BITS - 1))
        packed >>= _SEAT_BITS
    return tuple(seats)
