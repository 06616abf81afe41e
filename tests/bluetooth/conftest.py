"""Tests on a real bluetoothd: they run inside the kernel that laboratory.py boots, and nowhere else."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

# What plays in both worlds is beside the fake one, and agents as processes are in the field.
for folder in ("device_agent", "field"):
    sys.path.append(str(Path(__file__).parents[1] / folder))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not os.environ.get("IDML_GUEST"):
        for one in items:
            if Path(__file__).parent in one.path.parents:
                one.add_marker(pytest.mark.skip(reason="runs in a kernel of its own: make test-bluetooth, as root"))
