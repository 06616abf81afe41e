import logging
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from behind_proxy import Far, far_rig
from gateway_rig import Rig
from postgresql_server import MISSING, PostgresqlServer, open_postgresql, programs

from contracts.chain import PROFILES, ChainProfile, Finality
from contracts.deploy import Deployment
from contracts.localchain import LocalChain, open_chain
from gateway.config import Access, DoorSettings


@pytest.fixture(autouse=True)
def _root_logger() -> Iterator[None]:
    """As it was, after a test whose command wrote its own lines and remembered its own warnings."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield
    for one in [one for one in root.handlers if one not in before]:
        root.removeHandler(one)
    root.setLevel(level)


@pytest.fixture(scope="session")
def deployed_chain() -> Iterator[tuple[LocalChain, Deployment]]:
    with open_chain("embedded") as chain:
        yield chain, Rig.deployed(chain)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresqlServer]:
    """A server of this process: tests stop it, which another process would notice."""
    found = programs()
    if found is None:
        if os.environ.get("CI"):
            pytest.fail(MISSING)
        pytest.skip(MISSING)
    with open_postgresql(found) as server:
        yield server


@pytest.fixture
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database: SQLite, unless `on_both_databases` asks for PostgreSQL."""
    if getattr(request, "param", "sqlite") == "postgresql":
        server: PostgresqlServer = request.getfixturevalue("postgresql")
        return server.new_database()
    return f"sqlite:///{tmp_path / 'gateway.sqlite'}"


@pytest.fixture
def far(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Far]:
    """A gateway and, behind a proxy, the chain that a test's parameter names; final only after fifty blocks."""
    with far_rig(request.param, tmp_path) as rig:
        yield rig


def _rig(
    deployed: tuple[LocalChain, Deployment], folder: Path, profile: ChainProfile, database_url: str
) -> Iterator[Rig]:
    chain, deployment = deployed
    snapshot = chain.request("evm_snapshot")
    rig = Rig(chain=chain, deployment=deployment, folder=folder, profile=profile, database_url=database_url)
    yield rig
    rig.database.close()
    assert chain.request("evm_revert", [snapshot])


@pytest.fixture
def rig(deployed_chain: tuple[LocalChain, Deployment], tmp_path: Path, database_url: str) -> Iterator[Rig]:
    """On a chain where everything mined is final at once."""
    yield from _rig(deployed_chain, tmp_path, PROFILES["embedded"], database_url)


@pytest.fixture
def deep(deployed_chain: tuple[LocalChain, Deployment], tmp_path: Path, database_url: str) -> Iterator[Rig]:
    """On a chain that may reorganise: final means three blocks deep."""
    profile = replace(PROFILES["embedded"], finality=Finality.DEPTH, finality_depth_blocks=3)
    yield from _rig(deployed_chain, tmp_path, profile, database_url)


@pytest.fixture
def closed(rig: Rig) -> Rig:
    """A gateway that serves enrolled devices alone."""
    rig.door = DoorSettings(access=Access.ENROLLED)
    rig.restart()
    return rig
