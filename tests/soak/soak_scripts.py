"""How each kind of operation is done, for sync and async clients alike.

A script is a generator. It yields what a method of the client returned: of a sync client that is the result, which it is sent
back, and of an async one an awaitable, whose result it is sent, or whose exception it is thrown.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator
from typing import Any, Protocol, TypeAlias

# Whoever is the first to ask for a type has it imported, which on a busy machine takes longer than a call may.
import pydantic  # noqa: F401
from soak_oracle import CUT, FLYING, LOST, UNDOCUMENTED, WRONG, Oracle, moment, same
from soak_plan import Operation, Single

import rpcretry

Script: TypeAlias = Generator[Any, Any, None]


class Host(Protocol):
    """What runs scripts."""

    client: Any
    joined: Any
    oracle: Oracle

    def filled(self, batch: Any, fill: Callable[[Any], None]) -> Any:
        """Open *batch*, fill it and leave it."""

    def consumed(self, bulk: Any, take: Callable[[Any], None], most: int | None) -> Any:
        """Take the items of *bulk*, *most* at the most, and close it."""

    def together(self, scripts: list[Script], cut: tuple[float, int] | None) -> Any:
        """Run scripts at the same time, and cancel one of them after a time."""


@dataclasses.dataclass
class Price:
    """The type of what ``get_price`` returns."""

    symbol: str
    price: int


# --- one request ---


def _one(host: Host, operation: Operation, single: Single, send: Callable[[], Any], read: Callable[[Any], Any] | None = None) -> Script:
    began = moment()
    try:
        try:
            result = yield send()
        finally:
            host.oracle.took(operation, began, single.token)
        if read is not None:
            result = read(result)
    except BaseException as problem:
        host.oracle.failed(operation, single, problem)
        if not isinstance(problem, Exception):
            raise
    else:
        host.oracle.answered(operation, single, result)


def call(host: Host, operation: Operation) -> Script:
    (single,) = operation.calls
    options = {"_timeout": 0.25} if operation.options["places"][0] < 0.2 else {}
    return _one(host, operation, single, lambda: host.client.call(single.method, *single.params, _deadline=operation.deadline, **options))


def proxy(host: Host, operation: Operation) -> Script:
    (single,) = operation.calls
    return _one(host, operation, single, lambda: getattr(host.client.proxy, single.method)(*single.params, _deadline=operation.deadline))


def named(host: Host, operation: Operation) -> Script:
    (single,) = operation.calls
    params = {f"p{place}": value for place, value in enumerate(single.params)}
    return _one(host, operation, single, lambda: host.client(single.method, _deadline=operation.deadline, _headers={"X-Soak": "1"}, **params))


def view(host: Host, operation: Operation) -> Script:
    (single,) = operation.calls
    chosen = host.client.using(deadline=operation.deadline, timeout=0.5, headers={"X-View": str(operation.index)})
    # Closes nothing.
    yield chosen.close()
    yield from _one(host, operation, single, lambda: chosen.call(single.method, *single.params))


def typed(host: Host, operation: Operation) -> Script:
    (single,) = operation.calls
    wanted: Any = Price if single.method == "get_price" else dict[str, int]
    read = (lambda result: dataclasses.asdict(result) if type(result) is Price else result) if wanted is Price else None
    return _one(host, operation, single, lambda: host.client.call(single.method, *single.params, _deadline=operation.deadline, _result=wanted), read)


def send(host: Host, operation: Operation) -> Script:
    (single,) = operation.calls
    id = f"own-{operation.index}"

    def read(response: Any) -> Any:
        if response.id != id:
            host.oracle.offend(WRONG, f"the response to {id} has the id {response.id!r}", single.token)
        return response.result

    request = rpcretry.Request(single.method, single.params, id=id)
    return _one(host, operation, single, lambda: host.client.send(request, _deadline=operation.deadline), read)


def keyed(host: Host, operation: Operation) -> Script:
    (single,) = operation.calls
    key: Any = True if operation.index % 2 else f"key-{operation.index}"
    return _one(host, operation, single, lambda: host.client.call(single.method, *single.params, _deadline=operation.deadline, _idempotency_key=key))


def notify(host: Host, operation: Operation) -> Script:
    (single,) = operation.calls
    return _one(host, operation, single, lambda: host.client.notify(single.method, *single.params, _deadline=operation.deadline))


# --- batches ---


def _batch(host: Host, operation: Operation, **options: Any) -> Script:
    made = host.client.batch(_deadline=operation.deadline, **options)
    handles: list[Any] = []

    def fill(batch: Any) -> None:
        for single in operation.calls:
            handles.append(batch.notify(single.method, *single.params) if single.is_notification else batch.call(single.method, *single.params))

    whole = None
    began = moment()
    try:
        yield host.filled(made, fill)
    except Exception as problem:
        whole = problem
        host.oracle.documented(f"{operation.kind} {operation.index} as a whole", problem)
    finally:
        host.oracle.took(operation, began, operation.calls[0].token)
        # Also where it was cancelled: the handles say what became of each.
        if made._is_done:
            _judge(host, operation, made, handles, whole)
        elif whole is not None:
            for single in operation.calls:
                host.oracle.failed(operation, single, whole, is_own=False)


def _judge(host: Host, operation: Operation, made: Any, handles: list[Any], whole: Exception | None) -> None:
    oracle = host.oracle
    failed = {handle.request.params[0]: handle.error for handle in made.failed if handle.request.is_notification}
    for single, handle in zip(operation.calls, handles, strict=True):
        try:
            if handle is not None:
                result = handle.result()
            elif single.token in failed:
                raise failed[single.token]
            else:
                result = None
        except Exception as problem:
            oracle.failed(operation, single, problem)
        else:
            oracle.answered(operation, single, result)
            if whole is not None and not single.is_notification:
                oracle.offend(WRONG, f"{operation.kind} {operation.index}: raised {whole!r:.200}, and has a result for request {single.token}", single.token)
    if operation.options["places"][0] < 0.3:
        _all_results(host, operation, made)


def _all_results(host: Host, operation: Operation, made: Any) -> None:
    """The list of all results is in order, or it is a group of all errors."""
    try:
        results = made.results()
    except ExceptionGroup as group:
        if not made.failed or len(group.exceptions) != len(made.failed):
            host.oracle.offend(WRONG, f"{operation.kind} {operation.index}: {len(group.exceptions)} errors in results(), {len(made.failed)} handles failed")
        for problem in group.exceptions:
            host.oracle.documented(f"{operation.kind} {operation.index}, results()", problem)
    else:
        expected = [single.expected for single in operation.calls if not single.is_notification]
        if not same(results, expected):
            host.oracle.offend(WRONG, f"{operation.kind} {operation.index}: results() gave {results!r:.300}, expected {expected!r:.300}")


def batch(host: Host, operation: Operation) -> Script:
    return _batch(host, operation)


def split_batch(host: Host, operation: Operation) -> Script:
    return _batch(host, operation, max_batch_size=7, concurrency=3)


def keyed_batch(host: Host, operation: Operation) -> Script:
    return _batch(host, operation, _idempotency_key=f"batch-{operation.index}")


def sent_batch(host: Host, operation: Operation) -> Script:
    """The same by ``send``: responses in order, and none for notifications that went out."""
    oracle = host.oracle
    ids = [None if single.is_notification else f"{operation.index}-{single.token}" for single in operation.calls]
    requests = [rpcretry.Request(single.method, single.params, id=id) for single, id in zip(operation.calls, ids, strict=True)]
    began = moment()
    try:
        try:
            responses = list((yield host.client.send(rpcretry.BatchRequest(*requests), _deadline=operation.deadline)))
        finally:
            oracle.took(operation, began, operation.calls[0].token)
    except Exception as problem:
        oracle.documented(f"sent batch {operation.index} as a whole", problem)
        for single in operation.calls:
            oracle.failed(operation, single, problem, is_own=False)
        return
    answers = {response.id: response for response in responses if response.id is not None}
    if [response.id for response in responses if response.id is not None] != [id for id in ids if id is not None]:
        oracle.offend(WRONG, f"sent batch {operation.index}: responses to {[response.id for response in responses]!r:.300}, expected {ids!r:.300}")
    undelivered = iter(_told_apart([response for response in responses if response.id is None], ids.count(None)))
    for single, id in zip(operation.calls, ids, strict=True):
        if id is None and (problem := next(undelivered, None)) is not None:
            oracle.failed(operation, single, problem, is_own=False)
        elif id is None:
            oracle.answered(operation, single, None)
        elif id in answers:
            try:
                result = answers[id].result
            except Exception as problem:
                oracle.failed(operation, single, problem)
            else:
                oracle.answered(operation, single, result)


def _told_apart(undelivered: list[Any], notifications: int) -> list[Any]:
    """The errors of the notifications, in order: a response to one says nothing of which it is for, unless all have one."""
    if not undelivered or len(undelivered) == notifications:
        return [response.error for response in undelivered]
    return [rpcretry.TransportError("some of the notifications were not delivered")] * notifications


# --- bulk ---


def _bulk(host: Host, operation: Operation, size: int, most: int | None = None) -> Script:
    oracle, concurrency, seen = host.oracle, 4, set()
    requests = (rpcretry.Request(single.method, single.params, **({"id": None} if single.is_notification else {})) for single in operation.calls)
    made = host.client.bulk(requests, concurrency=concurrency, batch_size=size, _deadline=operation.deadline)
    rounds = -(-len(operation.calls) // (size * concurrency))
    limit = rounds * operation.deadline
    oracle.begins(operation, limit if operation.cut is None else min(limit, operation.cut[0] + operation.deadline))

    def take(item: Any) -> None:
        single = operation.calls[item.index]
        if item.index in seen or item.request.params != single.params:
            oracle.offend(WRONG, f"{operation.kind} {operation.index}: item {item!r} came twice, or with another request", single.token)
        seen.add(item.index)
        if item.ok:
            oracle.answered(operation, single, item.result)
        else:
            oracle.failed(operation, single, item.error)

    try:
        yield host.consumed(made, take, most)
    except Exception as problem:
        oracle.documented(f"{operation.kind} {operation.index}", problem)
        oracle.offend(UNDOCUMENTED, f"{operation.kind} {operation.index}: a bulk raised {problem!r:.300} where items fail")
    if most is None and len(seen) != len(operation.calls):
        oracle.offend(LOST, f"{operation.kind} {operation.index}: {len(seen)} items of {len(operation.calls)}")
    for single in operation.calls:
        # What nobody asked for any more.
        if oracle.status[single.token] == FLYING:
            oracle.status[single.token] = CUT


def bulk(host: Host, operation: Operation) -> Script:
    return _bulk(host, operation, 1)


def bulk_of_batches(host: Host, operation: Operation) -> Script:
    return _bulk(host, operation, 8)


def left_bulk(host: Host, operation: Operation) -> Script:
    """One that is left in the middle."""
    return _bulk(host, operation, 1, most=1 + int(operation.options["places"][0] * len(operation.calls) / 2))


# --- joined calls ---


def _joined(host: Host, operation: Operation, make: Callable[[Single], Script]) -> Script:
    """All at once, and one of them cancelled where the operation says so."""
    cut = None
    if operation.cut is not None and operation.cut[1] == "cancel":
        cut = operation.cut[0], int(operation.options["places"][0] * len(operation.calls))
    yield host.together([make(single) for single in operation.calls], cut)


def joined(host: Host, operation: Operation) -> Script:
    return _joined(
        host, operation, lambda single: _one(host, operation, single, lambda: host.joined.call(single.method, *single.params, _deadline=operation.deadline))
    )


def joined_notify(host: Host, operation: Operation) -> Script:
    return _joined(
        host, operation, lambda single: _one(host, operation, single, lambda: host.joined.notify(single.method, *single.params, _deadline=operation.deadline))
    )


def shared_reads(host: Host, operation: Operation) -> Script:
    """Equal reads at the same time; what one caller does with its result is no business of the others."""

    def spoil(result: Any) -> Any:
        found = dict(result) if isinstance(result, dict) else result
        if isinstance(result, dict):
            result["symbol"] = "spoiled"
        return found

    return _joined(
        host,
        operation,
        lambda single: _one(host, operation, single, lambda: host.joined.call(single.method, *single.params, _deadline=operation.deadline), spoil),
    )


SCRIPTS: dict[str, Callable[[Host, Operation], Script]] = {
    "call": call,
    "proxy": proxy,
    "view": view,
    "typed": typed,
    "send": send,
    "named": named,
    "keyed": keyed,
    "notify": notify,
    "batch": batch,
    "split batch": split_batch,
    "keyed batch": keyed_batch,
    "sent batch": sent_batch,
    "bulk": bulk,
    "bulk of batches": bulk_of_batches,
    "left bulk": left_bulk,
    "joined": joined,
    "joined notify": joined_notify,
    "shared reads": shared_reads,
}
