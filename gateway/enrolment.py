"""Which devices may use this gateway: tokens that enrol one device each, and the requests a device has made.

Of a token only its hash is kept. A device's window of numbers is on disk before its request is served, so no request is
served twice, whatever ends this process, and whichever of the gateways on one database it reaches. A row of a device is
never deleted: who is enrolled anew goes on from the number where it stopped.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gateway.cooperation import elsewhere
from gateway.errors import Code, Refusal
from gateway.group_commit import GroupCommit
from gateway.replay import Window, after_request
from gateway.tables import TABLES, Database

_TOKEN_BYTES: Final = 24

TOKENS = sa.Table(
    "enrolment_tokens",
    TABLES,
    sa.Column("sha256", sa.String(64), primary_key=True),
    sa.Column("name", sa.String(80)),
    sa.Column("expires_at_s", sa.Float, nullable=False),
    # The account it enrolled; None while it is unused.
    sa.Column("account", sa.String(42)),
)

DEVICES = sa.Table(
    "devices",
    TABLES,
    sa.Column("account", sa.String(42), primary_key=True),
    sa.Column("name", sa.String(80)),
    sa.Column("enrolled_at_s", sa.Float, nullable=False),
    sa.Column("revoked", sa.Boolean, nullable=False, server_default=sa.false()),
    # A `gateway.replay.Window`; `seen` in hex digits, since no database counts 64 bits without a sign.
    sa.Column("highest", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("seen", sa.String(16), nullable=False, server_default="0"),
)

REALMS = sa.Table(
    "realms",
    TABLES,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("realm", sa.String(32), nullable=False),
)


_LOCK_DEVICES: Final = (
    sa.select(DEVICES)
    .where(DEVICES.c.account.in_(sa.bindparam("accounts", expanding=True)), DEVICES.c.revoked.is_(False))
    .order_by(DEVICES.c.account)
    .with_for_update()
)
_MOVE_WINDOW: Final = (
    sa.update(DEVICES)
    .where(DEVICES.c.account == sa.bindparam("key"))
    .values(highest=sa.bindparam("new_highest"), seen=sa.bindparam("new_seen"))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """An enrolled device.

    Attributes:
        account: checksum address.
        name: as the operator called its token, None if it did not.
        enrolled_at_s: Unix seconds.
        revoked: it may not use this gateway any more.
        counter: the highest number it has used.
    """

    account: str
    name: str | None
    enrolled_at_s: float
    revoked: bool
    counter: int


class Enrolment:
    """The tokens and devices of one database."""

    def __init__(self, database: Database) -> None:
        """Keep them in an open database."""
        self._db = database
        self._realm: str | None = None
        self._using = GroupCommit(self._use)

    def realm(self) -> str:
        """Return the name that requests are signed for: random, of this database."""
        if self._realm is None:
            try:
                self._realm = elsewhere(self._find_realm)
            except sa.exc.IntegrityError:
                self._realm = elsewhere(self._find_realm)  # another gateway made it at the same moment
        return self._realm

    def _find_realm(self) -> str:
        with self._db.write() as db:
            known = db.execute(sa.select(REALMS.c.realm)).scalar()
            if known is None:
                known = secrets.token_hex(16)
                db.execute(sa.insert(REALMS).values(number=0, realm=known))
            return str(known)

    def issue(self, count: int, *, name: str | None, valid_s: float, now_s: float) -> list[str]:
        """Make tokens that enrol one device each within `valid_s`; they are shown this once. Forget expired ones."""
        tokens = [secrets.token_urlsafe(_TOKEN_BYTES) for _ in range(count)]
        expires_at_s = now_s + valid_s
        with self._db.write() as db:
            db.execute(sa.delete(TOKENS).where(TOKENS.c.expires_at_s < now_s))
            db.execute(
                sa.insert(TOKENS),
                [{"sha256": _hashed(token), "name": name, "expires_at_s": expires_at_s} for token in tokens],
            )
        return tokens

    def redeem(self, token: str, account: str, *, now_s: float) -> tuple[Device, bool]:
        """Enrol an account by a token; return the device and whether that is new.

        The same again by the same account changes nothing: an answer may have been lost. Raises `Refusal` 403.
        """
        with self._db.write() as db:
            found = db.execute(sa.select(TOKENS).where(TOKENS.c.sha256 == _hashed(token)).with_for_update()).first()
            if found is None or found.expires_at_s < now_s or found.account not in (None, account):
                words = "this token is unknown, expired or used: ask the operator for another one"
                raise Refusal(403, Code.TOKEN_REFUSED, words)
            if found.account is not None:
                return _device(db, account), False
            db.execute(sa.update(TOKENS).where(TOKENS.c.sha256 == found.sha256).values(account=account))
            values = {"name": found.name, "enrolled_at_s": now_s, "revoked": False}
            known = db.execute(sa.update(DEVICES).where(DEVICES.c.account == account).values(values)).rowcount
            if not known:
                db.execute(sa.insert(DEVICES).values(account=account, **values))
            return _device(db, account), True

    def device(self, account: str) -> Device:
        """Return an enrolled device. Raises `Refusal` 404."""
        with self._db.read() as db:
            return _device(db, account)

    def devices(self) -> list[Device]:
        """Return all devices, oldest first."""
        with self._db.read() as db:
            rows = db.execute(sa.select(DEVICES).order_by(DEVICES.c.enrolled_at_s, DEVICES.c.account))
            return [_as_device(row) for row in rows]

    def revoke(self, account: str) -> bool:
        """Serve a device no more; return whether it was enrolled. It keeps its tokens from enrolling it again."""
        with self._db.write() as db:
            changed = db.execute(
                sa.update(DEVICES)
                .where(DEVICES.c.account == account, DEVICES.c.revoked.is_(False))
                .values(revoked=True)
            )
            return bool(changed.rowcount)

    def use(self, account: str, counter: int) -> None:
        """Write down that a device makes the request of this number. Raises `Refusal` if it did so before."""
        self._using((account, counter))

    def _use(self, asked: Sequence[tuple[str, int]]) -> Sequence[Exception | None]:
        with self._db.write() as db:
            # In one order: gateways on one database that lock the same devices do not wait for each other.
            rows = db.execute(_LOCK_DEVICES, {"accounts": sorted({account for account, _ in asked})})
            windows = {row.account: Window(highest=row.highest, seen=int(row.seen, 16)) for row in rows}
            told = [_moved_on(windows, account, counter) for account, counter in asked]
            served = {account for (account, _), refusal in zip(asked, told, strict=True) if refusal is None}
            if served:
                moved = [(account, windows[account]) for account in sorted(served)]
                db.execute(
                    _MOVE_WINDOW,
                    [
                        {"key": account, "new_highest": one.highest, "new_seen": f"{one.seen:x}"}
                        for account, one in moved
                    ],
                )
        return told


def _moved_on(windows: dict[str, Window], account: str, counter: int) -> Refusal | None:
    """Move a device's window along; return why its request is refused, if it is."""
    if account not in windows:
        words = f"{account} is not enrolled at this gateway: redeem a token of its operator's"
        return Refusal(403, Code.NOT_ENROLLED, words)
    window = after_request(windows[account], counter)
    if window is None:
        words = f"request {counter} of {account} was made before: go on from {windows[account].highest}"
        return Refusal(401, Code.REPLAYED, words, retry=True)
    windows[account] = window
    return None


def counts(db: Connection, *, now_s: float) -> tuple[int, int]:
    """Return how many devices are enrolled and not revoked, and how many tokens can still be redeemed."""
    devices = sa.select(sa.func.count()).select_from(DEVICES).where(DEVICES.c.revoked.is_(False))
    tokens = sa.select(sa.func.count()).select_from(TOKENS)
    tokens = tokens.where(TOKENS.c.account.is_(None), TOKENS.c.expires_at_s >= now_s)
    return db.execute(devices).scalar_one(), db.execute(tokens).scalar_one()


def _device(db: Connection, account: str) -> Device:
    row = db.execute(sa.select(DEVICES).where(DEVICES.c.account == account)).first()
    if row is None:
        raise Refusal(404, Code.NOT_FOUND, f"{account} is not enrolled at this gateway")
    return _as_device(row)


def _as_device(row: sa.Row[tuple[str, str | None, float, bool, int, str]]) -> Device:
    return Device(
        account=row.account,
        name=row.name,
        enrolled_at_s=row.enrolled_at_s,
        revoked=row.revoked,
        counter=row.highest,
    )


def _hashed(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
