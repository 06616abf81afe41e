import threading
import time

import pytest

from gateway.kept import Kept


class Connection:
    def __init__(self) -> None:
        self.open = True

    def close(self) -> None:
        self.open = False


def test_it_is_connected_once_and_stays_open() -> None:
    made: list[Connection] = []

    def connect() -> Connection:
        made.append(Connection())
        return made[-1]

    kept = Kept(connect)
    assert made == []
    for _ in range(3):
        with kept.taken() as one:
            assert one.open
    assert len(made) == 1
    assert made[0].open


def test_after_a_fault_the_next_one_has_a_new_one() -> None:
    kept = Kept(Connection)
    with pytest.raises(OSError, match="disk"), kept.taken() as first:
        raise OSError("disk")
    assert not first.open
    with kept.taken() as second:
        assert second is not first


def test_who_cannot_connect_keeps_nobody_from_trying_again() -> None:
    faults = [OSError("no file")]

    def connect() -> Connection:
        if faults:
            raise faults.pop()
        return Connection()

    kept = Kept(connect)
    with pytest.raises(OSError, match="no file"), kept.taken():
        pass
    with kept.taken() as one:
        assert one.open


def test_it_is_used_by_one_at_a_time() -> None:
    kept, inside, most = Kept(Connection), [0], [0]

    def use() -> None:
        for _ in range(200):
            with kept.taken():
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0)  # another thread may go on
                inside[0] -= 1

    threads = [threading.Thread(target=use) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert most == [1]


def test_it_is_closed_at_the_end_and_can_be_used_again() -> None:
    kept = Kept(Connection)
    kept.close()
    with kept.taken() as one:
        pass
    kept.close()
    assert not one.open
    with kept.taken() as another:
        assert another.open
