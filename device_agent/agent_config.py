"""Settings of an agent on a device: one frozen object, read from TOML."""

from __future__ import annotations

from dataclasses import fields
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

import platformdirs
from pydantic import Field, field_validator, model_validator

from device_agent.config import Section, read_toml
from device_agent.learning.choices import BASE_UNIT, Data, Learning, base_units
from device_agent.pinning import read_fingerprint
from device_agent.radio.duty_cycle import MOST_PER_MIN
from device_agent.settings import Door, Settings


class LogFormat(StrEnum):
    """How lines of the log look."""

    TEXT = "text"
    JSON = "json"


class IdentityChoice(Section):
    """Where the device's secrets are.

    Attributes:
        keystore: made by `idml-agent key new`; default: `keystore.json` in `state`.
        passphrase_file: its first line opens the keystore; default: the systemd credential `idml-passphrase`.
    """

    keystore: Path | None = Field(default=None, strict=False)
    passphrase_file: Path | None = Field(default=None, strict=False)


class GatewayChoice(Section):
    """The way to the chain.

    Attributes:
        url: where the gateway answers.
        fingerprint: SHA-256 of its certificate, as `idml-gateway fingerprint` prints it.
        enrolled: whether it serves enrolled devices only: then requests are signed.
        token_file: a one-time token of its operator, redeemed at the first start.
    """

    url: str = "http://127.0.0.1:8547"
    fingerprint: str | None = None
    enrolled: bool = False
    token_file: Path | None = Field(default=None, strict=False)

    @field_validator("fingerprint")
    @classmethod
    def _readable(cls, value: str | None) -> str | None:
        if value is not None:
            read_fingerprint(value)
        return value

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if not self.url.startswith(("http://", "https://")):
            raise ValueError("url must begin with http:// or https://")
        if self.fingerprint is not None and not self.url.startswith("https://"):
            raise ValueError("a gateway with a fingerprint is at https://...")
        if self.token_file is not None and not self.enrolled:
            raise ValueError("token_file needs enrolled = true")
        return self


class LinkChoice(Section):
    """Where peers find this device.

    Attributes:
        host: address of this machine to answer at; default: all.
        port: 0 = any that is free.
    """

    host: str = ""
    port: int = Field(default=0, ge=0, le=65535)


class MdnsChoice(Section):
    """Discovery on the local network.

    Attributes:
        on: whether it is used.
        interfaces: names of the network interfaces; default: all that are up, but loopback.
    """

    on: bool = True
    interfaces: tuple[str, ...] = Field(default=(), strict=False)


class BleChoice(Section):
    """Discovery over Bluetooth LE: it tells sooner who is still there, and needs bluetoothd.

    Attributes:
        on: whether it is used.
        adapter: such as "hci0"; default: the first that can be used.
        quiet_s: without a sign of any Bluetooth device, after which the adapter is helped.
        sightings_per_min: how often each device in range is to be heard: less is for batteries.
        links: whether devices that find nothing by mDNS tell each other over a connection where their links answer.
    """

    on: bool = False
    adapter: str | None = Field(default=None, pattern=r"^hci[0-9]{1,3}$")
    quiet_s: float = Field(default=120.0, ge=30, le=86_400)
    links: bool = True
    sightings_per_min: float = Field(default=MOST_PER_MIN, ge=0.1, le=MOST_PER_MIN)


class TrialChoice(Section):
    """What a field trial writes down.

    Attributes:
        contacts: whether every contact goes into `contacts.jsonl` in `state`, for `idml-agent trace`.
    """

    contacts: bool = False


class ShareChoice(Section):
    """Which part of the data is this device's own: one of so many, spread alike on all devices of a trial.

    Attributes:
        number: of this device, from 0.
        of: how many devices there are.
        flipped: train and vote on mirrored labels, as a cheat would: for trials.
    """

    number: int = Field(default=0, ge=0)
    of: int = Field(default=1, ge=1, le=100_000)
    flipped: bool = False

    @model_validator(mode="after")
    def _within(self) -> Self:
        if self.number >= self.of:
            raise ValueError(f"number must be below of ({self.of})")
        return self


class IncentiveChoice(Section):
    """What the device puts in and asks for. Amounts in whole tokens, the tolerance in 1/10,000.

    Attributes:
        reward: what it offers as Learner, and the least it works for as Neighbor.
        stake: what it holds in the contract.
        credit: the most that encounters with one peer may come to while no gateway is in reach; 0: then there are none.
        tolerance_bps: the accuracy that may be lost.
        parameter_set: number of the contract's rules.
    """

    reward: float = Field(default=1.0, ge=BASE_UNIT, le=1e6)
    stake: float = Field(default=30.0, ge=BASE_UNIT, le=1e9)
    credit: float = Field(default=3.0, ge=0, le=1e6)
    tolerance_bps: int = Field(default=200, ge=0, le=10_000)
    parameter_set: int = Field(default=0, ge=0, lt=1 << 16)


_DEFAULT: dict[str, Any] = {one.name: one.default for one in fields(Settings)}


class Behaviour(Section):
    """How the device behaves; see `device_agent.settings.Settings`, whose names and defaults these are."""

    door: Door = Field(default=Door.BATCHED, strict=False)
    validator: bool = _DEFAULT["validator"]
    learner: bool = _DEFAULT["learner"]
    open_within_s: int = Field(default=_DEFAULT["open_within_s"], ge=5, le=86_400)
    report_within_s: int = Field(default=_DEFAULT["report_within_s"], ge=10, le=86_400)
    credit_within_s: int = Field(default=_DEFAULT["credit_within_s"], ge=60, le=7 * 86_400)
    credit_view_s: float = Field(default=_DEFAULT["credit_view_s"], gt=0)
    avoid_below: float = Field(default=_DEFAULT["avoid_below"], le=0)
    grace_s: int = Field(default=_DEFAULT["grace_s"], ge=0, le=86_400)
    answer_within_s: float = Field(default=_DEFAULT["answer_within_s"], gt=0)
    cooldown_s: float = Field(default=_DEFAULT["cooldown_s"], ge=0)
    expected_encounter_s: float = Field(default=_DEFAULT["expected_encounter_s"], ge=0)
    lost_after_s: float = Field(default=25.0, gt=0)
    ping_every_s: float = Field(default=10.0, gt=0)
    usual_contact_s: float = Field(default=_DEFAULT["usual_contact_s"], gt=0)
    poll_s: float = Field(default=_DEFAULT["poll_s"], ge=0.1)
    jobs_poll_s: float = Field(default=_DEFAULT["jobs_poll_s"], ge=0.1)
    jobs_wait_s: int = Field(default=20, ge=0, le=30)
    withheld_margin_s: int = Field(default=_DEFAULT["withheld_margin_s"], ge=0)
    max_model_bytes: int = Field(default=_DEFAULT["max_model_bytes"], ge=1024, le=1 << 30)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.lost_after_s < 2 * self.ping_every_s:
            raise ValueError("lost_after_s must be at least twice ping_every_s: one lost packet is no farewell")
        if self.report_within_s <= self.open_within_s + self.expected_encounter_s:
            raise ValueError("report_within_s must be above open_within_s and expected_encounter_s together")
        return self


class AgentConfig(Section):
    """Everything an agent is told.

    Attributes:
        state: folder of its journal, and of all it must not forget.
        seed: of the trial: the first model and the spreading of the data follow from it, the same on all devices.
        log_format: "text" for people, "json" for programs.
    """

    state: Path = Field(default_factory=lambda: platformdirs.user_data_path("idml"), strict=False)
    seed: int = Field(default=1, ge=0, lt=1 << 32)
    log_format: LogFormat = Field(default=LogFormat.TEXT, strict=False)
    identity: IdentityChoice = IdentityChoice()
    gateway: GatewayChoice = GatewayChoice()
    link: LinkChoice = LinkChoice()
    mdns: MdnsChoice = MdnsChoice()
    ble: BleChoice = BleChoice()
    trial: TrialChoice = TrialChoice()
    share: ShareChoice = ShareChoice()
    data: Data = Data()
    learning: Learning = Learning()
    incentives: IncentiveChoice = IncentiveChoice()
    behaviour: Behaviour = Behaviour()

    @property
    def keystore(self) -> Path:
        """Where the device's secrets are."""
        return self.identity.keystore or self.state / "keystore.json"

    @property
    def settings(self) -> Settings:
        """What the agent itself is told."""
        own = {one.name for one in fields(Settings)}
        behaviour = {name: value for name, value in self.behaviour if name in own}
        return Settings(
            reward=base_units(self.incentives.reward),
            stake=base_units(self.incentives.stake),
            credit=base_units(self.incentives.credit),
            tolerance_bps=self.incentives.tolerance_bps,
            parameter_set=self.incentives.parameter_set,
            **behaviour,
        )


def read_agent_config(path: Path) -> AgentConfig:
    """Read settings from a file. Raises `ConfigError` naming file, key, value and what is allowed."""
    return read_toml(path, AgentConfig)
