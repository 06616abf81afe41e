"""From a measurement to a vote (iDML step 5). Pure, in exact integers."""

from __future__ import annotations

from contracts.states import VoteReason
from device_agent.learning import Assessment, Ballot

_BPS = 10_000


def judge(assessment: Assessment, *, tolerance_bps: int) -> Ballot:
    """Say yes if accuracy(updated) >= accuracy(previous) - tau.

    A previous model that cannot be used is the Learner's fault and counts as valid; an updated one, the
    Neighbor's and counts as invalid.
    """
    if assessment.updated_correct is None:
        return Ballot(valid=False, reason=VoteReason.UPDATED_MALFORMED)
    if assessment.previous_correct is None:
        return Ballot(valid=True, reason=VoteReason.PREVIOUS_WITHHELD)
    gained = assessment.updated_correct - assessment.previous_correct
    return Ballot(valid=gained * _BPS >= -tolerance_bps * assessment.total, reason=VoteReason.ACCURACY)


def judge_missing(*, previous: bool, updated: bool) -> Ballot | None:
    """Vote on models that were never uploaded; None while both are there."""
    if not updated:
        return Ballot(valid=False, reason=VoteReason.UPDATED_WITHHELD)
    if not previous:
        return Ballot(valid=True, reason=VoteReason.PREVIOUS_WITHHELD)
    return None
