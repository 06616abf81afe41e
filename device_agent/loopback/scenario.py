"""What is simulated: one TOML file, checked before anything starts. Units stand in the names."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from contracts.chain import PROFILES
from contracts.settlement import DEFAULT_PARAMETERS
from device_agent.config import read_toml
from device_agent.errors import ConfigError
from device_agent.settings import Door
from models.data import FOLDER_PREFIX, known_datasets
from models.merge import Merge
from models.registry import families
from models.snapshot import Codec

TOKEN = 10**18
"""Token base units in one token."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Devices(_Part):
    """The devices and what they can do (speeds of a Raspberry Pi 4, one thread)."""

    count: int = Field(default=10, ge=2, le=1000)
    training_images_per_s: float = Field(default=400.0, gt=0)
    validation_images_per_s: float = Field(default=1600.0, gt=0)
    validators: int | None = Field(default=None, ge=0)
    """How many of them take a validator seat, the first ones; default: all."""


class Attackers(_Part):
    """Devices that cheat: the last `count` ones. A label flipper trains and votes on mirrored labels."""

    kind: Literal["label_flip"] = "label_flip"
    count: int = Field(default=0, ge=0)


class Data(_Part):
    """The images and how they are spread over the devices."""

    dataset: str = "fashion-mnist"
    partition: Literal["iid", "label_shards", "dirichlet"] = "dirichlet"
    alpha: float = Field(default=1.0, gt=0)
    """Of Dirichlet: the smaller, the more unlike the devices' data."""
    labels_per_device: int = Field(default=2, ge=1)
    samples_per_label: int = Field(default=150, ge=1)
    samples_per_device: int = Field(default=1000, ge=20)
    """At most; of iid and Dirichlet."""
    validation_share: float = Field(default=0.3, gt=0, lt=1)
    """Part of a device's data that it votes with and never trains on."""

    @field_validator("dataset")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in known_datasets() and not value.startswith(FOLDER_PREFIX):
            raise ValueError(f"allowed are {', '.join(known_datasets())} and {FOLDER_PREFIX}PATH")
        return value


class Learning(_Part):
    """The algorithm, the network and the hyper-parameters."""

    algorithm: Literal["oppcl", "gossip"] = "oppcl"
    architecture: str = "cnn6"
    codec: Codec = Field(default=Codec.INT8, strict=False)
    merge: Merge = Field(default=Merge.MEAN, strict=False)
    max_rounds: int = Field(default=3, ge=1)
    """OppCL: mini-batches a Neighbor trains for a Learner."""
    own_steps: int = Field(default=3, ge=0)
    """Mini-batches a Learner trains after it has adopted a model."""
    warmup_steps: int = Field(default=0, ge=0)
    """Mini-batches every device trains alone before the first encounter."""
    batch_size: int = Field(default=50, ge=1)
    learning_rate: float = Field(default=0.01, gt=0)
    momentum: float = Field(default=0.0, ge=0, lt=1)

    @field_validator("architecture")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in families():
            raise ValueError(f"allowed are {', '.join(families())}")
        return value


class Incentives(_Part):
    """The contract's parameters and what devices put in. Amounts in whole tokens, shares in 1/10,000."""

    reward: float = Field(default=1.0, gt=0, le=1e6)
    stake: float = Field(default=30.0, gt=0, le=1e9)
    min_stake: float = Field(default=5.0, gt=0, le=1e9)
    tolerance_bps: int = Field(default=200, ge=0, le=10_000)
    validators: int = Field(default=3, ge=1, le=7)
    pn_bps: int = Field(default=DEFAULT_PARAMETERS.pn_bps, ge=0, le=10_000)
    q_bps: int = Field(default=DEFAULT_PARAMETERS.q_bps, ge=0, le=10_000)
    bond_bps: int = Field(default=DEFAULT_PARAMETERS.bond_bps, ge=0, le=10_000)
    standby_delay_s: int = Field(default=60, ge=1)
    vote_time_s: int = Field(default=600, ge=10)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        needed = self.min_stake + self.reward
        if self.stake < needed:
            raise ValueError(f"stake must be at least min_stake + reward ({needed:g})")
        if self.bond_bps < 10_000 - self.pn_bps:
            raise ValueError(f"bond_bps must be at least 10000 - pn_bps ({10_000 - self.pn_bps})")
        return self


class Contacts(_Part):
    """Who meets whom: at random, or from a trace of "t i j" lines."""

    kind: Literal["random", "trace"] = "random"
    mean_gap_s: float = Field(default=600.0, gt=0)
    mean_contact_s: float = Field(default=120.0, gt=0)
    min_contact_s: float = Field(default=40.0, gt=0)
    file: Path | None = Field(default=None, strict=False)
    merge_gap_s: float = Field(default=20.0, ge=20)
    """Sightings of a trace this far apart are still one contact: a choice that changes results, so it is visible.
    At least the 20 s that a sighting stands for, or a contact would begin before the one before it is over."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.kind == "trace" and self.file is None:
            raise ValueError('kind = "trace" needs file')
        return self


class AirTimes(_Part):
    """How radios and links behave."""

    sighting_every_s: float = Field(default=5.0, gt=0)
    latency_s: float = Field(default=0.02, ge=0)
    bytes_per_s: float = Field(default=1.5e6, gt=0)


class ChainChoice(_Part):
    """Which chain; `--chain` on the command line goes first."""

    kind: str = "embedded"
    block_time_s: float = Field(default=2.0, ge=1)
    door: Door = Field(default=Door.BATCHED, strict=False)
    """How the devices' steps get to the chain: signed and relayed in batches, or as transactions of their own."""

    @field_validator("kind")
    @classmethod
    def _timed(cls, value: str) -> str:
        return timed_chain(value)


class Run(_Part):
    """When it is over."""

    encounters: int = Field(default=80, ge=1)
    """No encounter is proposed after this many have been opened."""
    max_hours: float = Field(default=24.0, gt=0, le=24 * 365)
    """Virtual time after which the run ends in any case."""


class Scenario(_Part):
    """Everything a simulation depends on; the same scenario and seed give the same result."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,59}$")
    """Also names the folder of its results."""
    seed: int = Field(default=1, ge=0, lt=1 << 32)
    devices: Devices = Devices()
    attackers: Attackers = Attackers()
    data: Data = Data()
    learning: Learning = Learning()
    incentives: Incentives = Incentives()
    contacts: Contacts = Contacts()
    air: AirTimes = AirTimes()
    chain: ChainChoice = ChainChoice()
    run: Run = Run()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.attackers.count >= self.devices.count:
            raise ValueError(f"attackers.count must be below devices.count ({self.devices.count})")
        if (self.devices.validators or 0) > self.devices.count:
            raise ValueError(f"devices.validators must be at most devices.count ({self.devices.count})")
        return self


def timed_chain(kind: str) -> str:
    """Return `kind` if a simulation can run on it. Raises ValueError saying what is allowed."""
    local = sorted(name for name, profile in PROFILES.items() if profile.time_control)
    if kind in local or kind.startswith(("http://", "https://")):
        return kind
    raise ValueError(
        f"a simulation needs a chain whose time it can set: {', '.join(local)}, or the URL of a Ganache or Anvil"
    )


def shipped() -> list[str]:
    """Return the names of the scenarios that come with the kit."""
    folder = files("device_agent.loopback") / "scenarios"
    return sorted(one.name.removesuffix(".toml") for one in folder.iterdir() if one.name.endswith(".toml"))


def read_scenario(given: str) -> Scenario:
    """Read a scenario from a file, or a shipped one by its name. Raises `ConfigError`."""
    path = Path(given)
    if given in shipped() and not path.exists():
        path = Path(str(files("device_agent.loopback") / "scenarios" / f"{given}.toml"))
    elif not path.exists():
        raise ConfigError(f"{given}: there is no such file, nor a shipped scenario ({', '.join(shipped())})")
    scenario = read_toml(path, Scenario)
    trace = scenario.contacts.file
    if trace is not None and not trace.is_absolute():
        # A trace is named from where its scenario lies.
        contacts = scenario.contacts.model_copy(update={"file": path.parent / trace})
        scenario = scenario.model_copy(update={"contacts": contacts})
    return scenario
