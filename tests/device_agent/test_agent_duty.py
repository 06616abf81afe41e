"""Validator duty: when a vote is cast, when it waits, and when the device abstains."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest
from agent_rig import ARCHITECTURE, FACTS, NOW_S, SETTINGS, FakeGateway, StillClock
from agent_values import NEIGHBOR, NEIGHBOR_SALT, VOTE_BY, WORKING, proposal

from contracts.calls import Vote, decode
from contracts.states import VoteReason
from contracts.terms import commitment, encounter_id
from device_agent.duty import Duty
from device_agent.errors import GatewayRefused, GatewayUnreachable, WorkerDied
from device_agent.gateway import ChainFacts, Job
from device_agent.journal import Journal
from device_agent.last_view import LastView
from device_agent.learning import Assessment
from models.errors import MalformedSnapshot, SnapshotFault

TERMS = proposal().terms(neighbor=NEIGHBOR, commitment=commitment(NEIGHBOR_SALT))
UPDATED = b"\xc3" * 32
JOB = Job(
    encounter=encounter_id(TERMS, FACTS.domain),
    terms=TERMS,
    updated=UPDATED,
    panel=(5, 3),
    position=0,
    opens_at_s=NOW_S,
    vote_by_s=VOTE_BY,
)
BOTH = {TERMS.previous: b"p", UPDATED: b"u"}
LATE_S = VOTE_BY - SETTINGS.withheld_margin_s


class FakeAssessor:
    """Measures the same each time; an exception is raised."""

    def __init__(self, found: Assessment | Exception) -> None:
        self.found, self.asked = found, 0

    async def assess(self, previous: bytes, updated: bytes) -> Assessment:
        self.asked += 1
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


GOOD = Assessment(previous_correct=50, updated_correct=60, total=100)


def look(
    journal: Journal,
    *jobs: Job,
    models: dict[bytes, object],
    found: Assessment | Exception = GOOD,
    now_s: int = NOW_S,
    times: int = 1,
    facts: ChainFacts = FACTS,
) -> list[tuple[bool, VoteReason]]:
    gateway = FakeGateway(facts=facts, models=dict(models), votes=(list(jobs), now_s))

    async def main() -> None:
        for _ in range(times):
            await Duty(
                identity=WORKING,
                assessor=FakeAssessor(found),
                gateway=gateway,  # type: ignore[arg-type]
                view=LastView(gateway, journal, StillClock()),  # type: ignore[arg-type]
                journal=journal,
                architecture=ARCHITECTURE,
                settings=SETTINGS,
                computing=asyncio.Lock(),
                observe=lambda *_, **__: None,
            ).look()

    asyncio.run(main())
    votes = [one for one in map(decode, (one.data for one in journal.undelivered())) if isinstance(one, Vote)]
    assert {(one.updated, one.panel, one.position) for one in votes} <= {(JOB.updated, JOB.panel, JOB.position)}
    return [(one.valid, one.reason) for one in votes]


def test_a_vote_is_cast_once_also_over_restarts(journal: Journal) -> None:
    assert look(journal, JOB, JOB, models=BOTH, times=3) == [(True, VoteReason.ACCURACY)]


@pytest.mark.parametrize(
    ("found", "vote"),
    [
        (Assessment(previous_correct=50, updated_correct=47, total=100), (False, VoteReason.ACCURACY)),
        (Assessment(previous_correct=50, updated_correct=None, total=100), (False, VoteReason.UPDATED_MALFORMED)),
        (Assessment(previous_correct=None, updated_correct=5, total=100), (True, VoteReason.PREVIOUS_WITHHELD)),
    ],
)
def test_a_vote_says_what_was_measured(journal: Journal, found: Assessment, vote: tuple[bool, VoteReason]) -> None:
    assert look(journal, JOB, models=BOTH, found=found) == [vote]


@pytest.mark.parametrize(
    ("there", "vote"),
    [
        ({UPDATED: b"u"}, (True, VoteReason.PREVIOUS_WITHHELD)),
        ({TERMS.previous: b"p"}, (False, VoteReason.UPDATED_WITHHELD)),
        ({}, (False, VoteReason.UPDATED_WITHHELD)),
    ],
)
def test_a_missing_model_counts_as_withheld_near_the_end_only(
    journal: Journal, there: dict[bytes, object], vote: tuple[bool, VoteReason]
) -> None:
    assert look(journal, JOB, models=there, now_s=LATE_S - 1) == []
    assert look(journal, JOB, models=there, now_s=LATE_S) == [vote]


@pytest.mark.parametrize("fault", [GatewayUnreachable("down"), GatewayRefused(502, "x", "no", retry=False)])
def test_a_validator_that_cannot_reach_a_model_abstains_and_does_its_other_jobs(
    journal: Journal, fault: Exception
) -> None:
    terms = dataclasses.replace(TERMS, previous=b"\xd4" * 32)
    other = dataclasses.replace(JOB, terms=terms, encounter=encounter_id(terms, FACTS.domain))
    models = BOTH | {terms.previous: fault}
    assert look(journal, other, JOB, models=models, now_s=VOTE_BY) == [(True, VoteReason.ACCURACY)]


@pytest.mark.parametrize("fault", [WorkerDied("killed"), MalformedSnapshot(SnapshotFault.TOO_SHORT, "0 bytes")])
def test_a_validator_that_cannot_measure_abstains(journal: Journal, fault: Exception) -> None:
    assert look(journal, JOB, models=BOTH, found=fault) == []


def test_where_votes_are_sealed_a_validator_abstains(journal: Journal) -> None:
    sealed = dataclasses.replace(FACTS.parameter_sets[0], sealed_votes=True)
    facts = dataclasses.replace(FACTS, parameter_sets={0: sealed})
    assert look(journal, JOB, models=BOTH, facts=facts) == []


def test_what_is_not_to_be_judged_is_left_alone(journal: Journal) -> None:
    early = dataclasses.replace(JOB, opens_at_s=NOW_S + 1)
    strange = dataclasses.replace(TERMS, architecture=b"?" * 32)
    unknown = dataclasses.replace(JOB, terms=strange, encounter=encounter_id(strange, FACTS.domain))
    forged = dataclasses.replace(JOB, terms=dataclasses.replace(TERMS, tolerance_bps=10_000))
    assert look(journal, early, unknown, forged, models=BOTH) == []
