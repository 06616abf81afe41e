"""Signatures for the signed door: EIP-712 messages of a device, which anyone may send to the contract.

A signature here has 64 bytes: r and vs (EIP-2098). Who checks in signs the terms themselves, whose hash is the
encounter id.
"""

from typing import Final

from eth_hash.auto import keccak

from contracts import curve
from contracts.addresses import checksum_address
from contracts.calls import Action
from contracts.encoding import abi_encode
from contracts.states import VoteReason
from contracts.terms import Domain, typed_hash

SIGNATURE_BYTES: Final = 64

MISSING: Final = bytes(SIGNATURE_BYTES)
"""Stands for the Learner's signature in a report of the Neighbor alone."""

_REPORT: Final = keccak(b"Report(bytes32 encounter,bytes32 updated)")
_VOTE: Final = keccak(b"Vote(bytes32 encounter,bytes32 updated,bool valid,uint8 reason)")
_SEAL: Final = keccak(b"Seal(bytes32 encounter,bytes32 updated,bytes32 commitment)")
_ACTION: Final = keccak(b"Action(address account,uint8 kind,uint96 amount,uint32 nonce,uint40 deadline)")
_PERMIT: Final = keccak(b"Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)")
_PERMIT_DOMAIN: Final = keccak(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")


def report_digest(encounter: bytes, updated: bytes, domain: Domain) -> bytes:
    """What both sides sign: this updated model came out of this encounter."""
    return typed_hash(domain, keccak(abi_encode(["bytes32"] * 3, [_REPORT, encounter, updated])))


def vote_digest(encounter: bytes, updated: bytes, domain: Domain, *, valid: bool, reason: VoteReason) -> bytes:
    """What a validator signs."""
    types = ["bytes32", "bytes32", "bytes32", "bool", "uint8"]
    return typed_hash(domain, keccak(abi_encode(types, [_VOTE, encounter, updated, valid, reason])))


def seal_digest(encounter: bytes, updated: bytes, commitment: bytes, domain: Domain) -> bytes:
    """What a validator signs to seal its vote."""
    return typed_hash(domain, keccak(abi_encode(["bytes32"] * 4, [_SEAL, encounter, updated, commitment])))


def seal_commitment(encounter: bytes, voter: str, *, valid: bool, reason: VoteReason, salt: bytes) -> bytes:
    """The commitment to a vote; the encounter id binds it to chain and contract, and nobody else can copy it."""
    types = ["bytes32", "address", "bool", "uint8", "bytes32"]
    return keccak(abi_encode(types, [encounter, voter, valid, reason, salt]))


def action_digest(action: Action, domain: Domain) -> bytes:
    """What an account signs to stake, unbond, withdraw, register or leave through a relayer."""
    types = ["bytes32", "address", "uint8", "uint96", "uint32", "uint40"]
    values = [_ACTION, action.account, action.kind, action.amount, action.nonce, action.deadline]
    return typed_hash(domain, keccak(abi_encode(types, values)))


def permit_digest(*, token: Domain, owner: str, spender: str, amount: int, nonce: int, deadline: int) -> bytes:
    """What an owner signs to let a spender move tokens (ERC-2612); ``token``: the chain and the token's address."""
    separator = keccak(
        abi_encode(
            ["bytes32", "bytes32", "bytes32", "uint256", "address"],
            [_PERMIT_DOMAIN, keccak(b"iDML"), keccak(b"1"), token.chain_id, token.escrow],
        )
    )
    types = ["bytes32", "address", "address", "uint256", "uint256", "uint256"]
    return keccak(
        b"\x19\x01" + separator + keccak(abi_encode(types, [_PERMIT, owner, spender, amount, nonce, deadline]))
    )


def sign(key: bytes, digest: bytes) -> bytes:
    """The 64-byte signature of a 32-byte digest by a private key."""
    made = curve.sign(key, digest)
    return made.r.to_bytes(32) + (made.s | made.y_parity << 255).to_bytes(32)


def expanded(signature: bytes) -> tuple[int, bytes, bytes]:
    """v, r and s of a 64-byte signature, as ERC-2612 takes them."""
    vs = int.from_bytes(signature[32:], "big")
    return 27 + (vs >> 255), signature[:32], (vs & (2**255 - 1)).to_bytes(32, "big")


def signer(digest: bytes, signature: bytes) -> str | None:
    """Who signed; None where nobody did, or the signature is not one the contract takes (s in the upper half)."""
    if len(signature) != SIGNATURE_BYTES:
        return None
    vs = int.from_bytes(signature[32:])
    made = curve.Signature(r=int.from_bytes(signature[:32]), s=vs & (2**255 - 1), y_parity=vs >> 255)
    found = curve.signer(digest, made)
    return None if found is None else checksum_address(found)


def evidence(report: bytes, ballots: list[tuple[bool, VoteReason, bytes]]) -> bytes:
    """What `contracts.calls.Settle` carries.

    Args:
        report: signature of the report by the side that the verdict costs: the Learner if it is valid (or the Neighbor,
            once the time for reports is over), the Neighbor if it is not.
        ballots: (verdict, reason, signature) of each seat, in order.
    """
    return report + b"".join(bytes([valid | reason << 1]) + signed for valid, reason, signed in ballots)


def read_evidence(data: bytes) -> tuple[bytes, list[tuple[bool, VoteReason, bytes]]]:
    """Take apart what `evidence` put together. Raises ValueError for a length or a reason that no contract takes."""
    report, rest = data[:SIGNATURE_BYTES], data[SIGNATURE_BYTES:]
    size = SIGNATURE_BYTES + 1
    if len(report) != SIGNATURE_BYTES or len(rest) % size:
        raise ValueError(f"{len(data)} bytes are not a report and ballots")
    ballots = [rest[at : at + size] for at in range(0, len(rest), size)]
    return report, [(bool(one[0] & 1), VoteReason(one[0] >> 1), one[1:]) for one in ballots]
