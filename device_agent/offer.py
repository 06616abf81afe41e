"""What a Learner offers and which offers a Neighbor takes: one set of rules, told from both sides. Pure.

Two devices with the same settings, clocks that differ by less than a quarter of the time to check in and views of the
chain that differ by little accept each other's offers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from device_agent.encounter import Encounter, Stage
from device_agent.gateway import ChainFacts
from device_agent.learning import Model
from device_agent.messages import Propose
from device_agent.radio import PeerId
from device_agent.settings import Door, Settings
from models.registry import Architecture

DIRECT: Final = 0
"""The nonce of terms for which each side sends its own transactions."""
_KNOWN_SEATS: Final = 0.75
"""Of all validator seats, the share that a Learner on credit must know of."""


def make(
    settings: Settings,
    facts: ChainFacts,
    model: Model,
    *,
    learner: str,
    algorithm: str,
    architecture: Architecture,
    nonce: int,
    commitment: bytes,
    on_credit: bool,
) -> Propose:
    """Return the offer of a device with these settings.

    Args:
        settings: of the Learner.
        facts: the chain as it knows it.
        model: what it would have trained.
        learner: its checksum address.
        algorithm: label of how the model is merged.
        architecture: of the model.
        nonce: one that it has not used yet; `DIRECT` where each side sends transactions of its own.
        commitment: 32 bytes, to its salt.
        on_credit: whether both go on before anything is on chain.
    """
    open_within_s, report_within_s = _within_s(settings, on_credit=on_credit)
    return Propose(
        learner=learner,
        algorithm=algorithm,
        architecture=architecture.digest.hex(),
        previous=model.digest.hex(),
        size_bytes=len(model.data),
        age=model.age,
        reward=settings.reward,
        tolerance_bps=settings.tolerance_bps,
        parameter_set=settings.parameter_set,
        open_by=facts.chain_time_s + open_within_s,
        report_by=facts.chain_time_s + report_within_s,
        seats=facts.seat_count,
        nonce=nonce,
        commitment=commitment.hex(),
        credit=on_credit,
    )


def acceptable(offer: Propose, settings: Settings, facts: ChainFacts) -> bool:
    """Whether the terms of an offer are ones that a device with these settings works for."""
    now_s = facts.chain_time_s
    open_within_s, report_within_s = _within_s(settings, on_credit=offer.credit)
    least_seats = _KNOWN_SEATS * facts.seat_count if offer.credit else facts.seat_count
    return (
        offer.parameter_set == settings.parameter_set
        and in_force(offer.parameter_set, facts)
        and offer.reward >= settings.reward
        and offer.tolerance_bps <= settings.tolerance_bps
        and offer.size_bytes <= settings.max_model_bytes
        and now_s + open_within_s // 4 < offer.open_by <= now_s + 2 * open_within_s
        and offer.open_by + settings.expected_encounter_s < offer.report_by
        and offer.report_by <= now_s + 2 * report_within_s
        # Fewer seats would let the Learner choose who may be drawn; more, take the missing ones itself. On credit it
        # may know of a few less: both sides go by what they saw last.
        and least_seats <= offer.seats <= facts.seat_count
        and (offer.nonce == DIRECT) is (settings.door is Door.DIRECT)
    )


def in_force(number: int, facts: ChainFacts) -> bool:
    """Whether a set of rules takes new encounters, and is one that devices here can play by: not sealed votes."""
    rules = facts.parameter_sets.get(number)
    return rules is not None and not rules.retired and not rules.sealed_votes


def covered(free: int | None, reward: int, facts: ChainFacts, *, promised: int = 0) -> bool:
    """Whether an account can put up its part of an encounter.

    Args:
        free: its free stake, None if that is not known. All amounts in token base units.
        reward: of the encounter.
        facts: the chain, for the least stake.
        promised: what it owes already in encounters on credit, which the chain knows nothing of.
    """
    return free is not None and free - promised >= facts.min_stake + reward


def promised(live: Iterable[Encounter], peer: PeerId | None = None) -> int:
    """Return what is at stake in encounters on credit, with one peer or with all: token base units."""
    return sum(
        one.proposal.reward
        for one in live
        if one.proposal.credit and one.stage is not Stage.PROPOSED and peer in (None, one.peer)
    )


def _within_s(settings: Settings, *, on_credit: bool) -> tuple[int, int]:
    """From now on, until when both sides check in and until when they report."""
    if on_credit:
        return settings.credit_within_s, settings.report_within_s + settings.credit_within_s
    return settings.open_within_s, settings.report_within_s
