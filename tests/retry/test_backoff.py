"""Backoffs: what they yield, for any parameters, however far one looks."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
import pickle
import random
from collections.abc import Iterator
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rpcretry.retry import (
    DEFAULT_BACKOFF,
    LONGEST,
    UNLIMITED,
    AdditiveJitter,
    Backoff,
    DecorrelatedJitterBackoff,
    EqualJitter,
    ExponentialBackoff,
    FibonacciBackoff,
    FullJitter,
    ImmediateBackoff,
    LinearBackoff,
    PeriodicBackoff,
    ProportionalJitter,
    RetryStrategy,
)

MILLION = 1_000_000


def first(backoff: Backoff, n: int = 8) -> list[float]:
    return [round(delay, 9) for delay in islice(backoff(), n)]


@pytest.mark.parametrize(
    ("backoff", "expected"),
    [
        (ImmediateBackoff(attempts=3), [0, 0, 0]),
        (PeriodicBackoff(attempts=3), [1, 1, 1]),
        (PeriodicBackoff(attempts=3, interval=0.25), [0.25, 0.25, 0.25]),
        (LinearBackoff(attempts=4), [1, 2, 3, 4]),
        (LinearBackoff(attempts=4, base=0.5, increment=2), [0.5, 2.5, 4.5, 6.5]),
        (LinearBackoff(attempts=4, base=1, increment=1, max_value=2.5), [1, 2, 2.5, 2.5]),
        (ExponentialBackoff(attempts=5), [1, 2, 4, 8, 16]),
        (ExponentialBackoff(attempts=4, base=0.1, factor=3), [0.1, 0.3, 0.9, 2.7]),
        (ExponentialBackoff(attempts=4, base=1, max_value=3), [1, 2, 3, 3]),
        (ExponentialBackoff(attempts=3, base=8, factor=0.5), [8, 4, 2]),
        (FibonacciBackoff(attempts=7), [1, 1, 2, 3, 5, 8, 13]),
        (FibonacciBackoff(attempts=5, multiplier=0.1), [0.1, 0.1, 0.2, 0.3, 0.5]),
        (FibonacciBackoff(attempts=7, max_value=4), [1, 1, 2, 3, 4, 4, 4]),
        (Backoff.from_function(lambda attempt: attempt * 10, attempts=3), [10, 20, 30]),
        (Backoff.from_function(lambda attempt: None if attempt == 3 else 1.0), [1, 1]),
        (PeriodicBackoff(attempts=2, interval=1.0, jitter=lambda: 0.5), [1.5, 1.5]),
        (PeriodicBackoff(attempts=2, interval=1.0, jitter=lambda: 9.5, max_value=4), [4, 4]),
        (PeriodicBackoff(attempts=0), []),
    ],
    ids=repr,
)
def test_what_each_backoff_yields(backoff: Backoff, expected: list[float]) -> None:
    assert first(backoff) == expected
    assert all(type(delay) is float for delay in islice(backoff(), 8))


def test_defaults_exponential_is_one_second_doubling_without_jitter() -> None:
    backoff = ExponentialBackoff(attempts=1)
    assert (backoff.base, backoff.factor, backoff.jitter, backoff.max_value) == (1.0, 2.0, None, None)


def test_defaults_of_the_strategys_own_backoff() -> None:
    assert ExponentialBackoff(attempts=3, base=0.1, factor=2.0, max_value=20.0, jitter=True) == DEFAULT_BACKOFF
    assert RetryStrategy().backoff is DEFAULT_BACKOFF
    assert RetryStrategy().max_attempts == 4
    seen = [first(DEFAULT_BACKOFF) for _ in range(200)]
    assert len({tuple(delays) for delays in seen}) == 200
    for index, limit in enumerate((0.1, 0.2, 0.4)):
        values = [delays[index] for delays in seen]
        assert 0 <= min(values) < limit * 0.2
        assert limit * 0.8 < max(values) <= limit


# --- any parameters, however far ---

jitters = st.one_of(
    st.none(),
    st.just(True),
    st.floats(0, 1, exclude_min=True),
    st.builds(FullJitter),
    st.builds(EqualJitter),
    st.builds(ProportionalJitter, st.floats(0, 1, exclude_min=True)),
    st.builds(AdditiveJitter, st.floats(0, exclude_min=True, allow_infinity=False)),
    st.one_of(st.floats(allow_nan=False), st.integers()).map(lambda value: lambda: value),
)
sizes = st.one_of(st.floats(0, allow_infinity=False), st.integers(0, 10**300))
positive = st.floats(0, exclude_min=True, allow_infinity=False)
caps = st.one_of(st.none(), sizes)


@st.composite
def backoffs(draw: st.DrawFn, attempts: st.SearchStrategy[int]) -> Backoff:
    kind = draw(st.sampled_from([ImmediateBackoff, PeriodicBackoff, LinearBackoff, ExponentialBackoff, FibonacciBackoff, DecorrelatedJitterBackoff, Backoff]))
    n, jitter, cap = draw(attempts), draw(jitters), draw(caps)
    if kind is Backoff:
        value = draw(st.one_of(st.floats(allow_nan=False), st.integers()))
        return Backoff.from_function(lambda attempt: value * attempt, attempts=n)
    if kind is PeriodicBackoff:
        return PeriodicBackoff(n, draw(sizes), jitter=jitter, max_value=cap)
    if kind is LinearBackoff:
        return LinearBackoff(n, draw(sizes), draw(sizes), jitter=jitter, max_value=cap)
    if kind is ExponentialBackoff:
        return ExponentialBackoff(n, draw(sizes), draw(positive), jitter=jitter, max_value=cap)
    if kind is FibonacciBackoff:
        return FibonacciBackoff(n, draw(sizes), jitter=jitter, max_value=cap)
    if kind is DecorrelatedJitterBackoff:
        base = draw(st.floats(0, LONGEST / 2, exclude_min=True))
        cap = draw(st.one_of(st.none(), st.floats(base, exclude_min=True, allow_infinity=False)))
        return DecorrelatedJitterBackoff(n, base, jitter=jitter, max_value=cap)
    return ImmediateBackoff(n, jitter=jitter, max_value=cap)


def check(delays: list[float], cap: float) -> None:
    # A NaN or an infinity anywhere would make the sum one.
    assert math.isfinite(sum(delays))
    assert not delays or (min(delays) >= 0 and max(delays) <= cap)


@given(backoffs(st.integers(0, 400)))
@settings(max_examples=400, deadline=None)
def test_any_backoff_yields_finite_non_negative_capped_delays(backoff: Backoff) -> None:
    delays = list(backoff())
    assert len(delays) == backoff.attempts
    assert backoff.cap <= LONGEST
    check(delays, backoff.cap)


@given(backoffs(st.just(MILLION)))
@settings(max_examples=4, deadline=None)
def test_any_backoff_up_to_a_million(backoff: Backoff) -> None:
    delays = list(backoff())
    assert len(delays) == MILLION
    check(delays, backoff.cap)


@pytest.mark.parametrize(
    "backoff",
    [
        PeriodicBackoff(MILLION, 1e308, jitter=True),
        LinearBackoff(MILLION, 1e308, 1e308),
        LinearBackoff(MILLION, 5e-324, 5e-324, jitter=0.5),
        ExponentialBackoff(MILLION),
        ExponentialBackoff(MILLION, 1e-300, 1e308, jitter=AdditiveJitter(1e308)),
        ExponentialBackoff(MILLION, 1e300, 5e-324),
        FibonacciBackoff(MILLION, 1e308, jitter=lambda: -1e308),
        FibonacciBackoff(MILLION, max_value=0),
        DecorrelatedJitterBackoff(MILLION, 0.1),
        DecorrelatedJitterBackoff(MILLION, 5e-324, max_value=None),
        Backoff.from_function(lambda attempt: 2.0**attempt, attempts=MILLION),
    ],
    ids=lambda backoff: type(backoff).__name__,
)
def test_trap_overflow_at_large_n(backoff: Backoff) -> None:
    """Others raise OverflowError at n = 1024."""
    delays = list(backoff())
    assert len(delays) == MILLION
    check(delays, backoff.cap)


@pytest.mark.parametrize(
    "backoff", [LinearBackoff(90_000), ExponentialBackoff(200), FibonacciBackoff(200), Backoff.from_function(lambda n: 2.0**n, attempts=2000)]
)
def test_growth_without_a_cap_saturates_at_a_day(backoff: Backoff) -> None:
    *_, last = backoff()
    assert last == LONGEST == 24 * 60 * 60


def test_unlimited_attempts_go_on_and_say_that_they_have_no_limit() -> None:
    backoff = PeriodicBackoff(UNLIMITED, 0.5)
    assert sum(1 for _ in islice(backoff(), 10_000)) == 10_000
    assert RetryStrategy(backoff=backoff).max_attempts is None
    assert list(islice(PeriodicBackoff(10**30, 0.5)(), 2)) == [0.5, 0.5]


# --- the cap comes first, then the spread ---


def at_the_cap(jitter: object, n: int = 4000) -> list[float]:
    return list(ExponentialBackoff(n, base=1_000, factor=10, jitter=jitter, max_value=8.0)())  # type: ignore[arg-type]


@pytest.mark.parametrize(("jitter", "low"), [(True, 0.0), (FullJitter(), 0.0), (EqualJitter(), 4.0)], ids=["True", "full", "equal"])
def test_trap_jitter_stays_spread_at_the_cap(jitter: object, low: float) -> None:
    """aiohttp_retry adds jitter after the cap; capping once more would put all clients on one instant."""
    delays = at_the_cap(jitter)
    assert low <= min(delays) < low + 0.1
    assert 7.9 < max(delays) <= 8.0
    assert len(set(delays)) > 3_900
    assert sum(delays) / len(delays) == pytest.approx((low + 8.0) / 2, rel=0.05)


@dataclasses.dataclass(frozen=True)
class Uncapped(Backoff):
    """Leaves the cap to ``spread``, as a subclass of a user's does."""

    def __call__(self) -> Iterator[float]:
        return self.spread(itertools.repeat(1_000.0))


@pytest.mark.parametrize("cls", [PeriodicBackoff, Uncapped])
def test_the_cap_comes_before_the_spread_also_where_the_delays_do_not_cap_themselves(cls: type[Backoff]) -> None:
    """Spread first, all but one in a hundred of them would sit on the cap."""
    options = {"interval": 1_000.0} if cls is PeriodicBackoff else {}
    delays = list(cls(4000, jitter=True, max_value=8.0, **options)())
    assert len(set(delays)) > 3_900
    assert sum(delays) / len(delays) == pytest.approx(4.0, rel=0.05)


def test_decorrelated_jitter_stays_spread_at_the_cap() -> None:
    delays = list(DecorrelatedJitterBackoff(4000, base=1.0, max_value=8.0, random=random.Random(7).random)())
    assert 1.0 <= min(delays) < 1.1
    assert 7.8 < max(delays) <= 8.0
    assert len(set(delays)) > 3_900


def test_decorrelated_jitter_draws_up_to_three_times_the_one_before() -> None:
    delays = list(DecorrelatedJitterBackoff(500, base=0.5, max_value=None, random=random.Random(3).random)())
    before = 0.5
    for delay in delays:
        assert 0.5 <= delay <= min(before * 3, LONGEST)
        before = delay
    assert list(DecorrelatedJitterBackoff(4, base=1.0, max_value=20, random=lambda: 1.0)()) == [3, 9, 20, 20]
    assert list(DecorrelatedJitterBackoff(2, base=1.0, random=lambda: 0.0)()) == [1, 1]
    assert DecorrelatedJitterBackoff(1).cap == 20.0


def test_proportional_jitter_goes_each_way_and_no_further_than_the_cap() -> None:
    below = list(PeriodicBackoff(2000, 4.0, jitter=0.25, max_value=100)())
    assert 3.0 <= min(below) < 3.05
    assert 4.95 < max(below) <= 5.0
    assert max(at_the_cap(0.5)) == 8.0


def test_an_additive_callable_is_added_and_then_capped_and_never_negative() -> None:
    assert list(PeriodicBackoff(1, 3.0, jitter=lambda: 0.5)()) == [3.5]
    assert list(PeriodicBackoff(1, 3.0, jitter=lambda: 0.5, max_value=3.2)()) == [3.2]
    assert list(PeriodicBackoff(1, 3.0, jitter=lambda: -5)()) == [0.0]
    assert list(PeriodicBackoff(1, 3.0, jitter=lambda: 10**400)()) == [LONGEST]
    assert list(PeriodicBackoff(1, 3.0, jitter=lambda: -math.inf)()) == [0.0]


@pytest.mark.parametrize(("bad", "error"), [(math.nan, ValueError), ("soon", TypeError), (None, TypeError), (True, TypeError)])
def test_a_jitter_callable_that_gives_no_seconds_is_named(bad: object, error: type[Exception]) -> None:
    with pytest.raises(error, match="jitter"):
        list(PeriodicBackoff(1, 3.0, jitter=lambda: bad)())  # type: ignore[arg-type,return-value]


@pytest.mark.parametrize(("bad", "error"), [(math.nan, ValueError), ("soon", TypeError), (True, TypeError)])
def test_a_function_that_gives_no_seconds_is_named(bad: object, error: type[Exception]) -> None:
    with pytest.raises(error, match="delay must be a number of seconds"):
        list(Backoff.from_function(lambda attempt: bad, attempts=1)())  # type: ignore[arg-type,return-value]


# --- nothing is shared ---


@pytest.mark.parametrize(
    "backoff",
    [
        PeriodicBackoff(5, 2),
        LinearBackoff(5),
        ExponentialBackoff(5),
        FibonacciBackoff(5),
        Backoff.from_function(lambda n: n, attempts=5),
    ],
    ids=lambda backoff: type(backoff).__name__,
)
def test_trap_state_shared_across_requests(backoff: Backoff) -> None:
    """aiohttp_retry's Fibonacci keeps its state in the object; hyx shares a generator between calls."""
    alone = list(backoff())
    one, two = backoff(), backoff()
    mixed = [(next(one), next(two)) for _ in range(5)]
    assert one is not two
    assert [a for a, _ in mixed] == [b for _, b in mixed] == alone
    assert list(backoff()) == alone


def test_decorrelated_iterators_do_not_share_the_delay_before() -> None:
    backoff = DecorrelatedJitterBackoff(9, base=1.0, random=lambda: 1.0)
    one = backoff()
    next(one), next(one)
    assert next(backoff()) == 3.0


def test_trap_fibonacci_is_not_constant_by_default() -> None:
    """pjrpc's FibonacciBackoff is, because its multiplier's default makes it so."""
    assert len(set(FibonacciBackoff(8)())) > 5


@pytest.mark.parametrize(
    "backoff",
    [PeriodicBackoff(3, jitter=0.5), ExponentialBackoff(3, 0.1, jitter=True), DecorrelatedJitterBackoff(3)],
    ids=lambda backoff: type(backoff).__name__,
)
def test_backoffs_are_frozen_values(backoff: Backoff) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        backoff.attempts = 9  # type: ignore[misc]
    assert copy.copy(backoff) == backoff == copy.deepcopy(backoff)
    assert hash(copy.copy(backoff)) == hash(backoff)
    assert pickle.loads(pickle.dumps(backoff)) == backoff
    assert "attempts=3" in repr(backoff)


@pytest.mark.parametrize("backoff", [DecorrelatedJitterBackoff(5), PeriodicBackoff(5, jitter=FullJitter()), ExponentialBackoff(5, jitter=EqualJitter())])
def test_processes_that_unpickle_one_backoff_do_not_draw_alike(backoff: Backoff) -> None:
    """Were the state of random's source pickled along, a pool of workers would retry in lockstep."""
    pickled = pickle.dumps(backoff)
    assert len(pickled) < 1_000
    assert list(pickle.loads(pickled)()) != list(pickle.loads(pickled)())


# --- backoffs of the user's ---


@dataclasses.dataclass(frozen=True)
class RandomBackoff(Backoff):
    def __call__(self) -> Iterator[float]:
        return (random.random() for _ in range(self.attempts))


def test_a_custom_backoff_is_one_method() -> None:
    delays = list(RandomBackoff(attempts=5)())
    assert len(delays) == 5
    assert RetryStrategy(backoff=RandomBackoff(attempts=5)).max_attempts == 6
    assert repr(RandomBackoff(attempts=5)) == "RandomBackoff(attempts=5, jitter=None, max_value=None)"
    with pytest.raises(TypeError, match=r"max_retries.*attempts"):
        RandomBackoff(max_retries=5)  # type: ignore[call-arg]


def test_a_custom_backoff_spreads_by_asking_for_it() -> None:
    @dataclasses.dataclass(frozen=True)
    class Squares(Backoff):
        def __call__(self) -> Iterator[float]:
            return self.spread(float(n * n) for n in range(1, 100))

    assert list(Squares(4, max_value=10)()) == [1, 4, 9, 10]
    assert list(Squares(2, jitter=lambda: 0.5)()) == [1.5, 4.5]


def test_a_subclass_may_name_its_own_parameters_as_it_likes() -> None:
    """The names of other libraries are refused for our parameters, not for those that a user declares."""

    class Mine(Backoff):
        def __init__(self, max_retries: int, *, delay: float = 1.0) -> None:
            super().__init__(max_retries)
            object.__setattr__(self, "delay", delay)

        def __call__(self) -> Iterator[float]:
            return iter([self.delay] * self.attempts)  # type: ignore[attr-defined]

    assert list(Mine(max_retries=2, delay=0.5)()) == [0.5, 0.5]


def test_a_backoff_without_its_method_says_what_to_define() -> None:
    with pytest.raises(TypeError, match=r"Backoff must define __call__\(self\), returning an iterator of seconds"):
        Backoff(attempts=1)()


def test_from_function_gets_the_number_of_the_failed_attempt_from_one() -> None:
    asked: list[int] = []
    backoff = Backoff.from_function(lambda attempt: asked.append(attempt) or 0.0, attempts=3)  # type: ignore[func-returns-value]
    assert list(backoff()) == [0.0, 0.0, 0.0]
    assert asked == [1, 2, 3]
    assert RetryStrategy(backoff=backoff).max_attempts == 4
    assert RetryStrategy(backoff=Backoff.from_function(lambda attempt: 1.0)).max_attempts is None


# --- bad input ---


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: PeriodicBackoff(attempts="3"), TypeError, ["attempts", "int", "'3'"]),  # type: ignore[arg-type]
        (lambda: PeriodicBackoff(attempts=3.0), TypeError, ["attempts", "int", "3.0"]),  # type: ignore[arg-type]
        (lambda: PeriodicBackoff(attempts=True), TypeError, ["attempts", "int", "True"]),
        (lambda: PeriodicBackoff(attempts=-1), ValueError, ["attempts", "at least 0", "-1"]),
        (lambda: PeriodicBackoff(attempts=None), TypeError, ["attempts", "None"]),  # type: ignore[arg-type]
        (lambda: PeriodicBackoff(1, interval="1s"), TypeError, ["interval", "'1s'"]),  # type: ignore[arg-type]
        (lambda: PeriodicBackoff(1, interval=-0.5), ValueError, ["interval", "at least 0", "-0.5"]),
        (lambda: PeriodicBackoff(1, interval=math.nan), ValueError, ["interval", "finite", "nan"]),
        (lambda: PeriodicBackoff(1, interval=math.inf), ValueError, ["interval", "finite", "inf"]),
        (lambda: PeriodicBackoff(1, interval=True), TypeError, ["interval", "True"]),
        (lambda: PeriodicBackoff(1, interval=10**400), ValueError, ["interval", "finite"]),
        (lambda: LinearBackoff(1, base=-1), ValueError, ["base", "-1"]),
        (lambda: LinearBackoff(1, increment=-1), ValueError, ["increment", "-1"]),
        (lambda: ExponentialBackoff(1, base=-1), ValueError, ["base", "-1"]),
        (lambda: ExponentialBackoff(1, factor=0), ValueError, ["factor", "more than 0", "0"]),
        (lambda: ExponentialBackoff(1, factor=-2), ValueError, ["factor", "-2"]),
        (lambda: FibonacciBackoff(1, multiplier=-1), ValueError, ["multiplier", "-1"]),
        (lambda: DecorrelatedJitterBackoff(1, base=0), ValueError, ["base", "more than 0"]),
        (lambda: DecorrelatedJitterBackoff(1, base=30), ValueError, ["base", "max_value", "30", "20"]),
        (lambda: DecorrelatedJitterBackoff(1, random=0.5), TypeError, ["random", "0.5", "random.Random"]),  # type: ignore[arg-type]
        (lambda: PeriodicBackoff(1, max_value=-1), ValueError, ["max_value", "-1"]),
        (lambda: PeriodicBackoff(1, max_value="10"), TypeError, ["max_value", "'10'"]),  # type: ignore[arg-type]
        (lambda: PeriodicBackoff(1, jitter=1.5), ValueError, ["jitter", "(0, 1]", "1.5"]),
        (lambda: Backoff.from_function(3), TypeError, ["function", "3"]),  # type: ignore[arg-type]
        (lambda: Backoff.from_function(lambda: 1.0), TypeError, ["function", "1 argument"]),  # type: ignore[arg-type,misc]
        (lambda: Backoff.from_function(lambda n: 1.0, attempts=-2), ValueError, ["attempts", "-2"]),
    ],
)
def test_bad_input_is_named_with_its_value(make: object, error: type[Exception], words: list[str]) -> None:
    with pytest.raises(error) as caught:
        make()  # type: ignore[operator]
    assert type(caught.value) is error
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("cls", "name", "ours"),
    [
        (PeriodicBackoff, "max_retries", "attempts"),
        (PeriodicBackoff, "retries", "attempts"),
        (PeriodicBackoff, "max_attempts", "attempts (it counts the retries: max_attempts - 1)"),
        (ExponentialBackoff, "initial_delay", "base"),
        (ExponentialBackoff, "multiplier", "factor"),
        (ExponentialBackoff, "max_delay", "max_value"),
        (LinearBackoff, "step", "increment"),
        (DecorrelatedJitterBackoff, "cap", "max_value"),
    ],
)
def test_a_keyword_of_another_library_gives_ours(cls: type[Backoff], name: str, ours: str) -> None:
    with pytest.raises(TypeError) as caught:
        cls(attempts=1, **{name: 1})
    assert str(caught.value).startswith(f"{cls.__name__} has no parameter {name!r}; here it is called {ours}")


def test_a_keyword_of_nobody_is_named() -> None:
    with pytest.raises(TypeError, match="'pace'"):
        PeriodicBackoff(attempts=1, pace=1)  # type: ignore[call-arg]


def generator() -> Iterator[float]:
    yield 1.0


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (generator(), ["backoff", "iterator", "share and exhaust", "uncalled"]),
        (iter([1, 2]), ["backoff", "iterator", "share and exhaust"]),
        (PeriodicBackoff, ["class PeriodicBackoff", "backoff=PeriodicBackoff(attempts=3)"]),
        ([1, 2], ["backoff", "[1, 2]", "lambda: iter"]),
        (3, ["backoff", "3", "PeriodicBackoff"]),
        (None, ["backoff", "None"]),
        (lambda attempt: 1.0, ["backoff", "no argument", "Backoff.from_function"]),
    ],
)
def test_what_cannot_give_every_request_a_fresh_iterator_is_refused(bad: object, words: list[str]) -> None:
    with pytest.raises(TypeError) as caught:
        RetryStrategy(backoff=bad)  # type: ignore[arg-type]
    for word in words:
        assert word in str(caught.value)


def test_any_callable_that_returns_an_iterator_of_seconds_will_do() -> None:
    for backoff in (generator, lambda: iter((1.0, 2)), lambda: [1.0], RandomBackoff(2)):
        assert RetryStrategy(backoff=backoff).backoff is backoff  # type: ignore[arg-type]
