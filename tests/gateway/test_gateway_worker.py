"""The loop of the worker: what it survives, and how it stops."""

import threading
import time

import pytest
from gateway_rig import ALICE, Rig

from gateway.errors import ChainMismatch, NodeUnavailable
from gateway.submission import State


def test_it_steps_until_it_is_stopped(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    key = rig.accepted(rig.buy(ALICE))
    stop = threading.Event()
    thread = threading.Thread(target=rig.worker.run, args=(stop,), kwargs={"interval_s": 0.01})
    thread.start()
    while rig.state(key) is not State.BROADCAST:
        time.sleep(0.01)
    rig.mine()
    while rig.state(key) is not State.FINAL:
        time.sleep(0.01)
    stop.set()
    thread.join(5)
    assert not thread.is_alive()


def test_what_comes_in_is_sent_at_once(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    stop, idle = threading.Event(), threading.Event()
    reap = rig.worker.reap
    monkeypatch.setattr(rig.worker, "reap", lambda: (reap(), idle.set()))  # the last part of a step
    thread = threading.Thread(target=rig.worker.run, args=(stop,), kwargs={"interval_s": 3600})
    thread.start()
    assert idle.wait(30)
    key = rig.accepted(rig.buy(ALICE))
    while rig.state(key) is not State.BROADCAST:
        time.sleep(0.01)
    stop.set()
    thread.join(30)
    assert not thread.is_alive()


def test_what_comes_in_is_sent_between_the_blocks_that_are_caught_up_with(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.worker._STRETCH_S", 0.0)
    while rig.worker.confirm():
        pass
    for _ in range(5):
        rig.mine()
    begun, stop, done = rig.store.head().number, threading.Event(), []

    def broadcast() -> None:
        done.append(rig.store.head().number - begun)
        if len(done) == 5:
            stop.set()

    monkeypatch.setattr(rig.worker, "broadcast", broadcast)
    rig.worker.run(stop, interval_s=3600)  # it does not rest while there are blocks
    assert done == [1, 2, 3, 4, 5]


def test_a_silent_node_is_logged_and_tried_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stop, seen = threading.Event(), []

    def confirm(**_: object) -> None:
        seen.append("confirm")
        if len(seen) == 3:
            stop.set()
        raise NodeUnavailable("no answer")

    monkeypatch.setattr(rig.worker, "confirm", confirm)
    rig.worker.run(stop, interval_s=0.001)
    assert len(seen) == 3
    assert caplog.text.count("no answer") == 3


def test_the_step_under_way_is_finished(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    key = rig.accepted(rig.buy(ALICE))
    stop = threading.Event()
    rig.provider.before_send = stop.set
    rig.worker.run(stop, interval_s=60)
    assert rig.state(key) is State.BROADCAST
    assert rig.store.head() is not None  # it also confirmed


def test_another_chain_ends_it(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def confirm(**_: object) -> None:
        raise ChainMismatch("another chain")

    monkeypatch.setattr(rig.worker, "confirm", confirm)
    with pytest.raises(ChainMismatch):
        rig.worker.run(threading.Event(), interval_s=60)
