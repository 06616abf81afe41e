"""An account of a device or a gateway: signs the transactions it sends, and the operations that others send for it."""

from __future__ import annotations

from dataclasses import dataclass

from eth_hash.auto import keccak

from contracts import curve, signing
from contracts.addresses import checksum_address
from contracts.encoding import rlp_encode

_DYNAMIC_FEE_TYPE = bytes([2])


@dataclass(frozen=True, slots=True, kw_only=True)
class Fees:
    """What a transaction may cost, in wei per gas."""

    tip_wei: int
    max_fee_wei: int


class Identity:
    """One secp256k1 key and what it signs. The key is shown nowhere, not even in `repr`."""

    def __init__(self, key: bytes) -> None:
        """Take a 32-byte private key. Raises ValueError for anything else."""
        self._address = checksum_address(curve.address(key))
        self._key = bytes(key)

    @property
    def address(self) -> str:
        """The account's checksum address."""
        return self._address

    def sign_digest(self, digest: bytes) -> bytes:
        """Sign a 32-byte digest of `contracts.signing`, or an encounter id; return 64 bytes."""
        return signing.sign(self._key, digest)

    def __repr__(self) -> str:
        return f"Identity({self.address})"

    def sign(
        self, *, chain_id: int, nonce: int, target: str, data: bytes, gas: int, fees: Fees, value_wei: int = 0
    ) -> tuple[bytes, bytes]:
        """Sign an EIP-1559 transaction; return (raw bytes, 32-byte hash)."""
        to = bytes.fromhex(target.removeprefix("0x"))
        unsigned = [chain_id, nonce, fees.tip_wei, fees.max_fee_wei, gas, to, value_wei, data, []]
        made = curve.sign(self._key, keccak(_DYNAMIC_FEE_TYPE + rlp_encode(unsigned)))
        raw = _DYNAMIC_FEE_TYPE + rlp_encode([*unsigned, made.y_parity, made.r, made.s])
        return raw, keccak(raw)
