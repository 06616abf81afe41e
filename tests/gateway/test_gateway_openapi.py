"""The description says what the application does: route by route, and for thousands of requests made up from it."""

import re

import pytest
import schemathesis
from gateway_rig import Rig
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from gateway.errors import Code
from gateway.openapi import description


def test_every_route_is_described_and_nothing_else(rig: Rig) -> None:
    rules = rig.client.application.url_map.iter_rules()
    offered = {
        (re.sub(r"<(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in rules
        for method in (rule.methods or set()) - {"HEAD"}
    }
    described = {(path, method) for path, methods in description()["paths"].items() for method in methods}
    assert offered == described


def test_every_code_is_described() -> None:
    told = description()["components"]["schemas"]["Error"]["properties"]["error"]["properties"]["code"]["enum"]
    assert told == [code.value for code in Code]


MADE_UP = [
    (path, method, mode)
    for path, methods in description()["paths"].items()
    for method, operation in methods.items()
    for mode in GenerationMode
    if mode is GenerationMode.POSITIVE or operation["parameters"] or "requestBody" in operation
]


@pytest.mark.parametrize(("path", "method", "mode"), MADE_UP)
def test_no_request_made_up_from_the_description_finds_a_fault(
    rig: Rig, path: str, method: str, mode: GenerationMode
) -> None:
    """Good ones and bad ones: each answer is described, and no bad one is taken."""
    rig.worker.confirm()
    schema = schemathesis.openapi.from_wsgi("/v1/openapi.json", rig.client.application)

    @given(case=schema[path][method].as_strategy(generation_mode=mode))
    @settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    def served(case: schemathesis.Case) -> None:
        case.call_and_validate(excluded_checks=[positive_data_acceptance])

    served()
