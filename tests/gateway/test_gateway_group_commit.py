"""What comes at once is written together, and each is told its own."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from gateway.group_commit import GroupCommit


class Disk:
    """Writes numbers; the first write waits until it is let go on. Thirteen is refused, and at 99 the disk is full."""

    def __init__(self) -> None:
        self.writes: list[list[int]] = []
        self.busy = threading.Event()
        self.go_on = threading.Event()

    def write(self, asked: Sequence[int]) -> list[str | Exception]:
        self.writes.append(list(asked))
        self.busy.set()
        assert self.go_on.wait(30)
        if 99 in asked:
            raise OSError("disk full")
        return [ValueError("unlucky") if one == 13 else f"wrote {one}" for one in asked]


def told(commit: GroupCommit[int, str], number: int) -> str:
    try:
        return commit(number)
    except (ValueError, OSError) as error:
        return str(error)


def test_what_comes_during_a_write_goes_into_the_next_one() -> None:
    disk = Disk()
    commit = GroupCommit(disk.write)
    with ThreadPoolExecutor(20) as pool:
        first = pool.submit(told, commit, 0)
        assert disk.busy.wait(30)
        others = {number: pool.submit(told, commit, number) for number in range(10, 20)}
        while len(commit._waiting) < len(others):
            pass
        disk.go_on.set()
        assert first.result() == "wrote 0"
        words = {number: one.result() for number, one in others.items()}
    assert words == {number: "unlucky" if number == 13 else f"wrote {number}" for number in range(10, 20)}
    assert [sorted(one) for one in disk.writes] == [[0], [*range(10, 20)]]


def test_who_comes_alone_is_written_at_once() -> None:
    disk = Disk()
    disk.go_on.set()
    commit = GroupCommit(disk.write)
    assert [commit(number) for number in (1, 2)] == ["wrote 1", "wrote 2"]
    assert disk.writes == [[1], [2]]


def test_where_nothing_was_written_each_is_told_and_the_next_write_is_another() -> None:
    disk = Disk()
    commit = GroupCommit(disk.write)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(told, commit, 0)
        assert disk.busy.wait(30)
        others = [pool.submit(told, commit, number) for number in (98, 99)]
        while len(commit._waiting) < len(others):
            pass
        disk.go_on.set()
        assert [first.result(), *(one.result() for one in others)] == ["wrote 0", "disk full", "disk full"]
    assert commit(1) == "wrote 1"


def test_more_than_fits_one_write_takes_several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.group_commit._MOST", 3)
    disk = Disk()
    commit = GroupCommit(disk.write)
    with ThreadPoolExecutor(12) as pool:
        asked = [pool.submit(told, commit, number) for number in range(11)]
        while len(commit._waiting) < 10 or not disk.busy.is_set():
            pass
        disk.go_on.set()
        assert [one.result() for one in asked] == [f"wrote {number}" for number in range(11)]
    assert max(map(len, disk.writes)) == 3
