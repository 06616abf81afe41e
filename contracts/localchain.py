"""Chains on this machine whose blocks and clock we command: embedded, Ganache, Anvil, or a node at a URL.

All of them have the same chain id, the same funded deployer and no automatic mining, so that the same
transactions give the same contract addresses, encounter ids and panels on each.
"""

import contextlib
import gzip
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from eth_account import Account
from eth_account.signers.local import LocalAccount
from web3 import HTTPProvider, Web3
from web3.exceptions import Web3Exception
from web3.types import RPCEndpoint, TxReceipt

from contracts import toolchain
from contracts.chain import LOCAL_CHAIN_ID
from contracts.errors import ChainMismatch, ChainUnreachable, ToolMissing

DEPLOYER_KEY: Final = "0x" + Web3.keccak(text="iDML local deployer").hex().removeprefix("0x")
"""A development key: anyone can compute it, it holds money on local chains only."""

DEPLOYER_WEI: Final = 10**9 * 10**18
FEE_CAP_WEI: Final = 1_000 * 10**9
GAS_LIMIT: Final = 30_000_000

_START_TIMEOUT_S: Final = 60.0
_NEVER_S: Final = 2_000_000
"""Ganache's block time: as long as its timer can count (24.8 days in milliseconds)."""


class LocalChain:
    """A chain that makes a block only on `mine`. Close it, or use it as a context manager.

    Attributes:
        web3: for everything a node answers. Sends are never retried.
        kind: "embedded", "ganache" or "anvil".
        chain_id: as the node and the CHAINID opcode say.
        deployer: a funded account.
        log: what a started program printed; None for a chain we did not start.
    """

    def __init__(self, *, web3: Web3, kind: str, process: "_Process | None" = None) -> None:
        self.web3 = web3
        self.kind = kind
        self.deployer: LocalAccount = Account.from_key(DEPLOYER_KEY)
        self.log = process.log if process else None
        self._process = process
        self.chain_id = web3.eth.chain_id

    @property
    def time_s(self) -> int:
        """The timestamp of the latest block."""
        return int(self.web3.eth.get_block("latest")["timestamp"])

    def mine(self, timestamp_s: int) -> None:
        """Make one block of all pending transactions with exactly this timestamp.

        Raises ValueError unless it is later than the latest block's.
        """
        before = self.web3.eth.get_block("latest")
        if timestamp_s <= before["timestamp"]:
            raise ValueError(f"timestamp {timestamp_s} is not later than the latest {before['timestamp']}")
        self.request("evm_mine", [{"timestamp": timestamp_s}])
        after = self.web3.eth.get_block("latest")
        if after["timestamp"] != timestamp_s or after["number"] != before["number"] + 1:
            raise ChainMismatch(
                f"{self.kind} made block {after['number']} at {after['timestamp']} instead of "
                f"{before['number'] + 1} at {timestamp_s}: is something else mining on it?"
            )

    def fund(self, addresses: Iterable[str], wei: int) -> None:
        """Send native coin from the deployer to each address, and mine that."""
        for address in addresses:
            self.send(to=address, value_wei=wei, gas=21_000)
        self.mine(self.time_s + 1)

    def send(
        self,
        *,
        to: str | None,
        data: bytes = b"",
        value_wei: int = 0,
        gas: int = 500_000,
        sender: LocalAccount | None = None,
    ) -> bytes:
        """Sign a transaction, put it into the pool and return its hash. Mining it is up to the caller."""
        signer = sender or self.deployer
        fields: dict[str, Any] = {
            "chainId": self.chain_id,
            "nonce": self._next_nonce(signer.address),
            "gas": gas,
            "maxFeePerGas": FEE_CAP_WEI,
            "maxPriorityFeePerGas": 1,
            "value": value_wei,
            "data": data,
        }
        if to is not None:
            fields["to"] = Web3.to_checksum_address(to)
        return bytes(self.web3.eth.send_raw_transaction(signer.sign_transaction(fields).raw_transaction))

    def transact(
        self,
        *,
        to: str | None,
        data: bytes = b"",
        value_wei: int = 0,
        gas: int = 500_000,
        sender: LocalAccount | None = None,
        timestamp_s: int | None = None,
    ) -> TxReceipt:
        """Send one transaction, mine it (by default a second after the latest block), return its receipt."""
        tx_hash = self.send(to=to, data=data, value_wei=value_wei, gas=gas, sender=sender)
        self.mine(timestamp_s or self.time_s + 1)
        return self.web3.eth.get_transaction_receipt(tx_hash)  # type: ignore[arg-type]

    def request(self, method: str, params: Sequence[Any] = ()) -> Any:
        """One raw JSON-RPC request. Raises `ChainUnreachable` with the node's words when it fails."""
        try:
            answer = self.web3.provider.make_request(RPCEndpoint(method), list(params))
        except OSError as error:
            raise ChainUnreachable(f"{self.kind} does not answer {method}: {error}") from error
        if "error" in answer:
            raise ChainUnreachable(f"{self.kind} refuses {method}: {answer['error']}")
        return answer["result"]

    def save(self, file: Path) -> None:
        """Write all that an Anvil knows to a file, but for its pool."""
        packed = self.request("anvil_dumpState", [True])  # with the states it still has
        file.write_bytes(gzip.decompress(bytes.fromhex(packed[2:])))

    def restart(self, saved: Path, *, kill: bool = False) -> None:
        """End the Anvil that we started, and start it as it was when it was saved, where it was.

        Measured with Anvil 1.7.1: blocks, receipts, transactions, what is final and the last 256 states come back, the
        pool is empty. Raises `ChainUnreachable`.
        """
        if self._process is None:
            raise ChainUnreachable(f"this {self.kind} was not started here: restart it where it runs")
        self._process = self._process.again(f"--load-state={saved}", kill=kill)
        self.log = self._process.log
        _await(self.web3, self._process)

    def close(self) -> None:
        """End the program, if we started one."""
        if self._process:
            self._process.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _next_nonce(self, address: str) -> int:
        # Ganache counts no pending transactions: its pool tells.
        nonce = self.web3.eth.get_transaction_count(address, "pending")  # type: ignore[arg-type]
        if self.kind == "ganache":
            pool = self.request("txpool_content")["pending"]
            waiting = pool.get(address) or pool.get(address.lower()) or {}
            return max([int(nonce), *(int(one) + 1 for one in waiting)])
        return int(nonce)


@contextlib.contextmanager
def open_chain(
    kind: str,
    *,
    chain_id: int = LOCAL_CHAIN_ID,
    genesis_time_s: int = 1_700_000_000,
    url: str | None = None,
) -> Iterator[LocalChain]:
    """Open a local chain and close it in the end.

    Args:
        kind: "embedded", "ganache", "anvil", or an http(s) URL of a Ganache or Anvil.
        chain_id: wanted; a node at a URL must have it.
        genesis_time_s: Unix time of block 0 (not for a node at a URL).
        url: the node, when ``kind`` is "ganache" or "anvil" and it runs already.

    Raises `ToolMissing`, `ChainUnreachable` or `ChainMismatch`.
    """
    with start_chain(kind, chain_id=chain_id, genesis_time_s=genesis_time_s, url=url) as chain:
        yield chain


def start_chain(
    kind: str, *, chain_id: int = LOCAL_CHAIN_ID, genesis_time_s: int = 1_700_000_000, url: str | None = None
) -> LocalChain:
    """As `open_chain`, for a caller that closes the chain itself."""
    if kind.startswith(("http://", "https://")):
        url = kind
    if url is not None:
        return _attach(url, chain_id)
    if kind == "embedded":
        return _embedded(chain_id, genesis_time_s)
    if kind == "anvil":
        return _start(kind, _anvil_command(chain_id, genesis_time_s))
    if kind == "ganache":
        return _start(kind, _ganache_command(chain_id, genesis_time_s))
    raise ChainUnreachable(f"{kind!r} is no local chain: name embedded, ganache, anvil or a URL")


def _embedded(chain_id: int, genesis_time_s: int) -> LocalChain:
    try:
        from contracts.embedded import EmbeddedNode, EmbeddedProvider  # noqa: PLC0415  (py-evm is optional)
    except ImportError as error:
        raise ToolMissing("the embedded chain needs py-evm: run `pip install 'idml[embedded]'`") from error
    deployer = Account.from_key(DEPLOYER_KEY).address
    node = EmbeddedNode(chain_id=chain_id, genesis_time_s=genesis_time_s, balances_wei={deployer: DEPLOYER_WEI})
    return LocalChain(web3=Web3(EmbeddedProvider(node)), kind="embedded")


def _attach(url: str, chain_id: int) -> LocalChain:
    web3 = _connect(url)
    try:
        version = web3.client_version.lower()
        found = web3.eth.chain_id
    except (OSError, Web3Exception) as error:
        raise ChainUnreachable(f"no node answers at {url}: {error}") from error
    kind = next((name for name in ("anvil", "ganache") if name in version), None)
    if kind is None:
        raise ChainMismatch(f"the node at {url} is {version}: only Anvil and Ganache let us set the time")
    if found != chain_id:
        raise ChainMismatch(f"the node at {url} has chain id {found}, not {chain_id}: start it with that id")
    chain = LocalChain(web3=web3, kind=kind)
    if kind == "anvil":
        chain.request("evm_setAutomine", [False])
    else:
        chain.request("miner_stop")
    set_balance = "anvil_setBalance" if kind == "anvil" else "evm_setAccountBalance"
    chain.request(set_balance, [chain.deployer.address, hex(DEPLOYER_WEI)])
    return chain


def _anvil_command(chain_id: int, genesis_time_s: int) -> list[str]:
    return [
        *toolchain.anvil(),
        "--host=127.0.0.1",
        f"--chain-id={chain_id}",
        f"--timestamp={genesis_time_s}",
        f"--gas-limit={GAS_LIMIT}",
        "--accounts=1",
        "--no-mining",
        "--order=fees",
        "--hardfork=cancun",
        "--prune-history=256",  # as many states can be asked for; none goes to disk
        "--port={port}",
    ]


def _ganache_command(chain_id: int, genesis_time_s: int) -> list[str]:
    return [
        *toolchain.ganache(),
        "--server.host=127.0.0.1",
        f"--chain.chainId={chain_id}",
        f"--chain.networkId={chain_id}",
        "--chain.hardfork=shanghai",
        f"--chain.time={datetime.fromtimestamp(genesis_time_s, UTC).isoformat()}",
        f"--miner.blockTime={_NEVER_S}",
        f"--miner.blockGasLimit={GAS_LIMIT}",
        f"--wallet.accounts={DEPLOYER_KEY},{hex(DEPLOYER_WEI)}",
        "--server.port={port}",
    ]


def _start(kind: str, command: list[str]) -> LocalChain:
    port = _free_port()
    process = _Process.start(kind, [part.replace("{port}", str(port)) for part in command])
    web3 = _connect(f"http://127.0.0.1:{port}")
    try:
        _await(web3, process)
        chain = LocalChain(web3=web3, kind=kind, process=process)
        if kind == "anvil":
            chain.request("anvil_setBalance", [chain.deployer.address, hex(DEPLOYER_WEI)])
    except BaseException:
        process.end()
        raise
    return chain


def _connect(url: str) -> Web3:
    # A send that is repeated behind our back could be executed twice.
    return Web3(HTTPProvider(url, request_kwargs={"timeout": 60}, exception_retry_configuration=None))


def _await(web3: Web3, process: "_Process") -> None:
    end = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < end:
        if process.ended():
            break
        try:
            web3.provider.make_request(RPCEndpoint("eth_chainId"), [])
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise ChainUnreachable(f"{process.kind} did not start: {process.last_words()}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Process:
    """A node program we started, and ends by its pid."""

    kind: str
    command: Sequence[str]
    log: Path
    popen: "subprocess.Popen[bytes]"

    @classmethod
    def start(cls, kind: str, command: Sequence[str]) -> "_Process":
        descriptor, name = tempfile.mkstemp(prefix=f"idml-{kind}-", suffix=".log")
        with open(descriptor, "wb") as log:  # noqa: PTH123  (an open descriptor)
            popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for us: we end it when we are done
            )
        return cls(kind=kind, command=command, log=Path(name), popen=popen)

    def again(self, *options: str, kill: bool) -> "_Process":
        """End it, and start it anew with more options."""
        if kill:
            self.popen.kill()
        self.end()
        started = self.start(self.kind, [*self.command, *options])
        return replace(started, command=self.command)

    def ended(self) -> bool:
        return self.popen.poll() is not None

    def last_words(self) -> str:
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return " / ".join(line.strip() for line in lines[:3]) or "it printed nothing"

    def end(self) -> None:
        """End it by its pid, and drop its log."""
        if self.popen.poll() is None:
            self.popen.terminate()
            try:
                self.popen.wait(10)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait()
        self.log.unlink(missing_ok=True)
