"""The life of an encounter on a device: both roles in one table.

Pure: no I/O, no clock, no randomness. `step` takes a record and what happened and returns the record that follows
and the effects that are due; the agent commits both before it performs any effect.

Learner                                   Neighbor
  propose ------------------------------->  accept, check in
  check in                                  (open) fetch the previous model, work on it
                <------------------------   offer: digest of the updated model
  reveal: salt ------------------------->   report, upload
                <------------------------   reveal: salt
  fetch the updated model, report, upload
  (verdict) adopt it, or keep the old one

On credit, with no gateway in reach, the same but for the check-ins: both sign the terms first (accept, agree), and
each keeps both signatures. Who has something to gain hands them in when it is back. An encounter that breaks off
before that leaves no trace on chain.

The Learner pays with its salt, without which the Neighbor cannot report; it gives it for a digest that the
Neighbor's stake now stands for. Neither can take the other's part and leave (iDML steps 1 to 3).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from contracts.settlement import ParameterSet
from contracts.states import EncounterState
from contracts.terms import Terms, both_salts, commitment
from device_agent.messages import Propose
from device_agent.radio import PeerId


class Role(StrEnum):
    """Which side this device is on."""

    LEARNER = "learner"
    NEIGHBOR = "neighbor"


class Stage(StrEnum):
    """Where the encounter stands, as this device knows it. The last four are terminal."""

    PROPOSED = "proposed"
    CHECKING_IN = "checking in"
    OPEN = "open"
    """Learner: the Neighbor works. Neighbor: the previous model is being fetched."""
    WORKING = "working"
    OFFERED = "offered"
    """Neighbor: waits for the Learner's salt. Learner: has given it and waits for the Neighbor's."""
    FETCHING = "fetching"
    REPORTING = "reporting"
    VOTING = "voting"
    STRANDED = "stranded"
    """Something failed after the check-in: only the chain's deadlines move it now, or a peer that is back in reach."""
    SETTLED = "settled"
    EXPIRED = "expired"
    DECLINED = "declined"
    ABANDONED = "abandoned"


TERMINAL: Final = frozenset({Stage.SETTLED, Stage.EXPIRED, Stage.DECLINED, Stage.ABANDONED})


class Happening(StrEnum):
    """What a device can see happen to an encounter."""

    ACCEPTED = "accepted"
    ACCEPTED_ON_CREDIT = "accepted on credit"
    AGREED = "agreed on credit"
    DECLINED = "declined"
    OPENED = "opened on chain"
    PREVIOUS_ARRIVED = "previous model arrived"
    WORKED = "work done"
    OFFERED = "offered"
    REVEALED = "salt revealed"
    UPDATED_ARRIVED = "updated model arrived"
    ARRIVED_ON_CREDIT = "updated model arrived on credit"
    FAILED = "failed"
    NEVER_OPENED = "no check-in on chain in time"
    OVERDUE = "deadline passed on chain"
    REPORT_OVERDUE = "only the Neighbor reported in time"
    VOTING_STARTED = "voting started on chain"
    VOTED = "votes in, or voting time over"
    SETTLED = "settled on chain"
    EXPIRED = "expired on chain"


class Effect(StrEnum):
    """What is to be done; each is due at most once per encounter, but for those in `CLOSING`."""

    PROPOSE = "propose"
    ACCEPT = "accept"
    AGREE = "agree"
    """Learner, on credit: check the Neighbor's signature and give the own one."""
    CHECK_IN = "check in"
    FETCH_PREVIOUS = "fetch previous"
    WORK = "work"
    OFFER = "offer"
    REVEAL = "reveal"
    FETCH_UPDATED = "fetch updated"
    UPLOAD_PREVIOUS = "upload previous"
    UPLOAD_UPDATED = "upload updated"
    REPORT = "report"
    ADOPT_ON_CREDIT = "adopt on credit"
    """Learner, on credit: go on from what it finds good itself; the votes come later."""
    CLOSE_REPORTING = "close reporting"
    FINALISE = "finalise"
    EXPIRE = "expire"
    CONCLUDE = "conclude"
    """Learner: adopt or discard what was learned. Both: the role is free again."""


CLOSING: Final = frozenset({Effect.CLOSE_REPORTING, Effect.FINALISE, Effect.EXPIRE})
"""Transactions that get money out of an overdue encounter: due again while the chain shows that none was mined."""

_Row = dict[Happening, tuple[Stage, tuple[Effect, ...]]]

_ON_CHAIN: _Row = {
    Happening.VOTING_STARTED: (Stage.VOTING, ()),
    Happening.OVERDUE: (Stage.STRANDED, (Effect.EXPIRE,)),
    Happening.REPORT_OVERDUE: (Stage.STRANDED, (Effect.CLOSE_REPORTING,)),
    Happening.NEVER_OPENED: (Stage.ABANDONED, (Effect.CONCLUDE,)),
    Happening.SETTLED: (Stage.SETTLED, (Effect.CONCLUDE,)),
    Happening.EXPIRED: (Stage.EXPIRED, (Effect.CONCLUDE,)),
}
"""What the chain can do to an encounter in any stage after the check-in."""

_VOTING: _Row = {
    Happening.VOTED: (Stage.VOTING, (Effect.FINALISE,)),
    Happening.SETTLED: (Stage.SETTLED, (Effect.CONCLUDE,)),
    Happening.EXPIRED: (Stage.EXPIRED, (Effect.CONCLUDE,)),
}

_PAID: _Row = {
    # The check-in is due here on credit only: otherwise it was at the beginning.
    Happening.REVEALED: (
        Stage.REPORTING,
        (Effect.REVEAL, Effect.CHECK_IN, Effect.REPORT, Effect.UPLOAD_UPDATED, Effect.UPLOAD_PREVIOUS),
    )
}
"""A Neighbor has the Learner's salt."""

_FAILED: _Row = {Happening.FAILED: (Stage.STRANDED, ())}

_TERMINAL_ROWS: dict[Stage, _Row] = {stage: {} for stage in Stage if stage in TERMINAL}

TRANSITIONS: Final[Mapping[Role, Mapping[Stage, _Row]]] = MappingProxyType(
    {
        Role.LEARNER: {
            Stage.PROPOSED: {
                Happening.ACCEPTED: (Stage.CHECKING_IN, (Effect.CHECK_IN,)),
                Happening.ACCEPTED_ON_CREDIT: (Stage.OPEN, (Effect.AGREE,)),
                Happening.DECLINED: (Stage.DECLINED, (Effect.CONCLUDE,)),
                Happening.FAILED: (Stage.ABANDONED, (Effect.CONCLUDE,)),
            },
            Stage.CHECKING_IN: _ON_CHAIN
            | {
                Happening.OPENED: (Stage.OPEN, (Effect.UPLOAD_PREVIOUS,)),
                # The Neighbor saw the opening first. It can report on an open encounter only.
                Happening.OFFERED: (Stage.OFFERED, (Effect.UPLOAD_PREVIOUS, Effect.REVEAL)),
                Happening.FAILED: (Stage.STRANDED, ()),
            },
            Stage.OPEN: _ON_CHAIN | _FAILED | {Happening.OFFERED: (Stage.OFFERED, (Effect.REVEAL,))},
            Stage.OFFERED: _ON_CHAIN | _FAILED | {Happening.REVEALED: (Stage.FETCHING, (Effect.FETCH_UPDATED,))},
            Stage.FETCHING: _ON_CHAIN
            | _FAILED
            | {
                Happening.UPDATED_ARRIVED: (Stage.REPORTING, (Effect.REPORT,)),
                Happening.ARRIVED_ON_CREDIT: (
                    Stage.REPORTING,
                    (Effect.CHECK_IN, Effect.REPORT, Effect.UPLOAD_PREVIOUS, Effect.ADOPT_ON_CREDIT),
                ),
            },
            Stage.REPORTING: _ON_CHAIN | _FAILED,
            Stage.VOTING: _VOTING,
            Stage.STRANDED: _ON_CHAIN
            | _FAILED
            | {
                Happening.OFFERED: (Stage.OFFERED, (Effect.REVEAL,)),
                Happening.REVEALED: (Stage.FETCHING, (Effect.FETCH_UPDATED,)),
            },
            **_TERMINAL_ROWS,
        },
        Role.NEIGHBOR: {
            Stage.CHECKING_IN: _ON_CHAIN
            | {
                Happening.OPENED: (Stage.OPEN, (Effect.FETCH_PREVIOUS,)),
                Happening.AGREED: (Stage.OPEN, (Effect.FETCH_PREVIOUS,)),
                Happening.FAILED: (Stage.STRANDED, ()),
            },
            Stage.OPEN: _ON_CHAIN | _FAILED | {Happening.PREVIOUS_ARRIVED: (Stage.WORKING, (Effect.WORK,))},
            Stage.WORKING: _ON_CHAIN | _FAILED | {Happening.WORKED: (Stage.OFFERED, (Effect.OFFER,))},
            Stage.OFFERED: _ON_CHAIN | _FAILED | _PAID,
            # The Neighbor has reported: losing the Learner now costs it nothing.
            Stage.REPORTING: _ON_CHAIN
            | {
                Happening.FAILED: (Stage.REPORTING, ()),
                Happening.REPORT_OVERDUE: (Stage.REPORTING, (Effect.CLOSE_REPORTING,)),
            },
            Stage.VOTING: _VOTING | {Happening.FAILED: (Stage.VOTING, ())},
            Stage.STRANDED: _ON_CHAIN | _FAILED | _PAID,
            # A declined proposal is no encounter of the Neighbor's.
            **{stage: row for stage, row in _TERMINAL_ROWS.items() if stage is not Stage.DECLINED},
        },
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Encounter:
    """What a device keeps of one encounter.

    Attributes:
        key: the Learner's commitment; names the encounter before its terms are complete.
        role: this device's side.
        stage: where it stands.
        peer: the other side's radio id.
        proposal: what the Learner proposed.
        salt: this device's own salt.
        terms: complete once the Neighbor accepted.
        peer_salt: the other side's, once revealed.
        peer_signature: of a Learner, the Neighbor's signature of the terms; none in the direct door.
        updated: digest of the updated model, once offered or made.
        updated_age: training steps behind it, as the Neighbor says.
        judged: digest that the votes are about, as the chain says.
        panel: seats that may vote on it, by position, as the chain says.
        verdict: what the validators decided; None before that, and where they were even or silent.
        done: effects already due once.
        closings: how often one of `CLOSING` was due.
        closing_at_s: when it was last, in Unix s of the chain.
        reason: why it ended early, in words.
    """

    key: bytes
    role: Role
    stage: Stage
    peer: PeerId
    proposal: Propose
    salt: bytes
    terms: Terms | None = None
    peer_salt: bytes | None = None
    peer_signature: bytes | None = None
    updated: bytes | None = None
    updated_age: int = 0
    judged: bytes | None = None
    panel: tuple[int, ...] = ()
    verdict: bool | None = None
    done: frozenset[Effect] = frozenset()
    closings: int = 0
    closing_at_s: int = 0
    reason: str | None = None

    @property
    def live(self) -> bool:
        """Whether anything can still happen to it."""
        return self.stage not in TERMINAL

    @property
    def salts(self) -> tuple[bytes, bytes]:
        """The Learner's and the Neighbor's salt; only once both are known."""
        if self.peer_salt is None:
            raise ValueError("the peer's salt is not known yet")
        return self._in_order(self.peer_salt)

    def fits(self, peer_salt: bytes) -> bool:
        """Whether the terms are about this salt of the other side's; never before they are complete."""
        found = both_salts(*map(commitment, self._in_order(peer_salt)))
        return self.terms is not None and self.terms.salts == found

    def _in_order(self, peer_salt: bytes) -> tuple[bytes, bytes]:
        return (self.salt, peer_salt) if self.role is Role.LEARNER else (peer_salt, self.salt)


def step(encounter: Encounter, happening: Happening, **learned: object) -> tuple[Encounter, tuple[Effect, ...]] | None:
    """Return what follows `happening`, or None where it is out of place (a duplicate, or too late).

    Args:
        encounter: the record before.
        happening: what was seen.
        learned: members of `Encounter` that became known with it.
    """
    row = TRANSITIONS[encounter.role].get(encounter.stage, {})
    if happening not in row or not _can_go_on(encounter, happening):
        return None
    stage, effects = row[happening]
    due = tuple(effect for effect in effects if effect not in encounter.done)
    after = replace(encounter, stage=stage, done=encounter.done | set(due), **learned)  # type: ignore[arg-type]
    return after, due


def _can_go_on(encounter: Encounter, happening: Happening) -> bool:
    """Whether what a peer says can take up a stranded encounter: not if that failed after it was said before."""
    if encounter.stage is not Stage.STRANDED:
        return True
    if happening is Happening.OFFERED:
        return Effect.FETCH_UPDATED not in encounter.done
    if happening is Happening.REVEALED:
        last = Effect.FETCH_UPDATED if encounter.role is Role.LEARNER else Effect.REVEAL
        return encounter.updated is not None and last not in encounter.done
    return True


def waits_for_word(encounter: Encounter) -> bool:
    """Whether this side has said what was to be said, and the peer's answer is missing: it may not have heard."""
    said = Effect.REVEAL if encounter.role is Role.LEARNER else Effect.OFFER
    waits = encounter.stage in {Stage.OFFERED, Stage.STRANDED} and encounter.peer_salt is None
    return waits and said in encounter.done and encounter.updated is not None


def step_on_chain(
    encounter: Encounter, happening: Happening, *, now_s: int, grace_s: int, again: bool = True, **learned: object
) -> tuple[Encounter, tuple[Effect, ...]] | None:
    """Return what follows `happening`, as `step` does, for something that the chain shows at `now_s`.

    What is to close the encounter (`CLOSING`) may have been reverted or refused: it is due again `grace_s` after the
    first time, and each time that much later; never with `again` false, while the last one is still on its way.
    """
    closing = encounter.done & CLOSING
    if again and closing and now_s > encounter.closing_at_s + grace_s * encounter.closings:
        encounter = replace(encounter, done=encounter.done - closing)
    result = step(encounter, happening, **learned)
    if result is None or CLOSING.isdisjoint(result[1]):
        return result
    after, due = result
    return replace(after, closings=after.closings + 1, closing_at_s=now_s), due


def operation_label(encounter: Encounter, effect: Effect) -> str:
    """Return the label under which an effect's transaction is entered once: with its number if due repeatedly."""
    again = f":{encounter.closings}" if effect in CLOSING and encounter.closings > 1 else ""
    return f"{effect}:{encounter.key.hex()}{again}"


def labelled(label: str) -> tuple[Effect, bytes] | None:
    """Return the effect and the encounter's key that `operation_label` put into a label, None for other labels."""
    effect, _, rest = label.partition(":")
    return (Effect(effect), bytes.fromhex(rest.partition(":")[0])) if effect in set(Effect) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainView:
    """An encounter as the chain holds it; times in Unix s of the chain.

    Attributes:
        state: where it stands.
        salts: the Learner's and the Neighbor's, once a report revealed them.
        updated: digest that was reported last.
        panel: seats that may vote, by position; empty before voting starts.
        yes: votes so far that the work is valid.
        no: votes so far that it is not.
        vote_by: the end of voting.
        chain_time_s: of the newest block the gateway knows.
    """

    state: EncounterState
    salts: tuple[bytes, bytes] | None
    updated: bytes | None
    panel: tuple[int, ...]
    yes: int
    no: int
    vote_by: int | None
    chain_time_s: int


def seen_on_chain(encounter: Encounter, view: ChainView, *, rules: ParameterSet, grace_s: int) -> Happening | None:
    """Say what `view` means for a device's side of the encounter, under its terms' rules.

    Where either side may act, the one that gains acts at once and the other `grace_s` later, so that one
    transaction is usually enough.
    """
    terms = encounter.terms
    if terms is None:
        return None
    now_s = view.chain_time_s
    learner_turn_s = 0 if encounter.role is Role.LEARNER else grace_s
    match view.state:
        case EncounterState.SETTLED:
            return Happening.SETTLED
        case EncounterState.EXPIRED:
            return Happening.EXPIRED
        case EncounterState.NONE:
            return Happening.NEVER_OPENED if now_s > terms.open_by + grace_s else None
        case EncounterState.LEARNER_CHECKED_IN | EncounterState.NEIGHBOR_CHECKED_IN:
            return Happening.OVERDUE if now_s > terms.open_by + learner_turn_s else None
        case EncounterState.OPEN | EncounterState.LEARNER_REPORTED:
            # What was opened by signatures may be settled in one step until the voting would be over.
            voting_s = rules.vote_time_s if terms.nonce else 0
            if now_s > terms.report_by + voting_s + learner_turn_s:
                return Happening.OVERDUE
            return Happening.OPENED if encounter.stage is Stage.CHECKING_IN else None
        case EncounterState.NEIGHBOR_REPORTED:
            neighbor_turn_s = grace_s - learner_turn_s
            overdue = now_s > terms.report_by + neighbor_turn_s
            return Happening.REPORT_OVERDUE if overdue and _knows_salts(encounter, view) else None
        case EncounterState.REPORTED:
            if encounter.stage is not Stage.VOTING:
                return Happening.VOTING_STARTED
            gains = Role.NEIGHBOR if view.yes > view.no else Role.LEARNER
            wait_s = 0 if encounter.role is gains else grace_s
            over = view.vote_by is not None and now_s > view.vote_by + wait_s
            complete = view.yes + view.no >= rules.validators and wait_s == 0
            return Happening.VOTED if over or complete else None


def _knows_salts(encounter: Encounter, view: ChainView) -> bool:
    """Whether this device can close the reporting, which takes both salts."""
    if encounter.peer_salt is not None:
        return True
    return view.salts is not None and encounter.fits(view.salts[encounter.role is Role.LEARNER])


def learned_on_chain(encounter: Encounter, happening: Happening, view: ChainView) -> dict[str, object]:
    """Return the members of `Encounter` that `view` makes known with `happening`."""
    match happening:
        case Happening.VOTING_STARTED | Happening.VOTED:
            return {"judged": view.updated, "panel": view.panel}
        case Happening.REPORT_OVERDUE if encounter.peer_salt is None and view.salts is not None:
            # Its report took both salts, also where the Neighbor never sent its own to the Learner.
            return {"peer_salt": view.salts[encounter.role is Role.LEARNER]}
        case Happening.NEVER_OPENED:
            words = "nobody brought it to the chain in time" if encounter.proposal.credit else "it was never opened"
            return {"reason": "; ".join(filter(None, (words, encounter.reason)))}
        case Happening.SETTLED:
            verdict = None if view.yes == view.no else view.yes > view.no
            return {"verdict": verdict, "updated": view.updated or encounter.updated}
        case _:
            return {}


def diagram(role: Role) -> str:
    """Return one role's table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2"]
    for stage, row in TRANSITIONS[role].items():
        for happening, (after, effects) in row.items():
            doing = f" / {', '.join(effects)}" if effects else ""
            lines.append(f"    {stage.name.lower()} --> {after.name.lower()}: {happening.value}{doing}")
        if stage in TERMINAL:
            lines.append(f"    {stage.name.lower()} --> [*]")
    return "\n".join(lines) + "\n"
