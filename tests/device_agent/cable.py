"""A cable between two sockets that a test can cut, stall and mend: it counts what comes down it."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from device_agent.radio import Endpoint

_BLOCK_BYTES = 16 << 10


class Cable:
    """Carries bytes to and from an endpoint; `carried` counts those that come from there."""

    def __init__(self, to: Endpoint) -> None:
        self._to = to
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._cut_at: int | None = None
        self._stall_at: int | None = None
        self._for_good = False
        self.carried = 0
        self.cuts = 0
        self.cut, self.stalled = asyncio.Event(), asyncio.Event()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._plug, "127.0.0.1", 0)
        return self

    async def __aexit__(self, _kind: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def endpoint(self) -> Endpoint:
        assert self._server is not None
        return Endpoint(host="127.0.0.1", port=self._server.sockets[0].getsockname()[1])

    def cut_after(self, more_bytes: int, *, for_good: bool = False) -> None:
        """Cut once that much has come; a cable that is not cut for good can be used again at once."""
        self._cut_at, self._for_good = self.carried + more_bytes, for_good

    def stall_after(self, more_bytes: int) -> None:
        """Let nothing more through once that much has come, and tell nobody."""
        self._stall_at = self.carried + more_bytes

    def mend(self) -> None:
        """Use it as before."""
        self._cut_at = self._stall_at = None
        self._for_good = False

    async def _plug(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        if self._for_good and self.cuts:
            writer.transport.abort()
            return
        try:
            there, back = await asyncio.open_connection(self._to.host, self._to.port)
        except OSError:
            writer.transport.abort()
            return
        self._writers.add(back)
        try:
            await asyncio.gather(self._carry(reader, back, count=False), self._carry(there, writer, count=True))
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            for one in (writer, back):
                one.transport.abort()
                self._writers.discard(one)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, count: bool) -> None:
        while data := await reader.read(_BLOCK_BYTES):
            if count:
                self.carried += len(data)
                if self._stall_at is not None and self.carried >= self._stall_at:
                    self.stalled.set()
                    await asyncio.sleep(3600)
                if self._cut_at is not None and self.carried >= self._cut_at:
                    self._cut_at = None
                    self.cuts += 1
                    self.cut.set()
                    for one in list(self._writers):
                        one.transport.abort()
                    raise ConnectionResetError
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError
