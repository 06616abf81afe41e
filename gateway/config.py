"""Settings of a gateway: one frozen object, read from TOML, the environment and flags."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from contracts.chain import PROFILES, profile_for
from contracts.errors import ChainUnreachable
from gateway.errors import ConfigError

MIB: Final = 1 << 20
ENVIRONMENT: Final = "IDML_GATEWAY_"
"""What variables begin with; a part of a table is joined by two underscores: IDML_GATEWAY_LIMITS__MAX_GAS."""

_LOCAL_RPC: Final = "http://127.0.0.1:8545"
"""Where Anvil and Ganache listen unless told otherwise."""


class LogFormat(StrEnum):
    """How lines of the log look."""

    TEXT = "text"
    JSON = "json"


class LogLevel(StrEnum):
    """The least level that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Limits(BaseModel):
    """What one request may cost, and how many may come. Sizes in bytes, amounts in wei; of rates, 0 = no limit.

    Attributes:
        max_json_bytes: of a body that is no model.
        max_model_bytes: of a model.
        max_gas: of a transaction.
        max_value_wei: that a transaction may send.
        max_fee_wei: highest gas x maxFeePerGas of one transaction.
        requests_per_s: of one device: the account that signed the request, or else the work in it.
        requests_burst: of one device at once, after a pause.
        peer_requests_per_s: of one network address, where no account is known.
        peer_requests_burst: of one network address at once.
        all_requests_per_s: of all together.
        all_requests_burst: of all at once.
        undone_per_account: transactions in no block and operations in no batch.
        undone_in_all: the same, of all accounts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_json_bytes: int = Field(default=64 * 1024, ge=1024, le=MIB)
    max_model_bytes: int = Field(default=64 * MIB, ge=1024)
    max_gas: int = Field(default=1_000_000, ge=21_000)
    max_value_wei: int = Field(default=10**19, ge=0)
    max_fee_wei: int = Field(default=10**18, ge=1)
    requests_per_s: float = Field(default=20, ge=0)
    requests_burst: int = Field(default=200, ge=1)
    peer_requests_per_s: float = Field(default=100, ge=0)
    peer_requests_burst: int = Field(default=1_000, ge=1)
    all_requests_per_s: float = Field(default=400, ge=0)
    all_requests_burst: int = Field(default=4_000, ge=1)
    undone_per_account: int = Field(default=100, ge=1)
    undone_in_all: int = Field(default=20_000, ge=1)


class ModelSettings(BaseModel):
    """What is kept of models.

    Attributes:
        quota_per_device_bytes: of one enrolled device, or of all that are not known.
        quota_bytes: of all.
        keep_days: since a model was last used; well above the life of an encounter.
        partial_hours: since an unfinished upload last went on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    quota_per_device_bytes: int = Field(default=2048 * MIB, ge=MIB)
    quota_bytes: int = Field(default=20_480 * MIB, ge=MIB)
    keep_days: float = Field(default=30, ge=2)
    partial_hours: float = Field(default=24, gt=0)


class Access(StrEnum):
    """Whom a gateway serves."""

    OPEN = "open"
    ENROLLED = "enrolled"


class DoorSettings(BaseModel):
    """Who may come in.

    Attributes:
        access: "open": anyone; "enrolled": devices that redeemed a token of `idml-gateway enrol`, by signed requests.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    access: Access = Access.OPEN


class ConnectionSettings(BaseModel):
    """What connections may use up.

    Attributes:
        most: at once, the others are closed.
        handshake_s: the longest that a TLS handshake may take.
        idle_s: the longest that one may be silent.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    most: int = Field(default=1_000, ge=1)
    handshake_s: float = Field(default=10, gt=0, le=120)
    idle_s: float = Field(default=120, gt=0, le=86_400)


class TlsSettings(BaseModel):
    """Whether and how the gateway speaks TLS 1.3 itself.

    Attributes:
        on: speak TLS instead of plain HTTP.
        certificate: PEM file; default: `tls.pem` in `data`, made at the first start together with its key.
        key: PEM file; default: it is in the file of the certificate.
        names: host names and addresses for a certificate that is made, beside `host`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    on: bool = False
    certificate: Path | None = None
    key: Path | None = None
    names: tuple[str, ...] = ()

    @field_validator("names")
    @classmethod
    def _nameable(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not all(name.isascii() and name.isprintable() and name for name in names):
            raise ValueError("a name is a host name or an address in ASCII")
        return names

    @model_validator(mode="after")
    def _key_with_certificate(self) -> TlsSettings:
        if self.key is not None and self.certificate is None:
            raise ValueError("key goes with a certificate")
        return self


class GatewayConfig(BaseModel):
    """Everything a gateway needs to know.

    Attributes:
        chain: a profile's name (anvil, ganache, amoy) or an RPC URL.
        rpc_url: the node to use, with the rules of `chain`'s profile; default: the profile's own.
        deployment: a deployment's file, or a folder of them; default: this user's.
        data: folder of the database and the models.
        database_url: SQLAlchemy URL; default: SQLite in `data`.
        operator_key: file with the private key of the account that pays for batches; default: `operator.key` in `data`,
            made at the first start.
        operator_alarm_wei: with less native coin than this the operator is shown as short of it.
        host: address to listen on.
        port: to listen on; 0 = any free one.
        interval_s: seconds between the worker's steps.
        resend_after_s: seconds until a transaction that is in no block is sent again.
        log_format: text for people, json for programs.
        log_level: the least level that is logged; debug includes the libraries'.
        limits: what one request may cost, and how many may come.
        models: what is kept of models.
        door: who may come in.
        connections: what they may use up.
        tls: whether the gateway speaks TLS itself.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    chain: str
    rpc_url: str | None = None
    deployment: Path | None = None
    data: Path = Field(default_factory=lambda: platformdirs.user_state_path("idml") / "gateway")
    database_url: str | None = None
    operator_key: Path | None = None
    operator_alarm_wei: int = Field(default=10**17, ge=0)
    host: str = Field(default="127.0.0.1", min_length=1)
    port: int = Field(default=8547, ge=0, le=65535)
    interval_s: float = Field(default=1.0, gt=0, le=3600)
    resend_after_s: float = Field(default=20.0, gt=0)
    log_format: LogFormat = LogFormat.TEXT
    log_level: LogLevel = LogLevel.INFO
    limits: Limits = Limits()
    models: ModelSettings = ModelSettings()
    door: DoorSettings = DoorSettings()
    connections: ConnectionSettings = ConnectionSettings()
    tls: TlsSettings = TlsSettings()

    @field_validator("chain")
    @classmethod
    def _known_chain(cls, chain: str) -> str:
        try:
            profile_for(chain)
        except ChainUnreachable:
            names = ", ".join(name for name in PROFILES if name != "embedded")
            raise ValueError(f"must be one of {names}, or an http(s) URL") from None
        return chain

    @field_validator("rpc_url")
    @classmethod
    def _http(cls, url: str | None) -> str | None:
        parts = urlsplit(url or _LOCAL_RPC)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be an http(s) URL")
        return url

    @field_validator("database_url")
    @classmethod
    def _database(cls, url: str | None) -> str | None:
        try:
            backend = None if url is None else make_url(url).get_backend_name()
        except (ArgumentError, ValueError):
            raise ValueError("must be a SQLAlchemy URL") from None
        if backend not in (None, "sqlite", "postgresql"):
            raise ValueError("must be a sqlite or postgresql URL")
        return url

    @model_validator(mode="after")
    def _one_url(self) -> GatewayConfig:
        if self.rpc_url is not None and "://" in self.chain:
            raise ValueError("rpc_url goes with a chain's name; chain is an RPC URL itself")
        return self

    @property
    def url(self) -> str:
        """The database to open."""
        return self.database_url or f"sqlite:///{self.data / 'gateway.sqlite'}"

    @property
    def operator_file(self) -> Path:
        """Where the operator's key lies, or will be made."""
        return self.operator_key or self.data / "operator.key"

    @property
    def certificate_file(self) -> Path:
        """Where the certificate lies, or will be made."""
        return self.tls.certificate or self.data / "tls.pem"

    @property
    def node_url(self) -> str:
        """The node to connect to."""
        return self.rpc_url or profile_for(self.chain).url or _LOCAL_RPC

    def shown(self) -> Iterator[str]:
        """Yield the effective settings, one `key = value` each, with secrets masked."""
        values = self.model_dump(mode="json") | {
            "database_url": self.url,
            "rpc_url": self.node_url,
            "operator_key": str(self.operator_file),
        }
        for key, value in values.items():
            if key not in _INNER:
                yield f"{key} = {masked(value)}"
        for table in _INNER:
            for key, value in values[table].items():
                yield f"{table}.{key} = {masked(value)}"


_INNER: Final[Mapping[str, type[BaseModel]]] = {
    "limits": Limits,
    "models": ModelSettings,
    "door": DoorSettings,
    "connections": ConnectionSettings,
    "tls": TlsSettings,
}
"""The tables within the settings."""


def masked(value: object) -> str:
    """Return a setting as it may be printed: of a URL that could hold a password or key only the place."""
    text = str(value)
    scheme, colon, rest = text.partition("://")
    if not colon or scheme == "sqlite":
        return text
    place, slash, path = rest.rpartition("@")[2].partition("/")
    user = "***@" if "@" in rest else ""
    place, query, _ = place.partition("?")
    if scheme.startswith("http"):
        path = "***" if path else ""
    else:
        path, query, _ = path.partition("?")  # the database's name is no secret
    return f"{scheme}://{user}{place}{slash}{path}{'?***' if query else ''}"


def read_config(
    path: Path | None,
    *,
    environment: Mapping[str, str] = os.environ,
    flags: Mapping[str, object] | None = None,
) -> GatewayConfig:
    """Read settings: flags go before the environment, the environment before the file.

    Raises `ConfigError`: one line that names the source, the key, the value and what is allowed.
    """
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    if path is not None:
        values = _read_toml(path)
        sources = {key: str(path) for key in _keys(values)}
    for name, text in sorted(environment.items()):
        if name.startswith(ENVIRONMENT):
            key = name.removeprefix(ENVIRONMENT).lower().replace("__", ".")
            _put(values, key, _typed(key, text), source=name)
            sources[key] = name
    for key, value in (flags or {}).items():
        if value is not None:
            values[key] = value
            sources[key] = "--" + key.replace("_", "-")
    try:
        # By way of JSON: it takes paths as text, and otherwise no type for another.
        config = GatewayConfig.model_validate_json(json.dumps(values, default=str), strict=True)
    except ValidationError as error:
        raise ConfigError(_explain(error, sources, path)) from None
    if config.chain == "embedded":
        words = "the embedded chain lives inside one simulation; name another chain or an RPC URL"
        raise ConfigError(f"{sources['chain']}: chain = 'embedded': {words}")
    return config


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error


def _keys(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        yield prefix + key
        if isinstance(value, dict):
            yield from _keys(value, f"{prefix}{key}.")


def _put(values: dict[str, Any], key: str, value: object, *, source: str) -> None:
    *tables, last = key.split(".")
    place = values
    for table in tables:
        inner = place.setdefault(table, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"{source}: unknown key {key}; allowed: {_allowed([])}")
        place = inner
    place[last] = value


def _typed(key: str, text: str) -> object:
    """A variable's text as a number, where the key wants one and it is one."""
    table, _, name = key.rpartition(".")
    field = _INNER.get(table, GatewayConfig).model_fields.get(name)
    if field is None or field.annotation not in (int, float, bool):
        return text
    if field.annotation is bool:
        return {"true": True, "false": False}.get(text, text)
    try:
        return float(text) if field.annotation is float else int(text)
    except ValueError:
        return text


def _explain(error: ValidationError, sources: Mapping[str, str], path: Path | None) -> str:
    first = error.errors(include_url=False)[0]
    place = [str(part) for part in first["loc"]]
    key = ".".join(place)
    source = sources.get(key) or (str(path) if path else "settings")
    if first["type"] == "extra_forbidden":
        return f"{source}: unknown key {key}; allowed: {_allowed(place[:-1])}"
    if first["type"] == "missing":
        flag, variable = key.replace("_", "-"), ENVIRONMENT + key.upper()
        return f"{source}: {key} is missing: write `{key} = ...` in the file, set {variable}, or give --{flag}"
    said = first["msg"].removeprefix("Value error, ")
    if not key:
        return f"{source}: {said}"
    given = first["input"]
    value = repr(masked(given))[:80] if isinstance(given, str) else repr(given)[:80]
    return f"{source}: {key} = {value}: {said[:1].lower()}{said[1:]}"


def _allowed(place: list[str]) -> str:
    return ", ".join(sorted(_INNER.get(".".join(place), GatewayConfig).model_fields))
