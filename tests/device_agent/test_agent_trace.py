"""From what devices of a field trial hear to a trace that a simulation replays."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from device_agent.__main__ import main
from device_agent.contact_log import SILENCE_S, ContactLog, Contacts, Heard
from device_agent.errors import ConfigError
from device_agent.loopback.contacts import trace_contacts
from device_agent.radio import Medium, RadioId
from device_agent.trace import RESOLUTION_S, joined, read_log

EPOCH_S = 1_790_000_000.0
SIGN_S, ROTATION_S = 15.0, 700.0
A, B = RadioId("a" * 16), RadioId("b" * 16)


class Clock:
    """Wall time begins at the epoch and may be set wrong."""

    def __init__(self) -> None:
        self.now_s, self.wrong_s = 0.0, 0.0

    def monotonic_s(self) -> float:
        return self.now_s

    def wall_s(self) -> float:
        return EPOCH_S + self.now_s + self.wrong_s


def nothing(*_: object, **__: object) -> None:
    return None


# -- contacts ---------------------------------------------------------------------------------------------------------


def test_a_contact_is_from_the_first_sign_to_the_last_with_the_signals_strength() -> None:
    contacts = Contacts()
    for at_s, rssi in ((0, -70), (10, -60), (20, None), (30, -80)):
        assert contacts.sign(A, Medium.BLE, now_s=at_s, wall_s=EPOCH_S + at_s, rssi_dbm=rssi) == []
    assert contacts.over(30 + SILENCE_S - 1) == []
    (one,) = contacts.over(30 + SILENCE_S)
    assert one == Heard(
        heard=A, medium=Medium.BLE, start_s=EPOCH_S, end_s=EPOCH_S + 30, signs=4, rssi_dbm=(-80, -70.0, -60)
    )
    assert contacts.over(1000) == []


def test_each_id_and_each_medium_is_a_contact_of_its_own() -> None:
    contacts = Contacts()
    for who, medium in ((A, Medium.BLE), (A, Medium.LINK), (B, Medium.LINK)):
        contacts.sign(who, medium, now_s=0, wall_s=EPOCH_S)
    assert {(one.heard, one.medium) for one in contacts.close()} == {
        (A, Medium.BLE),
        (A, Medium.LINK),
        (B, Medium.LINK),
    }


def test_a_clock_that_is_set_right_in_the_middle_does_not_stretch_a_contact() -> None:
    contacts = Contacts()
    contacts.sign(A, Medium.LINK, now_s=100, wall_s=0)
    contacts.sign(A, Medium.LINK, now_s=130, wall_s=EPOCH_S)
    (one,) = contacts.close()
    assert (one.start_s, one.end_s) == (0, 30)


def test_strangers_fill_no_memory_and_the_oldest_go_first() -> None:
    contacts = Contacts()
    closed = [
        one
        for number in range(2000)
        for one in contacts.sign(RadioId(f"{number:016x}"), Medium.BLE, now_s=number / 100, wall_s=EPOCH_S)
    ]
    assert [int(one.heard, 16) for one in closed] == list(range(2000 - 512))
    assert len(contacts.close()) == 512


# -- the file ---------------------------------------------------------------------------------------------------------


def test_a_log_says_what_its_device_showed_and_whom_it_heard(tmp_path: Path) -> None:
    clock, shown = Clock(), ["1" * 16]
    log = ContactLog(tmp_path / "log", own=lambda: RadioId(shown[0]), clock=clock, observe=nothing)
    log.sign(A, Medium.BLE, now_s=0, rssi_dbm=-50)
    clock.now_s, shown[0] = 400, "2" * 16
    log.look(400)
    log.sign(B, Medium.LINK, now_s=400)
    log.close()
    found = read_log(tmp_path / "log")
    assert found.shown == {"1" * 16, "2" * 16}
    assert found.contacts == ((A, EPOCH_S, EPOCH_S), (B, EPOCH_S + 400, EPOCH_S + 400))


def test_a_log_goes_on_after_a_restart_and_half_a_line_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for who in (A, B):
        log = ContactLog(path, own=lambda: RadioId("1" * 16), clock=Clock(), observe=nothing)
        log.sign(who, Medium.LINK, now_s=0)
        log.close()
        path.write_text(path.read_text() + '{"heard": "cccc')  # power fails
    assert [heard for heard, *_ in read_log(path).contacts] == [A, B]
    whole = path.read_text()
    path.write_text(whole.replace('"start_s"', '"begins"', 1))
    with pytest.raises(ConfigError, match=r"log:2: .* is no line of a contact log"):
        read_log(path)


def test_a_disk_that_is_full_is_told_once_and_ends_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told: list[object] = []
    monkeypatch.setattr("device_agent.contact_log._MOST_BYTES", 400)
    log = ContactLog(
        tmp_path / "log", own=lambda: RadioId("1" * 16), clock=Clock(), observe=lambda *_, **said: told.append(said)
    )
    for number in range(100):
        log.sign(RadioId(f"{number:016x}"), Medium.BLE, now_s=0)
    log.close()
    assert (tmp_path / "log").stat().st_size < 400
    assert len(told) == 1
    assert "is full" in str(told[0])
    assert read_log(tmp_path / "log").contacts


# -- joining ----------------------------------------------------------------------------------------------------------


class Device:
    """One that logs, and shows another id now and then."""

    def __init__(self, number: int, folder: Path, clock: Clock) -> None:
        self._number, self._clock = number, clock
        self.path = folder / f"{number}.jsonl"
        self.log = ContactLog(self.path, own=lambda: self.shown, clock=clock, observe=nothing)

    @property
    def shown(self) -> RadioId:
        return RadioId(f"{self._number:04x}{int((self._clock.now_s + 97 * self._number) // ROTATION_S):012x}")


def logged(folder: Path, meetings: list[tuple[int, int, int, int]], *, devices: int, until_s: float) -> list[Path]:
    """Let devices meet, (start, end, a, b) in s, and return what they logged."""
    clock = Clock()
    crowd = [Device(number, folder, clock) for number in range(devices)]
    while clock.now_s <= until_s:
        for start_s, end_s, a, b in meetings:
            if start_s <= clock.now_s <= end_s and (clock.now_s - start_s) % SIGN_S == 0:
                crowd[a].log.sign(crowd[b].shown, Medium.BLE, now_s=clock.now_s, rssi_dbm=-60)
                crowd[b].log.sign(crowd[a].shown, Medium.BLE, now_s=clock.now_s, rssi_dbm=-61)
        for one in crowd:
            one.log.look(clock.now_s)
        clock.now_s += 5
    for one in crowd:
        one.log.close()
    return [one.path for one in crowd]


def meetings_of(rng: random.Random, devices: int, until_s: int) -> list[tuple[int, int, int, int]]:
    found = []
    for a in range(devices):
        for b in range(a + 1, devices):
            at_s = 5 * rng.randrange(0, 200)
            while at_s < until_s:
                end_s = at_s + 15 * rng.randrange(1, 150)
                found.append((at_s, end_s, a, b))
                at_s = end_s + 5 * rng.randrange(18, 400)
    return sorted(found)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6))
def test_a_simulation_replays_the_meetings_that_devices_logged(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("trial")
    meetings = meetings_of(random.Random(seed), 3, 4000)
    last_s = max(end_s for _, end_s, *_ in meetings)
    trace = joined([read_log(one) for one in logged(folder, meetings, devices=3, until_s=last_s + 100)])
    assert (trace.strangers, trace.one_sided) == (0, 0)
    (folder / "trace").write_text("".join(f"{line}\n" for line in trace.lines()))
    replayed = trace_contacts(folder / "trace", devices=3, gap_s=20)
    origin_s = meetings[0][0]
    assert [(one.a, one.b) for one in replayed] == [(a, b) for *_, a, b in meetings]
    for one, (start_s, end_s, *_) in zip(replayed, meetings, strict=True):
        assert one.start_s == start_s - origin_s
        assert end_s - origin_s <= one.end_s <= end_s - origin_s + RESOLUTION_S


def test_strangers_are_counted_and_what_one_side_missed_is_told(tmp_path: Path) -> None:
    paths = []
    for number, heard in ((1, [B, RadioId("c" * 16)]), (2, [])):
        log = ContactLog(
            tmp_path / str(number), own=lambda number=number: (A, B)[number - 1], clock=Clock(), observe=nothing
        )
        for one in heard:
            log.sign(one, Medium.BLE, now_s=0)
        log.look(0)
        log.close()
        paths.append(tmp_path / str(number))
    trace = joined([read_log(one) for one in paths])
    assert trace.contacts == ((EPOCH_S, EPOCH_S, 1, 2),)
    assert (trace.strangers, trace.one_sided) == (1, 1)
    assert list(trace.lines()) == ["0.0 1 2"]
    with pytest.raises(ConfigError, match="are of one device"):
        joined([read_log(paths[0]), read_log(paths[0])])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        '{"heard": "a", "start_s": 1, "end_s": 2}',
        "[" * 100_000 + "\nx\nx",
        '{"shown": 7}\n{"shown": "a"}',
        '{"shown": "a"}\n{"heard": "b", "start_s": 2, "end_s": 1}\n{"shown": "a"}',
        '{"shown": "a"}\n{"heard": "b", "start_s": 1e308, "end_s": 1e999}\n{"shown": "a"}',
        '{"shown": "a"}\n{"heard": "b", "start_s": 0, "end_s": 1e9}\n{"shown": "a"}',
    ],
)
def test_what_is_no_log_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "log").write_text(text)
    with pytest.raises(ConfigError, match="log"):
        read_log(tmp_path / "log")


# -- the command ------------------------------------------------------------------------------------------------------


def test_the_command_writes_a_trace_and_says_what_is_in_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    paths = logged(tmp_path, [(0, 600, 0, 1), (1000, 1045, 1, 2)], devices=3, until_s=1200)
    out = tmp_path / "met.trace"
    arguments = ["trace", *map(str, paths), "--out", str(out)]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "1 - 2        1 contacts, 10.0 min together" in said
    assert f"wrote {out}: 2 contacts in 17.4 min" in said
    assert out.read_text().splitlines()[:2] == ["0.0 1 2", "20.0 1 2"]
    assert main(arguments) == 2
    assert "is there already" in capsys.readouterr().err
    assert main([*arguments, "--overwrite"]) == 0
    assert main(["trace", str(paths[0]), "--out", str(tmp_path / "nobody")]) == 1
    assert not (tmp_path / "nobody").exists()
    assert main(["trace", str(tmp_path / "missing"), "--out", str(tmp_path / "nobody")]) == 2
    assert json.loads(paths[0].read_text().splitlines()[0])["shown"]
