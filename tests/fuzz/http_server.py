"""A server on loopback that sends the bytes that it is told to."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
from collections.abc import Callable

from http_answers import Plan

__all__ = ["RawServer"]

IDLE = 0.1
HELD = 5.0


class RawServer:
    """Answers each POST by the plan for the id in it. A context manager, in a thread of its own.

    :param plan_for: makes the plan.
    :ivar seen: the ids that arrived whole.
    :ivar connections: how many are open.
    """

    def __init__(self, plan_for: Callable[[int], Plan]) -> None:
        self.plan_for = plan_for
        self.seen: set[int] = set()
        self.connections = 0
        self.port = 0
        self._ready = threading.Event()
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="raw server")

    def __enter__(self) -> RawServer:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner() as runner:
            self._loop = runner.get_loop()
            runner.run(self._main())

    async def _main(self) -> None:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=256)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._ended.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            limit = 10.0
            while await self._answer(reader, writer, limit):
                limit = IDLE
        except (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError, asyncio.CancelledError):
            pass
        finally:
            self.connections -= 1
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: float) -> bool:
        """Serve one request; returns whether the connection stays open."""
        async with asyncio.timeout(limit):
            head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line.partition(b":")[2]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
        number = json.loads(await reader.readexactly(length))["id"]
        self.seen.add(number)
        plan = self.plan_for(number)
        for index, piece in enumerate(plan.pieces):
            if index:
                await asyncio.sleep(0.001)
            writer.write(piece)
        if plan.end == "keep":
            await writer.drain()
            return True
        if plan.end == "hold":
            # Until the client goes away, or asks something else.
            async with asyncio.timeout(HELD):
                await reader.read(65_536)
        elif plan.end == "reset":
            sock: socket.socket = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        return False
