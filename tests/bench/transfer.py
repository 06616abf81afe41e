"""How fast a snapshot crosses the link, beside the same number of bytes over plain TLS on the same veth."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "field"))

from namespaces import Bridge, what_is_missing

_PEER = str(Path(__file__).with_name("link_peer.py"))
_ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}


@contextmanager
def two_hosts() -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield the first one's address, and what begins a command on each; without root, both are this machine."""
    if what_is_missing() is None:
        with Bridge(2) as bridge:
            serving, fetching = bridge.hosts
            enter = ["ip", "netns", "exec"]
            yield serving.ip, [*enter, serving.namespace], [*enter, fetching.namespace]
    else:
        yield "127.0.0.1", [], []


def transfers(rounds: int) -> list[tuple[float, float]]:
    """Return the seconds of each transfer: over the link, and over plain TLS right before it."""
    with two_hosts() as (address, here, there):
        serving = subprocess.Popen(
            [*here, sys.executable, _PEER, "serve", address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=_ENVIRONMENT,
        )
        try:
            assert serving.stdout is not None
            port, plain_port, digest = serving.stdout.readline().split()
            command = [*there, sys.executable, _PEER, "fetch", address, port, plain_port, digest, str(rounds)]
            done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300, env=_ENVIRONMENT)
        finally:
            serving.communicate(timeout=20)
    return [(link_s, plain_s) for link_s, plain_s in json.loads(done.stdout)]
