"""What goes wrong in a soak: the gateway is killed, its node fails in many ways, and the chain reorganises."""

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

    @property
    def up_s(self) -> float:
        """For how long the program has been running."""
        return 0.0 if self._begun_s is None else time.monotonic() - self._begun_s

    @property
    def serves(self) -> bool:
        """Whether the program has got so far."""
        return self._begun_s is not None and self._program is not None and _SERVES in self._program.log.read_text()

    def run(self) -> None:
        """Start it again whenever it has ended."""
        number = 0
        while not self._stopping.is_set():
            number += 1
            self._program = Program(self._arguments, self._folder / f"gateway-{number}.log")
            self._begun_s = time.monotonic()
            status = self._program.popen.wait()
            log = self._program.log.read_text()
            self._begun_s = None
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
    """

    def __init__(
        self, *, chain: LocalChain, proxy: Proxy, gateway: Gateway, turn: threading.RLock, rng: random.Random
    ) -> None:
        super().__init__(name="chaos")
        self.done: Counter[str] = Counter()
        self.blocks = 0
        self._chain = chain
        self._proxy = proxy
        self._gateway = gateway
        self._turn = turn
        self._rng = rng
        self._calm = threading.Event()
        self._ended = threading.Event()

    def run(self) -> None:
        """Go on until `end`; nothing goes wrong any more after `calm`."""
        next_fault_s, kill_after_s = 0.0, 5.0
        while not self._ended.wait(_BLOCK_S):
            now_s = time.monotonic()
            if self._calm.is_set():
                pass
            elif self._gateway.up_s > kill_after_s:
                self._gateway.kill()
                self._proxy.drop_faults()
                self.done["gateway killed"] += 1
                kill_after_s = self._rng.uniform(4, 20)  # the first seconds it starts
            elif now_s >= next_fault_s and self._gateway.serves:  # most would only keep it from starting
                name = self._rng.choices([*_FAULTS], weights=[weight for weight, _ in _FAULTS.values()])[0]
                _FAULTS[name][1](self)
                self.done[name] += 1
                next_fault_s = now_s + self._rng.uniform(0.5, 4)
            self.mine()

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
        self._pause(lambda: self._chain.request("anvil_dropAllTransactions"))
        self._proxy.come_up()

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
    "node restarted, its pool lost": (1, Chaos._restart_node),
    "reorganisation": (2, Chaos._reorganise),
}
"""What goes wrong besides the gateway, with how often it does."""
