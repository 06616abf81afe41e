"""Reconciling: nothing to tell while database and chain agree, and every way in which they may not."""

import pytest
from gateway_rig import ALICE, BOB, OPERATOR, Rig, reverting, untried

from contracts.identity import Fees
from gateway.errors import ChainMismatch
from gateway.reconcile import differences


def told(rig: Rig) -> list[str]:
    return [one.words for one in differences(rig.store, rig.node, operator=OPERATOR.address)]


def written(rig: Rig, statement: str) -> None:
    with rig.database.write() as db:
        db.exec_driver_sql(statement)


@pytest.fixture
def worked(deep: Rig) -> Rig:
    """Something final, something reverted, something included and something that waits."""
    with untried(deep):
        deep.accepted(reverting(deep))
    deep.accepted(deep.buy(BOB))
    deep.step()
    for _ in range(4):
        deep.mine()
    deep.worker.confirm()
    deep.accepted(deep.buy(BOB, nonce=1))
    deep.step()
    deep.accepted(deep.buy(BOB, nonce=2))
    deep.worker.broadcast()
    states = {state: count for state, count in deep.store.counts().items() if count}
    assert states == {"final": 1, "reverted": 1, "included": 1, "broadcast": 1}
    return deep


def test_while_they_agree_there_is_nothing_to_tell(worked: Rig) -> None:
    assert told(worked) == []
    worked.mine()  # a block that was not read yet is no difference
    assert told(worked) == []


def test_before_anything_was_read_there_is_nothing_to_tell(rig: Rig) -> None:
    assert told(rig) == []


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE submissions SET state = 'superseded' WHERE state = 'final'", "superseded here, but block"),
        ("UPDATE submissions SET state = 'final' WHERE state = 'broadcast'", "final in block None here, but no block"),
        ("UPDATE submissions SET succeeded = 1 WHERE state = 'reverted'", "done in block"),
        ("UPDATE submissions SET block = block + 1 WHERE state = 'included'", "but done in block"),
        (
            f"UPDATE submissions SET nonce = 5 WHERE state = 'broadcast' AND sender = '{BOB.address}'",
            "the next nonce is 2, the lowest that waits here 5",
        ),
    ],
)
def test_what_does_not_agree_is_told(worked: Rig, statement: str, words: str) -> None:
    written(worked, statement)
    (found,) = told(worked)
    assert words in found


def test_a_nonce_of_the_operator_that_nothing_here_has_used_is_told(deep: Rig) -> None:
    fees = Fees(tip_wei=10**9, max_fee_wei=10**11)
    deep.worker.confirm()
    for nonce in range(2):
        raw, digest = OPERATOR.sign(chain_id=1337, nonce=nonce, target=ALICE.address, data=b"", gas=21_000, fees=fees)
        if nonce == 0:
            written(
                deep,
                "INSERT INTO submissions (id, sender, nonce, function, state, accepted_at_s) "
                f"VALUES ('0x{digest.hex()}', '{OPERATOR.address}', 0, '', 'broadcast', 0)",
            )
            with deep.database.write() as db:
                db.exec_driver_sql(
                    "INSERT INTO attempts (hash, submission, number, raw, sends) VALUES (?, ?, 1, ?, 1)",
                    ("0x" + digest.hex(), "0x" + digest.hex(), raw),
                )
        deep.chain.web3.eth.send_raw_transaction(raw)
    deep.mine()
    deep.worker.confirm()
    assert told(deep) == ["the operator's nonce 1 was used by a transaction that is not known here"]


def test_in_the_middle_of_a_reorganisation_nothing_is_compared(worked: Rig) -> None:
    written(worked, "UPDATE blocks SET hash = '0x00' WHERE number = (SELECT max(number) FROM blocks)")
    with pytest.raises(ChainMismatch, match="follow the reorganisation"):
        told(worked)
