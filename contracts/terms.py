"""The terms of an encounter: what Learner and Neighbor agree on before either of them checks in.

The encounter id is the EIP-712 hash of the terms: computable offline, bound to one chain and one contract.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Final, cast

from eth_hash.auto import keccak

from contracts.addresses import checksum_address
from contracts.errors import MalformedTerms

DOMAIN_NAME: Final = "iDML"
DOMAIN_VERSION: Final = "1"

TERMS_TYPES: Final = (
    "address",
    "address",
    "bytes32",
    "bytes32",
    "bytes32",
    "uint96",
    "uint16",
    "uint16",
    "uint40",
    "uint40",
    "bytes32",
    "uint24",
    "uint32",
)
"""ABI types of the members of ``Terms``, in order; all static, one word each."""

TERMS_TYPE_STRING: Final = (
    "Terms(address learner,address neighbor,bytes32 algorithm,bytes32 architecture,bytes32 previous,"
    "uint96 reward,uint16 toleranceBps,uint16 parameterSet,uint40 openBy,uint40 reportBy,"
    "bytes32 salts,uint24 seats,uint32 nonce)"
)

LANES: Final = 8
"""Encounters opened by signatures that one Learner can have open at once: the nonce modulo this is its lane."""

_TERMS_TYPEHASH: Final = keccak(TERMS_TYPE_STRING.encode())
_DOMAIN_TYPEHASH: Final = keccak(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_DIGEST = re.compile(r"0x[0-9a-f]{64}")
_ZERO_ADDRESS = "0x" + "0" * 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """The chain and the contract an encounter lives on (EIP-712 domain)."""

    chain_id: int
    escrow: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What both sides agree on (iDML step 1); equal to ``IIdmlEscrow.Terms`` member by member.

    Raises `MalformedTerms` for any value the contract could not hold.

    Attributes:
        learner: checksum address of the side that benefits and pays.
        neighbor: checksum address of the side that works.
        algorithm: see `algorithm_label`.
        architecture: SHA-256 of the trusted ONNX graph.
        previous: SHA-256 of the Learner's snapshot before the encounter.
        reward: token base units, prepaid by the Learner; the Neighbor locks as much.
        tolerance_bps: tau, the accuracy that may be lost in normal fluctuation, in 1/10,000.
        parameter_set: number of a parameter set of the contract.
        open_by: Unix time (s) until which the second side may check in.
        report_by: Unix time (s) until which results may be reported.
        salts: `both_salts` of the two sides' commitments.
        seats: validator seats that take part in the draw, 1 to ``seats``: how many there were when the terms were made.
        nonce: 0 for the direct door; for the signed one a number whose low three bits name a lane of the Learner's,
            greater than all that this lane has seen.
    """

    learner: str
    neighbor: str
    algorithm: bytes
    architecture: bytes
    previous: bytes
    reward: int
    tolerance_bps: int
    parameter_set: int
    open_by: int
    report_by: int
    salts: bytes
    seats: int
    nonce: int

    def __post_init__(self) -> None:
        for name in ("learner", "neighbor"):
            _check_address(name, getattr(self, name))
        for name in ("algorithm", "architecture", "previous", "salts"):
            value = getattr(self, name)
            if not isinstance(value, bytes) or len(value) != 32:
                raise MalformedTerms(name, "32 bytes", value)
        _check_int("reward", self.reward, 1, 2**96 - 1)
        _check_int("tolerance_bps", self.tolerance_bps, 0, 10_000)
        _check_int("parameter_set", self.parameter_set, 0, 2**16 - 1)
        _check_int("open_by", self.open_by, 0, 2**40 - 1)
        _check_int("report_by", self.report_by, 0, 2**40 - 1)
        _check_int("seats", self.seats, 0, 2**24 - 1)
        _check_int("nonce", self.nonce, 0, 2**32 - 1)
        if self.learner == self.neighbor:
            raise MalformedTerms("neighbor", "another address than learner", self.neighbor)
        if self.open_by >= self.report_by:
            raise MalformedTerms("report_by", f"later than open_by ({self.open_by})", self.report_by)

    def as_tuple(self) -> tuple[str | bytes | int, ...]:
        """The members in the order of the ABI."""
        return tuple(getattr(self, name) for name in TERMS_FIELDS)


TERMS_FIELDS: Final = tuple(field.name for field in fields(Terms))
_BYTES_FIELDS: Final = frozenset(
    name for name, kind in zip(TERMS_FIELDS, TERMS_TYPES, strict=True) if kind == "bytes32"
)


def encounter_id(terms: Terms, domain: Domain) -> bytes:
    """The 32-byte id of an encounter: the EIP-712 hash of its terms in the domain of one contract."""
    words = b"".join(_word(value) for value in terms.as_tuple())
    return typed_hash(domain, keccak(_TERMS_TYPEHASH + words))


def typed_hash(domain: Domain, struct_hash: bytes) -> bytes:
    """The 32 bytes that an EIP-712 signature signs."""
    return keccak(b"\x19\x01" + domain_separator(domain) + struct_hash)


def domain_separator(domain: Domain) -> bytes:
    """The 32-byte EIP-712 domain separator of the escrow contract."""
    return keccak(
        _DOMAIN_TYPEHASH
        + keccak(DOMAIN_NAME.encode())
        + keccak(DOMAIN_VERSION.encode())
        + _word(domain.chain_id)
        + _word(domain.escrow)
    )


def commitment(salt: bytes) -> bytes:
    """The 32-byte commitment to a 32-byte random salt, revealed with the report."""
    if len(salt) != 32:
        raise ValueError(f"a salt has 32 bytes, not {len(salt)}")
    return keccak(salt)


def both_salts(learner: bytes, neighbor: bytes) -> bytes:
    """What the terms say of the salts: the hash of the Learner's `commitment` and the Neighbor's."""
    if len(learner) != 32 or len(neighbor) != 32:
        raise ValueError(f"commitments have 32 bytes, not {len(learner)} and {len(neighbor)}")
    return keccak(learner + neighbor)


def algorithm_label(name: str) -> bytes:
    """The name of a learning algorithm ("oppcl", "gossip") as 32 bytes: ASCII, padded with zeros."""
    raw = name.encode("ascii", errors="strict") if name.isascii() else b""
    if not 1 <= len(raw) <= 31 or not name.isprintable():
        raise MalformedTerms("algorithm", "1 to 31 printable ASCII characters", name)
    return raw.ljust(32, b"\0")


def terms_to_json(terms: Terms) -> dict[str, str | int]:
    """The terms as JSON values: addresses and digests as 0x-prefixed hex, amounts and times as integers."""
    return {
        name: "0x" + value.hex() if isinstance(value, bytes) else value
        for name, value in zip(TERMS_FIELDS, terms.as_tuple(), strict=True)
    }


def terms_from_json(obj: object) -> Terms:
    """Read terms that came from anywhere.

    Raises `MalformedTerms`, naming the field and what is allowed, for anything that `terms_to_json` would not
    have written.
    """
    if not isinstance(obj, Mapping):
        raise MalformedTerms("terms", "an object", obj)
    unknown = [key for key in obj if key not in TERMS_FIELDS]
    if unknown:
        raise MalformedTerms("terms", "an object with only " + ", ".join(TERMS_FIELDS), unknown[0])
    values: dict[str, str | bytes | int] = {}
    for name in TERMS_FIELDS:
        if name not in obj:
            raise MalformedTerms(name, "present", None)
        value = obj[name]
        if name in _BYTES_FIELDS:
            if not isinstance(value, str) or not _DIGEST.fullmatch(value):
                raise MalformedTerms(name, "0x and 64 lower-case hex digits", value)
            value = bytes.fromhex(value[2:])
        values[name] = cast("str | bytes | int", value)
    return Terms(**values)  # type: ignore[arg-type]  # __post_init__ checks every type


def _check_address(name: str, value: object) -> None:
    if not isinstance(value, str) or not _ADDRESS.fullmatch(value) or checksum_address(value) != value:
        raise MalformedTerms(name, "an address with EIP-55 checksum", value)
    if value == _ZERO_ADDRESS:
        raise MalformedTerms(name, "another address than zero", value)


def _check_int(name: str, value: object, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise MalformedTerms(name, f"an integer from {low} to {high}", value)


def _word(value: str | bytes | int) -> bytes:
    if isinstance(value, int):
        return value.to_bytes(32, "big")
    if isinstance(value, str):
        return bytes.fromhex(value[2:]).rjust(32, b"\0")
    return value


def terms_from_tuple(values: tuple[str | bytes | int, ...]) -> Terms:
    """Build terms from ABI-decoded members in order (addresses in any case)."""
    named = dict(zip(TERMS_FIELDS, values, strict=True))
    named["learner"] = checksum_address(cast("str", named["learner"]))
    named["neighbor"] = checksum_address(cast("str", named["neighbor"]))
    return Terms(**named)  # type: ignore[arg-type]  # __post_init__ checks every type
