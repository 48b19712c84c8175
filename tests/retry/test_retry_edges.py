"""How calls end: what is raised from what, who is asked, and what is kept. Each at its edge, without a driver."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from support import Recorder

from rpcretry import (
    CircuitOpenError,
    ClientClosedError,
    ConnectionLostError,
    DeadlineExceeded,
    Delivery,
    JsonRpcError,
    Refused,
    Request,
    ResultValidationError,
    RetryExhaustedError,
    RetryStrategy,
)
from rpcretry.outcome import Attempt, Member, Outcome, Retry, Stop
from rpcretry.retry import LAST_GOOD, AdditiveJitter, Fallback, FullJitter, Layer, PeriodicBackoff, ProportionalJitter
from rpcretry.retry._failures import annotate, caused, give_up, worse
from rpcretry.retry.engine import Engine
from rpcretry.retry.policy import Policy
from rpcretry.testing import max_attempts

LOST = ConnectionLostError("reset")
EVERY = RetryStrategy(exceptions={ConnectionError}, backoff=PeriodicBackoff(2, 0.5))
WRAPS = RetryStrategy(exceptions={ConnectionError}, wrap=True)


def member(tries: int = 2, delivery: Delivery | None = None) -> Member:
    made = Member(Request("get", id=1))
    made.tries, made.delivery = tries, delivery
    return made


# --- what is raised, and from what ---


def test_a_cause_is_not_led_back_to_itself() -> None:
    first, second, third = ValueError("1"), ValueError("2"), ValueError("3")
    first.__cause__ = second
    assert caused(second, first).__cause__ is None
    assert caused(third, first).__cause__ is first
    assert caused(third, None).__cause__ is first
    assert caused(third, third).__cause__ is first


def test_a_cause_that_leads_back_to_itself_is_taken_as_it_is() -> None:
    first, second, problem = ValueError("1"), ValueError("2"), ValueError("3")
    first.__cause__, second.__cause__ = second, first
    assert caused(problem, first).__cause__ is first


class Stubborn(Exception):
    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("no")

    def __repr__(self) -> str:
        raise RuntimeError("no")


def test_an_exception_that_refuses_attributes_hides_nothing() -> None:
    stubborn = Stubborn("x")
    assert caused(stubborn, LOST) is stubborn
    annotate(stubborn, "x")
    problem = give_up("get", WRAPS, member(), stubborn, "attempts", 1.5)
    assert str(problem) == "get: gave up after 2 attempts in 1.50 s: Stubborn"


@pytest.mark.parametrize(
    ("strategy", "reason", "words"),
    [
        (WRAPS, "attempts", "get: gave up after 2 attempts in 1.50 s: no result was accepted"),
        (WRAPS, "ok", None),
        (WRAPS, "fallback", None),
        (EVERY, "attempts", None),
        (None, "attempts", None),
        (None, "ok", None),
    ],
)
def test_a_result_that_nobody_accepted_is_an_error_only_where_it_was_asked_for(strategy: RetryStrategy | None, reason: str, words: str | None) -> None:
    problem = give_up("get", strategy, member(), None, reason, 1.5)
    assert (None if problem is None else str(problem)) == words
    if problem is not None:
        assert isinstance(problem, RetryExhaustedError)
        assert (problem.attempts, problem.elapsed, problem.last_exception, problem.__cause__) == (2, 1.5, None, None)


@pytest.mark.parametrize(
    ("tries", "reason", "notes"),
    [
        (1, "attempts", ["rpcretry: gave up after 1 attempt in 1.50 s (attempts)"]),
        (2, "may not", ["rpcretry: gave up after 2 attempts in 1.50 s (may not)"]),
        (2, "error", []),
    ],
)
def test_the_failure_itself_is_raised_with_a_note(tries: int, reason: str, notes: list[str]) -> None:
    problem = ConnectionLostError("reset")
    assert give_up("get", EVERY, member(tries), problem, reason, 1.5) is problem
    assert getattr(problem, "__notes__", []) == notes
    assert problem.delivery is Delivery.NOT_SENT


@pytest.mark.parametrize("first", [None, *Delivery])
@pytest.mark.parametrize("second", list(Delivery))
def test_the_worse_of_two_promises_less(first: Delivery | None, second: Delivery) -> None:
    order = [None, Delivery.NOT_SENT, Delivery.REJECTED, Delivery.MAYBE_EXECUTED]
    assert worse(first, second) is max(first, second, key=order.index)


@pytest.mark.parametrize("kind", [ValueError, CircuitOpenError])
def test_each_member_is_given_an_exception_of_its_own(kind: type[Exception]) -> None:
    class Pair(Engine):
        __slots__ = ()

        def make_members(self) -> list[Member]:
            return [Member(None, 0), Member(None, 1)]

    told: list[Any] = []
    problem = kind("no")
    call = Pair(Policy(None, [Recorder(waits=[problem])], (told.append,)))
    step = call.begin(0.0)
    errors = [found.outcome.error for found in call.members if found.outcome]
    assert [(type(error), str(error)) for error in errors] == [(kind, "no")] * 2
    assert errors[0] is not errors[1]
    assert step == Stop("error in a layer" if kind is ValueError else "refused")
    assert [event.reason for event in told] == [step.reason]


def test_what_is_abandoned_keeps_no_failure() -> None:
    call = Engine(Policy(EVERY))
    call.begin(0.0)
    call.settle([Outcome(error=LOST)], 1.0)
    call.abandon(1.0)
    assert [found.outcome for found in call.members] == [None]


@pytest.mark.parametrize("fails", [True, False])
def test_a_call_of_one_attempt_is_for_its_caller_and_not_for_the_log(fails: bool, caplog: pytest.LogCaptureFixture) -> None:
    outcome = Outcome(error=ConnectionLostError("reset")) if fails else Outcome(5)
    # One that looks at successes takes the long way.
    strategy = RetryStrategy(exceptions=(), when=lambda outcome, tries: None)
    with caplog.at_level(logging.DEBUG, "rpcretry"):
        call = Engine(Policy(strategy))
        call.begin(0.0)
        call.settle([outcome], 1.0)
    assert caplog.records == []


@pytest.mark.parametrize("fails", [True, False])
def test_the_end_of_a_call_of_two_attempts_is_logged(fails: bool, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "rpcretry"):
        call = Engine(Policy(RetryStrategy(exceptions={ConnectionError}, backoff=PeriodicBackoff(1, 0.5))))
        call.begin(0.0)
        call.settle([Outcome(error=ConnectionLostError("reset"))], 1.0)
        call.resume(1.5)
        del caplog.records[:]
        call.settle([Outcome(error=ConnectionLostError("reset")) if fails else Outcome(5)], 2.0)
    assert len(caplog.records) == 1


# --- layers ---


class Only(Layer):
    """A layer of which one method is its own."""


@pytest.mark.parametrize("name", ["admit", "settle", "abandon", "judge"])
def test_a_layer_is_asked_for_what_it_decides_and_for_nothing_else(name: str) -> None:
    made = type("One", (Layer,), {name: lambda *_: None})()
    policy = Policy(EVERY, [made])
    assert (policy.judges == (made,)) is (name == "judge")
    assert (policy.gates == (made,)) is (name != "judge")
    assert policy.settlers == policy.gates
    assert [admit is not None for admit in policy.admits] == ([] if name == "judge" else [name == "admit"])
    assert Policy(EVERY, [Only()]).gates == ()


@pytest.mark.parametrize(
    ("given", "judged", "expected"),
    [
        (Retry(1.0, "code"), Retry(1.0, "mine"), Retry(1.0, "code")),
        (Retry(1.0, "code"), Retry(0.5, "mine"), Retry(1.0, "code")),
        (Retry(1.0, "code"), Retry(2.0, "mine"), Retry(2.0, "mine")),
        (Retry(1.0, "code"), Retry(2.0, "mine", held=True), Retry(2.0, "mine", True)),
        (Retry(1.0, "code", held=True), Retry(2.0, "mine"), Retry(2.0, "mine", True)),
        (Retry(1.0, "code"), Retry(0.5, "mine", whole=True), Retry(1.0, "mine", False, True)),
        (Retry(1.0, "code", whole=True), Retry(2.0, "mine"), Retry(2.0, "mine", False, True)),
        (Retry(1.0, "code"), Retry(1e9, "mine"), Retry(86_400.0, "mine")),
        (Retry(1e9, "code"), Retry(2e9, "mine"), Retry(1e9, "mine")),
        (Retry(1.0, "code"), Stop("mine"), Stop("mine")),
    ],
)
def test_a_layer_lengthens_a_delay_or_stops_and_else_is_not_heard(given: Retry, judged: Retry | Stop, expected: Retry | Stop) -> None:
    policy = Policy(EVERY, [Recorder(judgement=lambda verdict: judged)])
    assert policy.judge(Attempt(1, [member()], 9.0, "get"), member(), Outcome(error=LOST), given, 0.0) == expected


def test_a_layer_that_says_nothing_of_its_own_leaves_the_verdict() -> None:
    class Asks(Layer):
        def judge(self, attempt: Attempt, member: Member, outcome: Outcome, verdict: Retry, now: float) -> Retry | Stop:
            return super().judge(attempt, member, outcome, verdict, now)

    verdict = Retry(1.0, "code")
    assert Policy(EVERY, [Asks()]).judge(Attempt(1, [member()], 9.0, "get"), member(), Outcome(error=LOST), verdict, 0.0) is verdict


@pytest.mark.parametrize(("tries", "cap", "stops"), [(1, 2, False), (2, 2, True), (3, 2, True), (9, None, False)])
def test_the_last_cap_of_a_test_counts_and_ends_the_tries(tries: int, cap: int | None, stops: bool) -> None:
    policy, verdict = Policy(EVERY), Retry(1.0, "code")
    judge = functools.partial(policy.judge, Attempt(1, [member()], 9.0, "get"), member(tries), Outcome(error=LOST))
    with max_attempts(1), max_attempts(cap):
        assert judge(verdict, 0.0) == (Stop("attempts") if stops else verdict)
        # What is over is over for its own reason.
        assert judge(Stop("error"), 0.0) == Stop("error")
    assert judge(verdict, 0.0) is verdict


# --- strategies ---


@pytest.mark.parametrize("kind", [Refused, CircuitOpenError, DeadlineExceeded, ClientClosedError, ResultValidationError])
def test_what_ends_a_call_cannot_be_named(kind: type[Exception]) -> None:
    with pytest.raises(ValueError, match=f"^exceptions must not name {kind.__name__}: it ends a call and is never retried$"):
        RetryStrategy(exceptions={kind})


def test_a_strategy_is_immutable_and_says_how_to_have_another() -> None:
    strategy = RetryStrategy()
    with pytest.raises(AttributeError, match=r"^a RetryStrategy is immutable; build another one to change wrap$"):
        strategy.wrap = True
    with pytest.raises(AttributeError, match=r"^a RetryStrategy is immutable; build another one to do without wrap$"):
        del strategy.wrap


def test_a_predicate_gets_the_request_and_its_word_counts() -> None:
    asked: list[Request] = []
    strategy = RetryStrategy(idempotent=lambda request: asked.append(request) or request.method == "get")  # type: ignore[func-returns-value]
    requests = [Request("get", id=1), Request("put", id=2)]
    assert [strategy.is_idempotent(request) for request in requests] == [True, False]
    assert asked == requests
    assert strategy.is_idempotent(None) is False
    with pytest.raises(TypeError, match=r"^idempotent must return True or False, got int 1$"):
        RetryStrategy(idempotent=lambda request: 1).is_idempotent(requests[0])  # type: ignore[arg-type,return-value]


@pytest.mark.parametrize(("code", "named"), [(1, True), (5, True), (10, False), (7, False), (99, False)])
def test_a_code_is_named_where_it_is_retried_and_not_fatal(code: int, named: bool) -> None:
    strategy = RetryStrategy(codes=[1, range(5, 10)], fatal=[7])
    assert strategy.names(code) is named
    assert (strategy.matches(JsonRpcError("no", code=code)) == "code") is named


@pytest.mark.parametrize("when", [None, lambda outcome, tries: None, lambda outcome, tries: False])
def test_what_is_not_tried_again_is_well_or_an_error(when: Any) -> None:
    strategy = RetryStrategy(exceptions=(), when=when)
    assert strategy.propose(member(), Outcome(5)) == Stop("ok")
    assert strategy.propose(member(), Outcome(error=LOST)) == Stop("error")


def test_a_backoff_that_returns_no_iterator_is_named() -> None:
    strategy = RetryStrategy(exceptions={ConnectionError}, backoff=lambda: 5)  # type: ignore[arg-type,return-value]
    with pytest.raises(TypeError, match=r"^backoff must return an iterator of seconds, <function .* returned int$"):
        strategy.propose(member(), Outcome(error=LOST))


# --- fallbacks ---


def offered(fallback: Fallback, key: Any, now: float = 0.0) -> list[Any]:
    offers: Iterator[Any] = fallback.offers(LOST, key, now)
    return [offer.ask() for offer in offers]


def test_what_was_kept_again_is_the_last_to_go() -> None:
    fallback = Fallback(LAST_GOOD, size=2)
    for key, value in [("a", 1), ("b", 2), ("a", 3), ("c", 4)]:
        fallback.remember(key, value, 0.0)
    assert [offered(fallback, key) for key in "abc"] == [[3], [], [4]]


def test_what_was_used_is_the_last_to_go() -> None:
    fallback = Fallback(LAST_GOOD, size=2)
    fallback.remember("a", 1, 0.0)
    fallback.remember("b", 2, 0.0)
    assert offered(fallback, "a") == [1]
    fallback.remember("c", 3, 0.0)
    assert [offered(fallback, key) for key in "abc"] == [[1], [], [3]]


@pytest.mark.parametrize(("age", "found"), [(0.0, [1]), (5.0, [1]), (5.1, [])])
def test_what_is_as_old_as_it_may_be_is_given(age: float, found: list[int]) -> None:
    fallback = Fallback(LAST_GOOD, max_age=5)
    fallback.remember("a", 1, 100.0)
    assert offered(fallback, "a", 100.0 + age) == found
    assert offered(fallback, None, 100.0) == []


def test_what_is_asked_is_called_what_it_is() -> None:
    def cached() -> int:
        return 1

    shown = repr(Fallback(LAST_GOOD, 0, cached, functools.partial(cached), len))
    assert shown == f"Fallback(last good, value, {cached.__qualname__}, partial, len)"
    with pytest.raises(TypeError, match=r"^Fallback's callable must be callable with 1 argument, got .* with \(a, b\); it gets the failure, or nothing$"):
        Fallback(lambda a, b: None)


# --- jitter ---


def test_jitter_shows_what_makes_it_differ() -> None:
    assert [repr(jitter) for jitter in (FullJitter(), ProportionalJitter(0.5), AdditiveJitter(2))] == [
        "FullJitter()",
        "ProportionalJitter(0.5)",
        "AdditiveJitter(2)",
    ]
