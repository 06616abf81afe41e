"""Values that many tests of the agent start from."""

from __future__ import annotations

import dataclasses
import gc
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from agent_values import LEARNER_SALT, NEIGHBOR, NEIGHBOR_SALT, proposal
from fake_bluez import PrivateBus, what_is_missing

from contracts.terms import commitment
from device_agent.encounter import Encounter, Role, Stage
from device_agent.journal import Journal
from device_agent.radio import PeerId


@pytest.fixture
def begun() -> Callable[..., Encounter]:
    """A function (role, **changes) that returns an encounter as it begins on that side."""

    def make(role: Role, **changes: object) -> Encounter:
        learner = role is Role.LEARNER
        one = Encounter(
            key=commitment(LEARNER_SALT),
            role=role,
            stage=Stage.PROPOSED if learner else Stage.CHECKING_IN,
            peer=PeerId("peer"),
            proposal=proposal(),
            salt=LEARNER_SALT if learner else NEIGHBOR_SALT,
            terms=proposal().terms(neighbor=NEIGHBOR, commitment=commitment(NEIGHBOR_SALT)),
        )
        return dataclasses.replace(one, **changes)  # type: ignore[arg-type]

    return make


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """An empty journal."""
    one = Journal(tmp_path / "journal.sqlite")
    yield one
    one.close()


@pytest.fixture
def bus(monkeypatch: pytest.MonkeyPatch) -> Iterator[PrivateBus]:
    """A D-Bus that takes the system's place; not started yet."""
    missing = what_is_missing()
    if missing and os.environ.get("CI"):
        pytest.fail(missing)
    if missing:
        pytest.skip(missing)
    with tempfile.TemporaryDirectory() as folder:  # a short path: a socket's may have 107 bytes
        one = PrivateBus(Path(folder))
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", one.address)
        yield one
        one.stop()
    # What the libraries left behind when their bus died complains when it is collected: here, and not in another test.
    gc.collect()
