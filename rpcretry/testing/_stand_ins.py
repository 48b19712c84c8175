"""Mocks in the place of the HTTP backends of the package, which look for them in each exchange."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from ..transport import STAND_INS, Exchange, Headers, Reply
from ._calls import UnexpectedCall, host_of

if TYPE_CHECKING:
    from .mock import RpcMock

__all__ = ["standing_in"]


class Standing:
    """A mock that is entered."""

    def __init__(self, mock: RpcMock) -> None:
        self.mock = mock

    def answered(self, url: str, headers: Mapping[str, str], exchange: Exchange) -> Reply | None:
        __tracebackhide__ = True
        mock = _mock_for(url, exchange)
        return None if mock is None else mock._exchange(exchange, url, Headers(headers))

    async def answered_async(self, url: str, headers: Mapping[str, str], exchange: Exchange) -> Reply | None:
        __tracebackhide__ = True
        mock = _mock_for(url, exchange)
        return None if mock is None else await mock._async_exchange(exchange, url, Headers(headers))


def _mock_for(url: str, exchange: Exchange) -> RpcMock | None:
    """The mock that answers; ``None`` where one lets the exchange pass.

    :raises UnexpectedCall: where none stands in for the server.
    """
    __tracebackhide__ = True
    mocks = [stand_in.mock for stand_in in reversed(STAND_INS) if isinstance(stand_in, Standing)]
    if any(mock._lets_pass(url) for mock in mocks):
        return None
    serving = [mock for mock in mocks if mock._serves(url)]
    # The last one that was entered, unless only one before it expects these methods.
    for mock in [*(mock for mock in serving if mock._expects(exchange, url)), *serving]:
        return mock
    problem = UnexpectedCall(f"unexpected exchange with {host_of(url)}, for which no mock stands in")
    for mock in mocks[:1]:
        mock._remember(problem)
    raise problem


@contextlib.contextmanager
def standing_in(mock: RpcMock) -> Iterator[None]:
    """Have *mock* answer the exchanges of the backends, before those mocks that do so already."""
    standing = Standing(mock)
    STAND_INS.append(standing)
    try:
        yield
    finally:
        STAND_INS.remove(standing)
