"""Who may come in: checks a request before its route runs."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final
from urllib.parse import quote

from flask import Request, Response

from contracts import signing
from contracts.requests import SCHEME, Proof, read_proof, request_digest
from gateway.accounts import checked_address
from gateway.backlog import Backlog
from gateway.bodies import claimed_sha256
from gateway.config import Access
from gateway.enrolment import Enrolment
from gateway.errors import Code, Refusal
from gateway.turnstile import Turnstile
from gateway.visit import Visit

PUBLIC: Final = frozenset(
    {
        "description.get_openapi",
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


OPERATORS: Final = frozenset({"get_dashboard", "get_metrics", "get_status"})
"""Routes for who runs the gateway: unsigned from its own machine alone, where not everybody is served."""
_WORK: Final = frozenset({"work.post_operation", "work.post_transaction"})
"""Routes that find out from what they are handed whose it is."""
_THIS_MACHINE: Final = frozenset({"127.0.0.1", "::1"})
_UNCOUNTED: Final = frozenset({"health.get_health"})


class Door:
    """Lets requests in, by the gateway's settings.

    Every request is counted once: for the device that made it if that is proved, else for the address it comes from.
    """

    def __init__(self, *, access: Access, enrolment: Enrolment, turnstile: Turnstile, backlog: Backlog) -> None:
        """Set who has to sign, where devices are known, and how much may come."""
        self._access = access
        self._enrolment = enrolment
        self._turnstile = turnstile
        self._backlog = backlog

    def admit(self, visit: Visit) -> None:
        """Check a request, and find out which enrolled account made it, if any proves that. Raises `Refusal`."""
        request = visit.asked
        visit.counted = request.endpoint in _UNCOUNTED
        peer = _peer(request)
        if "HTTP_AUTHORIZATION" in request.environ:
            account = self._signer(request, peer)
            visit.account, visit.counted = account, True
            self._turnstile.device(account)
        elif self._access is Access.ENROLLED and not _is_public(request):
            self._turnstile.look(peer)
            words = "only enrolled devices are served here: sign the request"
            raise Refusal(401, Code.NOT_SIGNED, words, headers=self._challenge())
        elif request.endpoint in _WORK:
            self._turnstile.look(peer)
        elif not visit.counted:
            visit.counted = True
            self._turnstile.peer(peer)

    def admit_work(self, visit: Visit, account: str | None, new: bool) -> None:
        """Check a piece of work that a request brings, once it is known whose it is. Raises `Refusal`."""
        if not visit.counted and account is not None:
            visit.counted = True
            self._turnstile.device(account)
        if new:
            self._backlog.check(account)

    def leave(self, visit: Visit, response: Response) -> Response:
        """Count a request for its address if it was refused before it was counted for anybody.

        Not if it was one too many: what a noisy device asks in vain would be counted for all at its address.
        """
        if not visit.counted and response.status_code != HTTPStatus.TOO_MANY_REQUESTS:
            self._turnstile.blame(_peer(visit.asked))
        return response

    def _signer(self, request: Request, peer: str) -> str:
        """The enrolled device that signed a request, once."""
        self._turnstile.look(peer)
        try:
            proof = read_proof(request.environ["HTTP_AUTHORIZATION"])
        except ValueError as error:
            raise self._not_signed_by_device(str(error)) from None
        account = checked_address(proof.account)
        self._turnstile.look(peer, account)
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


def _is_public(request: Request) -> bool:
    if request.endpoint in OPERATORS:
        return _peer(request) in _THIS_MACHINE
    return request.endpoint is None or request.endpoint in PUBLIC  # None: nothing is there


def _peer(request: Request) -> str:
    return request.remote_addr or "an unknown address"


def target_of(request: Request) -> str:
    """Return path and query of a request as they were sent."""
    raw = request.environ.get("REQUEST_URI")  # of waitress; elsewhere put together from what was understood of it
    if isinstance(raw, str) and raw.startswith("/"):
        return raw
    query = request.query_string.decode("latin-1")
    return quote(request.path, safe="/:@!$&'()*+,;=~") + (f"?{query}" if query else "")
