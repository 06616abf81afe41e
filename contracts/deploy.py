"""Deploy the token and the escrow, remember where, and refuse a chain whose code is not ours."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

import platformdirs
from eth_abi.abi import encode as abi_encode
from eth_account.signers.local import LocalAccount
from eth_hash.auto import keccak
from web3 import Web3
from web3.exceptions import TimeExhausted

from contracts import calls
from contracts.abi import artifact
from contracts.errors import (
    ChainMismatch,
    CodeMismatch,
    DeploymentFailed,
    DeploymentMissing,
    MalformedDeployment,
)
from contracts.localchain import FEE_CAP_WEI, LocalChain
from contracts.reading import ContractReader
from contracts.settlement import DEFAULT_PARAMETERS, ParameterSet
from contracts.terms import Domain

_RECEIPT_TIMEOUT_S = 180
_DEPLOY_GAS: Final = 6_500_000


@dataclass(frozen=True, slots=True, kw_only=True)
class EscrowSettings:
    """What an escrow is deployed with.

    Attributes:
        min_stake: token base units; below it no role can be taken. Default: five rewards of one token.
        unbonding_period_s: from unbonding to withdrawing; at least ``max_life_s`` and three vote times.
        max_life_s: longest time from a check-in to the report deadline.
        parameters: parameter set 0.
    """

    min_stake: int = 5 * 10**18
    unbonding_period_s: int = 2 * 86_400
    max_life_s: int = 86_400
    parameters: ParameterSet = DEFAULT_PARAMETERS


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """Where the contracts live.

    Attributes:
        chain_id: EIP-155 id.
        genesis_hash: hash of block 0, 0x-prefixed; tells chains with equal ids apart.
        token: address of the token.
        escrow: address of the escrow.
        block: number of the block that created the token: no event of ours is older.
        token_code_hash: keccak256 of the token's code on chain.
        escrow_code_hash: keccak256 of the escrow's code on chain.
    """

    chain_id: int
    genesis_hash: str
    token: str
    escrow: str
    block: int
    token_code_hash: str
    escrow_code_hash: str

    @property
    def domain(self) -> Domain:
        """Where encounters live."""
        return Domain(chain_id=self.chain_id, escrow=self.escrow)


def deploy(
    web3: Web3,
    account: LocalAccount,
    *,
    settings: EscrowSettings | None = None,
    tip_wei: int = 1,
    mine: Callable[[], None] | None = None,
) -> Deployment:
    """Deploy token and escrow, with its parameter set 0; ``account`` pays and owns the escrow.

    Args:
        web3: the chain.
        account: signs.
        settings: of the escrow.
        tip_wei: priority fee per gas.
        mine: makes a block, on a chain that makes none by itself.

    Raises `DeploymentFailed`.
    """
    chosen = settings or EscrowSettings()
    send = _Sender(web3=web3, account=account, tip_wei=tip_wei, mine=mine)
    token = send.transaction(None, artifact("IdmlToken").bytecode)
    arguments = abi_encode(
        ["address", "uint96", "uint40", "uint40", calls.PARAMETERS, "address"],
        [
            token["contractAddress"],
            chosen.min_stake,
            chosen.unbonding_period_s,
            chosen.max_life_s,
            tuple(getattr(chosen.parameters, one.name) for one in fields(chosen.parameters)),
            account.address,
        ],
    )
    escrow = send.transaction(None, artifact("IdmlEscrow").bytecode + arguments)
    deployment = Deployment(
        chain_id=web3.eth.chain_id,
        genesis_hash=genesis_hash(web3),
        token=token["contractAddress"],
        escrow=escrow["contractAddress"],
        block=token["blockNumber"],
        token_code_hash="0x" + keccak(_code(web3, token["contractAddress"])).hex(),
        escrow_code_hash="0x" + keccak(_code(web3, escrow["contractAddress"])).hex(),
    )
    verify(web3, deployment)
    return deployment


def deploy_local(chain: LocalChain, settings: EscrowSettings | None = None) -> Deployment:
    """Deploy on a local chain with its own deployer; each block is one second later than the last."""
    return deploy(chain.web3, chain.deployer, settings=settings, mine=lambda: chain.mine(chain.time_s + 1))


def verify(web3: Web3, deployment: Deployment) -> None:
    """Refuse a deployment that is not ours, before any money goes there.

    Raises `ChainMismatch` for another chain, `CodeMismatch` for code that our sources do not compile to, code
    that changed since the deployment, or an escrow that works with another token.
    """
    if web3.eth.chain_id != deployment.chain_id:
        raise ChainMismatch(
            f"the node has chain id {web3.eth.chain_id}, the deployment {deployment.chain_id}: "
            "connect to the chain of the deployment"
        )
    found = genesis_hash(web3)
    if found != deployment.genesis_hash:
        raise ChainMismatch(
            f"the node's genesis is {found}, the deployment's {deployment.genesis_hash}: the chain was "
            "started anew or is another one; deploy again with `idml-contracts deploy`"
        )
    for name, address, expected in (
        ("IdmlToken", deployment.token, deployment.token_code_hash),
        ("IdmlEscrow", deployment.escrow, deployment.escrow_code_hash),
    ):
        code = _code(web3, address)
        if not artifact(name).matches(code) or "0x" + keccak(code).hex() != expected:
            raise CodeMismatch(
                f"the code at {address} is not this version's {name}: do not use it; install the version "
                "that deployed it, or deploy again with `idml-contracts deploy`"
            )
    token = reader(web3, deployment).escrow_token()
    if token != deployment.token:
        raise CodeMismatch(f"the escrow {deployment.escrow} works with token {token}, not {deployment.token}")


def reader(web3: Web3, deployment: Deployment) -> ContractReader:
    """The views of a deployment, read at the latest block."""

    def call(to: str, data: bytes) -> bytes:
        return bytes(web3.eth.call({"to": Web3.to_checksum_address(to), "data": Web3.to_hex(data)}))

    return ContractReader(call=call, token=deployment.token, escrow=deployment.escrow)


def genesis_hash(web3: Web3) -> str:
    """Hash of block 0, 0x-prefixed."""
    return Web3.to_hex(web3.eth.get_block(0)["hash"])


def default_folder() -> Path:
    """Where deployments are recorded unless told otherwise."""
    return platformdirs.user_state_path("idml") / "deployments"


def record(deployment: Deployment, folder: Path | None = None) -> Path:
    """Write a deployment into its folder, whole or not at all; returns the file."""
    path = _path(folder or default_folder(), deployment.chain_id, deployment.genesis_hash)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(asdict(deployment), indent=2) + "\n")
    partial.replace(path)
    return path


def load(web3: Web3, folder: Path | None = None) -> Deployment:
    """The recorded deployment of the chain behind ``web3``, verified.

    Raises `DeploymentMissing`, `MalformedDeployment`, or what `verify` raises.
    """
    path = _path(folder or default_folder(), web3.eth.chain_id, genesis_hash(web3))
    if not path.exists():
        raise DeploymentMissing(
            f"no deployment is recorded for chain {web3.eth.chain_id} in {path.parent}: "
            "run `idml-contracts deploy`, or copy the record from the machine that deployed"
        )
    deployment = read(path)
    verify(web3, deployment)
    return deployment


def read(path: Path) -> Deployment:
    """A deployment from its file. Raises `MalformedDeployment`."""
    try:
        stored: Any = json.loads(path.read_text())
    except ValueError as error:
        raise MalformedDeployment(f"{path}: not JSON ({error}): copy the record again") from error
    names = {field.name: field.type for field in fields(Deployment)}
    if not isinstance(stored, dict) or set(stored) != set(names):
        raise MalformedDeployment(f"{path}: must hold exactly {', '.join(names)}: copy the record again")
    for name, kind in names.items():
        if type(stored[name]) is not kind:
            raise MalformedDeployment(f"{path}: {name} cannot be {stored[name]!r}: copy the record again")
    return Deployment(**stored)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sender:
    """Signs, sends and waits, one transaction after the other."""

    web3: Web3
    account: LocalAccount
    tip_wei: int
    mine: Callable[[], None] | None

    def transaction(self, to: str | None, data: bytes) -> Any:
        """The receipt of a transaction that succeeded."""
        base_fee = self.web3.eth.get_block("latest").get("baseFeePerGas", 0)
        cap = FEE_CAP_WEI if self.mine else 2 * int(base_fee) + self.tip_wei
        fields: dict[str, Any] = {
            "chainId": self.web3.eth.chain_id,
            "nonce": self.web3.eth.get_transaction_count(self.account.address),
            "gas": _DEPLOY_GAS if to is None else 300_000,
            "maxFeePerGas": cap,
            "maxPriorityFeePerGas": self.tip_wei,
            "value": 0,
            "data": data,
        }
        if to is not None:
            fields["to"] = to
        signed = self.account.sign_transaction(fields)
        tx_hash = self.web3.eth.send_raw_transaction(signed.raw_transaction)
        if self.mine:
            self.mine()
        try:
            receipt = self.web3.eth.wait_for_transaction_receipt(tx_hash, timeout=_RECEIPT_TIMEOUT_S)
        except TimeExhausted as error:
            raise DeploymentFailed(
                f"{Web3.to_hex(tx_hash)} is not mined after {_RECEIPT_TIMEOUT_S} s: raise the tip, try again"
            ) from error
        if receipt["status"] != 1:
            raise DeploymentFailed(f"{Web3.to_hex(tx_hash)} was reverted: check the settings and the account's balance")
        return receipt


def _code(web3: Web3, address: str) -> bytes:
    return bytes(web3.eth.get_code(Web3.to_checksum_address(address)))


def _path(folder: Path, chain_id: int, genesis: str) -> Path:
    return folder / f"{chain_id}-{genesis[2:10]}.json"
