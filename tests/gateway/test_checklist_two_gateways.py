"""What the relay must survive, point 18 of 35: two gateways on one PostgreSQL, and the one that works is killed."""

import hashlib
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from gateway_rig import BOB, OPERATOR, PERSONS, STAKE, Rig, sign
from postgresql_server import PostgresqlServer
from served_gateway import Program, ask, program
from signed_calls import act

from contracts import calls, deploy
from contracts.deploy import Deployment, reader
from contracts.localchain import LocalChain, open_chain
from contracts.states import ActionKind

pytestmark = [pytest.mark.chain, pytest.mark.postgresql]
BLOCK_S = 0.2


@contextmanager
def blocks(chain: LocalChain) -> Iterator[None]:
    """Make a block every moment."""
    stop = threading.Event()

    def make() -> None:
        while not stop.wait(BLOCK_S):
            chain.mine(chain.time_s + 1)

    maker = threading.Thread(target=make)
    maker.start()
    try:
        yield
    finally:
        stop.set()
        maker.join()


def serve(chain: LocalChain, deployment: Deployment, folder: Path, database_url: str) -> list[str]:
    folder.mkdir()
    (folder / "operator.key").write_text(hashlib.sha256(b"gateway operator").hexdigest())
    file = folder / "gateway.toml"
    file.write_text(
        f'chain = "anvil"\nrpc_url = "{chain.web3.provider.endpoint_uri}"\ndata = "{folder}"\nport = 0\n'  # type: ignore[attr-defined]
        f'deployment = "{deploy.record(deployment, folder)}"\ndatabase_url = "{database_url}"\n'
        "interval_s = 0.1\nresend_after_s = 2.0\n"
    )
    return ["serve", "--config", str(file)]


def url_of(gateway: Program) -> str:
    return gateway.line("serving on ").removeprefix("serving on ")


def holder(database_url: str) -> int:
    """The process that holds the lease."""
    engine = sa.create_engine(database_url)
    with engine.connect() as db:
        name = db.execute(sa.text("SELECT holder FROM leases")).scalar_one()
    engine.dispose()
    return int(str(name).split("/")[1])


def until_final(url: str, paths: list[str]) -> dict[str, dict[str, Any]]:
    told: dict[str, dict[str, Any]] = {}
    while len(told) < len(paths):
        for path in paths:
            found = ask(url + path)
            if found["state"] == "final":
                told[path] = found
        threading.Event().wait(0.1)
    return told


def test_18_the_gateway_that_works_is_killed_and_the_other_one_goes_on(
    postgresql: PostgresqlServer, tmp_path: Path
) -> None:
    database_url = postgresql.new_database()
    with ExitStack() as stack:
        chain = stack.enter_context(open_chain("anvil"))
        deployment = Rig.deployed(chain)
        gateways = [
            stack.enter_context(
                program(serve(chain, deployment, tmp_path / name, database_url), tmp_path / f"{name}.log")
            )
            for name in ("one", "two")
        ]
        urls = [url_of(one) for one in gateways]
        stack.enter_context(blocks(chain))
        members = [who for who in PERSONS if who is not BOB]
        paths: list[str] = []
        for number, who in enumerate(members):
            url = urls[number % 2]  # whoever answers, the other one sees it too
            for nonce, (to, data, wei) in enumerate(
                (
                    (deployment.token, calls.encode_buy(), STAKE // 1000),
                    (deployment.token, calls.encode_approve(deployment.escrow, STAKE), 0),
                    (deployment.escrow, calls.encode_stake(STAKE), 0),
                )
            ):
                raw = sign(who, data, to=to, nonce=nonce, value=wei)
                paths.append("/v1/transactions/" + ask(url + "/v1/transactions", {"raw": "0x" + raw.hex()})["id"])
        until_final(urls[0], paths)
        # Everybody asks for a seat; the one that works is killed while that is under way.
        seats: list[str] = []
        working = next(one for one in gateways if one.popen.pid == holder(database_url))
        left = next(url for one, url in zip(gateways, urls, strict=True) if one is not working)
        for number, who in enumerate(members):
            call = act(who, deployment.domain, ActionKind.REGISTER, nonce=1)
            seats.append(
                "/v1/operations/" + ask(left + "/v1/operations", {"call": "0x" + calls.encode(call).hex()})["id"]
            )
            if number == len(members) // 2:
                working.popen.send_signal(signal.SIGKILL)
                working.popen.wait()
        until_final(left, seats)
        other = next(one for one in gateways if one is not working)
        assert holder(database_url) == other.popen.pid
        assert reader(chain.web3, deployment).seat_count() == len(members)
        for who in members:
            assert reader(chain.web3, deployment).account(who.address).seat
        statuses = ask(left + "/v1/status")["submissions"]
        assert statuses["final"] == sum(statuses.values())
        batches = chain.web3.eth.get_transaction_count(OPERATOR.address)  # type: ignore[arg-type]
        assert statuses["final"] == len(paths) + batches  # no nonce was used by anything else
        assert other.stop(signal.SIGTERM) == 0
