"""The child processes, for real: torch in one, none in the other, and what happens when one dies."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device_agent.errors import WorkerDied
from device_agent.learning import Model
from device_agent.learning.choices import Data
from device_agent.learning.gossip import Gossip
from device_agent.learning.local import LocalAssessor, LocalSnapshots, LocalTrainer, TrainingRates
from device_agent.learning.oppcl import OppCL
from device_agent.learning.weights import SnapshotsHere
from device_agent.learning.worker import (
    Checked,
    CheckTask,
    Child,
    Failed,
    FreshTask,
    Kind,
    LocalData,
    Measured,
    MeasureTask,
    ShareTask,
    Trained,
    TrainTask,
)
from device_agent.loopback.clock import VirtualLoop
from device_agent.loopback.world import wait_virtually
from models.data import Dataset, load
from models.errors import MalformedSnapshot
from models.fetch import fetch
from models.options import Codec, Merge
from models.registry import Architecture, architecture
from models.snapshot import encode, parse

pytestmark = pytest.mark.timeout(120)
DATASET = "fashion-mnist"


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    fetch(DATASET)
    return load(DATASET)


@pytest.fixture(scope="module")
def arch() -> Architecture:
    return architecture("cnn6", (1, 28, 28))


@pytest.fixture(scope="module")
def trainer() -> Iterator[Child]:
    child = Child(Kind.TRAINING)
    yield child
    child.close()


@pytest.fixture(scope="module")
def validator() -> Iterator[Child]:
    child = Child(Kind.VALIDATION)
    yield child
    child.close()


@pytest.fixture(scope="module")
def fresh(trainer: Child, arch: Architecture) -> Trained:
    made = trainer.answer(trainer.give(FreshTask(architecture=arch.name, codec=Codec.INT8, seed=1)))
    assert isinstance(made, Trained)
    return made


def rows(dataset: Dataset, count: int, *, flipped: bool = False, start: int = 0) -> LocalData:
    assert count <= len(dataset.train_labels)
    return LocalData(dataset=DATASET, root=None, rows=range(start, start + count), flipped=flipped)


def training(snapshot: bytes, data: LocalData, arch: Architecture, **changes: int) -> TrainTask:
    values = {"start": 0, "steps": 25, "seed": 1} | changes
    return TrainTask(
        architecture=arch.name,
        snapshot=snapshot,
        data=data,
        codec=Codec.INT8,
        batch_size=32,
        learning_rate=0.05,
        momentum=0.9,
        **values,
    )


def loads_torch(pid: int | None) -> bool:
    return "libtorch" in Path(f"/proc/{pid}/maps").read_text()


def test_training_on_real_images_makes_a_better_model_and_validation_never_loads_torch(
    trainer: Child, validator: Child, fresh: Trained, dataset: Dataset, arch: Architecture
) -> None:
    trained = trainer.answer(trainer.give(training(fresh.snapshot, rows(dataset, 800), arch)))
    assert isinstance(trained, Trained)
    assert parse(trained.snapshot, arch).digest == trained.digest
    measured = validator.answer(
        validator.give(
            MeasureTask(
                architecture=arch.name,
                snapshots=(fresh.snapshot, trained.snapshot),
                data=rows(dataset, 500, start=2000),
            )
        )
    )
    assert isinstance(measured, Measured)
    before, after = measured.correct
    assert before is not None
    assert after is not None
    assert measured.total == 500
    assert after > before + 50
    assert loads_torch(trainer.pid)
    assert not loads_torch(validator.pid)


def test_the_same_task_gives_the_same_bytes_and_another_start_others(
    trainer: Child, fresh: Trained, dataset: Dataset, arch: Architecture
) -> None:
    def digest(**changes: int) -> bytes:
        answer = trainer.answer(trainer.give(training(fresh.snapshot, rows(dataset, 200), arch, steps=2, **changes)))
        assert isinstance(answer, Trained)
        return answer.digest

    assert digest() == digest()
    assert digest() != digest(start=64)


def test_an_attacker_learns_and_votes_on_mirrored_labels(
    trainer: Child, validator: Child, fresh: Trained, dataset: Dataset, arch: Architecture
) -> None:
    answer = trainer.answer(trainer.give(training(fresh.snapshot, rows(dataset, 800, flipped=True), arch, steps=40)))
    assert isinstance(answer, Trained)
    counts = []
    for flipped in (False, True):
        measured = validator.answer(
            validator.give(
                MeasureTask(
                    architecture=arch.name,
                    snapshots=(answer.snapshot,),
                    data=rows(dataset, 500, flipped=flipped, start=2000),
                )
            )
        )
        assert isinstance(measured, Measured)
        counts.append(measured.correct[0] or 0)
    assert counts[0] < 100 < counts[1]


def test_answers_come_back_to_their_tickets_in_any_order(
    validator: Child, fresh: Trained, dataset: Dataset, arch: Architecture
) -> None:
    tickets = [
        validator.give(MeasureTask(architecture=arch.name, snapshots=(fresh.snapshot,), data=rows(dataset, count)))
        for count in (10, 20, 30)
    ]
    totals = [validator.answer(ticket) for ticket in reversed(tickets)]
    assert [one.total for one in totals if isinstance(one, Measured)] == [30, 20, 10]


@pytest.mark.parametrize("damage", ["cut", "flipped header", "empty", "noise"])
def test_a_malformed_snapshot_is_none_or_failed_and_the_child_goes_on(
    trainer: Child, validator: Child, fresh: Trained, dataset: Dataset, arch: Architecture, damage: str
) -> None:
    bad = {
        "cut": fresh.snapshot[:-1],
        "flipped header": b"\xff" + fresh.snapshot[1:],
        "empty": b"",
        "noise": bytes(range(256)) * 100,
    }[damage]
    answer = trainer.answer(trainer.give(training(bad, rows(dataset, 50), arch)))
    assert isinstance(answer, Failed)
    assert answer.fault is not None
    measured = validator.answer(
        validator.give(MeasureTask(architecture=arch.name, snapshots=(bad, fresh.snapshot), data=rows(dataset, 50)))
    )
    assert isinstance(measured, Measured)
    assert measured.correct[0] is None
    assert measured.correct[1] is not None


def test_weights_that_overflow_are_measured_or_refused_and_end_no_child(
    validator: Child, dataset: Dataset, arch: Architecture
) -> None:
    weights = {spec.name: np.full(spec.shape, 65024, np.float32) for spec in arch.tensors}
    huge = encode(weights, arch, Codec.FLOAT32).data
    answer = validator.answer(
        validator.give(MeasureTask(architecture=arch.name, snapshots=(huge,), data=rows(dataset, 50)))
    )
    assert isinstance(answer, Measured)
    assert answer.correct[0] is None or 0 <= answer.correct[0] <= 50


def test_a_missing_dataset_is_answered(
    trainer: Child, validator: Child, fresh: Trained, arch: Architecture, tmp_path: Path
) -> None:
    missing = LocalData(dataset=DATASET, root=tmp_path, rows=range(5))
    for child, task in (
        (trainer, training(fresh.snapshot, missing, arch)),
        (validator, MeasureTask(architecture=arch.name, snapshots=(), data=missing)),
    ):
        answer = child.answer(child.give(task))
        assert isinstance(answer, Failed)
        assert answer.fault is None
        assert "fashion-mnist is not in" in answer.message


def test_a_killed_child_is_told_and_a_new_one_takes_the_next_task(dataset: Dataset, arch: Architecture) -> None:
    child = Child(Kind.VALIDATION)
    task = MeasureTask(architecture=arch.name, snapshots=(), data=rows(dataset, 5))
    answer = Measured(correct=(), total=5)
    try:
        assert child.pid is None  # an idle device has the memory for itself
        assert child.answer(child.give(task)) == answer
        first = child.pid
        assert first is not None
        os.kill(first, signal.SIGSTOP)
        lost = child.give(task)
        os.kill(first, signal.SIGKILL)
        with pytest.raises(WorkerDied, match=r"validation process ended with status -9; was it killed for want"):
            child.answer(lost)
        assert child.answer(child.give(task)) == answer
        assert child.pid not in (None, first)
        with pytest.raises(WorkerDied, match="died before it answered"):
            child.answer(lost)
    finally:
        child.close()
    assert child.pid is None


@pytest.mark.timeout(60)
def test_many_tasks_larger_than_the_pipe_can_be_queued_before_an_answer_is_taken(
    trainer: Child, dataset: Dataset
) -> None:
    big = architecture("cnn14", (1, 28, 28))
    fresh = trainer.answer(trainer.give(FreshTask(architecture=big.name, codec=Codec.FLOAT32, seed=1)))
    assert isinstance(fresh, Trained)
    task = replace(training(fresh.snapshot, rows(dataset, 8), big, steps=1), codec=Codec.FLOAT32, batch_size=4)
    tickets = [trainer.give(task) for _ in range(5)]
    assert all(isinstance(trainer.answer(ticket), Trained) for ticket in tickets)


def test_both_algorithms_learn_over_the_adapter(
    trainer: Child, validator: Child, fresh: Trained, dataset: Dataset, arch: Architecture
) -> None:
    def local_trainer(start: int) -> LocalTrainer:
        return LocalTrainer(
            trainer,
            rows(dataset, 300, start=start),
            arch,
            codec=Codec.INT8,
            rates=TrainingRates(batch_size=32, learning_rate=0.05, momentum=0.9),
            seed=1,
        )

    async def main() -> None:
        blank = Model(data=fresh.snapshot, digest=fresh.digest, age=0)
        own = await local_trainer(0).train(blank, steps=4)
        assert own.age == 4
        assessor = LocalAssessor(validator, rows(dataset, 200, start=1000), arch)
        merging = LocalSnapshots(validator, arch)
        for adapter, age in (
            (OppCL(local_trainer(300), max_rounds=5, own_steps=2), 9),
            (Gossip(local_trainer(300), merging, codec=Codec.INT8, kind=Merge.MEAN, own_steps=2), 4),
        ):
            updated = await adapter.contribute(own, blank)
            assert updated.age == age
            assert parse(updated.data, arch).digest == updated.digest
            adopted = await adapter.adopt(updated)
            assert adopted.age == age + 2
            assessment = await assessor.assess(own.data, updated.data)
            assert assessment.total == 200
            assert assessment.updated_correct is not None

    asyncio.run(main())


def test_training_without_steps_is_the_model_itself_and_starts_no_process(arch: Architecture) -> None:
    child = Child(Kind.TRAINING)
    rates = TrainingRates(batch_size=4, learning_rate=0.1, momentum=0.0)
    data = LocalData(dataset=DATASET, root=None, rows=range(50))
    model = Model(data=b"whatever it is", digest=b"", age=3)
    same = asyncio.run(LocalTrainer(child, data, arch, codec=Codec.INT8, rates=rates, seed=1).train(model, steps=0))
    assert same is model
    assert child.pid is None


def test_a_failed_answer_becomes_the_exception_that_fits(
    trainer: Child, fresh: Trained, arch: Architecture, tmp_path: Path
) -> None:
    def trainer_on(data: LocalData) -> LocalTrainer:
        rates = TrainingRates(batch_size=4, learning_rate=0.1, momentum=0.0)
        wait = wait_virtually(100)
        return LocalTrainer(trainer, data, arch, codec=Codec.INT8, rates=rates, seed=1, wait=wait)

    async def main() -> None:
        here = LocalData(dataset=DATASET, root=None, rows=range(50))
        with pytest.raises(MalformedSnapshot):
            await trainer_on(here).train(Model(data=b"no", digest=b"", age=0), steps=1)
        missing = LocalData(dataset=DATASET, root=tmp_path, rows=range(50))
        with pytest.raises(WorkerDied, match="fashion-mnist is not in"):
            await trainer_on(missing).train(Model(data=fresh.snapshot, digest=b"", age=0), steps=1)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())


# -- what needs numbers, and no training ------------------------------------------------------------------------------


def test_snapshots_are_checked_and_merged_in_the_child_as_they_are_here(
    trainer: Child, validator: Child, fresh: Trained, arch: Architecture
) -> None:
    other = trainer.answer(trainer.give(FreshTask(architecture=arch.name, codec=Codec.INT8, seed=2)))
    assert isinstance(other, Trained)
    there, here = LocalSnapshots(validator, arch), SnapshotsHere(arch)
    first, second = (Model(data=one.snapshot, digest=one.digest, age=age) for one, age in ((fresh, 3), (other, 8)))

    async def main() -> None:
        for kind in Merge:
            merged = await there.merge(first, second, kind, Codec.INT8)
            assert merged == await here.merge(first, second, kind, Codec.INT8)
            assert merged.age == 8
        await there.check(fresh.snapshot)
        for bad in (b"", fresh.snapshot[:-1], fresh.snapshot + b"\0", b"\xff" * len(fresh.snapshot)):
            said = []
            for one in (there, here):
                with pytest.raises(MalformedSnapshot) as refused:
                    await one.check(bad)
                said.append((refused.value.reason, str(refused.value)))
            assert said[0] == said[1]

    asyncio.run(main())


def test_every_device_finds_its_own_share_and_no_other(validator: Child, dataset: Dataset) -> None:
    def share(number: int, **data: Any) -> Any:
        task = ShareTask(data=Data(**data), family="cnn6", number=number, of=3, seed=5)
        return validator.answer(validator.give(task))

    found = [share(number, samples_per_device=100) for number in (0, 1, 2)]
    assert {one.architecture for one in found} == {"cnn6-28x28x1"}
    rows = [row for one in found for row in one.rows]
    assert len(rows) == len(set(rows)) == 300
    assert max(rows) < len(dataset.train_labels)
    assert share(1, samples_per_device=100) == found[1]
    impossible = share(0, partition="label_shards", labels_per_device=10, samples_per_label=6000)
    assert isinstance(impossible, Failed)
    assert "too few" in impossible.message
    missing = share(0, dataset="folder:/nowhere")
    assert isinstance(missing, Failed)
    assert "/nowhere" in missing.message


def test_who_waits_when_a_child_that_hangs_is_retired_starts_no_other_one(dataset: Dataset, arch: Architecture) -> None:
    child = Child(Kind.VALIDATION)
    task = MeasureTask(architecture=arch.name, snapshots=(), data=rows(dataset, 5))
    child.do(task)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGSTOP)
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(child.do, task) for _ in range(3)]
        child.retire()
    for one in waiting:
        with pytest.raises(WorkerDied):
            one.result()
    assert child.pid is None


def test_threads_take_turns_and_a_rest_ends_only_who_had_nothing_to_do(fresh: Trained, arch: Architecture) -> None:
    child = Child(Kind.VALIDATION)
    good = CheckTask(architecture=arch.name, snapshot=fresh.snapshot)
    bad = CheckTask(architecture=arch.name, snapshot=b"")
    try:
        child.rest()
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(child.do, [good, bad] * 20))
        assert answers[::2] == [Checked()] * 20
        assert all(isinstance(one, Failed) for one in answers[1::2])
        first = child.pid
        child.rest()
        assert child.pid == first  # it had work since the last one
        child.rest()
        assert child.pid is None
        assert child.do(good) == Checked()
        assert child.pid not in (None, first)
    finally:
        child.close()
