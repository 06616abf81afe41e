"""The encounters opened by signatures, read from the store: what devices hand in, and what validators are asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from contracts.calls import Finalise, Permit, ReportSigned, VoteSigned, terms_of
from contracts.settlement import ParameterSet
from contracts.states import EncounterState
from contracts.terms import Domain, Terms, terms_from_json
from gateway.accounts import Accounts
from gateway.admission import Admit, admit_anyone
from gateway.case import Case, voting
from gateway.errors import Code, Refusal
from gateway.operation import CheckedOperation, check_operation
from gateway.records import Operation
from gateway.store import Store
from gateway.views import Json, encounter_view, job_view


class Cases:
    """Every encounter as `gateway.case` sees it."""

    def __init__(self, *, store: Store, accounts: Accounts, domain: Domain, now_s: Callable[[], float]) -> None:
        """Set where they are read from; `now_s` is the wall clock in Unix seconds."""
        self._store = store
        self._accounts = accounts
        self._domain = domain
        self._now_s = now_s

    def of(
        self, encounter: str, held: Sequence[Operation], *, owners: Mapping[int, str], carried: Terms | None = None
    ) -> Case | None:
        """Put together what is known of an encounter, None while nothing here tells its terms and rules.

        Args:
            encounter: its id, 0x-prefixed.
            held: the operations about it that wait, oldest first.
            owners: who holds which seat now.
            carried: its terms, as an operation carries them that is not held yet.
        """
        stored = self._store.terms(encounter)
        terms = carried or _terms(held) if stored is None else terms_from_json(stored)
        if terms is None:
            return None
        try:
            rules = self._accounts.parameters(terms.parameter_set)
        except Refusal:
            return None
        head = self._store.head()
        return Case(
            id=bytes.fromhex(encounter[2:]),
            view=encounter_view(
                encounter, stored, self._store.encounter_events(encounter), salts=self._store.salts(encounter)
            ),
            terms=terms,
            rules=ParameterSet(**rules),
            held=held,
            owners=owners,
            chain_time_s=head.time_s if head else 0,
            now_s=self._now_s(),
        )

    def take(self, data: bytes, *, admit: Admit = admit_anyone) -> tuple[Operation, bool]:
        """Check an operation from anywhere and keep it; return it and whether it is new. Raises `Refusal`.

        `admit` is asked before anything is stored.
        """
        checked = check_operation(data, self._domain)
        new = self._store.operation(checked.id) is None
        admit(None if isinstance(checked.call, Permit) else checked.account, new)
        if new:
            self._check_in_place(checked)
        return self._store.accept_operation(checked, now_s=self._now_s())

    def jobs(self, validator: str) -> tuple[list[Json], int]:
        """Return the votes that are open to a validator (checksum address), and the chain's time."""
        head = self._store.head()
        now_s = head.time_s if head else 0
        jobs: list[Json] = []
        on_chain, handed_in = self._store.open_votings(at_s=now_s), self._store.handed_in("reportSigned")
        encounters = dict.fromkeys([*on_chain, *handed_in])
        owners = self._store.seats() if encounters else {}
        seat = next((seat for seat, owner in owners.items() if owner == validator), 0)
        for encounter in encounters if seat else ():
            case = self.of(encounter, self._store.waiting_operations(encounter), owners=owners)
            asked = None if case is None else voting(case)
            if case is None or asked is None:
                continue
            job = job_view(
                asked,
                validator=validator,
                seat=seat,
                validators=case.rules.validators,
                standby_delay_s=case.rules.standby_delay_s,
                chain_time_s=now_s,
            )
            if job is not None:
                jobs.append(job)
        return jobs, now_s

    def _check_in_place(self, checked: CheckedOperation) -> None:
        """Refuse what can never be of use: rules that are not there, a step not due, a vote not asked for."""
        terms = terms_of(checked.call)
        if terms is not None:
            self._accounts.parameters(terms.parameter_set)
        encounter = checked.encounter
        if encounter is None or not isinstance(checked.call, ReportSigned | VoteSigned | Finalise):
            return
        owners = self._store.seats()
        case = self.of(encounter, self._store.waiting_operations(encounter), owners=owners, carried=terms)
        state = EncounterState.NONE if case is None else case.state
        if case is None or state is EncounterState.NONE:
            if case is not None and case.chain_time_s > case.settle_by_s:
                raise Refusal(409, Code.WRONG_STATE, f"encounter {encounter} was never opened, and its time is over")
            words = f"encounter {encounter} is not open yet, as far as this gateway has read the chain"
            raise Refusal(409, Code.WRONG_STATE, words, retry=True)
        if state.final:
            raise Refusal(409, Code.WRONG_STATE, f"encounter {encounter} is {state.name.lower()}")
        if isinstance(checked.call, VoteSigned):
            asked = voting(case)
            seats = [] if asked is None else asked["panel"]
            if checked.account not in {owners.get(seat) for seat in seats}:
                words = f"{checked.account} has no seat on the panel of {encounter}"
                raise Refusal(422, Code.NOT_ON_PANEL, words)


def _terms(held: Sequence[Operation]) -> Terms | None:
    """The terms that operations carry: all that name the same encounter carry the same."""
    return next((terms for one in held if (terms := terms_of(one.call)) is not None), None)
