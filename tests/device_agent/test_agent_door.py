"""The batched door on a device: what it signs instead of sending it, and what it asks of the other side's signature."""

from __future__ import annotations

import asyncio
import dataclasses
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from agent_rig import ARCHITECTURE, BATCHED, FACTS, NOW_S, FakeGateway, Party, StillClock, account, chain_view
from agent_values import (
    LEARNER,
    LEARNER_SALT,
    LEARNING,
    NEIGHBOR,
    NEIGHBOR_SALT,
    OPEN_BY,
    REPORT_BY,
    VOTE_BY,
    WORKING,
    proposal,
)
from test_agent_duty import BOTH, GOOD, UPDATED, FakeAssessor
from test_agent_proposals import Rig

from contracts import calls, signing
from contracts.identity import Identity
from contracts.settlement import DEFAULT_PARAMETERS
from contracts.states import ActionKind, EncounterState
from contracts.terms import LANES, Domain, commitment, encounter_id
from device_agent.duty import Duty
from device_agent.encounter import (
    ChainView,
    Effect,
    Encounter,
    Happening,
    Role,
    Stage,
    learned_on_chain,
    seen_on_chain,
)
from device_agent.errors import GatewayRefused
from device_agent.gateway import Job
from device_agent.journal import Journal, NewOperation
from device_agent.last_view import LastView
from device_agent.messages import Accept, Decline, Refusal, encode, parse
from device_agent.outbox import Outbox
from device_agent.radio import PeerId
from device_agent.settings import Door
from device_agent.staking import join

Begun = Callable[..., Encounter]
PEER = PeerId("peer")
NONCE = 16
PROPOSAL = proposal(nonce=NONCE)
TERMS = PROPOSAL.terms(neighbor=NEIGHBOR, commitment=commitment(NEIGHBOR_SALT))
ID = encounter_id(TERMS, FACTS.domain)
GRACE_S = 60


def signed(begun: Begun, role: Role, **changes: object) -> Encounter:
    return begun(role, **({"proposal": PROPOSAL, "terms": TERMS} | changes))


def waiting(journal: Journal) -> list[calls.Call]:
    """What waits for the gateway, all of it to be relayed."""
    found = journal.undelivered()
    assert all(one.relayed for one in found)
    return [calls.decode(one.data) for one in found]


def perform(journal: Journal, one: Encounter, effect: Effect, identity: Identity) -> NewOperation | None:
    return asyncio.run(Party(journal, identity).effects.perform(one, effect))


# -- opening ----------------------------------------------------------------------------------------------------------


def test_a_neighbor_signs_the_terms_it_accepts_and_sends_nothing_to_the_chain(journal: Journal, begun: Begun) -> None:
    neighbor = Party(journal)
    one = signed(begun, Role.NEIGHBOR)
    neighbor.live(lambda: neighbor.encounters.begin(one, (Effect.ACCEPT, Effect.CHECK_IN)))
    (accept,) = [parse(data) for data in neighbor.link.sent]
    assert isinstance(accept, Accept)
    assert signing.signer(ID, bytes.fromhex(accept.signature or "")) == NEIGHBOR
    assert waiting(journal) == []
    assert journal.pending_effects() == []


def test_a_learner_hands_in_both_signatures(journal: Journal, begun: Begun) -> None:
    learner = Party(journal, LEARNING)
    journal.record(signed(begun, Role.LEARNER, terms=None))
    learner = Party(journal, LEARNING)
    signature = WORKING.sign_digest(ID).hex()
    own = commitment(NEIGHBOR_SALT).hex()
    accept = Accept(key=commitment(LEARNER_SALT).hex(), neighbor=NEIGHBOR, commitment=own, signature=signature)
    learner.live(lambda: learner.conversation.deliver(PEER, encode(accept)))
    (call,) = waiting(journal)
    assert isinstance(call, calls.Open)
    assert call.terms == TERMS
    assert signing.signer(ID, call.learner_r + call.learner_vs) == LEARNER
    assert signing.signer(ID, call.neighbor_r + call.neighbor_vs) == NEIGHBOR


@pytest.mark.parametrize("other", [LEARNING, Identity(b"\x09" * 32)])
def test_a_signature_that_is_not_the_neighbors_fails_the_encounter(
    journal: Journal, begun: Begun, other: Identity
) -> None:
    one = signed(begun, Role.LEARNER, stage=Stage.CHECKING_IN, peer_signature=other.sign_digest(ID))
    journal.record(one, effects=(Effect.CHECK_IN,))
    learner = Party(journal, LEARNING)
    learner.live(lambda: None)
    assert waiting(journal) == []
    (after,) = journal.live_encounters()
    assert (after.stage, after.reason) == (
        Stage.STRANDED,
        "check in: the Neighbor's signature is not one of these terms",
    )


@pytest.mark.parametrize(("nonce", "signature"), [(NONCE, None), (0, "00" * 64)])
def test_an_acceptance_for_the_other_door_changes_nothing(
    journal: Journal, begun: Begun, nonce: int, signature: str | None
) -> None:
    journal.record(begun(Role.LEARNER, terms=None, proposal=proposal(nonce=nonce)))
    learner = Party(journal, LEARNING)
    own = commitment(NEIGHBOR_SALT).hex()
    accept = Accept(key=commitment(LEARNER_SALT).hex(), neighbor=NEIGHBOR, commitment=own, signature=signature)
    learner.live(lambda: learner.conversation.deliver(PEER, encode(accept)))
    assert len(learner.reasons("peer fault")) == 1
    assert journal.live_encounters()[0].stage is Stage.PROPOSED


def test_devices_of_different_doors_do_not_meet(journal: Journal) -> None:
    rig = Rig(journal, settings=BATCHED)
    (answer,) = rig.answers((PEER, proposal()))
    assert answer == Decline(key=commitment(LEARNER_SALT).hex(), reason=Refusal.TERMS)
    direct = Rig(journal)
    (answer,) = direct.answers((PEER, PROPOSAL))
    assert answer == Decline(key=commitment(LEARNER_SALT).hex(), reason=Refusal.TERMS)


def test_a_batched_proposal_is_accepted_by_a_batched_neighbor(journal: Journal) -> None:
    (answer,) = Rig(journal, settings=BATCHED).answers((PEER, PROPOSAL))
    assert isinstance(answer, Accept)


def test_nonces_grow_with_the_chains_time_and_leave_occupied_lanes_alone(journal: Journal, begun: Begun) -> None:
    encounters = Party(journal).encounters
    first = [encounters.new_nonce(NOW_S) for _ in range(3)]
    assert first == [NOW_S, NOW_S + 1, NOW_S + 2]
    assert Party(journal).encounters.new_nonce(NOW_S) == NOW_S + 3  # after a restart
    assert encounters.new_nonce(NOW_S + 100) == NOW_S + 100
    for number in range(LANES - 1):
        record = begun(
            Role.LEARNER, key=bytes([number]) * 32, proposal=proposal(nonce=8 + number), stage=Stage.STRANDED
        )
        journal.record(record)
    busy = Party(journal).encounters
    assert [busy.new_nonce(NOW_S) % LANES for _ in range(3)] == [LANES - 1] * 3


# -- reporting, voting, closing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("role", "identity"), [(Role.LEARNER, LEARNING), (Role.NEIGHBOR, WORKING)])
def test_each_side_signs_its_own_half_of_the_report(
    journal: Journal, begun: Begun, role: Role, identity: Identity
) -> None:
    peer_salt = NEIGHBOR_SALT if role is Role.LEARNER else LEARNER_SALT
    one = signed(begun, role, stage=Stage.REPORTING, updated=UPDATED, peer_salt=peer_salt)
    operation = perform(journal, one, Effect.REPORT, identity)
    assert operation is not None
    assert operation.relayed
    call = calls.decode(operation.data)
    assert isinstance(call, calls.ReportSigned)
    assert (call.learner_salt, call.neighbor_salt) == (LEARNER_SALT, NEIGHBOR_SALT)
    halves = [call.signatures[:64], call.signatures[64:]]
    own, other = halves if role is Role.LEARNER else halves[::-1]
    assert other == signing.MISSING
    assert signing.signer(signing.report_digest(ID, UPDATED, FACTS.domain), own) == identity.address


@pytest.mark.parametrize(("effect", "kind"), [(Effect.EXPIRE, calls.Expire), (Effect.FINALISE, calls.Finalise)])
def test_what_needs_no_signature_is_relayed_as_it_is(
    journal: Journal, begun: Begun, effect: Effect, kind: type[calls.Call]
) -> None:
    one = signed(begun, Role.LEARNER, stage=Stage.STRANDED, judged=UPDATED, panel=(1, 2))
    operation = perform(journal, one, effect, LEARNING)
    assert operation is not None
    assert operation.relayed
    assert isinstance(calls.decode(operation.data), kind)


def test_a_vote_is_signed_for_the_encounter_and_the_digest(journal: Journal) -> None:
    job = Job(encounter=ID, terms=TERMS, updated=UPDATED, panel=(5, 3), position=1, opens_at_s=NOW_S, vote_by_s=VOTE_BY)
    gateway = FakeGateway(models=dict(BOTH), votes=([job], NOW_S))
    duty = Duty(
        identity=WORKING,
        assessor=FakeAssessor(GOOD),
        gateway=gateway,  # type: ignore[arg-type]
        view=LastView(gateway, journal, StillClock()),  # type: ignore[arg-type]
        journal=journal,
        architecture=ARCHITECTURE,
        settings=BATCHED,
        computing=asyncio.Lock(),
        observe=lambda *_, **__: None,
    )
    asyncio.run(duty.look())
    (vote,) = waiting(journal)
    assert isinstance(vote, calls.VoteSigned)
    assert (vote.encounter, vote.updated, vote.panel, vote.position, vote.valid) == (ID, UPDATED, (5, 3), 1, True)
    digest = signing.vote_digest(ID, UPDATED, FACTS.domain, valid=True, reason=vote.reason)
    assert signing.signer(digest, vote.r + vote.vs) == NEIGHBOR


def test_an_open_encounter_is_overdue_only_once_it_cannot_be_settled_any_more(begun: Begun) -> None:
    rules = DEFAULT_PARAMETERS
    late_s = REPORT_BY + rules.vote_time_s

    def seen(one: Encounter, now_s: int) -> Happening | None:
        return seen_on_chain(one, chain_view(EncounterState.OPEN, chain_time_s=now_s), rules=rules, grace_s=GRACE_S)

    learner, neighbor = (signed(begun, role, stage=Stage.REPORTING) for role in Role)
    assert seen(learner, late_s) is None
    assert seen(learner, late_s + 1) is Happening.OVERDUE
    assert seen(neighbor, late_s + GRACE_S) is None
    assert seen(neighbor, late_s + GRACE_S + 1) is Happening.OVERDUE
    direct = begun(Role.LEARNER, stage=Stage.REPORTING)
    assert seen(direct, REPORT_BY + 1) is Happening.OVERDUE
    assert seen(signed(begun, Role.NEIGHBOR), OPEN_BY) is Happening.OPENED


def test_what_was_settled_in_one_step_is_learned_from_its_settlement(begun: Begun) -> None:
    view: ChainView = chain_view(EncounterState.SETTLED, updated=UPDATED, yes=2, no=1)
    one = signed(begun, Role.LEARNER, stage=Stage.REPORTING)
    assert seen_on_chain(one, view, rules=DEFAULT_PARAMETERS, grace_s=GRACE_S) is Happening.SETTLED
    assert learned_on_chain(one, Happening.SETTLED, view) == {"verdict": True, "updated": UPDATED}


# -- handing over -----------------------------------------------------------------------------------------------------


def outbox(journal: Journal, gateway: FakeGateway, refused: list[tuple[str, str]]) -> Outbox:
    return Outbox(
        journal,
        gateway,  # type: ignore[arg-type]
        WORKING,
        extra_tip_wei=0,
        observe=lambda *_, **__: None,
        refused=lambda label, reason: refused.append((label, reason)),
    )


def test_relayed_calls_take_no_nonce_and_keep_their_order(journal: Journal) -> None:
    gateway = FakeGateway()
    journal.enter(
        NewOperation(target=FACTS.escrow, data=b"a", label="a", relayed=True),
        NewOperation(target=FACTS.escrow, data=b"b", label="b"),
        NewOperation(target=FACTS.escrow, data=b"c", label="c", relayed=True),
    )
    assert asyncio.run(outbox(journal, gateway, []).pump()) == 3
    assert gateway.relayed == [b"a", b"c"]
    assert len(gateway.submitted) == 1
    assert journal.next_nonce() == 1


def test_a_call_refused_for_good_is_given_up_and_one_refused_for_now_waits(journal: Journal) -> None:
    not_yet = GatewayRefused(409, "wrong_state", "not open yet", retry=True)
    never = GatewayRefused(409, "already_held", "another", retry=False)
    gateway = FakeGateway(submits=[not_yet, None, never])
    journal.enter(NewOperation(target=FACTS.escrow, data=b"a", label="report:00", relayed=True))
    journal.enter(NewOperation(target=FACTS.escrow, data=b"b", label="vote:00", relayed=True))
    refused: list[tuple[str, str]] = []
    one = outbox(journal, gateway, refused)
    assert asyncio.run(one.pump()) == 1  # what comes after it is not held up
    assert [operation.label for operation in journal.undelivered()] == ["report:00"]
    assert asyncio.run(one.pump()) == 0
    assert journal.undelivered() == []
    assert [label for label, _ in refused] == ["report:00"]


def test_a_device_joins_by_signature_and_buys_by_transaction(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = FakeGateway()
    gateway.accounts[NEIGHBOR] = account(free=0, seat=0, permit_nonce=4)
    real = asyncio.sleep

    async def nap(seconds: float) -> None:
        await real(0)
        if seconds:
            gateway.accounts[NEIGHBOR] = account()

    monkeypatch.setattr("device_agent.staking.asyncio.sleep", nap)
    asyncio.run(
        join(
            identity=WORKING,
            gateway=gateway,  # type: ignore[arg-type]
            journal=journal,
            outbox=outbox(journal, gateway, []),
            settings=BATCHED,
            observe=lambda *_, **__: None,
        )
    )
    assert len(gateway.submitted) == 1  # the purchase
    permit, stake, seat = (calls.decode(one) for one in gateway.relayed)
    assert isinstance(permit, calls.Permit)
    digest = signing.permit_digest(
        token=Domain(chain_id=FACTS.chain_id, escrow=FACTS.token),
        owner=NEIGHBOR,
        spender=FACTS.escrow,
        amount=BATCHED.stake,
        nonce=4,
        deadline=permit.deadline,
    )
    vs = int.from_bytes(permit.s, "big") | (permit.v - 27) << 255
    assert signing.signer(digest, permit.r + vs.to_bytes(32, "big")) == NEIGHBOR
    for act, kind, amount in ((stake, ActionKind.STAKE, BATCHED.stake), (seat, ActionKind.REGISTER, 0)):
        assert isinstance(act, calls.Act)
        assert (act.action.kind, act.action.amount, act.action.account) == (kind, amount, NEIGHBOR)
        assert act.action.deadline > NOW_S
        assert signing.signer(signing.action_digest(act.action, FACTS.domain), act.r + act.vs) == NEIGHBOR
    assert stake.action.nonce != seat.action.nonce


def test_a_journal_from_before_is_brought_up_to_date(tmp_path: Path) -> None:
    place = tmp_path / "journal.sqlite"
    old = Journal(place)
    old.enter(NewOperation(target=NEIGHBOR, data=b"x", label="old"))
    old.close()
    with sqlite3.connect(place) as db:
        db.execute("ALTER TABLE operations DROP COLUMN relayed")
        db.execute("PRAGMA user_version=2")
    new = Journal(place)
    assert [(one.label, one.relayed) for one in new.undelivered()] == [("old", False)]
    new.close()
    again = Journal(place)
    assert len(again.undelivered()) == 1
    again.close()


def test_the_batched_door_is_the_default() -> None:
    assert {field.name: field.default for field in dataclasses.fields(BATCHED)}["door"] is Door.BATCHED
