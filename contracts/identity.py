"""An account of a device or a gateway: signs the transactions it sends, and the operations that others send for it."""

from __future__ import annotations

from dataclasses import dataclass

from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_hash.auto import keccak
from eth_utils.address import to_checksum_address

from contracts import signing


@dataclass(frozen=True, slots=True, kw_only=True)
class Fees:
    """What a transaction may cost, in wei per gas."""

    tip_wei: int
    max_fee_wei: int


class Identity:
    """One secp256k1 key and what it signs. The key is shown nowhere, not even in `repr`."""

    def __init__(self, key: bytes) -> None:
        """Take a 32-byte private key. Raises ValueError for anything else."""
        self._account: LocalAccount = Account.from_key(key)

    @property
    def address(self) -> str:
        """The account's checksum address."""
        return str(self._account.address)

    def sign_digest(self, digest: bytes) -> bytes:
        """Sign a 32-byte digest of `contracts.signing`, or an encounter id; return 64 bytes."""
        return signing.sign(self._account, digest)

    def __repr__(self) -> str:
        return f"Identity({self.address})"

    def sign(
        self, *, chain_id: int, nonce: int, target: str, data: bytes, gas: int, fees: Fees, value_wei: int = 0
    ) -> tuple[bytes, bytes]:
        """Sign an EIP-1559 transaction; return (raw bytes, 32-byte hash)."""
        signed = self._account.sign_transaction(
            {
                "type": 2,
                "chainId": chain_id,
                "nonce": nonce,
                "to": to_checksum_address(target),
                "data": data,
                "value": value_wei,
                "gas": gas,
                "maxPriorityFeePerGas": fees.tip_wei,
                "maxFeePerGas": fees.max_fee_wei,
            }
        )
        raw = bytes(signed.raw_transaction)
        return raw, keccak(raw)
