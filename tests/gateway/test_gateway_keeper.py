"""Which encounters the keeper looks at, and when again."""

from dataclasses import replace

import pytest
from gateway_rig import ALICE, BOB, UPDATED, Rig
from signed_calls import half, opening

from contracts import calls
from contracts.settlement import DEFAULT_PARAMETERS
from contracts.terms import Terms
from gateway import keeper
from gateway.accounts import Accounts
from gateway.cases import Cases
from gateway.encounters import GRACE_S
from gateway.keeper import Keeper


def post(rig: Rig, call: calls.Call) -> None:
    assert rig.client.post("/v1/operations", json={"call": "0x" + calls.encode(call).hex()}).status_code == 202


def left_alone(rig: Rig, *, report: bool = False) -> list[Terms]:
    """Two encounters whose time is over: open, or reported on and with nobody to vote."""
    for who in (ALICE, BOB):
        rig.join(who)
    rig.step()
    found = [replace(rig.terms(), nonce=nonce) for nonce in (16, 17)]
    for agreed in found:
        post(rig, opening(agreed, rig.deployment.domain, ALICE, BOB))
        rig.step()
    for agreed in found if report else ():
        for who in (ALICE, BOB):
            post(rig, half(agreed, rig.deployment.domain, who))
    rig.step()
    rig.mine(found[1].report_by + DEFAULT_PARAMETERS.vote_time_s + GRACE_S + 1)
    rig.worker.confirm()
    return found


def looked_at(rig: Rig) -> dict[str, calls.Call]:
    """What the keeper would end in one step."""
    cases = Cases(
        store=rig.store,
        accounts=Accounts(store=rig.store, node=rig.node, deployment=rig.deployment),
        domain=rig.deployment.domain,
        now_s=lambda: rig.now_s,
    )
    found = Keeper(store=rig.store, cases=cases)
    now_s = rig.chain.time_s
    items = found.items(found.due(chain_time_s=now_s), owners={}, chain_time_s=now_s)
    return {encounter: item.call for encounter, item in items}


def test_what_waits_to_end_an_encounter_starves_no_other(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "_AT_ONCE", 1)
    first, second = left_alone(rig)
    post(rig, calls.Expire(terms=first))
    assert looked_at(rig) == {}
    assert looked_at(rig) == {rig.id(second): calls.Expire(terms=second)}


def test_a_payment_with_another_panel_than_there_is_keeps_the_keeper_from_nothing(rig: Rig) -> None:
    """Anyone may hand one in."""
    first, _ = left_alone(rig, report=True)
    post(rig, calls.Finalise(terms=first, updated=UPDATED, panel=(1,)))
    assert looked_at(rig)[rig.id(first)] == calls.Finalise(terms=first, updated=UPDATED, panel=())
