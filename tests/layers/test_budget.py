"""The retry budget: what it costs, what comes back, and that nothing is lost or made up."""

from __future__ import annotations

import json
import math
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from interruptions import Scene, at_every_line
from support import Recorder, Rig, Slow, both_drivers, fresh

from rpcretry import BatchRequest, ConnectionLostError, DeadlineExceeded, JsonRpcError, Refused, Request, RetryStrategy
from rpcretry.errors import BudgetExhaustedError
from rpcretry.events import BudgetRefused
from rpcretry.layers.budget import RetryBudget
from rpcretry.outcome import Attempt, Member, Outcome, Retry, Stop
from rpcretry.retry import Layer, PeriodicBackoff
from rpcretry.testing import error, result
from rpcretry.transport import Exchange, Reply

lost = fresh(ConnectionLostError("reset"))
FAILED, WELL = Outcome(error=ConnectionLostError("x")), Outcome(5)


def every(attempts: int = 3, interval: float = 0.5) -> RetryStrategy:
    return RetryStrategy(exceptions={ConnectionError}, codes={2001}, backoff=PeriodicBackoff(attempts, interval))


def alone() -> Attempt:
    return Attempt(1, [Member(None)], math.inf, "x")


def retried(budget: RetryBudget) -> bool:
    """One exchange that fails and would go again: whether the budget pays."""
    attempt = alone()
    (member,) = attempt.members
    try:
        member.verdict = budget.judge(attempt, member, FAILED, Retry(0.5), 0.0)
    except BudgetExhaustedError:
        member.verdict = Stop("refused")
    budget.settle(attempt, [FAILED], 0.0)
    return isinstance(member.verdict, Retry)


def succeeded(budget: RetryBudget) -> None:
    budget.settle(alone(), [WELL], 0.0)


# --- through clients ---


@both_drivers
def test_each_retry_costs_and_each_success_brings_something_back(driver: str) -> None:
    budget = RetryBudget(10, cost=2, refund=0.5)
    rig = Rig(driver, lost, lost, result(1), result(2), retry_strategy=every(), layers=budget)
    assert rig.call("get") == 1
    assert budget.level == 6.5
    assert rig.call("get") == 2
    assert budget.level == 7.0
    assert budget._spent == {}


@both_drivers
def test_a_budget_that_is_spent_ends_the_call_from_its_failure(driver: str) -> None:
    budget = RetryBudget(1.5, name="db")
    rig = Rig(driver, lost, lost, retry_strategy=every(), layers=budget, watched=True)
    with pytest.raises(BudgetExhaustedError, match=r"retry budget 'db': 0.50 tokens are left, and a retry costs 1") as caught:
        rig.call("get")
    assert isinstance(caught.value.__cause__, ConnectionLostError)
    assert (caught.value.name, caught.value.level, rig.sent, budget.level) == ("db", 0.5, 2, 0.5)
    told = [event for event in rig.events if isinstance(event, BudgetRefused)]
    assert [(event.operation, event.attempt, event.elapsed, event.reason, event.level) for event in told] == [("get", 2, 0.5, "db", 0.5)]
    assert budget._spent == {}


@both_drivers
def test_the_first_attempt_of_a_call_is_free(driver: str) -> None:
    budget = RetryBudget(1)
    rig = Rig(driver, lost, lost, lost, lost, retry_strategy=every(), layers=budget)
    for _ in range(3):
        with pytest.raises(BudgetExhaustedError):
            rig.call("get")
    assert (rig.sent, budget.level) == (4, 0)


@both_drivers
def test_a_total_outage_is_not_amplified(driver: str) -> None:
    budget = RetryBudget()
    rig = Rig(driver, *[lost] * 1100, retry_strategy=every(), layers=budget)
    for _ in range(1000):
        with pytest.raises((ConnectionLostError, BudgetExhaustedError)):
            rig.call("get")
    assert (rig.sent, budget.level) == (1100, 0)


def half(exchange: Exchange) -> Reply:
    """The first of the batch succeeds, the others are to go again."""
    busy = {"error": {"code": 2001, "message": "x"}}
    return Reply(json.dumps([{"id": id, **({"result": 1} if index == 0 else busy)} for index, id in enumerate(exchange.ids)]).encode())


@both_drivers
def test_each_member_of_a_batch_pays_for_itself(driver: str) -> None:
    budget = RetryBudget(10, refund=0.25)
    rig = Rig(driver, half, result(2), retry_strategy=every(), layers=budget)
    response = rig.send(BatchRequest(Request("a"), Request("b"), Request("c")))
    assert response.results == [1, 2, 2]
    # Two retries, one success in the first exchange and two in the second.
    assert budget.level == 10 - 2 + 0.25 + 0.5


@both_drivers
def test_a_budget_pays_for_as_many_members_as_it_can(driver: str) -> None:
    budget = RetryBudget(1, refund=0.01)
    rig = Rig(driver, half, result(2), retry_strategy=every(), layers=budget)
    response = rig.send(BatchRequest(Request("a"), Request("b"), Request("c")))
    assert (response[0].result, response[1].result) == (1, 2)
    assert isinstance(response[2].error, BudgetExhaustedError)
    assert isinstance(response[2].error.__cause__, JsonRpcError)


@both_drivers
def test_a_retry_that_the_deadline_forbids_is_paid_back(driver: str) -> None:
    budget = RetryBudget(5)
    rig = Rig(driver, Slow(1, lost), retry_strategy=every(interval=3), layers=budget, deadline=2)
    with pytest.raises(DeadlineExceeded):
        rig.call("get")
    assert (budget.level, budget._spent) == (5, {})


@both_drivers
@pytest.mark.parametrize("raises", [False, True])
def test_a_retry_that_an_outer_layer_forbids_is_paid_back(driver: str, raises: bool) -> None:
    def judgement(_: Retry) -> Stop:
        if raises:
            raise Refused("no")
        return Stop("no")

    budget = RetryBudget(5)
    rig = Rig(driver, lost, retry_strategy=every(), layers=(Recorder(judgement=judgement), budget))
    with pytest.raises((Refused, ConnectionLostError)):
        rig.call("get")
    assert (budget.level, budget._spent) == (5, {})


@both_drivers
def test_what_an_inner_layer_stops_costs_nothing(driver: str) -> None:
    budget = RetryBudget(5)
    rig = Rig(driver, lost, retry_strategy=every(), layers=(budget, Recorder(judgement=lambda _: Stop("no"))))
    with pytest.raises(ConnectionLostError):
        rig.call("get")
    assert budget.level == 5


@both_drivers
def test_an_error_response_brings_nothing(driver: str) -> None:
    budget = RetryBudget(5)
    budget.spend()
    rig = Rig(driver, error(7), retry_strategy=every(), layers=budget)
    with pytest.raises(JsonRpcError):
        rig.call("get")
    assert budget.level == 4


@both_drivers
def test_clients_share_a_budget(driver: str) -> None:
    budget = RetryBudget(2)
    one, other = (Rig(driver, lost, lost, result(5), retry_strategy=every(), layers=budget) for _ in range(2))
    assert one.call("get") == 5
    with pytest.raises(BudgetExhaustedError):
        other.call("get")
    assert other.sent == 1


def test_a_client_without_a_strategy_only_fills_it() -> None:
    budget = RetryBudget(5, refund=0.5)
    budget.spend()
    assert Rig("sync", result(5), layers=budget).call("get") == 5
    assert budget.level == 4.5


# --- the tokens ---


@pytest.mark.parametrize(("successes", "retries"), [(10, 1), (9, 0), (10_000, 1_000)])
def test_ten_successes_fund_a_retry(successes: int, retries: int) -> None:
    """Ten times 0.1 is 0.9999999999999999."""
    budget = RetryBudget(capacity=1_000_000)
    budget._level = 0.0
    for _ in range(successes):
        succeeded(budget)
    paid = 0
    while retried(budget):
        paid += 1
    assert abs(paid - retries) <= (1 if successes > 1000 else 0)
    assert budget.level >= 0


def test_ten_thousand_successes_fund_a_thousand_retries_also_in_turn() -> None:
    budget = RetryBudget()
    while retried(budget):
        pass
    paid = 0
    for _ in range(10_000):
        succeeded(budget)
        paid += retried(budget)
    assert abs(paid - 1_000) <= 1


@given(
    st.floats(0.5, 1e6),
    st.floats(1e-3, 1),
    st.floats(1e-3, 10),
    st.lists(st.sampled_from(["success", "retry", "late", "spend", "record", "interrupt", "batch"]), max_size=60),
)
def test_the_level_is_what_was_earned_less_what_was_paid_and_stays_within_bounds(capacity: float, share: float, refund: float, acts: list[str]) -> None:
    budget = RetryBudget(capacity, cost=capacity * share, refund=refund)
    expected = capacity
    for act in acts:
        attempt = Attempt(1, [Member(None) for _ in range(3 if act == "batch" else 1)], math.inf, "x")
        outcomes = [FAILED] * len(attempt.members)
        gained, before = 0.0, budget.level
        if act in ("success", "record"):
            gained = refund
        if act == "success":
            budget.settle(attempt, [WELL], 0.0)
        elif act == "record":
            budget.record_success()
        elif act == "spend":
            gained = -budget.cost if budget.spend() else 0.0
        else:
            for member in attempt.members:
                try:
                    budget.judge(attempt, member, FAILED, Retry(1.0), 0.0)
                    member.verdict = Retry(1.0) if act in ("retry", "batch") else Stop("deadline")
                    gained -= budget.cost if act in ("retry", "batch") else 0.0
                except BudgetExhaustedError:
                    member.verdict = Stop("refused")
            if act == "interrupt":
                # It interrupts before a verdict is final: the last one is that of the try before.
                attempt.members[0].verdict = Retry(1.0)
                budget.abandon(attempt, 0.0)
                budget.abandon(attempt, 0.0)
            else:
                budget.settle(attempt, outcomes, 0.0)
        assert 0 <= budget.level <= capacity
        if act in ("late", "interrupt"):
            assert budget.level == pytest.approx(before)
        expected = max(0.0, min(capacity, expected + gained))
        assert budget.level == pytest.approx(expected, rel=1e-6, abs=1e-4 * min(1.0, budget.cost))
        assert budget._spent == {}


def test_by_hand() -> None:
    budget = RetryBudget(2, refund=0.5)
    assert [budget.spend(), budget.spend(), budget.spend()] == [True, True, False]
    budget.record_success()
    assert (budget.spend(), budget.level) == (False, 0.5)
    budget.record_success()
    assert (budget.spend(), budget.level) == (True, 0)
    budget.reset()
    assert (budget.level, budget.capacity) == (2, 2)
    assert repr(budget) == "<RetryBudget 'default': 2 of 2>"


def test_a_success_that_finds_it_full_takes_no_lock() -> None:
    class Forbidden:
        def __enter__(self) -> None:
            raise AssertionError("took the lock")

        def __exit__(self, *_: object) -> None: ...

    budget = RetryBudget(5)
    budget._lock = Forbidden()  # type: ignore[assignment]
    succeeded(budget)
    budget._level = 4.0
    with pytest.raises(AssertionError, match="took the lock"):
        succeeded(budget)


def test_a_full_budget_still_settles_what_was_spent() -> None:
    """Somebody else's success fills it between this attempt's judge and its settle."""
    budget, attempt = RetryBudget(5, refund=3), alone()
    budget.judge(attempt, attempt.members[0], FAILED, Retry(1.0), 0.0)
    budget.record_success()
    assert budget.level == 5
    attempt.members[0].verdict = Stop("deadline")
    budget.settle(attempt, [FAILED], 0.0)
    assert (budget.level, budget._spent) == (5, {})


def test_it_is_told_outside_of_its_lock() -> None:
    levels: list[float] = []

    def sink(event: Any) -> None:
        assert not budget._lock._is_owned()
        levels.append(event.level)

    budget = RetryBudget(1)
    budget.spend()
    attempt = Attempt(1, [Member(None)], math.inf, "x", sinks=(sink,))
    with pytest.raises(BudgetExhaustedError):
        budget.judge(attempt, attempt.members[0], FAILED, Retry(1.0), 0.0)
    assert levels == [0]


@pytest.mark.parametrize("act", ["success", "retry", "interrupt", "record", "spend"])
def test_what_the_same_thread_does_in_the_middle_neither_locks_it_out_nor_changes_the_sum(act: str) -> None:
    """A collection closes a dead coroutine, or a signal handler makes a call, while the thread is in the budget."""
    budgets: list[RetryBudget] = []

    def make() -> tuple[Scene, Any, Any]:
        budget, attempt, dead = RetryBudget(10, refund=0.5), alone(), alone()
        budget._level = 6.0
        budgets.append(budget)
        budget.judge(dead, dead.members[0], FAILED, Retry(1.0), 0.0)
        acts = {
            "success": lambda: succeeded(budget),
            "retry": lambda: retried(budget),
            "interrupt": lambda: (budget.judge(attempt, attempt.members[0], FAILED, Retry(1.0), 0.0), budget.abandon(attempt, 0.0)),
            "record": budget.record_success,
            "spend": budget.spend,
        }

        def blow() -> None:
            # It leaves the level as it was.
            budget.abandon(dead, 0.0)
            budget.abandon(dead, 0.0)
            budget.spend()

        return Scene(budget), acts[act], blow

    assert at_every_line(make) == []
    sums = {"success": 5.5, "retry": 4.0, "interrupt": 5.0, "record": 5.5, "spend": 4.0}
    assert {budget.level for budget in budgets} == {sums[act]}
    # What nothing struck still has the dead one's.
    assert [len(budget._spent) for budget in budgets] == [0] * (len(budgets) - 1) + [1]


def test_it_is_asked_for_no_admission() -> None:
    assert RetryBudget.admit is Layer.admit


def test_threads_share_it_exactly() -> None:
    budget, paid = RetryBudget(1_000, refund=0.25), [0] * 8

    def work(index: int) -> None:
        for _ in range(500):
            paid[index] += retried(budget)
            succeeded(budget)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
    # It is never full again once the first has spent, and all that is missing was paid.
    assert budget.level == pytest.approx(1_000 + 4_000 * 0.25 - sum(paid), abs=0.25)
    assert 0 <= budget.level <= 1_000
    assert budget._spent == {}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: RetryBudget(max_tokens=5), ["RetryBudget", "'max_tokens'", "here it is capacity"]),  # type: ignore[call-arg]
        (lambda: RetryBudget(ratio=0.2), ["'ratio'", "here it is refund"]),  # type: ignore[call-arg]
        (lambda: RetryBudget(percent_can_retry=0.2), ["'percent_can_retry'", "here it is refund: 0.1 lets one retry follow ten successes"]),  # type: ignore[call-arg]
        (lambda: RetryBudget(refnd=0.2), ["'refnd'", "did you mean refund?"]),  # type: ignore[call-arg]
        (lambda: RetryBudget(5, 2), ["only capacity by place", "2", "cost=2"]),  # type: ignore[misc]
    ],
)
def test_a_parameter_that_it_does_not_have_gets_an_error_that_names_ours(make: Any, words: list[str]) -> None:
    with pytest.raises(TypeError) as caught:
        make()
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (lambda: RetryBudget(0), ValueError, ["capacity", "0"]),
        (lambda: RetryBudget("9"), TypeError, ["capacity", "'9'"]),  # type: ignore[arg-type]
        (lambda: RetryBudget(True), TypeError, ["capacity"]),
        (lambda: RetryBudget(math.inf), ValueError, ["capacity", "finite"]),
        (lambda: RetryBudget(cost=0), ValueError, ["cost", "0"]),
        (lambda: RetryBudget(5, cost=6), ValueError, ["cost", "6", "raise capacity"]),
        (lambda: RetryBudget(refund=0), ValueError, ["refund", "0"]),
        (lambda: RetryBudget(refund=math.nan), ValueError, ["refund"]),
        (lambda: RetryBudget(name=5), TypeError, ["name", "5"]),  # type: ignore[arg-type]
    ],
)
def test_bad_input_is_named(make: Any, kind: type[Exception], words: list[str]) -> None:
    with pytest.raises(kind) as caught:
        make()
    for word in words:
        assert word in str(caught.value)
