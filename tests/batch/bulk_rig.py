"""One bulk, both drivers: a client over a backend that answers each request by its params, with bulks that are consumed alike."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from rpcretry import AsyncClient, Client, Request
from rpcretry.bulk import BulkItem
from rpcretry.testing import VirtualTime
from rpcretry.transport import Exchange, Reply

Answer = Callable[[int, int], Any]


def requests(count: int, start: int = 0) -> Iterator[Request]:
    return (Request("get", [number]) for number in range(start, start + count))


def ok(number: int, time_: int) -> Any:
    return number * 10


class Server:
    """What the sync and the async backend share.

    :param answer: gets a request's param and how often it came; returns its result, a dict for an error, or an exception to raise.
    :ivar seen: the params of each exchange.
    :ivar most: how many exchanges were under way at once.
    """

    def __init__(self, answer: Answer = ok) -> None:
        self.answer = answer
        self.seen: list[list[int]] = []
        self.times: dict[int, int] = {}
        self.active = self.most = 0
        self.lock = threading.Lock()

    def _reply(self, exchange: Exchange) -> Reply:
        document = json.loads(exchange.body)
        several = document if isinstance(document, list) else [document]
        numbers = [each["params"][0] for each in several]
        answers = []
        with self.lock:
            self.seen.append(numbers)
            for number in numbers:
                self.times[number] = self.times.get(number, 0) + 1
        for each, number in zip(several, numbers, strict=True):
            value = self.answer(number, self.times[number])
            if isinstance(value, BaseException):
                raise value
            content = {"error": value} if isinstance(value, dict) else {"result": value}
            if "id" in each:
                answers.append({"jsonrpc": "2.0", "id": each["id"], **content})
        if not answers:
            return Reply(b"")
        return Reply(json.dumps(answers if isinstance(document, list) else answers[0]).encode())

    @property
    def executed(self) -> list[int]:
        """All params that came, in order."""
        return [number for numbers in self.seen for number in numbers]


class SyncServer(Server):
    def exchange(self, exchange: Exchange) -> Reply:
        with self.lock:
            self.active += 1
            self.most = max(self.most, self.active)
        try:
            time.sleep(0.0005)
            return self._reply(exchange)
        finally:
            with self.lock:
                self.active -= 1

    def close(self) -> None: ...


class AsyncServer(Server):
    async def exchange(self, exchange: Exchange) -> Reply:
        self.active += 1
        self.most = max(self.most, self.active)
        try:
            await asyncio.sleep(0)
            return self._reply(exchange)
        finally:
            self.active -= 1

    async def aclose(self) -> None: ...


class BulkRig:
    """A client of either kind over such a backend, in virtual time."""

    def __init__(self, driver: str, answer: Answer = ok, **options: Any) -> None:
        self.driver = driver
        self.time = VirtualTime()
        self.server: Any
        self.client: Any
        if driver == "sync":
            self.server = SyncServer(answer)
            self.client = Client(self.server, clock=self.time.clock, sleep=self.time.sleep, **options)
        else:
            self.server = AsyncServer(answer)
            self.client = AsyncClient(self.server, clock=self.time.clock, sleep=self.time.asleep, **options)

    def take(self, bulk: Any, count: int | None = None) -> list[BulkItem[Any, Any]]:
        """The next items of *bulk*, all of them without a count."""
        if self.driver == "sync":
            return taken(bulk, count)

        async def main() -> list[BulkItem[Any, Any]]:
            found = await ataken(bulk, count)
            # Before the loop ends, as a program that goes on would.
            await bulk.aclose()
            return found

        return asyncio.run(main())

    def all(self, source: Any, **options: Any) -> list[BulkItem[Any, Any]]:
        return self.take(self.client.bulk(source, **options))

    def run(self, bulk: Any) -> Any:
        return bulk.run() if self.driver == "sync" else asyncio.run(bulk.run())


def taken(bulk: Any, count: int | None = None) -> list[BulkItem[Any, Any]]:
    found: list[BulkItem[Any, Any]] = []
    if count == 0:
        return found
    for item in bulk:
        found.append(item)
        if len(found) == count:
            break
    return found


async def ataken(bulk: Any, count: int | None = None) -> list[BulkItem[Any, Any]]:
    found: list[BulkItem[Any, Any]] = []
    if count == 0:
        return found
    async for item in bulk:
        found.append(item)
        if len(found) == count:
            break
    return found


def indices(items: list[BulkItem[Any, Any]]) -> list[int]:
    return sorted(item.index for item in items)
