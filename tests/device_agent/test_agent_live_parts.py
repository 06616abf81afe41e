"""Parts of an agent on a device: its settings, what it tells, its status, its folder, and what systemd hears."""

from __future__ import annotations

import asyncio
import io
import json
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from device_agent import systemd
from device_agent.agent_config import AgentConfig, LogFormat, read_agent_config
from device_agent.errors import ConfigError, StorageFault
from device_agent.journal import Journal, NewOperation
from device_agent.learning.local import LocalTrainer, TrainingRates
from device_agent.learning.worker import LocalData, Task, Trained
from device_agent.live import _first_model, _Learning, claimed
from device_agent.settings import Door, Settings
from device_agent.status import answer, ask, remembered
from device_agent.told import Told
from models.registry import architecture

# -- the first model ---------------------------------------------------------------------------------------------------


class Training:
    """A training process that makes a model of any task."""

    def __init__(self) -> None:
        self.tasks: list[Task] = []
        self.runs = False

    def do(self, task: Task) -> Trained:
        self.runs = True
        self.tasks.append(task)
        number = len(self.tasks) - 1
        return Trained(snapshot=b"model %d" % number, digest=bytes([number]) * 32, loss=0.5)

    def close(self) -> None:
        self.runs = False


@pytest.mark.parametrize(("warmup_steps", "last"), [(0, b"model 0"), (5, b"model 1")])
def test_the_process_that_made_the_first_model_is_not_kept(tmp_path: Path, warmup_steps: int, last: bytes) -> None:
    told = config(tmp_path, f"[learning]\nwarmup_steps = {warmup_steps}\n")
    training: Any = Training()
    arch = architecture("cnn6", (1, 28, 28))
    rates = TrainingRates(batch_size=1, learning_rate=0.1, momentum=0.0)
    data = LocalData(dataset="fashion-mnist", root=None, rows=range(10))
    trainer = LocalTrainer(training, data, arch, codec=told.learning.codec, rates=rates, seed=1)
    nobody: Any = None
    learning = _Learning(
        architecture=arch, training=training, validation=nobody, trainer=trainer, assessor=nobody, snapshots=nobody
    )
    made = asyncio.run(_first_model(told, learning))
    assert (made.data, made.age) == (last, warmup_steps)
    assert not training.runs


# -- settings ---------------------------------------------------------------------------------------------------------


def config(tmp_path: Path, text: str) -> AgentConfig:
    path = tmp_path / "agent.toml"
    path.write_text(text)
    return read_agent_config(path)


def test_settings_reach_the_agent(tmp_path: Path) -> None:
    found = config(
        tmp_path,
        'state = "/x"\n[incentives]\nreward = 1.5\nstake = 12.0\n[behaviour]\ndoor = "direct"\nlearner = false\n',
    )
    settings = found.settings
    assert (settings.reward, settings.stake) == (15 * 10**17, 12 * 10**18)
    assert (settings.door, settings.learner) == (Door.DIRECT, False)
    assert found.keystore == Path("/x/keystore.json")


def test_what_is_not_said_is_as_the_agent_has_it_by_itself() -> None:
    told, own = AgentConfig().settings, Settings(reward=10**18, tolerance_bps=200, parameter_set=0, stake=30 * 10**18)
    assert (told.open_within_s, told.cooldown_s, told.max_model_bytes) == (
        own.open_within_s,
        own.cooldown_s,
        own.max_model_bytes,
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("colour = 1", "unknown key colour; allowed here: behaviour, ble, data, gateway"),
        ("[share]\nnumber = 3\nof = 3", "number must be below of"),
        ('[gateway]\nurl = "ftp://x"', "url must begin with http"),
        ('[gateway]\nfingerprint = "zz"', "a fingerprint has 64 hex digits"),
        ('[gateway]\ntoken_file = "t"', "token_file needs enrolled"),
        ("[behaviour]\nping_every_s = 20.0", "lost_after_s must be at least twice"),
        ("[behaviour]\nreport_within_s = 60", "report_within_s must be above open_within_s"),
        ("[link]\nport = 70000", "link.port = 70000"),
        ('[ble]\nadapter = "/dev/hci0"', "ble.adapter = '/dev/hci0'"),
        ("[ble]\nquiet_s = 1.0", "ble.quiet_s = 1.0"),
        ("[data]\ndataset = 'moons'", "allowed are"),
    ],
)
def test_settings_that_cannot_be_are_one_clear_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        config(tmp_path, text)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


# -- what is told -----------------------------------------------------------------------------------------------------


def test_a_line_for_people_and_one_for_programs() -> None:
    out = io.StringIO()
    Told(LogFormat.TEXT, lambda: 0.0, out)("neighbor up", peer="0x1", nothing=None)
    Told(LogFormat.JSON, lambda: 0.0, out)("neighbor up", peer="0x1", count=2)
    text, program = out.getvalue().splitlines()
    assert text == "1970-01-01T00:00:00.000Z neighbor up peer=0x1"
    assert json.loads(program) == {
        "time": "1970-01-01T00:00:00.000Z",
        "event": "neighbor up",
        "peer": "0x1",
        "count": 2,
    }


def test_words_of_strangers_stay_on_their_line() -> None:
    out = io.StringIO()
    told = Told(LogFormat.TEXT, lambda: 0.0, out)
    told("peer fault", reason="a\nforged line\x1b[2J" + "x" * 1000)
    (line,) = out.getvalue().splitlines()
    assert "\x1b" not in line
    assert len(line) < 400
    assert told.last_faults[0]["what"] == "peer fault"


def test_what_lasts_is_told_once_and_then_now_and_again() -> None:
    out, now_s = io.StringIO(), [0.0]
    told = Told(LogFormat.TEXT, lambda: now_s[0], out)
    for reason in ("no gateway", "no gateway", "no coin", "no gateway"):
        told("waiting", reason=reason)
    assert len(out.getvalue().splitlines()) == 2
    now_s[0] = 601.0
    told("waiting", reason="no gateway")
    assert len(out.getvalue().splitlines()) == 3
    assert told.counts["waiting"] == 5


def test_a_log_that_nobody_reads_any_more_stops_nobody() -> None:
    out = io.StringIO()
    out.close()
    Told(LogFormat.TEXT, lambda: 0.0, out)("fault", reason="x")


# -- status -----------------------------------------------------------------------------------------------------------


def test_who_asks_a_running_agent_is_answered(tmp_path: Path) -> None:
    async def status() -> dict[str, Any]:
        return {"running": True, "text": "x" * 100_000}

    async def play() -> None:
        server = await answer(tmp_path, status)
        found = await asyncio.to_thread(ask, tmp_path)
        assert found is not None
        assert (found["running"], len(found["text"])) == (True, 100_000)
        server.close()
        await server.wait_closed()

    asyncio.run(play())
    assert ask(tmp_path) is None


def test_an_agent_that_cannot_say_is_told_from_none(tmp_path: Path) -> None:
    assert ask(tmp_path) is None
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "status.sock"))
        assert ask(tmp_path) is None  # left by one that was killed
        listening.listen()
        with pytest.raises(StorageFault, match="no useful answer"):
            _hung_up_on(listening, lambda: ask(tmp_path))


def _hung_up_on(listening: socket.socket, asking: Callable[[], object]) -> None:
    def hang_up() -> None:
        listening.accept()[0].close()

    thread = threading.Thread(target=hang_up)
    thread.start()
    try:
        asking()
    finally:
        thread.join()


def test_the_journal_tells_what_waits_and_what_was_refused(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    journal.enter(NewOperation(target="0x1", data=b"", label="one"), NewOperation(target="0x1", data=b"", label="two"))
    first, _ = journal.undelivered()
    journal.refused(first.id, "no such seat", final=True)
    found = remembered(journal)
    journal.close()
    assert [one["what"] for one in found["outbox"]] == ["two"]
    assert found["refused"] == [{"what": "one", "why": "no such seat"}]


# -- folder and systemd -----------------------------------------------------------------------------------------------


def test_one_folder_is_one_device(tmp_path: Path) -> None:
    with (
        claimed(tmp_path / "a"),
        pytest.raises(StorageFault, match="another agent runs there"),
        claimed(tmp_path / "a"),
    ):
        pass
    with claimed(tmp_path / "a"):
        pass


def test_systemd_hears_that_an_agent_is_ready_and_alive(tmp_path: Path) -> None:
    place = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as hearing:
        hearing.bind(place)
        hearing.settimeout(5)
        environment = {"NOTIFY_SOCKET": place, "WATCHDOG_USEC": "100000", "WATCHDOG_PID": str(os.getpid())}
        systemd.notify(systemd.READY, environment)
        assert hearing.recv(100) == b"READY=1"

        async def live() -> None:
            living = asyncio.create_task(systemd.keep_alive(environment))
            heard = [await asyncio.to_thread(hearing.recv, 100) for _ in range(3)]
            living.cancel()
            assert heard == [b"WATCHDOG=1"] * 3

        asyncio.run(live())


@pytest.mark.parametrize(
    "environment", [{}, {"NOTIFY_SOCKET": "nonsense"}, {"NOTIFY_SOCKET": "/no/such"}, {"WATCHDOG_USEC": "x"}]
)
def test_without_systemd_nothing_is_said(environment: dict[str, str]) -> None:
    systemd.notify(systemd.READY, environment)
    assert systemd.watchdog_s(environment) is None
    asyncio.run(systemd.keep_alive(environment))


def test_another_process_watchdog_is_not_ours() -> None:
    assert systemd.watchdog_s({"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}) is None
    assert systemd.watchdog_s({"WATCHDOG_USEC": "1000000"}) == 1.0
