"""Enrolment: a device redeems a token, and asks from which number on it is to sign."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from flask import Blueprint, Response, jsonify

from contracts import signing
from contracts.requests import enrolment_digest
from gateway.accounts import checked_address
from gateway.bodies import from_hex, json_members
from gateway.enrolment import Device, Enrolment
from gateway.errors import Code, Refusal
from gateway.views import Json
from gateway.visit import visit

_MAX_BYTES: Final = 1024


def device_routes(*, enrolment: Enrolment, now_s: Callable[[], float]) -> Blueprint:
    """Enrol devices."""
    routes = Blueprint("devices", __name__)

    def view(device: Device) -> Json:
        return {"account": device.account, "realm": enrolment.realm(), "counter": device.counter}

    @routes.post("/v1/devices")
    def post_device() -> tuple[Response, int]:
        body = json_members(visit().asked, "token", "account", "signature", max_bytes=_MAX_BYTES)
        token, account = body["token"], checked_address(body["account"])
        signature = from_hex("signature", body["signature"])
        if signing.signer(enrolment_digest(token=token, account=account), signature) != account:
            raise Refusal(400, Code.BAD_SIGNATURE, f"the signature is not {account}'s of this token")
        device, new = enrolment.redeem(token, account, now_s=now_s())
        return jsonify(view(device)), 201 if new else 200

    @routes.get("/v1/devices/<account>")
    def get_device(account: str) -> Response:
        device = enrolment.device(checked_address(account))
        if device.revoked:
            raise Refusal(403, Code.NOT_ENROLLED, f"{device.account} is not enrolled at this gateway any more")
        return jsonify(view(device))

    return routes
