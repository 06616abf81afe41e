"""How an agent is doing: asked over a socket in its folder while it runs, read from its journal while it does not."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from device_agent.encounter import Encounter, Stage
from device_agent.errors import StorageFault
from device_agent.journal import Journal, Operation

Json = dict[str, Any]

SOCKET = "status.sock"
_LONGEST_S = 10.0
_MOST_BYTES = 4 << 20
_SHOWN = 50


def encounter_facts(one: Encounter) -> Json:
    """What people want to know of an encounter."""
    return {
        "key": one.key.hex(),
        "role": one.role.value,
        "stage": one.stage.value,
        "peer": one.peer,
        "reward": str(one.proposal.reward),
        "on_credit": one.proposal.credit,
        "reason": one.reason,
    }


def outbox_facts(one: Operation, error: str | None) -> Json:
    """What people want to know of an operation that no gateway has taken yet."""
    return {"what": one.label, "relayed": one.relayed, "nonce": one.nonce, "last_refusal": error}


def remembered(journal: Journal) -> Json:
    """What the journal alone tells."""
    refusals = journal.refusals()
    errors = dict(refusals)
    waiting = journal.undelivered()
    live = journal.live_encounters()
    return {
        "encounters": [encounter_facts(one) for one in live[:_SHOWN]],
        "encounters_in_all": len(live),
        "outbox": [outbox_facts(one, errors.get(one.label)) for one in waiting[:_SHOWN]],
        "outbox_in_all": len(waiting),
        "lost": [encounter_facts(one) for one in journal.ended(Stage.ABANDONED, limit=_SHOWN) if one.terms is not None],
        "refused": [{"what": label, "why": why} for label, why in refusals[-_SHOWN:]],
    }


async def answer(folder: Path, status: Callable[[], Awaitable[Json]]) -> asyncio.Server:
    """Answer whoever connects to the socket in `folder`: this machine's users who may enter it.

    Raises `StorageFault` if there can be no socket.
    """

    async def tell(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(_LONGEST_S):
                writer.write(json.dumps(await status()).encode())
                await writer.drain()
        writer.close()

    place = folder / SOCKET
    try:
        place.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(tell, place)
        place.chmod(0o660)
    except OSError as error:
        raise StorageFault(f"{place}: {error.strerror or error}") from error
    return server


def ask(folder: Path) -> Json | None:
    """Ask the agent that runs in `folder`; None if none does. Raises `StorageFault` for one that does not answer."""
    place = folder / SOCKET
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(_LONGEST_S)
        try:
            asking.connect(str(place))
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except OSError as error:
            raise StorageFault(f"{place}: {error.strerror or error}") from error
        data = b""
        try:
            while (more := asking.recv(1 << 16)) and len(data) < _MOST_BYTES:
                data += more
            found = json.loads(data)
        except (OSError, ValueError) as error:
            raise StorageFault(f"{place}: the agent runs, but gives no useful answer") from error
    if not isinstance(found, dict):
        raise StorageFault(f"{place}: the agent runs, but gives no useful answer")
    return found
