"""How fast, how lean and how cheap the relay is: eight devices hand raw transactions to a gateway, and to its node.

Both sides hand over the same kind of transaction, over one connection a device, to the same Anvil with a block every
0.2 s; a side is done when its last transaction is in a block. A device signs each as it goes, as devices do; what was
signed before shows the gateway alone, beside a node that has next to nothing to do.
"""

import hashlib
import http.client
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "gateway"))

from eth_account import Account
from eth_account.signers.local import LocalAccount
from gateway_rig import Rig, sign
from served_gateway import program

from contracts import calls, deploy, gas
from contracts.chain import PROFILES
from contracts.deploy import Deployment
from contracts.localchain import LocalChain, open_chain
from contracts.terms import Terms, encounter_id
from gateway.compose import Gateway, assemble, open_database
from gateway.config import GatewayConfig, Limits
from gateway.node import Node
from gateway.operator import load_operator

DEVICES = tuple(Account.from_key(hashlib.sha256(b"bench device %d" % n).digest()) for n in range(8))
BLOCK_S = 0.2
EACH = 800
"""So many that the last ones, which wait for a block, weigh little."""
PATIENCE_S = 120.0
_STRANDED_S = 10.0
"""After so long it is looked whether Anvil has stranded something (`Node.free_stranded`)."""
_NO_LIMITS = """
[limits]
requests_per_s = 0
peer_requests_per_s = 0
all_requests_per_s = 0
undone_per_account = 1000000
undone_in_all = 1000000
"""

_ROOMY = Limits(requests_per_s=0, peer_requests_per_s=0, all_requests_per_s=0, undone_per_account=10**6)

Lists = Sequence[Iterable[bytes]]


class Relay:
    """A served gateway over an Anvil that makes blocks by itself."""

    def __init__(self, chain: LocalChain, deployment: Deployment, gateway: str, pid: int) -> None:
        self.chain = chain
        self.deployment = deployment
        self.node = str(chain.web3.provider.endpoint_uri).removeprefix("http://")  # type: ignore[attr-defined]
        self.gateway = gateway
        self.pid = pid
        self._nonce = 0
        self._asked = Node(chain.web3, PROFILES["anvil"])

    def signed(self, each: int) -> Lists:
        """The next transactions of each device, signed."""
        return [list(one) for one in self.signing(each)]

    def signing(self, each: int) -> Lists:
        """The next transactions of each device, signed as they are asked for."""
        first, self._nonce = self._nonce, self._nonce + each
        return [map(partial(self._buy, who), range(first, self._nonce)) for who in DEVICES]

    def _buy(self, who: LocalAccount, nonce: int) -> bytes:
        return sign(who, calls.encode_buy(nonce), to=self.deployment.token, nonce=nonce, value=1, gas=100_000)

    def through_node(self, prepare: Callable[[], Lists]) -> tuple[float, list[float]]:
        """Hand all to the node; return transactions per second until all are in blocks, and each answer's time (s).

        What the node has stranded spoils the measurement, which is made anew with others.
        """
        method = "eth_sendRawTransaction"
        return self._through(
            self.node,
            "/",
            prepare,
            lambda raw: {"jsonrpc": "2.0", "id": 1, "method": method, "params": ["0x" + raw.hex()]},
        )

    def through_gateway(self, prepare: Callable[[], Lists]) -> tuple[float, list[float]]:
        """The same by way of the gateway."""
        return self._through(self.gateway, "/v1/transactions", prepare, lambda raw: {"raw": "0x" + raw.hex()})

    def _through(
        self, host: str, path: str, prepare: Callable[[], Lists], body: Callable[[bytes], dict[str, object]]
    ) -> tuple[float, list[float]]:
        def hand_over(raws: Iterable[bytes]) -> list[float]:
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

        stranded = True
        while stranded:
            lists = prepare()
            begun_s = time.perf_counter()
            with ThreadPoolExecutor(len(DEVICES)) as pool:
                times = [one for each in pool.map(hand_over, lists) for one in each]
            stranded = self._stranded()
        return len(times) / (time.perf_counter() - begun_s), times

    def _stranded(self) -> bool:
        """Wait until all is in blocks; return whether the node had stranded some of it."""
        handed_s, stranded = time.perf_counter(), False
        while waiting := [who for who in DEVICES if self._used(who) < self._nonce]:
            waited_s = time.perf_counter() - handed_s
            if waited_s > PATIENCE_S:
                raise RuntimeError(f"the node has taken all, and leaves some out of its blocks for {PATIENCE_S:.0f} s")
            if waited_s > _STRANDED_S:
                for who in waiting:
                    stranded |= self._sent_again(who)
            time.sleep(0.02)
        return stranded

    def _sent_again(self, who: LocalAccount) -> bool:
        """Hand over anew what the node had stranded of a device, if there is any."""
        if not self._asked.free_stranded(who.address):
            return False
        print(f"the node had stranded transactions of {who.address}: they are sent again", file=sys.stderr)
        self._asked.send([self._buy(who, nonce) for nonce in range(self._used(who), self._nonce)])
        return True

    def _used(self, who: LocalAccount) -> int:
        return self.chain.web3.eth.get_transaction_count(who.address)


@contextmanager
def open_relay(*, halves: bool = False) -> Iterator[Relay]:
    """Start Anvil, a gateway over it, and the making of blocks; `halves`: answering and working are two processes."""
    with tempfile.TemporaryDirectory() as name, open_chain("anvil") as chain, ExitStack() as started:
        folder, deployment = Path(name), Rig.deployed(chain)
        chain.fund([who.address for who in DEVICES], 10**20)
        file = folder / "gateway.toml"
        file.write_text(
            f'chain = "anvil"\nrpc_url = "{chain.web3.provider.endpoint_uri}"\ndata = "{folder}"\nport = 0\n'  # type: ignore[attr-defined]
            f'deployment = "{deploy.record(deployment, folder)}"\ninterval_s = 0.2\nlog_level = "warning"\n'
            f"{_NO_LIMITS}"
        )
        stop = threading.Event()

        def make_blocks() -> None:
            while not stop.wait(BLOCK_S):
                chain.request("evm_mine")

        maker = threading.Thread(target=make_blocks)
        apart = ["--no-worker"] if halves else []
        gateway = started.enter_context(program(["serve", "--config", str(file), *apart], folder / "log"))
        url = gateway.line("serving on ").removeprefix("serving on http://")
        if halves:
            started.enter_context(program(["worker", "--config", str(file)], folder / "worker.log"))
        maker.start()
        try:
            yield Relay(chain, deployment, url, gateway.popen.pid)
        finally:
            stop.set()
            maker.join()


def gas_per_encounter(rounds: int = 3) -> tuple[float, int]:
    """Let fifty devices meet through a gateway; return gas per encounter in steady state, and the contract's figure.

    The figure is that of `contracts.gas`: a relayer that does nothing but fill its batches. A gateway also composes
    them of what has come in.
    """
    with open_chain("embedded") as chain:
        bare = gas.batched(gas.enter(chain)).total
    with open_chain("embedded") as chain, tempfile.TemporaryDirectory() as name:
        pool = gas.enter(chain)
        operator = load_operator(Path(name) / "operator.key")
        chain.fund([operator.address], 10**20)
        config = GatewayConfig(chain="embedded", data=Path(name), limits=_ROOMY)
        gateway = assemble(
            config,
            node=Node(chain.web3, PROFILES["embedded"]),
            deployment=pool.deployment,
            database=open_database(config),
            operator=operator,
            now_s=lambda: float(chain.time_s),
        )
        while gateway.worker.confirm():
            pass
        under_way: list[Terms] = []
        used = 0
        for _ in range(rounds + 1):  # the first only opens
            following = pool.meetings()
            used = _relayed(gateway, pool, _handed_in(pool, under_way, following))
            for one in under_way:
                state = gateway.store.encounter_events("0x" + encounter_id(one, pool.domain).hex())[-1].name
                if state != "Settled":
                    raise RuntimeError(f"an encounter ended as {state}")
            under_way = following
        gateway.close()
        return used / len(under_way), bare


def _handed_in(pool: gas.Pool, under_way: Sequence[Terms], following: Sequence[Terms]) -> list[calls.Call]:
    """What devices hand in that end one encounter each and begin the next."""
    found: list[calls.Call] = []
    for place, opening in enumerate(following):
        for one in under_way[place : place + 1]:
            found += [*pool.halves(one), *pool.votes(one)]
        found.append(pool.open(opening))
    return found


def _relayed(gateway: Gateway, pool: gas.Pool, handed_in: Sequence[calls.Call]) -> int:
    """Hand in operations, and work until none waits; return the gas used."""
    client, used = gateway.app.test_client(), 0
    for call in handed_in:
        answer = client.post("/v1/operations", json={"call": "0x" + calls.encode(call).hex()})
        if answer.status_code != 202:
            raise RuntimeError(answer.text)
    while gateway.store.waiting_count():
        gateway.worker.compose()
        gateway.worker.broadcast()
        pool.chain.mine(pool.chain.time_s + 1)
        block = pool.chain.web3.eth.get_block("latest")
        used += int(block["gasUsed"])
        gateway.worker.confirm()
    return used
