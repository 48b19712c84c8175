"""A server that answers single requests and batches, and a client that joins calls to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from rpcretry import AsyncClient
from rpcretry.client import Joining
from rpcretry.transport import Exchange, Reply


def value_of(request: dict[str, Any]) -> Any:
    """What only this request can have as its result."""
    return [request["method"], request.get("params"), request["id"]]


def answer_to(request: dict[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": request["id"], "result": value_of(request)}


def plainly(document: Any) -> Any:
    """The answers of a good server; ``None`` where there is nothing to answer."""
    if isinstance(document, list):
        return [answer_to(request) for request in document if "id" in request] or None
    return answer_to(document) if "id" in document else None


def as_reply(document: Any, status: int = 200) -> Reply:
    return Reply(b"" if document is None else json.dumps(document).encode(), status)


def batches_only(reply: Reply) -> Callable[[Any], Any]:
    """A server that answers every array so, and single requests well."""
    return lambda document: reply if isinstance(document, list) else as_reply(plainly(document))


class Server:
    """An async backend.

    :param behave: what it makes of a document: a Reply, an answer to be written as JSON, or an exception to raise.
    :ivar seen: the documents that it got.
    :ivar gate: where it waits before it answers, if there is one.
    """

    def __init__(self, behave: Callable[[Any], Any] = plainly) -> None:
        self.behave = behave
        self.seen: list[Any] = []
        self.exchanges: list[Exchange] = []
        self.gate: asyncio.Event | None = None
        self.cancelled = 0
        self.closed = False

    async def exchange(self, exchange: Exchange, /) -> Reply:
        document = json.loads(exchange.body)
        self.seen.append(document)
        self.exchanges.append(exchange)
        try:
            if self.gate is not None:
                await self.gate.wait()
            else:
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        made = self.behave(document)
        if isinstance(made, BaseException):
            raise made
        return made if isinstance(made, Reply) else as_reply(made)

    async def aclose(self) -> None:
        self.closed = True

    @property
    def sizes(self) -> list[int]:
        """How many requests each document had; 0 for one that was no array."""
        return [len(document) if isinstance(document, list) else 0 for document in self.seen]


def client_of(server: Any, joining: Any = None, **options: Any) -> AsyncClient:
    return AsyncClient(server, joining=Joining() if joining is None else joining, **options)


def run(act: Callable[[], Awaitable[Any]]) -> Any:
    """The value of *act*, after which no task and no timer is left and no loop has heard of an error."""

    async def main() -> Any:
        loop = asyncio.get_running_loop()
        heard: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _, context: heard.append(context))
        value = await act()
        for _ in range(5):
            await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert [timer for timer in loop._scheduled if not timer.cancelled()] == []  # type: ignore[attr-defined]
        assert heard == []
        return value

    return asyncio.run(main())


async def all_of(*calls: Any) -> list[Any]:
    """The results and exceptions of calls that are made in the same turn."""
    return await asyncio.gather(*calls, return_exceptions=True)
