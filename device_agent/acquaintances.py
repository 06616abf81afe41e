"""What this device remembers of its peers: how long contacts lasted, and what came of dealing with them.

A reputation is local: nobody is told, nobody is believed. It fades by half in six hours, so that a peer that was
avoided is tried again, and one that was good for long cannot cheat for long. One bad deed says little of a peer that
helped before: honest work is found invalid too, by validators with few images, and a device that restarts lets
encounters run out. A stranger that begins with it is left alone for two hours.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from device_agent.encounter import Effect, Encounter, Happening, Role, Stage
from device_agent.journal import Journal
from device_agent.radio import PeerId

HALF_LIFE_S: Final = 21_600.0
_LEAST, _MOST = -16.0, 4.0
_CONTACTS = 16


class Deed(StrEnum):
    """What a peer did, as far as this device can tell."""

    HELPED = "its work was found valid"
    PAID = "it let this device's work be paid"
    CHEATED = "its work was found invalid"
    WITHHELD = "it took and did not give"
    DEFAULTED = "it let work on credit go unpaid"
    WASTED = "it let an encounter run out"
    BROKE = "it broke the protocol"


WEIGHTS: Final = {
    Deed.HELPED: 1.0,
    Deed.PAID: 1.0,
    Deed.CHEATED: -2.5,
    Deed.WITHHELD: -1.5,
    Deed.DEFAULTED: -4.0,
    Deed.BROKE: -1.5,
    Deed.WASTED: -0.5,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Acquaintance:
    """A peer as this device remembers it.

    Attributes:
        contacts_s: lengths of the last contacts, oldest first.
        score: of its deeds, as it was at `at_s`.
        at_s: Unix s.
    """

    contacts_s: tuple[float, ...] = ()
    score: float = 0.0
    at_s: float = 0.0

    def score_at(self, now_s: float) -> float:
        """Return what is left of the score; a clock that went back takes nothing away."""
        return float(self.score * 0.5 ** (max(0.0, now_s - self.at_s) / HALF_LIFE_S))

    def did(self, deed: Deed, now_s: float) -> Acquaintance:
        """Return it after one more deed."""
        score = min(_MOST, max(_LEAST, self.score_at(now_s) + WEIGHTS[deed]))
        return replace(self, score=score, at_s=now_s)

    def met(self, contact_s: float) -> Acquaintance:
        """Return it after one more contact."""
        return replace(self, contacts_s=(*self.contacts_s, contact_s)[-_CONTACTS:])


STRANGER: Final = Acquaintance()


def deed_of(before: Encounter, happening: Happening, after: Encounter) -> Deed | None:
    """Say what a step of an encounter tells of the peer. Going out of range is nobody's fault."""
    learner = before.role is Role.LEARNER
    match happening:
        case Happening.SETTLED if after.verdict is not None and learner:
            return Deed.HELPED if after.verdict else Deed.CHEATED
        case Happening.SETTLED if after.verdict:
            return Deed.PAID
        case Happening.EXPIRED if learner:
            return Deed.WITHHELD if Effect.REVEAL in before.done else Deed.WASTED
        case Happening.EXPIRED if Effect.OFFER in before.done:
            return Deed.WASTED
        case Happening.NEVER_OPENED if before.proposal.credit and Effect.REPORT in before.done:
            return Deed.DEFAULTED
        case Happening.NEVER_OPENED if before.stage is Stage.CHECKING_IN and not learner:
            return Deed.WASTED
        case _:
            return None


class Acquaintances:
    """The peers that one device remembers, in its journal."""

    def __init__(self, journal: Journal, wall_s: Callable[[], float], *, avoid_below: float) -> None:
        """Go on with what the journal has; a peer whose score is lower than `avoid_below` is avoided."""
        self._avoid_below = avoid_below
        self._journal = journal
        self._wall_s = wall_s

    def of(self, peer: PeerId) -> Acquaintance:
        """Return what is remembered of a peer."""
        found = self._journal.peer(peer)
        return STRANGER if found is None else _read(found)

    def score(self, peer: PeerId) -> float:
        """Return a peer's score as it is now."""
        return self.of(peer).score_at(self._wall_s())

    def avoided(self, peer: PeerId) -> bool:
        """Whether this device does not deal with a peer for now."""
        return self.score(peer) < self._avoid_below

    def did(self, peer: PeerId, deed: Deed) -> None:
        """Remember a deed."""
        self._write(peer, self.of(peer).did(deed, self._wall_s()))

    def met(self, peer: PeerId, contact_s: float) -> None:
        """Remember how long a contact lasted."""
        self._write(peer, self.of(peer).met(contact_s))

    def _write(self, peer: PeerId, one: Acquaintance) -> None:
        text = json.dumps({"contacts_s": one.contacts_s, "score": one.score, "at_s": one.at_s})
        self._journal.set_peer(peer, text, at_s=self._wall_s())


def _read(text: str) -> Acquaintance:
    value = json.loads(text)
    return Acquaintance(contacts_s=tuple(value["contacts_s"]), score=value["score"], at_s=value["at_s"])
