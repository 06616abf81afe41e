"""Random whole lives of encounters, on the contract and on a reference of a few lines side by side."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from contract_field import PERSONS, SALTS, STAKE, TOKEN, UPDATED, Field
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from test_signed_door import report_signed

from contracts import calls, reverts
from contracts.settlement import DEFAULT_PARAMETERS, bond, settle
from contracts.states import EncounterState
from contracts.terms import Terms

MIN_STAKE = 5 * TOKEN
V = DEFAULT_PARAMETERS.validators
PEOPLE = range(8)
RELAYER = PERSONS[15]


@dataclass
class Life:
    """What the reference knows of an encounter that is under way."""

    terms: Terms
    state: EncounterState = EncounterState.OPEN
    end: int = 0
    votes: dict[str, bool] = field(default_factory=dict)
    positions: set[int] = field(default_factory=set)


class Lives(RuleBasedStateMachine):
    """Every rule foretells what the contract does, refusals included; after each, every balance is compared."""

    rig: Field

    def __init__(self) -> None:
        super().__init__()
        self.snapshot = self.rig.chain.request("evm_snapshot")
        self.free = {one.address: STAKE for one in PERSONS[:12]}
        self.locked = dict.fromkeys(self.free, 0)
        self.burned = 0
        self.lives: list[Life] = []
        self.nonces = 0

    def teardown(self) -> None:
        self.rig.panels.clear()
        assert self.rig.chain.request("evm_revert", [self.snapshot])

    def lock(self, who: str, amount: int) -> None:
        self.free[who] -= amount
        self.locked[who] += amount

    def release(self, who: str, amount: int, delta: int) -> None:
        self.locked[who] -= amount
        self.free[who] += amount + delta

    def pay(self, life: Life, *, bonded: bool) -> None:
        reward, yes = life.terms.reward, sum(life.votes.values())
        paid = settle(reward=reward, yes=yes, no=len(life.votes) - yes, parameters=DEFAULT_PARAMETERS)
        self.release(life.terms.learner, reward, paid.learner_refund - reward)
        self.release(life.terms.neighbor, reward, paid.neighbor_delta)
        for voter, valid in life.votes.items():
            held = bond(reward=reward, parameters=DEFAULT_PARAMETERS) if bonded else 0
            self.release(voter, held, paid.each_yes if valid else paid.each_no)
        self.burned += paid.burned
        self.lives.remove(life)

    def some(self, data: st.DataObject, *states: EncounterState) -> Life:
        return data.draw(st.sampled_from([one for one in self.lives if one.state in states]))

    def any(self, *states: EncounterState) -> bool:
        return any(one.state in states for one in self.lives)

    @precondition(lambda self: len(self.lives) < 4)
    @rule(
        pair=st.tuples(st.sampled_from(PEOPLE), st.sampled_from(PEOPLE)).filter(lambda pair: pair[0] != pair[1]),
        reward=st.one_of(st.integers(1, 5), st.integers(1, 40 * TOKEN)),
        signed=st.booleans(),
    )
    def meet(self, pair: tuple[int, int], reward: int, signed: bool) -> None:
        self.nonces += 1
        terms = self.rig.terms(learner=pair[0], neighbor=pair[1], reward=reward, nonce=self.nonces if signed else 0)
        able = [self.free[who] >= MIN_STAKE + reward for who in (terms.learner, terms.neighbor)]
        if signed:
            lane_free = not any(
                one.terms.learner == terms.learner and one.terms.nonce % 8 == terms.nonce % 8
                for one in self.lives
                if one.terms.nonce and one.state is EncounterState.OPEN
            )
            if not (all(able) and lane_free):
                refused = self.rig.refused(RELAYER, self.rig.open_call(terms))
                assert isinstance(refused, reverts.InsufficientFree | reverts.LaneBusy)
                return
            self.rig.send(RELAYER, self.rig.open_call(terms))
        else:
            if not all(able):
                who = self.rig.whose((terms.learner, terms.neighbor)[able.index(False)])
                assert isinstance(self.rig.refused(who, calls.encode_check_in(terms)), reverts.InsufficientFree)
                return
            for address in (terms.learner, terms.neighbor):
                self.rig.send(self.rig.whose(address), calls.encode_check_in(terms))
        self.lock(terms.learner, reward)
        self.lock(terms.neighbor, reward)
        self.lives.append(Life(terms=terms))

    @precondition(lambda self: self.any(EncounterState.OPEN))
    @rule(data=st.data())
    def report(self, data: st.DataObject) -> None:
        life = self.some(data, EncounterState.OPEN)
        if life.terms.nonce and data.draw(st.booleans()):
            self.rig.send(RELAYER, report_signed(self.rig, life.terms))
        else:
            for address in (life.terms.neighbor, life.terms.learner):
                self.rig.send(self.rig.whose(address), calls.encode_report(life.terms, UPDATED, *SALTS))
        life.state, life.end = EncounterState.REPORTED, self.rig.now + DEFAULT_PARAMETERS.vote_time_s

    @precondition(lambda self: self.any(EncounterState.REPORTED))
    @rule(data=st.data(), position=st.integers(0, V - 1), valid=st.booleans())
    def vote(self, data: st.DataObject, position: int, valid: bool) -> None:
        life = self.some(data, EncounterState.REPORTED)
        voter = self.rig.voter(life.terms, position)
        held = bond(reward=life.terms.reward, parameters=DEFAULT_PARAMETERS)
        ballot = self.rig.ballot(life.terms, position, valid=valid)
        if position in life.positions or self.free[voter.address] < held:
            refused = self.rig.refused(voter, ballot)
            assert isinstance(refused, reverts.AlreadyVoted | reverts.InsufficientFree)
            return
        self.rig.send(voter, ballot)
        self.lock(voter.address, held)
        life.votes[voter.address] = valid
        life.positions.add(position)

    @precondition(lambda self: self.any(EncounterState.REPORTED))
    @rule(data=st.data(), wait=st.booleans())
    def finalise(self, data: st.DataObject, wait: bool) -> None:
        life = self.some(data, EncounterState.REPORTED)
        call = self.rig.finalise(life.terms)
        if len(life.votes) < V and not wait:
            assert isinstance(self.rig.refused(RELAYER, call), reverts.VotesMissing)
            return
        if len(life.votes) < V and len(self.lives) > 1:
            return  # waiting would end the others too
        self.rig.send(RELAYER, call, at=None if len(life.votes) == V else life.end + 1)
        self.pay(life, bonded=True)

    @precondition(lambda self: any(one.terms.nonce and one.state is EncounterState.OPEN for one in self.lives))
    @rule(data=st.data(), cast=st.lists(st.booleans(), min_size=V, max_size=V))
    def settle(self, data: st.DataObject, cast: list[bool]) -> None:
        signed = [one for one in self.lives if one.terms.nonce and one.state is EncounterState.OPEN]
        life = data.draw(st.sampled_from(signed))
        voters = [self.rig.voter(life.terms, position).address for position in range(V)]
        held = bond(reward=life.terms.reward, parameters=DEFAULT_PARAMETERS)
        if any(self.free[one] < held for one in voters):
            return  # what cannot be found is not burned: test_signed_door
        self.rig.send(RELAYER, self.rig.settle_call(life.terms, cast))
        life.votes = dict(zip(voters, cast, strict=True))
        self.pay(life, bonded=False)

    @precondition(lambda self: len(self.lives) == 1 and self.lives[0].state is EncounterState.OPEN)
    @rule()
    def expire(self) -> None:
        (life,) = self.lives
        end = life.terms.report_by + (DEFAULT_PARAMETERS.vote_time_s if life.terms.nonce else 0)
        call = calls.encode_expire(life.terms)
        assert isinstance(self.rig.refused(RELAYER, call, at=end), reverts.TooEarly)
        self.rig.send(RELAYER, call)
        for who in (life.terms.learner, life.terms.neighbor):
            self.release(who, life.terms.reward, 0)
        self.lives.clear()

    @invariant()
    def every_balance_is_the_references(self) -> None:
        for who in self.free:
            account = self.rig.read.account(who)
            assert (account.free, account.locked) == (self.free[who], self.locked[who])
        assert self.rig.read.pending_fines() == self.burned


@pytest.fixture
def lives(embedded_field: Field) -> Iterator[type[Lives]]:
    snapshot = embedded_field.chain.request("evm_snapshot")
    embedded_field.chain.fund([RELAYER.address], 10**20)
    Lives.rig = embedded_field
    yield Lives
    assert embedded_field.chain.request("evm_revert", [snapshot])


def test_random_lives_go_as_the_reference_says(lives: type[Lives]) -> None:
    run_state_machine_as_test(
        lives,
        settings=settings(
            max_examples=settings.default.max_examples // 12,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
