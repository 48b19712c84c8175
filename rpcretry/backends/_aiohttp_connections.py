"""Connections of aiohttp that do not take one answer for another, and do not wait for one that cannot come."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection

from ._target import IDLE_LIMIT

__all__ = ["Connector"]


class _Protocol(ResponseHandler):
    """Tells whoever reads a body that its connection has ended.

    aiohttp closes the connection when it meets a chunk that is none. Unless that came with the headers in one read, nobody tells the reader
    of the body, who waits until the time limit.

    :ivar asked: whether it was ever given to somebody who asks.
    """

    asked = False

    def connection_lost(self, exc: BaseException | None) -> None:
        payload = self._payload
        super().connection_lost(exc)
        if payload is not None and not payload.is_eof() and payload.exception() is None:
            payload.set_exception(aiohttp.ClientPayloadError("the connection ended within the body"))


def _made(loop: asyncio.AbstractEventLoop) -> ResponseHandler:
    return _Protocol(loop)


class Connector(aiohttp.TCPConnector):
    """Passes over connections on which something has come that nobody asked for.

    aiohttp asks whether a connection is still good when an answer ends, and not again when it takes the connection from its pool (its
    issue 13656). Behind an answer of more than one read, a second one comes too late for that, and would be the answer to whatever is
    asked next.

    Nor does it pass on a turn to connect that came to somebody who was cancelled at that moment: where ``limit`` is reached, the others
    would wait for as long as nobody else comes.
    """

    def __init__(self, *, limit: int) -> None:
        super().__init__(keepalive_timeout=IDLE_LIMIT, limit=limit)
        self._factory = functools.partial(_made, loop=self._loop)

    async def connect(self, req: aiohttp.ClientRequest, traces: list[Any], timeout: aiohttp.ClientTimeout) -> Connection:
        while True:
            try:
                connection = await super().connect(req, traces, timeout)
            except asyncio.CancelledError:
                self._release_waiter()
                task = asyncio.current_task()
                if self.closed and task is not None and not task.cancelling():
                    # aiohttp cancels what waits in a connector that closes, and a task that nobody cancelled would end as if somebody had.
                    raise RuntimeError("Connector is closed") from None
                raise
            protocol = connection.protocol
            asked = isinstance(protocol, _Protocol) and protocol.asked
            if protocol is None or not protocol.should_close:
                if isinstance(protocol, _Protocol):
                    protocol.asked = True
                return connection
            if connection.transport is not None:
                # Over TLS a close waits for the server's.
                connection.transport.abort()
            connection.close()
            if not asked:
                # A new one, and so would the next be.
                raise aiohttp.ClientConnectorError(req.connection_key, OSError(0, "the server spoke, or hung up, before it was asked"))
