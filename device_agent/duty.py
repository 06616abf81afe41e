"""Validator duty: fetch both models of an encounter, measure them, vote (iDML steps 4 and 5)."""

from __future__ import annotations

import asyncio
from dataclasses import fields

from contracts.calls import Vote, VoteSigned, encode
from contracts.identity import Identity
from contracts.signing import vote_digest
from contracts.terms import Domain, encounter_id
from device_agent.ballot import judge, judge_missing
from device_agent.errors import GatewayRefused, GatewayUnreachable, WorkerDied
from device_agent.gateway import GatewayClient, Job
from device_agent.journal import Journal, NewOperation
from device_agent.last_view import LastView
from device_agent.learning import Assessor, Ballot
from device_agent.observation import Observe
from device_agent.settings import Settings
from models.errors import ModelsError
from models.registry import Architecture


class Duty:
    """One validator's votes. A vote is entered in the journal once, whatever happens."""

    def __init__(
        self,
        *,
        identity: Identity,
        assessor: Assessor,
        gateway: GatewayClient,
        view: LastView,
        journal: Journal,
        architecture: Architecture,
        settings: Settings,
        computing: asyncio.Lock,
        observe: Observe,
    ) -> None:
        self._identity = identity
        self._assessor = assessor
        self._gateway = gateway
        self._view = view
        self._journal = journal
        self._architecture = architecture
        self._settings = settings
        self._computing = computing
        self._observe = observe

    async def look(self) -> None:
        """Do the votes that are open to this validator. Raises `GatewayUnreachable`."""
        wait_s = self._settings.jobs_wait_s
        jobs, chain_time_s = await self._gateway.jobs(self._identity.address, wait_s=wait_s)
        facts = await self._view.known()
        for job in jobs:
            label = f"vote:{job.encounter.hex()}"
            if job.opens_at_s > chain_time_s or self._journal.entered(label):
                continue
            if job.terms.architecture != self._architecture.digest:
                continue  # not a network this device has a trusted graph of: it abstains
            rules = facts.parameter_sets.get(job.terms.parameter_set)
            if rules is not None and rules.sealed_votes:
                continue  # a vote in the open would be refused
            if encounter_id(job.terms, facts.domain) != job.encounter:
                self._observe("fault", where="jobs", reason=f"other terms than those of {job.encounter.hex()}")
                continue
            ballot = await self._judge(job, chain_time_s)
            if ballot is None:
                continue
            data = encode(self._call(job, ballot, facts.domain))
            relayed = job.terms.nonce != 0
            self._journal.enter(NewOperation(target=facts.escrow, data=data, label=label, relayed=relayed))
            self._observe("voted", encounter=job.encounter.hex(), valid=ballot.valid, reason=ballot.reason.name.lower())

    def _call(self, job: Job, ballot: Ballot, domain: Domain) -> Vote | VoteSigned:
        """The vote as the encounter's door takes it."""
        vote = Vote(
            encounter=job.encounter,
            updated=job.updated,
            panel=job.panel,
            position=job.position,
            valid=ballot.valid,
            reason=ballot.reason,
        )
        if job.terms.nonce == 0:
            return vote
        digest = vote_digest(job.encounter, job.updated, domain, valid=ballot.valid, reason=ballot.reason)
        signature = self._identity.sign_digest(digest)
        named = {one.name: getattr(vote, one.name) for one in fields(vote)}
        return VoteSigned(**named, r=signature[:32], vs=signature[32:])

    async def _judge(self, job: Job, chain_time_s: int) -> Ballot | None:
        """Return the vote, or None to look again later (or to abstain, if there is no later)."""
        limit = self._settings.max_model_bytes
        try:
            previous = await self._gateway.get_model(job.terms.previous, max_bytes=limit)
            updated = await self._gateway.get_model(job.updated, max_bytes=limit)
        except (GatewayRefused, GatewayUnreachable) as fault:
            self._observe("fault", where="models", reason=str(fault))
            return None  # our gateway's fault, nobody else's; other jobs may fare better
        if previous is None or updated is None:
            if chain_time_s < job.vote_by_s - self._settings.withheld_margin_s:
                return None
            return judge_missing(previous=previous is not None, updated=updated is not None)
        async with self._computing:
            try:
                assessment = await self._assessor.assess(previous, updated)
            except (WorkerDied, ModelsError) as fault:
                self._observe("fault", where="assess", reason=str(fault))
                return None
        return judge(assessment, tolerance_bps=job.terms.tolerance_bps)
