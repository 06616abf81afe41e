"""The device's own model: what it is now, and the snapshots that are worth keeping."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace

from device_agent.encounter import Encounter
from device_agent.journal import Journal
from device_agent.learning import Model

_FACT = "model"

MAX_AGE = (1 << 48) - 1
"""What messages can hold. Ages come from peers: without a bound one lie would make a model that none can speak of."""


class OwnModel:
    """The current model, in the journal from the first change on."""

    def __init__(self, journal: Journal, initial: Model) -> None:
        """Go on from the journal's model, or begin with `initial` if there is none."""
        self._journal = journal
        self._current = remembered_model(journal) or initial

    @property
    def current(self) -> Model:
        """The model as it is now."""
        return self._current

    def move_on(self, model: Model, *, on_credit: bytes | None = None) -> None:
        """Replace the model, durably; `on_credit`: by which encounter, if no validators have seen it yet."""
        model = replace(model, age=min(model.age, MAX_AGE))
        fact = json.dumps(
            {
                "digest": model.digest.hex(),
                "age": model.age,
                "on_credit": None if on_credit is None else on_credit.hex(),
                "age_before": self._current.age,
            }
        )
        self._journal.keep(model.digest, model.data, fact=(_FACT, fact))
        self._current = model

    def take_back(self, on_credit: bytes, previous: bytes) -> bool:
        """Go back to the model of digest `previous` if this one came on credit by that encounter; say if so."""
        fact = json.loads(self._journal.fact(_FACT) or "{}")
        data = self._journal.snapshot(previous)
        if fact.get("on_credit") != on_credit.hex() or data is None:
            return False
        self.move_on(Model(data=data, digest=previous, age=fact["age_before"]))
        return True

    def snapshot(self, digest: bytes) -> bytes | None:
        """Return the canonical bytes of the current model or of one in the journal."""
        return self._current.data if digest == self._current.digest else self._journal.snapshot(digest)

    def tidy(self, live: Iterable[Encounter]) -> None:
        """Drop the snapshots that neither this model nor a live encounter needs."""
        keep = {self._current.digest}
        for one in live:
            keep.add(bytes.fromhex(one.proposal.previous))
            keep.update({one.updated} if one.updated else ())
        self._journal.discard_snapshots(frozenset(keep))


def remembered_model(journal: Journal) -> Model | None:
    """Return the model that the journal keeps as the device's own, None before the first change."""
    fact = journal.fact(_FACT)
    if fact is None:
        return None
    value = json.loads(fact)
    digest = bytes.fromhex(value["digest"])
    data = journal.snapshot(digest)
    return None if data is None else Model(data=data, digest=digest, age=value["age"])
