"""The lease: one worker at a time, whoever was killed, slept, or has another clock."""

import multiprocessing
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from gateway_rig import on_both_databases

from gateway.errors import LeaseLost
from gateway.lease import Lease, is_gone, this_process
from gateway.tables import LEASES, Database


@pytest.fixture
def database(database_url: str):
    opened = Database(database_url)
    yield opened
    opened.close()


def holder(database: Database) -> str | None:
    with database.read() as db:
        return db.execute(sa.select(LEASES.c.holder)).scalar()


@on_both_databases
def test_one_holds_it_and_the_others_do_not(database: Database) -> None:
    first, second = (Lease(database, holder=name) for name in ("first", "second"))
    assert first.keep()
    assert first.keep()
    assert not second.keep()
    first.release()
    assert second.keep()
    assert not first.keep()
    first.release()  # which is not its own
    assert holder(database) == "second"


@on_both_databases
def test_of_many_at_once_one_gets_it(database: Database) -> None:
    leases = [Lease(database, holder=f"worker {n}") for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(Lease.keep, leases)) == 1


@on_both_databases
def test_it_ends_by_itself_in_the_databases_time(database: Database) -> None:
    sleeper = Lease(database, holder="sleeper", lasts_s=0.05)
    other = Lease(database, holder="other")
    assert sleeper.keep()
    moment = threading.Event()
    while not other.keep():
        moment.wait(0.01)
    # It slept, and believes that it still has it: no write of its own goes through.
    fenced = database.fenced(sleeper.check)
    with pytest.raises(LeaseLost, match="held by other"), fenced.write() as db:
        db.execute(sa.delete(LEASES))
    assert holder(database) == "other"
    assert not sleeper.keep()


@on_both_databases
def test_a_write_of_the_holder_goes_through(database: Database) -> None:
    lease = Lease(database, holder="worker")
    fenced = database.fenced(lease.check)
    with pytest.raises(LeaseLost, match="held by nobody"), fenced.write():
        pass
    assert lease.keep()
    with fenced.write() as db:
        assert db.execute(sa.select(LEASES.c.name)).scalar() == "worker"


def test_it_is_prolonged_when_half_of_it_is_over(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'gateway.sqlite'}")
    now_s = 0.0
    lease = Lease(database, holder="worker", lasts_s=10.0, monotonic_s=lambda: now_s)
    assert lease.keep()
    with database.write() as db:
        db.execute(sa.update(LEASES).values(until_s=5.0))
    now_s = 4.9
    assert lease.keep()
    with database.read() as db:
        assert db.execute(sa.select(LEASES.c.until_s)).scalar() == 5.0  # not asked yet
    now_s = 5.0
    assert lease.keep()
    with database.read() as db:
        assert float(db.execute(sa.select(LEASES.c.until_s)).scalar() or 0) > 5.0
    database.close()


def _die() -> None:
    os._exit(9)


def test_a_process_that_has_ended_on_this_machine_is_not_waited_for(tmp_path: Path) -> None:
    process = multiprocessing.get_context("forkserver").Process(target=_die)
    process.start()
    machine, _, _ = this_process().rpartition("/")[0].rpartition("/")
    process.join()
    gone = f"{machine}/{process.pid}/12345"
    assert is_gone(gone)
    assert not is_gone(this_process())
    assert is_gone(this_process() + "0")  # this process's number, in another's time
    assert not is_gone("another machine/1/2")
    assert not is_gone("a name")
    database = Database(f"sqlite:///{tmp_path / 'gateway.sqlite'}")
    assert Lease(database, holder=gone).keep()
    assert Lease(database).keep()
    assert holder(database) == this_process()
    database.close()
