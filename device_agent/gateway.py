"""The gateway as the agent sees it, over HTTP. The transport is passed in: a socket, or the real app in-process.

What a gateway says about the chain is taken as a hint with a source, never as money: the device keeps its signed
bytes, and may hand them to another gateway.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http import HTTPStatus
from types import MappingProxyType
from typing import Any
from urllib.parse import urlencode, urlsplit

from pydantic_core import from_json

from contracts.identity import Fees, Identity
from contracts.panel import PANEL_SEATS
from contracts.requests import enrolment_digest
from contracts.settlement import ParameterSet
from contracts.states import EncounterState
from contracts.terms import Domain, Terms, terms_from_json
from device_agent.encounter import ChainView
from device_agent.errors import GatewayRefused, GatewayUnreachable
from device_agent.request_signer import RequestSigner, Standing
from device_agent.transport import HttpTransport, Request, Response, Transport

_Json = dict[str, Any]

_MAX_ANSWER_BYTES = 1 << 20
"""Of anything but a model."""
_PART_BYTES = 8 << 20
"""What is sent again if a connection breaks."""
_SIGNINGS = 3
"""How often a request is signed anew while the gateway says that its number was used."""
_FLAGS = frozenset({"sealed_votes", "retired"})
"""What is true or false in a parameter set; all else are numbers."""
_PLAIN = {"Accept-Encoding": "identity", "Accept": "application/json, application/octet-stream"}
"""What is compressed has no bound: a few kilobytes unpack to gigabytes, at once."""
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_DIGEST = re.compile(r"0x[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainFacts:
    """What is needed to write terms and sign transactions. Amounts in token base units, times in Unix s."""

    chain_id: int
    escrow: str
    token: str
    chain_time_s: int
    min_stake: int
    seat_count: int
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
    permit_nonce: int
    free: int
    locked: int
    seat: int
    active: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A vote that is asked of this device: of the seat at `position` of `panel`."""

    encounter: bytes
    terms: Terms
    updated: bytes
    panel: tuple[int, ...]
    position: int
    opens_at_s: int
    vote_by_s: int


class GatewayClient:
    """One gateway. Raises `GatewayUnreachable` where no answer came, `GatewayRefused` where it said no."""

    def __init__(
        self,
        base_url: str,
        *,
        transport: Transport | None = None,
        timeout_s: float = 20,
        identity: Identity | None = None,
        realm: str | None = None,
        fingerprint: bytes | None = None,
    ) -> None:
        """Connect to nothing yet.

        Args:
            base_url: where it answers.
            transport: how to get there; default: sockets.
            timeout_s: longest silence.
            identity: the account that is enrolled there and signs the requests; None where the gateway is open to all.
            realm: what the gateway called itself at enrolment: requests are signed for no other one. None: whatever it
                says at the first request.
            fingerprint: SHA-256 of the gateway's certificate: nothing is sent to who has another one.
        """
        where = urlsplit(base_url)
        self._prefix = where.path.rstrip("/")
        self._transport = transport or HttpTransport(f"{where.scheme}://{where.netloc}", fingerprint=fingerprint)
        self._timeout_s = timeout_s
        self.away = False
        """Whether the last request got no answer at all."""
        self._identity = identity
        self._realm = realm
        self._signer: RequestSigner | None = None

    async def close(self) -> None:
        """Close connections."""
        await self._transport.close()

    async def enrol(self, token: str) -> Standing:
        """Redeem a one-time token of the gateway's operator for this client's account. Again is no harm."""
        if self._identity is None:
            raise ValueError("only a client with an identity can be enrolled")
        account = self._identity.address
        signature = self._identity.sign_digest(enrolment_digest(token=token, account=account))
        body = {"token": token, "account": account, "signature": "0x" + signature.hex()}
        return self._standing(await self._send(_posted("/v1/devices", body)))

    async def chain(self) -> ChainFacts:
        """Ask for the chain's facts."""
        answer = await self._json(_got("/v1/chain"))
        if answer.get("chain_time_s") == 0:  # Deadlines are counted from it: what was signed now would be void.
            raise GatewayUnreachable("/v1/chain: the gateway has just been started, and has read no block yet")
        with _understood("/v1/chain"):
            return ChainFacts(
                chain_id=_whole(answer["chain_id"], low=1),
                escrow=_address(answer["escrow"]),
                token=_address(answer["token"]),
                chain_time_s=_whole(answer["chain_time_s"], bits=40),
                min_stake=_whole(answer["min_stake"]),
                seat_count=_whole(answer["seat_count"], bits=24),
                tokens_per_wei=_whole(answer["tokens_per_wei"], low=1),
                fees=Fees(tip_wei=_whole(answer["tip_wei"]), max_fee_wei=_whole(answer["max_fee_wei"])),
                parameter_sets={
                    _whole(int(number), bits=16): _rules(said) for number, said in answer["parameter_sets"].items()
                },
            )

    async def account(self, address: str) -> AccountFacts:
        """Ask for an account."""
        answer = await self._json(_got(f"/v1/accounts/{address}"))
        with _understood("/v1/accounts"):
            return AccountFacts(
                next_nonce=_whole(answer["next_nonce"], bits=62),
                native_wei=_whole(answer["native_wei"], bits=256),
                tokens=_whole(answer["tokens"], bits=256),
                permit_nonce=_whole(answer["permit_nonce"], bits=256),
                free=_whole(answer["free"]),
                locked=_whole(answer["locked"]),
                seat=_whole(answer["seat"], bits=24),
                active=_flag(answer["active"]),
            )

    async def submit(self, raw: bytes) -> str:
        """Hand over a signed transaction; once this returns it may be forgotten. Returns its id."""
        answer = await self._json(_posted("/v1/transactions", {"raw": "0x" + raw.hex()}))
        with _understood("/v1/transactions"):
            return str(answer["id"])

    async def relay(self, call: bytes) -> str:
        """Hand over a call that carries its signatures; once this returns it may be forgotten. Returns its id."""
        answer = await self._json(_posted("/v1/operations", {"call": "0x" + call.hex()}))
        with _understood("/v1/operations"):
            return str(answer["id"])

    async def encounter(self, encounter_id: bytes) -> ChainView:
        """Ask how an encounter stands on chain."""
        answer = await self._json(_got(f"/v1/encounters/0x{encounter_id.hex()}"))
        with _understood("/v1/encounters"):
            state, updated, vote_by = EncounterState[answer["state"].upper()], answer["updated"], answer["vote_by"]
            if state is EncounterState.REPORTED and None in (updated, vote_by):
                raise ValueError("a voting about nothing, or without an end")
            return ChainView(
                state=state,
                salts=_salts(answer["salts"]),
                updated=None if updated is None else _digest(updated),
                panel=_panel(answer["panel"]),
                yes=_whole(answer["yes"], bits=8),
                no=_whole(answer["no"], bits=8),
                vote_by=None if vote_by is None else _whole(vote_by, bits=41),
                chain_time_s=_whole(answer["chain_time_s"], bits=40),
            )

    async def jobs(self, validator: str, *, wait_s: int = 0) -> tuple[list[Job], int]:
        """Ask which votes are open to a validator; also returns the chain's time.

        The gateway may take up to `wait_s` (at most 30) for an answer while there is none.
        """
        query = urlencode({"validator": validator} | ({"wait_s": wait_s} if wait_s else {}))
        answer = await self._json(_got(f"/v1/jobs?{query}"), silence_s=self._timeout_s + wait_s)
        with _understood("/v1/jobs"):
            jobs = [
                Job(
                    encounter=_digest(one["encounter"]),
                    terms=terms_from_json(one["terms"]),
                    updated=_digest(one["updated"]),
                    panel=_panel(one["panel"]),
                    position=_whole(one["position"], bits=8),
                    opens_at_s=_whole(one["opens_at_s"], bits=41),
                    vote_by_s=_whole(one["vote_by"], bits=41),
                )
                for one in answer["jobs"]
            ]
            return jobs, _whole(answer["chain_time_s"], bits=40)

    async def put_model(self, digest: bytes, data: bytes, *, part_bytes: int = _PART_BYTES) -> None:
        """Store a snapshot's canonical bytes under their SHA-256.

        More than `part_bytes` go in parts. After a fault call it again: it goes on behind what has arrived.
        """
        path = f"/v1/models/{digest.hex()}"
        if len(data) <= part_bytes:
            await self._json(_put(path, data))
            return
        start = await self._received(f"{path}/upload", len(data))
        while start < len(data):
            end = min(start + part_bytes, len(data))
            part = {"Content-Range": f"bytes {start}-{end - 1}/{len(data)}"}
            await self._json(_put(path, data[start:end], part))
            start = end

    async def _received(self, path: str, at_most: int) -> int:
        answer = await self._json(_got(path))
        with _understood(path):
            return min(_whole(answer["received_bytes"]), at_most)

    async def get_model(self, digest: bytes, *, max_bytes: int) -> bytes | None:
        """Fetch a snapshot, None if the gateway has none. Raises `GatewayRefused` if the bytes are others."""
        request = _got(f"/v1/models/{digest.hex()}")
        answer = await self._request(request, max_bytes=max_bytes)
        if answer.status == HTTPStatus.NOT_FOUND:
            return None
        _raise_for(answer)
        if hashlib.sha256(answer.body).digest() != digest:
            raise GatewayRefused(502, "digest_mismatch", "the gateway served other bytes", retry=False)
        return answer.body

    async def _json(self, request: Request, *, silence_s: float | None = None) -> _Json:
        answer = await self._request(request, silence_s=silence_s)
        _raise_for(answer)
        return _object(request, answer)

    async def _request(
        self, request: Request, *, silence_s: float | None = None, max_bytes: int = _MAX_ANSWER_BYTES
    ) -> Response:
        """Ask, and sign if there is an identity. Numbers that another run of this device used up are asked for anew."""
        if self._identity is None:
            return await self._send(request, silence_s=silence_s, max_bytes=max_bytes)
        for _ in range(_SIGNINGS):
            if self._signer is None:
                standing = self._standing(await self._send(_got(f"/v1/devices/{self._identity.address}")))
                self._signer = RequestSigner(self._identity, standing)
            signer = self._signer
            answer = await self._send(request, signer=signer, silence_s=silence_s, max_bytes=max_bytes)
            if not _is_replayed(answer):
                break
            if self._signer is signer:  # else another request has asked already
                self._signer = None
        return answer

    def _standing(self, answer: Response) -> Standing:
        _raise_for(answer)
        with _understood("/v1/devices"):
            told = _parsed(answer)
            standing = Standing(realm=str(told["realm"])[:80], counter=_whole(told["counter"], bits=62))
        if self._realm not in (None, standing.realm):
            raise GatewayUnreachable("this is not the gateway where the device was enrolled: its realm is another one")
        return standing

    async def _send(
        self,
        request: Request,
        *,
        signer: RequestSigner | None = None,
        silence_s: float | None = None,
        max_bytes: int = _MAX_ANSWER_BYTES,
    ) -> Response:
        """Ask once, and take at most `max_bytes` for an answer."""
        asked = f"{request.method} {request.target.partition('?')[0]}"
        request = replace(request, target=self._prefix + request.target)
        if signer is not None:
            request = signer.signed(request)
        try:
            answer = await self._transport.ask(request, silence_s=silence_s or self._timeout_s, max_bytes=max_bytes)
        except GatewayUnreachable as fault:
            self.away = True
            raise GatewayUnreachable(f"{asked}: {fault}") from fault
        self.away = False
        if answer.encoding not in ("", "identity"):
            raise GatewayUnreachable(f"{asked}: the answer is in an encoding that nobody asked for")
        if len(answer.body) > max_bytes:
            raise GatewayRefused(502, "too_large", f"an answer above {max_bytes} bytes", retry=False)
        return answer


def _got(target: str) -> Request:
    return Request(method="GET", target=target, headers=_PLAIN)


def _posted(target: str, value: _Json) -> Request:
    body = json.dumps(value, separators=(",", ":")).encode()
    return Request(method="POST", target=target, body=body, headers=_PLAIN | {"Content-Type": "application/json"})


def _put(target: str, data: bytes, part: Mapping[str, str] = MappingProxyType({})) -> Request:
    headers = {**_PLAIN, "Content-Type": "application/octet-stream", **part}
    return Request(method="PUT", target=target, body=data, headers=headers)


def _object(request: Request, answer: Response) -> _Json:
    try:
        told = _parsed(answer)
    except ValueError as error:
        raise GatewayUnreachable(f"{request.target}: the answer is not JSON") from error
    if not isinstance(told, dict):
        raise GatewayUnreachable(f"{request.target}: the answer is not an object")
    return told


def _is_replayed(answer: Response) -> bool:
    if answer.status != HTTPStatus.UNAUTHORIZED:
        return False
    try:
        return bool(_parsed(answer)["error"]["code"] == "replayed")
    except (ValueError, KeyError, TypeError):
        return False


def _parsed(answer: Response) -> Any:
    # Not `json`: that follows lists in lists as deep as the stack, or where the limit was raised, deeper.
    return from_json(answer.body, allow_inf_nan=False)


@contextmanager
def _understood(path: str) -> Iterator[None]:
    """Turn an answer of another shape than agreed on into `GatewayUnreachable`."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise GatewayUnreachable(f"{path}: the answer makes no sense: {type(error).__name__}: {error}") from error


def _whole(value: object, *, low: int = 0, bits: int = 128) -> int:
    if type(value) is not int or not low <= value < 1 << bits:
        raise ValueError(f"{str(value)[:40]} is no whole number from {low} to 2**{bits}")
    return value


def _flag(value: object) -> bool:
    if type(value) is not bool:
        raise TypeError(f"{str(value)[:40]} is neither true nor false")
    return value


def _rules(said: dict[str, object]) -> ParameterSet:
    return ParameterSet(**{name: _flag(one) if name in _FLAGS else _whole(one) for name, one in said.items()})  # type: ignore[arg-type]


def _address(value: str) -> str:
    if not _ADDRESS.fullmatch(value):
        raise ValueError(f"{value[:60]!r} is no address")
    return value


def _digest(value: str) -> bytes:
    if not _DIGEST.fullmatch(value):
        raise ValueError(f"{value[:80]!r} is no digest")
    return bytes.fromhex(value[2:])


def _salts(value: object) -> tuple[bytes, bytes] | None:
    if value is None:
        return None
    if not isinstance(value, list):
        raise TypeError(f"{str(value)[:80]!r} is no list of salts")
    learner, neighbor = value
    return _digest(learner), _digest(neighbor)


def _panel(value: object) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) > PANEL_SEATS:
        raise ValueError(f"{str(value)[:80]!r} is no list of at most {PANEL_SEATS} seats")
    return tuple(_whole(seat, low=1, bits=24) for seat in value)


def _raise_for(answer: Response) -> None:
    if answer.status < HTTPStatus.BAD_REQUEST:
        return
    gone = answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR
    try:
        error = _parsed(answer)["error"]
        code, message, retry = str(error["code"]), str(error["message"]), bool(error["retry"])
    except (ValueError, KeyError, TypeError):
        code, message, retry = "", "it does not say why", gone
    if gone:
        raise GatewayUnreachable(f"the gateway answered {answer.status} {code}: {message}")
    raise GatewayRefused(answer.status, code, message, retry=retry)
