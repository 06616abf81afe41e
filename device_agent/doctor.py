"""Looks at everything an agent needs before a trial does: each check says what is wrong and what to do about it."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from contracts.identity import Identity
from device_agent.agent_config import AgentConfig
from device_agent.errors import AgentError, BluetoothFault, GatewayRefused, GatewayUnreachable
from device_agent.gateway import AccountFacts, ChainFacts
from device_agent.health import unfit, vitals_reader
from device_agent.learning.worker import Child, Failed, FreshTask, Kind, MeasureTask, Trained
from device_agent.live import gateway_of
from device_agent.radio.addresses import own_addresses
from device_agent.radio.bluez import usable
from models.data import load
from models.errors import ModelsError
from models.registry import Architecture, architecture

_ANSWER_S = 5.0
_CLOCK_WARN_S = 120.0
_CLOCK_FAIL_S = 86_400.0
_SPARE_BYTES = 512 << 20


class Finding(StrEnum):
    """How a check went."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One line of the report.

    Attributes:
        what: was looked at.
        finding: how it went.
        said: what was found, and what to do about it.
    """

    what: str
    finding: Finding
    said: str


def ok(what: str, said: str) -> Check:
    """Nothing to do."""
    return Check(what=what, finding=Finding.OK, said=said)


def warning(what: str, said: str) -> Check:
    """It will do, but better not."""
    return Check(what=what, finding=Finding.WARNING, said=said)


def failure(what: str, said: str) -> Check:
    """The agent cannot do its work like that."""
    return Check(what=what, finding=Finding.FAILURE, said=said)


def examine(config: AgentConfig, account_key: bytes | None) -> Iterator[Check]:
    """Look at one thing after the other. `account_key`: None if the keystore could not be opened."""
    yield _folder(config.state)
    yield _health(config)
    yield from _networks(config)
    yield _bluetooth(config)
    arch, checks = _data(config)
    yield from checks
    if arch is not None:
        yield _training(arch, config)
        yield _measuring(arch, config)
    yield from asyncio.run(_gateway(config, None if account_key is None else Identity(account_key)))


def _folder(state: Path) -> Check:
    what = "folder"
    parent = next(one for one in (state, *state.parents) if one.exists())
    if not os.access(parent, os.W_OK | os.X_OK):
        return failure(what, f"{state} cannot be written: give it to this user, or set `state`")
    free_bytes = shutil.disk_usage(parent).free
    if free_bytes < _SPARE_BYTES:
        return warning(what, f"{state}: only {free_bytes >> 20} MiB are free")
    return ok(what, f"{state}: {free_bytes >> 20} MiB are free")


def _health(config: AgentConfig) -> Check:
    vitals = vitals_reader(Path("/"))()
    reasons = unfit(vitals, config.settings.guards)
    if reasons:
        return warning("health", "no work is taken on while it is like that: " + ", ".join(reasons))
    degrees = "no thermometer" if vitals.temperature_c is None else f"{vitals.temperature_c:.0f} C"
    memory = (vitals.available_memory_bytes or 0) >> 20
    return ok("health", f"{degrees}, {memory} MiB of memory available")


def _networks(config: AgentConfig) -> Iterator[Check]:
    what = "link"
    family = socket.AF_INET6 if ":" in config.link.host else socket.AF_INET
    try:
        with socket.create_server((config.link.host, config.link.port), family=family):
            pass
    except OSError as error:
        running = " (does the agent run already?)" if config.link.port else ""
        yield failure(what, f"port {config.link.port} at {config.link.host or 'all addresses'}: {error}{running}")
    else:
        yield ok(what, f"port {config.link.port or 'of any number'} can be used")
    if not config.mdns.on:
        yield warning("mDNS", "is off: this device finds nobody by itself on the network")
        return
    found = own_addresses(config.mdns.interfaces or None)
    if found:
        yield ok("mDNS", "on " + ", ".join(f"{one.interface} ({one.text})" for one in found))
    else:
        yield failure("mDNS", "no network is up: connect to one; the agent waits for it")


def _bluetooth(config: AgentConfig) -> Check:
    what = "Bluetooth"
    if not config.ble.on:
        return ok(what, "is off: `on = true` under `[ble]` tells sooner who is still there")
    try:
        return ok(what, f"{asyncio.run(usable(config.ble.adapter, _ANSWER_S)).name} can be used")
    except BluetoothFault as fault:
        return failure(what, f"{fault}; the agent waits for it")


def _data(config: AgentConfig) -> tuple[Architecture | None, list[Check]]:
    try:
        dataset = load(config.data.dataset)
        arch = architecture(config.learning.architecture, dataset.input_shape, dataset.classes)
    except (ModelsError, OSError) as error:
        return None, [failure("data", str(error))]
    count = len(dataset.train_labels)
    return arch, [ok("data", f"{dataset.name}, {count:,} images among {config.share.of} devices, for {arch.name}")]


def _training(arch: Architecture, config: AgentConfig) -> Check:
    """Load torch where the agent does: a wheel for another processor dies with SIGILL, and takes the child along."""
    return _computed(
        "training", Kind.TRAINING, FreshTask(architecture=arch.name, codec=config.learning.codec, seed=config.seed)
    )


def _measuring(arch: Architecture, config: AgentConfig) -> Check:
    task = MeasureTask(architecture=arch.name, snapshots=(), data=None, test_of=config.data.dataset)
    return _computed("validation", Kind.VALIDATION, task)


def _computed(what: str, kind: Kind, task: FreshTask | MeasureTask) -> Check:
    child = Child(kind)
    began_s = time.monotonic()
    try:
        answer = child.answer(child.give(task))
    except AgentError as error:
        return failure(what, f"{error}; install the versions that are pinned for this machine")
    finally:
        child.close()
    if isinstance(answer, Failed):
        return failure(what, answer.message)
    kilobytes = f", a model of {len(answer.snapshot) >> 10} KiB" if isinstance(answer, Trained) else ""
    return ok(what, f"ready in {time.monotonic() - began_s:.1f} s{kilobytes}")


async def _gateway(config: AgentConfig, identity: Identity | None) -> list[Check]:
    url = config.gateway.url
    client = gateway_of(config, identity, timeout_s=_ANSWER_S)
    try:
        facts = await _asked(client.chain)
        if isinstance(facts, str):
            return [failure("gateway", f"{url}: {facts}")]
        checks = [ok("gateway", f"{url}: chain {facts.chain_id}, escrow {facts.escrow}"), _clock(facts)]
        checks.append(_rules(config, facts))
        if identity is not None:
            account = await _asked(lambda: client.account(identity.address))
            checks.append(failure("account", account) if isinstance(account, str) else _account(config, facts, account))
        return checks
    finally:
        await client.close()


async def _asked(ask: Callable[[], Awaitable[Any]]) -> Any:
    """Return the answer, or in words why there is none."""
    try:
        return await ask()
    except (GatewayUnreachable, GatewayRefused) as fault:
        return str(fault)


def _clock(facts: ChainFacts) -> Check:
    off_s = time.time() - facts.chain_time_s
    said = f"{abs(off_s):,.0f} s {'ahead of' if off_s > 0 else 'behind'} the chain's newest block"
    if abs(off_s) > _CLOCK_FAIL_S:
        return failure("clock", f"{said}: set it; peers bear one day, not more")
    return warning("clock", said) if abs(off_s) > _CLOCK_WARN_S else ok("clock", said)


def _rules(config: AgentConfig, facts: ChainFacts) -> Check:
    number = config.incentives.parameter_set
    rules = facts.parameter_sets.get(number)
    if rules is None or rules.retired or rules.sealed_votes:
        known = ", ".join(map(str, sorted(facts.parameter_sets))) or "none"
        return failure("rules", f"parameter set {number} cannot be used; the contract has {known}")
    return ok("rules", f"parameter set {number}: {rules.validators} validators, {rules.vote_time_s} s to vote")


def _account(config: AgentConfig, facts: ChainFacts, account: AccountFacts) -> Check:
    settings = config.settings
    held = account.free + account.locked
    needed = facts.min_stake + settings.reward
    if held < needed and settings.stake < needed:
        return failure("account", f"stake must be at least {needed} base units: the least stake and the reward")
    price_wei = -(-max(0, settings.stake - held) // facts.tokens_per_wei)
    if held < facts.min_stake and account.native_wei < price_wei:
        return failure("account", f"{account.native_wei} wei are too few to buy the stake: send it {price_wei} wei")
    return ok("account", f"free {account.free}, locked {account.locked}, seat {account.seat or 'none'}")
