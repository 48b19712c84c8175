"""The retry budget at its edges: exchanges that calls share, and batches of which some stop."""

from __future__ import annotations

import math
from typing import Any

import pytest

from rpcretry import ConnectionLostError
from rpcretry.errors import BudgetExhaustedError
from rpcretry.layers import AdaptiveDelay, CircuitBreaker
from rpcretry.layers.budget import TOGETHER, RetryBudget
from rpcretry.outcome import Attempt, Member, Outcome, Retry, Stop
from rpcretry.transport import SharedExchange


def attempt(members: int = 1, deadline: float = math.inf) -> Attempt:
    return Attempt(1, [Member(None) for _ in range(members)], math.inf, "x", deadline=deadline)


def outcome(shared: SharedExchange | None = None, *, failed: bool = True) -> Outcome:
    made = Outcome(error=ConnectionLostError("x")) if failed else Outcome(5)
    made.shared = shared
    return made


def judge(budget: RetryBudget, call: Attempt, shared: SharedExchange | None = None, *, delay: float = 1.0, now: float = 0.0) -> Retry:
    (member,) = call.members
    verdict = budget.judge(call, member, outcome(shared), Retry(delay, "exception"), now)
    assert isinstance(verdict, Retry)
    member.verdict = verdict
    return verdict


# --- one exchange of several calls ---


@pytest.mark.parametrize(
    ("delay", "paid", "waits"),
    [
        (0.2, 1, 1.0),
        (1.0, 1, 1.0),
        (1.0 + TOGETHER, 1, 1.0 + TOGETHER),
        (1.0 + 2 * TOGETHER, 2, 1.0 + 2 * TOGETHER),
        (5.0, 2, 5.0),
    ],
)
def test_a_call_goes_along_with_the_one_that_paid_unless_it_would_wait_longer(delay: float, paid: int, waits: float) -> None:
    budget, shared = RetryBudget(10), SharedExchange()
    judge(budget, attempt(), shared, delay=1.0)
    verdict = judge(budget, attempt(), shared, delay=delay)
    assert (budget.level, verdict.delay) == (10 - paid, pytest.approx(waits))
    assert verdict.reason == "exception"


def test_a_call_that_is_told_later_goes_along_at_the_same_moment() -> None:
    budget, shared = RetryBudget(10), SharedExchange()
    judge(budget, attempt(), shared, delay=1.0, now=5.0)
    assert judge(budget, attempt(), shared, delay=0.1, now=5.25).delay == 0.75
    assert budget.level == 9


@pytest.mark.parametrize(("deadline", "paid"), [(0.9, 2), (1.0, 2), (1.1, 1)])
def test_a_call_whose_deadline_comes_before_pays_for_itself(deadline: float, paid: int) -> None:
    budget, shared = RetryBudget(10), SharedExchange()
    judge(budget, attempt(), shared, delay=1.0)
    assert judge(budget, attempt(deadline=deadline), shared, delay=0.5).delay == (0.5 if paid == 2 else 1.0)
    assert budget.level == 10 - paid


@pytest.mark.parametrize("end", ["settle", "abandon"])
def test_where_the_one_that_paid_does_not_go_the_next_one_pays(end: str) -> None:
    budget, shared = RetryBudget(10), SharedExchange()
    first, second = attempt(), attempt()
    judge(budget, first, shared)
    if end == "settle":
        first.members[0].verdict = Stop("deadline")
        budget.settle(first, [outcome(shared)], 0.0)
    else:
        budget.abandon(first, 0.0)
    assert budget.level == 10
    judge(budget, second, shared)
    assert budget.level == 9


def test_each_budget_is_paid_and_paid_back_on_its_own() -> None:
    one, other, shared = RetryBudget(10), RetryBudget(10), SharedExchange()
    calls = attempt(), attempt()
    for call in calls:
        for budget in (one, other):
            judge(budget, call, shared)
    assert (one.level, other.level) == (9, 9)
    well = SharedExchange()
    for call in calls:
        for budget in (one, other):
            call.members[0].verdict = Stop("ok")
            budget._spent.clear()
            budget.settle(call, [outcome(well, failed=False)], 0.0)
    assert (one.level, other.level) == (9.1, 9.1)


def test_each_breaker_counts_a_shared_exchange_once() -> None:
    one, other, shared = (CircuitBreaker("one"), CircuitBreaker("other"), SharedExchange())
    for call in (attempt(), attempt()):
        for breaker in (one, other):
            breaker.admit(call, 0.0)
        for breaker in (other, one):
            breaker.settle(call, [outcome(shared)], 0.0)
    assert (one.stats.failed, other.stats.failed) == (1, 1)


# --- batches ---


@pytest.mark.parametrize(("stopped", "level"), [(0, 5.5), (1, 7.5), (2, 9.5)])
def test_what_stops_is_paid_back_and_what_succeeded_brings_its_share(stopped: int, level: float) -> None:
    budget = RetryBudget(10, cost=2, refund=0.5)
    budget.spend()
    budget.record_success()
    call = attempt(3)
    outcomes = [outcome(failed=False), outcome(), outcome()]
    for place, member in enumerate(call.members):
        member.verdict = Stop("ok") if place == 0 else budget.judge(call, member, outcomes[place], Retry(1.0), 0.0)
    budget._level = 5.0
    for member in call.members[1 : 1 + stopped]:
        member.verdict = Stop("deadline")
    budget.settle(call, outcomes, 0.0)
    assert budget.level == level
    # Once.
    budget.settle(call, [outcome(), *outcomes[1:]], 0.0)
    assert budget.level == level


def test_the_last_tokens_pay_to_the_very_end() -> None:
    budget = RetryBudget(2, cost=1)
    assert [budget.spend() for _ in range(3)] == [True, True, False]
    assert budget.level == 0.0


def test_what_is_said_when_nothing_is_left() -> None:
    budget = RetryBudget(1, cost=0.75, name="prices")
    budget.spend()
    with pytest.raises(BudgetExhaustedError) as caught:
        judge(budget, attempt())
    assert str(caught.value) == "retry budget 'prices': 0.25 tokens are left, and a retry costs 0.75"
    assert (caught.value.name, caught.value.level) == ("prices", 0.25)


# --- what costs nothing ---


class Untouched:
    def __enter__(self) -> None:
        raise AssertionError("the lock was taken")

    def __exit__(self, *_: object) -> None: ...


def test_a_success_among_successes_takes_no_lock_of_an_adaptive_delay() -> None:
    adaptive = AdaptiveDelay()
    lock: Any = Untouched()
    adaptive._lock = lock
    adaptive.settle(attempt(), [outcome(failed=False)], 0.0)
    assert adaptive.success_rate == 1.0
    with pytest.raises(AssertionError):
        adaptive.settle(attempt(), [outcome()], 0.0)
