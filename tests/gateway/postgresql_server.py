"""A PostgreSQL of our own for the tests: Debian's programs, a temporary folder, a free port of loopback."""

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

MISSING = (
    "PostgreSQL's programs (initdb, postgres) are neither on the PATH nor in /usr/lib/postgresql/*/bin. "
    "Debian: apt-get install postgresql; or leave these tests out: make test PYTEST_ARGS='-m \"not postgresql\"'"
)
ROLE = "gateway"
"""Who owns the databases; no administrator."""
_ADMINISTRATOR = "postgres"
_START_TIMEOUT_S = 60.0


def programs() -> Path | None:
    """Return the folder of PostgreSQL's programs, the newest version's, None where there is none."""
    on_path = shutil.which("initdb")
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda one: int(one.parent.name), reverse=True)
    for folder in ([Path(on_path).parent] if on_path else []) + debian:
        if all((folder / name).is_file() for name in ("initdb", "postgres")):
            return folder
    return None


class PostgresqlServer:
    """One server with a password, which writes through to the disk; ends by its pid."""

    def __init__(self, folder: Path, bin_folder: Path) -> None:
        """Make a cluster in an empty folder, owned by whom the server will run as, and start it."""
        self._folder = folder
        self._postgres = bin_folder / "postgres"
        self._password = secrets.token_hex(16)
        self._port = _free_port()
        self._databases = 0
        self._as_user = _unprivileged(folder)
        password_file = folder / "password"
        password_file.write_text(self._password)
        password_file.chmod(0o644)  # the folder is closed to others
        subprocess.run(
            [
                bin_folder / "initdb",
                *("--pgdata", folder / "data", "--username", _ADMINISTRATOR, "--pwfile", password_file),
                *("--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--no-sync"),
            ],
            check=True,
            capture_output=True,
            **self._as_user,
        )
        self.start()
        self.run(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{self._password}'")

    def start(self) -> None:
        """Start the server and wait until it answers."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": self._folder,
            "fsync": "on",
            "max_connections": "200",
        }
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    self._postgres,
                    *("-D", self._folder / "data", "-p", str(self._port)),
                    *(part for key, value in settings.items() for part in ("-c", f"{key}={value}")),
                ],
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._as_user,
            )
        end = time.monotonic() + _START_TIMEOUT_S
        while True:
            try:
                psycopg.connect(self._administers("postgres")).close()
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > end:
                    raise AssertionError((self._folder / "log").read_text()) from None
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        """End it now, whatever is connected."""
        self._end(signal.SIGINT)

    def close(self) -> None:
        """End it for good, in no state to go on."""
        self._end(signal.SIGQUIT)

    def _end(self, number: int) -> None:
        self._process.send_signal(number)
        self._process.wait(60)

    def new_database(self) -> str:
        """Make an empty database and return its SQLAlchemy URL."""
        self._databases += 1
        name = f"gateway_{self._databases}"
        self.run(f"CREATE DATABASE {name} OWNER {ROLE}")
        return f"postgresql+psycopg://{ROLE}:{self._password}@127.0.0.1:{self._port}/{name}"

    def run(self, *statements: str, database: str = "postgres") -> None:
        """Run statements as the administrator, each by itself."""
        with contextlib.closing(psycopg.connect(self._administers(database), autocommit=True)) as connection:
            for one in statements:
                connection.execute(one.encode())

    def _administers(self, database: str) -> str:
        return f"postgresql://{_ADMINISTRATOR}:{self._password}@127.0.0.1:{self._port}/{database}"


@contextlib.contextmanager
def open_postgresql(bin_folder: Path) -> Iterator[PostgresqlServer]:
    """Open a server in a temporary folder; both are gone in the end."""
    with tempfile.TemporaryDirectory(prefix="idml-postgresql-") as folder:
        server = PostgresqlServer(Path(folder), bin_folder)
        try:
            yield server
        finally:
            server.close()


def _unprivileged(folder: Path) -> dict[str, Any]:
    """How to start a program as somebody who owns `folder`: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
