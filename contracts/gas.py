"""What an encounter costs in gas: every transaction of it, through either door, on a chain of our own.

Steady state: each device and each lane has been used before, three validators vote, all votes are valid. The paper's
contract needs 457,225 gas for the same (iDML, table of gas costs).
"""

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from eth_account import Account
from eth_account.signers.local import LocalAccount
from hexbytes import HexBytes

from contracts import calls, events, panel, signing
from contracts.deploy import Deployment, deploy_local, reader
from contracts.errors import decode_revert
from contracts.localchain import LocalChain
from contracts.reading import ContractReader
from contracts.states import VoteReason
from contracts.terms import Domain, Terms, algorithm_label, both_salts, commitment, encounter_id

PAPER: Final = 457_225
"""Gas of an encounter in the paper."""

POOL: Final = 50
"""Participants in a batch, and encounters."""

VOTERS: Final = 3

_TOKEN = 10**18
_STAKE = 100 * _TOKEN
_SALTS = (bytes([1]) * 32, bytes([2]) * 32)
_UPDATED = hashlib.sha256(b"updated").digest()
_STEP_GAS = 600_000
_BATCH_GAS = 12_000_000
_FIRST_NONCE = 1_767_225_608
"""Of the size that nonces have in use, where they are times: four bytes, of which calldata pays each."""


class GasMeasureFailed(Exception):
    """A step that has to succeed did not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Gas of one encounter.

    Attributes:
        name: of the row, as in the benchmarks.
        steps: gas of each transaction, or its share of a batch, in order.
    """

    name: str
    steps: tuple[tuple[str, int], ...]

    @property
    def total(self) -> int:
        """Gas of the whole encounter."""
        return sum(gas for _, gas in self.steps)

    def price(self, *, gas_price_gwei: float, usd_per_coin: float) -> tuple[float, float]:
        """The cost in coins of the chain, and in USD."""
        coins = self.total * gas_price_gwei * 1e-9
        return coins, coins * usd_per_coin


@dataclass
class Pool:
    """Devices with stake and seats on one chain."""

    chain: LocalChain
    deployment: Deployment
    read: ContractReader
    people: Sequence[LocalAccount]
    nonces: "itertools.count[int]" = field(default_factory=lambda: itertools.count(_FIRST_NONCE, 8))

    @property
    def domain(self) -> Domain:
        return self.deployment.domain

    def send(self, who: LocalAccount, call: calls.Call, *, gas: int = _STEP_GAS) -> tuple[int, list[events.Event]]:
        """Mine one transaction; return its gas and what it says. Raises `GasMeasureFailed`."""
        tx_hash = self.chain.send(to=self.deployment.escrow, data=calls.encode(call), value_wei=0, sender=who, gas=gas)
        self.chain.mine(self.chain.time_s + 1)
        receipt = self.chain.web3.eth.get_transaction_receipt(HexBytes(tx_hash))
        logs = [events.decode([bytes(one) for one in log["topics"]], bytes(log["data"])) for log in receipt["logs"]]
        found = [one for one in logs if one is not None]
        skipped = [str(decode_revert(one.reason)) for one in found if isinstance(one, events.Skipped)]
        if receipt["status"] != 1 or skipped:
            raise GasMeasureFailed(f"{calls.function_name(call)}: {skipped or 'reverted'}")
        return int(receipt["gasUsed"]), found

    def terms(self, learner: LocalAccount, neighbor: LocalAccount, *, nonce: int) -> Terms:
        now_s = self.chain.time_s
        return Terms(
            learner=learner.address,
            neighbor=neighbor.address,
            algorithm=algorithm_label("oppcl"),
            architecture=hashlib.sha256(b"architecture").digest(),
            previous=hashlib.sha256(b"previous %d" % nonce).digest(),
            reward=_TOKEN,
            tolerance_bps=200,
            parameter_set=0,
            open_by=now_s + 600,
            report_by=now_s + 3_600,
            salts=both_salts(commitment(_SALTS[0]), commitment(_SALTS[1])),
            seats=len(self.people),
            nonce=nonce,
        )

    def whose(self, address: str) -> LocalAccount:
        return next(one for one in self.people if one.address == address)

    def open(self, agreed: Terms) -> calls.Open:
        digest = encounter_id(agreed, self.domain)
        learner, neighbor = (signing.sign(self.whose(who).key, digest) for who in (agreed.learner, agreed.neighbor))
        return calls.Open(
            terms=agreed,
            learner_r=learner[:32],
            learner_vs=learner[32:],
            neighbor_r=neighbor[:32],
            neighbor_vs=neighbor[32:],
        )

    def voters(self, agreed: Terms) -> list[LocalAccount]:
        """Who is on the panel: person n holds seat n + 1."""
        name = encounter_id(agreed, self.domain)
        parties = {self.people.index(self.whose(who)) + 1 for who in (agreed.learner, agreed.neighbor)}
        drawn = panel.draw(
            seed=panel.seed(name, _SALTS),
            seat_count=agreed.seats,
            eligible=lambda _seat: True,
            excluded=parties,
        )
        return [self.people[seat - 1] for seat in drawn]

    def meetings(self) -> list[Terms]:
        """The terms of one encounter for each device as Learner, with another one as Neighbor."""
        pairs = ((place, (7 * place + 3) % POOL) for place in range(POOL))
        return [
            self.terms(
                self.people[one], self.people[other if other != one else (one + 1) % POOL], nonce=next(self.nonces)
            )
            for one, other in pairs
        ]

    def halves(self, agreed: Terms) -> list[calls.ReportSigned]:
        """Each side's half of the report, as devices hand it to a gateway."""
        digest = signing.report_digest(encounter_id(agreed, self.domain), _UPDATED, self.domain)
        learner, neighbor = (signing.sign(self.whose(who).key, digest) for who in (agreed.learner, agreed.neighbor))
        return [
            calls.ReportSigned(
                terms=agreed,
                updated=_UPDATED,
                learner_salt=_SALTS[0],
                neighbor_salt=_SALTS[1],
                signatures=signatures,
            )
            for signatures in (learner + signing.MISSING, signing.MISSING + neighbor)
        ]

    def votes(self, agreed: Terms) -> list[calls.VoteSigned]:
        """The votes of those who are asked, as they hand them to a gateway."""
        name = encounter_id(agreed, self.domain)
        digest = signing.vote_digest(name, _UPDATED, self.domain, valid=True, reason=VoteReason.ACCURACY)
        panel_ = tuple(self.people.index(who) + 1 for who in self.voters(agreed))
        found = []
        for position, who in enumerate(self.voters(agreed)[:VOTERS]):
            signature = signing.sign(who.key, digest)
            found.append(
                calls.VoteSigned(
                    encounter=name,
                    updated=_UPDATED,
                    panel=panel_,
                    position=position,
                    valid=True,
                    reason=VoteReason.ACCURACY,
                    r=signature[:32],
                    vs=signature[32:],
                )
            )
        return found

    def settle(self, agreed: Terms) -> calls.Settle:
        name = encounter_id(agreed, self.domain)
        vote = signing.vote_digest(name, _UPDATED, self.domain, valid=True, reason=VoteReason.ACCURACY)
        ballots = [(True, VoteReason.ACCURACY, signing.sign(who.key, vote)) for who in self.voters(agreed)[:VOTERS]]
        report = signing.sign(self.whose(agreed.learner).key, signing.report_digest(name, _UPDATED, self.domain))
        return calls.Settle(
            terms=agreed,
            updated=_UPDATED,
            learner_salt=_SALTS[0],
            neighbor_salt=_SALTS[1],
            evidence=signing.evidence(report, ballots),
        )


def measure(chain: LocalChain) -> tuple[Cost, ...]:
    """Deploy on a fresh local chain and measure: direct, one encounter alone by signatures, and a batch.

    Raises `GasMeasureFailed`.
    """
    pool = enter(chain)
    for _ in range(2):  # the second of each is in steady state
        direct = _direct(pool)
        alone = _alone(pool)
    return direct, alone, batched(pool)


def enter(chain: LocalChain) -> Pool:
    """Everybody has stake and a seat."""
    deployment = deploy_local(chain)
    people = [Account.from_key(hashlib.sha256(b"gas %d" % number).digest()) for number in range(POOL)]
    pool = Pool(chain=chain, deployment=deployment, read=reader(chain.web3, deployment), people=people)
    chain.fund([one.address for one in people], 10**20)
    entering: tuple[tuple[str, calls.Call, int], ...] = (
        (deployment.token, calls.Buy(nonce=0), _STAKE // 1000),
        (deployment.token, calls.Approve(spender=deployment.escrow, amount=_STAKE), 0),
        (deployment.escrow, calls.Stake(amount=_STAKE, nonce=0), 0),
        (deployment.escrow, calls.RegisterValidator(), 0),
    )
    for target, call, value_wei in entering:
        for one in people:  # one block each: seats are given out in this order
            chain.send(to=target, data=calls.encode(call), value_wei=value_wei, sender=one, gas=_STEP_GAS)
            if isinstance(call, calls.RegisterValidator):
                chain.mine(chain.time_s + 1)
        chain.mine(chain.time_s + 1)
    if pool.read.seat_owner(POOL) != people[-1].address:
        raise GasMeasureFailed("the seats are not in order")
    return pool


def _direct(pool: Pool) -> Cost:
    """Eight transactions, each by the device whose step it is."""
    learner, neighbor = pool.people[:2]
    agreed = replace(pool.terms(learner, neighbor, nonce=next(pool.nonces)), nonce=0)
    report = calls.Report(terms=agreed, updated=_UPDATED, learner_salt=_SALTS[0], neighbor_salt=_SALTS[1])
    steps = [
        ("check-in of the Learner", pool.send(learner, calls.CheckIn(terms=agreed))[0]),
        ("check-in of the Neighbor", pool.send(neighbor, calls.CheckIn(terms=agreed))[0]),
        ("report of the Neighbor", pool.send(neighbor, report)[0]),
    ]
    gas, (started,) = pool.send(learner, report)
    steps.append(("report of the Learner", gas))
    if not isinstance(started, events.VotingStarted):
        raise GasMeasureFailed(f"voting did not start: {started}")
    for position, seat in enumerate(started.panel[:VOTERS]):
        vote = calls.Vote(
            encounter=started.encounter,
            updated=_UPDATED,
            panel=started.panel,
            position=position,
            valid=True,
            reason=VoteReason.ACCURACY,
        )
        steps.append((f"vote {position + 1}", pool.send(pool.people[seat - 1], vote)[0]))
    finalise = calls.Finalise(terms=agreed, updated=_UPDATED, panel=started.panel)
    steps.append(("payment", pool.send(learner, finalise)[0]))
    return Cost(name="gas_direct", steps=tuple(steps))


def _alone(pool: Pool) -> Cost:
    """Two transactions of a relayer: both locks before learning, everything else afterwards."""
    agreed = pool.terms(pool.people[0], pool.people[1], nonce=next(pool.nonces))
    opening = pool.send(pool.people[2], pool.open(agreed))[0]
    settling = pool.send(pool.people[2], pool.settle(agreed))[0]
    return Cost(name="gas_batched_1", steps=(("open", opening), ("settle", settling)))


def batched(pool: Pool) -> Cost:
    """A relayer at work: each transaction settles the last POOL encounters and opens the next POOL."""
    relayer = pool.people[2]
    under_way: list[Terms] = []
    spent = 0
    for _ in range(3):  # the first only opens, and uses some lanes for the first time
        following = pool.meetings()
        items: list[calls.Call] = [*map(pool.settle, under_way), *map(pool.open, following)]
        batch = calls.Batch(calls=tuple(calls.encode(one) for one in items))
        spent, _ = pool.send(relayer, batch, gas=_BATCH_GAS)
        under_way = following
    return Cost(name="gas_batched_50", steps=(("settle one and open the next, share of the batch", spent // POOL),))
