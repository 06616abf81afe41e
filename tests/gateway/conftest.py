from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from gateway_rig import Rig

from contracts.chain import PROFILES, ChainProfile, Finality
from contracts.deploy import Deployment
from contracts.localchain import LocalChain, open_chain


@pytest.fixture(scope="session")
def deployed_chain() -> Iterator[tuple[LocalChain, Deployment]]:
    with open_chain("embedded") as chain:
        yield chain, Rig.deployed(chain)


def _rig(deployed: tuple[LocalChain, Deployment], folder: Path, profile: ChainProfile) -> Iterator[Rig]:
    chain, deployment = deployed
    snapshot = chain.request("evm_snapshot")
    rig = Rig(chain=chain, deployment=deployment, folder=folder, profile=profile)
    yield rig
    rig.database.close()
    assert chain.request("evm_revert", [snapshot])


@pytest.fixture
def rig(deployed_chain: tuple[LocalChain, Deployment], tmp_path: Path) -> Iterator[Rig]:
    """On a chain where everything mined is final at once."""
    yield from _rig(deployed_chain, tmp_path, PROFILES["embedded"])


@pytest.fixture
def deep(deployed_chain: tuple[LocalChain, Deployment], tmp_path: Path) -> Iterator[Rig]:
    """On a chain that may reorganise: final means three blocks deep."""
    profile = replace(PROFILES["embedded"], finality=Finality.DEPTH, finality_depth_blocks=3)
    yield from _rig(deployed_chain, tmp_path, profile)
