"""Fees: what is offered at first, and by how much an offer is raised."""

from hypothesis import given
from hypothesis import strategies as st

from contracts.identity import Fees
from gateway.fees import FeeRules, market, raised, takes_the_place_of

GWEI = 10**9
WEI = st.integers(0, 10**15)
RULES = st.builds(
    lambda floor, more, most: FeeRules(tip_floor_wei=floor, usual_tip_wei=floor + more, most_wei=floor + more + most),
    floor=st.integers(0, 50 * GWEI),
    more=st.integers(0, 10 * GWEI),
    most=st.integers(1, 10**13),
)
OFFERS = st.builds(lambda tip, more: Fees(tip_wei=tip, max_fee_wei=tip + more), tip=WEI, more=WEI)
AMOY = FeeRules(tip_floor_wei=25 * GWEI, usual_tip_wei=30 * GWEI, most_wei=1000 * GWEI)


@given(base_fee_wei=WEI, suggested_wei=WEI, rules=RULES, extra_wei=WEI)
def test_the_first_offer_keeps_to_floor_and_cap(
    base_fee_wei: int, suggested_wei: int, rules: FeeRules, extra_wei: int
) -> None:
    fees = market(base_fee_wei, suggested_wei, rules, extra_tip_wei=extra_wei)
    assert rules.tip_floor_wei <= fees.tip_wei <= fees.max_fee_wei <= rules.most_wei


def test_on_amoy_what_nodes_suggest_is_below_the_floor() -> None:
    assert market(15, GWEI, AMOY) == Fees(tip_wei=30 * GWEI, max_fee_wei=30 * GWEI + 30)
    assert market(15, 70 * GWEI, AMOY).tip_wei == 70 * GWEI


@given(old=OFFERS, asked=OFFERS, rules=RULES)
def test_a_raised_offer_takes_the_place_of_the_old_one_and_keeps_to_the_cap(
    old: Fees, asked: Fees, rules: FeeRules
) -> None:
    new = raised(old, asked, rules)
    if new is None:
        # Then not even all that is allowed would do.
        most = Fees(tip_wei=rules.most_wei, max_fee_wei=rules.most_wei)
        assert not takes_the_place_of(most, old) or -(-old.tip_wei * 11 // 10) > rules.most_wei
        return
    assert new.max_fee_wei * 10 >= old.max_fee_wei * 11
    assert new.tip_wei * 10 >= old.tip_wei * 11
    assert new.tip_wei <= new.max_fee_wei <= rules.most_wei
    if asked.max_fee_wei <= rules.most_wei:
        assert new.max_fee_wei >= min(asked.max_fee_wei, rules.most_wei)


def test_an_offer_is_raised_by_a_tenth_rounded_up_or_to_the_market() -> None:
    old = Fees(tip_wei=31, max_fee_wei=101)
    rules = FeeRules(tip_floor_wei=0, usual_tip_wei=0, most_wei=200)
    assert raised(old, Fees(tip_wei=1, max_fee_wei=1), rules) == Fees(tip_wei=35, max_fee_wei=112)
    assert raised(old, Fees(tip_wei=40, max_fee_wei=150), rules) == Fees(tip_wei=40, max_fee_wei=150)
    assert raised(old, Fees(tip_wei=40, max_fee_wei=900), rules) == Fees(tip_wei=40, max_fee_wei=200)
    assert raised(Fees(tip_wei=31, max_fee_wei=190), Fees(tip_wei=1, max_fee_wei=900), rules) is None
