"""Which call of a transaction said what: the events of a batch, told apart. Pure.

A batch runs its calls in order and its logs name none of them. So each event goes to the first call, from the one that
spoke last on, that can have caused it. What was settled in one step left its votes and its digest in the calldata
only: they are told as if each vote had been cast by itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from contracts import calls, events, signing
from contracts.calls import Call
from contracts.errors import decode_revert
from contracts.terms import Domain

_CAUSES: Final[Mapping[type[events.Event], tuple[type[Call], ...]]] = MappingProxyType(
    {
        events.CheckedIn: (calls.CheckIn,),
        events.Opened: (calls.Open, calls.CheckIn),
        events.Reported: (calls.Report,),
        events.ReportVoided: (calls.Report,),
        events.VotingStarted: (calls.ReportSigned, calls.CloseReporting, calls.Report),
        events.VoteCast: (calls.VoteSigned, calls.RevealVote, calls.Vote),
        events.VoteSealed: (calls.SealSigned, calls.Seal),
        events.Settled: (calls.Settle, calls.Finalise),
        events.Expired: (calls.Expire,),
        events.Staked: (calls.Act, calls.Stake, calls.StakeWithPermit),
        events.Unbonding: (calls.Act, calls.Unbond),
        events.Withdrawn: (calls.Act, calls.Withdraw),
        events.ValidatorRegistered: (calls.Act, calls.RegisterValidator),
        events.ValidatorLeft: (calls.Act, calls.LeaveValidator),
        events.SeatVacated: (calls.Settle, calls.Finalise, calls.Dismiss),
        events.FinesBurned: (calls.BurnFines,),
    }
)
"""The calls that can cause an event, those of the signed door first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """An event, and the call that caused it.

    Attributes:
        place: of the call in its batch; 0 in a transaction that is no batch.
        function: the call's Solidity name, "" if it is none of ours.
        event: what it told.
        beside: what else is known of it: of `Settled` the digest that was settled in one step, of `Skipped` the
            error and the encounter.
    """

    place: int
    function: str
    event: events.Event
    beside: Mapping[str, Any] = field(default_factory=dict)


def told_by(called: Sequence[Call | None], found: Sequence[events.Event], domain: Domain) -> Iterator[Told]:
    """Yield the events of one successful transaction with the calls that caused them, in order.

    A batch in a batch (nobody needs one) could make it unclear which call was skipped: of its calls nothing is told.

    Args:
        called: its calls, None for one that cannot be read; empty where another contract made them.
        found: its events, oldest first.
        domain: where encounters live.
    """
    if any(isinstance(call, calls.Batch) for call in called):
        called = [None] * len(called)
    skipped = {event.index for event in found if isinstance(event, events.Skipped)}
    done = [None if place in skipped else call for place, call in enumerate(called)]
    place = 0
    spoken: set[tuple[int, type[events.Event]]] = set()
    for event in found:
        if isinstance(event, events.Skipped):
            call = called[event.index] if event.index < len(called) else None
            encounter = None if call is None else calls.encounter_of(call, domain)
            beside = {"error": str(decode_revert(event.reason)), "encounter": encounter}
            yield Told(place=event.index, function=_name(called, event.index), event=event, beside=beside)
            continue
        if len(called) > 1:
            place = _place(done, event, domain, begin=place, spoken=spoken)
        function = _name(done, place)
        if not isinstance(event, events.SeatVacated):  # a settlement may empty several
            spoken.add((place, type(event)))
        call = done[place] if place < len(done) else None
        beside = {}
        if isinstance(event, events.Settled) and isinstance(call, calls.Settle):
            beside = {"updated": call.updated}
            for vote in _votes(call, domain):
                yield Told(place=place, function=function, event=vote)
        yield Told(place=place, function=function, event=event, beside=beside)


def _name(called: Sequence[Call | None], place: int) -> str:
    call = called[place] if place < len(called) else None
    return "" if call is None else calls.function_name(call)


def _place(
    done: Sequence[Call | None],
    event: events.Event,
    domain: Domain,
    *,
    begin: int,
    spoken: Collection[tuple[int, type[events.Event]]],
) -> int:
    """The first call from `begin` on that can have caused an event; `begin` if none can."""
    causes = _CAUSES.get(type(event), ())
    encounter = getattr(event, "encounter", None)
    account = getattr(event, "account", getattr(event, "validator", None))
    for place in range(begin, len(done)):
        call = done[place]
        if call is None or not isinstance(call, causes):
            continue
        if (place, type(event)) in spoken:
            continue
        if encounter is not None and calls.encounter_of(call, domain) != encounter:
            continue
        if isinstance(call, calls.Act) and call.action.account != account:
            continue
        return place
    return begin


def _votes(call: calls.Settle, domain: Domain) -> Iterator[events.VoteCast]:
    encounter = calls.encounter_of(call, domain) or b""
    for valid, reason, signature in signing.read_evidence(call.evidence)[1]:
        digest = signing.vote_digest(encounter, call.updated, domain, valid=valid, reason=reason)
        voter = signing.signer(digest, signature)
        if voter is not None:  # the contract took no other
            yield events.VoteCast(encounter=encounter, voter=voter, valid=valid, reason=reason)
