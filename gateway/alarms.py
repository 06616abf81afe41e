"""What an operator has to be told before it hurts. Pure: how a gateway stands in, alarms out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from contracts.chain import ChainProfile
from gateway.standing import Standing
from gateway.watch import Watched

_STUCK_S: Final = 900.0
_SILENT_S: Final = 60.0
_BLOCKS_LATE: Final = 60


class AlarmKind(StrEnum):
    """What is wrong."""

    NODE_SILENT = "node_silent"
    """The node has given no useful answer for a while."""
    CHAIN_STALLS = "chain_stalls"
    """No block has come for much longer than blocks usually take."""
    FINALITY_LAGS = "finality_lags"
    """Blocks come, and none of them becomes final."""
    OPERATOR_LOW = "operator_low"
    """The account that pays for batches is running out of coin."""
    STUCK = "stuck"
    """Something has been on its way for a quarter of an hour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """One thing that is wrong, in a sentence."""

    kind: AlarmKind
    words: str


def alarms(
    told: Standing, watched: Watched | None, profile: ChainProfile, *, operator_alarm_wei: int, now_s: float
) -> Iterator[Alarm]:
    """Yield what is wrong, the most basic first.

    Args:
        told: what the database says.
        watched: what is known of the node, None while nothing is.
        profile: what is usual on this chain.
        operator_alarm_wei: below this much native coin the operator should be sent some.
        now_s: wall clock, Unix seconds.
    """
    if watched is not None and watched.fault is not None and now_s - watched.at_s > _SILENT_S:
        words = f"the node has given no useful answer for {now_s - watched.at_s:.0f} s: {watched.fault}"
        yield Alarm(kind=AlarmKind.NODE_SILENT, words=words)
    if told.head is not None and not profile.time_control:
        late_s = now_s - told.head.time_s
        if late_s > max(_SILENT_S, profile.block_time_s * _BLOCKS_LATE):
            words = f"the newest block read is {late_s:.0f} s old; usual is one in {profile.block_time_s:g} s"
            yield Alarm(kind=AlarmKind.CHAIN_STALLS, words=words)
    facts = watched.facts if watched else None
    if facts is not None and profile.finality_alarm_s:
        lag_s = told.lag_s(facts.final_height)
        if lag_s is not None and lag_s > profile.finality_alarm_s:
            words = f"block {facts.final_height}, {lag_s} s behind the newest, is the last that is called final"
            yield Alarm(kind=AlarmKind.FINALITY_LAGS, words=words)
    if facts is not None and facts.operator_wei < operator_alarm_wei:
        words = f"the operator has {facts.operator_wei} wei left, below {operator_alarm_wei}: send it coin"
        yield Alarm(kind=AlarmKind.OPERATOR_LOW, words=words)
    if told.oldest_unsettled_s > _STUCK_S + profile.finality_alarm_s:
        words = f"a submission has been on its way for {told.oldest_unsettled_s:.0f} s"
        yield Alarm(kind=AlarmKind.STUCK, words=words)
