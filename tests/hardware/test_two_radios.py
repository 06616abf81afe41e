"""Two real Bluetooth radios in range of each other, as of two Raspberry Pis or of one with a second adapter.

    pytest tests/hardware --hardware pi@pi-2:/home/pi/idml     the other one is at another machine, which has a .venv
    pytest tests/hardware --hardware hci1                      the other one is a second adapter of this machine

bluetoothd runs, the user is in the group bluetooth, both adapters are on, and ssh asks for no password. It takes some
minutes. Without `--hardware` these tests are skipped.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(600)

A, B, C = "a1" * 8, "b2" * 8, "c3" * 8
Open = Callable[[str, str, str], Any]


def test_each_hears_the_other_and_how_loud_it_is(places: tuple[str, str], open_radio: Open) -> None:
    here, there = places
    a, b = open_radio(here, A, "10.0.0.1"), open_radio(there, B, "10.0.0.2")
    for one, other in ((a, B), (b, A)):
        heard = one.hears(other, lambda line: line["rssi_dbm"] is not None)
        assert -126 <= heard["rssi_dbm"] <= 20
    for one in (a, b):
        assert [line for line in one.lines if line["what"] == "radio fault"] == []


def test_another_id_is_heard_soon_and_the_old_one_no_more(places: tuple[str, str], open_radio: Open) -> None:
    here, there = places
    a, b = open_radio(here, A, "10.0.0.1"), open_radio(there, B, "10.0.0.2")
    a.hears(B)
    b.rename(C)
    a.hears(C)
    after = len(a.lines)
    a.hears(C, since=after)
    time.sleep(1)
    assert [line for line in a.lines[after:] if line.get("radio_id") == B] == []


def test_where_the_others_link_answers_is_read_over_a_connection(places: tuple[str, str], open_radio: Open) -> None:
    here, there = places
    open_radio(there, B, "10.0.0.2")
    a = open_radio(here, A, "10.0.0.1")
    assert a.hears(B, lambda line: line["endpoint"] is not None)["endpoint"] == "10.0.0.2:4711"


def test_who_leaves_is_heard_no_more(places: tuple[str, str], open_radio: Open) -> None:
    here, there = places
    a, b = open_radio(here, A, "10.0.0.1"), open_radio(there, B, "10.0.0.2")
    a.hears(B)
    b.close()
    time.sleep(3)  # what was on its way
    after = len(a.lines)
    time.sleep(20)
    assert [line for line in a.lines[after:] if line.get("radio_id") == B] == []
