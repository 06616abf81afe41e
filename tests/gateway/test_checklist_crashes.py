"""What the relay must survive, point 2 of 35: killed at every write it makes, it does everything exactly once."""

import hashlib
import multiprocessing
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import crashing_gateway
import pytest
from crashing_gateway import PATHS, Moment
from eth_account import Account
from eth_account.signers.local import LocalAccount
from gateway_rig import BOB, OPERATOR, STAKE, Rig, sign
from signed_calls import act

from contracts import calls, deploy
from contracts.deploy import Deployment, reader
from contracts.identity import Fees
from contracts.localchain import LocalChain, open_chain
from contracts.states import ActionKind
from gateway.compose import open_gateway
from gateway.config import GatewayConfig
from gateway.submission import State

pytestmark = pytest.mark.chain
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["crashing_gateway"])
MOST_WRITES = 40


@pytest.fixture(scope="module", params=["anvil", "ganache"])
def chain(request: pytest.FixtureRequest) -> Iterator[tuple[LocalChain, Deployment]]:
    with open_chain(request.param) as opened:
        deployment = Rig.deployed(opened)
        # Ganache executes an account's first transaction as often as it is handed over: not what is looked at here.
        raw, _ = OPERATOR.sign(
            chain_id=1337,
            nonce=0,
            target=BOB.address,
            data=b"",
            gas=21_000,
            fees=Fees(tip_wei=10**9, max_fee_wei=10**11),
        )
        opened.web3.eth.send_raw_transaction(raw)
        opened.mine(opened.time_s + 1)
        yield opened, deployment


def member_of(chain: LocalChain, deployment: Deployment, name: str) -> LocalAccount:
    """An account that has a stake, and has used its nonces 0 to 2."""
    who: LocalAccount = Account.from_key(hashlib.sha256(name.encode()).digest())
    chain.fund([who.address], 10**18)
    for to, data, wei in (
        (deployment.token, calls.encode_buy(), STAKE // 1000),
        (deployment.token, calls.encode_approve(deployment.escrow, STAKE), 0),
        (deployment.escrow, calls.encode_stake(STAKE), 0),
    ):
        chain.send(to=to, data=data, value_wei=wei, sender=who)
    chain.mine(chain.time_s + 1)
    return who


def transaction(deployment: Deployment, who: LocalAccount) -> bytes:
    return sign(who, calls.encode_register_validator(), to=deployment.escrow, nonce=3)


def operation(deployment: Deployment, who: LocalAccount) -> bytes:
    return calls.encode(act(who, deployment.domain, ActionKind.REGISTER, nonce=1))


@pytest.mark.parametrize(("member", "make"), [("raw", transaction), ("call", operation)])
@pytest.mark.parametrize("moment", Moment)
def test_02_killed_at_any_write_it_is_done_exactly_once(
    chain: tuple[LocalChain, Deployment],
    tmp_path: Path,
    member: str,
    make: Callable[[Deployment, LocalAccount], bytes],
    moment: Moment,
) -> None:
    opened, deployment = chain
    (tmp_path / "operator.key").write_text(hashlib.sha256(b"gateway operator").hexdigest())
    record = deploy.record(deployment, tmp_path)
    for at in range(1, MOST_WRITES):
        who = member_of(opened, deployment, f"{opened.kind} {member} {moment} {at}")
        data = make(deployment, who)
        config = GatewayConfig(
            chain=opened.kind,
            rpc_url=opened.web3.provider.endpoint_uri,  # type: ignore[attr-defined]
            data=tmp_path / str(at),
            deployment=record,
            operator_key=tmp_path / "operator.key",
            resend_after_s=0.001,
        )
        process = PROCESSES.Process(
            target=crashing_gateway.live, args=(config.model_dump_json(), member, "0x" + data.hex(), at, moment)
        )
        process.start()
        process.join()
        seats = reader(opened.web3, deployment).seat_count()
        if process.exitcode == 0:  # it made fewer writes than that
            assert reader(opened.web3, deployment).account(who.address).seat == seats
            break
        assert process.exitcode == -signal.SIGKILL
        with open_gateway(config) as gateway:
            client = gateway.app.test_client()
            gateway.worker.confirm()
            # The device that got no answer hands it in again; one that got it never does.
            again = client.post(PATHS[member], json={member: "0x" + data.hex()})
            assert again.status_code in (200, 202), again.text
            assert again.status_code == 202 or (at, moment) != (1, Moment.BEFORE)
            for _ in range(3):
                gateway.worker.compose()
                gateway.worker.broadcast()
                opened.mine(opened.time_s + 1)
                gateway.worker.confirm()
            told = client.get(f"{PATHS[member]}/{again.json['id']}").json
            assert told["state"] == State.FINAL, f"write {at}: {told}"
            registered = [one for one in gateway.store.latest("ValidatorRegistered") if one.account == who.address]
            assert len(registered) == 1
            assert gateway.store.unsettled() == []
        assert opened.web3.eth.get_transaction_count(who.address) == (4 if member == "raw" else 3)
    else:
        pytest.fail("more writes than were tried")
    assert at > 4
