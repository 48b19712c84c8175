"""Toxics against batches and notifications: each member gets its own result or its own error, and the methods run as often as it says."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from fault_rig import LIMIT, METHODS, REPEATED, SINGLE, Case
from wire import Wire, both, settles

from rpcretry import (
    BatchRequest,
    Delivery,
    IdentityError,
    InvalidRequestError,
    MissingResponseError,
    Request,
    RpcRetryError,
)
from rpcretry.retry import ImmediateBackoff, RetryStrategy
from rpcretry.testing.faults import (
    BareObject,
    DuplicateItems,
    FaultServer,
    ForeignItems,
    GzipBomb,
    Huge,
    InTurn,
    Listed,
    MissingItems,
    OneError,
    Reorder,
    StaleAnswer,
    Toxic,
    WrongId,
)

TOTAL = 5
BATCH = BatchRequest(*(Request("add", [number, number]) for number in range(TOTAL)), Request("add", [9, 9], id=None))


def sent(client: Wire, batch: BatchRequest = BATCH, **options: Any) -> list[Any]:
    """What each request of the batch came to that asks for an answer."""
    response: Any = None

    def send() -> None:
        nonlocal response
        response = client.run(lambda: client.client.send(batch, **options))

    problem = failure(send)
    if problem is not None:
        return [problem] * sum(request.id is not None for request in batch)
    return [one.error if one.is_error else one.result for one in response]


def one_of_each(cases: Iterable[Case]) -> list[Case]:
    return list({(type(case.toxic), case.result, case.executed): case for case in cases}.values())


def failure(act: Callable[[], object]) -> RpcRetryError | None:
    """The documented error that it ends with, if any."""
    try:
        act()
    except RpcRetryError as problem:
        return problem
    return None


def wrong(found: list[Any]) -> list[type]:
    """The errors; all results must be right, and in their places."""
    errors = []
    for number, value in enumerate(found):
        if isinstance(value, Exception):
            errors.append(type(value))
        else:
            assert value == 2 * number
    return errors


EXPECTED: list[tuple[Toxic, list[type], int]] = [
    (Reorder(), [], 1),
    (ForeignItems(), [], 1),
    (ForeignItems(4), [], 1),
    (MissingItems(), [MissingResponseError], 1),
    (MissingItems(3), [MissingResponseError] * 3, 1),
    (MissingItems(99), [MissingResponseError] * TOTAL, 1),
    (DuplicateItems(), [IdentityError], 1),
    (DuplicateItems(2), [IdentityError] * 2, 1),
    (OneError(), [InvalidRequestError] * TOTAL, 0),
    (OneError(executed=True), [InvalidRequestError] * TOTAL, 1),
    (BareObject(), [MissingResponseError] * (TOTAL - 1), 1),
    (WrongId("other"), [MissingResponseError], 1),
    (WrongId("float"), [MissingResponseError], 1),
    (WrongId("text"), [MissingResponseError], 1),
    (WrongId("true"), [MissingResponseError], 1),
    (WrongId("null"), [MissingResponseError], 1),
    (WrongId("missing"), [MissingResponseError], 1),
    (StaleAnswer(), [MissingResponseError] * TOTAL, 1),
]


@both
@pytest.mark.parametrize(("toxic", "errors", "executed"), EXPECTED, ids=[repr(row[0]) for row in EXPECTED])
def test_a_batch(kind: str, toxic: Toxic, errors: list[type], executed: int) -> None:
    with FaultServer(METHODS, seed=3) as server, Wire(kind, server.url) as client:
        assert client.call("add", 50, 50) == 100
        server.faults = toxic
        found = sent(client)
        assert len(found) == TOTAL
        assert wrong(found) == errors
        assert [server.times("add", number, number) for number in (*range(TOTAL), 9)] == [executed] * (TOTAL + 1)
        assert all(problem.delivery is Delivery.MAYBE_EXECUTED for problem in found if isinstance(problem, RpcRetryError))
        assert server.met == {toxic.name: 1}
        server.faults = None
        assert sent(client) == [0, 2, 4, 6, 8]


@both
def test_a_batch_of_one_may_be_answered_with_a_bare_object(kind: str) -> None:
    with FaultServer(METHODS, BareObject()) as server, Wire(kind, server.url) as client:
        assert sent(client, BatchRequest(Request("add", [0, 0]))) == [0]


# What acts on a batch as on a single call; one of each class and meaning.
ALIKE = one_of_each(case for case in SINGLE if not isinstance(case.toxic, (WrongId, StaleAnswer, Listed, Huge, GzipBomb)) and not case.hangs)


@both
@pytest.mark.parametrize("case", ALIKE, ids=[re.sub(r"<function .*?>", "drawn", repr(case.toxic)) for case in ALIKE])
def test_a_batch_fails_as_a_single_call_does(case: Case, kind: str) -> None:
    expected = case.expected(kind)
    with FaultServer(METHODS, seed=5) as server, Wire(kind, server.url, max_response_size=LIMIT) as client:
        assert client.call("add", 50, 50) == 100
        server.faults = case.toxic
        found = sent(client)
        errors = wrong(found)
        if expected is None or (expected is IdentityError and not errors):
            assert errors == []
        elif expected is IdentityError:
            # A whole answer to somebody else leaves all unanswered.
            assert set(errors) == {MissingResponseError}
        else:
            assert errors == [expected] * TOTAL
            assert {problem.delivery for problem in found} == {case.delivery}
        assert [server.times("add", number, number) for number in (*range(TOTAL), 9)] == [case.executed] * (TOTAL + 1)
        server.faults = None
        assert client.call("add", 5, 5, _retry_strategy=REPEATED if case.toxic.lingers else None) == 10


@both
def test_what_a_batch_lacks_goes_again_alone_and_nothing_runs_twice_that_was_answered(kind: str) -> None:
    strategy = RetryStrategy(exceptions={MissingResponseError}, backoff=ImmediateBackoff(attempts=5))
    with FaultServer(METHODS, InTurn(MissingItems(2), MissingItems(1)), seed=1) as server, Wire(kind, server.url, retry_strategy=strategy) as client:
        assert sent(client) == [0, 2, 4, 6, 8]
        times = sorted(server.times("add", number, number) for number in range(TOTAL))
        assert times == [1, 1, 1, 2, 3]
        assert server.times("add", 9, 9) == 1


# --- notifications ---

SILENT = one_of_each(case for case in SINGLE if not case.hangs and not isinstance(case.toxic, (Huge, GzipBomb)))


@both
@pytest.mark.parametrize("case", SILENT, ids=[re.sub(r"<function .*?>", "drawn", repr(case.toxic)) for case in SILENT])
def test_a_notification_runs_at_most_once(case: Case, kind: str) -> None:
    with FaultServer(METHODS, seed=5) as server, Wire(kind, server.url) as client:
        assert client.call("add", 50, 50) == 100
        server.faults = case.toxic
        problem = failure(lambda: client.run(lambda: client.client.notify("add", 2, 2)))
        if problem is not None:
            assert case.result is not None
            assert problem.delivery is not Delivery.NOT_SENT
        acted = case.toxic.name in server.met
        assert settles(lambda: server.times("add", 2, 2) == (case.executed if acted else 1))
        server.faults = None
        # The answer has no body: what would end within it ends behind a whole answer, as where a toxic lingers.
        lingers = case.toxic.lingers or (problem is None and case.result is not None)
        assert client.call("add", 5, 5, _retry_strategy=REPEATED if lingers else None) == 10
