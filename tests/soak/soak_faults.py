"""What the server does wrong in each phase.

None of it is a lie that no client could see through. A rejection, such as HTTP 429 or the error "busy", comes without an execution. And
what answers a request with its own id, and nothing beside it that says otherwise, is the answer to it.
"""

from __future__ import annotations

from collections.abc import Sequence

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
    Mix,
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

PLACES = ("unread", "read", "executed", "head", "body", "end")
WHERE = ("head", "body")

Weights = dict[Toxic | tuple[Toxic, ...], float]

# What costs an attempt its whole time comes less often than what fails at once.
HARMLESS: Weights = {
    Latency((0.0, 0.05), "before"): 3,
    Latency((0.0, 0.05), "after"): 3,
    Drip("head", 0.0005, 16): 1,
    Drip("body", 0.0005, 400): 1,
    Chunked(): 2,
    Chunked(size=7, extension=True): 1,
    Gzip(): 3,
    Interim(100): 1,
    Interim(102, 2): 1,
    Interim(103): 1,
    NoLength(): 2,
    Http10(): 2,
    Reorder(): 6,
    Listed(): 2,
    ForeignItems(2): 2,
    ExtraAnswer("after", "own"): 1,
    ExtraAnswer("after", "next"): 2,
    ExtraAnswer("after", "other"): 1,
    RetryAfter("seconds", 0): 1,
    CloseIdle(0.01): 2,
}
BROKEN: Weights = {
    **{Reset(place): 2 for place in PLACES},
    **{Close(place): 2 for place in PLACES},
    **{Silence(place): 0.5 for place in PLACES},
    CloseReused(): 3,
    CloseReused(True): 3,
    Truncate(0.5): 2,
    Truncate(0.95): 2,
    Garbage(200, "all"): 2,
    Garbage(200, "body"): 2,
    ContentLength("large"): 0.3,
    ContentLength("small"): 1,
    ContentLength("negative"): 1,
    ContentLength("garbage"): 1,
    ContentLength("twice"): 1,
    ContentLength("missing"): 1,
    BadChunks("size"): 1,
    BadChunks("huge"): 0.3,
    BadChunks("negative"): 1,
    BadChunks("crlf"): 1,
    BadChunks("end"): 0.3,
    BadChunks("trailing"): 1,
    InvalidHeader(): 1,
    LongHeader(100_000): 0.5,
    Gzip("plain"): 1,
    Gzip("corrupt"): 1,
    Gzip("cut"): 1,
    Gzip("checksum"): 1,
    GzipBomb(16): 0.1,
    Huge(8 << 20): 0.1,
}
ANSWERS: Weights = {
    **{WrongId(kind): 1 for kind in ("other", "text", "float", "true", "null", "missing")},
    StaleAnswer("connection"): 3,
    StaleAnswer("server"): 3,
    ExtraAnswer("before", "own"): 1,
    ExtraAnswer("before", "next"): 3,
    ExtraAnswer("before", "other"): 1,
    MissingItems(1): 3,
    MissingItems(40): 1,
    DuplicateItems(2): 3,
    BareObject(): 2,
    OneError(): 1,
    OneError(-32005, "busy"): 1,
    RpcError(): 3,
    RpcError(-32000, "down"): 1,
    RpcError(-32603, "broken", executed=True): 1,
}
STATUSES: Weights = {
    **{Status(status): 1 for status in (400, 404, 500, 502, 504)},
    **{Status(status, "text", executed=True): 1 for status in (500, 502, 504)},
    Status(413): 0.5,
    Status(429): 2,
    Status(503): 2,
    Status(503, executed=True): 1,
    Status(200): 1,
    Status(200, "empty"): 1,
    Status(200, "json"): 1,
    Status(500, "answer"): 1,
    **{(Status(503), RetryAfter(form, 0)): 0.5 for form in ("seconds", "imf", "rfc850", "asctime", "past")},
    **{(Status(429), RetryAfter(form, 0)): 0.5 for form in ("negative", "float", "words", "empty", "twice")},
    (Status(503), RetryAfter("huge", 0)): 0.2,
    Redirect("self"): 0.5,
    Redirect("elsewhere", 307, executed=True): 0.5,
}
ALL: Weights = {**HARMLESS, **BROKEN, **ANSWERS, **STATUSES}

# "outage" has the server stopped, and "restart" has it stop now and then, on top of what is said here.
FAULTS: dict[str, Mix | None] = {
    "calm": None,
    "noisy": Mix(ALL, rate=0.3, most=2),
    "outage": None,
    "restart": Mix(HARMLESS, rate=0.2),
    "recovery": Mix(ALL, rate=0.05),
}


def seen_through(toxics: Sequence[Toxic], calls: Sequence[str]) -> tuple[Toxic, ...]:
    """Those of *toxics* that the right client sees through, together and on a request of these methods."""
    found = []
    for toxic in toxics:
        if toxic == ExtraAnswer("before", "next") and len(calls) > 1:
            # The next id is that of the second member of the batch.
            continue
        if isinstance(toxic, StaleAnswer) and ("busy" in calls or any(isinstance(other, WrongId) for other in toxics)):
            # The answer before may be "busy" to the same request, which is executed this time; or an error, which needs no id.
            continue
        if isinstance(toxic, (BareObject, MissingItems, WrongId)) and any(isinstance(other, DuplicateItems) for other in toxics):
            # The wrong one of the two answers may be the only one that is left.
            continue
        found.append(toxic)
    return tuple(found)
