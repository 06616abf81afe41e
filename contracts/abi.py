"""The committed artifacts: what the contracts compile to, so that no device and no user ever compiles."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).parent / "artifacts"
NAMES: Final = ("IdmlToken", "IdmlEscrow")


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """One compiled contract.

    Attributes:
        name: of the contract.
        abi: as the compiler writes it.
        bytecode: creation code, without constructor arguments.
        deployed_bytecode: runtime code, with zeros where immutables go.
        immutables: (start, length) in bytes of every place an immutable is written to.
        compiler: version, for example ``0.8.30+commit.73712a01``.
        sources_sha256: hash over names and hashes of all sources, libraries included.
    """

    name: str
    abi: list[dict[str, Any]]
    bytecode: bytes
    deployed_bytecode: bytes
    immutables: tuple[tuple[int, int], ...]
    compiler: str
    sources_sha256: str

    def matches(self, code: bytes) -> bool:
        """Whether code found on a chain is ours, whatever its immutables hold."""
        return len(code) == len(self.deployed_bytecode) and self.masked(code) == self.deployed_bytecode

    def masked(self, code: bytes) -> bytes:
        """Code with zeros in the place of its immutables."""
        plain = bytearray(code)
        for start, length in self.immutables:
            plain[start : start + length] = bytes(length)
        return bytes(plain)


@cache
def artifact(name: str) -> Artifact:
    """The committed artifact of ``IdmlToken`` or ``IdmlEscrow``."""
    return from_json(name, json.loads((FOLDER / f"{name}.json").read_text()))


def from_json(name: str, stored: dict[str, Any]) -> Artifact:
    """An artifact as its file stores it."""
    places = [place for uses in stored["immutableReferences"].values() for place in uses]
    return Artifact(
        name=name,
        abi=stored["abi"],
        bytecode=bytes.fromhex(stored["bytecode"].removeprefix("0x")),
        deployed_bytecode=bytes.fromhex(stored["deployedBytecode"].removeprefix("0x")),
        immutables=tuple(sorted((place["start"], place["length"]) for place in places)),
        compiler=stored["compiler"],
        sources_sha256=stored["sourcesSha256"],
    )
