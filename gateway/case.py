"""An encounter opened by signatures, as the gateway holds it: what the chain shows, and what devices have handed in.

Pure. Devices hand in halves of reports and votes; nobody else sees them. `voting` says what validators are asked
meanwhile, `items` what goes to the chain next:

    both reports agree (or only the Neighbor's, after reportBy) -> the validators drawn are asked
    the first V seats have voted                                 -> settle: report, votes and payment in one call
    one of them is silent for a standby delay                    -> reportSigned, and from there step by step:
    V votes are in, or the time is nearly over                   -> voteSigned of each, then finalise

Votes are shown to nobody before they go to the chain, so that no validator can copy another's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from contracts import panel, signing
from contracts.calls import Call, Expire, Finalise, Open, ReportSigned, Settle, VoteSigned
from contracts.settlement import ParameterSet
from contracts.states import EncounterState
from contracts.terms import Terms
from gateway.records import Operation
from gateway.views import Json

_HALF = signing.SIGNATURE_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One call for the next batch, and the numbers of the operations that it carries out."""

    call: Call
    operations: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One encounter.

    Attributes:
        id: of the encounter, 32 bytes.
        view: how it stands on chain, `gateway.views.encounter_view`.
        terms: of the encounter.
        rules: that its terms name.
        held: what waits at the gateway, oldest first.
        owners: who holds which seat now.
        chain_time_s: of the newest block consumed.
        now_s: the gateway's clock.
    """

    id: bytes
    view: Json
    terms: Terms
    rules: ParameterSet
    held: Sequence[Operation]
    owners: Mapping[int, str]
    chain_time_s: int
    now_s: float

    @property
    def state(self) -> EncounterState:
        """Where it stands on chain."""
        return EncounterState[self.view["state"].upper()]

    @property
    def settle_by_s(self) -> int:
        """Chain time until which the short form is taken."""
        return self.terms.report_by + self.rules.vote_time_s

    @property
    def in_lane(self) -> bool:
        """Whether it is open, was opened by signatures, and can still be reported on."""
        opened = self.state is EncounterState.OPEN and self.terms.nonce != 0
        return opened and self.chain_time_s < self.settle_by_s


@dataclass(frozen=True, slots=True, kw_only=True)
class _Report:
    """What the two sides have agreed on, or the Neighbor alone."""

    call: ReportSigned
    operations: tuple[int, ...]
    since_s: float

    @property
    def learner_signature(self) -> bytes:
        return self.call.signatures[:_HALF]

    @property
    def neighbor_signature(self) -> bytes:
        return self.call.signatures[_HALF:]


def voting(case: Case) -> Json | None:
    """Return the encounter as its validators are to see it, None while there is nothing to vote on.

    That is the view of a voting on chain; or as if it had begun, from the moment both sides agreed. Of the votes handed
    in only who cast them is told.
    """
    view = case.view
    if case.in_lane:
        report = _report(case)
        if report is None or case.rules.sealed_votes:
            return None
        view = view | {
            "state": EncounterState.REPORTED.name.lower(),
            "updated": "0x" + report.call.updated.hex(),
            "panel": list(_panel(case, report)),
            "vote_by": case.settle_by_s,
            "voting_since": min(int(report.since_s), case.chain_time_s),  # the chain's time may lag behind ours
        }
    elif case.state is not EncounterState.REPORTED:
        return None
    held = _ballots(case, bytes.fromhex(view["updated"][2:]))
    return view | {"votes": [*view["votes"], *({"voter": voter} for voter in held)]}


def items(case: Case) -> Iterator[Item]:
    """Yield the calls that the chain may take now, in the order in which they have to be done."""
    if case.state is EncounterState.NONE:
        yield from _as_they_are(case, Open)
    elif case.state is EncounterState.REPORTED:
        yield from _votes(case)
        yield from _as_they_are(case, Finalise)
    elif not case.state.final:
        if case.in_lane:
            yield from _settlement(case)
        yield from _as_they_are(case, Expire)


def _as_they_are(case: Case, kind: type[Call]) -> Iterator[Item]:
    for one in case.held:
        if isinstance(one.call, kind):
            yield Item(call=one.call, operations=(one.number,))


def _report(case: Case) -> _Report | None:
    halves = {one.account: one for one in case.held if isinstance(one.call, ReportSigned)}
    learners, neighbors = halves.get(case.terms.learner), halves.get(case.terms.neighbor)
    if neighbors is None or not isinstance(neighbors.call, ReportSigned):
        return None
    call = neighbors.call
    if learners is not None and isinstance(learners.call, ReportSigned) and learners.call.updated == call.updated:
        both = learners.call.signatures[:_HALF] + call.signatures[_HALF:]
        return _Report(
            call=replace(call, signatures=both),
            operations=(learners.number, neighbors.number),
            since_s=max(learners.accepted_at_s, neighbors.accepted_at_s),
        )
    if case.chain_time_s > case.terms.report_by:
        since_s = max(neighbors.accepted_at_s, float(case.terms.report_by))
        return _Report(call=call, operations=(neighbors.number,), since_s=since_s)
    return None


def _panel(case: Case, report: _Report) -> tuple[int, ...]:
    """The seats that the contract would draw now."""
    parties = (case.terms.learner, case.terms.neighbor)
    return panel.draw(
        seed=panel.seed(case.id, (report.call.learner_salt, report.call.neighbor_salt)),
        seat_count=case.terms.seats,
        eligible=case.owners.__contains__,
        excluded=[seat for seat, owner in case.owners.items() if owner in parties],
    )


def _ballots(case: Case, updated: bytes, *, entered: Collection[str] = ()) -> dict[str, tuple[int, VoteSigned]]:
    """The votes on a digest that wait here, by voter."""
    found: dict[str, tuple[int, VoteSigned]] = {}
    for one in case.held:
        voter, vote = one.account, one.call
        if voter is None or voter in entered or not isinstance(vote, VoteSigned) or vote.updated != updated:
            continue
        found.setdefault(voter, (one.number, vote))
    return found


def _settlement(case: Case) -> Iterator[Item]:
    """The short form once it is complete; the long one once it has been waited for long enough."""
    report = _report(case)
    if report is None:
        return
    seats = _panel(case, report)[: case.rules.validators]
    held = _ballots(case, report.call.updated)
    votes = [held[case.owners[seat]] for seat in seats if case.owners[seat] in held]
    long_form_only = not seats or case.rules.sealed_votes
    if len(votes) < len(seats) or long_form_only:
        if long_form_only or case.now_s > report.since_s + case.rules.standby_delay_s:
            yield Item(call=report.call, operations=report.operations)
        return
    yes = sum(vote.valid for _, vote in votes)
    signature = report.neighbor_signature
    if 2 * yes > len(votes) and report.learner_signature != signing.MISSING:
        signature = report.learner_signature  # it is the Learner whom this verdict costs
    ballots = [(vote.valid, vote.reason, vote.r + vote.vs) for _, vote in votes]
    yield Item(
        call=Settle(
            terms=case.terms,
            updated=report.call.updated,
            learner_salt=report.call.learner_salt,
            neighbor_salt=report.call.neighbor_salt,
            evidence=signing.evidence(signature, ballots),
        ),
        operations=(*report.operations, *(number for number, _ in votes)),
    )


def _votes(case: Case) -> Iterator[Item]:
    """The votes that wait for a voting on chain: all at once, when they decide, or when its end is near."""
    view, rules = case.view, case.rules
    entered = {vote["voter"] for vote in view["votes"]}
    held = _ballots(case, bytes.fromhex(view["updated"][2:]), entered=entered)
    near = case.chain_time_s >= view["vote_by"] - max(rules.vote_time_s // 4, 1)
    if len(entered) + len(held) < min(rules.validators, len(view["panel"])) and not near:
        return
    for voter, (number, vote) in held.items():
        seat = next((seat for seat, owner in case.owners.items() if owner == voter), 0)
        if seat in view["panel"]:
            position = view["panel"].index(seat)
            yield Item(call=replace(vote, panel=tuple(view["panel"]), position=position), operations=(number,))
