"""The 35 things that the relay must survive, and the tests that show each: none is missing, and each test is there."""

import ast
from pathlib import Path

HERE = Path(__file__).parent

SHOWN = {
    1: ("the same payload posted twice, also at once", ["checklist_acceptance::test_01"]),
    2: ("killed at every persisted transition", ["checklist_crashes::test_02", "soak"]),
    3: (
        "disk full, database read-only",
        [
            "gateway_app::test_a_full_disk_acknowledges_nothing",
            "gateway_app::test_a_database_that_takes_no_writes_acknowledges_nothing",
            "gateway_tables::test_",
        ],
    ),
    4: ("what is not relayed is refused", ["checklist_acceptance::test_04", "gateway_policy::test_"]),
    5: ("clocks that are wrong", ["checklist_acceptance::test_05"]),
    6: ("limits per device and in all", ["gateway_limits::test_", "gateway_buckets::test_"]),
    7: ("a reply that is lost", ["checklist_broadcast::test_07"]),
    8: ("a node that is down for an hour", ["checklist_broadcast::test_08", "gateway_worker::test_"]),
    9: ("already known, nonce too low", ["checklist_broadcast::test_09", "gateway_answers::test_"]),
    10: ("nonces out of order", ["checklist_broadcast::test_10"]),
    11: ("a gap at the head", ["checklist_broadcast::test_11"]),
    12: ("a key used elsewhere", ["checklist_broadcast::test_12"]),
    13: ("underpriced", ["checklist_broadcast::test_13", "gateway_fees::test_"]),
    14: ("an earlier attempt is mined", ["checklist_broadcast::test_14"]),
    15: ("the tip floor", ["checklist_broadcast::test_15"]),
    16: ("no coin for gas", ["checklist_broadcast::test_16", "gateway_alarms::test_"]),
    17: ("what would be reverted", ["checklist_acceptance::test_17"]),
    18: (
        "two gateways",
        ["checklist_broadcast::test_18", "checklist_two_gateways::test_18", "gateway_lease::test_"],
    ),
    19: ("a reorganisation", ["checklist_inclusion::test_19"]),
    20: ("a competitor", ["checklist_inclusion::test_20"]),
    21: ("a receipt moves", ["checklist_inclusion::test_21"]),
    22: ("no receipt, or one of another branch", ["checklist_inclusion::test_22", "gateway_confirmer::test_a_receipt"]),
    23: ("finality", ["checklist_inclusion::test_23"]),
    24: ("reverted", ["checklist_inclusion::test_24"]),
    25: ("out of gas", ["checklist_inclusion::test_25"]),
    26: ("a chain started anew", ["checklist_inclusion::test_26"]),
    27: ("a node that goes back", ["checklist_inclusion::test_27"]),
    28: ("ten thousand blocks offline", ["checklist_inclusion::test_28"]),
    29: ("the keeper", ["checklist_liveness::test_29"]),
    30: ("a device gone for weeks", ["checklist_liveness::test_30"]),
    31: (
        "a graceful stop",
        [
            "gateway_main::test_a_stake_flow_over_real_http_and_a_graceful_stop",
            "gateway_worker::test_the_step_under_way_is_finished",
        ],
    ),
    32: ("metrics", ["gateway_metrics::test_everything_is_told", "gateway_observing::test_"]),
    33: ("no secrets in logs", ["gateway_logs::test_a_whole_life_at_debug_level_writes_no_secret"]),
    34: ("bounded growth", ["checklist_liveness::test_34"]),
    35: ("an operation of an unknown version", ["checklist_acceptance::test_35"]),
}
"""What, and where: a test's file without `test_`, and how the names of its tests begin."""


def names_in(name: str) -> list[str]:
    tree = ast.parse((HERE / f"test_{name}.py").read_text(encoding="utf-8"))
    return [one.name for one in tree.body if isinstance(one, ast.FunctionDef) and one.name.startswith("test_")]


def test_every_point_is_shown_by_tests_that_are_there() -> None:
    assert list(SHOWN) == list(range(1, 36))
    for number, (_, places) in SHOWN.items():
        for place in places:
            name, _, beginning = place.partition("::")
            assert any(one.startswith(beginning or "test_") for one in names_in(name)), f"point {number}: {place}"


def test_every_numbered_test_is_in_the_table() -> None:
    for file in HERE.glob("test_checklist_*.py"):
        name = file.stem.removeprefix("test_")
        for one in names_in(name):
            number = int(one.split("_")[1])
            assert any(place.startswith(f"{name}::test_{number:02}") for place in SHOWN[number][1]), one
