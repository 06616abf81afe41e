"""What a device last knew of the chain."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from agent_rig import FACTS, FakeGateway, StillClock, account
from agent_values import LEARNER, NEIGHBOR

from device_agent.errors import GatewayUnreachable
from device_agent.gateway import AccountFacts, ChainFacts
from device_agent.journal import Journal
from device_agent.last_view import LastView

T = TypeVar("T")


class FarGateway(FakeGateway):
    """A gateway that can be out of reach; counts what it is asked."""

    asked = 0

    async def chain(self) -> ChainFacts:
        self._reach()
        return self.facts

    async def account(self, address: str) -> AccountFacts:
        self._reach()
        return self.accounts.get(address) or account()

    def _reach(self) -> None:
        self.asked += 1
        if self.away:
            raise GatewayUnreachable("nobody there")


class Rig:
    """A view, its gateway and its clock."""

    def __init__(self, journal: Journal) -> None:
        self.gateway, self.clock, self.journal = FarGateway(), StillClock(), journal
        self.view = self.fresh()

    def fresh(self) -> LastView:
        return LastView(self.gateway, self.journal, self.clock)  # type: ignore[arg-type]

    def does(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return asyncio.run(call())


@pytest.fixture
def rig(journal: Journal) -> Rig:
    return Rig(journal)


def test_a_new_device_knows_nothing_and_says_so(rig: Rig) -> None:
    rig.gateway.away = True
    assert (rig.view.last, rig.view.age_s) == (None, None)
    assert rig.does(rig.view.now) is None
    assert rig.does(lambda: rig.view.free(LEARNER)) is None
    with pytest.raises(GatewayUnreachable):
        rig.does(rig.view.known)


def test_away_the_chains_time_goes_on_with_the_devices_own(rig: Rig) -> None:
    assert rig.does(rig.view.now) == FACTS
    rig.gateway.away = True
    rig.clock.now_s += 100.9
    assert rig.does(rig.view.now) is None
    assert rig.view.last == replace(FACTS, chain_time_s=FACTS.chain_time_s + 100)
    assert rig.view.age_s == pytest.approx(100.9)


def test_a_restart_forgets_nothing_and_goes_by_the_wall_clock(rig: Rig) -> None:
    rig.does(rig.view.ask)
    rig.does(lambda: rig.view.free(LEARNER))
    rig.gateway.away = True
    rig.clock.now_s += 3600
    after = rig.fresh()
    assert after.last == replace(FACTS, chain_time_s=FACTS.chain_time_s + 3600)
    assert rig.does(lambda: after.free(LEARNER)) == account().free


def test_a_wall_clock_that_went_back_takes_no_time_from_the_chain(rig: Rig) -> None:
    rig.does(rig.view.ask)
    rig.clock.now_s -= 86_400
    assert rig.fresh().last == FACTS


def test_stakes_are_as_they_are_now_or_were_last(rig: Rig) -> None:
    rig.gateway.accounts = {LEARNER: account(free=7)}
    assert rig.does(lambda: rig.view.free(LEARNER)) == 7
    rig.gateway.accounts = {LEARNER: account(free=5)}
    assert rig.does(lambda: rig.view.free(LEARNER)) == 5
    rig.gateway.away = True
    assert rig.does(lambda: rig.view.free(LEARNER)) == 5


def test_who_was_asked_for_in_vain_is_known_once_the_gateway_is_back(rig: Rig) -> None:
    rig.gateway.away = True
    assert rig.does(lambda: rig.view.free(LEARNER)) is None
    with pytest.raises(GatewayUnreachable):
        rig.does(lambda: rig.view.refresh(NEIGHBOR, ()))
    rig.gateway.away = False
    rig.does(lambda: rig.view.refresh(NEIGHBOR, ()))
    rig.gateway.away = True
    assert rig.does(lambda: rig.view.free(LEARNER)) == account().free
    assert rig.does(lambda: rig.view.free(NEIGHBOR)) == account().free


def test_a_view_that_is_fresh_is_left_alone(rig: Rig) -> None:
    rig.does(lambda: rig.view.refresh(NEIGHBOR, ()))
    asked = rig.gateway.asked
    rig.clock.now_s += 599
    rig.does(lambda: rig.view.refresh(NEIGHBOR, ()))
    assert rig.gateway.asked == asked
    rig.clock.now_s += 1
    rig.does(lambda: rig.view.refresh(NEIGHBOR, ()))
    assert rig.gateway.asked > asked


def test_who_is_near_is_asked_for_once_before_the_gateway_is_gone(rig: Rig) -> None:
    rig.does(lambda: rig.view.refresh(NEIGHBOR, ()))
    asked = rig.gateway.asked
    for _ in range(3):
        rig.does(lambda: rig.view.refresh(NEIGHBOR, [LEARNER]))
    assert rig.gateway.asked == asked + 1
    rig.gateway.away = True
    assert rig.does(lambda: rig.view.free(LEARNER)) == account().free


def test_a_crowd_is_asked_for_a_few_at_a_time(rig: Rig) -> None:
    crowd = [f"0x{number:040x}" for number in range(100)]
    rig.does(lambda: rig.view.refresh(NEIGHBOR, ()))
    counts = []
    for _ in range(5):
        before = rig.gateway.asked
        rig.does(lambda: rig.view.refresh(NEIGHBOR, crowd))
        counts.append(rig.gateway.asked - before)
    assert counts == [32, 32, 32, 4, 0]


def test_strangers_cannot_fill_the_journal_with_accounts(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "many.sqlite")
    for number in range(1100):
        journal.set_free_stake(f"0x{number:040x}", number, at_s=number)
    assert journal.free_stake(f"0x{0:040x}") is None
    assert journal.free_stake(f"0x{1099:040x}") == 1099
    assert sum(journal.free_stake(f"0x{number:040x}") is not None for number in range(1100)) == 1024
    journal.close()
