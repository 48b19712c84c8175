"""The table of what a circuit breaker counts as a failure says what happens: each of its rows is tried."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rpcretry
from rpcretry import CircuitBreaker, Client
from rpcretry.outcome import Attempt, Wait
from rpcretry.retry import Layer
from rpcretry.testing import ScriptedBackend, error, http, result
from rpcretry.transport import Exchange, Reply

PAGE = (Path(__file__).parent.parent.parent / "docs" / "breaker.rst").read_text()

Case = Callable[[CircuitBreaker], object]


def answered(*items: Any, **options: Any) -> Case:
    """A client's call that gets the answer."""

    def run(breaker: CircuitBreaker) -> object:
        return Client(ScriptedBackend(items), layers=breaker).call("sum", 1, 2, **options)

    return run


def raised(problem: BaseException) -> Case:
    """A block that raises."""

    def run(breaker: CircuitBreaker) -> object:
        with breaker:
            raise problem

    return run


def refused_further_in(breaker: CircuitBreaker) -> object:
    class Full(Layer):
        def admit(self, attempt: Attempt, now: float) -> Wait | None:
            raise rpcretry.LimitReachedError("full")

    with pytest.raises(rpcretry.LimitReachedError):
        Client(ScriptedBackend([]), layers=[breaker, Full()]).call("sum")
    return None


def foreign(_: Exchange) -> Reply:
    return Reply(b'{"jsonrpc":"2.0","id":99,"result":1}')


ROWS: dict[str, list[Case]] = {
    "A result": [answered(result(3))],
    "A JSON-RPC error, with HTTP 200, 400 or 500": [answered(error(2001, status=status)) for status in (200, 400, 500)],
    "A JSON-RPC error that came with HTTP 429, 502, 503 or 504": [answered(error(2001, status=status)) for status in (429, 502, 503, 504)],
    "HTTP 429, 408 or 5xx without JSON-RPC; a redirect": [
        *(answered(http(status)) for status in (429, 408, 500, 502, 503, 504)),
        answered(http(307, headers={"Location": "/x"})),
    ],
    "Any other HTTP 4xx without JSON-RPC": [answered(http(status)) for status in (400, 401, 403, 404, 451)],
    "No connection, a connection that broke, a timeout, a certificate that is not trusted": [
        answered(kind("x"))
        for kind in (
            rpcretry.ConnectError,
            rpcretry.ConnectTimeoutError,
            rpcretry.ConnectionLostError,
            rpcretry.RequestTimeoutError,
            rpcretry.CertificateError,
        )
    ],
    "A body that is no JSON-RPC; an answer with a foreign id": [answered(http(200)), answered(foreign)],
    "A response over the size cap; a result that does not fit its type": [
        answered(rpcretry.ResponseTooLargeError("x")),
        answered(result("three"), _result=int),
    ],
    "A URL or header that cannot be sent; a closed client; the refusal of another layer": [
        answered(rpcretry.InvalidTargetError("x")),
        answered(rpcretry.ClientClosedError("x")),
        refused_further_in,
    ],
    "A cancellation, an interrupt": [raised(asyncio.CancelledError()), raised(KeyboardInterrupt()), answered(KeyboardInterrupt())],
    "Any other exception, of a function or a block": [raised(ValueError("x")), raised(OSError("x")), answered(RuntimeError("x"))],
}


def table() -> dict[str, str]:
    """The rows of the page: what came of an attempt, and what it counts as."""
    (body,) = re.findall(r"\.\. list-table::\n(.*?)\n(?=\S)", PAGE, re.DOTALL)
    rows = re.split(r"^   \* - ", body, flags=re.MULTILINE)[1:]
    cells = [[" ".join(cell.split()) for cell in re.split(r"^     - ", row, flags=re.MULTILINE)] for row in rows]
    return dict(cells)


def test_the_table_has_these_rows() -> None:
    rows = table()
    assert rows.pop("What came of an attempt") == "Counts as"
    assert list(rows) == list(ROWS)


@pytest.mark.parametrize("row", ROWS)
def test_each_row_is_true(row: str) -> None:
    expected = {"success": (1, 0), "failure": (0, 1), "nothing": (0, 0)}[table()[row]]
    for number, case in enumerate(ROWS[row]):
        breaker = CircuitBreaker()
        with contextlib.suppress(Exception, asyncio.CancelledError, KeyboardInterrupt):
            case(breaker)
        assert breaker.stats.rejected == 0
        assert (breaker.stats.successful, breaker.stats.failed) == expected, (row, number)
