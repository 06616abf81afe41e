"""Hosts for a field of agents, all of which are the guest: what they share is a network, and no multicast is needed."""

from __future__ import annotations

import subprocess
from types import TracebackType
from typing import Any, Self

from namespaces import kill

GUEST_IP = "10.77.0.1"
"""Of the network card to nowhere, see init.sh: each agent answers there, at a port of its own."""


class GuestHost:
    """The guest, as a host on which programs are started."""

    ip = GUEST_IP

    def __init__(self) -> None:
        self._started: list[subprocess.Popen[str]] = []

    def popen(self, command: list[str], **options: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen(command, text=True, **options)
        self._started.append(process)
        return process

    def remove(self) -> None:
        """Kill what still runs of it."""
        kill(self._started)


class GuestBridge:
    """As many hosts as are wanted; what was started on them ends with the block."""

    def __init__(self, hosts: int) -> None:
        self.hosts = [GuestHost() for _ in range(hosts)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        for host in self.hosts:
            host.remove()
