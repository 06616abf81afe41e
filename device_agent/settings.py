"""What an agent is told about itself: plain values, made by the composition root."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from device_agent.health import Guards


class Door(StrEnum):
    """How a device's steps get to the chain."""

    BATCHED = "batched"
    """It signs operations; its gateway puts many into one transaction and pays for it."""
    DIRECT = "direct"
    """It signs transactions of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How one agent behaves. Amounts in token base units, times in seconds.

    Attributes:
        reward: r, what this device offers as Learner, and the least it works for as Neighbor.
        tolerance_bps: tau of its terms, in 1/10,000.
        parameter_set: number of the contract's rules its terms name.
        stake: what it holds in the contract at the start, and is filled up to at a later start if it fell below the
            least stake. An encounter needs the least stake and the reward.
        door: of the encounters it takes part in; both sides must use the same.
        validator: whether it takes a validator seat.
        learner: whether it proposes encounters.
        open_within_s: time both sides have to check in.
        report_within_s: time from the proposal to the report.
        credit: the most, in token base units, that encounters on credit with one peer may come to; 0 = none.
        credit_within_s: time both sides of an encounter on credit have to get to a gateway and check in.
        credit_view_s: how old the last view of the chain may be for encounters on credit.
        avoid_below: score of its deeds below which a peer is avoided; see `device_agent.acquaintances`.
        grace_s: how long the side that does not gain waits for the one that does.
        answer_within_s: how long a proposal waits for an answer.
        cooldown_s: time between two proposals to the same peer.
        expected_encounter_s: contact time that an exchange needs (transfer, training, transfer), until it was measured.
        lost_after_s: silence after which a neighbour counts as gone.
        ping_every_s: silence after which a neighbour is greeted again.
        usual_contact_s: expected contact with a peer never met.
        poll_s: time between looks at the chain and the neighbourhood.
        jobs_poll_s: time between looks at the job feed.
        jobs_wait_s: how long the gateway may keep such a look waiting for a job, 0 to 30; 0 = not at all.
        withheld_margin_s: how long before the end of the voting a missing model counts as withheld.
        max_model_bytes: largest snapshot taken from anyone.
        extra_tip_wei: paid per gas above what the gateway suggests.
        guards: limits of health.
    """

    reward: int
    tolerance_bps: int
    parameter_set: int
    stake: int
    door: Door = Door.BATCHED
    validator: bool = True
    learner: bool = True
    open_within_s: int = 60
    report_within_s: int = 600
    credit: int = 0
    credit_within_s: int = 21_600
    credit_view_s: float = 86_400.0
    avoid_below: float = -2.0
    grace_s: int = 60
    answer_within_s: float = 10.0
    cooldown_s: float = 120.0
    expected_encounter_s: float = 30.0
    lost_after_s: float = 20.0
    ping_every_s: float = 8.0
    usual_contact_s: float = 120.0
    poll_s: float = 4.0
    jobs_poll_s: float = 8.0
    jobs_wait_s: int = 0
    withheld_margin_s: int = 60
    max_model_bytes: int = 64 << 20
    extra_tip_wei: int = 0
    guards: Guards = Guards()
