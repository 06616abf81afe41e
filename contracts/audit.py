"""The payoff audit: is honest play the best response, and does every attack lose? Pure.

Payoffs are the exact integers of `contracts.settlement.settle`, for a reward that every division in it divides;
probabilities are floats, and every count of votes is enumerated (nothing is sampled). Money is in rewards (r).

What is assumed:

* One encounter, V votes. A validator that measures sees a signal: it rejects a good contribution with probability
  ``false_alarm`` and accepts a bad one with probability ``miss``. Given the contribution, errors are independent,
  except that in a share ``shared_errors`` of encounters all honest validators see the same signal.
* Everybody knows the share of bad contributions among those voted on, and that the others are honest. A strategy maps
  the signal to a vote; honest, always yes, always no and contrary are all the pure ones, the rest are mixtures.
  Nothing is carried from one encounter to the next (no reputation, no expulsion): real deterrence is stronger.
* A free ride returns the old model, changed just enough to have another digest. The vote rule of iDML step 5,
  accuracy(updated) >= accuracy(previous) - tau, accepts that whenever tau >= 0: ``tolerated`` is 1 by default.
* Poisoning may be worth something outside (``outside_gain``), if it is accepted.
* Seats of a panel are independent draws: a coalition with a share s of the seats gets m of V by the binomial law, which
  is the limit of many seats.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import lru_cache
from math import comb
from typing import Final

from contracts.settlement import BPS, DEFAULT_PARAMETERS, ParameterSet, Payoff, settle

REWARD: Final = BPS * 420 * 10**12
"""r in token base units: a multiple of 10,000 and of every number of votes, so that nothing is lost in rounding."""

ROUNDING: Final = 1e-12
"""Differences below this (in rewards) are the floats'."""


class Voting(Enum):
    """How a validator finds its vote (A5, A9, A10 of the incentive design, and laziness)."""

    HONEST = "honest: measures, votes what it sees"
    ALWAYS_YES = "always yes"
    ALWAYS_NO = "always no"
    RANDOM = "random"
    LAZY = "lazy: the likelier verdict, unmeasured"
    CONTRARY = "contrary: measures, votes the opposite"
    COPY_HIDDEN = "copy, votes hidden: sees none, is lazy"
    COPY_VISIBLE = "copy, votes visible: votes last, with the majority"


class Contributing(Enum):
    """What a Neighbor does for its reward."""

    HONEST = "honest: works"
    POISON = "poison"
    FREE_RIDE = "free ride: returns the old model"


class Scheme(Enum):
    """What a coalition that holds seats of the panel does."""

    POISON = "Neighbor poisons, its seats vote yes"
    ROB = "Learner's seats vote no on good work"
    ALL_NO = "seats always vote no"
    ALL_YES = "seats always vote yes"


class Concern(Enum):
    """What a condition is about."""

    WORTH_VOTING = "honest voting pays"
    BEST_VOTE = "honest voting is the best way of voting"
    WORK = "honest work pays, poisoning does not"
    FREE_RIDE = "free rides lose"
    COALITION = "a minority of a panel cannot be used"
    ALL_NO = "rejecting everything is not the best-paid"
    COLLUSION = "nobody makes money by collusion"


_SHARES = ("bad_share", "measuring_cost", "working_cost", "accident", "tolerated", "shared_errors")


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumptions:
    """What the pay table cannot decide; raises ValueError for what is out of range.

    Attributes:
        false_alarm: probability that an honest validator rejects a good contribution.
        miss: probability that it accepts a bad one.
        bad_share: share of bad contributions among those voted on: malice and accidents.
        measuring_cost: c_v, what measuring costs a validator, in rewards.
        working_cost: c_n, what honest work costs a Neighbor, in rewards.
        accident: probability that honest work turns out bad.
        tolerated: share of free rides that the vote rule's tolerance accepts whatever is measured.
        outside_gain: what an accepted poisoning is worth to the Neighbor outside the contract, in rewards.
        shared_errors: share of encounters in which all honest validators see the same signal.
        votes_visible: a voter sees the votes cast before its own (the shipped design hides them).
    """

    false_alarm: float = 0.1
    miss: float = 0.1
    bad_share: float = 0.2
    measuring_cost: float = 0.02
    working_cost: float = 0.1
    accident: float = 0.05
    tolerated: float = 1.0
    outside_gain: float = 0.0
    shared_errors: float = 0.0
    votes_visible: bool = False

    def __post_init__(self) -> None:
        highest = {"false_alarm": 0.5, "miss": 0.5, "outside_gain": 1e6} | dict.fromkeys(_SHARES, 1.0)
        for name, high in highest.items():
            if not 0 <= getattr(self, name) <= high:
                raise ValueError(f"{name} must be from 0 to {high:g}, got {getattr(self, name):g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One inequality that must hold.

    Attributes:
        name: what must hold.
        concern: what it is about.
        margin: by how much it holds, in rewards; negative where it fails.
        exact: equality is enough, as for the conservation of money; the others must hold with room.
    """

    name: str
    concern: Concern
    margin: float
    exact: bool = False

    @property
    def holds(self) -> bool:
        """Whether it holds."""
        return self.margin >= -ROUNDING if self.exact else self.margin > ROUNDING


@lru_cache(maxsize=4096)
def pay_table(parameters: ParameterSet) -> tuple[Payoff, ...]:
    """What a full panel pays with 0, 1, ... V yes votes (token base units, for `REWARD`)."""
    votes = parameters.validators
    return tuple(settle(reward=REWARD, yes=yes, no=votes - yes, parameters=parameters) for yes in range(votes + 1))


@lru_cache(maxsize=65536)
def chances(number: int, probability: float) -> tuple[float, ...]:
    """The binomial probabilities of 0, 1, ... `number` successes."""
    return tuple(comb(number, k) * probability**k * (1 - probability) ** (number - k) for k in range(number + 1))


def voting_profit(strategy: Voting, parameters: ParameterSet, assume: Assumptions) -> float:
    """Expected profit of one validator while the others are honest, in rewards."""
    table = pay_table(parameters)
    total = 0.0
    for weight, sees_yes in ((1 - assume.bad_share, 1 - assume.false_alarm), (assume.bad_share, assume.miss)):
        for chance, own, yes in _signals(parameters.validators - 1, sees_yes, assume.shared_errors):
            votes_yes = _vote(strategy, own, yes, parameters.validators - 1, assume)
            paid = votes_yes * table[yes + 1].each_yes + (1 - votes_yes) * table[yes].each_no
            total += weight * chance * paid / REWARD
    return total - (assume.measuring_cost if strategy in (Voting.HONEST, Voting.CONTRARY) else 0)


def contributing_profit(strategy: Contributing, parameters: ParameterSet, assume: Assumptions) -> float:
    """Expected profit of a Neighbor before honest validators, in rewards."""
    good, bad = 1 - assume.false_alarm, assume.miss
    if strategy is Contributing.HONEST:
        worth = (1 - assume.accident) * _fee(good, parameters, assume) + assume.accident * _fee(bad, parameters, assume)
        return worth - assume.working_cost
    if strategy is Contributing.POISON:
        return coalition_profit(Scheme.POISON, 0, parameters, assume)
    return _fee(assume.tolerated + (1 - assume.tolerated) * bad, parameters, assume)


def coalition_profit(scheme: Scheme, seats: int, parameters: ParameterSet, assume: Assumptions) -> float:
    """Expected profit of a coalition that holds `seats` seats of a panel, the others being honest, in rewards.

    For `Scheme.POISON` it is what Neighbor and seats get (A8); for the others what they get more than by honest play
    (a Learner that is paid back for work it received robs the Neighbor; cartels: A9).
    """
    if scheme is Scheme.POISON:
        return _together(scheme, seats, assume.miss, parameters, assume)
    if scheme is Scheme.ROB:
        honest = replace(assume, bad_share=0.0)
        good = 1 - assume.false_alarm
        usual = _mean(lambda pay: pay.learner_refund - REWARD, parameters.validators, good, parameters, assume)
        usual += seats * voting_profit(Voting.HONEST, parameters, honest)
        return _together(scheme, seats, good, parameters, assume) - usual
    total = 0.0
    for weight, sees_yes in ((1 - assume.bad_share, 1 - assume.false_alarm), (assume.bad_share, assume.miss)):
        total += weight * _together(scheme, seats, sees_yes, parameters, assume)
    return total - seats * voting_profit(Voting.HONEST, parameters, assume)


def share_profit(scheme: Scheme, share: float, parameters: ParameterSet, assume: Assumptions) -> float:
    """Expected profit of a coalition that holds a share of all seats, over the draw of the panel, in rewards."""
    size = parameters.validators
    gains = _gains(scheme, parameters, assume)
    return sum(chance * gains[seats] for seats, chance in enumerate(chances(size, share)))


def break_even_share(scheme: Scheme, parameters: ParameterSet, assume: Assumptions) -> float | None:
    """The smallest share of all seats (to 0.001) from which on a scheme pays; None if it never does."""
    return next(
        (n / 1000 for n in range(1, 1001) if share_profit(scheme, n / 1000, parameters, assume) > ROUNDING), None
    )


def collusion_surplus(parameters: ParameterSet) -> float:
    """The most that Learner, Neighbor and any of the validators can gain together, in rewards (A7): never above 0."""
    best = -float(REWARD)
    for yes, pay in enumerate(pay_table(parameters)):
        parties = pay.learner_refund - REWARD + pay.neighbor_delta
        for ours_yes in range(yes + 1):
            for ours_no in range(parameters.validators - yes + 1):
                best = max(best, parties + ours_yes * pay.each_yes + ours_no * pay.each_no)
    return best / REWARD


def seats_profit(seats: int, of: int, parameters: ParameterSet, assume: Assumptions) -> float:
    """Expected profit per encounter of who holds `seats` of `of` seats honestly, in rewards (A5).

    Each seat needs the minimum stake and is drawn like any other: twice the seats are twice the stake and twice the
    profit, whatever names they go by.
    """
    return parameters.validators * seats / of * voting_profit(Voting.HONEST, parameters, assume)


def voting_conditions(parameters: ParameterSet, assume: Assumptions) -> Iterator[Condition]:
    """Yield what must hold for a validator: `Concern.WORTH_VOTING` and `Concern.BEST_VOTE`."""
    honest = voting_profit(Voting.HONEST, parameters, assume)
    yield Condition(name="honest voting pays", concern=Concern.WORTH_VOTING, margin=honest)
    for other in Voting:
        if other is Voting.HONEST or (other is Voting.COPY_VISIBLE and not assume.votes_visible):
            continue
        label = other.value.split(":")[0]
        margin = honest - voting_profit(other, parameters, assume)
        yield Condition(name=f"honest voting beats {label}", concern=Concern.BEST_VOTE, margin=margin)


@lru_cache(maxsize=65536)
def conditions(parameters: ParameterSet, assume: Assumptions) -> tuple[Condition, ...]:
    """Everything that must hold; the parameters lie inside the region where all of it does."""
    found = list(voting_conditions(parameters, assume))
    honest = contributing_profit(Contributing.HONEST, parameters, assume)
    poison = contributing_profit(Contributing.POISON, parameters, assume)
    ride = contributing_profit(Contributing.FREE_RIDE, parameters, assume)
    found += [
        Condition(name="honest work pays", concern=Concern.WORK, margin=honest),
        Condition(name="poisoning loses", concern=Concern.WORK, margin=-poison),
        Condition(name="honest work beats poisoning", concern=Concern.WORK, margin=honest - poison),
        Condition(name="a free ride loses", concern=Concern.FREE_RIDE, margin=-ride),
        Condition(name="honest work beats a free ride", concern=Concern.FREE_RIDE, margin=honest - ride),
    ]
    for scheme, name in (
        (Scheme.POISON, "poisoning with a minority of the panel loses (A8)"),
        (Scheme.ROB, "rejecting good work with a minority of the panel loses"),
    ):
        minorities = range(1, (parameters.validators + 1) // 2)
        gains = [coalition_profit(scheme, seats, parameters, assume) for seats in minorities]
        if gains:
            found.append(Condition(name=name, concern=Concern.COALITION, margin=-max(gains)))
    table = pay_table(parameters)
    found += [
        Condition(
            name="a panel that rejects all is paid no more than one that accepts (A9)",
            concern=Concern.ALL_NO,
            margin=(table[-1].each_yes - table[0].each_no) / REWARD,
            exact=True,
        ),
        Condition(
            name="Learner, Neighbor and validators gain nothing together (A7)",
            concern=Concern.COLLUSION,
            margin=-collusion_surplus(parameters),
            exact=True,
        ),
    ]
    return tuple(found)


def aside(found: Iterable[Condition]) -> tuple[Condition, ...]:
    """All but the free rides, which the vote rule decides and not the pay table."""
    return tuple(one for one in found if one.concern is not Concern.FREE_RIDE)


def least(found: Sequence[Condition]) -> Condition:
    """The condition that decides: the first exact one that fails, else the one with the smallest margin."""
    broken = [one for one in found if one.exact and not one.holds]
    return broken[0] if broken else min((one for one in found if not one.exact), key=lambda one: one.margin)


def needed_rejection(parameters: ParameterSet, assume: Assumptions) -> float | None:
    """The probability (to 0.001) with which each validator must reject a contribution so that it loses."""
    for n in range(1001):
        if _fee(1 - n / 1000, parameters, assume) <= 0:
            return n / 1000
    return None


def holding(
    name: str, values: Iterable[float], vary: Callable[[float], tuple[ParameterSet, Assumptions]]
) -> tuple[float, float] | None:
    """The least and the largest of `values` for which the condition called `name` holds; None if there is none."""
    good = [value for value in values if all(one.holds for one in conditions(*vary(value)) if one.name == name)]
    return (good[0], good[-1]) if good else None


PLAUSIBLE: Final = {
    "error_rate": tuple(round(0.02 + 0.23 * n / 10, 4) for n in range(11)),
    "bad_share": tuple(round(0.02 + 0.48 * n / 12, 4) for n in range(13)),
    "measuring_cost": (0.0, 0.01, 0.02, 0.035, 0.05),
}
"""The ranges that devices can be expected in; the error rate is both `false_alarm` and `miss`."""


def coverage(parameters: ParameterSet, assume: Assumptions) -> float:
    """The share of the `PLAUSIBLE` points that lie inside, free rides aside."""
    held = [all(one.holds for one in aside(conditions(parameters, point))) for point in _points(assume)]
    return sum(held) / len(held)


def paper(parameters: ParameterSet = DEFAULT_PARAMETERS) -> ParameterSet:
    """The same parameters with the paper's q = 1: the whole fine goes to the validators."""
    return replace(parameters, q_bps=BPS)


def _points(assume: Assumptions) -> Iterator[Assumptions]:
    for error in PLAUSIBLE["error_rate"]:
        for bad in PLAUSIBLE["bad_share"]:
            for cost in PLAUSIBLE["measuring_cost"]:
                yield replace(assume, false_alarm=error, miss=error, bad_share=bad, measuring_cost=cost)


def _signals(number: int, sees_yes: float, shared: float) -> Iterator[tuple[float, float, int]]:
    """Yield (chance, probability that an own signal is yes, yes signals among `number` honest validators)."""
    for yes, chance in enumerate(chances(number, sees_yes)):
        yield (1 - shared) * chance, sees_yes, yes
    if shared:
        yield shared * sees_yes, 1.0, number
        yield shared * (1 - sees_yes), 0.0, 0


def _vote(strategy: Voting, own: float, yes: int, others: int, assume: Assumptions) -> float:
    """The probability of a yes vote, where `own` is that of a yes signal and `yes` of `others` vote yes."""
    unmeasured = 1.0 if assume.bad_share <= 0.5 else 0.0
    match strategy:
        case Voting.HONEST:
            return own
        case Voting.CONTRARY:
            return 1 - own
        case Voting.ALWAYS_YES:
            return 1.0
        case Voting.ALWAYS_NO:
            return 0.0
        case Voting.RANDOM:
            return 0.5
        case Voting.LAZY | Voting.COPY_HIDDEN:
            return unmeasured
        case Voting.COPY_VISIBLE:
            return unmeasured if 2 * yes == others else float(2 * yes > others)


def _mean(
    value: Callable[[Payoff], int],
    number: int,
    sees_yes: float,
    parameters: ParameterSet,
    assume: Assumptions,
    *,
    ours: int = 0,
) -> float:
    """The mean of a payoff in rewards over the votes of `number` honest validators, with `ours` yes votes added."""
    table = pay_table(parameters)
    signals = _signals(number, sees_yes, assume.shared_errors)
    return sum(chance * value(table[yes + ours]) for chance, _, yes in signals) / REWARD


def _fee(sees_yes: float, parameters: ParameterSet, assume: Assumptions) -> float:
    return _mean(lambda pay: pay.neighbor_delta, parameters.validators, sees_yes, parameters, assume)


def _together(scheme: Scheme, seats: int, sees_yes: float, parameters: ParameterSet, assume: Assumptions) -> float:
    accepting = scheme in (Scheme.POISON, Scheme.ALL_YES)
    worth = round(assume.outside_gain * REWARD)

    def value(pay: Payoff) -> int:
        mine = seats * (pay.each_yes if accepting else pay.each_no)
        if scheme is Scheme.POISON:
            return mine + pay.neighbor_delta + (worth if pay.case in (1, 3) else 0)
        return mine + (pay.learner_refund - REWARD if scheme is Scheme.ROB else 0)

    number = parameters.validators - seats
    return _mean(value, number, sees_yes, parameters, assume, ours=seats if accepting else 0)


@lru_cache(maxsize=4096)
def _gains(scheme: Scheme, parameters: ParameterSet, assume: Assumptions) -> tuple[float, ...]:
    return tuple(coalition_profit(scheme, seats, parameters, assume) for seats in range(parameters.validators + 1))
