"""rpcretry.functions: what is tried again, after which delays, and what comes out, sync and async alike."""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import logging
import math
import pickle
import random
import threading
import time
import types
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from unittest import mock

import pytest
from function_rig import FunctionRig, Takes, both, every_way, lost
from hypothesis import given, settings
from hypothesis import strategies as st
from support import Recorder, finish, no_collector

from rpcretry import (
    LAST_GOOD,
    ConnectError,
    ConnectionLostError,
    DeadlineExceeded,
    Fallback,
    JsonRpcError,
    Layer,
    Refused,
    RetryableError,
    RetryExhaustedError,
    RetryStrategy,
)
from rpcretry.functions import RetryableClient, Retrying, retry
from rpcretry.outcome import Attempt, Stop, Wait
from rpcretry.retry import (
    Backoff,
    DecorrelatedJitterBackoff,
    ExponentialBackoff,
    FibonacciBackoff,
    ImmediateBackoff,
    LinearBackoff,
    PeriodicBackoff,
)
from rpcretry.testing import VirtualTime

# --- what it may stand on ---


class Flaky:
    """Fails so often, then succeeds. The count is state of its own."""

    def __init__(self, failures: int = 1) -> None:
        self.failures = failures
        self.calls = 0

    def _step(self) -> int:
        self.calls += 1
        if self.calls <= self.failures:
            raise ConnectionError(f"number {self.calls}")
        return self.calls

    def __call__(self) -> int:
        return self._step()

    def method(self) -> int:
        return self._step()

    async def amethod(self) -> int:
        return self._step()


class AsyncFlaky(Flaky):
    async def __call__(self) -> int:  # type: ignore[override]
        return self._step()


def quick(**options: Any) -> Retrying:
    return Retrying(base_delay=0, **options)


def nested(flaky: Flaky) -> Callable[[], int]:
    def inner() -> int:
        return flaky.method()

    return inner


def a_partial(flaky: Flaky) -> Callable[[], int]:
    def needs(other: Flaky, *, by: int) -> int:
        return other.method() * by

    return functools.partial(needs, flaky, by=1)


KINDS: dict[str, Callable[[Flaky], Any]] = {
    "nested function": nested,
    "lambda": lambda flaky: lambda: flaky.method(),
    "bound method": lambda flaky: flaky.method,
    "callable object": lambda flaky: flaky,
    "partial": a_partial,
    "partial of a partial": lambda flaky: functools.partial(a_partial(flaky)),
    "partial of a bound method": lambda flaky: functools.partial(flaky.method),
    "partial of an object": lambda flaky: functools.partial(flaky),
    "mock": lambda flaky: mock.Mock(side_effect=flaky.method),
    "async bound method": lambda flaky: flaky.amethod,
    "partial of an async method": lambda flaky: functools.partial(flaky.amethod),
    "async callable object": lambda flaky: AsyncFlaky(flaky.failures),
    "partial of an async object": lambda flaky: functools.partial(AsyncFlaky(flaky.failures)),
    "async mock": lambda flaky: mock.AsyncMock(side_effect=flaky.method),
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_callable_is_retried(name: str) -> None:
    function = KINDS[name](Flaky(2))
    retried = quick()(function)
    assert inspect.iscoroutinefunction(retried) == ("async" in name)
    assert finish(retried) == 3
    execute: Any = quick().execute_async if "async" in name else quick().execute
    assert finish(lambda: execute(KINDS[name](Flaky(1)))) == 2


def test_bare_and_with_options() -> None:
    calls: list[int] = []

    @retry
    def bare() -> int:
        return len(calls)

    @retry()
    def called() -> int:
        return len(calls)

    @retry(max_attempts=4, base_delay=0)
    def given() -> int:
        calls.append(1)
        raise ConnectionError

    assert (bare(), called()) == (0, 0)
    with pytest.raises(ConnectionError):
        given()
    assert len(calls) == 4
    assert finish(lambda: retry(Flaky(0), max_attempts=2)()) == 1


def test_a_builtin_is_retried(tmp_path: Any) -> None:
    with retry(open)(tmp_path / "f", "w") as file:
        file.write("x")
    assert retry(open).__name__ == "open"
    assert retry(len)([1]) == 1
    with pytest.raises(FileNotFoundError) as caught:
        retry(open, base_delay=0)(tmp_path / "none")
    assert any("3 attempts" in note for note in caught.value.__notes__)


class Methods:
    def __init__(self, failures: int = 1) -> None:
        self.flaky = Flaky(failures)

    shared = Flaky(0)

    @retry(base_delay=0)
    def method(self, add: int = 0) -> int:
        """A method."""
        return self.flaky.method() + add

    @retry(base_delay=0)
    async def amethod(self, add: int = 0) -> int:
        return self.flaky.method() + add

    @retry(base_delay=0)
    @classmethod
    def class_outside(cls) -> tuple[str, int]:
        return cls.__name__, cls.shared.method()

    @classmethod
    @retry(base_delay=0)
    def class_inside(cls) -> tuple[str, int]:
        return cls.__name__, cls.shared.method()

    @retry(base_delay=0)
    @staticmethod
    def static_outside() -> int:
        return Methods.shared.method()

    @staticmethod
    @retry(base_delay=0)
    def static_inside() -> int:
        return Methods.shared.method()

    @retry(base_delay=0)
    @staticmethod
    async def static_async() -> int:
        return Methods.shared.method()

    @property
    @retry(base_delay=0)
    def value(self) -> int:
        return self.flaky.method()

    @retry(base_delay=0)
    def __len__(self) -> int:
        return self.flaky.method()


class Heirs(Methods):
    def method(self, add: int = 0) -> int:
        return super().method(add) * 10


def test_methods_keep_their_state_in_self() -> None:
    one, other = Methods(1), Methods(2)
    assert (one.method(), other.method(), one.method(5)) == (2, 3, 8)
    assert finish(lambda: Methods(1).amethod(add=1)) == 3
    assert Methods(1).value == 2
    assert len(Methods(1)) == 2
    assert Heirs(1).method(1) == 30


@pytest.mark.parametrize("name", ["class_outside", "class_inside", "static_outside", "static_inside", "static_async"])
@pytest.mark.parametrize("owner", [Methods, Heirs, Methods(0)], ids=["class", "heir", "object"])
def test_classmethods_and_staticmethods_in_either_order(name: str, owner: Any) -> None:
    Methods.shared.failures, Methods.shared.calls = 1, 0
    kind = owner if isinstance(owner, type) else type(owner)
    assert finish(getattr(owner, name)) == ((kind.__name__, 2) if name.startswith("class") else 2)


@retry(max_attempts=2)
def at_module_level(first: int, *rest: str, key: float = 1.5) -> list[str]:
    """What it does."""
    return [str(first), *rest, str(key)]


@retry
async def async_at_module_level(first: int) -> int:
    """What that does."""
    return first


def test_name_docstring_signature_and_annotations_are_kept() -> None:
    for function, name in ((at_module_level, "at_module_level"), (async_at_module_level, "async_at_module_level")):
        assert (function.__name__, function.__qualname__, function.__module__) == (name, name, __name__)
    assert at_module_level.__doc__ == "What it does."
    assert str(inspect.signature(at_module_level)) == "(first: 'int', *rest: 'str', key: 'float' = 1.5) -> 'list[str]'"
    assert at_module_level.__annotations__ == {"first": "int", "rest": "str", "key": "float", "return": "list[str]"}
    assert inspect.unwrap(at_module_level) is not at_module_level
    assert at_module_level.__wrapped__(1) == at_module_level(1)  # type: ignore[attr-defined]
    assert inspect.iscoroutinefunction(async_at_module_level)
    assert not inspect.iscoroutinefunction(at_module_level)
    assert Methods.method.__qualname__ == "Methods.method"
    assert str(inspect.signature(Methods(0).method)) == "(add: 'int' = 0) -> 'int'"
    assert Methods.class_outside.__qualname__ == "Methods.class_outside"


def test_a_function_keeps_a_name_that_it_was_given() -> None:
    def function() -> None: ...

    function.__name__ = "renamed"
    assert retry(function).__name__ == "renamed"
    assert retry(function).__qualname__ == function.__qualname__


def test_what_has_no_name_is_called_by_what_it_wraps_or_is() -> None:
    def needs(value: int, other: int) -> int:
        return value + other

    bound = retry(functools.partial(needs, 1))
    assert (bound.__name__, bound.__qualname__) == ("needs", needs.__qualname__)
    assert str(inspect.signature(bound)) == "(other: 'int') -> 'int'"
    assert retry(Flaky()).__name__ == "Flaky"
    assert retry(lambda: 1).__name__ == "<lambda>"


def test_decorated_functions_at_module_level_pickle_and_copy() -> None:
    for function in (at_module_level, async_at_module_level, Methods.method, Methods.class_outside):
        assert pickle.loads(pickle.dumps(function)) == function
        assert copy.deepcopy(function) == function


def test_attributes_and_abstractness_are_kept() -> None:
    def function() -> None: ...

    function.tag = "x"  # type: ignore[attr-defined]
    function.__isabstractmethod__ = True  # type: ignore[attr-defined]
    assert retry(function).tag == "x"  # type: ignore[attr-defined]
    assert retry(function).__isabstractmethod__  # type: ignore[attr-defined]


@every_way
def test_arguments_reach_every_try(driver: str, form: str) -> None:
    rig = FunctionRig(driver, lost, lost, 5, form=form)
    assert rig(1, self=2, function=3, name=4) == 5
    assert rig.tries == [((1,), {"self": 2, "function": 3, "name": 4})] * 3


def test_a_retried_function_may_call_itself() -> None:
    @retry(base_delay=0)
    def factorial(n: int) -> int:
        return 1 if n <= 1 else n * factorial(n - 1)

    assert factorial(5) == 120


# --- which failures ---


class Lost(ConnectionError):
    pass


@every_way
@pytest.mark.parametrize(
    ("options", "error", "tries"),
    [
        ({}, ConnectionError, 3),
        ({}, ConnectionResetError, 3),
        ({}, TimeoutError, 3),
        ({}, OSError, 3),
        ({}, FileNotFoundError, 3),
        ({}, ConnectError, 3),
        ({}, RetryableError, 3),
        ({}, ValueError, 1),
        ({}, KeyError, 1),
        ({}, JsonRpcError("limit", code=-32005), 1),
        ({"on": ValueError}, ValueError, 3),
        ({"on": ValueError}, UnicodeError, 3),
        ({"on": ValueError}, ConnectionError, 1),
        ({"on": ValueError}, RetryableError, 3),
        ({"on": [ValueError, KeyError]}, KeyError, 3),
        ({"on": {ValueError}}, KeyError, 1),
        ({"on": ()}, OSError, 1),
        ({"on": ()}, RetryableError, 3),
        ({"on": Exception}, ZeroDivisionError, 3),
        ({"on": iter([KeyError])}, KeyError, 3),
        ({"on": JsonRpcError}, JsonRpcError("x", code=5), 3),
        ({"on": OSError, "fatal": FileNotFoundError}, FileNotFoundError, 1),
        ({"on": OSError, "fatal": [FileNotFoundError]}, PermissionError, 3),
        ({"on": Exception, "fatal": (ValueError, KeyError)}, KeyError, 1),
        ({"fatal": RetryableError}, RetryableError, 1),
        ({"on": Exception, "fatal": RetryableError}, RetryableError, 1),
        ({"when": lambda error, attempt: True}, ValueError, 3),
        ({"when": lambda error, attempt: False}, ConnectionError, 1),
        ({"when": lambda error, attempt: None}, ConnectionError, 1),
        ({"when": lambda error, attempt: False}, RetryableError, 3),
        ({"when": lambda error, attempt: attempt < 2}, ValueError, 2),
        ({"when": lambda error, attempt: 0}, ValueError, 3),
        ({"on": KeyError, "when": lambda error, attempt: True}, ValueError, 1),
        ({"on": KeyError, "when": lambda error, attempt: True}, KeyError, 3),
        ({"when": lambda error, attempt: True, "fatal": ValueError}, ValueError, 1),
        ({"max_attempts": 1}, ConnectionError, 1),
        ({"max_attempts": 7}, ConnectionError, 7),
        ({"strategy": RetryStrategy(exceptions=KeyError, backoff=PeriodicBackoff(4, 0))}, KeyError, 5),
        ({"strategy": RetryStrategy(codes={2001}, backoff=PeriodicBackoff(1, 0))}, JsonRpcError("x", code=2001), 2),
        ({"strategy": RetryStrategy(codes={2001}, backoff=PeriodicBackoff(1, 0))}, JsonRpcError("x", code=2002), 1),
        # What may have been executed is repeated under the preset only where the function is declared idempotent.
        ({"strategy": RetryStrategy()}, ConnectError, 4),
        ({"strategy": RetryStrategy()}, ConnectionLostError, 1),
        ({"strategy": RetryStrategy(idempotent=True)}, ConnectionLostError, 4),
        ({"strategy": RetryStrategy(idempotent="get_*")}, ConnectionLostError, 1),
    ],
)
def test_which_failures_are_tried_again(driver: str, form: str, options: dict[str, Any], error: Any, tries: int) -> None:
    if isinstance(options.get("on"), Iterator):
        options = {**options, "on": [KeyError]}
    rig = FunctionRig(driver, error, form=form, **options)
    kind = error if isinstance(error, type) else type(error)
    rig.fails(kind)
    assert rig.count == tries


def test_on_takes_an_iterator() -> None:
    assert FunctionRig("sync", KeyError, on=iter([KeyError])).fails(KeyError).__notes__


@every_way
def test_when_is_given_the_exception_and_the_number_of_the_try(driver: str, form: str) -> None:
    asked: list[Any] = []

    def when(error: Exception, attempt: int) -> bool:
        asked.append((repr(error), attempt))
        return True

    FunctionRig(driver, ValueError("a"), KeyError("b"), OSError("c"), form=form, when=when).fails(OSError)
    assert asked == [("ValueError('a')", 1), ("KeyError('b')", 2), ("OSError('c')", 3)]


@every_way
def test_a_number_from_when_is_the_delay(driver: str, form: str) -> None:
    answers = [7, 0.5, 0, -3]
    rig = FunctionRig(driver, ValueError, form=form, max_attempts=5, when=lambda error, attempt: answers[attempt - 1] if attempt < 5 else False)
    rig.fails(ValueError)
    assert rig.waits == [7, 0.5]
    assert rig.count == 5


@every_way
@pytest.mark.parametrize("on", [OSError, Exception, RetryableError])
def test_the_delay_of_a_retryable_error_counts_whatever_on_names(driver: str, form: str, on: type[Exception]) -> None:
    rig = FunctionRig(driver, RetryableError("x", delay=7), RetryableError("x"), RetryableError("x", delay=0), 5, form=form, on=on, max_attempts=4)
    assert rig() == 5
    assert rig.waits == [7, 0.2]


@every_way
def test_retry_result_asks_for_another_value_and_returns_the_last(driver: str, form: str) -> None:
    rig = FunctionRig(driver, None, None, 5, form=form, retry_result=lambda value: value is None)
    assert rig() == 5
    assert rig.waits == [0.1, 0.2]
    rig = FunctionRig(driver, "a", "b", "c", form=form, retry_result=lambda value: True)
    assert rig() == "c"
    rig = FunctionRig(driver, None, lost, 3, form=form, retry_result=lambda value: value is None)
    assert rig() == 3


# --- after which delays ---


@dataclass(frozen=True)
class Triangular(Backoff):
    """A user's own."""

    def __call__(self) -> Iterator[float]:
        return (number * (number + 1) / 2 for number in range(1, self.attempts + 1))


@every_way
@pytest.mark.parametrize(
    ("options", "waits"),
    [
        ({}, [0.1, 0.2]),
        ({"max_attempts": 5}, [0.1, 0.2, 0.4, 0.8]),
        ({"max_attempts": 4, "base_delay": 1, "factor": 3}, [1, 3, 9]),
        ({"max_attempts": 5, "base_delay": 1, "max_delay": 3}, [1, 2, 3, 3]),
        ({"base_delay": 9, "max_delay": 3}, [3, 3]),
        ({"base_delay": 0}, []),
        ({"max_delay": 0}, []),
        ({"factor": 1}, [0.1, 0.1]),
        ({"backoff": PeriodicBackoff(4, 0.5)}, [0.5] * 4),
        ({"backoff": PeriodicBackoff(4, 0.5), "max_attempts": 3}, [0.5] * 2),
        ({"backoff": PeriodicBackoff(2, 0.5), "max_attempts": 9}, [0.5] * 2),
        ({"backoff": PeriodicBackoff(2, 0.5), "max_attempts": None}, [0.5] * 2),
        ({"backoff": ImmediateBackoff(2)}, []),
        ({"backoff": LinearBackoff(3, 1, 2)}, [1, 3, 5]),
        ({"backoff": ExponentialBackoff(3)}, [1, 2, 4]),
        ({"backoff": FibonacciBackoff(5)}, [1, 1, 2, 3, 5]),
        ({"backoff": Triangular(3)}, [1, 3, 6]),
        ({"backoff": Triangular(9), "max_attempts": 3}, [1, 3]),
        ({"backoff": lambda: iter([3, 1])}, [3, 1]),
        ({"backoff": lambda: iter([])}, []),
        ({"backoff": lambda: iter([math.inf]), "max_attempts": 2}, [86_400]),
        ({"backoff": Backoff.from_function(lambda attempt: attempt * 2), "max_attempts": 4}, [2, 4, 6]),
        ({"backoff": Backoff.from_function(lambda attempt: 1 if attempt < 3 else None)}, [1, 1]),
    ],
)
def test_the_delays(driver: str, form: str, options: dict[str, Any], waits: list[float]) -> None:
    rig = FunctionRig(driver, lost, form=form, **options)
    for _ in range(2):
        rig.time.delays.clear()
        rig.fails(ConnectionError)
        assert rig.waits == waits


@both
def test_full_jitter_is_the_default_and_stays_within_the_delay(driver: str) -> None:
    state = random.getstate()
    try:
        random.seed(5)
        rig = FunctionRig(driver, lost, jitter=True, max_attempts=50)
        rig.fails(ConnectionError)
    finally:
        random.setstate(state)
    assert all(0 <= wait <= min(60, 0.1 * 2**step) for step, wait in enumerate(rig.time.delays))
    # Spread at the cap, too.
    assert len(set(rig.waits[-20:])) == 20


@both
def test_no_limit_of_tries_goes_on_until_it_succeeds(driver: str) -> None:
    rig = FunctionRig(driver, *[lost] * 500, "done", max_attempts=None)
    assert rig() == "done"
    assert rig.count == 501
    assert max(rig.waits) == 60


@settings(max_examples=60, deadline=None)
@given(
    deadline=st.floats(0.01, 20),
    durations=st.lists(st.floats(0, 5), min_size=1, max_size=6),
    interval=st.floats(0, 5),
    driver=st.sampled_from(["sync", "async"]),
)
def test_no_wait_ends_and_no_try_starts_after_the_deadline(deadline: float, durations: list[float], interval: float, driver: str) -> None:
    rig = FunctionRig(driver, backoff=PeriodicBackoff(10, interval), deadline=None)
    starts: list[float] = []
    sleep = rig.time.sleep

    def fail() -> None:
        starts.append(rig.time.now - 1_000)
        rig.time.advance(durations[min(len(starts), len(durations)) - 1])
        raise ConnectionError

    # A sync function under both drivers' loops: nothing real may cut it.
    plan = Retrying(clock=rig.time.clock, sleep=sleep, backoff=PeriodicBackoff(10, interval), deadline=deadline)
    if driver == "sync":
        run: Callable[[], Any] = lambda: plan.execute(fail)
    else:
        plan = Retrying(clock=rig.time.clock, sleep=rig.time.asleep, backoff=PeriodicBackoff(10, interval), deadline=deadline)
        run = lambda: asyncio.run(plan.execute_async(fail))  # type: ignore[arg-type]
    with pytest.raises((ConnectionError, DeadlineExceeded)):
        run()
    assert all(start < deadline for start in starts)
    waited = sum(rig.time.delays)
    assert waited <= deadline


# --- what comes out ---


@every_way
def test_the_last_exception_goes_through_with_one_note(driver: str, form: str) -> None:
    errors = [ConnectionError("a"), ConnectionError("b"), ConnectionError("c")]
    rig = FunctionRig(driver, *errors, form=form)
    with pytest.raises(ConnectionError) as caught:
        rig()
    assert caught.value is errors[2]
    assert caught.value.__cause__ is None
    assert caught.value.__notes__ == ["rpcretry: gave up after 3 attempts in 0.30 s (attempts)"]
    # The same instance once more: the note is replaced.
    with pytest.raises(ConnectionError):
        rig()
    assert len(errors[2].__notes__) == 1


@every_way
def test_a_failure_that_is_not_retried_goes_through_untouched(driver: str, form: str) -> None:
    error = ValueError("a")
    rig = FunctionRig(driver, error, form=form, wrap=True)
    with pytest.raises(ValueError) as caught:
        rig()
    assert caught.value is error
    assert not hasattr(error, "__notes__")


@every_way
def test_wrap_raises_retry_exhausted_from_the_last_failure(driver: str, form: str) -> None:
    error = FunctionRig(driver, lost, form=form, wrap=True).fails(RetryExhaustedError)
    assert (error.attempts, round(error.elapsed, 6)) == (3, 0.3)
    assert isinstance(error.last_exception, ConnectionError)
    assert error.__cause__ is error.last_exception


@every_way
@pytest.mark.parametrize("option", ["when", "retry_result", "backoff"])
def test_a_predicate_that_raises_is_raised_from_what_it_hid(driver: str, form: str, option: str) -> None:
    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("broken")

    options: dict[str, Any] = {"when": {"when": broken}, "retry_result": {"retry_result": broken}, "backoff": {"backoff": lambda: broken()}}[option]
    rig = FunctionRig(driver, 5 if option == "retry_result" else lost, form=form, **options)
    error = rig.fails(ZeroDivisionError)
    assert rig.count == 1
    if option != "retry_result":
        assert isinstance(error.__cause__, ConnectionError)


@every_way
def test_an_answer_of_when_that_is_none_is_refused_by_its_name(driver: str, form: str) -> None:
    error = FunctionRig(driver, lost, form=form, when=lambda error, attempt: "yes").fails(TypeError)
    assert "when must return True, False, None or seconds" in str(error)
    assert isinstance(error.__cause__, ConnectionError)


@every_way
@pytest.mark.parametrize("option", ["when", "retry_result"])
def test_a_predicate_in_disguise_that_is_async_is_refused(driver: str, form: str, option: str) -> None:
    """Its coroutine is true, so everything would be tried again."""
    options: dict[str, Any] = {option: (lambda error, attempt: async_cached(error)) if option == "when" else lambda value: async_cached(value)}
    error = FunctionRig(driver, lost if option == "when" else 5, form=form, **options).fails(TypeError)
    assert f"{option} must be a plain function" in str(error)


# --- fallbacks ---


async def async_cached(error: Exception) -> str:
    await asyncio.sleep(0)
    return f"cached after {error}"


@every_way
@pytest.mark.parametrize(
    ("options", "value"),
    [
        ({"fallback": lambda error: f"after {error}"}, "after lost"),
        ({"fallback": lambda: "nothing"}, "nothing"),
        ({"fallback": Fallback("value")}, "value"),
        ({"fallback": Fallback(LAST_GOOD, "none")}, "none"),
        ({"fallback_value": None}, None),
        ({"fallback_value": lost}, lost),
        ({"fallback_value": 5, "wrap": True}, 5),
        ({"fallback_value": 5, "deadline": 0}, 5),
        ({"fallback": Fallback(5, on=OSError)}, 5),
    ],
)
def test_a_fallback_stands_in_for_the_result(driver: str, form: str, options: dict[str, Any], value: Any) -> None:
    rig = FunctionRig(driver, lost, form=form, watched=True, **options)
    assert rig() == value
    assert rig.count == (0 if options.get("deadline") == 0 else 3)
    assert rig.told[-2:] == ["CallFailed", "FallbackUsed"]


@every_way
def test_a_fallback_gets_what_would_have_been_raised(driver: str, form: str) -> None:
    got: list[Exception] = []
    for options in ({}, {"wrap": True}, {"deadline": 0.05}):
        FunctionRig(driver, lost, form=form, fallback=got.append if driver == "sync" else lambda error: got.append(error), **options)()
    assert [type(error) for error in got] == [ConnectionError, RetryExhaustedError, DeadlineExceeded]


@every_way
def test_a_fallback_is_not_asked_for_a_success_or_for_what_it_does_not_cover(driver: str, form: str) -> None:
    asked: list[Any] = []
    assert FunctionRig(driver, lost, 5, form=form, fallback=lambda: asked.append(1))() == 5
    FunctionRig(driver, lost, form=form, fallback=Fallback(lambda: asked.append(1), on=ValueError)).fails(ConnectionError)
    assert asked == []


@every_way
def test_a_fallback_that_raises_is_raised_from_the_failure(driver: str, form: str) -> None:
    def broken(error: Exception) -> Any:
        raise LookupError("no cache")

    error = FunctionRig(driver, lost, form=form, fallback=broken).fails(LookupError)
    assert isinstance(error.__cause__, ConnectionError)
    assert FunctionRig(driver, lost, form=form, fallback=Fallback(broken, 5))() == 5


@every_way
def test_a_fallback_may_raise_the_failure_itself(driver: str, form: str) -> None:
    def again(error: Exception) -> Any:
        raise error

    error = FunctionRig(driver, lost, form=form, fallback=again).fails(ConnectionError)
    assert error.__cause__ is None


@every_way
def test_a_fallback_may_raise_what_the_failure_was_raised_from(driver: str, form: str) -> None:
    """The chain would lead back to itself, keep the frames alive and send who walks it round for ever."""

    def unwrap(error: Any) -> Any:
        raise error.last_exception

    error = FunctionRig(driver, lost, form=form, wrap=True, fallback=unwrap).fails(ConnectionError)
    assert error.__cause__ is None


@every_way
def test_a_broken_repr_hides_no_failure(driver: str, form: str) -> None:
    class Broken(ConnectionError):
        def __repr__(self) -> str:
            raise ZeroDivisionError("repr")

    error = FunctionRig(driver, Broken, form=form, wrap=True).fails(RetryExhaustedError)
    assert isinstance(error.last_exception, Broken)
    assert str(error).endswith("Broken")


@pytest.mark.parametrize("form", ["decorated", "executed"])
def test_an_async_fallback_is_awaited(form: str) -> None:
    assert FunctionRig("async", lost, form=form, fallback=async_cached)() == "cached after lost"
    assert FunctionRig("async", lost, form=form, fallback=lambda error: async_cached(error))() == "cached after lost"


def test_a_fallback_in_disguise_that_is_async_is_no_value_of_a_sync_function() -> None:
    error = FunctionRig("sync", lost, fallback=lambda error: async_cached(error)).fails(TypeError)
    assert "write def" in str(error)
    assert isinstance(error.__cause__, ConnectionError)


@every_way
def test_the_last_good_result_of_the_same_arguments(driver: str, form: str) -> None:
    rig = FunctionRig(driver, "one", "two", lost, form=form, fallback=Fallback(LAST_GOOD, "none"), max_attempts=1)
    assert (rig(1), rig(a=1)) == ("one", "two")
    assert (rig(1), rig(a=1), rig(2), rig(1, a=1)) == ("one", "two", "none", "none")


@every_way
def test_a_value_that_was_not_accepted_is_no_last_good_result(driver: str, form: str) -> None:
    rig = FunctionRig(driver, "good", "bad", "bad", lost, form=form, retry_result=lambda value: value == "bad", fallback=Fallback(LAST_GOOD), max_attempts=2)
    assert (rig(), rig(), rig()) == ("good", "bad", "good")


@every_way
def test_equal_arguments_of_other_types_are_others(driver: str, form: str) -> None:
    rig = FunctionRig(driver, "one", "one by name", lost, form=form, fallback=Fallback(LAST_GOOD, "none"), max_attempts=1)
    rig(1)
    rig(n=1)
    assert (rig(True), rig(1.0), rig(n=True), rig(1), rig(n=1)) == ("none", "none", "none", "one", "one by name")


class Unhashable:
    def __hash__(self) -> int:
        raise ValueError("no hash today")


@every_way
@pytest.mark.parametrize("argument", [[1], {"a": 1}, Unhashable(), ([],)], ids=["list", "dict", "object", "nested"])
def test_unhashable_arguments_have_no_last_good_result(driver: str, form: str, argument: Any) -> None:
    rig = FunctionRig(driver, "one", "two", lost, form=form, fallback=Fallback(LAST_GOOD, "none"), max_attempts=1)
    assert (rig(argument), rig(a=argument)) == ("one", "two")
    assert (rig(argument), rig(a=argument)) == ("none", "none")
    alone = FunctionRig(driver, "one", lost, form=form, fallback=Fallback(LAST_GOOD), max_attempts=1)
    alone(argument)
    alone.fails(ConnectionError, argument)


@every_way
def test_a_last_good_result_may_be_too_old(driver: str, form: str) -> None:
    rig = FunctionRig(driver, "one", lost, form=form, fallback=Fallback(LAST_GOOD, "none", max_age=10), max_attempts=1)
    rig()
    rig.time.advance(10)
    assert rig() == "one"
    rig.time.advance(0.1)
    assert rig() == "none"


def test_one_fallback_keeps_functions_and_objects_apart() -> None:
    fallback = Fallback(LAST_GOOD, "none")
    first = FunctionRig("sync", "first", lost, fallback=fallback, max_attempts=1)
    other = FunctionRig("async", lost, fallback=fallback, max_attempts=1)
    assert (first(), other(), first()) == ("first", "none", "first")


# --- telling ---


@every_way
def test_on_retry_is_called_before_each_wait(driver: str, form: str) -> None:
    heard: list[Any] = []
    rig = FunctionRig(driver, lost, None, 5, form=form, retry_result=lambda value: value is None)
    rig = FunctionRig(
        driver,
        lost,
        None,
        5,
        form=form,
        retry_result=lambda value: value is None,
        on_retry=lambda attempt, error: heard.append((attempt, repr(error), len(rig.waits))),
    )
    assert rig() == 5
    assert heard == [(1, "ConnectionError('lost')", 0), (2, "None", 1)]


@every_way
@pytest.mark.parametrize("option", ["on_retry", "on_event"])
def test_a_listener_that_raises_is_logged_and_harms_nothing(driver: str, form: str, option: str, caplog: pytest.LogCaptureFixture) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("broken")

    listener: Any = broken if option == "on_retry" else lambda event: broken()
    assert FunctionRig(driver, lost, 5, form=form, **{option: listener})() == 5
    assert any("raised on RetryScheduled" in record.message for record in caplog.records)


@every_way
def test_events_carry_the_name_and_where_the_call_stands(driver: str, form: str) -> None:
    rig = FunctionRig(driver, lost, 5, form=form, watched=True, name="fetch")
    assert rig() == 5
    assert [(type(event).__name__, event.operation, event.attempt, event.max_attempts) for event in rig.events] == [
        ("AttemptStarted", "fetch", 1, 3),
        ("RetryScheduled", "fetch", 1, 3),
        ("AttemptStarted", "fetch", 2, 3),
        ("CallSucceeded", "fetch", 2, 3),
    ]
    rig = FunctionRig(driver, 5, form=form, watched=True)
    rig()
    assert rig.told == ["AttemptStarted", "CallSucceeded"]
    assert rig.events[0].operation.endswith(f"{driver}_play")


@both
def test_a_retry_is_logged_under_the_functions_name(driver: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "rpcretry")
    FunctionRig(driver, lost, 5, name="fetch")()
    assert [record.message for record in caplog.records] == [
        "fetch: attempt 1/3 failed: ConnectionError('lost'). Retrying in 0.10 s",
        "fetch: succeeded on attempt 2",
    ]


# --- limits ---


@pytest.mark.parametrize("form", ["decorated", "executed"])
@pytest.mark.parametrize("deadline", [0, -1, -0.0])
@both
def test_nothing_is_tried_without_time(driver: str, form: str, deadline: float) -> None:
    rig = FunctionRig(driver, 5, form=form, deadline=deadline)
    error = rig.fails(DeadlineExceeded)
    assert (rig.count, error.attempts, error.__cause__) == (0, 0, None)


@pytest.mark.parametrize("form", ["decorated", "executed"])
def test_a_sync_function_is_not_cut_and_not_tried_again_after_the_deadline(form: str) -> None:
    rig = FunctionRig("sync", Takes(9, 5), form=form, deadline=2)
    assert rig() == 5
    rig = FunctionRig("sync", Takes(9, lost), form=form, deadline=2)
    error = rig.fails(DeadlineExceeded)
    assert (rig.count, rig.waits, error.attempts, error.elapsed, error.deadline) == (1, [], 1, 9, 2)
    assert isinstance(error.__cause__, ConnectionError)
    # What is not retried says itself what happened.
    FunctionRig("sync", Takes(9, ValueError), form=form, deadline=2).fails(ValueError)


@every_way
def test_a_wait_that_would_pass_the_deadline_is_not_begun(driver: str, form: str) -> None:
    rig = FunctionRig(driver, lost, form=form, deadline=0.25, max_attempts=None)
    error = rig.fails(DeadlineExceeded)
    assert (rig.count, rig.waits) == (2, [0.1])
    assert error.attempts == 2
    assert isinstance(error.__cause__, ConnectionError)


@every_way
def test_no_deadline_is_none_or_infinite(driver: str, form: str) -> None:
    for deadline in (None, math.inf):
        rig = FunctionRig(driver, Takes(1e6, lost), form=form, deadline=deadline)
        rig.fails(ConnectionError)
        assert rig.count == 3


def test_a_deadline_inside_is_not_retried_outside() -> None:
    calls: list[int] = []

    @retry(base_delay=0, on=Exception)
    @retry(deadline=0)
    def inner() -> None: ...

    @retry(base_delay=0, on=Exception)
    def outer() -> None:
        calls.append(1)
        inner()

    with pytest.raises(DeadlineExceeded):
        outer()
    assert calls == [1]


# --- layers ---


@every_way
def test_layers_stand_around_a_function(driver: str, form: str) -> None:
    layer = Recorder()
    assert FunctionRig(driver, lost, 5, form=form, layers=layer)() == 5
    assert layer.log == ["layer.admit", "layer.judge", "layer.settle", "layer.admit", "layer.settle"]
    assert layer.outcomes[1][0].result == 5
    assert layer.verdicts[1] == [Stop("ok")]


@every_way
def test_a_refusal_is_raised_first_and_later_from_the_failure(driver: str, form: str) -> None:
    first = FunctionRig(driver, 5, form=form, on=Exception, layers=[Recorder(waits=[Refused("full")])])
    assert first.fails(Refused).__cause__ is None
    assert first.count == 0
    later = FunctionRig(driver, lost, form=form, on=Exception, layers=[Recorder(waits=[None, Refused("full")])])
    assert isinstance(later.fails(Refused).__cause__, ConnectionError)
    assert later.count == 1


@every_way
def test_a_layer_may_have_it_wait(driver: str, form: str) -> None:
    rig = FunctionRig(driver, 5, form=form, layers=[Recorder(waits=[Wait(1_003, "turn")])], watched=True)
    assert rig() == 5
    assert (rig.waits, rig.told) == ([3], ["Waited", "AttemptStarted", "CallSucceeded"])


# --- sharing ---


class Own(Exception):
    pass


def test_one_plan_shared_by_threads_mixes_nothing() -> None:
    plan = Retrying(on=Own, backoff=ImmediateBackoff(2), fallback=Fallback(lambda error: ("fallback", error.args[0]), on=Own))

    def work(number: int) -> Any:
        tries = 0

        def function(key: int) -> Any:
            nonlocal tries
            tries += 1
            if number % 4 == 3:
                raise KeyError(key)
            if tries <= number % 4 or number % 8 == 0:
                raise Own(key)
            return key, tries

        try:
            return plan.execute(function, number) if number % 2 else plan(function)(number)
        except KeyError as error:
            return "error", error.args[0]

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(work, range(400)))
    for number, result in enumerate(results):
        expected = ("error", number) if number % 4 == 3 else ("fallback", number) if number % 8 == 0 else (number, number % 4 + 1)
        assert result == expected


def test_one_plan_shared_by_tasks_mixes_nothing() -> None:
    plan = Retrying(on=Own, backoff=PeriodicBackoff(2, 0.001))

    async def work(number: int) -> Any:
        tries = 0

        @plan
        async def function(key: int) -> Any:
            nonlocal tries
            tries += 1
            await asyncio.sleep(0)
            if tries <= number % 4:
                raise Own(key)
            return key, tries

        return await function(number)

    async def main() -> list[Any]:
        return await asyncio.gather(*(work(number) for number in range(200)), return_exceptions=True)

    for number, result in enumerate(asyncio.run(main())):
        if number % 4 == 3:
            assert isinstance(result, Own)
            assert result.args == (number,)
        else:
            assert result == (number, number % 4 + 1)


def test_a_backoff_shared_by_threads_gives_each_its_own_delays() -> None:
    backoff = FibonacciBackoff(6)
    rigs = [FunctionRig("sync", lost, backoff=backoff) for _ in range(8)]
    together = threading.Barrier(8)

    def run(rig: FunctionRig) -> list[float]:
        together.wait()
        rig.fails(ConnectionError)
        return rig.waits

    with ThreadPoolExecutor(8) as pool:
        assert Counter(map(tuple, pool.map(run, rigs))) == {(1, 1, 2, 3, 5, 8): 8}


@both
def test_decorrelated_jitter_has_no_state_between_calls(driver: str) -> None:
    rig = FunctionRig(driver, lost, backoff=DecorrelatedJitterBackoff(3, 0.1, random=lambda: 1.0))
    for _ in range(2):
        rig.time.delays.clear()
        rig.fails(ConnectionError)
        assert rig.waits == [0.3, 0.9, 2.7]


# --- a class of one's own ---


class Fetcher(RetryableClient):
    def __init__(self, driver: str = "sync", **options: Any) -> None:
        self.time = VirtualTime()
        super().__init__(clock=self.time.clock, sleep=self.time.sleep if driver == "sync" else self.time.asleep, **options)
        self.flaky = Flaky(1)

    def fetch(self, add: int) -> int:
        """Fetches."""
        return self.flaky.method() + add

    async def afetch(self, add: int) -> int:
        """Fetches later."""
        return self.flaky.method() + add


class Unprepared(RetryableClient):
    def __init__(self) -> None:
        self.flaky = Flaky(0)


def test_a_retryable_client_retries_its_methods() -> None:
    fetcher = Fetcher(jitter=None, base_delay=3)
    assert fetcher.with_retry(fetcher.fetch)(10) == 12
    assert fetcher.time.delays == [3]
    later = Fetcher("async", jitter=None, base_delay=3)
    assert finish(lambda: later.with_async_retry(later.afetch)(add=10)) == 12
    assert later.time.delays == [3]
    assert finish(lambda: Fetcher("async").with_async_retry(lambda: later.afetch(1))()) == 4


def test_what_a_retryable_client_gives_keeps_its_name() -> None:
    fetcher = Fetcher()
    for made, plain in ((fetcher.with_retry(fetcher.fetch), Fetcher.fetch), (fetcher.with_async_retry(fetcher.afetch), Fetcher.afetch)):
        assert (made.__name__, made.__qualname__, made.__doc__) == (plain.__name__, plain.__qualname__, plain.__doc__)
        assert list(inspect.signature(made).parameters) == ["add"]


def test_a_retryable_client_works_without_super_init() -> None:
    client = Unprepared()
    assert client.with_retry(client.flaky.method)() == 1
    assert finish(lambda: client.with_async_retry(client.flaky.amethod)()) == 2
    assert Fetcher(max_attempts=7).retrying is not RetryableClient.retrying


def test_a_retryable_client_refuses_what_it_cannot_retry() -> None:
    fetcher = Fetcher()
    with pytest.raises(TypeError, match="use with_async_retry"):
        fetcher.with_retry(fetcher.afetch)

    async def steps() -> Any:
        yield 1

    with pytest.raises(TypeError, match="is a generator"):
        fetcher.with_async_retry(steps)
    with pytest.raises(TypeError, match="max_attempts"):
        RetryableClient(max_retries=3)  # type: ignore[call-arg]


# --- after give-up ---


class Local:
    """A value that the failing function's frame holds."""


def _remember(kept: list[weakref.ref[Local]]) -> None:
    local = Local()
    kept.append(weakref.ref(local))
    raise ConnectionError(str(len(kept)))


class Refusing(Layer):
    """Refuses every try but the first, and keeps nothing."""

    def admit(self, attempt: Attempt, now: float) -> None:
        if attempt.number > 1:
            raise Refused("full")


GIVE_UPS: dict[str, tuple[dict[str, Any], Any]] = {
    "attempts": ({}, ConnectionError),
    "one try": ({"max_attempts": 1}, ConnectionError),
    "not retried": ({"on": ValueError}, ConnectionError),
    "wrap": ({"wrap": True}, RetryExhaustedError),
    "deadline": ({"deadline": 0.15}, DeadlineExceeded),
    "predicate": ({"when": lambda error, attempt: 1 / 0}, ZeroDivisionError),
    "refused later": ({"layers": "refuse"}, Refused),
    "on_event": ({"on_event": lambda event: None}, ConnectionError),
    "fallback": ({"fallback_value": 5}, None),
    "fallback function": ({"fallback": lambda error: str(error)}, None),
    "fallback raises": ({"fallback": lambda error: 1 / 0}, ZeroDivisionError),
    "success": ({"max_attempts": 9, "on": ConnectionError}, ValueError),
}


@every_way
@pytest.mark.parametrize("name", GIVE_UPS)
def test_no_failing_frame_is_alive_after_give_up(driver: str, form: str, name: str, caplog: pytest.LogCaptureFixture) -> None:
    # pytest keeps what is logged, and so the failures in it.
    caplog.set_level(logging.CRITICAL, "rpcretry")
    options, kind = GIVE_UPS[name]
    if "layers" in options:
        options = {"layers": [Refusing()]}
    time = VirtualTime()
    plan = Retrying(clock=time.clock, sleep=time.sleep if driver == "sync" else time.asleep, jitter=None, **options)
    kept: list[weakref.ref[Local]] = []

    def sync_fail() -> None:
        if name == "success" and len(kept) == 2:
            raise ValueError
        _remember(kept)

    async def async_fail() -> None:
        await asyncio.sleep(0)
        sync_fail()

    def once() -> None:
        caught: list[type[BaseException]] = []
        if driver == "sync":
            call: Any = plan(sync_fail) if form == "decorated" else lambda: plan.execute(sync_fail)
            try:
                call()
            except Exception as error:
                caught.append(type(error))
        else:
            call = plan(async_fail) if form == "decorated" else lambda: plan.execute_async(async_fail)

            async def main() -> None:
                # In the task of its own that it would have in a server.
                try:
                    await asyncio.ensure_future(call())
                except Exception as error:
                    caught.append(type(error))

            asyncio.run(main())
        assert caught == ([] if kind is None else [kind])

    with no_collector():
        once()
        assert kept
        assert [ref() for ref in kept] == [None] * len(kept), "a failing frame is still alive"


@pytest.mark.parametrize("limit", ["timeout", "deadline"])
def test_no_frame_is_alive_after_an_attempt_was_cut(limit: str) -> None:
    """asyncio.timeout holds its task, a failed task its exception, and that its frames."""
    kept: list[weakref.ref[Local]] = []
    options: Any = {limit: 0.005}

    @retry(max_attempts=2, base_delay=0, **options)
    async def slow() -> None:
        local = Local()
        kept.append(weakref.ref(local))
        await asyncio.sleep(1)

    async def main() -> None:
        task = asyncio.create_task(slow())
        with pytest.raises(TimeoutError):
            await task
        del task
        await asyncio.sleep(0)
        assert [ref() for ref in kept] == [None] * len(kept)

    with no_collector():
        asyncio.run(main())
    assert kept


def test_the_wrapper_of_a_success_builds_nothing_that_outlives_it() -> None:
    local = Local()
    kept = weakref.ref(local)
    with no_collector():
        assert retry(lambda value: value)(local) is local
        del local
        assert kept() is None


# --- speed, loosely: what a success must never do is wait or log ---


def test_a_success_waits_for_nothing() -> None:
    function = retry(lambda: None)
    begun = time.perf_counter()
    for _ in range(1_000):
        function()
    assert time.perf_counter() - begun < 1


def test_types_of_what_is_given_back() -> None:
    assert isinstance(retry(len), types.FunctionType)
    assert isinstance(retry(staticmethod(len)), staticmethod)
    assert isinstance(retry(), Retrying)


def test_a_retrying_is_immutable() -> None:
    plan = Retrying(max_attempts=2)
    for name in ("policy", "clock", "name"):
        with pytest.raises(AttributeError, match=f"build another one to change {name}"):
            setattr(plan, name, None)


def test_a_subclass_of_retrying_may_keep_what_it_likes() -> None:
    class Mine(Retrying):
        def __init__(self, purpose: str) -> None:
            super().__init__(max_attempts=2)
            self.purpose = purpose

    assert Mine("prices").purpose == "prices"
