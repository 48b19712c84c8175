"""What retry() refuses, and that each refusal names the parameter, the value and the fix."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import math
import re
import time
import types
import warnings
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
from function_rig import FunctionRig, lost
from hypothesis import given, settings
from hypothesis import strategies as st
from support import finish

from rpcretry import CircuitOpenError, DeadlineExceeded, Fallback, Layer, Refused, RetryStrategy
from rpcretry.functions import RetryableClient, Retrying, RetryOptions, retry, retrying
from rpcretry.functions._options import SYNONYMS
from rpcretry.retry import ExponentialBackoff, PeriodicBackoff

OURS = set(RetryOptions.__annotations__)


# --- keywords ---


@pytest.mark.parametrize("name", SYNONYMS)
def test_a_keyword_of_another_library_leads_to_ours(name: str) -> None:
    assert name not in OURS, "it is a parameter: nobody will ever read this hint"
    with pytest.raises(TypeError) as caught:
        retry(**{name: 1})  # type: ignore[call-overload]
    text = str(caught.value)
    assert text.startswith(f"retry has no parameter {name!r}; here it is ")
    words = set(re.findall(r"[a-z_]+", text.partition("here it is ")[2]))
    assert words & OURS, text


# What their signatures call it, read there by hand: tenacity 9, stamina 25, backoff 2, opnieuw 3, pjrpc 2, retrying 1, retry 0.9, urllib3 2, and
# the helpers that teams write.
PEERS = {
    "tenacity": "stop wait retry before after before_sleep reraise retry_error_cls retry_error_callback",
    "stamina": "attempts wait_initial wait_max wait_jitter wait_exp_base",
    "backoff": "wait_gen exception max_tries max_time giveup on_success on_backoff on_giveup raise_on_giveup logger predicate base max_value interval",
    "opnieuw": "retry_on_exceptions max_calls_total retry_window_after_first_call_in_seconds",
    "pjrpc": "retry_strategy exceptions codes attempts interval multiplier base max_value",
    "retrying": "stop_max_attempt_number stop_max_delay wait_fixed retry_on_exception retry_on_result",
    "retry": "exceptions tries delay logger",
    "urllib3": "total backoff_factor backoff_max",
    "in-house": "max_retries initial_delay exponential_base retryable_exceptions non_retryable_exceptions circuit_breaker total_timeout on_failure default",
}


@pytest.mark.parametrize(("library", "name"), [(library, name) for library, names in PEERS.items() for name in names.split()])
@pytest.mark.parametrize("entry", [retry, retrying, Retrying, RetryableClient], ids=lambda entry: entry.__name__)
def test_every_keyword_of_the_peers_is_answered_with_one_of_ours(entry: Any, library: str, name: str) -> None:
    with pytest.raises(TypeError) as caught:
        entry(**{name: 1})
    hint = re.split("here it is|did you mean", str(caught.value))
    assert len(hint) == 2, str(caught.value)
    assert set(re.findall(r"[a-z_]+", hint[1])) & OURS


def test_a_misspelled_keyword_is_answered_with_the_closest() -> None:
    with pytest.raises(TypeError, match=r"no parameter 'max_attemps'; did you mean max_attempts\?"):
        retry(max_attemps=3)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="no parameter 'xyzzy'; known are on, when, retry_result"):
        retry(xyzzy=3)  # type: ignore[call-overload]


def test_the_name_of_a_subclass_is_used() -> None:
    class Ours(Retrying):
        pass

    with pytest.raises(TypeError, match="Ours has no parameter 'tries'"):
        Ours(tries=3)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"strategy": RetryStrategy(), "on": OSError}, "give strategy or on, not both"),
        ({"strategy": RetryStrategy(), "when": lambda e, n: True}, "give strategy or when, not both"),
        ({"strategy": RetryStrategy(), "max_attempts": 3}, "give strategy or max_attempts, not both"),
        ({"strategy": RetryStrategy(), "wrap": True}, "give strategy or wrap, not both"),
        ({"backoff": PeriodicBackoff(3), "base_delay": 1}, "give backoff or base_delay, not both"),
        ({"backoff": PeriodicBackoff(3), "factor": 1}, "give backoff or factor, not both"),
        ({"backoff": PeriodicBackoff(3), "max_delay": 1}, "give backoff or max_delay, not both"),
        ({"backoff": PeriodicBackoff(3), "jitter": True}, "give backoff or jitter, not both"),
        ({"fallback": Fallback(1), "fallback_value": 1}, "give fallback or fallback_value, not both"),
    ],
)
def test_keywords_that_contradict_each_other_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(TypeError, match=says):
        retry(**options)


# --- values ---


class NoLayer:
    pass


async def coroutine_function(*_: Any) -> Any: ...


def generator_function(*_: Any) -> Any:
    yield


@pytest.mark.parametrize(
    ("name", "value", "kind", "says"),
    [
        ("max_attempts", 0, ValueError, "max_attempts must be at least 1, got 0"),
        ("max_attempts", -1, ValueError, "max_attempts must be at least 1, got -1"),
        ("max_attempts", 2.0, TypeError, "max_attempts must be an int, got float 2.0"),
        ("max_attempts", math.inf, TypeError, "max_attempts must be an int"),
        ("max_attempts", True, TypeError, "max_attempts must be an int, got bool"),
        ("max_attempts", "3", TypeError, "max_attempts must be an int, got str '3'"),
        ("base_delay", -1, ValueError, "base_delay must be at least 0, got -1"),
        ("base_delay", math.nan, ValueError, "base_delay must be finite"),
        ("base_delay", math.inf, ValueError, "base_delay must be finite"),
        ("base_delay", 10**400, ValueError, "base_delay must be finite"),
        ("base_delay", None, TypeError, "base_delay must be a number, got NoneType"),
        ("base_delay", "1", TypeError, "base_delay must be a number, got str"),
        ("max_delay", -1, ValueError, "max_delay must be at least 0"),
        ("max_delay", "1", TypeError, "max_delay must be a number"),
        ("factor", 0, ValueError, "factor must be more than 0"),
        ("factor", -2, ValueError, "factor must be more than 0"),
        ("factor", math.nan, ValueError, "factor must be finite"),
        ("factor", "2", TypeError, "factor must be a number"),
        ("jitter", 2, ValueError, "jitter"),
        ("jitter", "full", TypeError, "jitter"),
        ("backoff", 2, TypeError, "backoff must be a Backoff"),
        ("backoff", None, TypeError, "backoff must be a Backoff"),
        ("backoff", PeriodicBackoff, TypeError, r"write backoff=PeriodicBackoff\(attempts=3\)"),
        ("backoff", iter([1.0]), TypeError, "backoff must be a callable that returns an iterator"),
        ("backoff", [1.0], TypeError, "write backoff=lambda: iter"),
        ("backoff", coroutine_function, TypeError, "backoff must return an iterator"),
        ("on", "ConnectionError", TypeError, "on takes exception classes, got 'ConnectionError'"),
        ("on", 5, TypeError, "on takes exception classes, got 5"),
        ("on", None, TypeError, "on takes exception classes, got None"),
        ("on", [OSError, 5], TypeError, "on takes exception classes, got 5"),
        ("on", OSError("x"), TypeError, "on takes exception classes"),
        ("on", int, TypeError, "on takes exception classes, got <class 'int'>"),
        ("on", lambda error: True, TypeError, "a condition goes to when="),
        ("on", BaseException, TypeError, "on takes subclasses of Exception, got BaseException: cancellation and interrupts"),
        ("on", asyncio.CancelledError, TypeError, "on takes subclasses of Exception, got CancelledError"),
        ("on", (OSError, KeyboardInterrupt), TypeError, "on takes subclasses of Exception, got KeyboardInterrupt"),
        ("on", CircuitOpenError, ValueError, "on must not name CircuitOpenError"),
        ("on", [Refused], ValueError, "on must not name Refused"),
        ("on", DeadlineExceeded, ValueError, "on must not name DeadlineExceeded"),
        ("fatal", 5, TypeError, "fatal takes exception classes, got 5"),
        ("fatal", KeyboardInterrupt, TypeError, "fatal takes subclasses of Exception"),
        ("fatal", lambda error: True, TypeError, "a condition goes to when="),
        ("when", OSError, TypeError, "when takes a condition, got the exception class OSError; classes go to on="),
        ("when", 5, TypeError, "when must be callable, got int 5; it gets the exception and the number of the try"),
        ("when", lambda error: True, TypeError, "when must be callable with 2 arguments"),
        ("when", coroutine_function, TypeError, "when must be a plain function"),
        ("when", generator_function, TypeError, "when must be a plain function"),
        ("retry_result", 5, TypeError, "retry_result must be callable"),
        ("retry_result", lambda: True, TypeError, "retry_result must be callable with 1 argument"),
        ("retry_result", coroutine_function, TypeError, "retry_result must be a plain function"),
        ("deadline", "5", TypeError, "deadline must be a number"),
        ("deadline", True, TypeError, "deadline must be a number, got bool"),
        ("deadline", math.nan, ValueError, "deadline must be finite"),
        ("deadline", -math.inf, ValueError, "deadline must be finite"),
        ("timeout", 0, ValueError, "timeout must be more than 0, got 0; give seconds, or None"),
        ("timeout", -1, ValueError, "timeout must be more than 0"),
        ("timeout", "5", TypeError, "timeout must be a number"),
        ("timeout", math.inf, ValueError, "timeout must be finite"),
        ("fallback", 5, TypeError, "fallback must be a callable or a Fallback, got int 5; write fallback_value="),
        ("fallback", "cached", TypeError, "write fallback_value="),
        ("fallback", lambda a, b: 5, TypeError, "it gets the failure, or nothing"),
        ("fallback", generator_function, TypeError, "generator function"),
        ("on_retry", 5, TypeError, "on_retry must be callable"),
        ("on_retry", lambda attempt: None, TypeError, "on_retry must be callable with 2 arguments"),
        ("on_retry", coroutine_function, TypeError, "on_retry must be a plain function"),
        ("wrap", 1, TypeError, "wrap must be True or False, got 1"),
        ("wrap", "yes", TypeError, "wrap must be True or False"),
        ("name", "", TypeError, "name must be a non-empty str"),
        ("name", 5, TypeError, "name must be a non-empty str, got int 5"),
        ("strategy", None, TypeError, "strategy must be a RetryStrategy, got NoneType None; use max_attempts=1"),
        ("strategy", RetryStrategy, TypeError, r"write RetryStrategy\(\)"),
        ("strategy", ExponentialBackoff(3), TypeError, "strategy must be a RetryStrategy"),
        ("layers", NoLayer(), TypeError, "layers takes Layer objects"),
        ("layers", [Layer], TypeError, r"write Layer\(\)"),
        ("on_event", 5, TypeError, "on_event must be a callable"),
        ("on_event", coroutine_function, TypeError, "on_event must be a plain function"),
        ("clock", 5, TypeError, "clock must be callable"),
        ("clock", lambda now: 0.0, TypeError, "clock must be callable with no argument"),
        ("sleep", 5, TypeError, "sleep must be callable"),
        ("sleep", lambda: None, TypeError, "sleep must be callable with 1 argument"),
    ],
)
def test_nonsense_is_refused_at_once(name: str, value: Any, kind: type[Exception], says: str) -> None:
    for entry in (retry, retrying, Retrying, RetryableClient):
        with pytest.raises(kind, match=says):
            entry(**{name: value})


@pytest.mark.parametrize("name", ["when", "retry_result", "on_retry", "on_event", "name", "fallback", "deadline", "timeout", "sleep", "max_attempts"])
def test_none_is_as_good_as_nothing_where_there_can_be_none(name: str) -> None:
    assert retry(**{name: None})(lambda: 5)() == 5


@settings(max_examples=200, deadline=None)
@given(
    name=st.sampled_from(sorted(OURS)),
    value=st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-3, 3),
        st.floats(),
        st.text(max_size=3),
        st.lists(st.integers(), max_size=2),
        st.binary(max_size=2),
        st.just(object),
    ),
)
def test_whatever_is_given_is_taken_or_refused_by_its_name(name: str, value: Any) -> None:
    problem: Exception | None = None
    try:
        Retrying(**{name: value})
    except (TypeError, ValueError) as error:
        problem = error
    assert problem is None or name in str(problem)


# --- what it stands on ---


class Steps:
    def __call__(self) -> Any:
        yield 1

    def method(self) -> Any:
        yield 1


async def async_steps() -> Any:
    yield 1


@types.coroutine
def old_coroutine() -> Any:
    yield


GENERATORS: dict[str, Any] = {
    "generator": generator_function,
    "async generator": async_steps,
    "method": Steps().method,
    "object": Steps(),
    "partial": functools.partial(generator_function, 1),
    "partial of an object": functools.partial(Steps()),
    "partial of an async generator": functools.partial(async_steps),
    "old coroutine": old_coroutine,
}


@pytest.mark.parametrize("name", GENERATORS)
def test_generators_are_refused_with_the_reason(name: str) -> None:
    function, reason = GENERATORS[name], "is a generator: what it has yielded cannot be taken back"
    for act in (retry, retry(max_attempts=2), Retrying().execute, RetryableClient().with_retry, RetryableClient().with_async_retry):
        with pytest.raises(TypeError, match=reason):
            act(function)
    with pytest.raises(TypeError, match=reason):
        finish(lambda: Retrying().execute_async(function))


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (int, "got the class int; decorate its methods"),
        (Steps, "got the class Steps; decorate its methods"),
        (property(lambda self: 1), "got property .*; decorate the function inside of the property"),
        (3, "got int 3; write options by name"),
        (None, "got NoneType None; write options by name"),
        ("name", "got str 'name'"),
        ((OSError,), "got tuple"),
        (functools.cached_property(lambda self: 1), "got cached_property"),
        (functools.partialmethod(len), "got partialmethod"),
    ],
)
def test_what_is_no_function_is_refused(value: Any, says: str) -> None:
    for act in (retry, retry(max_attempts=2)):
        with pytest.raises(TypeError, match=f"retry decorates functions and methods, {says}"):
            act(value)


def test_a_timeout_on_a_sync_function_is_refused_with_the_reason() -> None:
    for act in (retry(timeout=5), Retrying(timeout=5).execute, RetryableClient(timeout=5).with_retry):
        with pytest.raises(TypeError, match=r"timeout cannot hold for .*<lambda>: a sync function cannot be cut off; give deadline="):
            act(lambda: 5)


def test_an_async_fallback_of_a_sync_function_is_refused() -> None:
    for act in (retry(fallback=coroutine_function), Retrying(fallback=Fallback(1, coroutine_function)).execute):
        with pytest.raises(TypeError, match=r"the fallback of .* has an async def, which nobody would await; write def"):
            act(lambda: 5)


def test_a_sleep_of_the_wrong_kind_is_refused() -> None:
    with pytest.raises(TypeError, match="sleep must wait and return for the sync function"):
        retry(sleep=asyncio.sleep)(lambda: 5)
    with pytest.raises(TypeError, match="sleep must return an awaitable for the async function"):
        retry(sleep=time.sleep)(coroutine_function)


def test_a_sleep_of_the_wrong_kind_in_disguise_is_refused_when_it_shows() -> None:
    with pytest.raises(TypeError, match=r"sleep must return an awaitable, as asyncio.sleep does; .* returned NoneType"):
        finish(retry(sleep=lambda seconds: None)(FunctionRig("async", lost).plain))
    with pytest.raises(TypeError, match=r"sleep must wait and return, as time.sleep does; .* returned a coroutine"):
        retry(sleep=lambda seconds: coroutine_function())(FunctionRig("sync", lost).plain)()


def test_execute_and_execute_async_say_which_is_meant() -> None:
    for function in (coroutine_function, functools.partial(coroutine_function), mock.AsyncMock()):
        with pytest.raises(TypeError, match="is async; use execute_async, and await it"):
            Retrying().execute(function)
    assert finish(lambda: Retrying().execute_async(lambda: 5)) == 5  # type: ignore[arg-type, return-value]


# --- awaitables that nobody would await ---


class Later:
    def __await__(self) -> Any:
        return iter(())


def a_future() -> Any:
    loop = asyncio.new_event_loop()
    try:
        return loop.create_future()
    finally:
        loop.close()


@pytest.mark.parametrize("make", [coroutine_function, Later, a_future], ids=["coroutine", "object", "future"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"on": Exception, "base_delay": 0},
        {"retry_result": lambda value: True},
        {"retry_result": lambda value: value["x"]},
        {"fallback_value": 5},
        {"deadline": 5},
        {"on_event": lambda event: None},
    ],
    ids=str,
)
def test_a_plain_function_that_returns_an_awaitable_is_refused(make: Callable[[], Any], options: dict[str, Any]) -> None:
    calls: list[int] = []

    def disguised() -> Any:
        calls.append(1)
        return make()

    for act in (retry(**options)(disguised), lambda: Retrying(**options).execute(disguised)):
        calls.clear()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(TypeError, match=r"disguised is no async def, but returned an awaitable, \w+; write async def, or use Retrying") as caught:
                act()
            del caught
            # A coroutine that was never awaited would warn here.
            gc.collect()
        assert calls == [1], "refused, not retried"


def test_a_later_try_that_returns_an_awaitable_is_refused_too() -> None:
    rig = FunctionRig("sync", lost, coroutine_function, fallback_value=5)
    rig.fails(TypeError)
    assert rig.count == 2


def test_an_async_function_may_return_an_awaitable() -> None:
    later = Later()

    @retry
    async def gives() -> Any:
        return later

    assert finish(gives) is later
    assert finish(lambda: Retrying(deadline=5)(gives)()) is later


def test_what_only_looks_like_an_awaitable_is_a_value() -> None:
    for value in (mock.MagicMock(), mock.Mock(), coroutine_function, object()):
        assert retry(lambda value=value: value)() is value


def test_a_plan_cannot_be_called_with_options() -> None:
    with pytest.raises(TypeError):
        retry(OSError, max_attempts=3)  # type: ignore[call-overload]
    with pytest.raises(TypeError):
        Retrying(3)  # type: ignore[call-arg]


def test_the_options_are_documented() -> None:
    text = inspect.getdoc(RetryOptions) or ""
    assert [name for name in OURS if f":ivar {name}:" not in text] == []
