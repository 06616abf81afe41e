"""Long polling: an answer at once where there is one, else when there is; bounded; and no real second in the tests."""

import threading

import pytest
from gateway_rig import ALICE, MOST_WAITING, Rig, on_both_databases
from signed_requests import code

from gateway.serving import AT_WORK
from gateway.waiting import MOST_WAITING as MOST_SERVED
from gateway.waiting import Waiting

JOBS = f"/v1/jobs?validator={ALICE.address}"


@on_both_databases
def test_what_there_is_is_told_at_once(rig: Rig) -> None:
    rig.worker.confirm()
    assert rig.get("/v1/events?wait_s=30")["events"]
    assert rig.waited_s == 0


@on_both_databases
def test_nothing_new_is_told_when_the_time_is_over(rig: Rig) -> None:
    rig.worker.confirm()
    for path in (f"{JOBS}&wait_s=7", f"/v1/events?after={10**9}&wait_s=7"):
        rig.waited_s = 0.0
        assert next(iter(rig.get(path).values())) == []
        assert rig.waited_s == pytest.approx(7)


@on_both_databases
def test_what_another_process_stores_meanwhile_is_told(rig: Rig) -> None:
    """The worker is not asked, only the database: it may be anywhere."""
    rig.accepted(rig.buy(ALICE))
    rig.worker.confirm()
    last = rig.get("/v1/events")["events"][-1]["number"]

    def meanwhile() -> None:
        if rig.waited_s == 2:
            rig.step()

    rig.meanwhile = meanwhile
    found = rig.get(f"/v1/events?after={last}&wait_s=30")["events"]
    assert "Bought" in [one["name"] for one in found]
    assert rig.waited_s == 2


def test_only_so_many_wait_and_the_others_are_answered_at_once(rig: Rig) -> None:
    inside, go_on = threading.Barrier(MOST_WAITING + 1), threading.Event()

    def meanwhile() -> None:
        if not go_on.is_set():
            inside.wait(30)
            go_on.wait(30)

    rig.meanwhile = meanwhile
    clients = [rig.client.application.test_client() for _ in range(MOST_WAITING)]
    threads = [threading.Thread(target=one.get, args=(f"{JOBS}&wait_s=1",)) for one in clients]
    for thread in threads:
        thread.start()
    inside.wait(30)
    waited_s = rig.waited_s
    assert rig.get(f"{JOBS}&wait_s=30")["jobs"] == []
    assert rig.get("/v1/events") == {"events": []}
    assert rig.waited_s == waited_s
    go_on.set()
    for thread in threads:
        thread.join()
    assert rig.get(f"{JOBS}&wait_s=1")["jobs"] == []
    assert rig.waited_s > waited_s  # their places are free again


def test_a_waiting_request_holds_no_connection_to_the_database(rig: Rig) -> None:
    held: list[int] = []
    before = rig.database._engine.pool.checkedout()
    rig.meanwhile = lambda: held.append(rig.database._engine.pool.checkedout())
    rig.get(f"{JOBS}&wait_s=1")
    assert held
    assert set(held) == {before}


def test_who_waits_is_answered_when_the_gateway_stops(rig: Rig) -> None:
    """In real time: it would last half a minute."""
    waiting = Waiting(rig.database)
    asked, answers = threading.Event(), []

    def ask() -> list[int]:
        asked.set()
        return []

    thread = threading.Thread(target=lambda: answers.append(waiting.until(ask, bool, wait_s=30)))
    thread.start()
    asked.wait(30)
    waiting.end()
    thread.join(20)
    assert answers == [[]]


def test_there_are_threads_that_nobody_waits_in() -> None:
    assert AT_WORK > MOST_SERVED


@pytest.mark.parametrize("wait_s", ["-1", "31", "1.5", "x", "%C2%B2", "", "000"])
def test_a_wait_that_is_none_is_refused(rig: Rig, wait_s: str) -> None:
    for path in (f"{JOBS}&wait_s={wait_s}", f"/v1/events?wait_s={wait_s}"):
        refused = rig.client.get(path)
        assert (refused.status_code, code(refused)) == (400, "bad_request")
