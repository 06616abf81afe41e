"""What goes wrong in a soak: the gateway is killed, its node fails in many ways, and the chain reorganises."""

import math
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

from rpc_proxy import Fault, Kind, Proxy
from rpc_view import View
from served_gateway import Program

from contracts.localchain import LocalChain

_BLOCK_S = 0.15
_DEEPEST = 8
_SEND = "eth_sendRawTransaction"
_LATER_THAN_WE_WAIT_S = 11.0
_BETWEEN_FAULTS_S = (0.5, 4.0)
_LIFE_S, _LONG_LIFE_S, _STARTING_S = (1.0, 4.0), (10.5, 14.0), (0.1, 1.5)
_LONG_LIVED = 0.1
"""How many live long enough to stop waiting for an answer."""
_KILLED_STARTING = 0.15
_SERVES = "serving on "
_NODE_AWAY = "no node answers at"
_NO_ANSWER = "gave no useful answer"


class Gateway(threading.Thread):
    """Keeps the program running, as an operator's supervisor would.

    Attributes:
        ends: how often it ended, by how.
        wrong: how it ended though nobody had killed it and its node was there.
    """

    def __init__(self, arguments: list[str], folder: Path) -> None:
        super().__init__(name="supervisor")
        self.ends: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._arguments = arguments
        self._folder = folder
        self._stopping = threading.Event()
        self._program: Program | None = None
        self._begun_s: float | None = None
        self._serves_since_s: float | None = None

    @property
    def up_s(self) -> float:
        """For how long the program has been running."""
        return 0.0 if self._begun_s is None else time.monotonic() - self._begun_s

    @property
    def serving_s(self) -> float:
        """For how long the program has been seen to serve, 0 while it does not."""
        if self._begun_s is None or self._program is None:
            return 0.0
        if self._serves_since_s is None and _SERVES in self._program.log.read_text():
            self._serves_since_s = time.monotonic()
        return 0.0 if self._serves_since_s is None else time.monotonic() - self._serves_since_s

    def run(self) -> None:
        """Start it again whenever it has ended."""
        number = 0
        while not self._stopping.is_set():
            number += 1
            self._program = Program(self._arguments, self._folder / f"gateway-{number}.log")
            self._begun_s = time.monotonic()
            status = self._program.popen.wait()
            log = self._program.log.read_text()
            self._begun_s = self._serves_since_s = None
            if status == -signal.SIGKILL:
                self.ends["killed"] += 1
            elif status == 0 or (status == -signal.SIGTERM and self._stopping.is_set()):
                self.ends["stopped"] += 1
            elif _NODE_AWAY in log or _NO_ANSWER in log:
                self.ends["did not start: no node"] += 1
                self._stopping.wait(0.2)
            else:
                self.ends["failed"] += 1
                self.wrong.append(f"the gateway ended with {status}: {log.splitlines()[-1:]}")
                self._stopping.wait(1)

    def kill(self) -> None:
        """End it at once, wherever it is."""
        self._signal(signal.SIGKILL)

    def stop(self) -> None:
        """Let it end by itself, for good."""
        self._stopping.set()
        self._signal(signal.SIGTERM)
        self.join()

    def _signal(self, number: int) -> None:
        if self._program is not None and self._program.popen.poll() is None:
            self._program.popen.send_signal(number)


class Chaos(threading.Thread):
    """Makes blocks, and lets things go wrong in between, as a random number generator says.

    Attributes:
        done: how often each thing went wrong.
        blocks: how many were made.
        wrong: what the soak itself could not do.
    """

    def __init__(
        self,
        *,
        chain: LocalChain,
        proxy: Proxy,
        gateway: Gateway,
        turn: threading.RLock,
        rng: random.Random,
        saved: Path,
        over: threading.Event,
    ) -> None:
        """Set what is made to fail; `saved` is the file a node comes back from, `over` is set if that cannot go on."""
        super().__init__(name="chaos")
        self.done: Counter[str] = Counter()
        self.blocks = 0
        self.wrong: list[str] = []
        self._chain = chain
        self._proxy = proxy
        self._gateway = gateway
        self._turn = turn
        self._rng = rng
        self._saved = saved
        self._over = over
        self._calm = threading.Event()
        self._ended = threading.Event()

    def run(self) -> None:
        """Go on until `end`; nothing goes wrong any more after `calm`."""
        try:
            self._run()
        except Exception as error:  # else the others would wait for blocks that nobody makes
            self.wrong.append(f"the soak itself failed: {type(error).__name__}: {error}")
            self._over.set()

    def _run(self) -> None:
        next_fault_s, (most_up_s, most_serving_s) = 0.0, self._life()
        while not self._ended.wait(_BLOCK_S):
            now_s, serving_s = time.monotonic(), self._gateway.serving_s
            if self._calm.is_set():
                pass
            elif self._gateway.up_s > most_up_s or serving_s > most_serving_s:
                self._gateway.kill()
                self._proxy.drop_faults()
                self.done["gateway killed" if serving_s else "gateway killed while it started"] += 1
                most_up_s, most_serving_s = self._life()
            elif now_s >= next_fault_s and serving_s:  # most would only keep it from starting
                name = self._rng.choices([*_FAULTS], weights=[weight for weight, _ in _FAULTS.values()])[0]
                _FAULTS[name][1](self)
                self.done[name] += 1
                next_fault_s = time.monotonic() + self._rng.uniform(*_BETWEEN_FAULTS_S)
            self.mine()

    def _life(self) -> tuple[float, float]:
        """Draw for how long the gateway may be up, and for how long it may serve, until it is killed."""
        kind = self._rng.random()
        if kind < _KILLED_STARTING:
            return self._rng.uniform(*_STARTING_S), math.inf
        return math.inf, self._rng.uniform(*(_LONG_LIFE_S if kind > 1 - _LONG_LIVED else _LIFE_S))

    def mine(self) -> None:
        """Make a block."""
        with self._turn:
            self._chain.mine(self._chain.time_s + 1)
        self.blocks += 1

    def calm(self) -> None:
        """Let nothing go wrong any more."""
        self._calm.set()
        with self._turn:
            self._proxy.calm()
            self._proxy.come_up()

    def end(self) -> None:
        """Make no more blocks."""
        self._ended.set()
        self.join()

    def _inject(self, *kinds: Kind, method: str | None = None, forwards: bool = False, delay_s: float = 0.0) -> None:
        kind, times = self._rng.choice(kinds), self._rng.randint(1, 3)
        self._proxy.inject(Fault(kind=kind, method=method, times=times, forwards=forwards, delay_s=delay_s))

    def _lose_reply(self) -> None:
        self._inject(Kind.RESET, method=_SEND, forwards=True)

    def _lose_request(self) -> None:
        self._inject(Kind.RESET)

    def _answer_too_late(self) -> None:
        self._proxy.inject(Fault(kind=Kind.DELAY, method=_SEND, forwards=True, delay_s=_LATER_THAN_WE_WAIT_S))

    def _be_slow(self) -> None:
        self._inject(Kind.DELAY, delay_s=0.5)

    def _be_busy(self) -> None:
        self._inject(Kind.BUSY, Kind.BAD_GATEWAY)

    def _talk_nonsense(self) -> None:
        self._inject(Kind.NOT_JSON, Kind.OTHER_SHAPE, Kind.TRUNCATED)

    def _deny(self) -> None:
        self._inject(Kind.ALREADY_KNOWN, Kind.NONCE_TOO_LOW, method=_SEND, forwards=self._rng.random() < 0.5)

    def _lag(self) -> None:
        poa = self._proxy.view.poa
        self._proxy.view = View(lag_blocks=self._rng.randint(1, 5), poa=poa)
        self._pause(lambda: None)
        self._proxy.view = View(poa=poa)

    def _restart_node(self) -> None:
        """It is away for a while, and its pool is empty afterwards."""
        self._proxy.go_down()
        with self._turn:
            self._chain.save(self._saved)
            self._bring_back(kill=False)
        self._pause(lambda: None)
        self._proxy.come_up()

    def _kill_node(self) -> None:
        """It comes back without its newest blocks, as if they had not been on its disk yet."""
        with self._turn:
            self._chain.save(self._saved)
        for _ in range(self._rng.randint(1, _DEEPEST)):
            self.mine()
            self._ended.wait(_BLOCK_S)
        self._proxy.go_down()
        with self._turn:
            self._bring_back(kill=True)
        self._proxy.come_up()

    def _bring_back(self, *, kill: bool) -> None:
        final = self._chain.web3.eth.get_block("finalized")
        self._chain.restart(self._saved, kill=kill)
        found = self._chain.web3.eth.get_block(final["number"])
        if found["hash"] != final["hash"]:
            raise AssertionError(f"block {final['number']} was final and is another one since the node was restarted")

    def _pause(self, act: Callable[[], object]) -> None:
        with self._turn:
            act()
        for _ in range(self._rng.randint(3, 12)):
            self.mine()
            self._ended.wait(_BLOCK_S)

    def _reorganise(self) -> None:
        """The newest blocks give way to empty ones; what they held is in no pool."""
        with self._turn:
            self._chain.request("anvil_reorg", [self._rng.randint(1, _DEEPEST), []])


_FAULTS: Final[dict[str, tuple[float, Callable[[Chaos], None]]]] = {
    "reply to a transaction lost": (3, Chaos._lose_reply),
    "request lost": (2, Chaos._lose_request),
    "reply later than it is waited for": (0.3, Chaos._answer_too_late),
    "node slow": (2, Chaos._be_slow),
    "429 or 502": (2, Chaos._be_busy),
    "nonsense": (2, Chaos._talk_nonsense),
    "'already known' or 'nonce too low'": (1, Chaos._deny),
    "replica that lags": (1, Chaos._lag),
    "node stopped and started, its pool lost": (1, Chaos._restart_node),
    "node killed, its pool and newest blocks lost": (1, Chaos._kill_node),
    "reorganisation": (2, Chaos._reorganise),
}
"""What goes wrong besides the gateway, with how often it does."""
