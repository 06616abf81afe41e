"""One gateway over a local chain, for the tests of the relay."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount
from flask.testing import FlaskClient
from web3 import Web3
from web3.providers.base import BaseProvider
from werkzeug.test import TestResponse

from contracts import calls, terms
from contracts.chain import ChainProfile
from contracts.deploy import Deployment, deploy_local, reader
from contracts.identity import Identity
from contracts.localchain import LocalChain
from contracts.terms import Terms
from gateway.compose import assemble, open_database
from gateway.config import DoorSettings, GatewayConfig, Limits
from gateway.node import Node
from gateway.submission import State
from gateway.waiting import Waiting

TOKEN = 10**18
STAKE = 100 * TOKEN
SALTS = (bytes([1]) * 32, bytes([2]) * 32)
UPDATED = hashlib.sha256(b"updated").digest()
FEE_CAP_WEI = 10**11
RESEND_AFTER_S = 20.0
PERSONS = tuple(Account.from_key(hashlib.sha256(b"gateway person %d" % n).digest()) for n in range(8))
ALICE, BOB = PERSONS[:2]
OPERATOR = Identity(hashlib.sha256(b"gateway operator").digest())
MOST_WAITING = 2
NO_HURRY = Limits(requests_per_s=0, peer_requests_per_s=0, all_requests_per_s=0, undone_per_account=10_000)
"""For tests that hand in much at once."""
on_both_databases = pytest.mark.parametrize(
    "database_url", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)], indirect=True
)


def sign(who: LocalAccount, data: bytes, *, to: str, nonce: int, **changes: Any) -> bytes:
    fields = {
        "chainId": 1337,
        "nonce": nonce,
        "gas": 400_000,
        "maxFeePerGas": FEE_CAP_WEI,
        "maxPriorityFeePerGas": 1,
        "value": 0,
        "to": to,
        "data": data,
    }
    return bytes(who.sign_transaction(fields | changes).raw_transaction)


class FlakyProvider(BaseProvider):
    """A node that can fall silent; `sends` counts what reached it. One request at a time: the embedded chain bears no
    threads.
    """

    def __init__(self, inner: BaseProvider) -> None:
        super().__init__()
        self.inner = inner
        self.down = False
        self.loses_replies = False
        self.sends: list[str] = []
        self.turn = threading.RLock()
        self.before_send: Callable[[], None] = lambda: None

    def make_request(self, method: Any, params: Any) -> Any:
        with self.turn:
            return self._request(method, params)

    def _request(self, method: Any, params: Any) -> Any:
        if self.down:
            raise ConnectionError("https://user:secret@node.example/key")
        if method == "eth_sendRawTransaction":
            self.before_send()
            self.sends.append(str(params[0]))
        answer = self.inner.make_request(method, params)
        if method == "eth_sendRawTransaction" and self.loses_replies:
            raise ConnectionError("https://user:secret@node.example/key")
        return answer


@dataclass
class Rig:
    """A gateway whose worker steps, blocks and clock are commanded."""

    chain: LocalChain
    deployment: Deployment
    folder: Path
    profile: ChainProfile
    limits: Limits = NO_HURRY
    now_s: float = 1_000.0
    database_url: str | None = None
    web3: Web3 | None = None
    """How the gateway reaches the chain, if not by `provider`."""
    door: DoorSettings = field(default_factory=DoorSettings)

    def __post_init__(self) -> None:
        self.waited_s = 0.0
        self.meanwhile: Callable[[], None] = lambda: None
        self.provider = FlakyProvider(self.chain.web3.provider)
        self.node = Node(self.web3 or Web3(self.provider), self.profile)
        self.start()

    @staticmethod
    def deployed(chain: LocalChain) -> Deployment:
        deployment = deploy_local(chain)
        chain.fund([OPERATOR.address, *(one.address for one in PERSONS)], 10**20)
        return deployment

    def start(self) -> None:
        config = GatewayConfig(
            chain=self.profile.name,
            data=self.folder,
            database_url=self.database_url,
            resend_after_s=RESEND_AFTER_S,
            limits=self.limits,
            door=self.door,
        )
        self.database = open_database(config)
        self.gateway = assemble(
            config,
            node=self.node,
            deployment=self.deployment,
            database=self.database,
            operator=OPERATOR,
            now_s=lambda: self.now_s,
            waiting=Waiting(self.database, most=MOST_WAITING, pause=self.pause, clock_s=lambda: self.waited_s),
        )
        self.store, self.shelf, self.worker = self.gateway.store, self.gateway.shelf, self.gateway.worker
        self.client: FlaskClient = self.gateway.app.test_client()

    def pause(self, seconds: float) -> bool:
        """A request waits: no real time passes."""
        self.waited_s += seconds
        self.meanwhile()
        return False

    def restart(self) -> None:
        self.database.close()
        self.start()

    # Devices

    def sign(self, who: LocalAccount, data: bytes, *, nonce: int, to: str | None = None, **changes: Any) -> bytes:
        return sign(who, data, to=to or self.deployment.escrow, nonce=nonce, **changes)

    def buy(self, who: LocalAccount, *, nonce: int = 0, wei: int = STAKE // 1000) -> bytes:
        return self.sign(who, calls.encode_buy(nonce), nonce=nonce, to=self.deployment.token, value=wei)

    def post(self, raw: bytes, client: FlaskClient | None = None) -> TestResponse:
        return (client or self.client).post("/v1/transactions", json={"raw": "0x" + raw.hex()})

    def accepted(self, raw: bytes) -> str:
        response = self.post(raw)
        assert response.status_code == 202, response.json
        return str(response.json["id"])

    def join(self, who: LocalAccount, *, validator: bool = False) -> list[str]:
        token, escrow = self.deployment.token, self.deployment.escrow
        raws = [
            self.buy(who),
            self.sign(who, calls.encode_approve(escrow, STAKE), nonce=1, to=token),
            self.sign(who, calls.encode_stake(STAKE), nonce=2),
        ]
        if validator:
            raws.append(self.sign(who, calls.encode_register_validator(), nonce=3))
        return [self.accepted(raw) for raw in raws]

    # The gateway and the chain

    def step(self) -> None:
        """Compose, broadcast, make a block, consume it."""
        self.worker.compose()
        self.worker.broadcast()
        self.mine()
        self.worker.confirm()

    def mine(self, at_s: int | None = None) -> None:
        with self.provider.turn:
            self.chain.mine(at_s or self.chain.time_s + 1)

    def state(self, key: str) -> State:
        found = self.store.submission(key)
        assert found is not None
        return found.state

    def get(self, path: str) -> Any:
        response = self.client.get(path)
        assert response.status_code == 200, response.json
        return response.json

    def nonce(self, who: LocalAccount) -> int:
        return self.chain.web3.eth.get_transaction_count(who.address)

    # Encounters

    def terms(self) -> Terms:
        return Terms(
            learner=ALICE.address,
            neighbor=BOB.address,
            algorithm=terms.algorithm_label("oppcl"),
            architecture=hashlib.sha256(b"cnn6").digest(),
            previous=hashlib.sha256(b"previous").digest(),
            reward=TOKEN,
            tolerance_bps=200,
            parameter_set=0,
            open_by=self.chain.time_s + 600,
            report_by=self.chain.time_s + 3_600,
            salts=terms.both_salts(*map(terms.commitment, SALTS)),
            seats=reader(self.chain.web3, self.deployment).seat_count(),
            nonce=0,
        )

    def id(self, agreed: Terms) -> str:
        return "0x" + terms.encounter_id(agreed, self.deployment.domain).hex()

    def done(self, who: LocalAccount, data: bytes) -> str:
        """Relay a call of the escrow and see it final."""
        key = self.accepted(self.sign(who, data, nonce=self.nonce(who)))
        self.step()
        assert self.state(key) is State.FINAL
        return key


def reverting(rig: Rig) -> bytes:
    """A transaction that the contract refuses: nothing is staked."""
    return rig.sign(ALICE, calls.encode_unbond(1, 0), nonce=0)


@contextmanager
def untried(rig: Rig) -> Iterator[None]:
    """Let the node fall silent for a while: what is handed over meanwhile is taken without a trial."""
    rig.provider.down = True
    yield
    rig.provider.down = False
