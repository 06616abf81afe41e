"""The encounters under way: what happens to one is committed with the effects that follow, then they are performed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from contracts.errors import ContractsError
from contracts.terms import LANES
from device_agent.acquaintances import Acquaintances, Deed, deed_of
from device_agent.encounter import (
    CLOSING,
    Effect,
    Encounter,
    Happening,
    Role,
    Stage,
    operation_label,
    step,
    step_on_chain,
)
from device_agent.errors import AgentError, GatewayRefused, LinkLost, PeerFault, StorageFault, WorkerDied
from device_agent.journal import Journal, NewOperation
from device_agent.observation import Observe
from models.errors import ModelsError

_LAST_NONCE = "last nonce of terms"

Perform = Callable[[Encounter, Effect], Awaitable[NewOperation | None]]
"""Does one effect; returns the operation it comes to, if it is a transaction."""

_SHOWS_THE_PEER = frozenset({Effect.AGREE, Effect.CHECK_IN, Effect.FETCH_PREVIOUS, Effect.FETCH_UPDATED})
"""What fails by what the peer signed or sent, if it does."""
_WORKING = frozenset({Stage.CHECKING_IN, Stage.OPEN, Stage.WORKING, Stage.OFFERED})
_CHOOSING = frozenset({Effect.CONCLUDE, Effect.ADOPT_ON_CREDIT})
"""These may change the device's own model."""


class Encounters:
    """The journal's live encounters in memory, and the loop of journal, effect, journal."""

    def __init__(self, journal: Journal, acquaintances: Acquaintances, observe: Observe) -> None:
        self._journal = journal
        self._acquaintances = acquaintances
        self._observe = observe
        self._live = {one.key: one for one in journal.live_encounters()}
        self._due: set[tuple[bytes, Effect]] = set()
        self._perform: Perform | None = None
        self._tasks: asyncio.TaskGroup | None = None

    def start(self, tasks: asyncio.TaskGroup, perform: Perform) -> None:
        """Begin to perform effects, first those a crash has left."""
        self._tasks, self._perform = tasks, perform
        for effect_id, key, effect in self._journal.pending_effects():
            self._due.add((key, effect))
            tasks.create_task(self._do(key, effect_id, effect))

    @property
    def live(self) -> tuple[Encounter, ...]:
        """Everything under way, oldest first."""
        return tuple(self._live.values())

    @property
    def idle(self) -> bool:
        """Whether nothing is under way, nor being concluded."""
        return not self._live and not self._choosing

    @property
    def _choosing(self) -> bool:
        """Whether the device's own model may change at any moment."""
        return any(effect in _CHOOSING for _, effect in self._due)

    def is_due(self, key: bytes, effect: Effect) -> bool:
        """Whether an effect is still to be performed, or being performed."""
        return (key, effect) in self._due

    def learning(self, *, away: bool) -> bool:
        """Whether this device is a Learner now.

        Neither a stranded encounter keeps it from the next one, nor one on credit of which it has the model, nor, while
        it is away from any gateway, one that is to be opened on chain.
        """
        busy = any(one.role is Role.LEARNER and not _only_waits(one, away=away) for one in self.live)
        return busy or self._choosing

    def working(self, *, away: bool) -> bool:
        """Whether this device is a Neighbor that has not done its work yet."""
        working = (one for one in self.live if one.role is Role.NEIGHBOR and one.stage in _WORKING)
        return any(not _only_waits(one, away=away) for one in working)

    def get(self, key: bytes) -> Encounter | None:
        """Return a live encounter."""
        return self._live.get(key)

    def known(self, key: bytes) -> bool:
        """Return whether an encounter of this key was ever begun."""
        return key in self._live or self._journal.encounter(key) is not None

    @property
    def lanes_left(self) -> int:
        """In how many lanes this device can still open encounters as a Learner."""
        return LANES - len(self._occupied())

    def _occupied(self) -> set[int]:
        live = (one for one in self.live if one.role is Role.LEARNER and one.proposal.nonce)
        return {one.proposal.nonce % LANES for one in live}

    def new_nonce(self, now_s: int) -> int:
        """Return a nonce for new terms, greater than all before, in a lane that no live encounter of ours occupies.

        It grows with the chain's time (Unix s), so that a device that lost its journal does not use one twice.
        """
        occupied = self._occupied()
        nonce = max(now_s, int(self._journal.fact(_LAST_NONCE) or 0) + 1)
        while nonce % LANES in occupied and len(occupied) < LANES:
            nonce += 1
        self._journal.set_fact(_LAST_NONCE, str(nonce))
        return nonce

    def begin(self, one: Encounter, effects: tuple[Effect, ...]) -> None:
        """Take up an encounter."""
        one = replace(one, done=frozenset(effects))
        due = self._journal.record(one, effects=effects)
        self._live[one.key] = one
        self._tell(one, "begun")
        self._start(one.key, due)

    def apply(
        self, key: bytes, happening: Happening, *, snapshot: tuple[bytes, bytes] | None = None, **learned: object
    ) -> bool:
        """Move an encounter along its table: commit, then perform. Return whether `happening` was in place.

        Args:
            key: of the encounter.
            happening: what was seen.
            snapshot: (digest, canonical bytes) that came with it.
            learned: members of the record that became known with it.
        """
        one = self._live.get(key)
        result = None if one is None else step(one, happening, **learned)
        return one is not None and result is not None and self._follow(one, happening, *result, snapshot=snapshot)

    def apply_on_chain(self, key: bytes, happening: Happening, *, now_s: int, grace_s: int, **learned: object) -> bool:
        """Move an encounter along by what the chain shows at `now_s` (Unix s of the chain), as `apply` does."""
        one = self._live.get(key)
        if one is None:
            return False
        again = not any(self._journal.waits(operation_label(one, effect)) for effect in one.done & CLOSING)
        result = step_on_chain(one, happening, now_s=now_s, grace_s=grace_s, again=again, **learned)
        return result is not None and self._follow(one, happening, *result)

    def _follow(
        self,
        one: Encounter,
        happening: Happening,
        after: Encounter,
        effects: tuple[Effect, ...],
        *,
        snapshot: tuple[bytes, bytes] | None = None,
    ) -> bool:
        key = one.key
        if after == one and not effects:
            return True  # seen before, as a deadline that is still over at the next look
        due = self._journal.record(after, effects=effects, snapshot=snapshot)
        deed = deed_of(one, happening, after)
        if deed is not None:
            self._acquaintances.did(one.peer, deed)
        if after.live:
            self._live[key] = after
        else:
            del self._live[key]
        if after.stage is not one.stage or effects:
            self._tell(after, happening.value)
        self._start(key, due)
        return True

    def _start(self, key: bytes, due: list[tuple[int, Effect]]) -> None:
        if self._tasks is None:
            raise RuntimeError("the agent is not running")
        for effect_id, effect in due:
            self._due.add((key, effect))
            self._tasks.create_task(self._do(key, effect_id, effect))

    async def _do(self, key: bytes, effect_id: int, effect: Effect) -> None:
        """Do one effect, then strike it off. A fault of the peer or the link fails the encounter."""
        one = self._journal.encounter(key)
        if one is None or self._perform is None:
            raise AgentError(f"the journal lists an effect of an unknown encounter {key.hex()}")
        operation: NewOperation | None = None
        fault: str | None = None
        try:
            operation = await self._perform(one, effect)
        except (LinkLost, PeerFault, ModelsError, StorageFault, WorkerDied, GatewayRefused, ContractsError) as error:
            fault = f"{effect}: {error}"
            if effect in _SHOWS_THE_PEER and isinstance(error, PeerFault | ModelsError):
                self._acquaintances.did(one.peer, Deed.BROKE)
        self._journal.performed(effect_id, operation)
        self._due.discard((key, effect))
        if fault is not None and not self.apply(key, Happening.FAILED, reason=fault):
            self._observe("fault", where=effect, reason=fault)

    def _tell(self, one: Encounter, happening: str) -> None:
        self._observe(
            "encounter",
            key=one.key.hex(),
            role=one.role,
            stage=one.stage,
            happening=happening,
            peer=one.peer,
            reason=one.reason,
            verdict=one.verdict,
        )


def _only_waits(one: Encounter, *, away: bool) -> bool:
    """Whether nothing can be done for it but to hear what the chain says."""
    if one.proposal.credit:
        return one.stage in {Stage.STRANDED, Stage.REPORTING, Stage.VOTING}
    return one.stage is Stage.STRANDED or (away and one.stage is Stage.CHECKING_IN)
