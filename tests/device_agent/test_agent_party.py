"""What peers may say and fetch, what failing effects come to, and closing transactions that are due again."""

from __future__ import annotations

import asyncio
import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from agent_rig import ARCHITECTURE, NOW_S, SETTINGS, Party, account, chain_view
from agent_values import LEARNER, LEARNER_SALT, NEIGHBOR, NEIGHBOR_SALT, OPEN_BY, REPORT_BY

from contracts.calls import CloseReporting, Finalise, decode
from contracts.identity import Identity
from contracts.settlement import DEFAULT_PARAMETERS
from contracts.states import EncounterState
from contracts.terms import commitment
from device_agent.agent import Agent
from device_agent.clock import SystemClock
from device_agent.encounter import (
    Effect,
    Encounter,
    Happening,
    Role,
    Stage,
    labelled,
    operation_label,
    seen_on_chain,
    step_on_chain,
)
from device_agent.errors import GatewayRefused, LinkLost, PeerFault, WorkerDied
from device_agent.health import Vitals
from device_agent.journal import Journal
from device_agent.learning import Model
from device_agent.learning.weights import SnapshotsHere
from device_agent.messages import Accept, Offer, Reveal, encode, parse
from device_agent.own_model import MAX_AGE, OwnModel
from device_agent.radio import PeerId

Begun = Callable[..., Encounter]
KEY = commitment(LEARNER_SALT)
PEER, OTHER = PeerId("peer"), PeerId("other")
PREVIOUS, UPDATED = b"\xb2" * 32, b"\xc3" * 32
GRACE_S = 60


def party(journal: Journal, one: Encounter) -> Party:
    journal.record(one)
    return Party(journal)


def say(to: Party, message: Accept | Offer | Reveal, peer: PeerId = PEER) -> Callable[[], None]:
    return lambda: to.conversation.deliver(peer, encode(message))


OFFER = Offer(key=KEY.hex(), updated=UPDATED.hex(), size_bytes=9, age=4)
ACCEPT = Accept(key=KEY.hex(), neighbor=NEIGHBOR, commitment=commitment(NEIGHBOR_SALT).hex())


@pytest.mark.parametrize("stage", [stage for stage in Stage if stage is not Stage.PROPOSED])
def test_a_learner_lends_its_model_to_the_peer_that_accepted_and_to_nobody_else(
    journal: Journal, begun: Begun, stage: Stage
) -> None:
    one = begun(Role.LEARNER, stage=stage)
    served = party(journal, one).conversation.serve(PEER, PREVIOUS)
    assert served == (b"own" if one.live else None)
    assert Party(journal).conversation.serve(OTHER, PREVIOUS) is None


def test_nothing_is_lent_for_a_proposal(journal: Journal, begun: Begun) -> None:
    assert party(journal, begun(Role.LEARNER)).conversation.serve(PEER, PREVIOUS) is None


@pytest.mark.parametrize(("done", "given"), [(frozenset(), False), (frozenset({Effect.REVEAL}), True)])
def test_a_neighbor_gives_its_work_once_the_salt_is_paid(
    journal: Journal, begun: Begun, done: frozenset[Effect], given: bool
) -> None:
    journal.keep(UPDATED, b"work")
    one = party(journal, begun(Role.NEIGHBOR, stage=Stage.OFFERED, updated=UPDATED, done=done))
    assert (one.conversation.serve(PEER, UPDATED) is not None) is given
    assert one.conversation.serve(PEER, PREVIOUS) is None
    assert one.conversation.serve(OTHER, UPDATED) is None


@pytest.mark.parametrize(("name", "stage"), [(NEIGHBOR, Stage.CHECKING_IN), (LEARNER, Stage.PROPOSED)])
def test_nobody_says_yes_in_another_accounts_name(journal: Journal, begun: Begun, name: str, stage: Stage) -> None:
    learner = party(journal, begun(Role.LEARNER, terms=None))
    learner.link.accounts[PEER] = name
    learner.live(say(learner, ACCEPT))
    assert journal.live_encounters()[0].stage is stage


def test_a_message_for_another_peers_encounter_changes_nothing(journal: Journal, begun: Begun) -> None:
    learner = party(journal, begun(Role.LEARNER, stage=Stage.OPEN))
    learner.live(say(learner, OFFER, OTHER))
    assert learner.reasons("peer fault") == ["offer for an encounter that is not under way with this peer"]
    assert journal.live_encounters()[0].stage is Stage.OPEN


def test_duplicates_wrong_salts_and_idle_offers_change_nothing(journal: Journal, begun: Begun) -> None:
    learner = party(journal, begun(Role.LEARNER, terms=None))
    learner.gateway.views = [chain_view(EncounterState.OPEN)]
    lazy = OFFER.model_copy(update={"updated": PREVIOUS.hex()})
    wrong = Reveal(key=KEY.hex(), salt="00" * 32)
    echoed = Reveal(key=KEY.hex(), salt=LEARNER_SALT.hex())
    bad = ACCEPT.model_copy(update={"neighbor": NEIGHBOR.lower()})
    learner.live(
        say(learner, bad),
        say(learner, ACCEPT),
        say(learner, ACCEPT),
        say(learner, lazy),
        say(learner, OFFER),
        say(learner, OFFER),
        say(learner, wrong),
        say(learner, echoed),
        lambda: learner.conversation.deliver(PEER, b'{"kind": "\xff\\ud800'),
    )
    assert len(learner.reasons("peer fault")) == 6
    assert [one.key for one in learner.reminded] == [KEY]  # who offers again has not heard the answer
    assert learner.reasons("peer fault").count("the salt is not the one of the terms") == 2
    assert journal.live_encounters()[0].stage is Stage.OFFERED
    assert [type(parse(data)) for data in learner.link.sent] == [Reveal]
    assert [one.label for one in journal.undelivered()] == [f"check in:{KEY.hex()}"]


def test_a_learner_keeps_its_salt_until_the_neighbors_stake_is_locked(
    journal: Journal, begun: Begun, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = party(journal, begun(Role.LEARNER, stage=Stage.CHECKING_IN))
    states = [EncounterState.NONE, EncounterState.LEARNER_CHECKED_IN, EncounterState.OPEN]
    learner.gateway.views = [chain_view(state) for state in states]
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        assert learner.link.sent == []

    monkeypatch.setattr("device_agent.effects.asyncio.sleep", _only_long(sleep))
    learner.live(say(learner, OFFER))
    assert len(waits) == 2
    assert len(learner.link.sent) == 1


def _only_long(sleep: Callable[[float], object]) -> Callable[[float], object]:
    import asyncio  # noqa: PLC0415 - the real one, before it is replaced

    real = asyncio.sleep
    return lambda seconds: real(0) if seconds == 0 else sleep(seconds)


@pytest.mark.parametrize(
    "fault", [LinkLost("gone"), PeerFault("no"), WorkerDied("killed"), GatewayRefused(400, "x", "no", retry=False)]
)
def test_whatever_goes_wrong_with_an_effect_fails_the_encounter(
    journal: Journal, begun: Begun, fault: Exception
) -> None:
    one = begun(Role.NEIGHBOR, stage=Stage.OPEN)
    journal.record(one, effects=(Effect.FETCH_PREVIOUS,))
    neighbor = Party(journal)
    neighbor.link.fault = fault
    neighbor.live()
    after = journal.live_encounters()[0]
    assert (after.stage, journal.pending_effects()) == (Stage.STRANDED, [])
    assert str(fault) in str(after.reason)


def test_what_is_said_while_the_peer_is_out_of_reach_is_said_again_for_as_long_as_it_may_come_back(
    journal: Journal, begun: Begun, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = begun(Role.NEIGHBOR, stage=Stage.OFFERED, updated=UPDATED)
    journal.record(one, effects=(Effect.OFFER,))
    journal.keep(UPDATED, b"work")
    neighbor = Party(journal)
    neighbor.link.fault = LinkLost("gone")
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        neighbor.clock.now_s += seconds
        waited.append(seconds)
        if len(waited) == 3:
            neighbor.link.fault = None

    monkeypatch.setattr("device_agent.effects.asyncio.sleep", _only_long(sleep))
    neighbor.live()
    assert len(neighbor.link.sent) == 1
    assert journal.live_encounters()[0].stage is Stage.OFFERED


def test_a_neighbor_answers_a_salt_that_comes_again_and_a_learner_does_not(journal: Journal, begun: Begun) -> None:
    """Otherwise two that have heard each other would answer for ever."""
    done = frozenset({Effect.OFFER, Effect.REVEAL})
    for role, stage, theirs, answered in (
        (Role.NEIGHBOR, Stage.REPORTING, LEARNER_SALT, 1),
        (Role.LEARNER, Stage.REPORTING, NEIGHBOR_SALT, 0),
    ):
        one = begun(role, stage=stage, done=done, updated=UPDATED, peer_salt=theirs)
        side = party(journal, one)
        side.live(say(side, Reveal(key=KEY.hex(), salt=theirs.hex())))
        assert len(side.reminded) == answered
        assert side.reasons("peer fault") == []


@pytest.mark.parametrize(
    ("role", "done", "said"),
    [
        (Role.NEIGHBOR, {Effect.OFFER}, Offer),
        (Role.NEIGHBOR, {Effect.OFFER, Effect.REVEAL}, Reveal),
        (Role.LEARNER, {Effect.REVEAL}, Reveal),
        (Role.LEARNER, {Effect.CHECK_IN}, None),
    ],
)
def test_a_reminder_is_what_was_said_last(
    journal: Journal, begun: Begun, role: Role, done: set[Effect], said: type | None
) -> None:
    journal.keep(UPDATED, b"work")
    one = begun(role, stage=Stage.OFFERED, done=frozenset(done), updated=UPDATED)
    side = party(journal, one)
    asyncio.run(side.effects.remind(one))
    assert [type(parse(data)) for data in side.link.sent] == ([] if said is None else [said])
    side.link.fault = LinkLost("gone")
    asyncio.run(side.effects.remind(one))
    assert journal.live_encounters()[0].stage is Stage.OFFERED


@pytest.mark.parametrize("effect", [Effect.OFFER, Effect.REVEAL])
def test_what_is_being_said_is_not_said_again(journal: Journal, begun: Begun, effect: Effect) -> None:
    journal.keep(UPDATED, b"work")
    one = begun(Role.NEIGHBOR, stage=Stage.OFFERED, done=frozenset({effect}), updated=UPDATED)
    journal.record(one, effects=(effect,))
    side = Party(journal)

    async def remind() -> None:
        await side.effects.remind(one)

    reminded: list[asyncio.Future[None]] = []
    side.live(lambda: reminded.append(asyncio.ensure_future(remind())))
    assert len(side.link.sent) == 1


def test_a_peer_that_stays_out_of_reach_is_given_up(
    journal: Journal, begun: Begun, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.record(begun(Role.NEIGHBOR, stage=Stage.OFFERED, updated=UPDATED), effects=(Effect.OFFER,))
    journal.keep(UPDATED, b"work")
    neighbor = Party(journal)
    neighbor.link.fault = LinkLost("gone")

    async def sleep(seconds: float) -> None:
        neighbor.clock.now_s += seconds

    monkeypatch.setattr("device_agent.effects.asyncio.sleep", _only_long(sleep))
    neighbor.live()
    assert journal.live_encounters()[0].stage is Stage.STRANDED
    assert neighbor.clock.now_s == 5 + SETTINGS.lost_after_s


@pytest.mark.parametrize("data", [b"", b"no snapshot", bytes(100)])
def test_a_snapshot_that_is_none_strands_the_encounter(journal: Journal, begun: Begun, data: bytes) -> None:
    journal.record(begun(Role.LEARNER, stage=Stage.FETCHING, updated=UPDATED), effects=(Effect.FETCH_UPDATED,))
    learner = Party(journal)
    learner.link.data = data
    learner.live()
    assert journal.live_encounters()[0].stage is Stage.STRANDED


def test_no_age_from_a_peer_is_too_great_to_be_spoken_of(journal: Journal, begun: Begun) -> None:
    journal.keep(PREVIOUS, b"previous")
    journal.record(begun(Role.NEIGHBOR, stage=Stage.WORKING), effects=(Effect.WORK,))
    neighbor = Party(journal)
    neighbor.live()
    (sent,) = map(parse, neighbor.link.sent)
    assert isinstance(sent, Offer)
    assert sent.age == MAX_AGE
    neighbor.own.move_on(neighbor.adapter.makes)
    assert neighbor.own.current.age == MAX_AGE


def test_work_that_changes_nothing_or_comes_too_late_is_not_offered(journal: Journal, begun: Begun) -> None:
    journal.keep(PREVIOUS, b"previous")
    for stage, after in ((Stage.WORKING, Stage.STRANDED), (Stage.STRANDED, Stage.STRANDED)):
        journal.record(begun(Role.NEIGHBOR, stage=stage), effects=(Effect.WORK,))
        neighbor = Party(journal)
        neighbor.adapter.makes = Model(data=b"previous", digest=PREVIOUS, age=9)
        neighbor.live()
        assert (journal.live_encounters()[0].stage, neighbor.link.sent) == (after, [])


def test_the_own_model_survives_a_restart(journal: Journal) -> None:
    OwnModel(journal, Model(data=b"a", digest=b"a" * 32, age=0)).move_on(Model(data=b"b", digest=b"b" * 32, age=5))
    again = OwnModel(journal, Model(data=b"a", digest=b"a" * 32, age=0))
    assert again.current == Model(data=b"b", digest=b"b" * 32, age=5)
    again.tidy(())
    assert again.snapshot(b"b" * 32) == b"b"


# -- closing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "happening", "effect", "by_s"),
    [
        (EncounterState.OPEN, Happening.OVERDUE, Effect.EXPIRE, REPORT_BY),
        (EncounterState.LEARNER_CHECKED_IN, Happening.OVERDUE, Effect.EXPIRE, OPEN_BY),
        (EncounterState.NEIGHBOR_REPORTED, Happening.REPORT_OVERDUE, Effect.CLOSE_REPORTING, REPORT_BY + GRACE_S),
    ],
)
def test_what_closes_an_encounter_is_due_again_ever_more_rarely(
    begun: Begun, state: EncounterState, happening: Happening, effect: Effect, by_s: int
) -> None:
    one = begun(Role.LEARNER, stage=Stage.STRANDED, peer_salt=NEIGHBOR_SALT)
    due_at_s, labels = [], []
    for now_s in range(by_s + 1, by_s + 500):
        seen = seen_on_chain(one, chain_view(state, chain_time_s=now_s), rules=DEFAULT_PARAMETERS, grace_s=GRACE_S)
        assert seen is happening
        one, due = step_on_chain(one, seen, now_s=now_s, grace_s=GRACE_S) or pytest.fail("out of place")
        if due:
            assert due == (effect,)
            due_at_s.append(now_s - by_s)
            labels.append(operation_label(one, effect))
    assert due_at_s == [1, 62, 183, 364]
    assert len(set(labels)) == len(labels)
    assert {labelled(label) for label in labels} == {(effect, one.key)}


def test_a_closing_still_in_the_outbox_is_not_due_again_but_the_end_is_seen(journal: Journal, begun: Begun) -> None:
    one = party(journal, begun(Role.LEARNER, stage=Stage.STRANDED))

    def look(happening: Happening, now_s: int) -> Callable[[], object]:
        return lambda: one.encounters.apply_on_chain(KEY, happening, now_s=now_s, grace_s=GRACE_S)

    one.live(look(Happening.OVERDUE, NOW_S), look(Happening.OVERDUE, NOW_S + 1000))
    (waiting,) = journal.undelivered()
    journal.delivered(waiting.id)
    one.live(look(Happening.OVERDUE, NOW_S + 1001), look(Happening.OVERDUE, NOW_S + 1002))
    assert [left.label for left in journal.undelivered()] == [f"expire:{KEY.hex()}:2"]
    one.live(look(Happening.EXPIRED, NOW_S + 1003))
    assert one.encounters.idle


def test_counts_of_closings_survive_a_restart(journal: Journal, begun: Begun) -> None:
    one = dataclasses.replace(begun(Role.LEARNER, stage=Stage.STRANDED), closings=3, closing_at_s=77)
    journal.record(one)
    assert journal.encounter(KEY) == one


def test_closing_and_paying_carry_what_the_contract_asks_for(journal: Journal, begun: Begun) -> None:
    neighbor = party(journal, begun(Role.NEIGHBOR, stage=Stage.REPORTING, peer_salt=LEARNER_SALT, updated=UPDATED))
    seats = {"judged": UPDATED, "panel": (4, 2)}

    def look(happening: Happening, **learned: object) -> Callable[[], object]:
        return lambda: neighbor.encounters.apply_on_chain(KEY, happening, now_s=NOW_S, grace_s=GRACE_S, **learned)

    neighbor.live(
        look(Happening.REPORT_OVERDUE),
        look(Happening.VOTING_STARTED, **seats),
        look(Happening.VOTED, **seats),
    )
    terms = begun(Role.NEIGHBOR).terms
    closing, paying = (decode(one.data) for one in journal.undelivered())
    assert closing == CloseReporting(terms=terms, learner_salt=LEARNER_SALT, neighbor_salt=NEIGHBOR_SALT)
    assert paying == Finalise(terms=terms, updated=UPDATED, panel=(4, 2))


@pytest.mark.parametrize(("rounds", "stage"), [(None, Stage.CHECKING_IN), ("1", Stage.OPEN)])
def test_what_is_under_way_goes_on_while_a_device_gets_in_again(
    journal: Journal, begun: Begun, rounds: str | None, stage: Stage
) -> None:
    if rounds is not None:
        journal.set_fact("rounds of joining", rounds)
    one = party(journal, begun(Role.LEARNER, stage=Stage.CHECKING_IN))
    one.gateway.accounts = {NEIGHBOR: account(free=0, seat=0, native_wei=0)}
    one.gateway.views = [chain_view(EncounterState.OPEN)]
    agent = Agent(
        radios=[],
        link=one.link,  # type: ignore[arg-type]
        adapter=one.adapter,
        assessor=None,
        snapshots=SnapshotsHere(ARCHITECTURE),
        gateway=one.gateway,  # type: ignore[arg-type]
        clock=SystemClock(),
        journal=journal,
        identity=Identity(b"\x02" * 32),
        architecture=ARCHITECTURE,
        initial=one.own.current,
        settings=SETTINGS,
        vitals=Vitals,
        random_bytes=bytes,
        observe=one.observe,
    )

    async def main() -> None:
        running = asyncio.ensure_future(agent.run())
        for _ in range(50):
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(main())
    assert journal.live_encounters()[0].stage is stage
    assert "wei are missing" in str(one.reasons("waiting"))


# -- crashes ----------------------------------------------------------------------------------------------------------

_CRASHES = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from agent_rig import Party, chain_view
from agent_values import NEIGHBOR_SALT, proposal, NEIGHBOR
from contracts.terms import commitment
from device_agent.encounter import Effect, Encounter, Happening, Role, Stage
from device_agent.journal import Journal

journal = Journal(Path(sys.argv[1]))
when, target = sys.argv[3], sys.argv[4]
party = Party(journal)
perform = party.effects.perform

async def dying(one, effect):
    if effect == target and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    done = await perform(one, effect)
    print(effect, flush=True)
    if effect == target and when == "after":
        os.kill(os.getpid(), signal.SIGKILL)
    return done

party.effects.perform = dying
plays = []
if not journal.live_encounters():
    terms = proposal().terms(neighbor=NEIGHBOR, commitment=commitment(NEIGHBOR_SALT))
    one = Encounter(key=bytes.fromhex(proposal().commitment), role=Role.NEIGHBOR, stage=Stage.CHECKING_IN,
                    peer="peer", proposal=proposal(), salt=NEIGHBOR_SALT, terms=terms)
    plays.append(lambda: party.encounters.begin(one, (Effect.ACCEPT, Effect.CHECK_IN)))
key = bytes.fromhex(proposal().commitment)
plays.append(lambda: party.encounters.apply_on_chain(key, Happening.OVERDUE, now_s=5000, grace_s=60))
party.live(*plays)
"""


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("effect", [Effect.ACCEPT, Effect.CHECK_IN, Effect.EXPIRE])
def test_after_a_kill_every_effect_is_performed_and_every_operation_entered_once(
    tmp_path: Path, when: str, effect: Effect
) -> None:
    path = tmp_path / "journal.sqlite"

    def live(*how: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", _CRASHES, str(path), str(Path(__file__).parent), *how]
        return subprocess.run(command, timeout=60, check=False, capture_output=True, text=True)

    killed = live(when, effect)
    assert killed.returncode == -9, killed.stderr
    again = live("never", effect)
    assert again.returncode == 0, again.stderr
    performed = killed.stdout.split("\n") + again.stdout.split("\n")
    assert {Effect.ACCEPT, Effect.CHECK_IN, Effect.EXPIRE} <= set(performed)
    journal = Journal(path)
    try:
        assert journal.pending_effects() == []
        assert sorted(one.label.partition(":")[0] for one in journal.undelivered()) == ["check in", "expire"]
    finally:
        journal.close()
