"""bluetoothd and its controllers, in the guest: started, killed, unplugged."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from packages import BLUETOOTHD

from device_agent.errors import BluetoothFault
from device_agent.radio.bluez import Bluez

ADAPTERS = ("hci0", "hci1")
_PATIENCE_S = 30.0
_ANSWER_S = 5.0


class Stack:
    """Two adapters and the daemon that drives them; a world for bluez_experiments.py."""

    silence_s = 3.0

    def __init__(self, folder: Path) -> None:
        self._log = folder / "bluetooth.log"
        self._controllers: asyncio.subprocess.Process | None = None
        self._daemon: asyncio.subprocess.Process | None = None

    async def start(self, *, legacy: bool = False) -> None:
        """Plug in both controllers and start bluetoothd; return when both adapters are on."""
        program = Path(__file__).with_name("controllers.py")
        pipe = asyncio.subprocess.PIPE
        with self._log.open("ab") as log:
            self._controllers = await asyncio.create_subprocess_exec(
                sys.executable, str(program), stdin=pipe, stdout=pipe, stderr=log
            )
        for number in range(len(ADAPTERS)):
            await self.plug(number, legacy=legacy)
        await self.start_daemon()
        await self.powered(*ADAPTERS)

    async def stop(self) -> None:
        """End both."""
        await self.kill_daemon()
        if self._controllers is not None:
            self._controllers.kill()
            await self._controllers.wait()
            self._controllers = None

    async def start_daemon(self) -> None:
        """Start bluetoothd; it is not asked whether it is up."""
        with self._log.open("ab") as log:
            self._daemon = await asyncio.create_subprocess_exec(str(BLUETOOTHD), "-n", stdout=log, stderr=log)

    async def kill_daemon(self) -> None:
        """End bluetoothd without a word."""
        if self._daemon is not None:
            self._daemon.kill()
            await self._daemon.wait()
            self._daemon = None

    async def plug(self, number: int, *, legacy: bool = False) -> None:
        """Plug in a controller."""
        await self._command("open", str(number), *(["legacy"] if legacy else []))

    async def unplug(self, number: int) -> None:
        """Take a controller out."""
        await self._command("close", str(number))

    async def rssi(self, dbm: int) -> None:
        """Let each adapter hear the other with this strength; 127 where it is unknown."""
        await self._command("rssi", str(dbm))

    async def say(self, address: str, data: bytes) -> None:
        """Let each adapter hear one advertisement of a stranger, with these bytes in it."""
        await self._command("say", address, data.hex())

    async def join(self, address: str, data: bytes, record: bytes = b"") -> None:
        """Let a device of its own show these bytes from now on, and tell a record to who connects."""
        await self._command("join", address, data.hex(), *([record.hex()] if record else []))

    async def leave(self, address: str) -> None:
        """Let such a device vanish."""
        await self._command("leave", address)

    async def turn(self, adapter: str, on: bool) -> None:
        """Turn an adapter on or off, as another program would."""
        bluez = await Bluez.connected(_ANSWER_S)
        try:
            await bluez.set_power(adapter, on)
        finally:
            bluez.close()

    async def powered(self, *adapters: str) -> None:
        """Wait until these adapters are on. Raises `TimeoutError`."""
        async with asyncio.timeout(_PATIENCE_S):
            while not set(adapters) <= await _powered():  # noqa: ASYNC110 - in another program's view
                await asyncio.sleep(0.05)

    def said(self) -> str:
        """Return the last of what bluetoothd and the controllers said."""
        return self._log.read_text(errors="replace")[-6000:]

    async def _command(self, *words: str) -> None:
        assert self._controllers
        assert self._controllers.stdin
        assert self._controllers.stdout
        self._controllers.stdin.write(f"{' '.join(words)}\n".encode())
        async with asyncio.timeout(_PATIENCE_S):
            answer = await self._controllers.stdout.readline()
        assert answer == b"done\n", self.said()


@contextlib.asynccontextmanager
async def stack_in(folder: Path, *, legacy: bool = False) -> AsyncIterator[Stack]:
    """Both, for as long as the block lasts; what they said is shown if it fails."""
    stack = Stack(folder)
    try:
        await stack.start(legacy=legacy)
        yield stack
    except BaseException:
        print(stack.said())
        raise
    finally:
        await stack.stop()


async def _powered() -> set[str]:
    try:
        bluez = await Bluez.connected(_ANSWER_S)
        try:
            return {one.name for one in await bluez.adapters() if one.powered}
        finally:
            bluez.close()
    except BluetoothFault:
        return set()
