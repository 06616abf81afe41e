"""What is simulated: one TOML file, checked before anything starts. Units stand in the names."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from contracts.chain import PROFILES
from contracts.settlement import DEFAULT_PARAMETERS
from device_agent.config import Section, read_toml
from device_agent.errors import ConfigError
from device_agent.learning.choices import BASE_UNIT, Data, Learning
from device_agent.settings import Door


class Devices(Section):
    """The devices and what they can do (speeds of a Raspberry Pi 4, one thread)."""

    count: int = Field(default=10, ge=2, le=1000)
    training_images_per_s: float = Field(default=400.0, gt=0)
    validation_images_per_s: float = Field(default=1600.0, gt=0)
    validators: int | None = Field(default=None, ge=0)
    """How many of them take a validator seat, the first ones; default: all."""


class Attackers(Section):
    """Devices that cheat: the last `count` ones. A label flipper trains and votes on mirrored labels."""

    kind: Literal["label_flip"] = "label_flip"
    count: int = Field(default=0, ge=0)


class Incentives(Section):
    """The contract's parameters and what devices put in. Amounts in whole tokens, shares in 1/10,000."""

    reward: float = Field(default=1.0, ge=BASE_UNIT, le=1e6)
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


class Contacts(Section):
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


class AirTimes(Section):
    """How radios and links behave."""

    sighting_every_s: float = Field(default=5.0, gt=0)
    latency_s: float = Field(default=0.02, ge=0)
    bytes_per_s: float = Field(default=1.5e6, gt=0)


class ChainChoice(Section):
    """Which chain; `--chain` on the command line goes first."""

    kind: str = "embedded"
    block_time_s: float = Field(default=2.0, ge=1)
    door: Door = Field(default=Door.BATCHED, strict=False)
    """How the devices' steps get to the chain: signed and relayed in batches, or as transactions of their own."""

    @field_validator("kind")
    @classmethod
    def _timed(cls, value: str) -> str:
        return timed_chain(value)


class Run(Section):
    """When it is over."""

    encounters: int = Field(default=80, ge=1)
    """No encounter is proposed after this many have been opened."""
    max_hours: float = Field(default=24.0, gt=0, le=24 * 365)
    """Virtual time after which the run ends in any case."""


class Scenario(Section):
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
