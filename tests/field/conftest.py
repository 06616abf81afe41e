"""Tests that need networks of their own: skipped where nobody can make one, but not in CI."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from namespaces import Bridge, what_is_missing


def need(*programs: str) -> None:
    """Skip the test if a network cannot be made with these programs; fail where all must be there."""
    missing = what_is_missing(*programs)
    if missing and os.environ.get("CI"):
        pytest.fail(missing)
    if missing:
        pytest.skip(missing)


@pytest.fixture
def bridge(request: pytest.FixtureRequest) -> Iterator[Callable[[int], Bridge]]:
    """A function (hosts) that returns a network; mark a test with `programs` for what it needs besides `ip`."""
    marker = request.node.get_closest_marker("programs")
    need(*(marker.args if marker else ()))
    with ExitStack() as stack:
        yield lambda hosts: stack.enter_context(Bridge(hosts))
