"""The fleet as its operator writes it down: one TOML file, checked before anything is made from it.

[fleet]
name = "field-trial"
gateway = "https://192.168.8.1:8547"

[[devices]]
id = "07"
release = "trixie"
roles = ["learner", "validator"]
"""

import tomllib
from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from provisioning.errors import InventoryError

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$")]
"""What may stand in a host name."""


class Release(StrEnum):
    """Raspberry Pi OS (64-bit) releases that are supported, by their Debian name."""

    BOOKWORM = "bookworm"
    TRIXIE = "trixie"

    @property
    def python(self) -> str:
        """The Python the release ships, for which a bundle is made."""
        return {Release.BOOKWORM: "3.11", Release.TRIXIE: "3.13"}[self]


class DeviceRole(StrEnum):
    """What a device does. Every device works for others; a validator-only device gets no torch."""

    LEARNER = "learner"
    VALIDATOR = "validator"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class FleetSettings(_Part):
    """What all devices have in common."""

    name: Name
    gateway: str
    """URL of the gateway they hand their transactions to."""

    @field_validator("gateway")
    @classmethod
    def _usable(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise ValueError("must be an http or https URL without a user name")
        return value


class Device(_Part):
    """One device."""

    id: Name
    release: Release = Field(default=Release.TRIXIE, strict=False)
    roles: list[Annotated[DeviceRole, Field(strict=False)]] = Field(
        default=[DeviceRole.LEARNER, DeviceRole.VALIDATOR], min_length=1
    )

    @property
    def trains(self) -> bool:
        """Whether its bundle contains torch."""
        return DeviceRole.LEARNER in self.roles


class Fleet(_Part):
    """The whole inventory."""

    fleet: FleetSettings
    devices: list[Device] = Field(min_length=1)

    @model_validator(mode="after")
    def _unique(self) -> "Fleet":
        twice = [name for name, count in Counter(one.id for one in self.devices).items() if count > 1]
        if twice:
            raise ValueError(f"device ids must be unique, given twice: {', '.join(sorted(twice))}")
        return self

    def hostname(self, device: Device) -> str:
        """The name a device gets on the network."""
        return f"{self.fleet.name}-{device.id}"


def read_inventory(path: Path) -> Fleet:
    """Read a fleet. Raises `InventoryError`: one line with file, key, value and what is allowed."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InventoryError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InventoryError(f"{path}: not TOML: {error}") from error
    try:
        return Fleet.model_validate(values)
    except ValidationError as error:
        raise InventoryError(f"{path}: {_explain(error)}") from error


def _explain(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"]) or "the file"
    if first["type"] == "extra_forbidden":
        return f"unknown key {key}"
    if first["type"] == "missing":
        return f"{key} is missing"
    if not first["loc"]:
        return first["msg"].removeprefix("Value error, ")
    return f"{key} = {first['input']!r:.80}: {first['msg'].removeprefix('Value error, ')}"
