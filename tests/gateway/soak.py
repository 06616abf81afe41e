"""Many encounters through a real gateway while everything fails that can: is each done exactly once, to the last unit?

    python tests/gateway/soak.py --seed 1 --encounters 1000

The gateway is a process of its own over a real Anvil behind a faulty proxy. It is killed every few seconds; its node
loses replies, lags, talks nonsense, is stopped and is killed; the chain reorganises. Devices hand in what they signed
until it is acknowledged. In the end the chain is compared with `contracts.settlement`, and what the gateway says with
the chain.

The seed fixes what is played and which faults come in which order; when they hit is up to the machine. Exit code 1
if anything is not as it should be, 130 after Ctrl-C.
"""

import argparse
import random
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path

from rpc_proxy import open_proxy
from rpc_view import View
from soak_audit import violations
from soak_chaos import Chaos, Gateway
from soak_field import BUYERS, LEARNERS, VALIDATORS, Devices, GaveUp, set_up
from soak_progress import Progress

from contracts import deploy
from contracts.deploy import Deployment, deploy_local
from contracts.localchain import open_chain
from contracts.terms import LANES
from gateway.operator import load_operator
from gateway.submission import TERMINAL

_PAIRS = LANES * len(LEARNERS)
_BEFORE_FINAL = 70
"""Anvil calls final what is 64 blocks deep."""
_ASKERS = 8


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
        turn, over, rng = threading.RLock(), threading.Event(), random.Random(seed)
        port = _free_port()
        gateway = Gateway(["serve", *_settings(proxy.url, deployment, folder), "--port", str(port)], folder)
        chaos = Chaos(
            chain=chain,
            proxy=proxy,
            gateway=gateway,
            turn=turn,
            rng=random.Random(rng.random()),
            saved=folder / "anvil.json",
            over=over,
        )
        devices = Devices(at=f"http://127.0.0.1:{port}", chain=chain, turn=turn, deployment=deployment, over=over)
        progress = Progress(devices.book, chaos, encounters=encounters)
        wrong: list[str] = []
        told: dict[str, dict[str, str]] = {}
        gateway.start()
        chaos.start()
        progress.start()
        try:
            _play(devices, rng, encounters, over)
            progress.stage = "all handed in, waiting for it to be final"
            chaos.calm()
            told = _settle(devices, over)
        except GaveUp as what:
            wrong.append(f"gave up waiting for {what}")
        finally:
            over.set()
            progress.end()
            chaos.end()
            gateway.stop()
            sends = (len(proxy.sends), proxy.distinct_sends)
            _report(devices, chaos, gateway, sends, progress.elapsed_s)
        wrong += [*chaos.wrong, *gateway.wrong]
        if not wrong:
            wrong += audit(
                chain=chain,
                deployment=deployment,
                book=devices.book,
                told=told,
                database=folder / "data" / "gateway.sqlite",
                operator=operator,
            )
    for one in wrong:
        print("WRONG:", one)
    print(f"{len(wrong)} violations")
    return wrong


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _settings(url: str, deployment: Deployment, folder: Path) -> list[str]:
    """The settings of the gateway; all devices of a soak have the same network address."""
    place = deploy.record(deployment, folder / "deployments")
    file = folder / "gateway.toml"
    file.write_text(
        f'chain = "{url}"\ndata = "{folder}/data"\ndeployment = "{place}"\ninterval_s = 0.1\nresend_after_s = 2.0\n'
        "[limits]\npeer_requests_per_s = 0\nall_requests_per_s = 0\n"
    )
    return ["--config", str(file)]


def _play(devices: Devices, rng: random.Random, encounters: int, over: threading.Event) -> None:
    """Play all encounters, those of one lane one after the other, and the purchases beside them."""
    verdicts = [tuple(rng.random() < 0.7 for _ in range(3)) for _ in range(encounters)]
    rngs = [random.Random(rng.random()) for _ in BUYERS]
    played = threading.Event()

    def lane(pair: int) -> None:
        for number in range(pair, encounters, _PAIRS):
            devices.encounter(number // _PAIRS, pair, verdicts[number])

    with ThreadPoolExecutor(_PAIRS + len(BUYERS) + len(VALIDATORS) + 1) as pool:
        count = max(2, encounters // 8)
        beside = [pool.submit(devices.listen, played), *(pool.submit(devices.votes, who, played) for who in VALIDATORS)]
        playing = [pool.submit(lane, pair) for pair in range(min(_PAIRS, encounters))]
        playing += [pool.submit(devices.purchases, who, count, own) for who, own in zip(BUYERS, rngs, strict=True)]
        try:
            for one in as_completed(playing):
                one.result()
        except BaseException:
            over.set()  # the others need not go on
            raise
        finally:
            played.set()
        for one in beside:
            one.result()


def _settle(devices: Devices, over: threading.Event) -> dict[str, dict[str, str]]:
    """Wait until nothing that was acknowledged is under way, and return what the gateway says of each."""
    paths = {key: f"/v1/operations/{key}" for key in devices.book.operations}
    paths |= {key: f"/v1/transactions/{key}" for key in devices.book.transactions}
    told: dict[str, dict[str, str]] = {}

    def ended(key: str) -> bool:
        found = devices.ask(paths[key])
        if found["state"] not in (*TERMINAL, "over"):
            return False
        told[key] = found
        devices.moved()
        return True

    with ThreadPoolExecutor(_ASKERS) as pool:
        asking = [pool.submit(devices.until, partial(ended, key), f"{paths[key]} to be final") for key in paths]
        try:
            for one in asking:
                one.result()
        except BaseException:
            over.set()
            raise
    devices.until(lambda: _idle(devices), "the gateway to have nothing under way")
    return told


def _idle(devices: Devices) -> bool:
    counts = devices.ask("/v1/status")["submissions"]
    return not sum(count for state, count in counts.items() if state not in TERMINAL)


def _report(devices: Devices, chaos: Chaos, gateway: Gateway, sends: tuple[int, int], took_s: float) -> None:
    book = devices.book
    print(f"{book.ended} of {len(book.encounters)} encounters ended in {took_s:.0f} s and {chaos.blocks} blocks")
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
    folder = Path(tempfile.mkdtemp(prefix="idml-soak-"))
    try:
        wrong = soak(seed=arguments.seed, encounters=arguments.encounters, folder=folder)
    except KeyboardInterrupt:
        print("interrupted: nothing was compared")
        status = 130
    else:
        status = 1 if wrong else 0
    if status == 1:
        print(f"logs and database: {folder}")
    else:
        shutil.rmtree(folder)
    return status


if __name__ == "__main__":
    sys.exit(main())
