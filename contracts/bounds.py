"""The most gas that calls take in a batch: a bound per kind of call.

A batch skips a call that has too little gas, and what one call does depends on those before it; so no node can tell
what a batch needs, and its gas limit is a sum of bounds. Each is what `tests/contracts/test_bounds.py` measures of its
kind at its most expensive (storage that nothing touched before, seven voters, fines that empty seats, 64 draws; before
refunds), and a quarter or more on top. What is not used is not paid for.
"""

from collections.abc import Iterable
from typing import Final

from contracts.calls import (
    Act,
    Call,
    CloseReporting,
    Expire,
    Finalise,
    Open,
    Permit,
    ReportSigned,
    Settle,
    VoteSigned,
    encode,
)
from contracts.panel import DRAW_LIMIT
from contracts.signing import read_evidence

BATCH_GAS: Final = 40_000
"""Of a batch without calls: 21,000 as of any transaction, and what has to be left beside the last call, which gets
63/64 of what there is (EIP-150).
"""

MOST: Final[dict[type[Call], int]] = {
    Open: 56_000,
    Act: 113_000,  # the first stake of all takes 17,100 more than what is measured
    Permit: 70_000,
    ReportSigned: 120_000,
    CloseReporting: 52_000,
    VoteSigned: 32_000,
    Finalise: 205_000,
    Expire: 35_000,
    Settle: 96_000,
}
"""By kind; of a settlement without its ballots."""
_A_BALLOT: Final = 19_000

_BESIDE: Final = 6_000
"""What a batch does about each call, the log of one that is skipped included."""

_DRAWING: Final = (Settle, ReportSigned, CloseReporting, Finalise)
_SEATS_OF_A_WORD: Final = 256
_A_WORD: Final = 5_000
"""To read another word of the bitmap of seats (2,100), and to write it (2,900). By the rules, not measured."""
_A_DRAW: Final = 700
"""To compare a seat beyond the first word with seven drawn before."""


def most_gas(call: Call) -> int:
    """Return the most gas that a call can use in a batch, its calldata aside. KeyError: for none that goes into one."""
    most = MOST[type(call)]
    if isinstance(call, Settle):
        most += _A_BALLOT * len(read_evidence(call.evidence)[1])
    if isinstance(call, _DRAWING) and call.terms.seats >= _SEATS_OF_A_WORD:
        most += _A_WORD * min(call.terms.seats // _SEATS_OF_A_WORD, DRAW_LIMIT) + _A_DRAW * DRAW_LIMIT
    return most


def share(call: Call) -> int:
    """Return what a call adds to the gas limit of its batch."""
    data = encode(call)
    return most_gas(call) + _BESIDE + 4 * data.count(0) + 16 * (len(data) - data.count(0))


def batch_gas(calls: Iterable[Call]) -> int:
    """Return the gas limit with which no call of a batch can fail for lack of gas."""
    return BATCH_GAS + sum(map(share, calls))
