"""Which signed operations this gateway takes: pure checks of calldata and its signatures, before anything is stored.

An operation is the calldata of one call of the signed door. Who signed it need not send it: the gateway puts many
into one transaction of its own (`gateway.composer`).
"""

from __future__ import annotations

from dataclasses import dataclass

from eth_hash.auto import keccak

from contracts import signing
from contracts.calls import (
    Act,
    Call,
    Expire,
    Finalise,
    Open,
    Permit,
    ReportSigned,
    VoteSigned,
    encounter_of,
    function_name,
)
from contracts.calls import decode as decode_call
from contracts.errors import MalformedCalldata, MalformedTerms, UnknownCall
from contracts.terms import Domain, both_salts, commitment
from gateway.errors import Code, Refusal

MAX_OPERATION_BYTES = 2048
"""No operation of a device is longer."""

TAKEN = (Open, Act, Permit, ReportSigned, VoteSigned, Finalise, Expire)
"""Kinds of calls that are relayed as operations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedOperation:
    """An operation whose signatures are those of whom it is about.

    Attributes:
        id: Keccak-256 of the calldata, 0x-prefixed.
        data: the calldata as it was handed over.
        call: what it says.
        encounter: the encounter it is about, 0x-prefixed; None for an account's own step.
        account: who signed it; None where nobody has to.
    """

    id: str
    data: bytes
    call: Call
    encounter: str | None
    account: str | None

    @property
    def name(self) -> str:
        """The called function's Solidity name."""
        return function_name(self.call)


def check_operation(data: bytes, domain: Domain) -> CheckedOperation:
    """Check calldata from anywhere.

    Raises `Refusal` with a stable code and nothing else: 400 for bytes that are no operation or not signed by whom they
    name, 422 for a call this gateway does not relay.
    """
    if not 4 <= len(data) <= MAX_OPERATION_BYTES:
        raise _malformed(f"an operation has 4 to {MAX_OPERATION_BYTES} bytes, got {len(data)}")
    try:
        call = decode_call(data)
    except UnknownCall as error:
        words = f"{error}: perhaps a gateway of another version knows it"
        raise Refusal(400, Code.UNKNOWN_OPERATION, words) from error
    except (MalformedCalldata, MalformedTerms) as error:
        raise _malformed(str(error)) from error
    if not isinstance(call, TAKEN):
        words = f"{function_name(call)} carries no signature that others could send: sign a transaction"
        raise Refusal(422, Code.UNKNOWN_CALL, words)
    encounter = encounter_of(call, domain)
    return CheckedOperation(
        id="0x" + keccak(data).hex(),
        data=data,
        call=call,
        encounter=None if encounter is None else "0x" + encounter.hex(),
        account=_signer(call, encounter or b"", domain),
    )


def _signer(call: Call, encounter: bytes, domain: Domain) -> str | None:
    match call:
        case Open(terms=terms):
            if terms.nonce == 0:
                raise Refusal(422, Code.WRONG_DOOR, "terms with nonce 0 are for the direct door: send two check-ins")
            _expect(terms.learner, encounter, call.learner_r + call.learner_vs, "the Learner's")
            _expect(terms.neighbor, encounter, call.neighbor_r + call.neighbor_vs, "the Neighbor's")
            return terms.learner
        case Act(action=action):
            _expect(action.account, signing.action_digest(action, domain), call.r + call.vs, "the account's")
            return action.account
        case Permit():
            return call.owner  # its digest takes the token's nonce: the chain checks it
        case ReportSigned():
            return _reporter(call, encounter, domain)
        case VoteSigned():
            if not call.reason.allows(valid=call.valid):
                raise _malformed(f"reason {call.reason.name.lower()} does not go with valid = {call.valid}")
            digest = signing.vote_digest(encounter, call.updated, domain, valid=call.valid, reason=call.reason)
            voter = signing.signer(digest, call.r + call.vs)
            if voter is None:
                raise Refusal(400, Code.BAD_SIGNATURE, "no account can be recovered from the vote's signature")
            return voter
        case _:
            return None


def _reporter(call: ReportSigned, encounter: bytes, domain: Domain) -> str:
    """Whose half of a report it is: the other half of the signatures must be zeros."""
    terms = call.terms
    if terms.nonce == 0:
        raise Refusal(422, Code.WRONG_DOOR, "an encounter of nonce 0 takes reports by transaction, from both sides")
    if both_salts(commitment(call.learner_salt), commitment(call.neighbor_salt)) != terms.salts:
        raise _malformed("the salts are not those of the terms")
    size = signing.SIGNATURE_BYTES
    if len(call.signatures) != 2 * size:
        raise _malformed(f"signatures must have {2 * size} bytes, got {len(call.signatures)}")
    digest = signing.report_digest(encounter, call.updated, domain)
    halves = {terms.learner: call.signatures[:size], terms.neighbor: call.signatures[size:]}
    signed = [account for account, half in halves.items() if half != signing.MISSING]
    if len(signed) != 1:
        raise _malformed("each side hands in its own report: one signature, and zeros for the other side's")
    _expect(signed[0], digest, halves[signed[0]], "the report's")
    return signed[0]


def _expect(account: str, digest: bytes, signature: bytes, whose: str) -> None:
    found = signing.signer(digest, signature)
    if found != account:
        raise Refusal(400, Code.BAD_SIGNATURE, f"{whose} signature is by {found or 'nobody'}, not by {account}")


def over_after(call: Call) -> int | None:
    """Chain time (s) after which an operation can do nothing any more; None where its encounter tells."""
    match call:
        case Open(terms=terms):
            return terms.open_by
        case Act(action=action):
            return action.deadline
        case Permit():
            return call.deadline
        case _:
            return None


def _malformed(why: str) -> Refusal:
    return Refusal(400, Code.MALFORMED_OPERATION, why)
