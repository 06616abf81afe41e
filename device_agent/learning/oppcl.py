"""OppCL, opportunistic collaborative learning: send, train, return.

The Learner's model travels to the Neighbor, is trained there for at most `max_rounds` mini-batches on the
Neighbor's data, and comes back; there is no merge. The Learner then trains it on its own data.
"""

from __future__ import annotations

from device_agent.learning import Model, Trainer


class OppCL:
    """The OppCL adapter."""

    label = "oppcl"

    def __init__(self, trainer: Trainer, *, max_rounds: int, own_steps: int) -> None:
        """Set the work of each side, in mini-batches."""
        self._trainer = trainer
        self._max_rounds = max_rounds
        self._own_steps = own_steps

    async def contribute(self, previous: Model, own: Model) -> Model:
        """Train the Learner's model on this device's data."""
        return await self._trainer.train(previous, steps=self._max_rounds)

    async def adopt(self, updated: Model) -> Model:
        """Take the returned weights, and train them on this device's data."""
        return await self._trainer.train(updated, steps=self._own_steps)
