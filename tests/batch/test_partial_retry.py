"""Which members of a batch go again, when, and what each ends with: in virtual time, by both drivers.

A course is written down as the server's side of it: for each exchange what each method is answered, or one failure of
the whole; and what must follow: who is in each exchange, the waits between them, and how often each was sent.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from support import Recorder, Rig, Slow, both_drivers

from rpcretry import (
    BatchRequest,
    ConnectError,
    ConnectionLostError,
    DeadlineExceeded,
    Delivery,
    Fallback,
    HTTPStatusError,
    JsonRpcError,
    MissingResponseError,
    Request,
    RequestTimeoutError,
    RetryExhaustedError,
    RetryStrategy,
)
from rpcretry.events import CallFailed, CallSucceeded, RetryScheduled
from rpcretry.retry import PeriodicBackoff
from rpcretry.testing import http
from rpcretry.transport import Exchange, Reply

BUSY = -32001
NO, GONE, NOTHING = object(), object(), object()
"""An error whose code is not retried; an answer that is missing; the result None."""


class Busy(NamedTuple):
    """The server says that it is busy, and when to come back."""

    after: float | None = None


def answer(method: str, id: Any, what: Any) -> dict[str, Any] | None:
    if what is GONE or id is None:
        return None
    found = {"jsonrpc": "2.0", "id": id}
    if what is NO:
        return {**found, "error": {"code": -32002, "message": f"no {method}"}}
    if isinstance(what, Busy):
        data = {} if what.after is None else {"data": {"retry_after": what.after}}
        return {**found, "error": {"code": BUSY, "message": f"busy {method}", **data}}
    return {**found, "result": None if what is NOTHING else what}


def says(**answers: Any) -> Callable[[Exchange], Reply]:
    """An item: those answers, the last request's first; ``done`` for those that are not named."""

    def play(exchange: Exchange) -> Reply:
        found = [answer(one["method"], one.get("id"), answers.get(one["method"], "done")) for one in json.loads(exchange.body)]
        assert set(answers) <= {one["method"] for one in json.loads(exchange.body)}
        return Reply(json.dumps([one for one in found[::-1] if one is not None]).encode())

    return play


def raises(kind: type[Exception], **options: Any) -> Callable[[Exchange], Exception]:
    return lambda exchange: kind("gone", **options)


LOST, UNSENT = raises(ConnectionLostError), raises(ConnectError)
SLOW, STUCK = raises(RequestTimeoutError), raises(RequestTimeoutError, delivery=Delivery.NOT_SENT)
FULL, FULL_FOR_7 = http(429), http(429, headers={"Retry-After": "7"})
DOWN, DOWN_FOR_7 = http(503), http(503, headers={"Retry-After": "7"})
WHOLE = Reply(json.dumps({"jsonrpc": "2.0", "id": None, "error": {"code": BUSY, "message": "busy"}}).encode())


def steps(attempts: int = 3, interval: float = 0.5, **kinds: Any) -> RetryStrategy:
    return RetryStrategy(backoff=PeriodicBackoff(attempts, interval), **kinds)


PRESET = steps(idempotent={"get*"})
PLAIN = steps()
CODES = steps(codes={BUSY})
NAMED = steps(exceptions={ConnectionError, TimeoutError})
GUARDED = steps(exceptions={ConnectionError, TimeoutError}, codes={BUSY}, idempotent={"get*"})
LEFT_OUT = steps(exceptions={MissingResponseError})
LEFT_OUT_SAFE = steps(exceptions={MissingResponseError}, idempotent={"get*"})


class Course(NamedTuple):
    """What a server does, and what must come of it.

    :ivar methods: the batch; ``tell`` is a notification.
    :ivar exchanges: the methods in each exchange.
    :ivar ends: by method, the result or the class of the error of those that are not ``done``.
    """

    name: str
    strategy: RetryStrategy | None
    methods: str
    script: list[Any]
    exchanges: list[str]
    waits: list[float]
    ends: dict[str, Any] = {}


COURSES = [
    # Codes.
    Course("nothing fails", CODES, "a b tell", [says()], ["a b tell"], []),
    Course("one code", CODES, "a b c", [says(b=Busy()), says()], ["a b c", "b"], [0.5]),
    Course("one code, and a notification", CODES, "a tell b", [says(b=Busy()), says()], ["a tell b", "b"], [0.5]),
    Course("a code that is not named", CODES, "a b", [says(b=NO)], ["a b"], [], {"b": JsonRpcError}),
    Course("a code, then one that is not named", CODES, "a b", [says(b=Busy()), says(b=NO)], ["a b", "b"], [0.5], {"b": JsonRpcError}),
    Course("a code that stays", CODES, "a b", [says(b=Busy())] * 4, ["a b", "b", "b", "b"], [0.5] * 3, {"b": JsonRpcError}),
    Course("fewer each time", CODES, "a b c", [says(a=Busy(), b=Busy(), c=Busy()), says(a=Busy(), c=Busy()), says()], ["a b c", "a b c", "a c"], [0.5] * 2),
    Course("null is a result", CODES, "a b", [says(a=NOTHING, b=Busy()), says(b=NOTHING)], ["a b", "b"], [0.5], {"a": None, "b": None}),
    Course("one error for all", CODES, "a b tell", [WHOLE, says()], ["a b tell", "a b"], [0.5]),
    Course("a code, of what is not idempotent", GUARDED, "put get", [says(put=Busy(), get=Busy()), says()], ["put get", "put get"], [0.5]),
    Course("no strategy", None, "a b", [says(b=Busy())], ["a b"], [], {"b": JsonRpcError}),
    # Left out.
    Course("left out", CODES, "a b", [says(a=GONE, b=Busy()), says()], ["a b", "b"], [0.5], {"a": MissingResponseError}),
    Course("left out, and named", LEFT_OUT, "a b", [says(a=GONE), says()], ["a b", "a"], [0.5]),
    Course("left out, and guarded", LEFT_OUT_SAFE, "get put", [says(get=GONE, put=GONE), says()], ["get put", "get"], [0.5], {"put": MissingResponseError}),
    Course(
        "left out, by the preset", PRESET, "get put", [says(get=GONE, put=GONE)], ["get put"], [], {"get": MissingResponseError, "put": MissingResponseError}
    ),
    Course("left out, then busy", LEFT_OUT, "a b", [says(a=GONE), says(a=Busy())], ["a b", "a"], [0.5], {"a": JsonRpcError}),
    # The connection.
    Course("lost, guarded by names", PRESET, "get_a put get_b", [LOST, says()], ["get_a put get_b", "get_a get_b"], [0.5], {"put": ConnectionLostError}),
    Course("lost, named for all", NAMED, "a b tell", [LOST, says()], ["a b tell", "a b"], [0.5], {"tell": ConnectionLostError}),
    Course("lost twice", PRESET, "get put", [LOST, LOST, says()], ["get put", "get", "get"], [0.5] * 2, {"put": ConnectionLostError}),
    Course("not sent", PRESET, "get put tell", [UNSENT, says()], ["get put tell"] * 2, [0.5]),
    Course("not sent, nothing declared", PLAIN, "a tell", [UNSENT, says()], ["a tell"] * 2, [0.5]),
    Course("not sent, then lost", PRESET, "get put", [UNSENT, LOST, says()], ["get put", "get put", "get"], [0.5] * 2, {"put": ConnectionLostError}),
    Course(
        "lost, then not sent",
        PRESET,
        "get_a put get_b",
        [LOST, UNSENT, says()],
        ["get_a put get_b", "get_a get_b", "get_a get_b"],
        [0.5] * 2,
        {"put": ConnectionLostError},
    ),
    Course("timed out", PRESET, "get put", [SLOW, says()], ["get put", "get"], [0.5], {"put": RequestTimeoutError}),
    Course("timed out before it was sent", PRESET, "get put tell", [STUCK, says()], ["get put tell"] * 2, [0.5]),
    Course(
        "busy, then lost",
        GUARDED,
        "get put c",
        [says(get=Busy(), put=Busy()), LOST, says()],
        ["get put c", "get put", "get"],
        [0.5] * 2,
        {"put": ConnectionLostError},
    ),
    # HTTP.
    Course("429 for all", PRESET, "get put tell", [FULL, says()], ["get put tell"] * 2, [0.5]),
    Course("429 with a time", PRESET, "get put tell", [FULL_FOR_7, says()], ["get put tell"] * 2, [7.0]),
    Course("503 without a time", PRESET, "get put", [DOWN, says()], ["get put", "get"], [0.5], {"put": HTTPStatusError}),
    Course("503 with a time", PRESET, "get put tell", [DOWN_FOR_7, says()], ["get put tell"] * 2, [7.0]),
    Course("413 halves, and no strategy", None, "a b c d", [http(413), says(), says()], ["a b c d", "a b", "c d"], []),
    Course("413 halves, and then a code", CODES, "a b c", [http(413), says(b=Busy()), says(), says()], ["a b c", "a b", "c", "b"], [0.5]),
    # Times.
    Course("one is held", CODES, "a b c", [says(a=Busy(), b=Busy(4)), says(), says()], ["a b c", "a", "b"], [0.5, 3.5]),
    Course("two are held alike", CODES, "a b c", [says(a=Busy(4), c=Busy(4)), says()], ["a b c", "a c"], [4.0]),
    Course("a hint that is shorter than the backoff", CODES, "a b", [says(a=Busy(0.1), b=Busy()), says()], ["a b", "a b"], [0.5]),
    Course("held while others fail", CODES, "a b", [says(a=Busy(), b=Busy(0.8)), says(a=Busy()), says(), says()], ["a b", "a", "b", "a"], [0.5, 0.3, 0.2]),
]


def batch(methods: str) -> BatchRequest:
    return BatchRequest(*[Request(method, id=None if method == "tell" else f"id-{method}") for method in methods.split()])


def sent(rig: Rig) -> list[str]:
    for body in rig.backend.bodies:
        # An array with one request in it, too, and each under the id that it had first.
        assert isinstance(body, list)
        assert all(one.get("id") == (None if one["method"] == "tell" else f"id-{one['method']}") for one in body)
    return [" ".join(one["method"] for one in body) for body in rig.backend.bodies]


def by_method(rig: Rig, methods: str) -> dict[str, Any]:
    """What each ended with, and how often it was sent."""
    response = list(rig.send(batch(methods)))
    found: dict[str, Any] = {}
    for method in methods.split():
        if method == "tell" and not (response and response[0].id is None):
            continue
        one = response.pop(0)
        assert one.id == (None if method == "tell" else f"id-{method}")
        found[method] = one
    assert response == []
    return found


@both_drivers
@pytest.mark.parametrize("course", COURSES, ids=[course.name for course in COURSES])
def test_who_goes_again_and_when(course: Course, driver: str) -> None:
    layer = Recorder()
    rig = Rig(driver, *course.script, retry_strategy=course.strategy, layers=layer, watched=True)
    found = by_method(rig, course.methods)
    assert sent(rig) == course.exchanges
    assert rig.waits == course.waits
    for method, one in found.items():
        assert one.attempts == sum(method in exchange.split() for exchange in course.exchanges), method
        expected = course.ends.get(method, "done")
        if isinstance(expected, type):
            assert isinstance(one.error, expected), method
        else:
            assert one.is_success, (method, one.error)
            assert one.result == expected, method
    assert ("tell" in found) == ("tell" in course.ends)
    # A layer hears of each exchange once, with those who were in it.
    assert [" ".join(member.method or "" for member in attempt.members) for attempt in layer.attempts] == course.exchanges
    assert layer.count("settle") == layer.count("admit") == len(course.exchanges)
    assert layer.count("abandon") == 0
    # And a sink of one call that ended once.
    ends = [event for event in rig.events if isinstance(event, (CallSucceeded, CallFailed))]
    assert [type(event) for event in ends] == [CallFailed if any(isinstance(end, type) for end in course.ends.values()) else CallSucceeded]


def test_no_two_courses_have_one_name() -> None:
    assert len({course.name for course in COURSES}) == len(COURSES)


@both_drivers
def test_a_failure_says_the_worst_that_may_have_become_of_the_member(driver: str) -> None:
    """``put`` was lost once, and refused ever after: it may have been executed."""
    strategy = steps(2, exceptions={ConnectionError}, codes={BUSY})
    rig = Rig(driver, LOST, *[says(put=Busy(), get=Busy())] * 2, retry_strategy=strategy)
    found = by_method(rig, "put get")
    assert found["put"].error.delivery is found["get"].error.delivery is Delivery.MAYBE_EXECUTED
    rig = Rig(driver, says(a=Busy()), says(a=Busy()), says(a=Busy()), retry_strategy=steps(2, codes={BUSY}))
    assert by_method(rig, "a b")["a"].error.delivery is Delivery.REJECTED
    rig = Rig(driver, says(a=Busy()), UNSENT, UNSENT, retry_strategy=steps(2, codes={BUSY}, exceptions={ConnectionError}))
    assert by_method(rig, "a b")["a"].error.delivery is Delivery.REJECTED


@both_drivers
def test_each_member_has_the_tries_that_its_strategy_gives_it(driver: str) -> None:
    """One that fails for the first time in the second exchange has all of its tries left."""
    strategy = steps(2, codes={BUSY}, exceptions={MissingResponseError})
    script = [says(a=Busy(), b=Busy(3)), says(a=Busy()), says(a=Busy()), says(b=Busy()), says(b=Busy())]
    rig = Rig(driver, *script, retry_strategy=strategy)
    found = by_method(rig, "a b c")
    assert sent(rig) == ["a b c", "a", "a", "b", "b"]
    assert rig.waits == [0.5, 0.5, 2.0, 0.5]
    assert [one.attempts for one in found.values()] == [3, 3, 1]
    assert "gave up after 3 attempts" in found["a"].error.__notes__[0]


@both_drivers
def test_each_member_draws_from_its_own_delays(driver: str) -> None:
    """Iterators that a batch shared would give the second member the second delay."""
    made: list[list[float]] = []

    def backoff() -> Any:
        own: list[float] = []
        made.append(own)
        for delay in (1.0, 2.0, 4.0):
            own.append(delay)
            yield delay

    script = [says(a=Busy(), b=Busy(5)), says(a=Busy()), says(), says(b=Busy()), says()]
    rig = Rig(driver, *script, retry_strategy=RetryStrategy(codes={BUSY}, backoff=lambda: backoff()))
    by_method(rig, "a b c")
    assert sent(rig) == ["a b c", "a", "a", "b", "b"]
    assert rig.waits == [1.0, 2.0, 2.0, 2.0]
    assert made == [[1.0, 2.0], [1.0, 2.0]]


@both_drivers
def test_members_that_go_again_travel_together_after_the_longest_of_their_delays(driver: str) -> None:
    delays = iter([[1.0], [3.0], [2.0]])
    rig = Rig(driver, says(a=Busy(), b=Busy(), c=Busy()), says(), retry_strategy=RetryStrategy(codes={BUSY}, backoff=lambda: iter(next(delays))))
    by_method(rig, "a b c d")
    assert sent(rig) == ["a b c d", "a b c"]
    assert rig.waits == [3.0]


@both_drivers
def test_so_do_two(driver: str) -> None:
    delays = iter([3.0, 1.0])
    strategy = RetryStrategy(codes={BUSY}, backoff=lambda: iter([next(delays)]))
    rig = Rig(driver, says(a=Busy(), b=Busy()), says(), retry_strategy=strategy)
    assert rig.send(BatchRequest(Request("a"), Request("b"))).results == ["done", "done"]
    assert (rig.sent, rig.waits) == (2, [3.0])


@both_drivers
def test_one_whose_delays_are_used_up_does_not_keep_the_others(driver: str) -> None:
    delays = iter([[], [1.0, 1.0], [1.0]])
    rig = Rig(
        driver,
        says(a=Busy(), b=Busy(), c=Busy()),
        says(b=Busy(), c=Busy()),
        says(),
        retry_strategy=RetryStrategy(codes={BUSY}, backoff=lambda: iter(next(delays))),
    )
    found = by_method(rig, "a b c")
    assert sent(rig) == ["a b c", "b c", "b"]
    assert [one.is_success for one in found.values()] == [False, True, False]


@both_drivers
def test_a_wrapped_failure_is_the_members_alone(driver: str) -> None:
    rig = Rig(driver, says(a=Busy(), b=NO), says(a=Busy()), retry_strategy=steps(1, codes={BUSY}, wrap=True))
    found = by_method(rig, "a b c")
    assert isinstance(found["a"].error, RetryExhaustedError)
    assert (found["a"].error.attempts, found["a"].error.last_exception.code) == (2, BUSY)
    assert found["b"].error.code == -32002
    assert found["c"].result == "done"


@both_drivers
def test_a_predicate_sees_each_member(driver: str) -> None:
    """``when`` asks for another try of a success that is not ready yet."""
    seen: list[tuple[Any, int]] = []

    def pending(outcome: Any, tries: int) -> bool:
        seen.append((outcome.result, tries))
        return bool(outcome.result == "pending")

    rig = Rig(driver, says(b="pending"), says(b="pending"), says(b="ready"), retry_strategy=steps(when=pending))
    found = by_method(rig, "a b")
    assert sent(rig) == ["a b", "b", "b"]
    assert found["b"].result == "ready"
    assert seen == [("done", 1), ("pending", 1), ("pending", 2), ("ready", 3)]


# --- fallbacks ---


@both_drivers
def test_a_fallback_stands_in_for_those_that_failed_in_the_end(driver: str) -> None:
    rig = Rig(driver, says(a=Busy(), b=NO, c=Busy()), says(a=Busy()), retry_strategy=steps(1, codes={BUSY}), fallback=Fallback("spare"))
    found = by_method(rig, "a b c d")
    assert {method: one.result for method, one in found.items()} == {"a": "spare", "b": "spare", "c": "done", "d": "done"}
    assert [one.attempts for one in found.values()] == [2, 1, 2, 1]


@both_drivers
def test_a_fallback_that_covers_one_failure_leaves_the_other(driver: str) -> None:
    rig = Rig(driver, LOST, says(get=Busy()), retry_strategy=PRESET, fallback=Fallback("spare", on=ConnectionLostError))
    found = by_method(rig, "get put")
    assert found["put"].result == "spare"
    assert found["get"].error.code == BUSY


@both_drivers
def test_a_fallback_is_given_the_failure_of_its_own_member(driver: str) -> None:
    asked: list[str] = []

    def spare(error: Exception) -> str:
        asked.append(str(error))
        return f"instead of {error}"

    rig = Rig(driver, says(a=NO, b=NO), fallback=Fallback(spare))
    found = by_method(rig, "a b c")
    assert asked == ["no a [-32002]", "no b [-32002]"]
    assert found["a"].result == "instead of no a [-32002]"
    assert found["b"].result == "instead of no b [-32002]"


# --- deadlines ---


@both_drivers
def test_a_delay_past_the_deadline_ends_that_member_at_once(driver: str) -> None:
    rig = Rig(driver, says(a=Busy(), b=Busy(9)), says(), retry_strategy=CODES, deadline=2.0)
    found = by_method(rig, "a b c")
    assert sent(rig) == ["a b c", "a"]
    assert rig.waits == [0.5]
    assert isinstance(found["b"].error, DeadlineExceeded)
    assert found["b"].error.__cause__.code == BUSY
    assert (found["a"].result, found["c"].result) == ("done", "done")


@both_drivers
def test_an_exchange_that_the_deadline_cuts_ends_those_in_it_and_keeps_the_others(driver: str) -> None:
    rig = Rig(driver, Slow(1.0, says(b=Busy())), Slow(9.0, says()), retry_strategy=steps(codes={BUSY}, exceptions={TimeoutError}), deadline=3.0)
    found = by_method(rig, "a b")
    assert found["a"].result == "done"
    assert isinstance(found["b"].error, DeadlineExceeded)
    assert rig.time.now == 1_003.0


@both_drivers
def test_the_limit_of_an_attempt_holds_for_each_exchange(driver: str) -> None:
    rig = Rig(
        driver,
        Slow(0.9, says(a=Busy(), b=Busy())),
        Slow(5.0, says()),
        Slow(0.9, says()),
        retry_strategy=steps(codes={BUSY}, exceptions={TimeoutError}),
        timeout=1.0,
    )
    found = by_method(rig, "a b")
    assert sent(rig) == ["a b"] * 3
    assert all(one.result == "done" for one in found.values())
    assert rig.time.now == pytest.approx(1_000 + 0.9 + 0.5 + 1.0 + 0.5 + 0.9)


@both_drivers
def test_a_deadline_of_nothing_sends_nothing(driver: str) -> None:
    rig = Rig(driver, says(), deadline=0)
    with pytest.raises(DeadlineExceeded) as caught:
        rig.send(batch("a b tell"))
    assert caught.value.delivery is Delivery.NOT_SENT
    assert rig.sent == 0


@both_drivers
def test_parts_share_the_deadline_of_the_batch(driver: str) -> None:
    """The third part has what the first two left of it."""
    rig = Rig(driver, *[Slow(1.0, says())] * 4, deadline=2.5, max_batch_size=1)
    found = by_method(rig, "a b c d")
    assert [one.is_success for one in found.values()] == [True, True, False, False]
    assert all(isinstance(found[method].error, DeadlineExceeded) for method in "cd")
    assert found["c"].error.delivery is Delivery.MAYBE_EXECUTED
    assert found["d"].error.delivery is Delivery.NOT_SENT
    assert rig.time.now == 1_002.5
    assert rig.sent == 3


# --- what is told ---


@both_drivers
def test_a_sink_hears_how_many_go_again(driver: str) -> None:
    rig = Rig(driver, says(a=Busy(), b=Busy(2), c=Busy()), says(a=Busy()), says(), says(), retry_strategy=CODES, watched=True)
    by_method(rig, "a b c d")
    told = [(event.attempt, event.members, round(event.delay, 6)) for event in rig.events if isinstance(event, RetryScheduled)]
    assert told == [(1, 3, 0.5), (2, 1, 0.5)]
    assert isinstance(rig.events[-1], CallSucceeded)


# --- each has its own ---


@both_drivers
@pytest.mark.parametrize("size", [None, 2])
def test_each_result_is_read_as_its_own_type_whenever_it_comes(driver: str, size: int | None) -> None:
    """Places in a batch that shrank, and in a part of one, are not those in the batch."""

    def play(exchange: Exchange) -> Reply:
        asked = json.loads(exchange.body)
        seen.append([one["method"] for one in asked])
        busy = [one["method"] for one in asked if one["method"] in ("b", "d") and len([batch for batch in seen if one["method"] in batch]) == 1]
        return says(**{one["method"]: Busy() if one["method"] in busy else f"{number[one['method']]}" for one in asked})(exchange)

    number = {"a": 1, "b": 2, "c": 3, "d": 4}
    seen: list[list[str]] = []
    rig = Rig(driver, *[play] * 6, retry_strategy=CODES, max_batch_size=size)
    handles: dict[str, Any] = {}

    def fill(batch: Any) -> None:
        for method, kind in {"a": int, "b": float, "c": str, "d": int}.items():
            handles[method] = batch.call(method, _result=kind)

    def sync(client: Any) -> None:
        with client.batch() as made:
            fill(made)

    async def asynchronous(client: Any) -> None:
        async with client.batch() as made:
            fill(made)

    rig.run(sync if driver == "sync" else asynchronous)
    found = {method: handle.result() for method, handle in handles.items()}
    assert found == {"a": 1, "b": 2.0, "c": "3", "d": 4}
    assert [type(value) for value in found.values()] == [int, float, str, int]
    assert seen == ([["a", "b", "c", "d"], ["b", "d"]] if size is None else [["a", "b"], ["b"], ["c", "d"], ["d"]])


@both_drivers
def test_each_response_has_the_status_and_headers_that_it_came_with(driver: str) -> None:
    def under(number: int, item: Any) -> Callable[[Exchange], Reply]:
        def play(exchange: Exchange) -> Reply:
            return Reply(item(exchange).body, 200 + number, {"X-Number": str(number)})

        return play

    rig = Rig(driver, under(1, says(b=Busy(), c=NO)), under(2, says()), retry_strategy=CODES)
    found = by_method(rig, "a b c")
    assert {method: (one.status, one.headers["x-number"]) for method, one in found.items()} == {"a": (201, "1"), "b": (202, "2"), "c": (201, "1")}
    assert (found["c"].error.status, found["c"].error.headers["x-number"]) == (201, "1")


@both_drivers
def test_a_handle_says_of_its_own_request_what_may_have_become_of_it(driver: str) -> None:
    """Where nothing came of any, the failure of the batch says the worst of all; that of each says its own."""
    refused = says(a=Busy(), b=Busy(9))
    rig = Rig(driver, refused, STUCK, SLOW, retry_strategy=CODES)
    handles: list[Any] = []

    def sync(client: Any) -> None:
        with client.batch() as made:
            handles.extend(made.call(method) for method in "ab")

    async def asynchronous(client: Any) -> None:
        async with client.batch() as made:
            handles.extend(made.call(method) for method in "ab")

    with pytest.raises(RequestTimeoutError) as caught:
        rig.run(sync if driver == "sync" else asynchronous)
    assert caught.value.delivery is Delivery.MAYBE_EXECUTED
    assert [handle.error.delivery for handle in handles] == [Delivery.REJECTED, Delivery.MAYBE_EXECUTED]
