"""After a soak: is the chain as the reference model says, and does the gateway say what the chain says?"""

import contextlib
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from soak_field import BUYERS, LEARNERS, NEIGHBORS, REWARD, STAKE, VALIDATORS, Book
from web3.exceptions import TransactionNotFound

from contracts import events
from contracts.deploy import Deployment, reader
from contracts.localchain import LocalChain
from contracts.settlement import DEFAULT_PARAMETERS, settle
from gateway.submission import TERMINAL, State

Told = Mapping[str, Mapping[str, Any]]


def violations(
    *, chain: LocalChain, deployment: Deployment, book: Book, told: Told, database: Path, operator: str
) -> Iterator[str]:
    """Yield what is not as it should be.

    Args:
        chain: asked directly.
        deployment: the contracts.
        book: what devices had acknowledged.
        told: what the gateway says of each operation and transaction now.
        database: the gateway's, in SQLite.
        operator: whose nonces are counted.
    """
    yield from book.wrong
    yield from _operations(book, told)
    yield from _transactions(chain, book, told)
    yield from _encounters(chain, deployment, book)
    yield from _stakes(chain, deployment, book)
    yield from _purchases(chain, deployment)
    yield from _nonces(chain, database, operator)


def _operations(book: Book, told: Told) -> Iterator[str]:
    for key in book.operations:
        if told[key]["state"] not in (State.FINAL, "over"):
            yield f"operation {key} was acknowledged and is {told[key]['state']}: {told[key]['note']}"


def _transactions(chain: LocalChain, book: Book, told: Told) -> Iterator[str]:
    """Each is told to be final, reverted or superseded as it is on chain."""
    for key in book.transactions:
        state = State(told[key]["state"])
        try:
            receipt = chain.web3.eth.get_transaction_receipt(key)  # type: ignore[arg-type]
            true = State.FINAL if receipt["status"] == 1 else State.REVERTED
        except TransactionNotFound:
            true = State.SUPERSEDED
        if state is not true:
            yield f"transaction {key} is {state.value} at the gateway and {true.value} on chain"


def _encounters(chain: LocalChain, deployment: Deployment, book: Book) -> Iterator[str]:
    """Each was opened once and settled once, with the votes that were cast."""
    opened: Counter[str] = Counter()
    settled: dict[str, list[tuple[int, int]]] = {}
    logs = chain.web3.eth.get_logs({"fromBlock": 0, "address": deployment.escrow})  # type: ignore[typeddict-item]
    for log in logs:
        event = events.decode([bytes(topic) for topic in log["topics"]], bytes(log["data"]))
        if isinstance(event, events.Opened):
            opened["0x" + event.encounter.hex()] += 1
        elif isinstance(event, events.Settled):
            settled.setdefault("0x" + event.encounter.hex(), []).append((event.yes, event.no))
    for key, played in book.encounters.items():
        yes = sum(played.verdicts)
        if opened[key] != 1:
            yield f"encounter {key} was opened {opened[key]} times"
        if settled.get(key) != [(yes, len(played.verdicts) - yes)]:
            yield f"encounter {key} was settled {settled.get(key)}, not once by {yes} of {len(played.verdicts)}"


def _stakes(chain: LocalChain, deployment: Deployment, book: Book) -> Iterator[str]:
    expected = dict.fromkeys((who.address for who in (*LEARNERS, *NEIGHBORS, *VALIDATORS)), STAKE)
    for key, played in book.encounters.items():
        yes = sum(played.verdicts)
        pay = settle(reward=REWARD, yes=yes, no=len(played.verdicts) - yes, parameters=DEFAULT_PARAMETERS)
        expected[played.learner.address] += pay.learner_refund - REWARD
        expected[played.neighbor.address] += pay.neighbor_delta
        for voter, valid in book.cast[key].items():
            expected[voter] += pay.each_yes if valid else pay.each_no
    read = reader(chain.web3, deployment)
    for who, total in expected.items():
        account = read.account(who)
        if account.total != total or account.locked:
            yield f"{who} has a stake of {account.total} ({account.locked} locked), the model says {total}"


def _purchases(chain: LocalChain, deployment: Deployment) -> Iterator[str]:
    """What a buyer has is what the transactions in the chain's blocks bought, each nonce once."""
    addresses = {who.address for who in BUYERS}
    bought: Counter[str] = Counter()
    nonces: dict[str, list[int]] = {}
    for number in range(chain.web3.eth.block_number + 1):
        for one in chain.web3.eth.get_block(number, full_transactions=True)["transactions"]:
            if one["from"] in addresses:  # type: ignore[index]
                bought[one["from"]] += one["value"] * 1000  # type: ignore[index]
                nonces.setdefault(one["from"], []).append(one["nonce"])  # type: ignore[index]
    read = reader(chain.web3, deployment)
    for who in addresses:
        if read.balance_of(who) != bought[who]:
            yield f"{who} has {read.balance_of(who)} tokens and bought {bought[who]}"
        if nonces.get(who, []) != [*range(len(nonces.get(who, [])))]:
            yield f"the nonces of {who} in the chain's blocks are {nonces[who]}"


def _nonces(chain: LocalChain, database: Path, operator: str) -> Iterator[str]:
    """Nothing is under way, and every nonce of the operator was used by a batch that the gateway knows of."""
    with contextlib.closing(sqlite3.connect(database)) as db:
        rows = db.execute("SELECT id, sender, nonce, state, note FROM submissions ORDER BY sender, nonce").fetchall()
    for key, _, nonce, state, note in rows:
        if State(state) not in TERMINAL:
            yield f"submission {key} (nonce {nonce}) is still {state}: {note}"
    used = chain.web3.eth.get_transaction_count(operator)  # type: ignore[arg-type]
    mined = [row[2] for row in rows if row[1] == operator and row[3] in (State.FINAL, State.REVERTED)]
    if mined != [*range(used)]:
        yield f"the operator used {used} nonces, and the gateway knows of its transactions with nonces {mined}"
