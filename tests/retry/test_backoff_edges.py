"""What is no backoff although it is a callable, and what a backoff does that is told nothing but how often."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from rpcretry.retry import (
    LONGEST,
    UNLIMITED,
    Backoff,
    DecorrelatedJitterBackoff,
    ExponentialBackoff,
    FibonacciBackoff,
    ImmediateBackoff,
    LinearBackoff,
    PeriodicBackoff,
    RetryStrategy,
)
from rpcretry.retry.backoff import as_backoff
from rpcretry.retry.jitter import uniform


async def coroutine() -> Iterator[float]:
    return iter([1.0])


async def generator() -> AsyncIterator[float]:
    yield 1.0


@pytest.mark.parametrize("bad", [coroutine, generator])
def test_a_backoff_that_would_have_to_be_awaited_is_refused(bad: object) -> None:
    for make in (as_backoff, lambda value: RetryStrategy(backoff=value)):
        with pytest.raises(TypeError) as caught:
            make(bad)
        assert str(caught.value) == f"backoff must return an iterator of seconds and no coroutine, got {bad!r:.60}; write def"


# --- what it does where it is told nothing ---


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (ImmediateBackoff, {}),
        (PeriodicBackoff, {"interval": 1.0}),
        (LinearBackoff, {"base": 1.0, "increment": 1.0}),
        (ExponentialBackoff, {"base": 1.0, "factor": 2.0}),
        (FibonacciBackoff, {"multiplier": 1.0}),
        (DecorrelatedJitterBackoff, {"base": 0.1, "max_value": 20.0, "random": uniform}),
    ],
)
def test_a_backoff_that_is_told_how_often_alone(kind: type[Backoff], fields: dict[str, Any]) -> None:
    backoff = kind(3)
    found = {field.name: getattr(backoff, field.name) for field in dataclasses.fields(backoff)}
    assert found == {"attempts": 3, "jitter": None, "max_value": None, **fields}
    assert backoff.cap == (20.0 if "max_value" in fields else LONGEST)
    # What it draws from says nothing to a reader.
    assert "random" not in repr(backoff)
    # By place come how often, and its own fields in their order.
    assert kind(3, *[value for name, value in fields.items() if name not in ("max_value", "random")]) == backoff


def test_a_source_of_chance_is_named() -> None:
    with pytest.raises(TypeError, match="positional argument"):
        DecorrelatedJitterBackoff(3, 0.5, uniform)  # type: ignore[misc]


def test_a_day_and_for_ever() -> None:
    assert (LONGEST, UNLIMITED) == (24 * 60 * 60, 2**63 - 1)
    adapted = Backoff.from_function(lambda attempt: math.inf)
    assert (adapted.attempts, next(adapted())) == (UNLIMITED, LONGEST)
