"""What waits is done by another thread where greenlets share one, and at once everywhere else."""

import threading
from collections.abc import Iterator
from contextvars import ContextVar

import gevent
import pytest

from gateway.cooperation import elsewhere, lock, shared_thread
from gateway.group_commit import GroupCommit

NAME: ContextVar[str] = ContextVar("NAME")


@pytest.fixture
def shared() -> Iterator[None]:
    with shared_thread(4):
        yield


def test_a_caller_with_a_thread_to_itself_does_it_there() -> None:
    assert elsewhere(threading.get_ident) == threading.get_ident()


@pytest.mark.usefixtures("shared")
def test_another_thread_does_it_and_the_caller_is_told_what_came_of_it() -> None:
    assert elsewhere(threading.get_ident) != threading.get_ident()
    with pytest.raises(OSError, match="disk full"):
        elsewhere(full)


def full() -> None:
    raise OSError("disk full")


@pytest.mark.usefixtures("shared")
def test_it_is_done_in_the_name_of_the_request_that_asked() -> None:
    def ask(name: str) -> str:
        NAME.set(name)
        return elsewhere(NAME.get)

    asking = [gevent.spawn(ask, name) for name in ("one", "two")]
    gevent.joinall(asking, raise_error=True)
    assert [one.value for one in asking] == ["one", "two"]


@pytest.mark.usefixtures("shared")
def test_other_greenlets_go_on_meanwhile() -> None:
    go_on = threading.Event()
    waiting = gevent.spawn(elsewhere, lambda: go_on.wait(30))
    free = lock()
    free.acquire()
    next_one = gevent.spawn(free.acquire)
    gevent.sleep(0.01)
    assert not waiting.ready()
    assert not next_one.ready()
    free.release()
    next_one.join(30)
    assert next_one.ready()
    assert not waiting.ready()
    go_on.set()
    assert waiting.get(timeout=30)


@pytest.mark.usefixtures("shared")
def test_greenlets_and_threads_write_together() -> None:
    go_on = threading.Event()
    writes: list[list[int]] = []

    def write(asked: list[int]) -> list[int]:
        writes.append(asked)
        assert go_on.wait(30)
        return [10 * one for one in asked]

    commit: GroupCommit[int, int] = GroupCommit(write)  # type: ignore[arg-type]
    greenlets = [gevent.spawn(commit, number) for number in range(3)]
    gevent.sleep(0)
    of_threads: list[int] = []
    threads = [threading.Thread(target=lambda one=one: of_threads.append(commit(one))) for one in range(3, 6)]
    for thread in threads:
        thread.start()
    while len(commit._waiting) < 5:
        gevent.sleep(0.001)
    go_on.set()
    gevent.joinall(greenlets, timeout=30, raise_error=True)
    for thread in threads:
        while thread.is_alive():
            gevent.sleep(0.001)
    assert [one.value for one in greenlets] == [0, 10, 20]
    assert sorted(of_threads) == [30, 40, 50]
    assert len(writes) == 2


def test_a_thread_leads_a_write_for_a_greenlet() -> None:
    """And the greenlet after it writes what came during that."""
    busy, go_on = threading.Event(), threading.Event()
    writes: list[list[int]] = []

    def write(asked: list[int]) -> list[int]:
        writes.append(asked)
        busy.set()
        assert go_on.wait(30)
        return asked

    commit: GroupCommit[int, int] = GroupCommit(write)  # type: ignore[arg-type]
    leader = threading.Thread(target=commit, args=(1,))
    leader.start()
    assert busy.wait(30)
    with shared_thread(4):
        follower = gevent.spawn(commit, 2)
        gevent.sleep(0.01)
        go_on.set()
        assert follower.get(timeout=30) == 2
    leader.join()
    assert writes == [[1], [2]]
