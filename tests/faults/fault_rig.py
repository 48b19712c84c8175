"""Every toxic in each of its kinds, and what it must do to a call."""

from __future__ import annotations

from typing import Any, NamedTuple

import rpcretry.testing.faults as faults
from rpcretry import (
    ConnectionLostError,
    Delivery,
    HTTPStatusError,
    IdentityError,
    ProtocolError,
    RedirectError,
    RequestTimeoutError,
    ResponseTooLargeError,
    ServerError,
)
from rpcretry.retry import PeriodicBackoff, RetryStrategy
from rpcretry.testing.faults import (
    BadChunks,
    BareObject,
    Chunked,
    Close,
    CloseIdle,
    CloseReused,
    ContentLength,
    Drip,
    DuplicateItems,
    ExtraAnswer,
    ForeignItems,
    Garbage,
    Gzip,
    GzipBomb,
    Http10,
    Huge,
    Interim,
    InvalidHeader,
    Latency,
    Listed,
    LongHeader,
    MissingItems,
    NoLength,
    OneError,
    Redirect,
    Reorder,
    Reset,
    RetryAfter,
    RpcError,
    Silence,
    StaleAnswer,
    Status,
    Toxic,
    Truncate,
    WrongId,
)

POISON = "this is the answer to another request"
LIMIT = 1_000_000
REPEATED = RetryStrategy(idempotent=True, backoff=PeriodicBackoff(attempts=5, interval=0.001))


class Case(NamedTuple):
    """What one toxic does to a single call.

    :ivar result: ``None`` for the right result, or the class of the error; a pair where requests and aiohttp differ.
    :ivar executed: how often the server executes it.
    """

    toxic: Toxic
    result: Any
    executed: int = 1
    delivery: Delivery = Delivery.MAYBE_EXECUTED

    def expected(self, kind: str) -> type[Exception] | None:
        found = self.result
        if isinstance(found, tuple):
            found = found[kind == "aiohttp"]
        return found  # type: ignore[no-any-return]

    @property
    def hangs(self) -> bool:
        return RequestTimeoutError in (self.result if isinstance(self.result, tuple) else (self.result,))


LOST, HANGS, PROTOCOL, HTTP = ConnectionLostError, RequestTimeoutError, ProtocolError, HTTPStatusError

SINGLE = [
    Case(Silence("unread"), HANGS, 0),
    Case(Silence("read"), HANGS, 0),
    Case(Silence("executed"), HANGS),
    Case(Silence("head"), HANGS),
    Case(Silence("body"), HANGS),
    Case(Reset("unread"), LOST, 0),
    Case(Reset("read"), LOST, 0),
    Case(Reset("executed"), LOST),
    Case(Reset("head"), LOST),
    Case(Reset("body"), LOST),
    Case(Close("unread"), LOST, 0),
    Case(Close("read"), LOST, 0),
    Case(Close("executed"), LOST),
    Case(Close("head"), LOST),
    Case(Close("body"), LOST),
    Case(Close("end"), None),
    Case(CloseReused(), LOST, 0),
    Case(CloseReused(reset=True), LOST, 0),
    Case(CloseIdle(0.001), None),
    Case(Latency(0.005), None),
    Case(Latency((0.001, 0.005), "after"), None),
    Case(Latency(lambda source: source.expovariate(1000)), None),
    Case(Drip("head", 0.0001, 8), None),
    Case(Drip("body", 0.0001), None),
    Case(Drip("all", 0.0001, 8), None),
    Case(Truncate(0.0), LOST),
    Case(Truncate(0.5), LOST),
    Case(Truncate(0.99), LOST),
    Case(Garbage(), LOST),
    Case(Garbage(64, "body"), PROTOCOL),
    Case(RpcError(), ServerError, 0),
    Case(RpcError(-32000, "failed", executed=True), ServerError),
    *(Case(WrongId(kind), IdentityError) for kind in ("other", "text", "float", "true", "null", "missing")),
    Case(StaleAnswer(), IdentityError),
    *(Case(ExtraAnswer("after", id), None) for id in ("own", "next", "other")),
    Case(ExtraAnswer("before", "own"), None),
    Case(ExtraAnswer("before", "next"), IdentityError),
    Case(ExtraAnswer("before", "other"), IdentityError),
    Case(Listed(), None),
    *(Case(Status(200, body), PROTOCOL) for body in ("html", "text", "json", "empty")),
    *(Case(Status(status, body), HTTP, 0) for status in (404, 500, 502) for body in ("html", "text", "json", "empty")),
    Case(Status(500, executed=True), HTTP),
    Case(Status(500, "answer"), None),
    Case(Status(299, "answer"), None),
    Case(Status(429), HTTP, 0, Delivery.REJECTED),
    Case(Status(503), HTTP, 0),
    Case(Status(503, retry_after=1), HTTP, 0, Delivery.REJECTED),
    Case(Status(503, retry_after="garbage"), HTTP, 0, Delivery.REJECTED),
    *(Case(RetryAfter(form, 1), None) for form in ("seconds", "imf", "rfc850", "asctime", "past", "negative", "float", "words", "empty", "huge", "twice")),
    *(Case(Redirect(to), RedirectError, 0) for to in ("self", "elsewhere", "http://127.0.0.1:9/")),
    *(Case(Redirect("self", status), RedirectError, 0) for status in (301, 303, 307, 308)),
    Case(Redirect(executed=True), RedirectError),
    Case(ContentLength("large"), HANGS),
    Case(ContentLength("small"), (PROTOCOL, LOST)),
    Case(ContentLength("negative"), (HANGS, LOST)),
    Case(ContentLength("garbage"), (HANGS, LOST)),
    Case(ContentLength("twice"), LOST),
    Case(ContentLength("missing"), HANGS),
    Case(NoLength(), None),
    Case(Http10(), None),
    Case(Chunked(), None),
    Case(Chunked(1, extension=True), None),
    Case(BadChunks("size"), LOST),
    Case(BadChunks("huge"), (HANGS, LOST)),
    Case(BadChunks("negative"), LOST),
    Case(BadChunks("crlf"), LOST),
    Case(BadChunks("end"), HANGS),
    Case(BadChunks("trailing"), (None, LOST)),
    Case(BadChunks("line"), (LOST, HANGS)),
    Case(Interim(100), None),
    Case(Interim(102), None),
    Case(Interim(103, times=3), None),
    *(Case(InvalidHeader(kind), (None, LOST)) for kind in ("no colon", "no name", "space", "null", "carriage return")),
    Case(InvalidHeader("folded"), None),
    Case(InvalidHeader("bytes"), None),
    Case(LongHeader(), LOST),
    Case(LongHeader(10, times=200), LOST),
    Case(Gzip(), None),
    *(Case(Gzip(kind), PROTOCOL) for kind in ("plain", "corrupt", "cut", "checksum")),
    Case(GzipBomb(100), ResponseTooLargeError),
    Case(Huge(), ResponseTooLargeError),
]

# What acts on batches alone, and on the listener.
OF_BATCHES: list[Toxic] = [
    OneError(),
    OneError(executed=True),
    MissingItems(),
    MissingItems(99),
    DuplicateItems(),
    DuplicateItems(2),
    ForeignItems(),
    ForeignItems(3),
    Reorder(),
    BareObject(),
]
LINGERING: list[Toxic] = [Silence("end"), Reset("end")]
OF_LISTENER: list[Toxic] = [faults.Refuse(0.01), faults.SlowAccept(0.005)]
ALL: list[Toxic] = [case.toxic for case in SINGLE] + OF_BATCHES + LINGERING + OF_LISTENER + [StaleAnswer("server")]


def add(a: int, b: int) -> int:
    return a + b


METHODS = {"add": add}
