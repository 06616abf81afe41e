"""Who may come in: checks a request before its route runs."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from flask import Request, g

from contracts import signing
from contracts.requests import SCHEME, Proof, read_proof, request_digest
from gateway.accounts import checked_address
from gateway.bodies import claimed_sha256
from gateway.config import Access
from gateway.enrolment import Enrolment
from gateway.errors import Code, Refusal

PUBLIC: Final = frozenset(
    {
        "devices.get_device",
        "devices.post_device",
        "facts.get_account",
        "facts.get_chain",
        "facts.get_encounter",
        "feed.get_events",
        "health.get_health",
        "health.get_ready",
    }
)
"""Routes that anyone may ask, enrolled or not: what the chain shows to everybody, and how to be enrolled."""


class Door:
    """Lets requests in, by the gateway's settings."""

    def __init__(self, *, access: Access, enrolment: Enrolment) -> None:
        """Set who has to sign, and where devices are known."""
        self._access = access
        self._enrolment = enrolment

    def admit(self, request: Request) -> None:
        """Check one request, and set `g.account` to the enrolled account that made it, else None. Raises `Refusal`."""
        g.account = None
        if request.endpoint is None:
            return  # nothing is there: the same answer for all
        if "Authorization" in request.headers:
            g.account = self._signer(request)
        elif self._access is Access.ENROLLED and request.endpoint not in PUBLIC:
            words = "only enrolled devices are served here: sign the request"
            raise Refusal(401, Code.NOT_SIGNED, words, headers=self._challenge())

    def _signer(self, request: Request) -> str:
        """The enrolled device that signed a request, once."""
        try:
            proof = read_proof(request.headers["Authorization"])
        except ValueError as error:
            raise self._not_signed_by_device(str(error)) from None
        account = checked_address(proof.account)
        self._check_signature(request, proof, account)
        self._enrolment.use(account, proof.counter)
        return account

    def _check_signature(self, request: Request, proof: Proof, account: str) -> None:
        digest = request_digest(
            realm=self._enrolment.realm(),
            account=account,
            counter=proof.counter,
            method=request.method,
            target=target_of(request),
            body_sha256=claimed_sha256(request) or b"",
        )
        if signing.signer(digest, proof.signature) != account:
            raise self._not_signed_by_device(f"the signature is not {account}'s of this request to this gateway")

    def _not_signed_by_device(self, why: str) -> Refusal:
        return Refusal(401, Code.BAD_REQUEST_SIGNATURE, why, headers=self._challenge())

    def _challenge(self) -> dict[str, str]:
        return {"WWW-Authenticate": f'{SCHEME} realm="{self._enrolment.realm()}"'}


def target_of(request: Request) -> str:
    """Return path and query of a request as they were sent."""
    raw = request.environ.get("REQUEST_URI")  # of waitress; elsewhere put together from what was understood of it
    if isinstance(raw, str) and raw.startswith("/"):
        return raw
    query = request.query_string.decode("latin-1")
    return quote(request.path, safe="/:@!$&'()*+,;=~") + (f"?{query}" if query else "")
