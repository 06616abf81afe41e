"""What to offer for gas: the market's price, and how to raise an offer that nobody takes. Pure; wei per gas.

A node drops the older of two transactions of one nonce only if the newer pays at least a tenth more of both, tip and
cap (Geth's `PriceBump`, Bor's and Ganache's too). So an offer is raised by ceil(old x 1.1), or to the market's price
where that is higher. Where the cap would be exceeded it is not raised at all: the node would refuse less.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from contracts.identity import Fees

_RAISED_PERCENT: Final = 110
_HEADROOM: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class FeeRules:
    """How one chain is paid.

    Attributes:
        tip_floor_wei: the least tip with which the chain's nodes take a transaction.
        usual_tip_wei: what in practice gets it into a block soon.
        most_wei: no transaction of the gateway's own offers more than this, tip included.
    """

    tip_floor_wei: int
    usual_tip_wei: int
    most_wei: int


def market(base_fee_wei: int, suggested_tip_wei: int, rules: FeeRules, *, extra_tip_wei: int = 0) -> Fees:
    """Return what to offer at first: a cap that stays valid through six full blocks (twice the base fee).

    Args:
        base_fee_wei: of the newest block.
        suggested_tip_wei: as the node suggests it; nodes of Polygon suggest less than the floor.
        rules: of the chain.
        extra_tip_wei: on top.
    """
    tip_wei = max(suggested_tip_wei, rules.usual_tip_wei, rules.tip_floor_wei) + extra_tip_wei
    tip_wei = min(tip_wei, rules.most_wei)
    return Fees(tip_wei=tip_wei, max_fee_wei=min(base_fee_wei * _HEADROOM + tip_wei, rules.most_wei))


def raised(old: Fees, asked: Fees, rules: FeeRules) -> Fees | None:
    """Return the offer that takes the place of `old`, None where it would exceed the cap.

    Args:
        old: the highest offer made so far.
        asked: the market's price now.
        rules: of the chain.
    """
    tip_wei = max(_raised(old.tip_wei), asked.tip_wei)
    max_fee_wei = max(_raised(old.max_fee_wei), asked.max_fee_wei, tip_wei)
    if max_fee_wei > rules.most_wei:
        # As much as is allowed, if that is enough to take the place of the old one.
        max_fee_wei, tip_wei = rules.most_wei, min(tip_wei, rules.most_wei)
    new = Fees(tip_wei=tip_wei, max_fee_wei=max_fee_wei)
    return new if takes_the_place_of(new, old) else None


def takes_the_place_of(new: Fees, old: Fees) -> bool:
    """Return whether nodes let an offer push out another one of the same nonce."""
    return new.tip_wei >= _raised(old.tip_wei) and new.max_fee_wei >= _raised(old.max_fee_wei)


def _raised(wei: int) -> int:
    return -(-wei * _RAISED_PERCENT // 100)
