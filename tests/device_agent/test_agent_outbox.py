"""The outbox and getting in: nonces, refusals, restarts; and a gateway whose answers make no sense."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from typing import Any

import pytest
from agent_rig import ESCROW, FACTS, SETTINGS, FakeGateway, FakeTransport, account
from eth_account.typed_transactions import TypedTransaction
from eth_utils.address import to_checksum_address
from hexbytes import HexBytes

from contracts import calls
from contracts.identity import Fees, Identity
from device_agent.errors import GatewayRefused, GatewayUnreachable
from device_agent.gateway import AccountFacts, GatewayClient
from device_agent.journal import Journal, NewOperation
from device_agent.outbox import Outbox
from device_agent.staking import join, joined_before
from device_agent.transport import Response

ME = Identity(b"\x03" * 32)


def refusal(code: str = "gas_above_cap", *, retry: bool = False) -> GatewayRefused:
    return GatewayRefused(422, code, "no", retry=retry)


def outbox(journal: Journal, gateway: FakeGateway, given_up: list[str] | None = None) -> Outbox:
    def refused(label: str, _reason: str) -> None:
        if given_up is not None:
            given_up.append(label)

    return Outbox(
        journal,
        gateway,  # type: ignore[arg-type]
        ME,
        extra_tip_wei=0,
        observe=lambda *_, **__: None,
        refused=refused,
    )


def enter(journal: Journal, *labels: str) -> None:
    journal.enter(*(NewOperation(target=ESCROW, data=label.encode(), label=label) for label in labels))


def sent(gateway: FakeGateway) -> list[tuple[int, bytes]]:
    fields = [TypedTransaction.from_bytes(HexBytes(raw)).as_dict() for raw in gateway.submitted]
    return [(one["nonce"], bytes(one["data"])) for one in fields]


def test_operations_leave_in_order(journal: Journal) -> None:
    gateway = FakeGateway()
    enter(journal, "a", "b", "c")
    assert asyncio.run(outbox(journal, gateway).pump()) == 3
    assert sent(gateway) == [(0, b"a"), (1, b"b"), (2, b"c")]


def test_a_refusal_in_the_middle_frees_its_nonce_and_is_told(journal: Journal) -> None:
    gateway, given_up = FakeGateway(submits=[None, refusal(), None]), []
    enter(journal, "a", "b", "c")
    assert asyncio.run(outbox(journal, gateway, given_up).pump()) == 2
    assert sent(gateway) == [(0, b"a"), (1, b"c")]
    assert given_up == ["b"]
    assert journal.undelivered() == []


@pytest.mark.parametrize("fault", [refusal("nonce_taken"), refusal(retry=True)])
def test_a_refusal_for_now_stops_the_queue_and_is_tried_again(journal: Journal, fault: GatewayRefused) -> None:
    gateway, given_up = FakeGateway(submits=[fault]), []
    enter(journal, "a", "b")
    one = outbox(journal, gateway, given_up)
    assert asyncio.run(one.pump()) == 0
    gateway.first_nonce = 4
    assert asyncio.run(one.pump()) == 2
    assert sent(gateway)[0][0] == 4
    assert given_up == []


def test_what_was_signed_is_sent_again_as_it_is_whatever_the_fees(journal: Journal) -> None:
    gateway = FakeGateway(submits=[GatewayUnreachable("the answer was lost")])
    enter(journal, "a")
    asyncio.run(outbox(journal, gateway).pump())
    (before,) = journal.undelivered()
    gateway.facts = dataclasses.replace(FACTS, fees=Fees(tip_wei=7, max_fee_wei=700))
    asyncio.run(outbox(journal, gateway).pump())  # as after a restart
    assert gateway.submitted == [before.raw]


def test_two_callers_at_once_send_everything_once(journal: Journal) -> None:
    gateway = FakeGateway()
    enter(journal, "a", "b")

    async def main() -> None:
        one = outbox(journal, gateway)
        await asyncio.gather(one.pump(), one.pump(), one.pump())

    asyncio.run(main())
    assert sent(gateway) == [(0, b"a"), (1, b"b")]


def test_a_gateway_without_memory_gets_everything_again(journal: Journal) -> None:
    first, second = FakeGateway(), FakeGateway()
    enter(journal, "a", "b")
    asyncio.run(outbox(journal, first).pump())
    enter(journal, "c")
    one = outbox(journal, second)
    asyncio.run(one.pump())
    asyncio.run(one.pump())
    assert second.submitted[:2] == first.submitted
    assert sent(second) == [(0, b"a"), (1, b"b"), (2, b"c")]


def test_a_gap_that_stays_is_filled(journal: Journal) -> None:
    gateway = FakeGateway()
    enter(journal, "a", "b")
    one = outbox(journal, gateway)
    asyncio.run(one.pump())
    gateway.nonce = 1  # "b" is dead there, whatever we do
    enter(journal, "c")
    for _ in range(3):
        asyncio.run(one.pump())
    assert (1, b"c") in sent(gateway)
    assert journal.undelivered() == []


# -- staking ----------------------------------------------------------------------------------------------------------


def test_what_gets_a_device_in_is_entered_once_whatever_comes_between(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = FakeGateway(submits=[None, refusal(retry=True), GatewayUnreachable("down")])
    real, naps = asyncio.sleep, 0

    async def nap(seconds: float) -> None:
        nonlocal naps
        await real(0)
        if seconds == 0:
            return
        naps += 1
        if naps == 6:
            gateway.accounts[ME.address] = account()

    monkeypatch.setattr("device_agent.staking.asyncio.sleep", nap)
    gateway.accounts[ME.address] = account(free=0, seat=0)

    async def main() -> None:
        for _ in range(2):  # the second is a restart
            await join(
                identity=ME,
                gateway=gateway,  # type: ignore[arg-type]
                journal=journal,
                outbox=outbox(journal, gateway),
                settings=SETTINGS,
                observe=lambda *_, **__: None,
            )

    asyncio.run(main())
    assert len({data for _, data in sent(gateway)}) == len(sent(gateway)) == 4
    assert journal.undelivered() == []


def get_in(
    journal: Journal,
    gateway: FakeGateway,
    monkeypatch: pytest.MonkeyPatch,
    *before: AccountFacts,
    after: AccountFacts | None = None,
) -> tuple[list[calls.Call], list[object]]:
    """Join while the chain shows one account after the other; return the calls it came to, and what was waited for."""
    waited: list[object] = []
    shown = [*before, after or account()]
    done = len(gateway.submitted)
    real = asyncio.sleep

    async def nap(seconds: float) -> None:
        await real(0)
        if seconds:
            gateway.accounts[ME.address] = shown.pop(0)

    def observe(name: str, **fields: object) -> None:
        waited.extend([fields["reason"]] if name == "waiting" else [])

    monkeypatch.setattr("device_agent.staking.asyncio.sleep", nap)
    gateway.accounts[ME.address] = shown.pop(0)
    one = outbox(journal, gateway)
    asyncio.run(
        join(
            identity=ME,
            gateway=gateway,  # type: ignore[arg-type]
            journal=journal,
            outbox=one,
            settings=SETTINGS,
            observe=observe,
        )
    )
    return [calls.decode(data) for _, data in sent(gateway)[done:]], waited


NEW = account(free=0, seat=0)
FINED = account(free=FACTS.min_stake - 7, seat=0)


def test_a_second_stake_takes_another_nonce_and_fills_up_what_is_lacking(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = FakeGateway()
    assert not joined_before(journal)
    first, _ = get_in(journal, gateway, monkeypatch, NEW, NEW)
    assert joined_before(journal)
    assert get_in(journal, gateway, monkeypatch)[0] == []  # a start with stake and seat
    second, _ = get_in(journal, gateway, monkeypatch, FINED, FINED)
    third, _ = get_in(journal, gateway, monkeypatch, FINED)
    lacking = SETTINGS.stake - FINED.free
    for nonce, amount, found in ((0, SETTINGS.stake, first), (1, lacking, second), (2, lacking, third)):
        assert found == [
            calls.Buy(nonce=nonce),
            calls.Approve(spender=to_checksum_address(ESCROW), amount=amount),
            calls.Stake(amount=amount, nonce=2 * nonce),
            calls.RegisterValidator(),
        ]


def test_a_restart_within_a_round_enters_nothing_again(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = FakeGateway()
    get_in(journal, gateway, monkeypatch, NEW)
    interrupted = FakeGateway(submits=[RuntimeError("killed")], first_nonce=4)
    with pytest.raises(RuntimeError):
        get_in(journal, interrupted, monkeypatch, FINED)
    found, _ = get_in(journal, gateway, monkeypatch, FINED, FINED)
    assert [one.nonce for one in found if isinstance(one, calls.Stake)] == [2]
    assert len(found) == 4


def test_who_has_the_stake_but_no_seat_only_registers_once_enough_of_it_is_free(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = FakeGateway()
    get_in(journal, gateway, monkeypatch, NEW)
    bound = account(free=0, locked=SETTINGS.stake, seat=0)
    assert get_in(journal, gateway, monkeypatch, bound, bound)[0] == []
    assert get_in(journal, gateway, monkeypatch, account(seat=0))[0] == [calls.RegisterValidator()]
    assert get_in(journal, gateway, monkeypatch, account(seat=0))[0] == [calls.RegisterValidator()]


def test_a_stake_that_cannot_be_paid_for_is_not_bought(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    poor = account(free=0, seat=0, native_wei=SETTINGS.stake - 3)
    found, waited = get_in(journal, FakeGateway(), monkeypatch, poor, poor)
    assert (found, waited) == ([], ["3 wei are missing to buy the stake"] * 2)


# -- a gateway that answers nonsense ----------------------------------------------------------------------------------

_CHAIN: dict[str, Any] = {
    "chain_id": 1,
    "escrow": ESCROW,
    "token": ESCROW,
    "chain_time_s": 1,
    "min_stake": 1,
    "seat_count": 1,
    "tokens_per_wei": 1,
    "tip_wei": 1,
    "max_fee_wei": 1,
    "parameter_sets": {},
}
_ENCOUNTER: dict[str, Any] = {
    "state": "open",
    "salts": None,
    "updated": None,
    "panel": [],
    "vote_by": None,
    "yes": 0,
    "no": 0,
    "chain_time_s": 0,
}
_SENSIBLE_CHAIN = _CHAIN | {
    "next_nonce": 1 << 70, "native_wei": 0, "tokens": 0, "free": 0, "locked": 0, "seat": 0, "active": True
}  # fmt: skip
"""Sensible about the chain, not about the account."""


@pytest.mark.parametrize(
    "answer",
    [
        {},
        [],
        "x",
        _CHAIN | {"escrow": 7},
        _CHAIN | {"escrow": "0x00"},
        _CHAIN | {"tokens_per_wei": 0},
        _CHAIN | {"min_stake": True},
        _CHAIN | {"seat_count": 1 << 24},
        _CHAIN | {"chain_time_s": "now"},
        _CHAIN | {"chain_time_s": 0},
        _CHAIN | {"parameter_sets": []},
        _CHAIN | {"parameter_sets": {"0": {"validators": 9}}},
        _SENSIBLE_CHAIN,
        _ENCOUNTER | {"state": "nowhere"},
        _ENCOUNTER | {"updated": "0xzz"},
        _ENCOUNTER | {"state": "reported"},
        _ENCOUNTER | {"panel": [0]},
        _ENCOUNTER | {"panel": "12"},
        _ENCOUNTER | {"panel": list(range(1, 10))},
        _ENCOUNTER | {"salts": ["0x" + "00" * 32]},
        _ENCOUNTER | {"salts": {"0x": 1}},
        {"jobs": [None], "chain_time_s": 0},
        {"jobs": [{"encounter": "0x" + "0" * 64, "terms": {}}], "chain_time_s": 0},
    ],
)
def test_an_answer_that_makes_no_sense_counts_as_none(answer: object) -> None:
    transport = FakeTransport(Response(status=200, body=json.dumps(answer).encode()))

    async def main() -> None:
        client = GatewayClient("http://gateway", transport=transport)
        if answer != _SENSIBLE_CHAIN:
            with pytest.raises(GatewayUnreachable):
                await client.chain()
        for ask in (client.account("0x"), client.submit(b""), client.encounter(b""), client.jobs("0x")):
            with pytest.raises(GatewayUnreachable):
                await ask
        await client.close()

    asyncio.run(main())


@pytest.mark.parametrize("body", [b"\xff", b"[" * 100_000, b"{", b"9" * 5000])
def test_an_answer_that_is_no_json_counts_as_none(body: bytes) -> None:
    for status, fault in ((200, GatewayUnreachable), (500, GatewayUnreachable), (400, GatewayRefused)):
        transport = FakeTransport(Response(status=status, body=body))
        with pytest.raises(fault):
            asyncio.run(GatewayClient("http://gateway", transport=transport).chain())


@pytest.mark.parametrize("body", [b"x" * 101, b"other bytes"])
def test_a_model_that_is_too_large_or_another_one_is_refused(body: bytes) -> None:
    transport = FakeTransport(Response(status=200, body=body))
    with pytest.raises(GatewayRefused):
        asyncio.run(GatewayClient("http://gateway", transport=transport).get_model(b"d" * 32, max_bytes=100))
