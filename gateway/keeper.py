"""The keeper: ends encounters that anyone may end, when those whom they concern do not.

A device may be out of reach for weeks while others' stakes are locked. So once its time is over an encounter is
finalised, or expired, by the gateway: the contract lets anyone do it, and pays as if they had.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from contracts.calls import Call, CloseReporting, Expire, Finalise
from contracts.errors import ContractRevert
from contracts.reverts import TooEarly, VotesMissing
from contracts.states import EncounterState
from gateway.case import Case, Item
from gateway.cases import Cases
from gateway.encounters import GRACE_S
from gateway.store import Store

_AT_ONCE = 50
"""Encounters looked at in one step."""
_AGAIN_AFTER_S = 600
"""Chain time after which an encounter is looked at again about which nothing could be done, and nothing was told."""

_CHECKED_IN = (EncounterState.LEARNER_CHECKED_IN, EncounterState.NEIGHBOR_CHECKED_IN)


class Keeper:
    """Looks after the encounters of one store."""

    def __init__(self, *, store: Store, cases: Cases) -> None:
        """Set where encounters are read from."""
        self._store = store
        self._cases = cases

    def due(self, *, chain_time_s: int) -> list[str]:
        """Return the encounters to look at now."""
        return self._store.to_look_at(at_s=chain_time_s, limit=_AT_ONCE)

    def items(self, due: Sequence[str], *, owners: Mapping[int, str], chain_time_s: int) -> Iterator[tuple[str, Item]]:
        """Yield those of the encounters that can be ended, with the call that does.

        It puts off those that cannot yet, and those for which that very call waits here.
        """
        later: dict[str, int] = {}
        for encounter in due:
            held = self._store.waiting_operations(encounter)
            case = self._cases.of(encounter, held, owners=owners)
            call = None if case is None else ending(case)
            if case is None or call is None:
                later[encounter] = chain_time_s + _AGAIN_AFTER_S
            elif due_at_s(case) > chain_time_s:
                later[encounter] = due_at_s(case)
            elif any(one.call == call for one in held):
                later[encounter] = chain_time_s + _AGAIN_AFTER_S
            else:
                yield encounter, Item(call=call, operations=())
        self._store.look_again(later)

    def put_off(self, encounters: Mapping[str, ContractRevert | None], *, chain_time_s: int) -> None:
        """Look again later at encounters whose call was sent (None), or that the chain refused to end now."""
        self._store.look_again(
            {
                encounter: _not_before_s(refusal) or chain_time_s + _AGAIN_AFTER_S
                for encounter, refusal in encounters.items()
            }
        )


def _not_before_s(refusal: ContractRevert | None) -> int | None:
    """The chain time that a refusal names."""
    if isinstance(refusal, TooEarly):
        return int(refusal.values["notBefore"])
    return int(refusal.values["voteBy"]) + 1 if isinstance(refusal, VotesMissing) else None


def ending(case: Case) -> Call | None:
    """Return the call with which anyone may end an encounter, or bring it nearer to its end; None if there is none."""
    if case.state is EncounterState.REPORTED:
        view = case.view
        return Finalise(terms=case.terms, updated=bytes.fromhex(view["updated"][2:]), panel=tuple(view["panel"]))
    if case.state is EncounterState.NEIGHBOR_REPORTED:
        salts = case.view["salts"]
        if salts is None:
            return None
        learner, neighbor = (bytes.fromhex(salt[2:]) for salt in salts)
        return CloseReporting(terms=case.terms, learner_salt=learner, neighbor_salt=neighbor)
    if case.state is EncounterState.NONE or case.state.final:
        return None
    return Expire(terms=case.terms)


def due_at_s(case: Case) -> int:
    """Return the chain time from which the keeper tries `ending`; the contract may want it later still."""
    if case.state is EncounterState.REPORTED:
        complete = len(case.view["votes"]) >= min(case.rules.validators, len(case.view["panel"]))
        return 0 if complete else int(case.view["vote_by"]) + GRACE_S
    if case.terms.nonce != 0:
        return case.settle_by_s + GRACE_S
    return (case.terms.open_by if case.state in _CHECKED_IN else case.terms.report_by) + GRACE_S
