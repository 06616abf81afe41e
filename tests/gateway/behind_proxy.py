"""A gateway whose node is a real Anvil or Ganache behind a proxy that misbehaves on command."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from gateway_rig import Rig
from rpc_proxy import Proxy, open_proxy

from contracts.chain import PROFILES, ChainProfile, Finality
from contracts.localchain import open_chain
from gateway.compose import connect

TIMEOUT_S = 1.0
DEEP = replace(PROFILES["anvil"], finality=Finality.DEPTH, finality_depth_blocks=50)
"""Nothing becomes final before fifty blocks: room for reorganisations."""

on_both_chains = pytest.mark.parametrize("far", ["anvil", "ganache"], indirect=True)
on_anvil = pytest.mark.parametrize("far", ["anvil"], indirect=True)
on_ganache = pytest.mark.parametrize("far", ["ganache"], indirect=True)


@dataclass
class Far(Rig):
    """A rig that has the proxy at hand."""

    proxy: Proxy | None = None

    def mine_many(self, blocks: int) -> None:
        """Make empty blocks, or the first of them with what waits."""
        if self.chain.kind == "anvil":
            self.chain.request("anvil_mine", [hex(blocks), "0x1"])
        else:
            self.chain.request("evm_mine", [{"blocks": blocks}])

    def status(self) -> Any:
        """How the gateway stands, once it has heard from the node: it asks in the background."""
        while self.get("/v1/status")["node"]["fault"] is not None:
            pass
        return self.get("/v1/status")

    @property
    def faults(self) -> Proxy:
        assert self.proxy is not None
        return self.proxy


@contextmanager
def far_rig(kind: str, folder: Path, profile: ChainProfile = DEEP) -> Iterator[Far]:
    """Start a chain, for this test alone: what waits in a pool outlives a snapshot."""
    with open_chain(kind) as chain, open_proxy(chain.web3.provider.endpoint_uri) as proxy:
        deployment = Rig.deployed(chain)
        web3 = connect(proxy.url, profile, timeout_s=TIMEOUT_S)
        rig = Far(chain=chain, deployment=deployment, folder=folder, profile=profile, web3=web3, proxy=proxy)
        yield rig
        rig.database.close()
