"""The books of the field: no unit that is where it should not be escapes them."""

from __future__ import annotations

from eth_account import Account
from ledger import Ledger

from contracts import calls
from contracts.deploy import deploy_local
from contracts.localchain import open_chain


def test_a_unit_in_the_wrong_place_is_found() -> None:
    alice, bob = Account.create(), Account.create()
    with open_chain("embedded") as chain:
        deployment = deploy_local(chain)
        chain.fund([alice.address, bob.address], 10**18)
        for one in (alice, bob):
            chain.transact(to=deployment.token, data=calls.encode_buy(), value_wei=10**6, sender=one)
        assert [*Ledger(chain, deployment, [alice.address, bob.address]).wrong()] == []
        chain.transact(to=deployment.token, data=calls.encode_transfer(bob.address, 1), sender=alice)
        found = [*Ledger(chain, deployment, [alice.address, bob.address]).wrong()]
    assert len(found) == 2
    assert found[0].startswith(f"{alice.address} has 999999999 ")
    assert found[1].startswith(f"{bob.address} has 1000000001 ")
