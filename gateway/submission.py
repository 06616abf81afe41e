"""The life of one submission, as a table.

Pure: no I/O, no clock. The broadcaster and the confirmer look up `after(state, event)` and write what it
says. The only arrow back is INCLUDED -> BROADCAST, when the block that held it is no longer canonical.
"""

from __future__ import annotations

import sys
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class State(StrEnum):
    """Where a submission stands. The last four are terminal."""

    ACCEPTED = "accepted"
    """On disk, acknowledged, waiting for its nonce."""
    READY = "ready"
    """Next in its account's order."""
    BROADCAST = "broadcast"
    """Handed to a node at least once; its fate is unknown until a block shows it."""
    INCLUDED = "included"
    """In a canonical block that is not final yet."""
    FINAL = "final"
    REVERTED = "reverted"
    SUPERSEDED = "superseded"
    EXPIRED = "expired"
    """Given up: it waited for days for the nonces before it."""


class Happening(StrEnum):
    """What the broadcaster or the confirmer saw."""

    NONCE_REACHED = "nonce reached"
    SENDING = "sending"
    MINED = "mined"
    REORGED = "reorged"
    FINALISED = "finalised"
    FINALISED_REVERTED = "finalised as reverted"
    NONCE_TAKEN = "nonce taken by another transaction"
    TOO_LATE = "given up before it was sent"


FREED: Final = (State.SUPERSEDED, State.EXPIRED)
"""States in which a submission's nonce may be used by another one."""

LOST: Final = (State.REVERTED, *FREED)
"""States in which nothing came of a submission: what it carried waits again."""

TERMINAL: Final = frozenset({State.FINAL, State.REVERTED, State.SUPERSEDED, State.EXPIRED})

TRANSITIONS: Final = MappingProxyType(
    {
        State.ACCEPTED: {
            Happening.NONCE_REACHED: State.READY,
            Happening.NONCE_TAKEN: State.SUPERSEDED,
            Happening.MINED: State.INCLUDED,
            Happening.TOO_LATE: State.EXPIRED,
        },
        State.READY: {
            Happening.SENDING: State.BROADCAST,
            Happening.NONCE_TAKEN: State.SUPERSEDED,
            Happening.MINED: State.INCLUDED,
        },
        State.BROADCAST: {
            Happening.SENDING: State.BROADCAST,
            Happening.MINED: State.INCLUDED,
            Happening.NONCE_TAKEN: State.SUPERSEDED,
        },
        State.INCLUDED: {
            Happening.MINED: State.INCLUDED,
            Happening.REORGED: State.BROADCAST,
            Happening.FINALISED: State.FINAL,
            Happening.FINALISED_REVERTED: State.REVERTED,
        },
        State.FINAL: {},
        State.REVERTED: {},
        State.SUPERSEDED: {},
        State.EXPIRED: {},
    }
)


class ImpossibleTransition(Exception):
    """Our own fault: something was seen in a state in which it cannot happen."""


def after(state: State, happening: Happening) -> State:
    """Return the state that follows, or raise `ImpossibleTransition`."""
    try:
        return TRANSITIONS[state][happening]
    except KeyError:
        raise ImpossibleTransition(f"{happening.value!r} cannot happen to a submission that is {state.value}") from None


def diagram() -> str:
    """Return the table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", f"    [*] --> {State.ACCEPTED.value}"]
    for state, exits in TRANSITIONS.items():
        lines += [f"    {state.value} --> {to.value}: {happening.value}" for happening, to in exits.items()]
        if state in TERMINAL:
            lines.append(f"    {state.value} --> [*]")
    return "\n".join(lines) + "\n"


def document() -> str:
    """Return the text of `submission.md`, printed by `python -m gateway.submission`."""
    return (
        "# The life of a submission\n\n"
        "Generated from `submission.py` by `python -m gateway.submission`; a test keeps it fresh.\n\n"
        f"```mermaid\n{diagram()}```\n"
    )


if __name__ == "__main__":
    sys.stdout.write(document())
