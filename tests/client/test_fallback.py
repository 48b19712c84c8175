"""Fallbacks: what stands in for the result of a client's call that failed, and what never does."""

from __future__ import annotations

import asyncio
import functools
import gc
import json
import logging
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AfterValidator
from support import Recorder, Rig, Slow, both_drivers, finish, fresh, no_collector

import rpcretry.backends.aiohttp
import rpcretry.backends.requests
from rpcretry import (
    AsyncClient,
    BatchRequest,
    CircuitOpenError,
    Client,
    ConnectError,
    ConnectionLostError,
    DeadlineExceeded,
    JsonRpcError,
    Request,
    ResultValidationError,
    RetryExhaustedError,
    RetryStrategy,
    current_attempt,
)
from rpcretry.events import CallFailed, FallbackUsed
from rpcretry.layers import CircuitBreaker
from rpcretry.outcome import Outcome
from rpcretry.retry import PeriodicBackoff
from rpcretry.retry.fallback import LAST_GOOD, Fallback
from rpcretry.testing import RESET, AsyncScriptedBackend, LoopbackServer, ScriptedBackend, error, http, result
from rpcretry.transport import Exchange, Reply

lost = fresh(ConnectionLostError("reset"))
unconnected = fresh(ConnectError("refused"))
EVERY = RetryStrategy(exceptions={Exception}, codes={2001}, backoff=PeriodicBackoff(2, 0.5))


def answers(**members: Any) -> Callable[[Exchange], Reply]:
    """A batch's reply: for each method its result, an error's code as a set, or ``...`` to leave it out."""

    def play(exchange: Exchange) -> Reply:
        items: list[dict[str, Any]] = []
        for request in exchange.requests:
            found = members[request.method]
            if isinstance(found, set):
                items.append({"id": request.id, "error": {"code": next(iter(found)), "message": "no"}})
            elif found is not ... and request.id is not None:
                items.append({"id": request.id, "result": found})
        return Reply(json.dumps([{"jsonrpc": "2.0", **item} for item in items]).encode())

    return play


# --- where it is given ---


@both_drivers
def test_on_the_client_on_a_view_and_on_the_call(driver: str) -> None:
    rig = Rig(driver, *[lost] * 9, fallback=Fallback("client"))
    assert rig.call("m") == "client"
    assert rig.run(lambda client: client.using(fallback=Fallback("view")).call("m")) == "view"
    assert rig.run(lambda client: client.using(timeout=3).call("m")) == "client"
    assert rig.run(lambda client: client.using(fallback=Fallback("view")).call("m", _fallback=Fallback("call"))) == "call"
    assert rig.call("m", _fallback=Fallback(None)) is None
    for act in (
        lambda client: client.call("m", _fallback=None),
        lambda client: client.using(fallback=None).call("m"),
        lambda client: client.proxy.m(_fallback=None),
        lambda client: client.send(Request("m"), _fallback=None),
    ):
        with pytest.raises(ConnectionLostError):
            rig.run(act)


@both_drivers
def test_call_proxy_and_send(driver: str) -> None:
    rig = Rig(driver, *[lost] * 9, retry_strategy=EVERY, fallback=Fallback({"cached": True}))
    assert rig.call("m", 1) == {"cached": True}
    assert rig.run(lambda client: client.proxy.a.b(x=1)) == {"cached": True}
    response = rig.send(Request("m", id="mine"))
    assert (response.id, response.result, response.error, response.is_success, response.attempts) == ("mine", {"cached": True}, None, True, 3)
    assert (response.status, dict(response.headers)) == (200, {})


@both_drivers
@pytest.mark.parametrize("quick", [True, False])
def test_a_success_asks_no_fallback(driver: str, quick: bool) -> None:
    def never(_: Exception) -> None:
        raise AssertionError("asked")

    rig = Rig(driver, result(1), lost, result(2), retry_strategy=EVERY, fallback=Fallback(never), watched=not quick)
    assert (rig.call("m"), rig.call("m")) == (1, 2)


@both_drivers
@pytest.mark.parametrize("bad", [3, "x", lambda error: 0, [Fallback(0)], True])
def test_what_is_no_fallback_is_refused_with_the_fix(driver: str, bad: Any) -> None:
    rig = Rig(driver)
    with pytest.raises(TypeError, match=r"^_fallback must be a Fallback or None, got .*; write Fallback\(\.\.\.\) around it$"):
        rig.call("m", _fallback=bad)
    with pytest.raises(TypeError, match=r"^fallback must be a Fallback or None"):
        rig.client.using(fallback=bad)
    with pytest.raises(TypeError, match=r"^fallback must be a Fallback or None"):
        Rig(driver, fallback=bad)
    with pytest.raises(TypeError, match=r"write Fallback\(\.\.\.\)$"):
        rig.call("m", _fallback=Fallback)
    with pytest.raises(TypeError, match="'_fallback' is no option of a notification"):
        rig.notify("m", _fallback=Fallback(0))
    assert rig.sent == 0


def one_of_many() -> Iterator[int]:
    yield 1


async def many() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (lambda: Fallback(), TypeError, r"write Fallback\(None\)"),
        (lambda: Fallback(on=ValueError), TypeError, "a value, a callable or LAST_GOOD"),
        (lambda: Fallback(one_of_many), TypeError, "generator function"),
        (lambda: Fallback(many), TypeError, "generator function"),
        (lambda: Fallback(lambda a, b: 0), TypeError, "it gets the failure, or nothing"),
        (lambda: Fallback(lambda *, key: 0), TypeError, "it gets the failure, or nothing"),
        (lambda: Fallback(0, on="ConnectError"), TypeError, "on takes subclasses of Exception, got 'ConnectError'"),  # type: ignore[arg-type]
        (lambda: Fallback(0, on=5), TypeError, "on takes subclasses of Exception, got 5"),  # type: ignore[arg-type]
        (lambda: Fallback(0, on=[BaseException]), TypeError, "on takes subclasses of Exception"),  # type: ignore[list-item]
        (lambda: Fallback(0, on=asyncio.CancelledError), TypeError, "on takes subclasses of Exception"),  # type: ignore[arg-type]
        (lambda: Fallback(LAST_GOOD, max_age=0), ValueError, "max_age must be more than 0, got 0"),
        (lambda: Fallback(LAST_GOOD, max_age=float("nan")), ValueError, "max_age must be finite"),
        (lambda: Fallback(LAST_GOOD, max_age="60"), TypeError, "max_age must be a number"),  # type: ignore[arg-type]
        (lambda: Fallback(LAST_GOOD, size=0), ValueError, "size must be at least 1, got 0"),
        (lambda: Fallback(LAST_GOOD, size=True), TypeError, "size must be an int"),
    ],
)
def test_nonsense_is_refused_by_name(make: Callable[[], Any], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        make()


def test_its_repr_tells_the_steps() -> None:
    assert repr(Fallback(LAST_GOOD, int, 3)) == "Fallback(last good, int, value)"
    assert repr(LAST_GOOD) == "LAST_GOOD"


# --- what it gives ---


class Stock:
    def of(self, problem: Exception) -> str:
        return f"method {type(problem).__name__}"

    def __call__(self, problem: Exception) -> str:
        return f"object {type(problem).__name__}"


def by_default(symbol: str = "EUR") -> str:
    return f"default {symbol}"


def of_two(error: Exception, symbol: str = "EUR") -> str:
    return f"{type(error).__name__} {symbol}"


NAMED = [
    (lambda: "nothing", "nothing"),
    (lambda error: type(error).__name__, "ConnectionLostError"),
    (lambda *args: len(args), 1),
    (lambda error, *rest: (type(error).__name__, rest), ("ConnectionLostError", ())),
    (Stock().of, "method ConnectionLostError"),
    (Stock(), "object ConnectionLostError"),
    (of_two, "ConnectionLostError EUR"),
    (functools.partial(of_two, symbol="USD"), "ConnectionLostError USD"),
]


@both_drivers
@pytest.mark.parametrize(("step", "expected"), NAMED)
def test_a_callable_gets_the_failure_where_it_needs_an_argument(driver: str, step: Any, expected: object) -> None:
    assert Rig(driver, lost, fallback=Fallback(step)).call("m") == expected


@both_drivers
@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (by_default, "default EUR"),
        (functools.partial({"EUR": 1.5}.get, "EUR"), 1.5),
        (functools.partial({"EUR": 1.5}.get, "USD"), None),
        (functools.partial(of_two, ValueError()), "ValueError EUR"),
        (list, []),
        (dict, {}),
        (int, 0),
        (str, ""),
    ],
)
def test_a_default_is_not_overridden_by_the_failure(driver: str, step: Any, expected: object) -> None:
    """``partial(prices.get, "USD")`` took the failure for its default, and returned it as if it were a price."""
    assert Rig(driver, lost, fallback=Fallback(step)).call("m") == expected


@both_drivers
def test_a_new_value_each_time_is_a_callable_and_a_value_is_the_same(driver: str) -> None:
    rig = Rig(driver, *[lost] * 4)
    same = Fallback([])
    assert rig.call("m", _fallback=same) is rig.call("m", _fallback=same)
    new = Fallback(list)
    assert rig.call("m", _fallback=new) is not rig.call("m", _fallback=new)


@both_drivers
def test_an_exception_that_is_returned_is_a_value(driver: str) -> None:
    found = Rig(driver, lost, fallback=Fallback(lambda problem: problem)).call("m")
    assert type(found) is ConnectionLostError


async def later(problem: Exception) -> str:
    await asyncio.sleep(0)
    return f"later {type(problem).__name__}"


class Later:
    async def __call__(self) -> str:
        return "object"


ASYNC = [(later, "later ConnectionLostError"), (functools.partial(later), "later ConnectionLostError"), (Later(), "object")]


@pytest.mark.parametrize(("step", "expected"), ASYNC)
def test_an_async_callable_is_awaited_by_an_async_client_and_refused_by_a_sync_one(step: Any, expected: str) -> None:
    fallback = Fallback(step)
    assert Rig("async", lost, fallback=fallback).call("m") == expected
    assert Rig("async", lost).call("m", _fallback=fallback) == expected
    rig = Rig("sync")
    for act in (lambda: rig.call("m", _fallback=fallback), lambda: rig.client.using(fallback=fallback), lambda: Rig("sync", fallback=fallback)):
        with pytest.raises(TypeError, match=r"has an async def; write def$"):
            act()
    assert rig.sent == 0


def test_a_coroutine_in_disguise_is_awaited_or_refused_and_closed() -> None:
    hidden = Fallback(lambda problem: later(problem))
    assert Rig("async", lost, fallback=hidden).call("m") == "later ConnectionLostError"
    # Where it was left unclosed, "never awaited" would be a failure of this test.
    with pytest.raises(TypeError, match="returned a coroutine, which nobody would await here; write def") as caught:
        Rig("sync", lost, fallback=hidden).call("m")
    gc.collect()
    assert isinstance(caught.value.__cause__, ConnectionLostError)


@both_drivers
def test_a_fallback_sees_where_the_call_stands(driver: str) -> None:
    seen: list[Any] = []
    rig = Rig(driver, lost, lost, lost, retry_strategy=EVERY, fallback=Fallback(lambda: seen.append(current_attempt())), deadline=10)
    rig.call("m")
    assert (seen[0].operation, seen[0].number, type(seen[0].last_exception), round(seen[0].remaining, 6)) == ("m", 3, ConnectionLostError, 9.0)


@both_drivers
def test_a_fallback_may_make_calls_of_its_own(driver: str) -> None:
    other = Rig(driver, lost, result("replica"), retry_strategy=EVERY)
    step: Any
    if driver == "sync":
        step = lambda: other.client.call("m")
    else:

        async def step() -> Any:
            return await other.client.call("m")

    assert Rig(driver, lost, fallback=Fallback(step)).call("m") == "replica"
    assert other.sent == 2


# --- which failures ---


@both_drivers
def test_only_the_classes_that_it_is_for(driver: str) -> None:
    rig = Rig(driver, *[lost, unconnected, error(7), http(503)] * 2)
    narrow = Fallback("x", on={ConnectionLostError, JsonRpcError})
    assert rig.call("m", _fallback=narrow) == "x"
    with pytest.raises(ConnectError):
        rig.call("m", _fallback=narrow)
    assert rig.call("m", _fallback=narrow) == "x"
    with pytest.raises(Exception, match="503"):
        rig.call("m", _fallback=narrow)
    builtin = Fallback("y", on=ConnectionError)
    assert [rig.call("m", _fallback=builtin) for _ in range(2)] == ["y", "y"]
    with pytest.raises(JsonRpcError):
        rig.call("m", _fallback=builtin)


@both_drivers
def test_a_json_rpc_error_is_a_failure_for_send_too(driver: str) -> None:
    rig = Rig(driver, error(7, "no"), error(7, "no"))
    assert rig.send(Request("m"), _fallback=Fallback("x")).result == "x"
    # Without one, send gives it as the response that it is.
    assert rig.send(Request("m"), _fallback=Fallback("x", on=ConnectionError)).is_error


@both_drivers
def test_an_open_circuit_is_answered_without_the_network(driver: str) -> None:
    breaker = CircuitBreaker(failure_threshold=1)
    rig = Rig(driver, lost, retry_strategy=EVERY, layers=breaker, fallback=Fallback(lambda problem: type(problem).__name__))
    assert [rig.call("m") for _ in range(3)] == ["CircuitOpenError"] * 3
    assert rig.sent == 1
    with pytest.raises(CircuitOpenError):
        rig.call("m", _fallback=Fallback(0, on=ConnectionError))


@both_drivers
@pytest.mark.parametrize("deadline", [0, -1, 0.7])
def test_a_deadline_is_a_failure_like_another(driver: str, deadline: float) -> None:
    seen: list[Exception] = []
    rig = Rig(driver, lost, lost, lost, retry_strategy=EVERY, deadline=deadline, fallback=Fallback(seen.append, "x"), watched=True)
    assert rig.call("m") is None
    assert [type(problem) for problem in seen] == [DeadlineExceeded]
    assert rig.told[-2:] == ["CallFailed", "FallbackUsed"]
    assert rig.sent == (2 if deadline > 0 else 0)


@both_drivers
def test_refused_by_a_layer_at_the_first_attempt(driver: str) -> None:
    layer = Recorder(waits=[CircuitOpenError("open"), ValueError("broken")])
    rig = Rig(driver, layers=layer, fallback=Fallback(lambda problem: str(problem)), watched=True)
    assert (rig.call("m"), rig.call("m")) == ("open", "broken")
    assert (rig.sent, rig.told) == (0, ["CallFailed", "FallbackUsed"] * 2)


@both_drivers
def test_a_wrapped_failure_is_what_it_is_wrapped_in(driver: str) -> None:
    strategy = RetryStrategy(exceptions={ConnectionError}, backoff=PeriodicBackoff(1), wrap=True)
    rig = Rig(driver, *[lost] * 4, retry_strategy=strategy)
    assert rig.call("m", _fallback=Fallback("x", on=RetryExhaustedError)) == "x"
    with pytest.raises(RetryExhaustedError):
        rig.call("m", _fallback=Fallback("x", on=ConnectionError))


@both_drivers
def test_a_result_of_the_wrong_type_is_covered_told_and_not_retried(driver: str) -> None:
    rig = Rig(driver, *[result("x")] * 3, retry_strategy=EVERY, watched=True)
    assert rig.call("m", _result=int, _fallback=Fallback(0)) == 0
    assert rig.told == ["AttemptStarted", "CallFailed", "FallbackUsed"]
    assert rig.sent == 1
    asked: list[Outcome] = []
    when = RetryStrategy(when=lambda outcome, number: bool(asked.append(outcome)) or True, backoff=PeriodicBackoff(3))
    with pytest.raises(ResultValidationError):
        rig.call("m", _result=int, _retry_strategy=when)
    assert (rig.sent, asked) == (2, [])


def broken(value: object) -> object:
    raise KeyError("a mistake of the user's")


@both_drivers
def test_a_validator_that_raises_is_no_reason_to_do_the_work_again(driver: str) -> None:
    """The server has answered: a mistake in a validator was taken for a failure, and the call was made three times."""
    breaker = CircuitBreaker(failure_threshold=1)
    rig = Rig(driver, result(1), result(1), answers(a=1, b=2), retry_strategy=EVERY, layers=breaker)
    kind: Any = Annotated[int, AfterValidator(broken)]
    with pytest.raises(ResultValidationError, match=r"^the result of 'm' could not be validated: its type's validator raised KeyError$") as caught:
        rig.call("m", _result=kind)
    assert isinstance(caught.value.__cause__, KeyError)
    assert (caught.value.result, caught.value.status, rig.sent, breaker.is_closed) == (1, 200, 1, True)
    assert rig.call("m", _result=kind, _fallback=Fallback("x")) == "x"
    first, second = rig.send(BatchRequest(Request("a"), Request("b")), _result=kind)
    assert (type(first.error), type(second.error), rig.sent) == (ResultValidationError, ResultValidationError, 3)


# --- one after the other, and where they fail ---


@both_drivers
def test_they_are_asked_in_turn_until_one_answers(driver: str) -> None:
    seen: list[Exception] = []

    def fails(problem: Exception) -> None:
        seen.append(problem)
        raise LookupError("no cache")

    rig = Rig(driver, lost, fallback=Fallback(LAST_GOOD, fails, fails, "last resort", fails), watched=True)
    assert rig.call("m") == "last resort"
    # Each gets the call's own failure, not that of the fallback before it.
    assert [type(problem) for problem in seen] == [ConnectionLostError] * 2
    used = [event for event in rig.events if isinstance(event, FallbackUsed)]
    assert [event.reason for event in used] == ["value"]


@both_drivers
def test_where_all_fail_the_last_is_raised_from_the_failure(driver: str) -> None:
    def first() -> None:
        raise LookupError("first")

    def second() -> None:
        raise ValueError("second")

    rig = Rig(driver, lost, fallback=Fallback(first, second), watched=True)
    with pytest.raises(ValueError, match="second") as caught:
        rig.call("m")
    assert isinstance(caught.value.__cause__, LookupError)
    assert isinstance(caught.value.__cause__.__cause__, ConnectionLostError)
    assert rig.told == ["AttemptStarted", "CallFailed"]


@both_drivers
def test_a_failure_that_is_raised_again_is_raised_as_it_is(driver: str) -> None:
    def again(problem: Exception) -> None:
        raise problem

    with pytest.raises(ConnectionLostError) as caught:
        Rig(driver, lost, fallback=Fallback(again)).call("m")
    assert caught.value.__cause__ is None


@both_drivers
def test_an_empty_last_good_leaves_the_failure(driver: str) -> None:
    rig = Rig(driver, lost, fallback=Fallback(LAST_GOOD), watched=True)
    with pytest.raises(ConnectionLostError) as caught:
        rig.call("m")
    assert (caught.value.__cause__, rig.told) == (None, ["AttemptStarted", "CallFailed"])


# --- the last good result ---


@both_drivers
def test_last_good_is_of_the_same_method_and_params_only(driver: str) -> None:
    rig = Rig(driver, result("one"), result("two"), result("named"), result("none"), *[lost] * 9, fallback=Fallback(LAST_GOOD, "never"))
    rig.call("m", 1)
    rig.call("m", 2)
    rig.call("m", a=1)
    rig.call("m")
    found = [rig.call("m", 1), rig.call("m", 2), rig.call("m", a=1), rig.call("m"), rig.call("n", 1), rig.call("m", 3), rig.call("m", "1"), rig.call("m", 1.0)]
    assert found == ["one", "two", "named", "none", "never", "never", "never", "never"]


@both_drivers
def test_last_good_is_the_same_for_every_way_to_call(driver: str) -> None:
    rig = Rig(driver, result("old"), result("new"), *[lost] * 5, fallback=Fallback(LAST_GOOD))
    rig.call("m", 1)
    rig.send(Request("m", [1]))
    assert [rig.call("m", 1), rig.run(lambda c: c.proxy.m(1)), rig.send(Request("m", (1,))).result] == ["new"] * 3
    assert [response.result for response in rig.send(BatchRequest(Request("m", [1]), Request("m", [1])))] == ["new"] * 2
    assert rig.run(lambda client: client.using(timeout=3, deadline=9).call("m", 1)) == "new"


@both_drivers
def test_last_good_keeps_types_apart(driver: str) -> None:
    rig = Rig(driver, result("3"), result("3"), *[lost] * 4, fallback=Fallback(LAST_GOOD, "never"))
    rig.call("m", _result=int)
    assert rig.call("m") == "3"
    assert rig.call("m", _result=int) == 3
    assert rig.call("m", _result=str) == "never"
    assert rig.call("m", _result=float) == "never"


@both_drivers
def test_last_good_of_one_client_is_nothing_to_another(driver: str) -> None:
    """One Fallback for two servers gave the balance on the one for that on the other."""
    shared = Fallback(LAST_GOOD, "unknown")
    main, test = Rig(driver, result(100), lost, fallback=shared), Rig(driver, lost, fallback=shared)
    main.call("balance", "0xabc")
    assert test.call("balance", "0xabc") == "unknown"
    assert main.call("balance", "0xabc") == 100


@both_drivers
def test_last_good_of_one_user_is_not_shown_to_another(driver: str) -> None:
    """Views that differ in their headers are how one client serves several users."""
    rig = Rig(driver, result("alice's"), *[lost] * 4, fallback=Fallback(LAST_GOOD, "nobody's"))

    def inbox(who: str, **headers: str) -> Any:
        return rig.run(lambda client: client.using(headers={"Authorization": who}).call("inbox", _headers=headers))

    assert inbox("alice") == "alice's"
    assert inbox("bob") == "nobody's"
    assert rig.call("inbox") == "nobody's"
    assert inbox("alice") == "alice's"
    assert rig.run(lambda client: client.call("inbox", _headers={"authorization": "alice"})) == "alice's"


@both_drivers
def test_last_good_outlives_the_idempotency_key(driver: str) -> None:
    rig = Rig(driver, result(1), lost, lost, fallback=Fallback(LAST_GOOD), idempotency_key=True)
    assert [rig.call("m") for _ in range(2)] == [1, 1]
    assert rig.send(BatchRequest(Request("m")))[0].result == 1


@both_drivers
def test_last_good_is_kept_for_the_params_that_were_sent(driver: str) -> None:
    """Params that are changed while the call is under way are another call's."""
    params = [1]

    def change(exchange: Exchange) -> Reply:
        params[0] = 2
        return result("of one")(exchange)

    rig = Rig(driver, change, lost, lost, fallback=Fallback(LAST_GOOD, "unknown"))
    rig.send(Request("m", params))
    assert (rig.call("m", 2), rig.call("m", 1)) == ("unknown", "of one")


@both_drivers
def test_what_is_no_good_result_is_not_kept(driver: str) -> None:
    rig = Rig(driver, result("good"), error(7), result("bad"), lost, fallback=Fallback(LAST_GOOD, "never"))
    rig.call("m")
    assert rig.call("m") == "good"
    assert rig.call("m", _result=int) == "never"
    assert rig.call("m") == "good"


@both_drivers
def test_last_good_may_be_none(driver: str) -> None:
    rig = Rig(driver, result(None), lost, fallback=Fallback(LAST_GOOD, "never"))
    assert [rig.call("m"), rig.call("m")] == [None, None]


@both_drivers
def test_last_good_grows_too_old(driver: str) -> None:
    rig = Rig(driver, result(1), *[lost] * 9, fallback=Fallback(LAST_GOOD, "too old", max_age=10))
    rig.call("m")
    rig.time.advance(10)
    assert rig.call("m") == 1
    rig.time.advance(0.01)
    assert rig.call("m") == "too old"


@both_drivers
def test_the_age_counts_to_the_end_of_the_call(driver: str) -> None:
    rig = Rig(driver, result(1), Slow(6, lost), Slow(6, lost), fallback=Fallback(LAST_GOOD, "too old", max_age=10))
    rig.call("m")
    assert (rig.call("m"), rig.call("m")) == (1, "too old")


@both_drivers
def test_the_longest_unused_go_first(driver: str) -> None:
    fallback = Fallback(LAST_GOOD, "gone", size=2)
    rig = Rig(driver, result("a"), result("b"), lost, result("c"), *[lost] * 3, fallback=fallback)
    rig.call("a")
    rig.call("b")
    # To stand in is to be used.
    assert rig.call("a") == "a"
    rig.call("c")
    assert [rig.call(name) for name in "abc"] == ["a", "gone", "c"]


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.booleans()), max_size=40), st.integers(1, 4))
def test_last_good_is_a_cache_of_the_least_recently_used(steps: list[tuple[str, bool]], size: int) -> None:
    script = [result(f"{name}{place}") if good else lost for place, (name, good) in enumerate(steps)]
    rig = Rig("sync", *script, fallback=Fallback(LAST_GOOD, None, size=size))
    model: dict[str, str] = {}
    for place, (name, good) in enumerate(steps):
        if good:
            model.pop(name, None)
            model[name] = f"{name}{place}"
            if len(model) > size:
                del model[next(iter(model))]
        elif name in model:
            model[name] = model.pop(name)
        assert rig.call(name) == model.get(name)


def test_threads_share_what_is_kept() -> None:
    fallback = Fallback(LAST_GOOD, size=16)
    problems: list[BaseException] = []

    def work(name: str) -> None:
        try:
            backend = ScriptedBackend([item for _ in range(200) for item in (result(name), lost)])
            client = Client(backend, fallback=fallback)
            for number in range(200):
                assert client.call("m", number % 20) == name
                assert client.call("m", number % 20) == name
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=work, args=(f"thread {number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # A result of another thread's client would show; one that was pushed out by the others is a lost call and may happen.
    assert not [problem for problem in problems if not isinstance(problem, ConnectionLostError)]
    assert len(fallback._kept) == 16


# --- batches and notifications ---


@both_drivers
def test_each_member_of_a_batch_has_its_own(driver: str) -> None:
    rig = Rig(driver, answers(a=1, b={7}, c=...), fallback=Fallback(lambda problem: type(problem).__name__), watched=True)
    batch = rig.send(BatchRequest(Request("a"), Request("b"), Request("c")))
    assert batch.results == [1, "JsonRpcError", "MissingResponseError"]
    assert [response.id for response in batch] == [1, 2, 3]
    assert rig.told == ["AttemptStarted", "CallFailed", "FallbackUsed", "FallbackUsed"]


@both_drivers
def test_a_batch_that_is_lost_is_made_up_and_its_attempts_are_kept(driver: str) -> None:
    rig = Rig(driver, answers(a={2001}, b=2), *[lost] * 2, retry_strategy=EVERY, fallback=Fallback("x"))
    first, second = rig.send(BatchRequest(Request("a"), Request("b")))
    assert (first.result, first.attempts, second.result, second.attempts) == ("x", 3, 2, 1)
    rig = Rig(driver, *[lost] * 3, retry_strategy=EVERY, fallback=Fallback("x"))
    assert rig.send(BatchRequest(Request("a"), Request("b"))).results == ["x", "x"]


@both_drivers
def test_a_batch_whose_fallbacks_cover_some_and_fail_for_others(driver: str) -> None:
    def some(problem: Exception) -> str:
        if getattr(problem, "code", 0) == 8:
            raise LookupError("nothing for 8")
        return "x"

    rig = Rig(driver, answers(a={7}, b={8}, c=..., d=4), fallback=Fallback(some, on=JsonRpcError))
    a, b, c, d = rig.send(BatchRequest(*map(Request, "abcd")))
    assert (a.result, d.result, type(c.error).__name__) == ("x", 4, "MissingResponseError")
    with pytest.raises(LookupError) as caught:
        _ = b.result
    assert isinstance(caught.value.__cause__, JsonRpcError)


@both_drivers
def test_a_batch_remembers_each_of_its_results(driver: str) -> None:
    rig = Rig(driver, answers(a=1, b={7}, c=3), answers(a={7}, b={7}, c=...), fallback=Fallback(LAST_GOOD))
    batch = BatchRequest(Request("a"), Request("b"), Request("c"))
    rig.send(batch)
    a, b, c = rig.send(batch)
    assert (a.result, type(b.error), c.result) == (1, JsonRpcError, 3)


@both_drivers
def test_a_notification_has_none(driver: str) -> None:
    asked: list[Exception] = []
    rig = Rig(driver, *[unconnected] * 4, result(0), fallback=Fallback(asked.append))
    for act in (
        lambda client: client.notify("m"),
        lambda client: client.send(Request("m", id=None)),
        lambda client: client.send(Request("m", id=None), _fallback=Fallback(asked.append)),
    ):
        with pytest.raises(ConnectError):
            rig.run(act)
    assert asked == []
    told, asked_for = rig.send(BatchRequest(Request("tick", id=None), Request("m", id=5)))
    assert (type(told.error), told.id, asked_for.error, asked_for.id) == (ConnectError, None, None, 5)
    assert [type(problem) for problem in asked] == [ConnectError]
    assert rig.notify("m") is None


def test_a_notification_makes_no_settings_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every notification worked out a policy of its own, only to have no fallback in it."""
    from rpcretry.client.options import Options

    client = Client(ScriptedBackend([result(0)] * 2), retry_strategy=EVERY, fallback=Fallback(0))
    monkeypatch.setattr(Options, "replace", None)
    client.notify("m")
    with pytest.raises(TypeError):
        client.notify("m", _timeout=3)


# --- telling ---


@both_drivers
def test_what_is_told_of_it(driver: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "rpcretry"):
        rig = Rig(driver, *[lost] * 4, retry_strategy=EVERY, fallback=Fallback(by_default), watched=True)
        rig.call("m")
        failed, used = rig.events[-2:]
        assert isinstance(failed, CallFailed)
        assert isinstance(used, FallbackUsed)
        assert (used.operation, used.attempt, used.max_attempts, used.elapsed) == ("m", 3, 3, failed.elapsed)
        assert (used.reason, used.error) == ("by_default", failed.error)
        caplog.clear()
        rig.call("m", _retry_strategy=None)
    # The only line of a call that was not retried names the failure.
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "m: failed, and falls back to by_default: ConnectionLostError('reset')")
    ]


# --- cancellation ---


def test_a_cancel_in_a_fallback_is_a_cancel() -> None:
    events: list[str] = []
    entered: list[asyncio.Event] = []

    async def slow() -> None:
        events.append("asked")
        entered[0].set()
        try:
            await asyncio.sleep(30)
        finally:
            events.append("left")

    async def main() -> None:
        entered.append(asyncio.Event())
        layer = Recorder()
        client = AsyncClient(AsyncScriptedBackend([lost, result(1)]), fallback=Fallback(slow, "next"), layers=layer, on_event=lambda e: None)
        task = asyncio.create_task(client.call("m"))  # type: ignore[arg-type,var-annotated]
        await entered[0].wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert layer.log == ["layer.admit", "layer.settle"]
        assert current_attempt() is None
        assert await client.call("m") == 1

    asyncio.run(main())
    assert events == ["asked", "left"]


def test_a_timeout_of_the_callers_own_around_a_fallback() -> None:
    async def slow() -> None:
        await asyncio.sleep(30)

    async def main() -> None:
        client = AsyncClient(AsyncScriptedBackend([lost]), fallback=Fallback(slow))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await client.call("m")

    asyncio.run(main())


@both_drivers
def test_an_interrupt_in_a_fallback_goes_through(driver: str) -> None:
    asked: list[str] = []

    def interrupt() -> None:
        asked.append("first")
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        Rig(driver, lost, fallback=Fallback(interrupt, lambda: asked.append("second"))).call("m")
    assert asked == ["first"]


# --- what is left afterwards ---


class Param:
    """A value that the frames of a call hold."""


def gives_up(problem: Exception) -> None:
    raise LookupError("nothing cached")


async def gives_up_later(problem: Exception) -> None:
    await asyncio.sleep(0)
    raise LookupError("nothing cached")


SHAPES = {
    "single": lambda client, fallback: client.call("m", _fallback=fallback),
    "send": lambda client, fallback: client.send(Request("m"), _fallback=fallback),
    "batch": lambda client, fallback: client.send(BatchRequest(Request("m"), Request("n")), _fallback=fallback),
}


@both_drivers
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("fails", [False, True], ids=["stands in", "raises"])
@pytest.mark.parametrize("retried", [False, True])
def test_no_failing_frame_is_alive_afterwards(driver: str, shape: str, fails: bool, retried: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "rpcretry")
    kept: list[weakref.ref[Param]] = []

    def item(_: Exchange) -> Reply:
        param = Param()
        kept.append(weakref.ref(param))
        raise ConnectionLostError("reset")

    steps: tuple[Any, ...] = (gives_up, *([gives_up_later] if driver == "async" else ())) if fails else (LAST_GOOD, gives_up, "x")
    fallback = Fallback(*steps)
    rig = Rig(driver, *[item] * 6, retry_strategy=EVERY if retried else None, watched=False)

    async def inside() -> Any:
        try:
            return await SHAPES[shape](rig.client, fallback)
        except LookupError:
            return "raised"

    def outside() -> Any:
        try:
            return SHAPES[shape](rig.client, fallback)
        except LookupError:
            return "raised"

    act = outside if driver == "sync" else inside
    finish(act)
    with no_collector():
        kept.clear()
        found = finish(act)
        assert (found == "raised") is fails
        del found
        assert len(kept) == (3 if retried else 1)
        assert [ref() for ref in kept] == [None] * len(kept), "a frame of a failed exchange is still alive"


@pytest.mark.parametrize("kind", ["requests", "aiohttp"])
@pytest.mark.parametrize("fails", [False, True], ids=["stands in", "raises"])
def test_nothing_is_alive_after_a_real_connection_broke(kind: str, fails: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    caplog.set_level(logging.CRITICAL, "rpcretry")
    monkeypatch.setenv("NO_PROXY", "*")
    strategy = RetryStrategy(exceptions={ConnectionError}, backoff=PeriodicBackoff(1, 0.001))
    options: dict[str, Any] = {"retry_strategy": strategy, "fallback": Fallback(gives_up if fails else "x")}

    def held(client: Any) -> tuple[Param, str]:
        param = Param()
        try:
            return param, client.call("m")
        except LookupError:
            return param, "raised"

    async def held_later(client: Any) -> tuple[Param, str]:
        param = Param()
        try:
            return param, await client.call("m")
        except LookupError:
            return param, "raised"

    def checked(found: tuple[Param, str]) -> weakref.ref[Param]:
        param, value = found
        assert value == ("raised" if fails else "x")
        return weakref.ref(param)

    async def main() -> None:
        async with rpcretry.backends.aiohttp.Client(server.url, **options) as client:
            checked(await held_later(client))
            with no_collector():
                ref = checked(await held_later(client))
                await asyncio.sleep(0.005)
                assert ref() is None, "a frame of the call is still alive"

    with LoopbackServer(lambda request: RESET) as server:
        if kind == "aiohttp":
            asyncio.run(main())
        else:
            with rpcretry.backends.requests.Client(server.url, **options) as client:
                checked(held(client))
                with no_collector():
                    ref = checked(held(client))
                    assert ref() is None, "a frame of the call is still alive"
        assert len(server.requests) == 4
