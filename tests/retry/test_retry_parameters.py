"""Each parameter of backoffs, jitters, strategies and fallbacks at the edge of what it takes, and the whole of what is said beyond that."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import AsyncIterator
from typing import Any

import pytest

from rpcretry.retry import (
    LAST_GOOD,
    LONGEST,
    AdditiveJitter,
    Backoff,
    DecorrelatedJitterBackoff,
    EqualJitter,
    ExponentialBackoff,
    Fallback,
    FibonacciBackoff,
    FullJitter,
    ImmediateBackoff,
    LinearBackoff,
    PeriodicBackoff,
    ProportionalJitter,
    RetryStrategy,
)
from rpcretry.retry.backoff import as_backoff, limit_of, within
from rpcretry.retry.fallback import as_fallback
from rpcretry.retry.jitter import as_jitter

BACKOFFS = [
    ImmediateBackoff,
    PeriodicBackoff,
    LinearBackoff,
    ExponentialBackoff,
    FibonacciBackoff,
    DecorrelatedJitterBackoff,
    lambda attempts, **rest: Backoff.from_function(lambda attempt: 1.0, attempts=attempts),
]


def takes_one(argument: object) -> float:
    return 1.0


def takes_none() -> float:
    return 1.0


async def awaited() -> float:
    return 1.0


async def streamed() -> AsyncIterator[float]:
    yield 1.0


def message(make: Any) -> str:
    with pytest.raises((TypeError, ValueError)) as caught:
        make()
    return str(caught.value)


@pytest.mark.parametrize("kind", BACKOFFS)
def test_every_backoff_checks_how_often(kind: Any) -> None:
    assert message(lambda: kind(-1)) == "attempts must be at least 0, got -1"
    assert message(lambda: kind(1.0)) == "attempts must be an int, got float 1.0"
    assert message(lambda: kind(True)) == "attempts must be an int, got bool True"
    assert list(kind(0)()) == []


@pytest.mark.parametrize("kind", BACKOFFS[:-1])
def test_every_backoff_checks_what_it_spreads(kind: Any) -> None:
    assert message(lambda: kind(1, max_value=-1)) == "max_value must be at least 0, got -1"
    assert message(lambda: kind(1, jitter="full")) == ("jitter must be True, a number in (0, 1], a Jitter or a callable without arguments, got 'full'")
    assert message(lambda: kind(1, jitter=0)) == "jitter as a number must be in (0, 1], a proportion of the delay each way, got 0"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: PeriodicBackoff(1, interval=-1), "interval must be at least 0, got -1"),
        (lambda: PeriodicBackoff(1, interval=math.nan), "interval must be finite, got nan"),
        (lambda: LinearBackoff(1, base=-1), "base must be at least 0, got -1"),
        (lambda: LinearBackoff(1, increment=-1), "increment must be at least 0, got -1"),
        (lambda: ExponentialBackoff(1, base=-1), "base must be at least 0, got -1"),
        (lambda: ExponentialBackoff(1, factor=0), "factor must be more than 0, got 0"),
        (lambda: FibonacciBackoff(1, multiplier=-1), "multiplier must be at least 0, got -1"),
        (lambda: DecorrelatedJitterBackoff(1, base=0), "base must be more than 0, got 0"),
        (
            lambda: DecorrelatedJitterBackoff(1, base=2, max_value=2),
            "base must be less than max_value, or nothing is left to draw from, got base=2 and max_value=2",
        ),
        (
            lambda: DecorrelatedJitterBackoff(1, base=LONGEST, max_value=None),
            "base must be less than max_value, or nothing is left to draw from, got base=86400.0 and max_value=86400",
        ),
        (
            lambda: DecorrelatedJitterBackoff(1, random=takes_one),  # type: ignore[arg-type]
            f"random must be callable with no argument, got {takes_one!r:.80} with (argument: 'object') -> 'float'; pass random.Random(seed).random",
        ),
        (
            lambda: Backoff.from_function(takes_none),  # type: ignore[arg-type]
            f"function must be callable with 1 argument, got {takes_none!r:.80} with () -> 'float'; "
            "it gets the number of the failed attempt and returns seconds",
        ),
        (lambda: next(Backoff.from_function(lambda attempt: "1")()), "a backoff's delay must be a number of seconds, got str '1'"),  # type: ignore[arg-type,return-value]
        (lambda: next(Backoff.from_function(lambda attempt: True)()), "a backoff's delay must be a number of seconds, got bool True"),
        (lambda: within(math.nan), "a backoff's delay must be a number of seconds, got NaN"),
        (lambda: next(Backoff(1)()), "Backoff must define __call__(self), returning an iterator of seconds"),
        (
            lambda: FullJitter(random=takes_one),  # type: ignore[arg-type]
            f"random must be callable with no argument, got {takes_one!r:.80} with (argument: 'object') -> 'float'; pass random.Random(seed).random",
        ),
        (lambda: ProportionalJitter(0), "proportion must be more than 0, got 0"),
        (lambda: ProportionalJitter(1.1), "proportion must be at most 1, got 1.1"),
        (lambda: AdditiveJitter(0), "most must be more than 0, got 0"),
        (lambda: as_jitter(FullJitter), "jitter must be an instance, got the class FullJitter; write jitter=FullJitter()"),  # type: ignore[arg-type]
        (
            lambda: as_jitter(takes_one),  # type: ignore[arg-type]
            f"jitter must be callable with no argument, got {takes_one!r:.80} with (argument: 'object') -> 'float'; "
            "write a Jitter subclass to work on the delay; a plain callable returns seconds to add",
        ),
        (lambda: as_jitter(lambda: "1")(1.0), "a jitter callable must return a number of seconds, got str '1'"),  # type: ignore[arg-type,misc,return-value]
        (lambda: as_jitter(lambda: math.nan)(1.0), "a jitter callable must return a number of seconds, got NaN"),  # type: ignore[misc]
        (lambda: as_backoff(ExponentialBackoff), "backoff must be an instance, got the class ExponentialBackoff; write backoff=ExponentialBackoff(attempts=3)"),
        (
            lambda: as_backoff([1.0]),
            "backoff must be a Backoff or a callable that returns an iterator of seconds, got [1.0]; write backoff=lambda: iter([...])",
        ),
        (
            lambda: as_backoff(3),
            "backoff must be a Backoff or a callable that returns an iterator of seconds, got 3; write backoff=PeriodicBackoff(attempts=3, interval=...)",
        ),
        (lambda: as_backoff(streamed), f"backoff must return an iterator of seconds and no coroutine, got {streamed!r:.60}; write def"),
        (lambda: as_backoff(awaited), f"backoff must return an iterator of seconds and no coroutine, got {awaited!r:.60}; write def"),
        (
            lambda: as_backoff(takes_one),
            f"backoff must be callable with no argument, got {takes_one!r:.80} with (argument: 'object') -> 'float'; "
            "use Backoff.from_function for a function of the attempt's number",
        ),
        (lambda: RetryStrategy(wrap=1), "wrap must be True or False, got 1"),  # type: ignore[arg-type]
        (
            lambda: RetryStrategy(when=takes_one),  # type: ignore[arg-type]
            f"when must be callable with 2 arguments, got {takes_one!r:.80} with (argument: 'object') -> 'float'; "
            "it gets the outcome and the number of the try",
        ),
        (
            lambda: RetryStrategy(idempotent=takes_none),  # type: ignore[arg-type]
            f"idempotent must be callable with 1 argument, got {takes_none!r:.80} with () -> 'float'; "
            "it takes names, globs, True or a predicate of the request",
        ),
        (lambda: RetryStrategy(idempotent=["get", 5]), "idempotent takes method names and globs, got int 5"),  # type: ignore[list-item]
        (lambda: RetryStrategy(exceptions=5), "exceptions takes exception classes, got 5; write codes={5}"),  # type: ignore[arg-type]
        (lambda: RetryStrategy(exceptions="x"), "exceptions takes exception classes, got 'x'"),  # type: ignore[arg-type]
        (lambda: RetryStrategy(fatal="x"), "fatal takes exception classes, got 'x'"),  # type: ignore[arg-type]
        (
            lambda: RetryStrategy(exceptions=KeyboardInterrupt),  # type: ignore[arg-type]
            "exceptions takes subclasses of Exception, got KeyboardInterrupt: cancellation and interrupts are never retried",
        ),
        (lambda: RetryStrategy(codes="x"), "codes takes ints and ranges, got str 'x'"),  # type: ignore[arg-type]
        (lambda: RetryStrategy(codes=OSError), "codes takes ints and ranges, got type <class 'OSError'>; write exceptions={...} for classes"),  # type: ignore[arg-type]
        (lambda: RetryStrategy(statuses=[True]), "statuses takes ints and ranges, got bool True"),
        (lambda: RetryStrategy(fatal=[True]), "fatal takes ints and ranges, got bool True"),
        (lambda: RetryStrategy(OSError), "RetryStrategy takes keywords only; write backoff=..., codes=..., exceptions=..."),  # type: ignore[misc]
        (lambda: Fallback(), "Fallback takes what to fall back to: a value, a callable or LAST_GOOD; for None write Fallback(None)"),
        (lambda: Fallback(LAST_GOOD, max_age=0), "max_age must be more than 0, got 0"),
        (lambda: Fallback(LAST_GOOD, size=0), "size must be at least 1, got 0"),
        (lambda: Fallback(0, size=5), "size is for LAST_GOOD, which is not among the steps; write Fallback(LAST_GOOD, ...)"),
        (lambda: Fallback(0, max_age=5), "max_age is for LAST_GOOD, which is not among the steps; write Fallback(LAST_GOOD, ...)"),
        (lambda: Fallback(0, on=5), "on takes subclasses of Exception, got 5"),  # type: ignore[arg-type]
        (lambda: Fallback(0, on="x"), "on takes subclasses of Exception, got 'x'"),  # type: ignore[arg-type]
        (lambda: Fallback(0, on=[]), "on must name an exception, got none: the fallback would never be asked; leave on out for all"),
        (lambda: as_fallback("fallback", 5, awaited=True), "fallback must be a Fallback or None, got int 5; write Fallback(...) around it"),
        (lambda: as_fallback("fallback", Fallback, awaited=True), f"fallback must be a Fallback or None, got type {Fallback!r}; write Fallback(...)"),
        (
            lambda: as_fallback("fallback", Fallback(awaited), awaited=False),
            "fallback is sync here and would not be awaited, but Fallback(awaited) has an async def; write def",
        ),
    ],
)
def test_what_is_beyond_is_said_whole(make: Any, words: str) -> None:
    assert message(make) == words


@pytest.mark.parametrize(
    "make",
    [
        lambda: PeriodicBackoff(0, interval=0, max_value=0),
        lambda: LinearBackoff(1, base=0, increment=0),
        lambda: ExponentialBackoff(1, base=0, factor=1e-9),
        lambda: FibonacciBackoff(1, multiplier=0),
        lambda: DecorrelatedJitterBackoff(1, base=1.999, max_value=2),
        lambda: ProportionalJitter(1),
        lambda: ExponentialBackoff(1, jitter=1),
        lambda: ExponentialBackoff(1, jitter=1e-9),
        lambda: Fallback(LAST_GOOD, size=1, max_age=1e-9),
        lambda: Fallback(0, size=1024),
        lambda: RetryStrategy(exceptions=(), codes=(), statuses=()),
    ],
)
def test_the_last_that_is_taken_is_taken(make: Any) -> None:
    make()


# --- delays ---


@pytest.mark.parametrize(
    ("delay", "expected"),
    [(0, 0.0), (-0.0, 0.0), (-1, 0.0), (5, 5.0), (10, 10.0), (11, 10.0), (math.inf, 10.0), (-math.inf, 0.0)],
)
def test_a_delay_is_between_nothing_and_the_cap(delay: float, expected: float) -> None:
    found = within(delay, 10)
    assert (found, math.copysign(1, found), type(found)) == (expected, 1.0, float)


def test_a_function_that_overflows_means_the_longest_delay() -> None:
    function = lambda attempt: 2.0 ** (attempt * 500)
    assert list(Backoff.from_function(function, attempts=4)()) == [LONGEST] * 4
    grown = Backoff.from_function(lambda attempt: 1.0 if attempt < 3 else 2.0 ** (attempt * 500), attempts=5)
    assert list(grown()) == [1.0, 1.0, LONGEST, LONGEST, LONGEST]


def test_a_function_gets_the_number_of_the_failed_attempt_and_ends_with_none() -> None:
    asked: list[int] = []
    backoff = Backoff.from_function(lambda attempt: asked.append(attempt) or (attempt / 2 if attempt < 4 else None))  # type: ignore[func-returns-value]
    assert list(backoff()) == [0.5, 1.0, 1.5]
    assert asked == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("backoff", "delays"),
    [
        (LinearBackoff(5, base=1, increment=2, max_value=6), [1, 3, 5, 6, 6]),
        (ExponentialBackoff(5, base=3, factor=3, max_value=30), [3, 9, 27, 30, 30]),
        (ExponentialBackoff(3, base=8, factor=0.5), [8, 4, 2]),
        (FibonacciBackoff(7, multiplier=2, max_value=20), [2, 2, 4, 6, 10, 16, 20]),
        (PeriodicBackoff(2, interval=100_000), [LONGEST, LONGEST]),
        (PeriodicBackoff(2, interval=5, max_value=100_000), [5, 5]),
        (ImmediateBackoff(2), [0, 0]),
        (DecorrelatedJitterBackoff(4, base=1, max_value=10, random=lambda: 0.5), [2.0, 3.5, 5.5, 5.5]),
        (DecorrelatedJitterBackoff(3, base=1, max_value=10, random=lambda: 0.0), [1.0, 1.0, 1.0]),
    ],
)
def test_delays_by_the_book(backoff: Backoff, delays: list[float]) -> None:
    assert list(backoff()) == delays


@pytest.mark.parametrize(
    ("jitter", "drawn", "delay"),
    [
        (FullJitter, 0.25, 2.0),
        (EqualJitter, 0.25, 5.0),
        (functools.partial(ProportionalJitter, 0.5), 0.25, 6.0),
        (functools.partial(ProportionalJitter, 0.5), 0.0, 4.0),
        (functools.partial(AdditiveJitter, 4), 0.25, 9.0),
    ],
)
def test_jitter_by_the_book(jitter: Any, drawn: float, delay: float) -> None:
    assert jitter(random=lambda: drawn)(8.0) == delay
    assert (
        list(ExponentialBackoff(2, base=8, factor=1, jitter=jitter(random=lambda: drawn), max_value=5.5)()) == [min(jitter(random=lambda: drawn)(5.5), 5.5)] * 2
    )


def test_how_often_is_known_where_it_is_said() -> None:
    assert limit_of(PeriodicBackoff(3)) == 3
    assert limit_of(Backoff.from_function(lambda attempt: 1.0)) is None
    assert limit_of(lambda: itertools.repeat(1.0)) is None
    assert (RetryStrategy(backoff=PeriodicBackoff(3)).max_attempts, RetryStrategy(backoff=lambda: iter([1.0])).max_attempts) == (4, None)
