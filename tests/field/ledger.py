"""What everybody must have: computed again from what the chain's blocks say, with the reference model of payments."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from contracts import calls, events
from contracts.deploy import Deployment, reader
from contracts.errors import ContractsError
from contracts.localchain import LocalChain
from contracts.reading import ContractReader
from contracts.settlement import bond, settle
from contracts.terms import Domain, Terms, encounter_id
from device_agent.loopback.bank import Bank
from gateway.batch import told_by


@dataclass(slots=True)
class _Played:
    """One encounter on chain."""

    terms: Terms | None = None
    here: set[str] = field(default_factory=set)
    votes: dict[str, bool] = field(default_factory=dict)
    ends: list[events.Settled | events.Expired] = field(default_factory=list)


class Ledger:
    """All that happened to tokens, as the blocks tell it.

    Attributes:
        happened: how often each event.
        fined: by all settlements, in base units, as they say.
    """

    def __init__(self, chain: LocalChain, deployment: Deployment, accounts: Sequence[str]) -> None:
        """Read all of a chain; `accounts` are everybody who can have tokens."""
        self.happened: Counter[str] = Counter()
        self.fined = 0
        self._reader = reader(chain.web3, deployment)
        self._bank = Bank(self._reader, accounts)
        self._owned: Counter[str] = Counter()
        self._bought = 0
        self._played: dict[bytes, _Played] = defaultdict(_Played)
        domain = Domain(chain_id=chain.web3.eth.chain_id, escrow=deployment.escrow)
        for called, told in _transactions(chain, deployment):
            for call in called:
                terms = None if call is None else calls.terms_of(call)
                if terms is not None:
                    self._played[encounter_id(terms, domain)].terms = terms
            self.happened.update(type(one).__name__ for one in told)
            for one in told_by(called, told, domain):  # in the batched door votes are in the calls alone
                self._enter(one.event)

    def _enter(self, event: events.Event) -> None:
        match event:
            case events.Bought():
                self._bought += event.amount
                self._owned[event.buyer] += event.amount
            case events.CheckedIn():
                self._played[event.encounter].here.add(event.by)
            case events.Opened():
                played = self._played[event.encounter]
                played.here |= {played.terms.learner, played.terms.neighbor} if played.terms else set()
            case events.VoteCast():
                self._played[event.encounter].votes[event.voter] = event.valid
            case events.Settled() | events.Expired():
                self._played[event.encounter].ends.append(event)
                self.fined += event.burned if isinstance(event, events.Settled) else 0

    def wrong(self) -> Iterator[str]:
        """Yield what is not as it must be, to the last unit."""
        owned, locked = Counter(self._owned), Counter[str]()
        for key, played in self._played.items():
            name = key.hex()[:8]
            if len(played.ends) > 1:
                yield f"encounter {name} ended {len(played.ends)} times"
            if played.terms is None:
                yield f"encounter {name}: no transaction has its terms"
            elif not played.ends:
                locked.update(self._locked(played, played.terms))
            elif isinstance(played.ends[0], events.Settled):
                yield from _paid(name, played, played.terms, played.ends[0], self._reader, owned)
        for who, has in self._bank.balances().items():
            if has.wallet + has.stake != owned[who]:
                yield f"{who} has {has.wallet} and a stake of {has.stake}, and {owned[who]} is right"
            if has.locked != locked[who]:
                yield f"{who} has {has.locked} locked, and {locked[who]} is right"
        if not self._bank.books(bought=self._bought, fined=self.fined).conserved:
            yield "tokens were lost, or made from nothing"

    def stakes(self) -> Mapping[str, int]:
        """Return what everybody has in the escrow, in base units."""
        return {who: balance.stake for who, balance in self._bank.balances().items()}

    def _locked(self, played: _Played, terms: Terms) -> Counter[str]:
        """What an encounter that has not ended locks."""
        rules = self._reader.parameter_set(terms.parameter_set)
        locked = Counter(dict.fromkeys(played.here, terms.reward))
        locked.update(dict.fromkeys(played.votes, bond(reward=terms.reward, parameters=rules)))
        return locked


def _paid(
    name: str, played: _Played, terms: Terms, told: events.Settled, read: ContractReader, owned: Counter[str]
) -> Iterator[str]:
    """Pay an encounter, by the reference model."""
    yes = sum(played.votes.values())
    no = len(played.votes) - yes
    pay = settle(reward=terms.reward, yes=yes, no=no, parameters=read.parameter_set(terms.parameter_set))
    if (told.yes, told.no, told.burned) != (yes, no, pay.burned):
        yield f"encounter {name}: {told}, and {yes}, {no} and {pay.burned} are right"
    owned[terms.learner] += pay.learner_refund - terms.reward
    owned[terms.neighbor] += pay.neighbor_delta
    for voter, valid in played.votes.items():
        owned[voter] += pay.each_yes if valid else pay.each_no


def _transactions(
    chain: LocalChain, deployment: Deployment
) -> Iterator[tuple[list[calls.Call | None], list[events.Event]]]:
    """Yield each transaction with events of ours: its calls, those of a batch one by one, and its events."""
    logs = chain.web3.eth.get_logs(
        {"fromBlock": 0, "address": [deployment.escrow, deployment.token]}  # type: ignore[typeddict-item, list-item]
    )
    by_transaction: dict[bytes, list[events.Event]] = defaultdict(list)
    for log in logs:
        event = events.decode([bytes(topic) for topic in log["topics"]], bytes(log["data"]))
        if event is not None:
            by_transaction[bytes(log["transactionHash"])].append(event)
    for key, told in by_transaction.items():
        sent = chain.web3.eth.get_transaction(key)  # type: ignore[arg-type]
        call = _decoded(bytes(sent["input"]))
        yield [_decoded(one) for one in call.calls] if isinstance(call, calls.Batch) else [call], told


def _decoded(data: bytes) -> calls.Call | None:
    try:
        return calls.decode(data)
    except ContractsError:
        return None  # the deployment
