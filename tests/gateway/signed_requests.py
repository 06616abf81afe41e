"""Devices that sign their requests by hand, so that a test can do it wrongly."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from gateway_rig import ALICE, Rig
from werkzeug.test import TestResponse

from contracts.identity import Identity
from contracts.requests import Proof, request_digest, write_content_digest, write_proof
from gateway.enrolment import Enrolment

DAY_S = 86_400.0


def identity(who: Any) -> Identity:
    return Identity(bytes(who.key))


def code(response: TestResponse) -> str:
    return str(response.json["error"]["code"])


@dataclass
class SignedDevice:
    """Signs by hand, so that a test can do it wrongly."""

    rig: Rig
    identity: Identity
    counter: int = 0
    realm: str = field(init=False)

    def __post_init__(self) -> None:
        self.realm = Enrolment(self.rig.database).realm()

    def headers(
        self, method: str, target: str, body: bytes = b"", changes: Mapping[str, Any] = MappingProxyType({})
    ) -> dict[str, str]:
        self.counter += 1
        sha256 = hashlib.sha256(body).digest()
        signed: dict[str, Any] = {
            "realm": self.realm,
            "account": self.identity.address,
            "counter": self.counter,
            "method": method,
            "target": target,
            "body_sha256": sha256,
        }
        signed.update(changes)
        signature = self.identity.sign_digest(request_digest(**signed))
        proof = Proof(account=signed["account"], counter=signed["counter"], signature=signature)
        return {"Authorization": write_proof(proof), "Content-Digest": write_content_digest(sha256)}

    def ask(
        self, method: str, target: str, body: bytes = b"", changes: Mapping[str, Any] = MappingProxyType({})
    ) -> TestResponse:
        headers = self.headers(method, target, body, changes)
        return self.rig.client.open(target, method=method, data=body, headers=headers, buffered=True)


def enrolled(rig: Rig, who: Any = ALICE) -> SignedDevice:
    enrolment = Enrolment(rig.database)
    (token,) = enrolment.issue(1, name=None, valid_s=DAY_S, now_s=rig.now_s)
    enrolment.redeem(token, who.address, now_s=rig.now_s)
    return SignedDevice(rig, identity(who))
