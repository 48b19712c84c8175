"""The table of what is repeated when says what happens: each of its cells is tried."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from pages import DOCS, tables

import rpcretry
from rpcretry import BatchRequest, Client, Delivery, Request, RetryStrategy, RpcRetryError
from rpcretry.retry import ImmediateBackoff, Layer
from rpcretry.testing import ScriptedBackend, VirtualTime, error, http
from rpcretry.transport import Exchange, Reply

COLUMNS = ("Preset", "Idempotent", "Named", "Notification")
RETRIES = ImmediateBackoff(attempts=1)


class Case(NamedTuple):
    """A way to fail that a row speaks of.

    :ivar answer: what the server or the backend does.
    :ivar named: what a strategy names for it.
    """

    answer: Any
    named: dict[str, Any]
    batch: bool = False


class NothingGoesOut(rpcretry.Refused):
    pass


class Refusing(Layer):
    def admit(self, attempt: Any, now: float) -> None:
        raise NothingGoesOut


def raised(kind: type[Exception], **options: Any) -> Case:
    def make(_: Exchange) -> Exception:
        return kind("x", **options)

    return Case(make, {"exceptions": {kind}})


def status(code: int, headers: dict[str, str] | None = None) -> Case:
    return Case(http(code, headers=headers or {}), {"statuses": {code}})


def left_out(exchange: Exchange) -> Reply:
    return Reply(b"[]")


def foreign(_: Exchange) -> Reply:
    return Reply(b'{"jsonrpc":"2.0","id":99,"result":1}')


ROWS: dict[str, list[Case]] = {
    "No connection: refused, no such host, connect timeout": [raised(rpcretry.ConnectError), raised(rpcretry.ConnectTimeoutError)],
    "The attempt's limit passed before the body left; over aiohttp, the connection was found closed before": [
        raised(kind, delivery=Delivery.NOT_SENT) for kind in (rpcretry.RequestTimeoutError, rpcretry.ConnectionLostError)
    ],
    "HTTP 429; HTTP 503 with ``Retry-After``": [status(429), status(503, {"Retry-After": "0"})],
    "A JSON-RPC error with a code to retry": [Case(error(2001), {"codes": {2001}})],
    "HTTP 408, 502, 504; HTTP 503 without ``Retry-After``": [status(408), status(502), status(504), status(503)],
    "The connection broke in use; the answer took too long": [raised(rpcretry.ConnectionLostError), raised(rpcretry.RequestTimeoutError)],
    "HTTP 400, 404, 500 and all other statuses": [status(400), status(401), status(404), status(500), status(501), status(520)],
    "A JSON-RPC error with another code": [Case(error(code), {"codes": {code}}) for code in (2001, -32603, -32601)],
    "A batch member that the server left out": [Case(left_out, {"exceptions": {rpcretry.MissingResponseError}}, batch=True)],
    "A body that is no JSON-RPC; an answer with a foreign id": [
        Case(http(200), {"exceptions": {rpcretry.ProtocolError}}),
        Case(foreign, {"exceptions": {rpcretry.IdentityError}}),
    ],
    "A certificate that is not trusted; a URL or header that cannot be sent": [raised(rpcretry.CertificateError), raised(rpcretry.InvalidTargetError)],
    "A redirect": [Case(http(307, headers={"Location": "/x"}), {"exceptions": {rpcretry.RedirectError}})],
    "A deadline, a refusal by a layer, a cancellation": [],
}
STRATEGIES: dict[str, Callable[[Case], RetryStrategy]] = {
    "Preset": lambda case: RetryStrategy(backoff=RETRIES),
    "Idempotent": lambda case: RetryStrategy(idempotent={"pay"}, backoff=RETRIES),
    "Named": lambda case: RetryStrategy(**case.named, backoff=RETRIES),
    "Notification": lambda case: RetryStrategy(backoff=RETRIES),
}


def table() -> dict[str, list[str]]:
    """The rows of the page: what fails, and the cells beside it."""
    (rows,) = tables("delivery.rst")
    return {first: rest for first, *rest in rows}


def sent(case: Case, column: str) -> tuple[int, Exception | None]:
    """How many exchanges a call makes that fails so each time, and how it ends."""
    backend, time = ScriptedBackend([case.answer] * 3), VirtualTime()
    client = Client(backend, retry_strategy=STRATEGIES[column](case), clock=time.clock, sleep=time.sleep)
    try:
        if case.batch:
            client.send(BatchRequest(Request("pay", [1]), Request("pay", [2]))).results
        elif column == "Notification":
            client.notify("pay", 1)
        else:
            client.call("pay", 1)
    except Exception as problem:
        return len(backend.exchanges), problem
    return len(backend.exchanges), None


def test_the_table_has_these_rows_and_columns() -> None:
    assert list(table()) == list(ROWS)
    (header,) = re.findall(r"^   \* - Failure\n((?:     - \w+\n)+)", (DOCS / "delivery.rst").read_text(), re.MULTILINE)
    assert re.findall(r"\w+", header) == ["Delivery", *COLUMNS]


@pytest.mark.parametrize("row", [row for row in ROWS if ROWS[row]])
def test_each_cell_of_the_row_is_true(row: str) -> None:
    delivery, *cells = table()[row]
    for case in ROWS[row]:
        for column, cell in zip(COLUMNS, cells, strict=True):
            if cell in ("has no answer", "the row of named codes"):
                continue
            if cell == "codes -32005, 429" or cell == "the same":
                for code, expected in ((-32005, 2), (429, 2), (2001, 1)):
                    assert sent(Case(error(code), {}), column)[0] == expected, (column, code)
                continue
            count, problem = sent(case, column)
            assert count == {"yes": 2, "no": 1}[cell], (row, column, problem)
            # A code that a strategy names is taken as rejected; the error alone does not know of it.
            if isinstance(problem, RpcRetryError) and not delivery.startswith("taken as"):
                assert f"``{problem.delivery.name}``" == delivery, (row, column, problem)


def test_the_last_row_is_never_repeated() -> None:
    assert table()["A deadline, a refusal by a layer, a cancellation"] == ["", "never", "never", "never", "never"]
    everything = RetryStrategy(exceptions={Exception}, idempotent=True, backoff=RETRIES)
    backend = ScriptedBackend([])
    with pytest.raises(NothingGoesOut):
        Client(backend, retry_strategy=everything, layers=Refusing()).call("pay")
    with pytest.raises(rpcretry.DeadlineExceeded):
        Client(backend, retry_strategy=everything, deadline=0).call("pay")
    assert backend.exchanges == []
    interrupted = ScriptedBackend([KeyboardInterrupt()])
    with pytest.raises(KeyboardInterrupt):
        Client(interrupted, retry_strategy=everything).call("pay")
    assert len(interrupted.exchanges) == 1
