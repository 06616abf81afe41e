"""What holds for every test."""

import signal

import pytest
from hypothesis import settings

# Started in the background of a script, a process inherits that SIGINT is ignored, and hands it on to what it starts:
# no test could see Ctrl-C then.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How much is tried at random: `make test` as hypothesis does by itself, `make thorough` more. What is slow takes a
# share of it, and foundry.toml has a profile of the same name.
settings.register_profile("thorough", max_examples=1000)

SLOWEST = (
    "test_demos.py",
    "test_soak.py",
    "test_simulation.py",
    "test_forge.py",
    "test_attacks.py",
    "test_settlement.py",
    "test_lives.py",
)
"""Begun first, so that no process is left alone with them at the end."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("two real Bluetooth radios (tests/hardware)")
    group.addoption("--hardware", metavar="WHERE", help="the other radio: an adapter here, or HOST:CHECKOUT by ssh")
    group.addoption("--adapter", default="hci0", metavar="NAME", help="the radio of this machine (default: hci0)")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: SLOWEST.index(item.path.name) if item.path.name in SLOWEST else len(SLOWEST))
