"""What two links say to each other, as JSON over HTTPS. Bytes from a peer are hostile until `read` has taken them.

    client                                      server
      GET /v1/challenge  ----------------------->
      <----------------------- Challenge: its vouching, a nonce
      POST /v1/hello     -- Hello: own vouching, signature of the nonce and of the server's key -->
      <----------------------- Welcome: a token, for as long as the session lasts
      POST /v1/messages, GET /v1/ping, GET /v1/snapshots/DIGEST/manifest, GET /v1/snapshots/DIGEST (ranges)

The server proves its link key by TLS, the client by a signature that is good for this server and this nonce only; the
account of each vouches for its key. From then on the token, which no one else can see, stands for the client.
"""

from __future__ import annotations

from typing import Annotated, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from device_agent.errors import PeerFault, first_fault
from device_agent.messages import Hex32, Hex64

MAX_ANSWER_BYTES = 4096

Hex8 = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
Statement = Annotated[str, Field(max_length=1024)]


class _Said(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


S = TypeVar("S", bound=_Said)


class Challenge(_Said):
    """Server: who it is, and what is to be signed."""

    vouching: Statement
    nonce: Hex32


class Hello(_Said):
    """Client: who it is, what it shows on its radios, the port of its own link, and the proof."""

    vouching: Statement
    radio_id: Hex8
    port: int = Field(ge=1, le=65535)
    nonce: Hex32
    signature: Hex64


class Welcome(_Said):
    """Server: what stands for the client from now on, and what the server shows on its radios."""

    token: Hex32
    radio_id: Hex8


class Pong(_Said):
    """Server: still there, showing this on its radios."""

    radio_id: Hex8


class Manifest(_Said):
    """Server: what a snapshot is on the wire.

    `sha256` is of the packed bytes: a transfer that was cut goes on only if it is the same. `nonce` is the client's,
    so that no old manifest can be shown for a new one.
    """

    digest: Hex32
    size_bytes: int = Field(ge=1, le=1 << 30)
    sha256: Hex32
    nonce: Hex32
    signature: Hex64


UNSIGNED = "0" * 128
"""Stands for a signature that is still to be made."""


def hello_text(hello: Hello, *, account: str, server_key: bytes) -> bytes:
    """What a client of that account signs with its link key, for the server with that key."""
    lines = ("iDML link hello", server_key.hex(), account, hello.radio_id, str(hello.port), hello.nonce)
    return "\n".join(lines).encode()


def manifest_text(manifest: Manifest, *, account: str) -> bytes:
    """What a server signs with its link key, for the client of that account."""
    said = (manifest.digest, str(manifest.size_bytes), manifest.sha256, manifest.nonce)
    return "\n".join(("iDML link manifest", account, *said)).encode()


def write(said: _Said) -> bytes:
    """Write one of the above."""
    return said.model_dump_json().encode()


def read(data: bytes, kind: type[S]) -> S:
    """Read one of the above. Raises `PeerFault` for anything `write` would not have written."""
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        raise PeerFault(first_fault(error, kind.__name__.lower())) from error


def check_signature(key: bytes, text: bytes, signature: bytes) -> None:
    """Raise `PeerFault` unless `key` (32 bytes, Ed25519) signed `text`."""
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, text)
    except (InvalidSignature, ValueError) as error:
        raise PeerFault("the signature is not of the key it should be of") from error
