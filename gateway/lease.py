"""One worker at a time: of the gateways that share a database, the one that holds the lease moves the submissions.

The lease is a row with an end, in the database's own time: the machines' clocks play no part. Who holds it prolongs it;
when it stops doing so another takes over. Every write of a worker first makes sure that the lease is still its own, in
the same transaction: a worker that slept through the end of its lease changes nothing any more.

A worker that was killed on this machine is not waited for: its process is gone, and that can be seen.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gateway.errors import LeaseLost
from gateway.tables import LEASES, Database

LASTS_S: Final = 15.0
_NAME: Final = "worker"
_NOW: Final = {
    "sqlite": "SELECT (julianday('now') - 2440587.5) * 86400.0",
    "postgresql": "SELECT CAST(extract(epoch FROM clock_timestamp()) AS double precision)",
}


class Lease:
    """The right to work on one database, as one process asks for it."""

    def __init__(
        self,
        database: Database,
        *,
        holder: str | None = None,
        lasts_s: float = LASTS_S,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Ask for nothing yet.

        Args:
            database: that is worked on.
            holder: who asks; default: this process.
            lasts_s: seconds until it ends by itself.
            monotonic_s: this process's clock.
        """
        self._db = database
        self._holder = holder or this_process()
        self._lasts_s = lasts_s
        self._monotonic_s = monotonic_s
        self._ask_again_s = float("-inf")

    def keep(self) -> bool:
        """Take the lease if it is free, prolong it when half of it is over; return whether it is held."""
        asked_s = self._monotonic_s()
        if asked_s < self._ask_again_s:
            return True
        try:
            with self._db.write() as db:
                held = self._kept(db)
        except sa.exc.IntegrityError:
            return False  # another one took it at the same moment
        self._ask_again_s = asked_s + self._lasts_s / 2 if held else float("-inf")
        return held

    def _kept(self, db: Connection) -> bool:
        now_s = float(db.execute(sa.text(_NOW[db.dialect.name])).scalar_one())
        row = db.execute(sa.select(LEASES).where(LEASES.c.name == _NAME).with_for_update()).first()
        end_s = now_s + self._lasts_s
        if row is None:
            db.execute(sa.insert(LEASES).values(name=_NAME, holder=self._holder, until_s=end_s))
            return True
        if row.holder != self._holder and row.until_s > now_s and not is_gone(row.holder):
            return False
        db.execute(sa.update(LEASES).where(LEASES.c.name == _NAME).values(holder=self._holder, until_s=end_s))
        return True

    def check(self, db: Connection) -> None:
        """Make sure, within a transaction that writes, that nobody else has the lease. Raises `LeaseLost`."""
        holder = db.execute(sa.select(LEASES.c.holder).where(LEASES.c.name == _NAME).with_for_update()).scalar()
        if holder != self._holder:
            self._ask_again_s = float("-inf")
            raise LeaseLost(f"the lease is held by {holder or 'nobody'}")

    def release(self) -> None:
        """Give it back, if it is held: another worker need not wait for its end."""
        self._ask_again_s = float("-inf")
        with self._db.write() as db:
            db.execute(sa.delete(LEASES).where(LEASES.c.name == _NAME, LEASES.c.holder == self._holder))


def this_process() -> str:
    """Return a name for this process that tells, on the same machine, whether it still lives."""
    return f"{_machine()}/{os.getpid()}/{_started(os.getpid())}"


def is_gone(holder: str) -> bool:
    """Return whether a process is known to have ended: it ran on this machine and is not there any more."""
    machine, _, process = holder.rpartition("/")[0].rpartition("/")
    if machine != _machine() or not process.isdecimal():
        return False
    return _started(int(process)) != holder.rpartition("/")[2]


def _machine() -> str:
    """This machine since it was started, seen from this container."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}:{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return f"{socket.gethostname()}:?"


def _started(process: int) -> str:
    """When a process was started, in clock ticks; "" if there is none."""
    try:
        text = Path(f"/proc/{process}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[19]
