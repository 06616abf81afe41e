"""Many encounters through a real gateway while everything fails that can: is each done exactly once, to the last unit?

    python tests/gateway/soak.py --seed 1 --encounters 1000

The gateway is a process of its own over a real Anvil behind a faulty proxy. It is killed every few seconds; its node
loses replies, lags, talks nonsense and restarts; the chain reorganises. Devices hand in what they signed until it is
acknowledged. In the end the chain is compared with `contracts.settlement`, and what the gateway says with the chain.

The seed fixes what is played and which faults come in which order; when they hit is up to the machine. Exit code 1
if anything is not as it should be.
"""

import argparse
import random
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rpc_proxy import open_proxy
from rpc_view import View
from soak_audit import violations
from soak_chaos import Chaos, Gateway
from soak_field import BUYERS, LANES, LEARNERS, Devices, GaveUp, set_up

from contracts import deploy
from contracts.deploy import Deployment, deploy_local
from contracts.localchain import open_chain
from gateway.operator import load_operator
from gateway.submission import TERMINAL

_PAIRS = LANES * len(LEARNERS)
_BEFORE_FINAL = 70
"""Anvil calls final what is 64 blocks deep."""
_PATIENCE_S = 300.0
_SECONDS_EACH = 5.0


def soak(*, seed: int, encounters: int, folder: Path, audit: Callable[..., Iterable[str]] = violations) -> list[str]:
    """Run it in a folder, print what happened, and return what is wrong."""
    with open_chain("anvil") as chain, open_proxy(chain.web3.provider.endpoint_uri) as proxy:
        deployment = deploy_local(chain)
        set_up(chain, deployment)
        operator = load_operator(folder / "data" / "operator.key").address
        chain.fund([operator], 10**21)
        for _ in range(_BEFORE_FINAL):
            chain.mine(chain.time_s + 1)
        proxy.view = View(poa=True)
        turn, rng = threading.RLock(), random.Random(seed)
        port = _free_port()
        gateway = Gateway(["serve", *_settings(proxy.url, deployment, folder), "--port", str(port)], folder)
        chaos = Chaos(chain=chain, proxy=proxy, gateway=gateway, turn=turn, rng=random.Random(rng.random()))
        end_s = time.monotonic() + _PATIENCE_S + encounters * _SECONDS_EACH
        devices = Devices(at=f"http://127.0.0.1:{port}", chain=chain, turn=turn, deployment=deployment, end_s=end_s)
        wrong: list[str] = []
        told: dict[str, dict[str, str]] = {}
        begun_s = time.monotonic()
        gateway.start()
        chaos.start()
        try:
            _play(devices, rng, encounters)
            chaos.calm()
            told = _settle(devices)
        except GaveUp as what:
            wrong.append(f"gave up waiting for {what}")
        finally:
            chaos.end()
            gateway.stop()
        wrong += gateway.wrong
        if not wrong:
            wrong += audit(
                chain=chain,
                deployment=deployment,
                book=devices.book,
                told=told,
                database=folder / "data" / "gateway.sqlite",
                operator=operator,
            )
        sends = (len(proxy.sends), proxy.distinct_sends)
        _report(devices, chaos, gateway, sends, time.monotonic() - begun_s)
    for one in wrong:
        print("WRONG:", one)
    print(f"{len(wrong)} violations")
    return wrong


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _settings(url: str, deployment: Deployment, folder: Path) -> list[str]:
    place = deploy.record(deployment, folder / "deployments")
    file = folder / "gateway.toml"
    file.write_text(
        f'chain = "{url}"\ndata = "{folder}/data"\ndeployment = "{place}"\ninterval_s = 0.1\nresend_after_s = 2.0\n'
    )
    return ["--config", str(file)]


def _play(devices: Devices, rng: random.Random, encounters: int) -> None:
    """Play all encounters, those of one lane one after the other, and the purchases beside them."""
    verdicts = [tuple(rng.random() < 0.7 for _ in range(3)) for _ in range(encounters)]
    rngs = [random.Random(rng.random()) for _ in BUYERS]

    def lane(pair: int) -> None:
        for number in range(pair, encounters, _PAIRS):
            devices.encounter(number // _PAIRS, pair, verdicts[number])

    with ThreadPoolExecutor(_PAIRS + len(BUYERS)) as pool:
        count = max(2, encounters // 8)
        bought = [pool.submit(devices.purchases, who, count, own) for who, own in zip(BUYERS, rngs, strict=True)]
        for one in [*(pool.submit(lane, pair) for pair in range(_PAIRS)), *bought]:
            one.result()


def _settle(devices: Devices) -> dict[str, dict[str, str]]:
    """Wait until nothing that was acknowledged is under way, and return what the gateway says of each."""
    told: dict[str, dict[str, str]] = {}
    paths = {key: f"/v1/operations/{key}" for key in devices.book.operations}
    paths |= {key: f"/v1/transactions/{key}" for key in devices.book.transactions}

    def over() -> bool:
        for key in [key for key in paths if key not in told]:
            found = devices.ask(paths[key])
            if found["state"] not in (*TERMINAL, "over"):
                return False
            told[key] = found
        return True

    devices.until(over, "all that was acknowledged to be final")
    devices.until(lambda: _idle(devices), "the gateway to have nothing under way")
    return told


def _idle(devices: Devices) -> bool:
    counts = devices.ask("/v1/status")["submissions"]
    return not sum(count for state, count in counts.items() if state not in TERMINAL)


def _report(devices: Devices, chaos: Chaos, gateway: Gateway, sends: tuple[int, int], took_s: float) -> None:
    book = devices.book
    print(f"{len(book.encounters)} encounters in {took_s:.0f} s and {chaos.blocks} blocks")
    print(f"{len(book.operations)} operations and {len(book.transactions)} raw transactions acknowledged")
    print(f"{sends[0]} sends of {sends[1]} different transactions reached the node")
    for title, counted in (("went wrong", chaos.done), ("gateway ended", gateway.ends), ("answers", book.answers)):
        print(f"\n{title}")
        for name, count in counted.most_common():
            print(f"  {count:6} {name}")
    print()


def main() -> int:
    """Read the command line, and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seed", type=int, default=1, help="default: 1")
    parser.add_argument("--encounters", type=int, default=100, help="default: 100")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="idml-soak-") as folder:
        return 1 if soak(seed=arguments.seed, encounters=arguments.encounters, folder=Path(folder)) else 0


if __name__ == "__main__":
    sys.exit(main())
