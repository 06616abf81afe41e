"""How fast, how lean and how cheap the relay is: eight devices hand raw transactions to a gateway, and to its node.

Both sides send bytes that were signed before, over one connection a device, to the same Anvil with a block every
0.2 s; a side is done when its last transaction is in a block.
"""

import hashlib
import http.client
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "gateway"))

from eth_account import Account
from eth_account.signers.local import LocalAccount
from gateway_rig import Rig, sign
from served_gateway import program

from contracts import calls, deploy
from contracts.deploy import Deployment
from contracts.localchain import LocalChain, open_chain

DEVICES = tuple(Account.from_key(hashlib.sha256(b"bench device %d" % n).digest()) for n in range(8))
BLOCK_S = 0.2
EACH = 50
_NO_LIMITS = """
[limits]
requests_per_s = 0
peer_requests_per_s = 0
all_requests_per_s = 0
undone_per_account = 1000000
undone_in_all = 1000000
"""

Lists = Sequence[Sequence[bytes]]


class Relay:
    """A served gateway over an Anvil that makes blocks by itself."""

    def __init__(self, chain: LocalChain, deployment: Deployment, gateway: str, pid: int) -> None:
        self.chain = chain
        self.deployment = deployment
        self.node = str(chain.web3.provider.endpoint_uri).removeprefix("http://")  # type: ignore[attr-defined]
        self.gateway = gateway
        self.pid = pid
        self._nonce = 0

    def signed(self, each: int) -> Lists:
        """The next transactions of each device."""
        first, self._nonce = self._nonce, self._nonce + each
        return [[self._buy(who, nonce) for nonce in range(first, self._nonce)] for who in DEVICES]

    def _buy(self, who: LocalAccount, nonce: int) -> bytes:
        return sign(who, calls.encode_buy(nonce), to=self.deployment.token, nonce=nonce, value=1, gas=100_000)

    def through_node(self, lists: Lists) -> tuple[float, list[float]]:
        """Hand all to the node; return transactions per second until all are in blocks, and each answer's time (s)."""
        method = "eth_sendRawTransaction"
        return self._through(
            self.node,
            "/",
            lists,
            lambda raw: {"jsonrpc": "2.0", "id": 1, "method": method, "params": ["0x" + raw.hex()]},
        )

    def through_gateway(self, lists: Lists) -> tuple[float, list[float]]:
        """The same by way of the gateway."""
        return self._through(self.gateway, "/v1/transactions", lists, lambda raw: {"raw": "0x" + raw.hex()})

    def _through(
        self, host: str, path: str, lists: Lists, body: Callable[[bytes], dict[str, object]]
    ) -> tuple[float, list[float]]:
        def hand_over(raws: Sequence[bytes]) -> list[float]:
            connection = http.client.HTTPConnection(host)
            times = []
            for raw in raws:
                begun_s = time.perf_counter()
                connection.request("POST", path, json.dumps(body(raw)), {"Content-Type": "application/json"})
                answer = connection.getresponse()
                told = answer.read()
                if answer.status not in (200, 202) or b'"error"' in told:
                    raise RuntimeError(f"{answer.status} {told[:300]!r}")
                times.append(time.perf_counter() - begun_s)
            connection.close()
            return times

        begun_s = time.perf_counter()
        with ThreadPoolExecutor(len(DEVICES)) as pool:
            times = [one for each in pool.map(hand_over, lists) for one in each]
        while any(self.chain.web3.eth.get_transaction_count(who.address) < self._nonce for who in DEVICES):
            time.sleep(0.02)
        return sum(map(len, lists)) / (time.perf_counter() - begun_s), times


@contextmanager
def open_relay() -> Iterator[Relay]:
    """Start Anvil, a gateway over it, and the making of blocks."""
    with tempfile.TemporaryDirectory() as name, open_chain("anvil") as chain:
        folder, deployment = Path(name), Rig.deployed(chain)
        chain.fund([who.address for who in DEVICES], 10**20)
        file = folder / "gateway.toml"
        file.write_text(
            f'chain = "anvil"\nrpc_url = "{chain.web3.provider.endpoint_uri}"\ndata = "{folder}"\nport = 0\n'  # type: ignore[attr-defined]
            f'deployment = "{deploy.record(deployment, folder)}"\ninterval_s = 0.05\nlog_level = "warning"\n'
            f"{_NO_LIMITS}"
        )
        stop = threading.Event()

        def make_blocks() -> None:
            while not stop.wait(BLOCK_S):
                chain.request("evm_mine")

        maker = threading.Thread(target=make_blocks)
        with program(["serve", "--config", str(file)], folder / "log") as gateway:
            url = gateway.line("serving on ").removeprefix("serving on http://")
            maker.start()
            try:
                yield Relay(chain, deployment, url, gateway.popen.pid)
            finally:
                stop.set()
                maker.join()
