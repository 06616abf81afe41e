"""The chain's side of a run: the contract's rules, the real gateway over the chain, and the making of blocks."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from contracts.chain import PROFILES
from contracts.deploy import Deployment, EscrowSettings
from contracts.identity import Identity
from contracts.localchain import LocalChain
from contracts.settlement import ParameterSet
from device_agent.gateway import GatewayClient
from device_agent.learning.choices import base_units
from device_agent.loopback.bank import Bank
from device_agent.loopback.clock import VirtualClock
from device_agent.loopback.given import Given
from device_agent.loopback.scenario import Scenario
from device_agent.loopback.seen import Progress, Seen
from device_agent.loopback.world import InProcessTransport
from gateway.compose import Gateway, assemble
from gateway.config import GatewayConfig, Limits
from gateway.node import Node
from gateway.tables import Database

MODELS = "models"
HEARTBEAT_S = 30.0
_SAMPLE_S = 60.0


_NO_HURRY = Limits(requests_per_s=0, peer_requests_per_s=0, all_requests_per_s=0)
"""All devices ask from one address, and what a day brings may come within a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Relay:
    """A gateway, and a client of its HTTP interface."""

    gateway: Gateway
    client: GatewayClient


def escrow_settings(scenario: Scenario) -> EscrowSettings:
    """Return what the scenario's contract is deployed with."""
    rules = scenario.incentives
    return EscrowSettings(
        min_stake=base_units(rules.min_stake),
        unbonding_period_s=2 * 86_400,
        max_life_s=86_400,
        parameters=ParameterSet(
            validators=rules.validators,
            pn_bps=rules.pn_bps,
            q_bps=rules.q_bps,
            bond_bps=rules.bond_bps,
            standby_delay_s=rules.standby_delay_s,
            vote_time_s=rules.vote_time_s,
        ),
    )


def open_relay(
    given: Given, chain: LocalChain, deployment: Deployment, clock: VirtualClock, operator: Identity
) -> Relay:
    """Put a real gateway over the chain, its files in the run's folder; `operator` pays for its batches."""
    config = GatewayConfig(chain=chain.kind, data=given.out, resend_after_s=HEARTBEAT_S, limits=_NO_HURRY)
    gateway = assemble(
        config,
        node=Node(chain.web3, PROFILES[chain.kind]),
        deployment=deployment,
        database=Database(config.url),
        operator=operator,
        now_s=clock.wall_s,
        extra_tip_wei=given.scenario.devices.count + 1,  # above all devices': no two transactions pay the same
    )
    gateway.worker.confirm()
    return Relay(gateway=gateway, client=GatewayClient("http://gateway", transport=InProcessTransport(gateway.app)))


class Blocks:
    """Makes blocks as a chain would, drives the gateway's worker, and looks on."""

    def __init__(
        self,
        given: Given,
        chain: LocalChain,
        relay: Relay,
        *,
        bank: Bank,
        clock: VirtualClock,
        seen: Seen,
        progress: Progress,
    ) -> None:
        self._block_time_s = given.scenario.chain.block_time_s
        self._shelf = given.out / MODELS
        self._chain = chain
        self._worker = relay.gateway.worker
        self._store = relay.gateway.store
        self._bank = bank
        self._clock = clock
        self._seen = seen
        self._progress = progress
        self._sampled_s = -_SAMPLE_S

    async def run(self) -> None:
        """Make blocks until cancelled."""
        mined_s = self._clock.wall_s()
        while True:
            await asyncio.sleep(self._block_time_s)
            now_s = self._clock.wall_s()
            self._worker.compose()
            if self._worker.broadcast() or now_s - mined_s >= HEARTBEAT_S:
                self._chain.mine(int(now_s))
                mined_s = now_s
                self._worker.confirm()
                self.look()
            if now_s - self._sampled_s >= _SAMPLE_S:
                self.sample()
            self._seen.referee.step()
            self._progress(self._seen)

    def look(self) -> None:
        """Take the events that are new, and have the models they name measured."""
        after = self._seen.feed[-1]["number"] if self._seen.feed else 0
        for row in self._store.events_after(after, limit=10_000):
            self._seen.feed.append(row.as_json())
            if row.name == "Opened":
                terms = self._store.terms(str(row.encounter)) or {}
                self._seen.parties[str(row.encounter)] = (str(terms["learner"]), str(terms["neighbor"]))
            # What was settled in one step was reported with it.
            if row.name == "VotingStarted" or (row.name == "Settled" and "updated" in row.args):
                terms = self._store.terms(str(row.encounter)) or {}
                previous, updated = str(terms["previous"])[2:], str(row.args["updated"])[2:]
                self._seen.previous[str(row.encounter)] = bytes.fromhex(previous)
                self._measure(previous)
                self._measure(updated)

    def _measure(self, digest: str) -> None:
        path = self._shelf / digest[:2] / digest
        if path.exists():
            self._seen.referee.ask(bytes.fromhex(digest), path.read_bytes())

    def sample(self) -> None:
        """Write down everybody's balance."""
        self._sampled_s = self._clock.wall_s()
        head = self._store.head()
        if head is not None:
            self._seen.samples.append((head.number, head.time_s, self._bank.balances()))
        self._seen.log.flush()
