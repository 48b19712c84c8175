"""Mocks in the place of the HTTP backends of the package.

A client keeps its backend's bound method, and its middlewares and its joining keep it, too, so that another method in the class would
reach only clients that are made later. What all of them share is the code of the function: that is exchanged, and given back.
"""

from __future__ import annotations

import contextlib
import importlib
import threading
from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any

from ..transport import Exchange, Headers, Reply
from ._calls import UnexpectedCall, host_of

if TYPE_CHECKING:
    from .mock import RpcMock

__all__ = ["answered", "answered_async", "patched"]

_mocks: list[RpcMock] = []
_codes: list[tuple[FunctionType, CodeType]] = []
_lock = threading.Lock()


def _requests(self: Any, exchange: Exchange, /) -> Reply:
    # It runs with the globals of the backend's module.
    __tracebackhide__ = True
    from rpcretry.testing._patches import answered

    return answered(self, exchange)


async def _aiohttp(self: Any, exchange: Exchange, /) -> Reply:
    __tracebackhide__ = True
    from rpcretry.testing._patches import answered_async

    return await answered_async(self, exchange)


# The module and the class of each backend, and what takes the place of its exchange.
BACKENDS: tuple[tuple[str, str, Any], ...] = (
    ("rpcretry.backends.requests", "RequestsBackend", _requests),
    ("rpcretry.backends.aiohttp", "AiohttpBackend", _aiohttp),
)


def answered(backend: Any, exchange: Exchange) -> Reply:
    """The answer to an exchange of a RequestsBackend."""
    __tracebackhide__ = True
    fields, _ = backend._merged(exchange.headers)
    url: str = backend.target.url
    return _mock_for(url)._exchange(exchange, url, Headers(fields))


async def answered_async(backend: Any, exchange: Exchange) -> Reply:
    """The answer to an exchange of an AiohttpBackend."""
    __tracebackhide__ = True
    url: str = backend.target.url
    return await _mock_for(url)._async_exchange(exchange, url, Headers(backend._fields).updated(exchange.headers or {}))


def _mock_for(url: str) -> RpcMock:
    __tracebackhide__ = True
    mocks = _mocks[::-1]
    for mock in mocks:
        if mock._serves(url):
            return mock
    problem = UnexpectedCall(f"unexpected exchange with {host_of(url)}, for which no mock stands in")
    for mock in mocks[:1]:
        mock._unexpected.append(problem)
    raise problem


@contextlib.contextmanager
def patched(mock: RpcMock) -> Iterator[None]:
    """Have *mock* answer the exchanges of the backends, before those mocks that do so already."""
    with _lock:
        if not _mocks:
            # Also of those that nobody has imported yet: what imports them later is not to reach a network.
            for module, name, stand_in in BACKENDS:
                # Where its library is missing there are no clients of it.
                with contextlib.suppress(ImportError):
                    function = getattr(importlib.import_module(module), name).exchange
                    _codes.append((function, function.__code__))
                    function.__code__ = stand_in.__code__
        _mocks.append(mock)
    try:
        yield
    finally:
        with _lock:
            _mocks.remove(mock)
            if not _mocks:
                while _codes:
                    function, code = _codes.pop()
                    function.__code__ = code
