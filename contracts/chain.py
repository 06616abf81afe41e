"""What we know about each network before we ask it."""

from dataclasses import dataclass
from enum import Enum
from typing import Final
from urllib.parse import urlsplit

from contracts.errors import ChainUnreachable

LOCAL_CHAIN_ID: Final = 1337
"""The id of every local chain, so that encounter ids and panel draws are equal on all of them."""


class Finality(Enum):
    """When a mined transaction counts as final."""

    INSTANT = "instant"
    """Once mined: a local chain does not reorganise."""
    FINALIZED_TAG = "finalized"
    """Once its block is at or below the node's ``finalized`` block."""
    DEPTH = "depth"
    """Once `ChainProfile.finality_depth_blocks` blocks lie on top of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainProfile:
    """One network.

    Attributes:
        name: what operators write (``--chain amoy``).
        chain_id: expected EIP-155 id; None = take the node's word.
        poa: block headers carry proof-of-authority extra data.
        tip_floor_gwei: smallest priority fee with which nodes take a transaction.
        usual_tip_gwei: priority fee that in practice gets it into a block soon.
        fee_cap_gwei: most that a gateway's own transaction may offer per gas, tip included.
        most_gas: of one transaction; nodes take none with more (EIP-7825: 2^24, where a chain sets nothing else).
        finality_alarm_s: how far, in chain time, finality usually never lies behind the newest block; 0 = no alarm.
        finality: when a transaction counts as final.
        finality_depth_blocks: only for `Finality.DEPTH`.
        block_time_s: usual seconds between blocks; 0 = a block only when asked for.
        time_control: blocks and their timestamps can be commanded.
        url: the RPC endpoint, where one is known.
    """

    name: str
    chain_id: int | None
    poa: bool
    tip_floor_gwei: int
    usual_tip_gwei: int = 1
    fee_cap_gwei: int = 1000
    most_gas: int = 2**24
    finality_alarm_s: float = 0.0
    finality: Finality
    block_time_s: float
    time_control: bool
    finality_depth_blocks: int = 0
    url: str | None = None


def _local(name: str) -> ChainProfile:
    return ChainProfile(
        name=name,
        chain_id=LOCAL_CHAIN_ID,
        poa=False,
        tip_floor_gwei=0,
        finality=Finality.INSTANT,
        block_time_s=0.0,
        time_control=True,
    )


PROFILES: Final[dict[str, ChainProfile]] = {
    "embedded": _local("embedded"),
    "ganache": _local("ganache"),
    "anvil": _local("anvil"),
    "amoy": ChainProfile(
        name="amoy",
        chain_id=80002,
        poa=True,
        tip_floor_gwei=25,
        usual_tip_gwei=30,  # what nodes suggest is less than the floor
        most_gas=2**25,  # Bor 2.5
        finality_alarm_s=120.0,  # usually 2 to 5; it has stalled for a quarter of an hour
        finality=Finality.FINALIZED_TAG,
        block_time_s=2.0,
        time_control=False,
        url="https://rpc-amoy.polygon.technology",
    ),
}
"""The networks known by name."""


def profile_for(name_or_url: str) -> ChainProfile:
    """The profile of a named chain, or a cautious one for an RPC URL.

    A URL of an unknown chain: its id is asked of the node, PoA headers are tolerated, and a transaction is
    final when the node's ``finalized`` tag says so. Raises `ChainUnreachable` for anything else.
    """
    known = PROFILES.get(name_or_url)
    if known is not None:
        return known
    parts = urlsplit(name_or_url)
    if parts.scheme in ("http", "https") and parts.hostname:
        return ChainProfile(
            name=parts.hostname,
            chain_id=None,
            poa=True,
            tip_floor_gwei=0,
            finality_alarm_s=1800.0,
            finality=Finality.FINALIZED_TAG,
            block_time_s=2.0,
            time_control=False,
            url=name_or_url,
        )
    raise ChainUnreachable(f"chain {name_or_url!r} is neither a URL (http, https) nor one of {', '.join(PROFILES)}")
