"""Gossip learning: merge, update, send.

What the validators judge is the merge of the two models, before the Learner trains it: everyone who holds both
snapshots computes the same bytes.
"""

from __future__ import annotations

from device_agent.learning import Model, Snapshots, Trainer
from models.options import Codec, Merge


class Gossip:
    """The gossip adapter."""

    label = "gossip"

    def __init__(self, trainer: Trainer, snapshots: Snapshots, *, codec: Codec, kind: Merge, own_steps: int) -> None:
        """Set how models are merged, and how many mini-batches follow a merge."""
        self._trainer = trainer
        self._snapshots = snapshots
        self._codec = codec
        self._kind = kind
        self._own_steps = own_steps

    async def contribute(self, previous: Model, own: Model) -> Model:
        """Merge this device's model into the Learner's."""
        return await self._snapshots.merge(previous, own, self._kind, self._codec)

    async def adopt(self, updated: Model) -> Model:
        """Train the merged model on this device's data."""
        return await self._trainer.train(updated, steps=self._own_steps)
