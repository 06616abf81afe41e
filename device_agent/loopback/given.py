"""What a run is given: the scenario with everything it names loaded, and the secrets that follow from its seed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from eth_hash.auto import keccak

from device_agent.loopback.scenario import Scenario
from models.data import Dataset
from models.registry import Architecture


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A scenario, ready to be run.

    Attributes:
        scenario: what to simulate.
        dataset: the one it names.
        arch: the network it names, for that dataset.
        out: the run's folder.
        data_root: where datasets lie; None = the usual place.
    """

    scenario: Scenario
    dataset: Dataset
    arch: Architecture
    out: Path
    data_root: Path | None

    def secret(self, purpose: str, name: str = "") -> bytes:
        """Return 32 bytes that follow from the seed: a simulation must be repeatable."""
        return keccak(f"iDML simulation/{self.scenario.seed}/{purpose}/{name}".encode())
