"""The exact moment at which a turn comes in a rate limit, and what does not depend on where a clock begins."""

from __future__ import annotations

import math

from rpcretry.layers import RateLimit
from rpcretry.outcome import Attempt, Member, Wait

# A hundredth of it is the largest rounding that a limit overlooks, and a power of two.
SPACE = 100 * 2.0**-27


def one(cost: int = 1) -> Attempt:
    return Attempt(1, [Member(None) for _ in range(cost)], math.inf, "x")


def ask(limit: RateLimit, attempt: Attempt, now: float) -> Wait | None:
    """As the engine asks."""
    attempt.parking = None
    return limit.admit(attempt, now)


def level(limit: RateLimit, now: float) -> float:
    limit.clock = lambda: now
    return limit.level


def test_just_a_hundredth_of_a_token_is_a_rounding_and_more_is_not() -> None:
    early = SPACE - 2.0**-27
    for moment, step in ((early, None), (early - 2.0**-40, Wait(SPACE, "rate limit"))):
        # One that comes now, and one that has waited.
        limit = RateLimit(1, per=SPACE)
        ask(limit, one(), 0.0)
        assert ask(limit, one(), moment) == step
        limit, head = RateLimit(1, per=SPACE), one()
        ask(limit, one(), 0.0)
        ask(limit, head, 0.0)
        assert ask(limit, head, moment) == step


def test_where_the_clock_begins_means_nothing() -> None:
    limit = RateLimit(1, burst=3)
    unsent = one(2)
    ask(limit, unsent, -10.0)
    ask(limit, one(), -10.0)
    limit.abandon(unsent, -9.5)
    assert level(limit, -9.5) == 2.5


def test_a_function_may_ask_for_less_than_a_token() -> None:
    limit = RateLimit(1, burst=2, cost=lambda member: 0.5)
    ask(limit, one(), 0.0)
    assert level(limit, 0.0) == 1.5
