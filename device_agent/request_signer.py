"""Signs a device's requests to one gateway, so that it serves them, once each."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from contracts.identity import Identity
from contracts.requests import (
    EMPTY_SHA256,
    MAX_COUNTER,
    Proof,
    request_digest,
    write_content_digest,
    write_proof,
)
from device_agent.errors import GatewayUnreachable
from device_agent.transport import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a gateway knows of a device that is enrolled there.

    Attributes:
        realm: what the gateway calls itself in what is signed.
        counter: the highest number of a request it has seen.
    """

    realm: str
    counter: int


class RequestSigner:
    """Numbers and signs requests. The numbers go on from what the gateway has seen: none need be kept here."""

    def __init__(self, identity: Identity, standing: Standing) -> None:
        """Sign with an enrolled account's key. Raises `GatewayUnreachable` for a counter that leaves no number."""
        if not 0 <= standing.counter < MAX_COUNTER:
            raise GatewayUnreachable(f"the gateway counts requests up to {standing.counter}: that cannot be")
        self._identity = identity
        self._realm = standing.realm
        self._last = standing.counter

    def signed(self, request: Request) -> Request:
        """Return the request with a number of its own and the headers that prove who asks."""
        self._last += 1
        body_sha256 = hashlib.sha256(request.body).digest() if request.body else EMPTY_SHA256
        account = self._identity.address
        digest = request_digest(
            realm=self._realm,
            account=account,
            counter=self._last,
            method=request.method,
            target=request.target,
            body_sha256=body_sha256,
        )
        proof = Proof(account=account, counter=self._last, signature=self._identity.sign_digest(digest))
        said = {"Authorization": write_proof(proof), "Content-Digest": write_content_digest(body_sha256)}
        return replace(request, headers={**request.headers, **said})
