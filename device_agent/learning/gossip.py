"""Gossip learning: merge, update, send.

What the validators judge is the merge of the two models, before the Learner trains it: everyone who holds both
snapshots computes the same bytes.
"""

from __future__ import annotations

from device_agent.learning import Model, Trainer
from models.merge import Merge, merge
from models.registry import Architecture
from models.snapshot import Codec, decode, encode


class Gossip:
    """The gossip adapter."""

    label = "gossip"

    def __init__(
        self, trainer: Trainer, architecture: Architecture, *, codec: Codec, kind: Merge, own_steps: int
    ) -> None:
        """Set how models are merged, and how many mini-batches follow a merge."""
        self._trainer = trainer
        self._architecture = architecture
        self._codec = codec
        self._kind = kind
        self._own_steps = own_steps

    async def contribute(self, previous: Model, own: Model) -> Model:
        """Merge this device's model into the Learner's."""
        weights = merge(
            self._kind,
            decode(previous.data, self._architecture),
            previous.age,
            decode(own.data, self._architecture),
            own.age,
        )
        snapshot = encode(weights, self._architecture, self._codec)
        return Model(data=snapshot.data, digest=snapshot.digest, age=max(previous.age, own.age))

    async def adopt(self, updated: Model) -> Model:
        """Train the merged model on this device's data."""
        return await self._trainer.train(updated, steps=self._own_steps)
