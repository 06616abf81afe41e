"""Alarms: what an operator is told, and what not."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from contracts.chain import PROFILES
from gateway.alarms import AlarmKind, alarms
from gateway.records import Block
from gateway.standing import Standing
from gateway.submission import State
from gateway.watch import NodeFacts, Watched

NOW_S = 1_000_000.0
AMOY = PROFILES["amoy"]
WELL = Standing(
    submissions=dict.fromkeys(State, 0),
    oldest_unsettled_s=10.0,
    operations_waiting=0,
    oldest_operation_s=0.0,
    head=Block(number=500, hash="0x5", time_s=int(NOW_S) - 2),
    block_times_s={number: int(NOW_S) - 2 - 2 * (500 - number) for number in range(200, 501)},
    store_bytes=1,
    devices=0,
    open_tokens=0,
    batches=(),
)
FACTS = NodeFacts(height=500, final_height=498, operator_wei=10**18)
SEEN = Watched(facts=FACTS, at_s=NOW_S, fault=None, models=0, model_bytes=0)


def kinds(told: Standing, watched: Watched | None, **changes: object) -> Mapping[AlarmKind, str]:
    found = alarms(told, watched, replace(AMOY, **changes), operator_alarm_wei=10**17, now_s=NOW_S)
    return {one.kind: one.words for one in found}


def test_while_all_is_well_nothing_is_told() -> None:
    assert kinds(WELL, SEEN) == {}
    assert kinds(WELL, None) == {}


@pytest.mark.parametrize(
    ("told", "watched", "kind", "words"),
    [
        (WELL, replace(SEEN, fault="no answer", at_s=NOW_S - 61), AlarmKind.NODE_SILENT, "for 61 s: no answer"),
        (
            replace(WELL, head=Block(number=500, hash="0x5", time_s=int(NOW_S) - 300)),
            SEEN,
            AlarmKind.CHAIN_STALLS,
            "300 s old; usual is one in 2 s",
        ),
        (
            WELL,
            replace(SEEN, facts=replace(FACTS, final_height=430)),
            AlarmKind.FINALITY_LAGS,
            "block 430, 140 s behind",
        ),
        (WELL, replace(SEEN, facts=replace(FACTS, operator_wei=5)), AlarmKind.OPERATOR_LOW, "5 wei left"),
        (replace(WELL, oldest_unsettled_s=1100.0), SEEN, AlarmKind.STUCK, "for 1100 s"),
    ],
)
def test_what_is_wrong_is_told_in_a_sentence(told: Standing, watched: Watched, kind: AlarmKind, words: str) -> None:
    found = kinds(told, watched)
    assert list(found) == [kind]
    assert words in found[kind]


def test_a_short_silence_is_none() -> None:
    assert kinds(WELL, replace(SEEN, fault="no answer", at_s=NOW_S - 59)) == {}


def test_on_a_chain_whose_clock_is_commanded_time_tells_nothing() -> None:
    late = replace(WELL, head=Block(number=500, hash="0x5", time_s=1))
    assert kinds(late, SEEN, time_control=True, finality_alarm_s=0.0) == {}
