"""The pay table as a pure function in exact integers: the reference that ``Settlement.sol`` mirrors.

One rule for every division: what is paid out rounds down, what is taken rounds up, and the difference is
burned; only where all agree that the work is valid it returns to the Learner, since writing down a fine of a few units
would cost more than it is worth. So nobody gains by choosing odd amounts, and the sum of all movements is zero.
"""

from dataclasses import dataclass
from typing import Final

BPS: Final = 10_000
"""Basis points in a whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterSet:
    """A frozen set of rules; encounters name one by number and never see it change.

    Raises ValueError for what the contract would refuse.

    Attributes:
        validators: V, votes that decide (1 to 7).
        pn_bps: p_n, the Neighbor's share of the reward in 1/10,000; the validators' share is p_v = 1 - p_n.
        q_bps: q, the share of a Neighbor's fine that goes to the validators who voted no.
        bond_bps: a voter's bond as a share of the reward, at least p_v and at most 1.
        standby_delay_s: seconds after which each further standby seat may vote.
        vote_time_s: seconds from the start of voting to its end; with sealed votes also the time for opening them.
        sealed_votes: votes are sealed first, and opened when no more can come.
        retired: no new encounters; those under way keep it.
    """

    validators: int
    pn_bps: int
    q_bps: int
    bond_bps: int
    standby_delay_s: int
    vote_time_s: int
    sealed_votes: bool = False
    retired: bool = False

    def __post_init__(self) -> None:
        for name, low, high in (
            ("validators", 1, 7),
            ("pn_bps", 0, BPS),
            ("q_bps", 0, BPS),
            ("bond_bps", self.pv_bps, BPS),
            ("standby_delay_s", 0, 2**32 - 1),
            ("vote_time_s", 1, 2**32 - 1),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} must be from {low} to {high}, got {value}")

    @property
    def pv_bps(self) -> int:
        """p_v, the validators' share of the reward in 1/10,000."""
        return BPS - self.pn_bps


DEFAULT_PARAMETERS: Final = ParameterSet(
    validators=3, pn_bps=5_000, q_bps=5_000, bond_bps=7_000, standby_delay_s=120, vote_time_s=1_800
)
"""V = 3, p_v = q = 0.5, b = 0.7 r: `idml-contracts audit` chose them (the design starts from p_v = q = b / r = 0.3)."""

DEFAULT_TOLERANCE_BPS: Final = 200
"""tau = 0.02."""

MIN_STAKE_REWARDS: Final = 5
"""The default minimum stake, in rewards."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Payoff:
    """What a settled encounter moves, in token base units.

    ``learner_refund - reward + neighbor_delta + yes * each_yes + no * each_no + burned == 0``; locks that are
    neither spent nor fined return in full on top of this.

    Attributes:
        case: 1 to 5, the row of the pay table.
        learner_refund: the part of the prepayment that returns.
        neighbor_delta: gain, or fine when negative.
        each_yes: gain of each yes voter, or its lost bond when negative.
        each_no: gain of each no voter, or its lost bond when negative.
        burned: destroyed; nobody profits from a fine or from rounding.
    """

    case: int
    learner_refund: int
    neighbor_delta: int
    each_yes: int
    each_no: int
    burned: int


def bond(*, reward: int, parameters: ParameterSet) -> int:
    """What a voter locks, in token base units: the reward's share ``bond_bps``, rounded up."""
    return _ceil(reward * parameters.bond_bps, BPS)


def settle(*, reward: int, yes: int, no: int, parameters: ParameterSet) -> Payoff:
    """Pay an encounter (iDML step 7; cases 1 and 2 are the paper's, 3 to 5 ours).

    Args:
        reward: r, token base units, at least 1.
        yes: t, votes that the contribution was valid.
        no: f, votes that it was not.
        parameters: the set the encounter names.
    """
    if reward < 1 or yes < 0 or no < 0:
        raise ValueError(f"reward {reward} must be at least 1 and votes ({yes}, {no}) at least 0")
    votes = yes + no
    pn, pv, q = parameters.pn_bps, parameters.pv_bps, parameters.q_bps
    lost = bond(reward=reward, parameters=parameters)
    refund = neighbor = each_yes = each_no = 0
    if yes == no:
        case = 5
        refund = reward
    elif no == 0:
        case = 1
        neighbor = reward * pn // BPS
        each_yes = reward * pv // (BPS * yes)
        refund = reward - neighbor - yes * each_yes
    elif yes == 0:
        case = 2
        neighbor = -reward
        each_no = reward * q // (BPS * no)
        refund = reward
    elif yes > no:
        case = 3
        neighbor = reward * pn * yes // (BPS * votes)
        each_yes = reward * pv // (BPS * yes)
        each_no = -lost
        refund = reward * pn * no // (BPS * votes)
    else:
        case = 4
        neighbor = -_ceil(reward * no, votes)
        each_yes = -lost
        each_no = reward * q // (BPS * votes)
        refund = reward
    burned = reward - refund - neighbor - yes * each_yes - no * each_no
    return Payoff(
        case=case,
        learner_refund=refund,
        neighbor_delta=neighbor,
        each_yes=each_yes,
        each_no=each_no,
        burned=burned,
    )


def _ceil(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)
