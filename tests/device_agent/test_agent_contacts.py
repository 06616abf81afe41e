"""Who meets whom: made at random the same way each time, or read from a trace."""

from __future__ import annotations

import gzip
import random
from itertools import pairwise
from pathlib import Path

import pytest

from device_agent.errors import ConfigError
from device_agent.loopback.contacts import Contact, random_contacts, trace_contacts

REAL = Path(__file__).parents[3] / "shared" / "data"


def some_contacts(seed: int) -> list[Contact]:
    return random_contacts(
        6, mean_gap_s=300, mean_contact_s=100, min_contact_s=40, until_s=50_000, rng=random.Random(seed)
    )


def test_random_contacts_depend_on_the_seed_alone() -> None:
    assert some_contacts(1) == some_contacts(1) != some_contacts(2)


def test_random_contacts_are_sorted_apart_and_long_enough() -> None:
    contacts = some_contacts(1)
    assert contacts == sorted(contacts)
    for a in range(6):
        for b in range(a + 1, 6):
            pair = [one for one in contacts if (one.a, one.b) == (a, b)]
            assert len(pair) > 50
            assert all(one.end_s - one.start_s >= 40 for one in pair)
            assert all(second.start_s > first.end_s for first, second in pairwise(pair))
    mean_s = sum(one.end_s - one.start_s for one in contacts) / len(contacts)
    assert 120 < mean_s < 160


TRACE = """\
100 7 5
120 5 7
160 7 5
120 9 5
900 5 7
900 3 4
"""


def traced(tmp_path: Path, text: str, *, devices: int = 2, gap_s: float = 20) -> list[Contact]:
    path = tmp_path / "trace.dat"
    path.write_text(text)
    return trace_contacts(path, devices=devices, gap_s=gap_s)


def test_sightings_up_to_the_gap_apart_are_one_contact(tmp_path: Path) -> None:
    def pair(start_s: float, end_s: float) -> Contact:
        return Contact(start_s=start_s, end_s=end_s, a=0, b=1)

    assert traced(tmp_path, TRACE) == [pair(0, 40), pair(60, 80), pair(800, 820)]
    assert traced(tmp_path, TRACE, gap_s=40) == [pair(0, 80), pair(800, 820)]
    assert traced(tmp_path, TRACE, gap_s=39) == [pair(0, 40), pair(60, 80), pair(800, 820)]


def test_the_most_seen_people_take_part_numbered_in_order(tmp_path: Path) -> None:
    contacts = traced(tmp_path, TRACE + "300 9 5\n", devices=3)
    assert {(one.a, one.b) for one in contacts} == {(0, 1), (0, 2)}  # 5 with 7 and 5 with 9: 5, 7, 9
    assert Contact(start_s=20, end_s=40, a=0, b=2) in contacts


def test_packed_and_unsorted_traces_and_further_columns_are_read(tmp_path: Path) -> None:
    plain = traced(tmp_path, TRACE)
    path = tmp_path / "trace.gz"
    lines = [f"{line} PC MP" for line in TRACE.splitlines()]
    path.write_bytes(gzip.compress("\n".join(reversed(lines)).encode()))
    assert trace_contacts(path, devices=2, gap_s=20) == plain


def test_nobody_meets_himself(tmp_path: Path) -> None:
    assert traced(tmp_path, TRACE + "120 5 5\n") == traced(tmp_path, TRACE)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no contact"),
        ("1 2 3\n4 5\n", r'trace.dat:2: \'4 5\' is not "t i j"'),
        ("1 2 3\n\n", r'trace.dat:2: \'\' is not "t i j"'),
        ("1 a 3\n", "trace.dat:1"),
        ("1 2 \u00e9\n", "cannot be read"),
        ("nan 2 3\n", "trace.dat:1"),
        ("inf 2 3\n", "trace.dat:1"),
        ("1 2 3\n", r"2 people in the trace, devices.count = 5; at most 2"),
    ],
)
def test_a_bad_trace_is_named_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        traced(tmp_path, text, devices=5)


def test_a_cut_archive_and_a_missing_file_are_named(tmp_path: Path) -> None:
    cut = tmp_path / "cut.gz"
    cut.write_bytes(gzip.compress(TRACE.encode() * 100)[:-20])
    for path in (cut, tmp_path / "none"):
        with pytest.raises(ConfigError, match=f"{path}: cannot be read"):
            trace_contacts(path, devices=2, gap_s=20)


@pytest.mark.parametrize("name", ["InVS15_tij.dat.gz", "SFHH_tij.dat.gz"])
def test_published_traces_are_read(name: str) -> None:
    if not (REAL / name).exists():
        pytest.skip("the trace is not beside this checkout")
    contacts = trace_contacts(REAL / name, devices=20, gap_s=20)
    assert contacts[0].start_s >= 0
    assert {one.a for one in contacts} | {one.b for one in contacts} == set(range(20))
    assert all(one.a < one.b and one.end_s >= one.start_s + 20 for one in contacts)
    for pair in {(one.a, one.b) for one in contacts}:
        meetings = [one for one in contacts if (one.a, one.b) == pair]
        assert all(second.start_s > first.end_s for first, second in pairwise(meetings))
