"""Settings of a gateway: one frozen object, made from TOML and the environment at the composition root."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

MIB = 1 << 20


class Limits(BaseModel):
    """What one request may cost. Sizes in bytes, amounts in wei."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_json_bytes: int = Field(default=64 * 1024, ge=1024, le=MIB)
    max_model_bytes: int = Field(default=64 * MIB, ge=1024)
    max_gas: int = Field(default=1_000_000, ge=21_000)
    max_value_wei: int = Field(default=10**19, ge=0)
    max_fee_wei: int = Field(default=10**18, ge=1)
    """Highest gas x maxFeePerGas of one transaction."""


class GatewayConfig(BaseModel):
    """Everything a gateway needs to know. `data` holds the database and the models."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: Path
    database_url: str | None = None
    """SQLAlchemy URL; default: SQLite in `data`."""
    chain: str = "anvil"
    """A profile's name or an RPC URL."""
    rpc_url: str | None = None
    deployment: Path | None = None
    host: str = "127.0.0.1"
    port: int = Field(default=8547, ge=0, le=65535)
    resend_after_s: float = Field(default=20.0, gt=0)
    limits: Limits = Limits()

    @property
    def url(self) -> str:
        """The database to open."""
        return self.database_url or f"sqlite:///{self.data / 'gateway.sqlite'}"
