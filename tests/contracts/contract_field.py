"""A field of devices with accounts on one local chain, for the tests of the contracts."""

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from eth_account import Account
from eth_account.signers.local import LocalAccount
from web3.exceptions import ContractCustomError, ContractLogicError

from contracts import calls, events, panel, signing, terms
from contracts.deploy import Deployment, EscrowSettings, deploy_local, reader
from contracts.errors import ContractRevert, decode_revert
from contracts.localchain import LocalChain
from contracts.reading import AccountView, ContractReader
from contracts.states import EncounterState, VoteReason
from contracts.terms import Terms

TOKEN = 10**18
STAKE = 100 * TOKEN
LEARNER, NEIGHBOR = 0, 1
SALTS = (bytes([1]) * 32, bytes([2]) * 32)
UPDATED = hashlib.sha256(b"updated").digest()
PEOPLE = 64


def person(number: int) -> LocalAccount:
    return Account.from_key(hashlib.sha256(b"person %d" % number).digest())


PERSONS = tuple(person(number) for number in range(PEOPLE))


@dataclass
class Field:
    """People 0 and 1 are Learner and Neighbor; validators are registered from person 2 on.

    Attributes:
        known: everybody who sent something, in that order: nobody else has an account, or `check_conservation` fails.
    """

    chain: LocalChain
    deployment: Deployment
    read: ContractReader
    gas: dict[str, list[int]] = field(default_factory=dict)
    panels: dict[bytes, tuple[int, ...]] = field(default_factory=dict)
    nonces: Iterator[int] = field(default_factory=lambda: itertools.count(8, 8))
    known: dict[str, None] = field(default_factory=dict)

    @classmethod
    def build(cls, chain: LocalChain, *, validators: int = 10, settings: EscrowSettings | None = None) -> "Field":
        deployment = deploy_local(chain, settings)
        built = cls(chain=chain, deployment=deployment, read=reader(chain.web3, deployment))
        people = PERSONS[: 2 + validators]
        chain.fund([one.address for one in people], 10**20)
        for one in people:
            built.queue(one, calls.encode_buy(), to=deployment.token, value_wei=STAKE // 1000)
            built.queue(one, calls.encode_approve(deployment.escrow, STAKE), to=deployment.token)
            built.queue(one, calls.encode_stake(STAKE))
        built.mine()
        for one in people[2:]:
            built.queue(one, calls.encode_register_validator())
            built.mine()
        assert built.read.seat_count() == validators
        return built

    @property
    def domain(self) -> terms.Domain:
        return terms.Domain(chain_id=self.chain.chain_id, escrow=self.deployment.escrow)

    @property
    def now(self) -> int:
        return self.chain.time_s

    # Sending

    def queue(self, who: LocalAccount, data: bytes, *, to: str | None = None, value_wei: int = 0) -> bytes:
        self.known[who.address] = None
        return self.chain.send(to=to or self.deployment.escrow, data=data, value_wei=value_wei, sender=who, gas=600_000)

    def mine(self, timestamp_s: int | None = None) -> None:
        self.chain.mine(timestamp_s or self.now + 1)

    def send(
        self, who: LocalAccount, data: bytes, *, at: int | None = None, to: str | None = None
    ) -> list[events.Event]:
        """Send, mine, insist on success, return the events of ours."""
        tx_hash = self.queue(who, data, to=to)
        self.mine(at)
        receipt = self.chain.web3.eth.get_transaction_receipt(tx_hash)
        assert receipt["status"] == 1, self.reason(who, data, to=to)
        self.gas.setdefault(calls.function_name(calls.decode(data)), []).append(receipt["gasUsed"])
        found = [events.decode([bytes(t) for t in log["topics"]], bytes(log["data"])) for log in receipt["logs"]]
        assert None not in found
        self.panels |= {one.encounter: one.panel for one in found if isinstance(one, events.VotingStarted)}
        return found

    def refused(
        self, who: LocalAccount, data: bytes, *, at: int | None = None, to: str | None = None
    ) -> ContractRevert:
        """Send, mine, insist on failure without effect, return the reason."""
        tx_hash = self.queue(who, data, to=to)
        self.mine(at)
        receipt = self.chain.web3.eth.get_transaction_receipt(tx_hash)
        assert receipt["status"] == 0
        assert not receipt["logs"]
        return self.reason(who, data, to=to)

    def reason(self, who: LocalAccount, data: bytes, *, to: str | None = None) -> ContractRevert:
        """Why a call would be reverted now."""
        try:
            self.chain.web3.eth.call(
                {"from": who.address, "to": to or self.deployment.escrow, "data": "0x" + data.hex()}
            )
        except (ContractCustomError, ContractLogicError) as error:
            return decode_revert(bytes.fromhex(str(error.data or "0x")[2:]))
        raise AssertionError("the call would succeed")

    # An encounter, step by step

    def terms(self, *, learner: int = LEARNER, neighbor: int = NEIGHBOR, **changes: object) -> Terms:
        number = self.chain.web3.eth.block_number
        made = Terms(
            learner=PERSONS[learner].address,
            neighbor=PERSONS[neighbor].address,
            algorithm=terms.algorithm_label("oppcl"),
            architecture=hashlib.sha256(b"cnn6").digest(),
            previous=hashlib.sha256(b"previous %d" % number).digest(),
            reward=TOKEN,
            tolerance_bps=200,
            parameter_set=0,
            open_by=self.now + 600,
            report_by=self.now + 3_600,
            salts=terms.both_salts(*map(terms.commitment, SALTS)),
            seats=self.read.seat_count(),
            nonce=0,
        )
        return replace(made, **changes)

    def id(self, agreed: Terms) -> bytes:
        return terms.encounter_id(agreed, self.domain)

    def check_in(self, agreed: Terms, who: int) -> list[events.Event]:
        return self.send(PERSONS[who], calls.encode_check_in(agreed))

    def opened(self, **changes: object) -> Terms:
        agreed = self.terms(**changes)
        for who in (agreed.learner, agreed.neighbor):
            self.send(self.whose(who), calls.encode_check_in(agreed))
        return agreed

    def report(self, agreed: Terms, who: int, updated: bytes = UPDATED) -> list[events.Event]:
        return self.send(PERSONS[who], calls.encode_report(agreed, updated, *SALTS))

    def reported(self, **changes: object) -> Terms:
        agreed = self.opened(**changes)
        for who in (agreed.neighbor, agreed.learner):
            self.send(self.whose(who), calls.encode_report(agreed, UPDATED, *SALTS))
        return agreed

    def panel(self, agreed: Terms, salts: tuple[bytes, bytes] = SALTS) -> tuple[int, ...]:
        """The panel that voting started with; before that, the one the contract would draw now."""
        if self.id(agreed) in self.panels:
            return self.panels[self.id(agreed)]
        return panel.draw(
            seed=panel.seed(self.id(agreed), salts),
            seat_count=agreed.seats,
            eligible=self.read.is_taken,
            excluded=[self.read.account(one).seat for one in (agreed.learner, agreed.neighbor)],
        )

    def voter(self, agreed: Terms, position: int) -> LocalAccount:
        owner = self.read.seat_owner(self.panel(agreed)[position])
        return next(one for one in PERSONS if one.address == owner)

    def ballot(
        self,
        agreed: Terms,
        position: int,
        *,
        valid: bool,
        reason: VoteReason = VoteReason.ACCURACY,
        updated: bytes = UPDATED,
    ) -> bytes:
        return calls.encode(
            calls.Vote(
                encounter=self.id(agreed),
                updated=updated,
                panel=self.panel(agreed),
                position=position,
                valid=valid,
                reason=reason,
            )
        )

    def finalise(self, agreed: Terms, updated: bytes = UPDATED) -> bytes:
        return calls.encode_finalise(agreed, updated, self.panel(agreed))

    # The signed door

    def signed_terms(self, **changes: object) -> Terms:
        return self.terms(**({"nonce": next(self.nonces)} | changes))

    def open_call(self, agreed: Terms) -> bytes:
        digest = self.id(agreed)
        learner, neighbor = (signing.sign(self.whose(who).key, digest) for who in (agreed.learner, agreed.neighbor))
        return calls.encode(
            calls.Open(
                terms=agreed,
                learner_r=learner[:32],
                learner_vs=learner[32:],
                neighbor_r=neighbor[:32],
                neighbor_vs=neighbor[32:],
            )
        )

    def report_signatures(self, agreed: Terms, updated: bytes = UPDATED) -> tuple[bytes, bytes]:
        digest = signing.report_digest(self.id(agreed), updated, self.domain)
        return signing.sign(self.whose(agreed.learner).key, digest), signing.sign(
            self.whose(agreed.neighbor).key, digest
        )

    def signed_vote(
        self, agreed: Terms, who: LocalAccount, *, valid: bool, reason: VoteReason = VoteReason.ACCURACY
    ) -> bytes:
        return signing.sign(
            who.key, signing.vote_digest(self.id(agreed), UPDATED, self.domain, valid=valid, reason=reason)
        )

    def vote_call(self, agreed: Terms, position: int, *, valid: bool) -> bytes:
        signature = self.signed_vote(agreed, self.voter(agreed, position), valid=valid)
        return calls.encode(
            calls.VoteSigned(
                encounter=self.id(agreed),
                updated=UPDATED,
                panel=self.panel(agreed),
                position=position,
                valid=valid,
                reason=VoteReason.ACCURACY,
                r=signature[:32],
                vs=signature[32:],
            )
        )

    def settle_call(self, agreed: Terms, verdicts: Sequence[bool]) -> bytes:
        ballots = [
            (valid, VoteReason.ACCURACY, self.signed_vote(agreed, self.voter(agreed, position), valid=valid))
            for position, valid in enumerate(verdicts)
        ]
        return calls.encode(
            calls.Settle(
                terms=agreed,
                updated=UPDATED,
                learner_salt=SALTS[0],
                neighbor_salt=SALTS[1],
                evidence=signing.evidence(self.report_signatures(agreed)[2 * sum(verdicts) < len(verdicts)], ballots),
            )
        )

    @staticmethod
    def whose(address: str) -> LocalAccount:
        return next(one for one in PERSONS if one.address == address)

    def vote(self, agreed: Terms, position: int, *, valid: bool, at: int | None = None) -> list[events.Event]:
        return self.send(self.voter(agreed, position), self.ballot(agreed, position, valid=valid), at=at)

    def state(self, agreed: Terms) -> EncounterState:
        return self.read.encounter(self.id(agreed)).state

    # Money

    def accounts(self) -> dict[str, AccountView]:
        return {address: self.read.account(address) for address in self.known}

    def balances(self) -> dict[str, int]:
        return {address: account.total for address, account in self.accounts().items() if account.total}

    def locked(self) -> int:
        return sum(account.locked for account in self.accounts().values())

    def check_conservation(self) -> None:
        """The escrow holds exactly what it owes, and every seat's bit tells the truth."""
        accounts = self.accounts()
        owed = sum(account.total for account in accounts.values()) + self.read.pending_fines()
        assert self.read.balance_of(self.deployment.escrow) == owed
        minimum = self.read.min_stake()
        for address, account in accounts.items():
            if account.seat:
                assert self.read.is_taken(account.seat)
                assert self.read.seat_owner(account.seat) == address
                assert account.leaving_at or account.free + account.locked >= minimum
