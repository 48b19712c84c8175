"""One connection: reads requests as HTTP/1.1 frames them, and does with each what its toxics say."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from typing import TYPE_CHECKING, Final

from ..._unset import UNSET
from ...transport import Headers
from ._calls import calls_of
from ._log import Entry
from ._toxic import Ending, Stage, Toxic
from ._turn import Arrival, Turn, encoded

if TYPE_CHECKING:
    from ._engine import Engine

__all__ = ["Connection"]

BUFFER: Final = 65_536
MOST_OF_HEAD: Final = 262_144
MOST_OF_BODY: Final = 64 * 1024 * 1024
TAIL: Final = 4_096
LINGER: Final = struct.pack("ii", 1, 0)
# Stages that are over before there is an answer.
EARLY: Final = (Stage.CONNECT, Stage.READ)


class _Gone(Exception):
    """The client has closed the connection, or has sent what is no HTTP."""


class Connection:
    """Serves one client.

    :param number: from 1.
    """

    def __init__(self, engine: Engine, connection: socket.socket, number: int) -> None:
        self._engine = engine
        self._socket = connection
        self._loop = asyncio.get_running_loop()
        self.number = number
        self._place = 0
        self._buffer = bytearray()
        self._idle_limit: float | None = None
        self._previous: object = UNSET

    async def serve(self, after: float = 0.0) -> None:
        """Serve requests until either side ends it.

        :param after: seconds until it is looked at.
        """
        ending = Ending.CLOSED
        try:
            if after:
                await asyncio.sleep(after)
            while (ending := await self._request()) is Ending.KEPT:
                pass
            if ending is Ending.SILENT:
                await self._wait_for_end()
        except (_Gone, OSError):
            pass
        finally:
            self.close(reset=ending is Ending.RESET)

    def close(self, *, reset: bool) -> None:
        if reset:
            with contextlib.suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
        self._socket.close()

    # --- reading ---

    async def _more(self) -> None:
        data = await self._loop.sock_recv(self._socket, BUFFER)
        if not data:
            raise _Gone
        self._buffer += data

    async def _wait_for_end(self) -> None:
        while await self._loop.sock_recv(self._socket, BUFFER):
            pass

    async def _head(self) -> Arrival:
        if self._idle_limit is not None and not self._buffer:
            try:
                async with asyncio.timeout(self._idle_limit):
                    await self._more()
            except TimeoutError:
                raise _Gone from None
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > MOST_OF_HEAD:
                raise _Gone
            await self._more()
        first, *lines = bytes(self._buffer[:end]).decode("latin-1").split("\r\n")
        del self._buffer[: end + 4]
        method, _, rest = first.partition(" ")
        fields = Headers([(name.strip(), value.strip()) for name, _, value in (line.partition(":") for line in lines)])
        self._place += 1
        return Arrival(self._engine.next_number(), self.number, self._place, method, rest.rpartition(" ")[0], fields)

    async def _body(self, arrival: Arrival) -> bytes:
        if arrival.headers.get("expect", "").lower() == "100-continue":
            await self._send(b"HTTP/1.1 100 Continue\r\n\r\n")
        if arrival.headers.get("transfer-encoding", "").lower() == "chunked":
            return await self._chunks()
        declared = arrival.headers.get("content-length", "0")
        if not (declared.isascii() and declared.isdigit()) or len(declared) > 20 or int(declared) > MOST_OF_BODY:
            raise _Gone
        return await self._exactly(int(declared))

    async def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            await self._more()
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    async def _line(self) -> bytes:
        while (end := self._buffer.find(b"\r\n")) < 0:
            if len(self._buffer) > MOST_OF_HEAD:
                raise _Gone
            await self._more()
        return (await self._exactly(end + 2))[:-2]

    async def _chunks(self) -> bytes:
        parts: list[bytes] = []
        total = 0
        try:
            while size := int((await self._line()).partition(b";")[0], 16):
                total += size
                if size < 0 or total > MOST_OF_BODY:
                    raise _Gone
                parts.append(await self._exactly(size))
                await self._line()
        except ValueError:
            raise _Gone from None
        while await self._line():
            pass
        return b"".join(parts)

    # --- acting ---

    async def _request(self) -> Ending:
        arrival = await self._head()
        engine = self._engine
        chooser = engine.chooser
        entry = engine.log.begin(arrival)
        try:
            body_read = not chooser.early
            if body_read:
                await self._read(arrival, entry)
            toxics, source = chooser.for_request(arrival)
            turn = Turn(arrival, source, engine.url, self._previous, engine.latest_elsewhere(self.number))
            # What leaves the request unread cannot ask what is in it.
            waiting = sorted(toxics, key=lambda toxic: toxic.stage)
            waiting = entry.apply(turn, waiting, lambda toxic: toxic.stage in EARLY)
            if turn.refuse_for is not None:
                engine.refuse_for(turn.refuse_for)
            if turn.slow_accept:
                engine.pause(turn.slow_accept)
            if "unread" in turn.stops:
                return entry.ended(turn.stops["unread"])
            if not body_read:
                await self._read(arrival, entry)
            if "read" in turn.stops:
                return entry.ended(turn.stops["read"])
            return entry.ended(await self._answer(turn, entry, waiting))
        except BaseException:
            entry.lost()
            raise

    async def _read(self, arrival: Arrival, entry: Entry) -> None:
        arrival.body = await self._body(arrival)
        try:
            arrival.document = json.loads(arrival.body)
        except (ValueError, RecursionError):
            arrival.document = UNSET
        entry.calls = arrival.calls = calls_of(arrival.document)

    async def _answer(self, turn: Turn, entry: Entry, toxics: list[Toxic]) -> Ending:
        arrival, engine = turn.arrival, self._engine
        toxics = [toxic for toxic in toxics if toxic.fits(turn)]
        executes = all(toxic.executes for toxic in toxics)
        toxics = entry.apply(turn, toxics, lambda toxic: toxic.stage is Stage.EXECUTE)
        if turn.wait_before:
            await asyncio.sleep(turn.wait_before)
        if executes:
            if arrival.document is UNSET:
                turn.document = {"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": "Parse error"}}
            else:
                turn.document, executed = await engine.calls.answer(arrival, arrival.document)
                entry.executed = executed > 0
        meant = turn.document
        if turn.wait_after:
            await asyncio.sleep(turn.wait_after)
        if "executed" in turn.stops:
            return turn.stops["executed"]
        toxics = entry.apply(turn, toxics, lambda toxic: toxic.stage is Stage.ANSWER)
        if turn.document is UNSET:
            turn.status = 204
        else:
            turn.body = encoded(turn.document)
            turn.fields.append(("Content-Type", "application/json"))
        entry.apply(turn, toxics, lambda toxic: toxic.stage > Stage.ANSWER)
        if meant is not UNSET:
            self._previous = meant
            engine.remember(self.number, meant)
        self._idle_limit = turn.idle_limit
        entry.status = turn.status if turn.garbage is None else None
        return await self._deliver(turn)

    async def _deliver(self, turn: Turn) -> Ending:
        cut = turn.cut
        # Nothing comes after an answer that ends early, or with the connection.
        ends = turn.framing == "close" or turn.version == "HTTP/1.0" or (cut is not None and cut.place != "end")
        extra = b"" if ends else b"".join(turn.after)
        whole = None if turn.is_long else list(turn.wire())
        if whole is not None and not turn.drips:
            # All in one segment, as servers do.
            await self._send(b"".join(data for _, data in whole), extra)
        else:
            waiting = b""
            before = ""
            for part, data in turn.wire() if whole is None else whole:
                await self._drip(turn, before, waiting)
                before, waiting = part, data
            await self._drip(turn, before, waiting, extra)
        if cut is not None:
            return cut.ending
        asked = turn.arrival.headers.get("connection", "").lower() == "close"
        return Ending.CLOSED if asked or turn.framing == "close" else Ending.KEPT

    async def _drip(self, turn: Turn, part: str, data: bytes, extra: bytes = b"") -> None:
        drip = turn.drips.get(part)
        if drip is None:
            await self._send(data, extra)
            return
        last = max(0, len(data) - 1) // drip.size * drip.size
        for start in range(0, last, drip.size):
            await self._send(data[start : start + drip.size])
            await asyncio.sleep(drip.interval)
        await self._send(data[last:], extra)
        await asyncio.sleep(drip.interval)

    async def _send(self, data: bytes, extra: bytes = b"") -> None:
        if extra:
            # In one segment with the end of the answer. One that came a moment later could be the answer to the next request for all
            # that a client can see.
            await self._send(data[:-TAIL])
            data = data[-TAIL:] + extra
        if data:
            await self._loop.sock_sendall(self._socket, data)
