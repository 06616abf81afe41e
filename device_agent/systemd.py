"""What an agent tells systemd, if systemd started it: that it is ready, still alive, about to stop (sd_notify(3))."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping
from contextlib import suppress

READY, ALIVE, STOPPING = "READY=1", "WATCHDOG=1", "STOPPING=1"


def notify(state: str, environment: Mapping[str, str] = os.environ) -> None:
    """Send one state to whoever listens; nobody, or nobody any more, is no fault."""
    place = environment.get("NOTIFY_SOCKET", "")
    if not place.startswith(("/", "@")):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as telling, suppress(OSError):
        telling.sendto(state.encode(), place.replace("@", "\0", 1) if place.startswith("@") else place)


def watchdog_s(environment: Mapping[str, str] = os.environ) -> float | None:
    """Return how often systemd wants to hear that this process is alive, None if it does not."""
    wanted, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", str(os.getpid()))
    if not wanted.isdecimal() or not int(wanted) or pid != str(os.getpid()):
        return None
    return int(wanted) / 1e6


async def keep_alive(environment: Mapping[str, str] = os.environ) -> None:
    """Say so for as long as the event loop turns: twice within the time that systemd allows."""
    every_s = watchdog_s(environment)
    while every_s is not None:
        notify(ALIVE, environment)
        await asyncio.sleep(every_s / 2)
