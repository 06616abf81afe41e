"""Puts the parts of a device's learning together, as its settings choose them."""

from __future__ import annotations

from device_agent.learning import Adapter, Snapshots, Trainer
from device_agent.learning.choices import Learning
from device_agent.learning.gossip import Gossip
from device_agent.learning.local import LocalTrainer, Process, TrainingRates, Wait, wait_in_thread
from device_agent.learning.oppcl import OppCL
from device_agent.learning.worker import LocalData
from models.registry import Architecture


def trainer_of(
    learning: Learning,
    process: Process,
    data: LocalData,
    architecture: Architecture,
    *,
    seed: int,
    wait: Wait = wait_in_thread,
) -> LocalTrainer:
    """Return what trains on a device's data in `process`."""
    rates = TrainingRates(
        batch_size=learning.batch_size, learning_rate=learning.learning_rate, momentum=learning.momentum
    )
    return LocalTrainer(process, data, architecture, codec=learning.codec, rates=rates, seed=seed, wait=wait)


def adapter_of(learning: Learning, trainer: Trainer, snapshots: Snapshots) -> Adapter:
    """Return the algorithm."""
    if learning.algorithm == "oppcl":
        return OppCL(trainer, max_rounds=learning.max_rounds, own_steps=learning.own_steps)
    return Gossip(trainer, snapshots, codec=learning.codec, kind=learning.merge, own_steps=learning.own_steps)
