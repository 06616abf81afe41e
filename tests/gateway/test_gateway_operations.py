"""Signed operations on their way through a gateway: taken, held, batched, and told what became of them."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from gateway_rig import ALICE, BOB, OPERATOR, PERSONS, RESEND_AFTER_S, STAKE, TOKEN, UPDATED, Rig, on_both_databases
from signed_calls import act, ballot, half, opening, permit

from contracts import calls, signing
from contracts.bounds import MOST, batch_gas
from contracts.chain import PROFILES
from contracts.deploy import reader
from contracts.identity import Fees
from contracts.localchain import open_chain
from contracts.settlement import DEFAULT_PARAMETERS, settle
from contracts.states import ActionKind
from contracts.terms import Domain, Terms
from gateway import composer
from gateway.composer import MAX_CALLS
from gateway.operation import TAKEN
from gateway.store import Store
from gateway.submission import State
from gateway.transaction import MAX_BATCH_BYTES, MAX_RAW_BYTES, read

VALIDATORS = PERSONS[2:]
RULES = DEFAULT_PARAMETERS
NONCE = 16


def joined(rig: Rig) -> Rig:
    for who in PERSONS:
        rig.join(who, validator=who in VALIDATORS)
    rig.step()
    return rig


@pytest.fixture
def field(rig: Rig) -> Rig:
    """Learner, Neighbor and six validators, on the embedded chain."""
    return joined(rig)


@pytest.fixture(params=["embedded", *(pytest.param(kind, marks=pytest.mark.chain) for kind in ("anvil", "ganache"))])
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    with open_chain(request.param) as chain:
        rig = Rig(chain=chain, deployment=Rig.deployed(chain), folder=tmp_path, profile=PROFILES[request.param])
        yield joined(rig)
        rig.database.close()


def domain(rig: Rig) -> Domain:
    return rig.deployment.domain


def post(rig: Rig, call: calls.Call) -> Any:
    return rig.client.post("/v1/operations", json={"call": "0x" + calls.encode(call).hex()})


def taken(rig: Rig, call: calls.Call) -> str:
    response = post(rig, call)
    assert response.status_code == 202, response.json
    return str(response.json["id"])


def refused(rig: Rig, call: calls.Call) -> tuple[int, str]:
    response = post(rig, call)
    return response.status_code, response.json["error"]["code"]


def operation(rig: Rig, key: str) -> dict[str, Any]:
    return rig.get(f"/v1/operations/{key}")


def signed_terms(rig: Rig, nonce: int = NONCE, **changes: Any) -> Terms:
    return replace(rig.terms(), nonce=nonce, **changes)


def opened(rig: Rig, nonce: int = NONCE, **changes: Any) -> Terms:
    agreed = signed_terms(rig, nonce, **changes)
    taken(rig, opening(agreed, domain(rig), ALICE, BOB))
    rig.step()
    assert view(rig, agreed)["state"] == "open"
    return agreed


def reported(rig: Rig, *sides: Any, **changes: Any) -> Terms:
    agreed = opened(rig, **changes)
    for who in sides or (ALICE, BOB):
        taken(rig, half(agreed, domain(rig), who))
    return agreed


def view(rig: Rig, agreed: Terms) -> dict[str, Any]:
    return rig.get(f"/v1/encounters/{rig.id(agreed)}")


def job(rig: Rig, who: Any) -> dict[str, Any] | None:
    found = rig.get(f"/v1/jobs?validator={who.address}")["jobs"]
    return found[0] if found else None


def by_position(rig: Rig) -> list[Any]:
    """The validators that are asked, by their position on the panel."""
    asked = {who: job(rig, who) for who in VALIDATORS}
    return sorted((who for who in VALIDATORS if asked[who]), key=lambda who: asked[who]["position"])


def vote(rig: Rig, agreed: Terms, who: Any, *, valid: bool) -> str:
    asked = job(rig, who)
    assert asked is not None
    panel, position = tuple(asked["panel"]), asked["position"]
    return taken(rig, ballot(agreed, domain(rig), who, valid=valid, panel=panel, position=position))


def paid(rig: Rig, act: Callable[[], None]) -> dict[str, int]:
    """How everybody's stake changed while `act` was done."""
    read = reader(rig.chain.web3, rig.deployment)
    before = {who.address: read.account(who.address).total for who in PERSONS}
    act()
    return {who: read.account(who).total - total for who, total in before.items()}


def expected(cast: dict[str, bool], reward: int = TOKEN) -> dict[str, int]:
    yes = sum(cast.values())
    pay = settle(reward=reward, yes=yes, no=len(cast) - yes, parameters=RULES)
    found = dict.fromkeys((who.address for who in PERSONS), 0)
    found[ALICE.address] = pay.learner_refund - reward
    found[BOB.address] = pay.neighbor_delta
    for voter, valid in cast.items():
        found[voter] += pay.each_yes if valid else pay.each_no
    return found


# -- the short way ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cast", [(True,) * 3, (False,) * 3, (True, False, True), (False, True, False)])
def test_an_encounter_is_opened_judged_and_paid_in_two_calls(anywhere: Rig, cast: tuple[bool, ...]) -> None:
    rig = anywhere
    agreed = reported(rig)
    assert view(rig, agreed)["state"] == "open"  # nothing of the report is on chain
    voters = by_position(rig)[:3]
    keys = [vote(rig, agreed, who, valid=valid) for who, valid in zip(voters, cast, strict=True)]
    votes = {who.address: valid for who, valid in zip(voters, cast, strict=True)}
    assert paid(rig, rig.step) == expected(votes)
    shown = view(rig, agreed)
    assert (shown["state"], shown["yes"], shown["no"]) == ("settled", sum(cast), 3 - sum(cast))
    assert shown["updated"] == "0x" + UPDATED.hex()
    assert {one["voter"]: one["valid"] for one in shown["votes"]} == votes
    assert {operation(rig, key)["state"] for key in keys} == {"final"}
    assert len({operation(rig, key)["transaction"] for key in keys}) == 1
    names = [one["name"] for one in rig.get("/v1/events")["events"] if one["encounter"] == rig.id(agreed)]
    assert names == ["Opened", "VoteCast", "VoteCast", "VoteCast", "Settled"]


@on_both_databases
def test_what_comes_together_goes_in_one_batch(field: Rig) -> None:
    first, second = signed_terms(field, 16), signed_terms(field, 17)
    keys = [taken(field, opening(one, domain(field), ALICE, BOB)) for one in (first, second)]
    assert [operation(field, key)["state"] for key in keys] == ["waiting", "waiting"]
    assert field.worker.compose() == 2
    assert [operation(field, key)["state"] for key in keys] == ["accepted", "accepted"]
    field.step()
    assert len({operation(field, key)["transaction"] for key in keys}) == 1
    assert [view(field, one)["state"] for one in (first, second)] == ["open", "open"]
    rows = [one for one in field.get("/v1/events")["events"] if one["name"] == "Opened"]
    assert [(one["function"], one["place"]) for one in rows] == [("openSigned", 0), ("openSigned", 1)]
    assert len({one["gas"] for one in rows}) == 1


def test_joining_by_signature_needs_coin_for_the_purchase_only(rig: Rig) -> None:
    who = VALIDATORS[0]
    token = Domain(chain_id=rig.deployment.chain_id, escrow=rig.deployment.token)
    rig.accepted(rig.buy(who))
    keys = [
        taken(rig, permit(who, token, rig.deployment.escrow, STAKE)),
        taken(rig, act(who, domain(rig), ActionKind.STAKE, amount=STAKE, nonce=0)),
        taken(rig, act(who, domain(rig), ActionKind.REGISTER, nonce=1)),
    ]
    assert rig.get(f"/v1/accounts/{who.address}")["permit_nonce"] == 0
    rig.worker.confirm()
    for _ in range(3):  # each waits for the one before
        rig.step()
    assert {operation(rig, key)["state"] for key in keys} == {"final"}
    account = rig.get(f"/v1/accounts/{who.address}")
    assert (account["free"], account["seat"], account["permit_nonce"]) == (STAKE, 1, 1)
    assert rig.nonce(who) == 1


def test_the_neighbors_report_is_enough_once_the_learners_time_is_over(field: Rig) -> None:
    agreed = reported(field, BOB)
    assert job(field, VALIDATORS[0]) is None
    field.mine(agreed.report_by + 1)
    field.worker.confirm()
    voters = by_position(field)
    for who in voters[:3]:
        vote(field, agreed, who, valid=True)
    field.step()
    assert view(field, agreed)["state"] == "settled"


def test_sides_that_disagree_wait_until_the_learners_time_is_over(field: Rig) -> None:
    agreed = opened(field)
    taken(field, half(agreed, domain(field), ALICE, b"\7" * 32))
    taken(field, half(agreed, domain(field), BOB))
    assert by_position(field) == []
    field.mine(agreed.report_by + 1)
    field.worker.confirm()
    assert job(field, by_position(field)[0])["updated"] == "0x" + UPDATED.hex()


def test_a_vote_is_shown_to_nobody_before_it_is_on_chain(field: Rig) -> None:
    agreed = reported(field)
    voters = by_position(field)
    vote(field, agreed, voters[0], valid=False)
    assert view(field, agreed)["votes"] == []
    assert job(field, voters[0]) is None  # has voted
    assert set(job(field, voters[1])) == {
        "encounter", "terms", "updated", "panel", "position", "opens_at_s", "vote_by"
    }  # fmt: skip


# -- the long way -----------------------------------------------------------------------------------------------------


def test_a_silent_validator_is_replaced_step_by_step(anywhere: Rig) -> None:
    rig = anywhere
    agreed = reported(rig)
    voters = by_position(rig)
    for who in voters[:2]:
        vote(rig, agreed, who, valid=True)
    rig.step()
    assert view(rig, agreed)["state"] == "open"  # it is waited for
    rig.now_s += RULES.standby_delay_s + 1
    rig.step()
    assert view(rig, agreed)["state"] == "reported"
    rig.step()
    assert view(rig, agreed)["votes"] == []  # two votes decide nothing yet: they stay hidden
    begun = view(rig, agreed)["voting_since"]
    rig.mine(begun + RULES.standby_delay_s + 1)
    rig.worker.confirm()
    assert job(rig, voters[2]) is not None
    standby = voters[3]
    assert job(rig, standby)["opens_at_s"] <= rig.chain.time_s
    vote(rig, agreed, standby, valid=True)
    rig.step()
    shown = view(rig, agreed)
    cast = {who.address: True for who in (*voters[:2], standby)}
    assert {one["voter"]: one["valid"] for one in shown["votes"]} == cast
    taken(rig, calls.Finalise(terms=agreed, updated=UPDATED, panel=tuple(shown["panel"])))
    assert paid(rig, rig.step) == expected(cast)
    assert view(rig, agreed)["state"] == "settled"


def test_votes_that_are_too_few_are_shown_shortly_before_the_end(field: Rig) -> None:
    agreed = reported(field)
    first = by_position(field)[0]
    vote(field, agreed, first, valid=False)
    field.now_s += RULES.standby_delay_s + 1
    field.step()
    field.step()
    assert view(field, agreed)["votes"] == []
    field.mine(view(field, agreed)["vote_by"] - RULES.vote_time_s // 4)
    field.worker.confirm()
    field.step()
    assert len(view(field, agreed)["votes"]) == 1


def test_without_validators_the_report_starts_a_voting_of_nobody(rig: Rig) -> None:
    for who in (ALICE, BOB):
        rig.join(who)
    rig.step()
    agreed = reported(rig)
    rig.step()
    shown = view(rig, agreed)
    assert (shown["state"], shown["panel"]) == ("reported", [])
    taken(rig, calls.Finalise(terms=agreed, updated=UPDATED, panel=()))
    assert paid(rig, rig.step) == dict.fromkeys((who.address for who in PERSONS), 0)
    assert view(rig, agreed)["state"] == "settled"


def test_where_votes_are_sealed_the_report_starts_the_voting_on_chain(field: Rig) -> None:
    sealed = replace(RULES, sealed_votes=True)
    field.chain.transact(to=field.deployment.escrow, data=calls.encode_add_parameter_set(1, sealed))
    field.worker.confirm()
    agreed = reported(field, parameter_set=1)
    assert by_position(field) == []
    field.step()
    assert view(field, agreed)["state"] == "reported"


def test_an_encounter_nobody_reports_on_expires_by_anyones_operation(field: Rig) -> None:
    agreed = opened(field)
    key = taken(field, calls.Expire(terms=agreed))
    field.step()
    assert operation(field, key)["state"] == "waiting"
    assert "TooEarly" in operation(field, key)["note"]
    field.mine(agreed.report_by + RULES.vote_time_s + 1)
    field.worker.confirm()
    field.step()
    assert operation(field, key)["state"] == "final"
    assert view(field, agreed)["state"] == "expired"


def test_an_operator_without_coin_says_so_and_loses_nothing(field: Rig) -> None:
    key = taken(field, opening(signed_terms(field), domain(field), ALICE, BOB))
    held = field.chain.web3.eth.get_balance(OPERATOR.address)
    away, _ = OPERATOR.sign(
        chain_id=field.deployment.chain_id,
        nonce=0,
        target=ALICE.address,
        data=b"",
        gas=21_000,
        fees=Fees(tip_wei=(held - 10**9) // 21_000, max_fee_wei=(held - 10**9) // 21_000),
    )
    field.chain.web3.eth.send_raw_transaction(away)
    field.mine()
    field.worker.confirm()
    assert field.worker.compose() == 0
    assert "send it coin" in operation(field, key)["note"]
    shown = field.get("/readyz")
    assert shown["operator"]["address"] == OPERATOR.address
    assert shown["operator"]["native_wei"] < 10**18
    assert shown["operations_waiting"] == 1
    field.chain.fund([OPERATOR.address], 10**20)
    field.worker.confirm()
    field.step()
    assert operation(field, key)["state"] == "final"


# -- what is refused, skipped, lost -----------------------------------------------------------------------------------


def test_what_an_encounter_needs_no_more_is_over_once_its_end_is_final(deep: Rig) -> None:
    field = joined(deep)
    for _ in range(3):
        field.step()
    agreed = reported(field)
    key = taken(field, calls.Expire(terms=agreed))
    for who in by_position(field)[:3]:
        vote(field, agreed, who, valid=True)
    field.step()
    assert view(field, agreed)["state"] == "settled"
    field.step()
    assert operation(field, key)["state"] == "waiting"  # a reorganisation may open it again
    for _ in range(4):
        field.step()
    assert operation(field, key)["state"] == "over"


def test_the_same_operation_again_is_the_record_there_is(field: Rig) -> None:
    call = opening(signed_terms(field), domain(field), ALICE, BOB)
    key = taken(field, call)
    again = post(field, call)
    assert (again.status_code, again.json["id"]) == (200, key)
    field.step()
    assert post(field, call).json["state"] == "final"
    assert field.worker.compose() == 0


@on_both_databases
def test_a_second_word_of_the_same_account_is_refused(field: Rig) -> None:
    agreed = reported(field)
    assert refused(field, half(agreed, domain(field), BOB, b"\7" * 32)) == (409, "already_held")
    voter = by_position(field)[0]
    vote(field, agreed, voter, valid=True)
    assert refused(field, ballot(agreed, domain(field), voter, valid=False)) == (409, "already_held")


def test_what_is_out_of_place_is_refused_by_name(field: Rig) -> None:
    here = domain(field)
    agreed = signed_terms(field)
    assert refused(field, half(agreed, here, BOB)) == (409, "wrong_state")
    assert post(field, half(agreed, here, BOB)).json["error"]["retry"] is True
    field.mine(agreed.report_by + RULES.vote_time_s + 1)
    field.worker.confirm()
    assert post(field, half(agreed, here, BOB)).json["error"]["retry"] is False
    unknown_rules = replace(agreed, parameter_set=9)
    assert refused(field, opening(unknown_rules, here, ALICE, BOB)) == (404, "not_found")
    open_one = opened(field)
    assert refused(field, ballot(open_one, here, VALIDATORS[0])) == (422, "not_on_panel")
    for who in (ALICE, BOB):
        taken(field, half(open_one, here, who))
    assert refused(field, ballot(open_one, here, ALICE)) == (422, "not_on_panel")
    field.mine(open_one.report_by + RULES.vote_time_s + 1)
    field.worker.confirm()
    taken(field, calls.Expire(terms=open_one))
    field.step()
    assert refused(field, half(open_one, here, BOB, b"\7" * 32)) == (409, "wrong_state")


def test_an_opening_that_the_chain_refuses_waits_until_its_time_is_over(
    field: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    agreed = signed_terms(field, reward=2 * STAKE)
    key = taken(field, opening(agreed, domain(field), ALICE, BOB))
    with monkeypatch.context() as patch:
        patch.setattr(field.node, "fees", None)  # nobody asks what a batch of nothing costs
        field.step()
    shown = operation(field, key)
    assert (shown["state"], shown["transaction"]) == ("waiting", None)
    assert "InsufficientFree" in shown["note"]
    field.mine(agreed.open_by + 1)
    field.worker.confirm()
    field.step()
    assert operation(field, key)["state"] == "over"
    assert field.provider.sends == field.provider.sends[: len(PERSONS) * 4]  # no batch ever left


@on_both_databases
def test_a_call_that_is_skipped_waits_again_and_spoils_nothing(field: Rig) -> None:
    """Each alone would do; together the Learner lacks stake for the second."""
    first, second = (signed_terms(field, nonce, reward=STAKE * 2 // 3) for nonce in (16, 17))
    keys = [taken(field, opening(one, domain(field), ALICE, BOB)) for one in (first, second)]
    assert field.worker.compose() == 2
    field.step()
    assert [view(field, one)["state"] for one in (first, second)] == ["open", "none"]
    assert [operation(field, key)["state"] for key in keys] == ["final", "waiting"]
    assert "InsufficientFree" in operation(field, keys[1])["note"]
    (skipped,) = [one for one in field.get("/v1/events")["events"] if one["name"] == "Skipped"]
    assert (skipped["place"], skipped["function"], skipped["encounter"]) == (1, "openSigned", field.id(second))
    field.step()
    assert operation(field, keys[1])["state"] == "waiting"


@on_both_databases
def test_a_batch_whose_nonce_is_taken_is_composed_anew(field: Rig) -> None:
    agreed = signed_terms(field)
    key = taken(field, opening(agreed, domain(field), ALICE, BOB))
    field.worker.compose()
    lost = operation(field, key)["transaction"]
    rival, _ = OPERATOR.sign(
        chain_id=field.deployment.chain_id,
        nonce=0,
        target=field.deployment.escrow,
        data=calls.encode(calls.Batch(calls=())),
        gas=100_000,
        fees=Fees(tip_wei=10**9, max_fee_wei=10**11),
    )
    field.chain.web3.eth.send_raw_transaction(rival)
    field.mine()
    field.worker.confirm()
    for _ in range(3):
        field.step()
    assert field.state(lost) is State.SUPERSEDED
    assert operation(field, key)["state"] == "final"
    assert operation(field, key)["transaction"] != lost
    assert view(field, agreed)["state"] == "open"


@on_both_databases
def test_a_reorganisation_sends_the_batch_again(deep: Rig) -> None:
    field = joined(deep)
    for _ in range(3):
        field.step()
    snapshot = field.chain.request("evm_snapshot")
    agreed = opened(field)
    assert field.chain.request("evm_revert", [snapshot])
    field.mine(field.chain.time_s + 5)
    field.mine()
    field.worker.confirm()
    assert view(field, agreed)["state"] == "none"
    for _ in range(4):
        field.now_s += 100
        field.step()
    assert view(field, agreed)["state"] == "open"
    assert reader(field.chain.web3, field.deployment).lane(ALICE.address, NONCE).busy


def test_nothing_is_composed_while_a_batch_is_on_its_way(field: Rig) -> None:
    taken(field, opening(signed_terms(field, 16), domain(field), ALICE, BOB))
    assert field.worker.compose() == 1
    taken(field, opening(signed_terms(field, 17), domain(field), ALICE, BOB))
    assert field.worker.compose() == 0
    field.worker.broadcast()
    assert field.worker.compose() == 0
    field.step()
    assert field.worker.compose() == 1


def test_what_is_too_much_for_one_batch_goes_into_the_next(field: Rig) -> None:
    keys = [taken(field, one) for one in unbondings(field, MAX_CALLS + 3)]
    assert field.worker.compose() == MAX_CALLS
    field.step()
    assert field.worker.compose() == 3
    field.step()
    assert {operation(field, key)["state"] for key in keys} == {"final"}
    rows = [one for one in field.get("/v1/events")["events"] if one["name"] == "Unbonding"]
    assert [one["place"] for one in rows] == [*range(MAX_CALLS), *range(3)]


def unbondings(field: Rig, number: int) -> list[calls.Call]:
    return [act(VALIDATORS[0], domain(field), ActionKind.UNBOND, amount=1, nonce=100 + n) for n in range(number)]


@pytest.mark.parametrize("changes", [{"most_gas": 1_000_000}, {"block_gas": 2_000_000}])
def test_a_batch_asks_for_no_more_gas_than_a_transaction_may_and_half_of_a_block_has(
    field: Rig, changes: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    if "most_gas" in changes:
        field.node.profile = replace(field.node.profile, most_gas=changes["most_gas"])
    else:
        monkeypatch.setattr(field.node, "block_gas_limit", lambda: changes["block_gas"])
    some = unbondings(field, 12)
    for one in some:
        taken(field, one)
    composed = field.worker.compose()
    (batch,) = field.store.unsettled()
    gas = read(batch.newest.raw, most_bytes=MAX_BATCH_BYTES).gas
    assert gas == batch_gas(some[:composed]) <= 1_000_000 < batch_gas(some[: composed + 1])
    field.step()
    assert field.worker.compose() == 12 - composed


def test_a_batch_is_no_longer_than_nodes_take(field: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(composer, "MAX_BATCH_BYTES", 4_000)
    for one in unbondings(field, 20):
        taken(field, one)
    composed = field.worker.compose()
    (batch,) = field.store.unsettled()
    assert 0 < composed < 20
    assert len(batch.newest.raw) <= 4_000


def test_on_a_slow_node_what_was_tried_so_far_goes(field: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(composer, "_TRYING_S", -1.0)
    refused = opening(signed_terms(field, reward=2 * STAKE), domain(field), ALICE, BOB)
    for one in (refused, *unbondings(field, 2)):
        taken(field, one)
    assert field.worker.compose() == 1
    field.step()
    assert field.worker.compose() == 1


def test_an_opening_goes_right_behind_the_settlement_that_vacates_its_lane(anywhere: Rig) -> None:
    rig = anywhere
    agreed = reported(rig)
    following, third = (signed_terms(rig, NONCE + step) for step in (8, 16))
    keys = [taken(rig, opening(one, domain(rig), ALICE, BOB)) for one in (following, third)]
    rig.step()
    assert "LaneBusy" in operation(rig, keys[0])["note"]
    for who in by_position(rig)[:3]:
        vote(rig, agreed, who, valid=True)
    assert rig.worker.compose() == 2
    rig.step()
    assert [view(rig, one)["state"] for one in (agreed, following, third)] == ["settled", "open", "none"]
    assert operation(rig, keys[1])["state"] == "waiting"  # one settlement vacates a lane for one


def test_every_kind_of_operation_has_a_bound_that_its_calldata_does_not_reach(field: Rig) -> None:
    assert set(TAKEN) <= set(MOST)
    taken(field, opening(signed_terms(field), domain(field), ALICE, BOB))
    field.worker.compose()
    (batch,) = field.store.unsettled()
    signed = read(batch.newest.raw, most_bytes=MAX_BATCH_BYTES)
    assert signed.least_gas < signed.gas


def test_a_batch_of_many_openings_is_sent_again_for_more(field: Rig) -> None:
    """It is longer than any transaction of a device."""
    many = [signed_terms(field, nonce) for nonce in range(16, 24)]
    for one in many:
        taken(field, opening(one, domain(field), ALICE, BOB))
    many = [replace(one, learner=BOB.address, neighbor=ALICE.address) for one in many]
    for one in many:
        taken(field, opening(one, domain(field), BOB, ALICE))
    assert field.worker.compose() == 16
    field.worker.broadcast()
    (batch,) = field.store.unsettled()
    assert len(batch.newest.raw) > MAX_RAW_BYTES
    field.now_s += RESEND_AFTER_S
    assert field.worker.broadcast() == 1
    field.mine()
    field.worker.confirm()
    found = field.store.submission(batch.id)
    assert (found.state, len(found.attempts)) == (State.FINAL, 2)
    assert found.attempts[1].fees.max_fee_wei > found.attempts[0].fees.max_fee_wei


@on_both_databases
def test_another_worker_on_the_same_database_does_no_harm(field: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    key = taken(field, opening(signed_terms(field), domain(field), ALICE, BOB))
    begin = Store.begin_batch

    def late(store: Store, checked: Any, carried: Any, *, now_s: float) -> bool:
        assert begin(store, checked, carried, now_s=now_s)  # the other one was faster, with the same nonce
        return begin(store, replace(checked, digest=bytes(32)), carried, now_s=now_s)

    monkeypatch.setattr(Store, "begin_batch", late)
    assert field.worker.compose() == 0
    field.step()
    assert operation(field, key)["state"] == "final"


@on_both_databases
def test_a_restarted_gateway_goes_on_where_it_was(field: Rig) -> None:
    agreed = reported(field)
    for who in by_position(field)[:3]:
        vote(field, agreed, who, valid=True)
    field.worker.compose()
    field.restart()
    field.step()
    assert view(field, agreed)["state"] == "settled"


def test_the_report_of_the_side_that_pays_is_what_goes_to_the_chain(field: Rig) -> None:
    """The verdict valid costs the Learner: its signature is the evidence."""
    agreed = reported(field)
    for who in by_position(field)[:3]:
        vote(field, agreed, who, valid=True)
    field.worker.compose()
    (batch,) = [one for one in field.store.unsettled() if one.function == "batch"]
    sent = calls.decode(_input(batch.newest.raw))
    assert isinstance(sent, calls.Batch)
    settled = calls.decode(sent.calls[0])
    assert isinstance(settled, calls.Settle)
    report, ballots = signing.read_evidence(settled.evidence)
    encounter = bytes.fromhex(field.id(agreed)[2:])
    assert signing.signer(signing.report_digest(encounter, UPDATED, domain(field)), report) == ALICE.address
    assert len(ballots) == 3


def _input(raw: bytes) -> bytes:
    import rlp  # noqa: PLC0415

    return bytes(rlp.decode(raw[1:])[7])
