"""A backend that answers from a script."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from .._check import count
from .._unset import UNSET
from ..errors import RpcRetryError
from ..transport import NO_HEADERS, Exchange, Reply
from ._frame import NOISE, limit_on
from .virtual import VirtualTime

__all__ = ["AsyncScriptedBackend", "Item", "ScriptedBackend", "error", "http", "result", "took"]

Item: TypeAlias = "Reply | Exception | Callable[[Exchange], Any]"


class _Script:
    def __init__(self, items: Iterable[Item]) -> None:
        self._items: Iterator[Item] = iter(items)
        self.exchanges: list[Exchange] = []
        self.closed = False

    @property
    def bodies(self) -> list[Any]:
        """The JSON documents that were sent, in order."""
        return [json.loads(exchange.body) for exchange in self.exchanges]

    def _play(self, exchange: Exchange) -> Reply:
        self.exchanges.append(exchange)
        item: Any = next(self._items, None)
        if item is None:
            raise AssertionError(f"the script has no answer to exchange {len(self.exchanges)}: {exchange.body[:200]!r}")
        if callable(item) and not isinstance(item, BaseException):
            item = item(exchange)
        if isinstance(item, BaseException):
            raise item
        if not isinstance(item, Reply):
            raise TypeError(f"a script holds replies, exceptions and callables that return them, got {item!r:.60}")
        return item

    def __repr__(self) -> str:
        return f"<script, {len(self.exchanges)} exchanges made>"


class ScriptedBackend(_Script):
    """A :class:`~rpcretry.transport.Backend` that plays one item for each exchange.

    :param items: a :class:`~rpcretry.transport.Reply`, an exception to raise, or a callable that is given the
        exchange and returns one of these; :func:`result`, :func:`error` and :func:`http` make such items.
    :ivar exchanges: what was sent.
    """

    def exchange(self, exchange: Exchange, /) -> Reply:
        return self._play(exchange)

    def close(self) -> None:
        self.closed = True


class AsyncScriptedBackend(_Script):
    """The same for async clients."""

    async def exchange(self, exchange: Exchange, /) -> Reply:
        return self._play(exchange)

    async def aclose(self) -> None:
        self.closed = True


def result(value: object, *, status: int = 200, headers: Mapping[str, str] = NO_HEADERS) -> Callable[[Exchange], Reply]:
    """An item: every request succeeds with *value*."""
    return _answered({"result": value}, status, headers)


def error(code: int, message: str = "", *, data: object = UNSET, status: int = 200, headers: Mapping[str, str] = NO_HEADERS) -> Callable[[Exchange], Reply]:
    """An item: every request fails with a JSON-RPC error.

    :raises TypeError, ValueError: naming the parameter, its value and the fix.
    """
    if isinstance(code, bool) or not isinstance(code, int):
        raise TypeError(f"code must be an int, got {type(code).__name__} {code!r:.60}; for an HTTP status write http(status)")
    if not isinstance(message, str):
        raise TypeError(f"message must be a str, got {type(message).__name__} {message!r:.60}; for more than that there is data=")
    content = {"code": code, "message": message, **({} if data is UNSET else {"data": data})}
    return _answered({"error": content}, status, headers)


def http(status: int, body: bytes = b"<html>", headers: Mapping[str, str] = NO_HEADERS) -> Reply:
    """An item: an HTTP status around a body that is no JSON-RPC.

    :raises TypeError, ValueError: naming the parameter, its value and the fix.
    """
    if not isinstance(body, bytes):
        raise TypeError(f'body must be bytes, got {type(body).__name__} {body!r:.60}; write b"..."')
    return Reply(body, *_checked(status, headers))


def _checked(status: int, headers: Mapping[str, str]) -> tuple[int, Mapping[str, str]]:
    if count("status", status, least=100) > 599:
        raise ValueError(f"status must be an HTTP status, 100 to 599, got {status!r}")
    if not hasattr(headers, "items"):
        raise TypeError(f"headers must be a mapping from str to str, got {type(headers).__name__}")
    for name, value in headers.items():
        if not (isinstance(name, str) and isinstance(value, str)):
            raise TypeError(f"headers must be a mapping from str to str, got {type(value).__name__} for {name!r:.60}; write str(...) around it")
    return status, headers


def took(time: VirtualTime, seconds: float, item: Item) -> Callable[[Exchange], Any]:
    """An item that takes that many seconds of virtual time, and no longer than the exchange may.

    An exchange that has to end before is cut there, as a real backend would: with RequestTimeoutError.
    """
    from ..errors import RequestTimeoutError

    def play(exchange: Exchange) -> Any:
        clock, limit = limit_on(time, exchange)
        if clock.now + seconds > limit + NOISE:
            clock.reach(limit)
            return RequestTimeoutError("the attempt took too long")
        clock.advance(seconds)
        return item(exchange) if callable(item) and not isinstance(item, RpcRetryError) else item

    return play


def _answered(content: Mapping[str, object], status: int, headers: Mapping[str, str]) -> Callable[[Exchange], Reply]:
    status, headers = _checked(status, headers)

    def play(exchange: Exchange) -> Reply:
        document = json.loads(exchange.body)
        if isinstance(document, list):
            answers = [{"jsonrpc": "2.0", "id": id, **content} for id in exchange.ids]
            return Reply(json.dumps(answers).encode() if answers else b"", status, headers)
        if not exchange.ids:
            return Reply(b"", status, headers)
        return Reply(json.dumps({"jsonrpc": "2.0", "id": exchange.ids[0], **content}).encode(), status, headers)

    return play
