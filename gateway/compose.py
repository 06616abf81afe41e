"""The composition root: settings in, a whole gateway out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from flask import Flask
from web3 import HTTPProvider, Web3
from web3.exceptions import Web3Exception
from web3.middleware import ExtraDataToPOAMiddleware

from contracts import deploy
from contracts.chain import ChainProfile, profile_for
from contracts.deploy import Deployment
from contracts.errors import ContractsError
from contracts.identity import Identity
from gateway.app import create_app
from gateway.backlog import Backlog
from gateway.config import GatewayConfig, masked
from gateway.enrolment import Enrolment
from gateway.errors import ChainMismatch, ConfigError, NodeUnavailable, StoreUnavailable
from gateway.metrics import Metrics
from gateway.node import Node
from gateway.node_requests import count_requests
from gateway.observing import observe
from gateway.operator import load_operator
from gateway.shelf import Shelf
from gateway.store import Store
from gateway.tables import Database
from gateway.visit import Visits
from gateway.waiting import Waiting
from gateway.watch import Watch
from gateway.worker import Worker

_RPC_TIMEOUT_S = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """The parts of one gateway. Close it, or use it as a context manager."""

    config: GatewayConfig
    database: Database
    store: Store
    shelf: Shelf
    node: Node
    metrics: Metrics
    deployment: Deployment
    operator: Identity
    worker: Worker
    waiting: Waiting
    app: Flask

    def close(self) -> None:
        """Close the database."""
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_gateway(config: GatewayConfig, *, web3: Web3 | None = None, now_s: Callable[[], float] = time.time) -> Gateway:
    """Build a gateway and make sure that its node serves the chain and the contracts of its deployment.

    Args:
        config: settings.
        web3: the node; default: HTTP to the one `config` names.
        now_s: wall clock, Unix seconds.

    Raises `StoreUnavailable`, `NodeUnavailable`, `gateway.errors.ChainMismatch`, and of `contracts.errors`
    `ChainMismatch`, `CodeMismatch`, `DeploymentMissing`, `MalformedDeployment`.
    """
    profile = profile_for(config.chain)
    connected = web3 or connect(config.node_url, profile)
    metrics = Metrics()
    count_requests(connected, metrics)
    deployment = _deployment(config, connected, profile)
    database = open_database(config)
    return assemble(
        config,
        node=Node(connected, profile),
        metrics=metrics,
        deployment=deployment,
        database=database,
        operator=load_operator(config.operator_file),
        now_s=now_s,
    )


def assemble(
    config: GatewayConfig,
    *,
    node: Node,
    deployment: Deployment,
    database: Database,
    operator: Identity,
    now_s: Callable[[], float],
    metrics: Metrics | None = None,
    extra_tip_wei: int = 0,
    waiting: Waiting | None = None,
) -> Gateway:
    """Put a gateway together from parts that are open already; models lie in `config.data`.

    Args:
        config: settings; which chain, database and key they name plays no part.
        node: where transactions go.
        deployment: the contracts.
        database: for everything but models.
        operator: pays for batches.
        now_s: wall clock, Unix seconds.
        metrics: what is counted in; default: new ones.
        extra_tip_wei: what the operator pays per gas above what the node asks.
        waiting: how requests wait for news; default: in real time.

    Raises `StoreUnavailable`, `NodeUnavailable`, `ChainMismatch`.
    """
    metrics = metrics or Metrics()
    store = Store(database)
    waiting = waiting or Waiting(database)
    shelf = Shelf(config.data / "models", settings=config.models, now_s=now_s)
    worker = Worker(
        database,
        node,
        deployment,
        operator=operator,
        now_s=now_s,
        resend_after_s=config.resend_after_s,
        metrics=metrics,
        extra_tip_wei=extra_tip_wei,
    )
    app = create_app(
        store=store,
        shelf=shelf,
        node=node,
        deployment=deployment,
        limits=config.limits,
        now_s=now_s,
        operator=operator.address,
        access=config.door.access,
        enrolment=Enrolment(database),
        backlog=Backlog(database, config.limits),
        waiting=waiting,
        wake=worker.wake,
        visits=Visits(metrics),
    )
    observe(
        app,
        metrics=metrics,
        database=database,
        store=store,
        watch=Watch(node=node, shelf=shelf, operator=operator.address, now_s=now_s),
        profile=node.profile,
        chain_id=deployment.chain_id,
        operator=operator.address,
        operator_alarm_wei=config.operator_alarm_wei,
        now_s=now_s,
    )
    return Gateway(
        config=config,
        database=database,
        store=store,
        shelf=shelf,
        node=node,
        metrics=metrics,
        deployment=deployment,
        operator=operator,
        worker=worker,
        waiting=waiting,
        app=app,
    )


_NEEDLESS: Final = ("attrdict", "validation", "gas_estimate", "gas_price_strategy", "ens_name_to_address")
"""Of web3's own middleware: what wraps each answer once more, what asks for the chain's id before every call, and what
fills in what we never leave out."""


def open_database(config: GatewayConfig) -> Database:
    """Open the database, and its folder. Raises `StoreUnavailable`."""
    try:
        config.data.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUnavailable(f"cannot create {config.data}: {error.strerror}") from error
    return Database(config.url)


def connect(url: str, profile: ChainProfile, *, timeout_s: float = _RPC_TIMEOUT_S) -> Web3:
    """Return a client that sends nothing twice by itself."""
    web3 = Web3(HTTPProvider(url, request_kwargs={"timeout": timeout_s}, exception_retry_configuration=None))
    for needless in _NEEDLESS:
        web3.middleware_onion.remove(needless)
    if profile.poa:
        web3.middleware_onion.inject(ExtraDataToPOAMiddleware, layer=0)
    return web3


def _deployment(config: GatewayConfig, web3: Web3, profile: ChainProfile) -> Deployment:
    """The verified deployment: chain id, genesis and code are what its record says."""
    place = config.deployment
    if place is not None and not place.exists():
        raise ConfigError(f"deployment = {str(place)!r}: there is no such file or folder")
    try:
        served = int(web3.eth.chain_id)
        if profile.chain_id not in (None, served):
            raise ChainMismatch(
                f"the node has chain id {served}, {profile.name} has {profile.chain_id}: check chain and rpc_url"
            )
        if place is None or place.is_dir():
            return deploy.load(web3, place)
        deployment = deploy.read(place)
        deploy.verify(web3, deployment)
    except ContractsError:
        raise  # of our own finding
    except Web3Exception as error:
        raise NodeUnavailable(f"the node at {masked(config.node_url)} gave no useful answer: {error}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:  # the last three: not JSON, or of another shape
        raise NodeUnavailable(
            f"no node answers at {masked(config.node_url)} ({type(error).__name__}): check chain and rpc_url"
        ) from error
    return deployment
