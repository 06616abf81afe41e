"""The gateway as the agent sees it, over HTTP. The transport is passed in: a socket, or the real app in-process.

What a gateway says about the chain is taken as a hint with a source, never as money: the device keeps its signed
bytes, and may hand them to another gateway.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import httpx

from contracts.settlement import ParameterSet
from contracts.states import EncounterState
from contracts.terms import Domain, Terms, terms_from_json
from device_agent.encounter import ChainView
from device_agent.errors import GatewayRefused, GatewayUnreachable
from device_agent.identity import Fees

_Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainFacts:
    """What is needed to write terms and sign transactions. Amounts in token base units, times in Unix s."""

    chain_id: int
    escrow: str
    token: str
    chain_time_s: int
    min_stake: int
    tokens_per_wei: int
    fees: Fees
    parameter_sets: dict[int, ParameterSet]

    @property
    def domain(self) -> Domain:
        """Where encounters live."""
        return Domain(chain_id=self.chain_id, escrow=self.escrow)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountFacts:
    """An account as the chain holds it, and the next nonce no transaction known to the gateway uses."""

    next_nonce: int
    native_wei: int
    tokens: int
    free: int
    locked: int
    seat: int
    active: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A vote that is asked of this device."""

    encounter: bytes
    terms: Terms
    updated: bytes
    position: int
    opens_at_s: int
    vote_by_s: int


class GatewayClient:
    """One gateway. Raises `GatewayUnreachable` where no answer came, `GatewayRefused` where it said no."""

    def __init__(
        self, base_url: str, *, transport: httpx.AsyncBaseTransport | None = None, timeout_s: float = 20
    ) -> None:
        self._http = httpx.AsyncClient(base_url=base_url, transport=transport, timeout=timeout_s)
        self._known: ChainFacts | None = None

    async def close(self) -> None:
        """Close connections."""
        await self._http.aclose()

    async def chain(self) -> ChainFacts:
        """Ask for the chain's facts."""
        answer = await self._json("GET", "/v1/chain")
        self._known = ChainFacts(
            chain_id=answer["chain_id"],
            escrow=answer["escrow"],
            token=answer["token"],
            chain_time_s=answer["chain_time_s"],
            min_stake=answer["min_stake"],
            tokens_per_wei=answer["tokens_per_wei"],
            fees=Fees(tip_wei=answer["tip_wei"], max_fee_wei=answer["max_fee_wei"]),
            parameter_sets={int(number): ParameterSet(**rules) for number, rules in answer["parameter_sets"].items()},
        )
        return self._known

    async def known_chain(self) -> ChainFacts:
        """Return the last facts heard, asking only if there are none: for what never changes, as addresses."""
        return self._known or await self.chain()

    async def account(self, address: str) -> AccountFacts:
        """Ask for an account."""
        answer = await self._json("GET", f"/v1/accounts/{address}")
        return AccountFacts(
            **{
                name: answer[name]
                for name in ("next_nonce", "native_wei", "tokens", "free", "locked", "seat", "active")
            }
        )

    async def submit(self, raw: bytes) -> str:
        """Hand over a signed transaction; once this returns it may be forgotten. Returns its id."""
        answer = await self._json("POST", "/v1/transactions", json={"raw": "0x" + raw.hex()})
        return str(answer["id"])

    async def encounter(self, encounter_id: bytes) -> ChainView:
        """Ask how an encounter stands on chain."""
        answer = await self._json("GET", f"/v1/encounters/0x{encounter_id.hex()}")
        updated = answer["updated"]
        return ChainView(
            state=EncounterState[answer["state"].upper()],
            updated=None if updated is None else bytes.fromhex(updated[2:]),
            yes=answer["yes"],
            no=answer["no"],
            vote_by=answer["vote_by"],
            chain_time_s=answer["chain_time_s"],
        )

    async def jobs(self, validator: str) -> tuple[list[Job], int]:
        """Ask which votes are open to a validator; also returns the chain's time."""
        answer = await self._json("GET", "/v1/jobs", params={"validator": validator})
        jobs = [
            Job(
                encounter=bytes.fromhex(one["encounter"][2:]),
                terms=terms_from_json(one["terms"]),
                updated=bytes.fromhex(one["updated"][2:]),
                position=one["position"],
                opens_at_s=one["opens_at_s"],
                vote_by_s=one["vote_by"],
            )
            for one in answer["jobs"]
        ]
        return jobs, int(answer["chain_time_s"])

    async def put_model(self, digest: bytes, data: bytes) -> None:
        """Store a snapshot's canonical bytes under their SHA-256."""
        await self._json("PUT", f"/v1/models/{digest.hex()}", content=data)

    async def get_model(self, digest: bytes, *, max_bytes: int) -> bytes | None:
        """Fetch a snapshot, None if the gateway has none. Raises `GatewayRefused` if the bytes are others."""
        response = await self._request("GET", f"/v1/models/{digest.hex()}")
        if response.status_code == 404:
            return None
        _raise_for(response)
        data = response.content
        if len(data) > max_bytes or hashlib.sha256(data).digest() != digest:
            raise GatewayRefused(502, "digest_mismatch", "the gateway served other bytes", retry=True)
        return data

    async def _json(self, method: str, path: str, **options: Any) -> _Json:
        response = await self._request(method, path, **options)
        _raise_for(response)
        try:
            answer = response.json()
        except ValueError as error:
            raise GatewayUnreachable(f"{path}: the answer is not JSON") from error
        if not isinstance(answer, dict):
            raise GatewayUnreachable(f"{path}: the answer is not an object")
        return answer

    async def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            return await self._http.request(method, path, **options)
        except httpx.HTTPError as error:
            raise GatewayUnreachable(f"{method} {path}: {type(error).__name__}: {error}") from error


def _raise_for(response: httpx.Response) -> None:
    if response.status_code < 400:
        return
    try:
        error = response.json()["error"]
        code, message, retry = str(error["code"]), str(error["message"]), bool(error["retry"])
    except (ValueError, KeyError, TypeError):
        code, message, retry = "", response.reason_phrase, response.status_code >= 500
    if response.status_code >= 500:
        raise GatewayUnreachable(f"the gateway answered {response.status_code} {code}: {message}")
    raise GatewayRefused(response.status_code, code, message, retry=retry)
