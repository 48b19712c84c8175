"""Transports that answer at once, and the stand-ins for HTTP sessions that some peers need in their place."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

from rpcretry.transport import Exchange, Reply

ANSWER = b'{"jsonrpc":"2.0","id":1,"result":3}'
TEXT = ANSWER.decode()
DOCUMENT = json.loads(ANSWER)


class Trouble:
    """Fails at so many of the first calls of each turn.

    :param failures: how many of them; ``None`` for all calls.
    """

    def __init__(self, failures: int | None = 0) -> None:
        self.asked = 0
        self._failures = failures

    def __call__(self) -> None:
        self.asked += 1
        if self._failures is None or (self.asked - 1) % (self._failures + 1) < self._failures:
            raise ConnectionError("the benchmark's transport fails")


class Null:
    """A backend of rpcretry."""

    def __init__(self, trouble: Callable[[], object] | None = None) -> None:
        self._trouble = trouble

    def exchange(self, exchange: Exchange) -> Reply:
        if self._trouble is not None:
            self._trouble()
        return Reply(b'{"jsonrpc":"2.0","id":%d,"result":3}' % exchange.ids[0])

    def close(self) -> None: ...


class AsyncNull:
    """An async one; it answers batches, too."""

    def __init__(self, trouble: Callable[[], object] | None = None) -> None:
        self._trouble = trouble

    async def exchange(self, exchange: Exchange) -> Reply:
        if self._trouble is not None:
            self._trouble()
        if exchange.body[:1] == b"[":
            return Reply(b"[%b]" % b",".join([b'{"jsonrpc":"2.0","id":%d,"result":3}' % id for id in exchange.ids]))
        return Reply(b'{"jsonrpc":"2.0","id":%d,"result":3}' % exchange.ids[0])

    async def aclose(self) -> None: ...


class StandIn:
    """Looks like a response of requests, and like one of aiohttp when it is awaited."""

    status_code = status = 200

    def json(self) -> Any:
        return json.loads(TEXT)


class AwaitedStandIn:
    status = 200

    async def json(self) -> Any:
        return json.loads(TEXT)


class Session:
    """Stands in for a requests.Session."""

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self._response = StandIn()

    def post(self, url: str, **_: Any) -> StandIn:
        return self._response


class AsyncSession:
    """Stands in for an aiohttp.ClientSession."""

    def __init__(self) -> None:
        self._response = AwaitedStandIn()

    async def post(self, url: str, **_: Any) -> AwaitedStandIn:
        return self._response


class JsonRpcFailure(Exception):
    """What a client that is written by hand raises for an error of the server."""


def request_of(ids: itertools.count[int], method: str, *params: object) -> dict[str, object]:
    return {"jsonrpc": "2.0", "method": method, "params": params, "id": next(ids)}


def result_of(answer: Any) -> Any:
    """The result in an answer, as a client that is written by hand reads it."""
    if "error" in answer:
        raise JsonRpcFailure(answer["error"])
    return answer["result"]


def by_hand(trouble: Callable[[], object] | None = None) -> Callable[[], Any]:
    """A client that is written by hand, over a transport that answers at once."""
    ids = itertools.count(1)

    def call() -> Any:
        text = json.dumps(request_of(ids, "sum", 1, 2))
        return result_of(json.loads(transported(text)))

    def transported(text: str) -> str:
        if trouble is not None:
            trouble()
        return TEXT

    return call


def by_hand_async(trouble: Callable[[], object] | None = None) -> Callable[[], Any]:
    ids = itertools.count(1)

    async def call() -> Any:
        text = json.dumps(request_of(ids, "sum", 1, 2))
        return result_of(json.loads(await transported(text)))

    async def transported(text: str) -> str:
        if trouble is not None:
            trouble()
        return TEXT

    return call
