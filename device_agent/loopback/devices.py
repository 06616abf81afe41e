"""The devices of a run: the real `Agent`, with memory for radios, and children shared by all for computing."""

from __future__ import annotations

import random
from dataclasses import dataclass

from contracts.identity import Identity
from device_agent.agent import Agent
from device_agent.gateway import GatewayClient
from device_agent.health import Vitals
from device_agent.journal import Journal
from device_agent.learning import Model
from device_agent.learning.choices import Rows, base_units, held_out
from device_agent.learning.compose import adapter_of, trainer_of
from device_agent.learning.local import LocalAssessor
from device_agent.learning.weights import SnapshotsHere
from device_agent.learning.worker import Child, LocalData
from device_agent.loopback.clock import VirtualClock
from device_agent.loopback.given import Given
from device_agent.loopback.scenario import Scenario
from device_agent.loopback.seen import Seen
from device_agent.loopback.world import World, wait_virtually
from device_agent.radio import PeerId
from device_agent.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One simulated device."""

    name: PeerId
    honest: bool
    agent: Agent
    journal: Journal


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What all devices of a run share.

    Attributes:
        world: radios and links.
        gateway: the way to the chain.
        clock: virtual time.
        training: the process that trains for all of them.
        validation: the process that measures for all of them.
    """

    world: World
    gateway: GatewayClient
    clock: VirtualClock
    training: Child
    validation: Child


def names(scenario: Scenario) -> list[PeerId]:
    """Return the devices' names, which are also their radio ids."""
    return [PeerId(f"device-{number:02d}") for number in range(scenario.devices.count)]


async def make_device(
    given: Given,
    place: Place,
    *,
    number: int,
    identity: Identity,
    rows: Rows,
    blank: Model,
    seen: Seen,
) -> Device:
    """Build one device, with its first model trained on its own data.

    Args:
        given: the run's scenario.
        place: where it will live.
        number: of the device, from 0.
        identity: its account.
        rows: its data; the first part is held out for votes.
        blank: the model all devices begin with.
        seen: told of every model it moves on to.
    """
    scenario = given.scenario
    learning, incentives = scenario.learning, scenario.incentives
    device = names(scenario)[number]
    honest = seen.honest[device]
    validators = scenario.devices.validators
    validator = validators is None or number < validators
    voting, training = held_out(rows, scenario.data.validation_share)

    def local(part: Rows) -> LocalData:
        return LocalData(dataset=given.dataset.name, root=given.data_root, rows=part, flipped=not honest)

    trainer = trainer_of(
        learning,
        place.training,
        local(training),
        given.arch,
        seed=scenario.seed,
        wait=wait_virtually(scenario.devices.training_images_per_s),
    )
    snapshots = SnapshotsHere(given.arch)
    adapter = adapter_of(learning, trainer, snapshots)
    initial = await trainer.train(blank, steps=learning.warmup_steps) if learning.warmup_steps else blank
    seen.models[device] = [initial.digest]
    seen.referee.ask(initial.digest, initial.data)
    folder = given.out / "devices" / device
    folder.mkdir(parents=True)
    journal = Journal(folder / "journal.sqlite")
    place.world.accounts[device] = identity.address
    secrets = random.Random(given.secret("secrets", device))  # noqa: S311 - a simulation must be repeatable
    box: list[Agent] = []

    def observe(name: str, **fields: object) -> None:
        seen.log.write(device, name, **fields)
        if name == "adopted" and box:
            model = box[0].model
            seen.models[device].append(model.digest)
            seen.referee.ask(model.digest, model.data)

    agent = Agent(
        radios=[place.world.radios[device]],
        link=place.world.links[device],
        adapter=adapter,
        assessor=LocalAssessor(
            place.validation,
            local(voting),
            given.arch,
            wait=wait_virtually(scenario.devices.validation_images_per_s),
        )
        if validator
        else None,
        snapshots=snapshots,
        gateway=place.gateway,
        clock=place.clock,
        journal=journal,
        identity=identity,
        architecture=given.arch,
        initial=initial,
        settings=Settings(
            reward=base_units(incentives.reward),
            tolerance_bps=incentives.tolerance_bps,
            parameter_set=0,
            stake=base_units(incentives.stake),
            door=scenario.chain.door,
            validator=validator,
            # Nodes order transactions by price, and equal ones each in its own way: so none are equal.
            extra_tip_wei=scenario.devices.count - number,
        ),
        vitals=Vitals,
        random_bytes=secrets.randbytes,
        observe=observe,
    )
    box.append(agent)
    return Device(name=device, honest=honest, agent=agent, journal=journal)
