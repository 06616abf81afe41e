"""Who takes part in a soak, and what they do: sign, hand in until it is acknowledged, ask until it is done."""

import hashlib
import http.client
import json
import random
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount
from gateway_rig import SALTS, sign
from signed_calls import ballot, half, opening

from contracts import calls, terms
from contracts.deploy import Deployment
from contracts.localchain import LocalChain
from contracts.terms import LANES, Terms, encounter_id

REWARD = 10**15
STAKE = 10**20
_ROOM_S = 40_000
_POLL_S = 0.4
_LISTEN_S = 2
_VOTE_EVERY_S = 1.5
_PATIENCE_S = 240.0
"""For which nothing may happen that brings the soak nearer to its end."""
_ABREAST = 20
"""A buyer's transactions come in any order, but not further apart than that."""


def _person(name: str) -> LocalAccount:
    account: LocalAccount = Account.from_key(hashlib.sha256(f"soak {name}".encode()).digest())
    return account


LEARNERS = tuple(_person(f"learner {n}") for n in range(6))
NEIGHBORS = tuple(_person(f"neighbor {n}") for n in range(4))
VALIDATORS = tuple(_person(f"validator {n}") for n in range(6))
BUYERS = tuple(_person(f"buyer {n}") for n in range(6))


def _told(request: urllib.request.Request) -> tuple[int, Any]:
    """The status and the JSON of an answer."""
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


class GaveUp(Exception):
    """Something was not done in time, or the soak was ended before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encounter:
    """One encounter as it is meant to go: its terms, who is its Neighbor, and the verdicts in order of position."""

    terms: Terms
    learner: LocalAccount
    neighbor: LocalAccount
    verdicts: tuple[bool, bool, bool]


@dataclass
class Book:
    """What was acknowledged, and how often it was refused before. Shared by all threads.

    Attributes:
        operations: ids of operations.
        transactions: ids of raw transactions, with their sender.
        cast: who voted what, by encounter.
        ended: how many encounters were seen to have ended.
        answers: how often each status or fault was met.
        wrong: refusals that nobody should get.
    """

    operations: list[str] = field(default_factory=list)
    transactions: dict[str, str] = field(default_factory=dict)
    encounters: dict[str, Encounter] = field(default_factory=dict)
    cast: dict[str, dict[str, bool]] = field(default_factory=dict)
    ended: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


class Devices:
    """The devices of a soak, at one gateway that is not always there."""

    def __init__(
        self, *, at: str, chain: LocalChain, turn: threading.RLock, deployment: Deployment, over: threading.Event
    ) -> None:
        """Set where the gateway is; whoever waits for it gives up when `over` is set."""
        self.book = Book()
        self._at = at
        self._chain = chain
        self._turn = turn
        self._deployment = deployment
        self._over = over
        self._moved_s = time.monotonic()
        self._heard: set[tuple[str, str]] = set()
        self._news = threading.Condition()
        self._reported: set[str] = set()

    # -- one request ----------------------------------------------------------------------------------------------

    def ask(self, path: str, body: dict[str, str] | None = None) -> Any:
        """Return the answer to a request, asked again until there is one; None for a refusal that is final."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._at + path, data=data, headers={"Content-Type": "application/json"})
        for pause_s in self._patience():
            try:
                status, told = _told(request)
            except (OSError, ValueError, http.client.HTTPException) as error:  # killed before, or while it answered
                self.book.answers[type(getattr(error, "reason", error)).__name__] += 1
            else:
                fault = told.get("error")
                self.book.answers[f"{status} {fault['code']}" if fault else str(status)] += 1
                if fault is None:
                    return told
                if not fault["retry"]:
                    self.book.wrong.append(f"{path}: {status} {fault['code']}: {fault['message']}")
                    return None
            self._over.wait(pause_s)
        raise GaveUp(path)

    def moved(self) -> None:
        """Take note that the soak has come nearer to its end."""
        self._moved_s = time.monotonic()

    def _patience(self) -> Iterator[float]:
        while not self._over.is_set() and time.monotonic() < self._moved_s + _PATIENCE_S:
            yield _POLL_S

    def until(self, held: Callable[[], bool], what: str) -> None:
        """Wait until it holds."""
        for pause_s in self._patience():
            if held():
                return
            self._over.wait(pause_s)
        raise GaveUp(what)

    # -- an encounter ---------------------------------------------------------------------------------------------

    def encounter(self, number: int, pair: int, verdicts: tuple[bool, bool, bool]) -> None:
        """Play one encounter from its opening to its end; those of one pair follow each other."""
        learner, neighbor = LEARNERS[pair // LANES], NEIGHBORS[(pair + number) % len(NEIGHBORS)]
        agreed = self._terms(learner, neighbor, nonce=8 * (number + 2) + pair % LANES)
        domain = self._deployment.domain
        key = "0x" + encounter_id(agreed, domain).hex()
        self.book.cast[key] = {}
        self.book.encounters[key] = Encounter(terms=agreed, learner=learner, neighbor=neighbor, verdicts=verdicts)
        self._hand_in(opening(agreed, domain, learner, neighbor))
        self._await(key, "Opened", "open", "reported", "settled")
        for who in (learner, neighbor):
            self._hand_in(half(agreed, domain, who))
        self._reported.add(key)
        self._await(key, "Settled", "settled")
        self._reported.discard(key)
        self.book.ended += 1
        self.moved()

    def _terms(self, learner: LocalAccount, neighbor: LocalAccount, *, nonce: int) -> Terms:
        with self._turn:
            now_s = self._chain.time_s
        return Terms(
            learner=learner.address,
            neighbor=neighbor.address,
            algorithm=terms.algorithm_label("oppcl"),
            architecture=hashlib.sha256(b"cnn6").digest(),
            previous=hashlib.sha256(b"previous").digest(),
            reward=REWARD,
            tolerance_bps=200,
            parameter_set=0,
            open_by=now_s + _ROOM_S,
            report_by=now_s + 2 * _ROOM_S,
            salts=terms.both_salts(*map(terms.commitment, SALTS)),
            seats=len(VALIDATORS),
            nonce=nonce,
        )

    def _hand_in(self, call: calls.Call) -> None:
        told = self.ask("/v1/operations", {"call": "0x" + calls.encode(call).hex()})
        if told is not None:
            self.book.operations.append(told["id"])
            self.moved()

    def _await(self, key: str, event: str, *states: str) -> None:
        """Wait until the gateway has told of an event, and says the same when asked: it may have been undone."""
        with self._news:
            while (key, event) not in self._heard:
                if next(self._patience(), None) is None:
                    raise GaveUp(f"{key} to be {states[0]}")
                self._news.wait(_POLL_S)
        self.until(lambda: self.ask(f"/v1/encounters/{key}")["state"] in states, f"{key} to be {states[0]}")

    def listen(self, over: threading.Event) -> None:
        """Follow the gateway's events, until `over` is set."""
        after = 0
        while not over.is_set():
            for one in self.ask(f"/v1/events?after={after}&wait_s={_LISTEN_S}")["events"]:
                after = one["number"]
                with self._news:
                    self._heard.add((one["encounter"], one["name"]))
                    self._news.notify_all()

    def votes(self, who: LocalAccount, over: threading.Event) -> None:
        """Vote whenever asked, until `over` is set; ask while votes are missing."""
        while not over.wait(_VOTE_EVERY_S):
            if not self._votes_missing():
                continue
            for job in self.ask(f"/v1/jobs?validator={who.address}")["jobs"]:
                key, position = job["encounter"], job["position"]
                played, cast = self.book.encounters[key], self.book.cast[key]
                if who.address not in cast and position < len(played.verdicts):
                    panel, valid = tuple(job["panel"]), played.verdicts[position]
                    domain = self._deployment.domain
                    self._hand_in(ballot(played.terms, domain, who, valid=valid, panel=panel, position=position))
                    cast[who.address] = valid

    def _votes_missing(self) -> bool:
        encounters, cast = self.book.encounters, self.book.cast
        return any(len(cast[key]) < len(encounters[key].verdicts) for key in tuple(self._reported))

    # -- raw transactions -----------------------------------------------------------------------------------------

    def purchases(self, who: LocalAccount, count: int, rng: random.Random) -> None:
        """Hand in purchases, each of another amount, out of order; with a few the key is used elsewhere before."""
        for nonce in sorted(range(count), key=lambda nonce: nonce + rng.uniform(0, _ABREAST)):
            if rng.random() < 0.1:
                with self._turn:
                    self._chain.request("eth_sendRawTransaction", ["0x" + self._purchase(who, nonce, wei=7).hex()])
            told = self.ask("/v1/transactions", {"raw": "0x" + self._purchase(who, nonce, wei=1_000 + nonce).hex()})
            if told is not None:
                self.book.transactions[told["id"]] = who.address
                self.moved()
            self._over.wait(rng.uniform(0, 2 * _POLL_S))

    def _purchase(self, who: LocalAccount, nonce: int, *, wei: int) -> bytes:
        return sign(who, calls.encode_buy(nonce), to=self._deployment.token, nonce=nonce, value=wei, gas=200_000)


def set_up(chain: LocalChain, deployment: Deployment) -> None:
    """Give everybody coin, and those who take part in encounters their stake and seat."""
    chain.fund([one.address for one in (*LEARNERS, *NEIGHBORS, *VALIDATORS, *BUYERS)], 10**20)
    for who in (*LEARNERS, *NEIGHBORS, *VALIDATORS):
        steps = [
            (deployment.token, calls.encode_buy(), STAKE // 1000),
            (deployment.token, calls.encode_approve(deployment.escrow, STAKE), 0),
            (deployment.escrow, calls.encode_stake(STAKE), 0),
        ]
        if who in VALIDATORS:
            steps.append((deployment.escrow, calls.encode_register_validator(), 0))
        for to, data, wei in steps:
            assert chain.transact(to=to, data=data, value_wei=wei, sender=who)["status"] == 1
