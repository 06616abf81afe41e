"""`make bench`: measure, print a table, write `bench.json`.

Every ratio is taken side by side: both sides in turn in one run, after a warm-up, and the median of the runs' own
ratios is what counts. Machines are shared and noisy, so the spread is printed too. One thread per process.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from statistics import median

os.environ["OMP_NUM_THREADS"] = "1"

import nearby
import numpy as np
import relay
import scanning
import torch
import transfer
from rich.console import Console
from rich.table import Table

from contracts import gas
from contracts.localchain import open_chain
from device_agent.learning.worker import Child, FreshTask, Kind, LocalData, Measured, MeasureTask, Trained, TrainTask
from models.cnn import build, load_weights
from models.data import load, normalise
from models.evaluate import Evaluator
from models.options import Codec
from models.registry import named
from models.snapshot import decode

_WIDTH = 100
"""Columns: less would cut figures off."""
DATASET = "fashion-mnist"
ARCHITECTURE = "cnn6-28x28x1"
BATCH = 32
STEPS = 20  # per task, as in the demo


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of `bench.json`; `runs` holds every counted value."""

    name: str
    value: float
    unit: str
    better: str
    target: float | None
    baseline: float | None
    runs: list[float]
    note: str = ""


def side_by_side(
    ours: Callable[[], float], theirs: Callable[[], float], *, runs: int
) -> tuple[list[float], list[float]]:
    """Return both sides' rates, measured in turn after one warm-up each."""
    ours()
    theirs()
    pairs = [(ours(), theirs()) for _ in range(runs)]
    return [one for one, _ in pairs], [other for _, other in pairs]


def train_step_ratio(runs: int, tasks: int = 10) -> Row:
    """Steps per second of the simulation's training process, tasks and snapshots included, over a bare loop."""
    arch = named(ARCHITECTURE)
    dataset = load(DATASET)
    rows = np.random.default_rng(1).permutation(len(dataset.train_labels))[:900]
    child = Child(Kind.TRAINING)
    fresh = child.answer(child.give(FreshTask(architecture=arch.name, codec=Codec.INT8, seed=1)))
    assert isinstance(fresh, Trained)
    local = LocalData(dataset=DATASET, root=None, rows=rows)

    def simulated() -> float:
        started_s = time.perf_counter()
        snapshot = fresh.snapshot
        for number in range(tasks):
            task = TrainTask(
                architecture=arch.name,
                snapshot=snapshot,
                data=local,
                codec=Codec.INT8,
                start=number * STEPS * BATCH,
                steps=STEPS,
                batch_size=BATCH,
                learning_rate=0.05,
                momentum=0.0,
                seed=number,
            )
            answer = child.answer(child.give(task))
            assert isinstance(answer, Trained)
            snapshot = answer.snapshot
        return tasks * STEPS / (time.perf_counter() - started_s)

    torch.set_num_threads(1)
    network = build(arch, 1)
    images, labels = dataset.train_images, dataset.train_labels

    def bare() -> float:
        """The loop anybody would write: tensors ready in memory, one optimizer, no snapshots."""
        x = torch.from_numpy(normalise(images[rows]))
        y = torch.from_numpy(labels[rows].astype(np.int64))
        optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
        network.train()
        started_s = time.perf_counter()
        for step in range(tasks * STEPS):
            chosen = torch.arange(step * BATCH, (step + 1) * BATCH) % len(rows)
            optimizer.zero_grad(set_to_none=True)
            torch.nn.functional.cross_entropy(network(x[chosen]), y[chosen]).backward()
            optimizer.step()
        return tasks * STEPS / (time.perf_counter() - started_s)

    try:
        ours, theirs = side_by_side(simulated, bare, runs=runs)
    finally:
        child.close()
    return ratio("train_step_ratio", ours, theirs, target=0.9)


def validate_speedup(runs: int) -> Row:
    """Test images per second with ONNX Runtime over PyTorch (channels_last, its faster layout), weights to answer."""
    arch = named(ARCHITECTURE)
    dataset = load(DATASET)
    images, labels = np.asarray(dataset.test_images), np.asarray(dataset.test_labels)
    child = Child(Kind.TRAINING)
    fresh = child.answer(child.give(FreshTask(architecture=arch.name, codec=Codec.INT8, seed=1)))
    child.close()
    assert isinstance(fresh, Trained)
    weights = decode(fresh.snapshot, arch)
    evaluator = Evaluator(arch)
    torch.set_num_threads(1)
    network = build(arch, 1).to(memory_format=torch.channels_last).eval()
    answers: dict[str, int] = {}

    def onnx_runtime() -> float:
        started_s = time.perf_counter()
        answers["onnx"] = evaluator.accuracy(weights, images, labels).correct
        return len(labels) / (time.perf_counter() - started_s)

    def pytorch() -> float:
        started_s = time.perf_counter()
        load_weights(network, weights)
        correct = 0
        with torch.inference_mode():
            for at in range(0, len(labels), 100):
                x = torch.from_numpy(normalise(images[at : at + 100])).to(memory_format=torch.channels_last)
                correct += int((network(x).argmax(dim=1).numpy() == labels[at : at + 100]).sum())
        answers["torch"] = correct
        return len(labels) / (time.perf_counter() - started_s)

    ours, theirs = side_by_side(onnx_runtime, pytorch, runs=runs)
    assert abs(answers["onnx"] - answers["torch"]) <= 10, f"the two sides do not agree: {answers}"
    return ratio("validate_speedup", ours, theirs, target=1.2)


def validator_rss_mb(runs: int) -> Row:
    """Peak memory of the validation process of an agent while it measures two models on 600 images."""
    arch = named(ARCHITECTURE)
    rows = np.random.default_rng(1).permutation(60_000)[:600]
    maker = Child(Kind.TRAINING)
    fresh = maker.answer(maker.give(FreshTask(architecture=arch.name, codec=Codec.INT8, seed=1)))
    maker.close()
    assert isinstance(fresh, Trained)
    peaks = []
    for _ in range(runs):
        child = Child(Kind.VALIDATION)
        for _ in range(10):
            task = MeasureTask(
                architecture=arch.name,
                snapshots=(fresh.snapshot, fresh.snapshot),
                data=LocalData(dataset=DATASET, root=None, rows=rows),
            )
            assert isinstance(child.answer(child.give(task)), Measured)
        peaks.append(memory_mb(child.pid, "VmHWM"))
        child.close()
    return Row(
        name="validator_rss_mb",
        value=max(peaks),
        unit="MB",
        better="lower",
        target=100,
        baseline=None,
        runs=peaks,
    )


@cache
def idle_rows() -> dict[str, Row]:
    """Two real agents that have staked and know each other, and nothing to do: learner = false, all else as it is."""
    found = nearby.idle()
    about = f"two agents on one bridge, their own process at rest for {nearby.REST_S:.0f} s"
    children = "; their children together have " + " and ".join(f"{one:.0f} MiB" for one in found.children_mib)
    return {
        "agent_idle_cpu_pct": Row(
            name="agent_idle_cpu_pct",
            value=max(found.cpu_pct),
            unit="%",
            better="lower",
            target=1.0,
            baseline=None,
            runs=found.cpu_pct,
            note=f"of one core, over {nearby.WATCHED_S:.0f} s, children included; {about}",
        ),
        "agent_idle_mib": Row(
            name="agent_idle_mib",
            value=max(found.mib),
            unit="MiB",
            better="lower",
            target=80,
            baseline=None,
            runs=found.mib,
            note=about + children,
        ),
    }


def first_byte_p50_s(arrivals: int = 15) -> Row:
    """How long a device that comes near, and one that is there, need to know who the other is."""
    took = nearby.arrivals(arrivals)
    return Row(
        name="first_byte_p50_s",
        value=median(took),
        unit="s",
        better="lower",
        target=1.5,
        baseline=None,
        runs=took,
        note="over mDNS, from the moment the newcomer's loaded process opens its link and radio, until one of the two"
        " has answered the other's hello, so that each has proved its key; no encounter follows",
    )


def converge_20_s(runs: int) -> Row:
    """How long the radios of a full room need to find each other."""
    took = [nearby.converging() for _ in range(runs)]
    return Row(
        name="converge_20_s",
        value=median(took),
        unit="s",
        better="lower",
        target=None,
        baseline=None,
        runs=took,
        note=f"{nearby.RADIOS} mDNS radios on one bridge, all started at once: from the opening of the last one until"
        " each has seen all others; all share this machine's cores",
    )


def ble_sighting_p50_s() -> Row:
    """How soon an id that a radio begins to show over Bluetooth LE is seen by another."""
    took = scanning.sighting_times_s()
    return Row(
        name="ble_sighting_p50_s",
        value=median(took),
        unit="s",
        better="lower",
        target=0.3,
        baseline=None,
        runs=took,
        note="from `rename` until the other radio's sighting, on a real bluetoothd in a User-Mode Linux kernel,"
        " between adapters without a radio: what antennas, distance and a crowd add is not in it",
    )


def ble_parse_per_cpu_s(runs: int) -> Row:
    """Advertisements read per second of CPU."""
    rates = [scanning.parsed_per_cpu_s() for _ in range(runs)]
    return Row(
        name="ble_parse_per_cpu_s",
        value=median(rates),
        unit="1/s",
        better="higher",
        target=50_000,
        baseline=None,
        runs=rates,
        note="half of them ours, a quarter of other services, a quarter damaged",
    )


def ble_scan_cpu_pct(runs: int) -> Row:
    """What a radio takes that hears a hundred devices a second."""
    found = [scanning.scan_cpu_pct() for _ in range(runs)]
    return Row(
        name="ble_scan_cpu_pct",
        value=median(busy for busy, _ in found),
        unit="%",
        better="lower",
        target=2.0,
        baseline=median(silent for _, silent in found),
        runs=[busy for busy, _ in found],
        note=f"of one core over {scanning.WATCHED_S:.0f} s, of the radio's process with bleak and dbus-fast: it hears"
        f" {scanning.PER_S} devices each second from a played bluetoothd; the baseline is the same in silence",
    )


def loop_encounters_per_cpu_s(runs: int) -> Row:
    """Whole encounters of the demo per second of CPU, of all processes, start-up included."""
    rates = []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            command = [sys.executable, "-m", "device_agent", "simulate", "demo-oppcl", "--out", folder, "--quiet"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            settled = json.loads((Path(folder) / "summary.json").read_text())["encounters"]["settled"]
            cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            rates.append(settled / cpu_s)
    return Row(
        name="loop_encounters_per_cpu_s",
        value=median(rates),
        unit="encounters/s",
        better="higher",
        target=None,
        baseline=None,
        runs=rates,
    )


def ratio(name: str, ours: list[float], theirs: list[float], *, target: float) -> Row:
    """Return the row of a ratio of rates; the baseline is the other side's median rate."""
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    return Row(
        name=name,
        value=median(ratios),
        unit="ratio",
        better="higher",
        target=target,
        baseline=median(theirs),
        runs=ratios,
    )


def memory_mb(pid: int | None, field: str) -> float:
    """Read VmRSS or VmHWM of a process, in MB of 10^6 bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise LookupError(field)


@cache
def gas_rows(gas_price_gwei: float, usd_per_coin: float) -> dict[str, Row]:
    """Gas of an encounter through each door, on a chain in memory and on Anvil: they have to agree."""
    costs = []
    for kind in ("embedded", "anvil"):
        with open_chain(kind) as chain:
            costs.append(gas.measure(chain))
    rows = {}
    for alone, other in zip(*costs, strict=True):
        coins, dollars = alone.price(gas_price_gwei=gas_price_gwei, usd_per_coin=usd_per_coin)
        rows[alone.name] = Row(
            name=alone.name,
            value=alone.total,
            unit="gas",
            note=f"the paper: {gas.PAPER:,}; {coins:.6f} POL, {dollars:.6f} USD at {gas_price_gwei:g} gwei",
            better="lower",
            target=GAS_TARGETS[alone.name],
            baseline=gas.PAPER,
            runs=[alone.total, other.total],
        )
    return rows


@cache
def relay_rows(runs: int) -> dict[str, Row]:
    """Eight devices through a gateway and to its node in turn: throughput, and how long an acknowledgement takes."""
    with relay.open_relay(halves=True) as opened:
        times_ms: list[list[float]] = []

        def ours() -> float:
            rate, times = opened.through_gateway(partial(opened.signing, relay.EACH))
            times_ms.append(sorted(1000 * one for one in times))
            return rate

        def theirs() -> float:
            return opened.through_node(partial(opened.signing, relay.EACH))[0]

        pairs = side_by_side(ours, theirs, runs=runs)
        presigned = side_by_side(
            lambda: opened.through_gateway(partial(opened.signed, relay.EACH))[0],
            lambda: opened.through_node(partial(opened.signed, relay.EACH))[0],
            runs=runs,
        )
    counted = times_ms[1:]  # the first is the warm-up
    rows = {
        "relay_throughput_ratio": ratio("relay_throughput_ratio", *pairs, target=0.7),
        "relay_presigned_ratio": ratio("relay_presigned_ratio", *presigned, target=None),
    }
    for name, share in (("relay_accept_p50_ms", 0.5), ("relay_accept_p99_ms", 0.99)):
        values = [one[int(share * len(one))] for one in counted]
        rows[name] = Row(
            name=name,
            value=median(values),
            unit="ms",
            better="lower",
            target=None,
            baseline=None,
            runs=values,
            note="from the request to the acknowledgement of what is on disk, eight devices at once",
        )
    return rows


def relay_growth_mb(submissions: int = 20_000) -> Row:
    """Growth of a served gateway's memory over many submissions, after a thousand to warm up."""
    with relay.open_relay() as opened:
        opened.through_gateway(partial(opened.signed, 1000 // len(relay.DEVICES)))
        before = memory_mb(opened.pid, "VmRSS")
        grown: list[float] = []
        for _ in range(4):
            opened.through_gateway(partial(opened.signed, submissions // len(relay.DEVICES) // 4))
            grown.append(memory_mb(opened.pid, "VmRSS") - before)
    return Row(
        name="relay_growth_mb",
        value=grown[-1],
        unit="MB",
        better="lower",
        target=20,
        baseline=before,
        runs=grown,
        note=f"{submissions} submissions in four parts; the baseline is the gateway's memory before",
    )


def relay_gas_overhead() -> Row:
    """Gas per encounter of fifty devices through a gateway over the contract's own batched figure."""
    through, bare = relay.gas_per_encounter()
    return Row(
        name="relay_gas_overhead",
        value=through / bare,
        unit="ratio",
        better="lower",
        target=1.1,
        baseline=bare,
        runs=[through / bare],
        note=f"{through:,.0f} gas per encounter through the gateway, {bare:,} in the contract's benchmark",
    )


def transfer_ratio(runs: int) -> Row:
    """A snapshot of 20 MiB over the link, its unpacking included, beside as many bytes over plain TLS."""
    took = transfer.transfers(4 * runs)
    return Row(
        name="transfer_ratio",
        value=median(plain_s / link_s for link_s, plain_s in took),
        unit="ratio",
        better="higher",
        target=0.8,
        baseline=median(plain_s for _, plain_s in took),
        runs=[plain_s / link_s for link_s, plain_s in took],
    )


GAS_TARGETS = {"gas_direct": 420_000, "gas_batched_1": 135_000, "gas_batched_50": 70_000}

ROWS: dict[str, Callable[[int], Row]] = {
    "train_step_ratio": train_step_ratio,
    "validate_speedup": validate_speedup,
    "agent_idle_cpu_pct": lambda _: idle_rows()["agent_idle_cpu_pct"],
    "agent_idle_mib": lambda _: idle_rows()["agent_idle_mib"],
    "first_byte_p50_s": lambda _: first_byte_p50_s(),
    "converge_20_s": lambda runs: converge_20_s(min(runs, 3)),
    "ble_sighting_p50_s": lambda _: ble_sighting_p50_s(),
    "ble_parse_per_cpu_s": ble_parse_per_cpu_s,
    "ble_scan_cpu_pct": lambda runs: ble_scan_cpu_pct(min(runs, 3)),
    "validator_rss_mb": validator_rss_mb,
    "loop_encounters_per_cpu_s": lambda runs: loop_encounters_per_cpu_s(min(runs, 2)),
    "transfer_ratio": transfer_ratio,
    "relay_throughput_ratio": lambda runs: relay_rows(runs)["relay_throughput_ratio"],
    "relay_presigned_ratio": lambda runs: relay_rows(runs)["relay_presigned_ratio"],
    "relay_accept_p50_ms": lambda runs: relay_rows(runs)["relay_accept_p50_ms"],
    "relay_accept_p99_ms": lambda runs: relay_rows(runs)["relay_accept_p99_ms"],
    "relay_growth_mb": lambda _: relay_growth_mb(),
    "relay_gas_overhead": lambda _: relay_gas_overhead(),
}


def show(rows: list[Row]) -> None:
    """Print the table."""
    table = Table(title="benchmarks (median; memory: maximum)")
    for column in ("name", "value", "unit", "target", "reached", "min", "max", "runs"):
        table.add_column(column, justify="left" if column in ("name", "unit") else "right", no_wrap=True)
    for row in rows:
        reached = ""
        if row.target is not None:
            better = row.value >= row.target if row.better == "higher" else row.value <= row.target
            reached = "yes" if better else "NO"
        target = "" if row.target is None else f"{row.target:g}"
        form = ",.0f" if row.unit.startswith("gas") else ".3g"
        low, high = format(min(row.runs), form), format(max(row.runs), form)
        table.add_row(row.name, format(row.value, form), row.unit, target, reached, low, high, str(len(row.runs)))
    Console(width=max(Console().width, _WIDTH)).print(table)
    for row in rows:
        if row.note:
            print(f"{row.name}: {row.note}")


def main() -> int:
    """Measure the rows asked for."""
    names = [*ROWS, *GAS_TARGETS]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("bench.json"))
    parser.add_argument("--runs", type=int, default=5, help="counted runs of each row (default 5)")
    parser.add_argument("--gas-price", type=float, default=30.0, metavar="GWEI", help="per gas (default 30)")
    parser.add_argument("--rate", type=float, default=0.2, metavar="USD", help="per POL (default 0.20)")
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="ROW")
    arguments = parser.parse_args()
    rows: list[Row] = []
    left_out: list[str] = []
    for name in arguments.only:
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        if name in GAS_TARGETS:
            rows.append(gas_rows(arguments.gas_price, arguments.rate)[name])
            continue
        try:
            rows.append(ROWS[name](arguments.runs))
        except (nearby.NoNetwork, scanning.NoBluetooth) as missing:
            left_out.append(f"{name} is left out: {missing}")
    if rows:
        show(rows)
    for one in left_out:
        print(one)
    arguments.out.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
