"""The names of other libraries, for which an error says ours: what it says exists, and what is ours is never called theirs."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from rpcretry import RetryStrategy
from rpcretry.layers import CircuitBreaker, ConcurrencyLimit, RateLimit, RetryBudget, breaker, budget, concurrency, rate
from rpcretry.retry import (
    DecorrelatedJitterBackoff,
    ExponentialBackoff,
    FibonacciBackoff,
    ImmediateBackoff,
    LinearBackoff,
    PeriodicBackoff,
    backoff,
    strategy,
)

BACKOFFS = (ImmediateBackoff, PeriodicBackoff, LinearBackoff, ExponentialBackoff, FibonacciBackoff, DecorrelatedJitterBackoff)


def ours(*kinds: type[Any]) -> set[str]:
    return {name for kind in kinds for name in inspect.signature(kind).parameters}


@pytest.mark.parametrize(
    ("synonyms", "names"),
    [
        (strategy._SYNONYMS, ours(RetryStrategy)),
        (backoff._SYNONYMS, ours(*BACKOFFS)),
        (breaker._SYNONYMS, ours(CircuitBreaker)),
        (budget._SYNONYMS, ours(RetryBudget)),
        (concurrency._SYNONYMS, ours(ConcurrencyLimit)),
        (rate._SYNONYMS, ours(RateLimit)),
    ],
)
def test_what_an_error_proposes_exists(synonyms: Mapping[str, str], names: set[str]) -> None:
    for theirs, meant in synonyms.items():
        # Spelled as a keyword of Python's is.
        assert re.fullmatch("[a-z][a-z0-9_]*", theirs)
        first = re.match(r"[A-Za-z_]+", meant)
        assert first is not None
        # A strategy has no limits of time; those are the client's.
        assert first[0] in names or meant.startswith("the client's ")


@pytest.mark.parametrize(
    ("make", "synonyms", "words"),
    [
        (RetryStrategy, strategy._SYNONYMS, "RetryStrategy has no parameter '{}'; here it is {}"),
        (RetryBudget, budget._SYNONYMS, "RetryBudget has no parameter '{}'; here it is {}"),
        (CircuitBreaker, breaker._SYNONYMS, "CircuitBreaker has no parameter '{}'; here it is {}"),
        (ConcurrencyLimit, concurrency._SYNONYMS, "ConcurrencyLimit has no parameter '{}'; here it is {}"),
        (RateLimit, rate._SYNONYMS, "RateLimit has no parameter '{}'; here it is {}"),
        *((kind, backoff._SYNONYMS, kind.__name__ + " has no parameter '{}'; here it is called {}") for kind in BACKOFFS),
    ],
)
def test_each_is_told_whole(make: Callable[..., Any], synonyms: Mapping[str, str], words: str) -> None:
    told = {}
    for theirs in set(synonyms) - set(inspect.signature(make).parameters):
        with pytest.raises(TypeError) as caught:
            make(**{theirs: 1})
        told[theirs] = str(caught.value)
    assert len(told) > 3
    assert told == {theirs: words.format(theirs, synonyms[theirs]) for theirs in told}
