"""Each parameter of each layer at the edge of what it takes, and the whole of what is said beyond that."""

from __future__ import annotations

import datetime
import functools
from typing import Any

import pytest

from rpcretry.layers import AdaptiveDelay, CircuitBreaker, ConcurrencyLimit, RateLimit, RetryAfter, RetryBudget
from rpcretry.outcome import Member
from rpcretry.retry import Backoff, ExponentialBackoff

rated = functools.partial(CircuitBreaker, failure_rate=0.5)


def nothing() -> float:
    return 1.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        # The budget.
        (lambda: RetryBudget(0), "capacity must be more than 0, got 0"),
        (lambda: RetryBudget("1"), "capacity must be a number, got str '1'"),  # type: ignore[arg-type]
        (lambda: RetryBudget(cost=0), "cost must be more than 0, got 0"),
        (lambda: RetryBudget(refund=0), "refund must be more than 0, got 0"),
        (lambda: RetryBudget(2, cost=3), "cost must be at most the capacity, 2, got 3: no retry could ever be paid for; raise capacity"),
        (lambda: RetryBudget(name=""), "name must not be empty"),
        (lambda: RetryBudget(name=5), "name must be a str, got int 5"),  # type: ignore[arg-type]
        # Adaptive delays.
        (lambda: AdaptiveDelay(alpha=0), "alpha must be more than 0, got 0"),
        (lambda: AdaptiveDelay(alpha=1.5), "alpha must be at most 1, got 1.5"),
        (lambda: AdaptiveDelay(max_factor=0.5), "max_factor must be at least 1, got 0.5"),
        # What the server asks for.
        (lambda: RetryAfter(max_delay=-1), "max_delay must be at least 0, got -1"),
        (
            lambda: RetryAfter(wall_clock=lambda zone: 1.0),  # type: ignore[arg-type,misc]
            "wall_clock must be callable with no argument, got <function <lambda>.<locals>.<lambda>",
        ),
        # At most so many at once.
        (lambda: ConcurrencyLimit(0), "limit must be at least 1, got 0"),
        (lambda: ConcurrencyLimit(1, max_waiting=-1), "max_waiting must be at least 0, got -1"),
        (lambda: ConcurrencyLimit(1, max_wait=0), "max_wait must be more than 0, got 0; give seconds, or None for no limit"),
        (lambda: ConcurrencyLimit(1, name=""), "name must not be empty"),
        # At most so many in a time.
        (lambda: RateLimit(0), "rate must be more than 0, got 0"),
        (lambda: RateLimit(1, per=0), "per must be more than 0, got 0"),
        (lambda: RateLimit(1, burst=0), "burst must be more than 0, got 0"),
        (lambda: RateLimit(1, max_waiting=-1), "max_waiting must be at least 0, got -1"),
        (lambda: RateLimit(1, max_wait=0), "max_wait must be more than 0, got 0; give seconds, or None for no limit"),
        (lambda: RateLimit(1, name=""), "name must not be empty"),
        (lambda: RateLimit(1, clock=5), "clock must be callable, got int 5; pass time.monotonic"),  # type: ignore[arg-type]
        (lambda: RateLimit(1, cost={"get": -1}), "cost['get'] must be at least 0, got -1"),
        (lambda: RateLimit(1, cost=5), "cost must be callable, got int 5; give a mapping from method names to tokens, or a function of the Member"),  # type: ignore[arg-type]
        (
            lambda: RateLimit(1e308, per=1e-308),
            "rate must be one that a clock can measure, got 1e+308 in per=1e-308 s with burst=1e+308; give numbers nearer to 1",
        ),
        # The breaker.
        (lambda: CircuitBreaker(""), "name must not be empty"),
        (lambda: CircuitBreaker(None), "name must be a str, got NoneType None"),  # type: ignore[arg-type]
        (lambda: CircuitBreaker(5), "name must be a str, got int 5; for the failures that open it write failure_threshold=5"),  # type: ignore[arg-type]
        (lambda: CircuitBreaker(OSError), "name must be a str, got <class 'OSError'>; write failure_on=, if that was meant"),  # type: ignore[arg-type]
        (lambda: CircuitBreaker(failure_threshold=0), "failure_threshold must be at least 1, got 0"),
        (lambda: CircuitBreaker(half_open_max_calls=0), "half_open_max_calls must be at least 1, got 0"),
        (lambda: CircuitBreaker(success_threshold=0), "success_threshold must be at least 1, got 0"),
        (lambda: CircuitBreaker(recovery_timeout=0), "recovery_timeout must be more than 0, got 0; give seconds, or a Backoff"),
        (
            lambda: CircuitBreaker(recovery_timeout=ExponentialBackoff),  # type: ignore[arg-type]
            "recovery_timeout must be an instance, got the class ExponentialBackoff; write ExponentialBackoff(attempts=...)",
        ),
        (
            lambda: CircuitBreaker(recovery_timeout=ExponentialBackoff(0)),
            "recovery_timeout must yield at least one delay, got ExponentialBackoff(attempts=0, jitter=None, max_value=None, base=1.0, factor=2.",
        ),
        (lambda: rated(minimum_calls=0), "minimum_calls must be at least 1, got 0"),
        (lambda: rated(minimum_calls=2.0), "minimum_calls must be an int, got float 2.0"),
        (lambda: CircuitBreaker(failure_rate=0), "failure_rate must be more than 0, got 0"),
        (lambda: CircuitBreaker(failure_rate=1.5), "failure_rate must be at most 1, got 1.5"),
        (lambda: rated(failure_threshold=4), "failure_threshold=4 and failure_rate=0.5 exclude each other; leave one out"),
        (lambda: rated(window=0), "window must be at least 1, got 0"),
        (lambda: rated(window=datetime.timedelta(0)), "window must be longer than 0, got datetime.timedelta(0)"),
        (
            lambda: rated(window=2.5),
            "window must be an int, that many last calls, or a datetime.timedelta, the calls of that time, got float 2.5",
        ),
        (
            lambda: rated(window=True),
            "window must be an int, that many last calls, or a datetime.timedelta, the calls of that time, got bool True",
        ),
        (
            lambda: rated(window=9, minimum_calls=10),
            "minimum_calls must be at most window, or the rate would never count, got minimum_calls=10 and window=9",
        ),
        (lambda: CircuitBreaker(window=50), "window=50 does nothing without failure_rate; write failure_rate=0.5, or leave window out"),
        (lambda: CircuitBreaker(minimum_calls=5), "minimum_calls=5 does nothing without failure_rate; write failure_rate=0.5, or leave minimum_calls out"),
        (lambda: CircuitBreaker(key="methods"), "key must be 'method' or a function of the Member, got 'methods'"),
        (
            lambda: CircuitBreaker(key=nothing),  # type: ignore[arg-type]
            f"key must be callable with 1 argument, got {nothing!r:.80} with () -> 'float'; it gets a Member and returns a hashable; or write key='method'",
        ),
        (
            lambda: CircuitBreaker(listeners=nothing),
            f"listeners must be callable with 1 argument, got {nothing!r:.80} with () -> 'float'; it gets a BreakerChanged",
        ),
        (lambda: CircuitBreaker(listeners=list), "listeners must be callables, got the class list; write list()"),
        (lambda: CircuitBreaker(clock=5), "clock must be callable, got int 5; pass time.monotonic"),  # type: ignore[arg-type]
        (lambda: CircuitBreaker(key="method")[[]], "key must give something hashable, got list []"),  # type: ignore[index]
        (lambda: CircuitBreaker("api")["get"], "breaker api has one circuit and no keys; use the breaker itself, or give it key='method'"),
        (lambda: CircuitBreaker("api").remove_listener(print), "<built-in function print> is no listener of breaker api"),
    ],
)
def test_what_is_beyond_is_said_whole(make: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        make()
    assert str(caught.value).startswith(message)
    # Where the whole of it is given, there is no more.
    assert len(str(caught.value)) == len(message) or message.endswith((">", "2."))


@pytest.mark.parametrize(
    "make",
    [
        lambda: RetryBudget(1, cost=1, refund=1e-9),
        lambda: AdaptiveDelay(alpha=1, max_factor=1),
        lambda: RetryAfter(max_delay=0),
        lambda: ConcurrencyLimit(1, max_waiting=0, max_wait=1e-9),
        lambda: RateLimit(1e-3, per=1e3, burst=1e-3, max_waiting=0, cost={"get": 0}),
        lambda: CircuitBreaker(failure_threshold=1, half_open_max_calls=1, success_threshold=1, recovery_timeout=1e-9),
        lambda: rated(window=1, minimum_calls=1),
        lambda: CircuitBreaker(failure_rate=1, window=10, minimum_calls=10),
        lambda: rated(window=datetime.timedelta(microseconds=1), minimum_calls=10**6),
        lambda: CircuitBreaker(recovery_timeout=ExponentialBackoff(1)),
        lambda: CircuitBreaker(recovery_timeout=Backoff.from_function(lambda attempt: 1.0)),
        lambda: CircuitBreaker(key=lambda member: member.method),
    ],
)
def test_the_last_that_is_taken_is_taken(make: Any) -> None:
    make()


def test_the_cost_of_a_function_is_checked_when_it_is_asked() -> None:
    limit = RateLimit(1, cost=lambda member: -1.0)
    with pytest.raises(ValueError, match=r"^the tokens that cost returns must be at least 0, got -1\.0$"):
        limit._cost(type("Attempt", (), {"members": [Member(None)]})())  # type: ignore[arg-type]


@pytest.mark.parametrize("layer", [RetryBudget(), ConcurrencyLimit(1), RateLimit(1), CircuitBreaker()])
def test_what_is_not_named_is_called_default(layer: Any) -> None:
    assert layer.name == "default"
    assert layer.name in repr(layer)


@pytest.mark.parametrize(
    ("kind", "name", "words"),
    [
        (RetryBudget, "retry_ratio", "RetryBudget has no parameter 'retry_ratio'; here it is refund: 0.1 lets one retry follow ten successes"),
        (ConcurrencyLimit, "max_wait_duration", "ConcurrencyLimit has no parameter 'max_wait_duration'; here it is max_wait, in seconds"),
        (RateLimit, "limit_refresh_period", "RateLimit has no parameter 'limit_refresh_period'; here it is per, in seconds"),
        (CircuitBreaker, "exclude", "CircuitBreaker has no parameter 'exclude'; here it is failure_on, which says the opposite"),
    ],
)
def test_what_others_call_a_parameter_is_answered_with_ours(kind: Any, name: str, words: str) -> None:
    with pytest.raises(TypeError) as caught:
        kind(**{name: 1})
    assert str(caught.value) == words


# What other libraries call it, and what is answered.
NAMES: dict[Any, dict[str, str]] = {
    CircuitBreaker: {
        "cooldown": "recovery_timeout",
        "error_threshold": "failure_threshold, or failure_rate",
        "exclude": "failure_on, which says the opposite",
        "excluded_exceptions": "failure_on, which says the opposite",
        "expected_exception": "failure_on",
        "failure_exceptions": "failure_on",
        "failure_rate_threshold": "failure_rate, in (0, 1]",
        "fail_max": "failure_threshold",
        "half_open_max_requests": "half_open_max_calls",
        "max_failures": "failure_threshold",
        "minimum_number_of_calls": "minimum_calls",
        "open_duration": "recovery_timeout",
        "permitted_number_of_calls_in_half_open_state": "half_open_max_calls",
        "reset_timeout": "recovery_timeout",
        "sliding_window_size": "window",
        "timeout": "recovery_timeout",
        "timeout_duration": "recovery_timeout",
    },
    RetryBudget: {
        "budget": "capacity",
        "max_tokens": "capacity",
        "percent_can_retry": "refund: 0.1 lets one retry follow ten successes",
        "ratio": "refund",
        "retry_cost": "cost",
        "retry_ratio": "refund: 0.1 lets one retry follow ten successes",
        "success_increment": "refund",
        "token_ratio": "refund",
        "tokens": "capacity",
    },
    ConcurrencyLimit: {
        "capacity": "limit",
        "concurrency": "limit",
        "max_concurrency": "limit",
        "max_concurrent": "limit",
        "max_concurrent_calls": "limit",
        "max_parallelization": "limit",
        "max_queue": "max_waiting",
        "max_queuing_actions": "max_waiting",
        "max_wait_duration": "max_wait, in seconds",
        "permits": "limit",
        "queue_size": "max_waiting",
        "timeout": "max_wait",
        "value": "limit",
    },
    RateLimit: {
        "calls": "rate",
        "capacity": "burst",
        "interval": "per",
        "limit": "rate",
        "limit_for_period": "rate",
        "limit_refresh_period": "per, in seconds",
        "max_burst": "burst",
        "max_calls": "rate",
        "max_rate": "rate",
        "max_tokens": "burst",
        "period": "per",
        "refill": "rate",
        "refill_rate": "rate",
        "requests_per_second": "rate",
        "time_period": "per",
        "timeout": "max_wait",
        "tokens": "rate",
        "weight": "cost",
    },
}


@pytest.mark.parametrize(("layer", "name"), [(layer, name) for layer, names in NAMES.items() for name in names])
def test_a_name_of_another_librarys_is_answered_with_ours(layer: Any, name: str) -> None:
    with pytest.raises(TypeError) as caught:
        layer(**{name: 1})
    assert str(caught.value) == f"{layer.__name__} has no parameter {name!r}; here it is {NAMES[layer][name]}"
