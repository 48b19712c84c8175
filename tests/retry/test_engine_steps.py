"""The engine by itself: each step that it asks for, with its time and its word, without a driver."""

from __future__ import annotations

import math
from typing import Any

import pytest
from support import Recorder

from rpcretry import CircuitOpenError, ConnectionLostError, DeadlineExceeded, Delivery, RetryStrategy
from rpcretry.errors import RpcRetryError
from rpcretry.events import CallFailed, CallSink, CallSucceeded, Event, RetryScheduled, Waited
from rpcretry.outcome import Attempt, Member, Outcome, Rescue, Retry, Stop, Wait
from rpcretry.retry import LAST_GOOD, Fallback, Layer, PeriodicBackoff
from rpcretry.retry.engine import SHORTEST, Engine
from rpcretry.retry.policy import Policy

LOST = ConnectionLostError("reset")
EVERY = RetryStrategy(exceptions={ConnectionError}, backoff=PeriodicBackoff(2, 0.5))


class Several(Engine):
    """A call with as many members as it is told."""

    __slots__ = ("count", "most")

    def __init__(self, policy: Policy, count: int = 2, most: int = 9) -> None:
        super().__init__(policy)
        self.count, self.most = count, most

    def make_members(self) -> list[Member]:
        return [Member(None, index) for index in range(self.count)]

    def portion(self, ready: list[Member]) -> list[Member]:
        return ready[: self.most]


def engine(strategy: RetryStrategy | None = EVERY, *layers: Layer, told: list[Event] | None = None, **options: Any) -> Engine:
    return Engine(Policy(strategy, layers, () if told is None else (told.append,), **options))


def failed() -> list[Outcome]:
    return [Outcome(error=ConnectionLostError("reset"))]


def begun(call: Engine, now: float = 100.0) -> Attempt:
    step = call.begin(now)
    assert isinstance(step, Attempt)
    return step


# --- waits ---


def test_the_step_after_a_failure_is_a_wait_for_the_backoff() -> None:
    call = engine()
    begun(call)
    assert call.settle(failed(), 101.0) == Wait(101.5, "backoff")
    # Woken too soon it waits on.
    assert call.resume(101.25) == Wait(101.5, "backoff")
    assert isinstance(call.resume(101.5), Attempt)
    assert call.settle(failed(), 102.0) == Wait(102.5, "backoff")
    assert isinstance(call.resume(102.5), Attempt)
    assert call.settle([Outcome(5)], 103.0) == Stop("ok")


@pytest.mark.parametrize(("deadline", "until"), [(None, 103.0), (3.0, 103.0), (3.5, 103.0)])
def test_a_wait_of_a_layer_keeps_its_word(deadline: float | None, until: float) -> None:
    told: list[Event] = []
    call = engine(EVERY, Recorder(waits=[Wait(103.0, "a place")]), told=told, deadline=deadline)
    step = call.begin(100.0)
    if deadline == 3.0:
        # A wait to the very end of the deadline is not begun.
        assert step == Stop("deadline")
        return
    assert step == Wait(until, "a place")
    assert isinstance(call.resume(103.0), Attempt)
    assert [(event.delay, event.reason, event.elapsed) for event in told if isinstance(event, Waited)] == [(3.0, "a place", 3.0)]


@pytest.mark.parametrize(
    ("until", "deadline", "step"), [(103.0, None, 103.0), (103.0, 5.0, 103.0), (103.0, 3.0, 103.0), (103.0, 2.0, 102.0), (math.inf, 2.0, 102.0)]
)
def test_a_wait_to_be_woken_from_ends_with_the_deadline_and_keeps_its_word(until: float, deadline: float | None, step: float) -> None:
    class Parks(Recorder):
        def admit(self, attempt: Attempt, now: float) -> Wait | None:
            attempt.park()
            return Wait(until, "a place")

    assert engine(EVERY, Parks(), deadline=deadline).begin(100.0) == Wait(step, "a place")


def test_a_wait_that_would_not_move_the_clock_moves_it_a_little() -> None:
    assert engine(EVERY, Recorder(waits=[Wait(100.0, "a place")])).begin(100.0) == Wait(100.0 + SHORTEST, "a place")


def test_a_mistake_of_a_layer_is_told_with_that_layers_name() -> None:
    class Broken(Recorder):
        pass

    call = engine(None, Recorder(), Broken(waits=["soon"]), Recorder())
    assert call.begin(100.0) == Stop("error in a layer")
    (member,) = call.members
    assert member.outcome is not None
    assert str(member.outcome.error) == "Broken.admit must return None or a Wait until a time, it returned 'soon'"


def test_what_a_layer_raises_is_raised_itself_and_a_refusal_as_a_copy() -> None:
    """One refusal may be raised to two calls, and an exception that a layer made for this one need not be copied."""
    mistake, refusal = ValueError("mine"), CircuitOpenError("no", name="x")
    for problem in (mistake, refusal):
        call = engine(None, Recorder(waits=[problem]))
        call.begin(100.0)
        (member,) = call.members
        assert member.outcome is not None
        assert type(member.outcome.error) is type(problem)
        assert (member.outcome.error is problem) is (problem is mistake)


# --- the ends ---


@pytest.mark.parametrize("kind", [CircuitOpenError, DeadlineExceeded])
def test_what_a_function_raises_that_is_never_retried_ends_it_as_a_refusal(kind: type[RpcRetryError]) -> None:
    told: list[Event] = []
    call = engine(told=told)
    begun(call)
    assert call.settle([Outcome(error=kind("no"))], 101.0) == Stop("refused")
    assert [(event.reason, event.error.args) for event in told if isinstance(event, CallFailed)] == [("refused", ("no",))]


@pytest.mark.parametrize(("deadline", "shown"), [(0.0, "0"), (0.5, "0.5"), (-1.0, "-1")])
def test_the_deadline_is_told_as_it_was_given(deadline: float, shown: str) -> None:
    call = engine(None, deadline=deadline)
    if deadline > 0:
        begun(call)
        step = call.settle([Outcome(error=TimeoutError())], 100.5)
    else:
        step = call.begin(100.0)
    assert step == Stop("deadline")
    (member,) = call.members
    assert member.outcome is not None
    tries, seconds = (1, "0.50") if deadline > 0 else (0, "0.00")
    assert str(member.outcome.error) == (f"call: the deadline of {shown} s ended the call after {tries} attempt{'s' * (tries != 1)} in {seconds} s")


@pytest.mark.parametrize(("deadline", "again"), [(1.5, False), (1.6, True)])
def test_a_retry_at_the_very_end_of_the_deadline_is_not_begun(deadline: float, again: bool) -> None:
    call = engine(deadline=deadline)
    begun(call)
    assert call.settle(failed(), 101.0) == (Wait(101.5, "backoff") if again else Stop("deadline"))


def test_each_member_of_an_attempt_has_an_outcome() -> None:
    call = Several(Policy(EVERY))
    begun(call)
    with pytest.raises(ValueError, match="shorter"):
        call.settle([Outcome(5)], 101.0)


def test_the_reason_of_the_end_is_that_of_the_first_failure() -> None:
    told: list[Event] = []
    call = Several(Policy(EVERY, (), (told.append,)))
    begun(call)
    call.settle([Outcome(error=ValueError("x")), Outcome(error=CircuitOpenError("no"))], 101.0)
    assert [(event.reason, str(event.error)) for event in told if isinstance(event, CallFailed)] == [("error", "x")]


def test_the_step_at_the_end_says_how_it_ended_also_with_a_fallback() -> None:
    call = engine(fallback=Fallback(LAST_GOOD))
    begun(call)
    assert call.settle([Outcome(5)], 101.0) == Stop("ok")
    call = engine(None, fallback=Fallback(0))
    begun(call)
    step = call.settle(failed(), 101.0)
    assert isinstance(step, Rescue)
    assert (step.name, step.ask()) == ("value", 0)
    assert call.rescued(0, 101.0) == Stop("fallback")
    call = engine(None, fallback=Fallback(LAST_GOOD))
    begun(call)
    assert call.settle(failed(), 101.0) == Stop("error")


# --- the way of most calls ---


def test_a_call_that_was_never_begun_knows_its_place_and_can_be_abandoned() -> None:
    """A client makes the first attempt without records; they come with the first failure, or never."""
    call = engine(deadline=5.0)
    assert call.open(100.0) == 105.0
    assert call.parking is None
    here = call.current(101.0)
    assert (here.operation, here.number, here.max_attempts, here.last_exception, here.elapsed, here.remaining) == ("call", 1, 3, None, 1.0, 4.0)
    call.abandon(102.0)
    assert call.members == ()
    assert call.settle(failed(), 103.0) == Wait(103.5, "backoff")
    (member,) = call.members
    assert (member.tries, call.number) == (1, 1)
    again = call.resume(103.5)
    assert isinstance(again, Attempt)
    assert (again.number, again.ends_by, member.tries) == (2, 105.0, 2)


def test_the_records_of_a_quick_attempt_are_those_of_the_attempt_that_was_made() -> None:
    class Judges(Layer):
        def judge(self, attempt: Attempt, member: Member, outcome: Outcome, verdict: Retry, now: float) -> Retry | Stop:
            seen.append((attempt.number, attempt.ends_by, attempt.deadline, attempt.started, attempt.sent, attempt.members == [member], now))
            return verdict

    seen: list[tuple[Any, ...]] = []
    call = engine(EVERY, Judges(), timeout=2.0, deadline=5.0)
    assert call.open(100.0) == 102.0
    call.settle(failed(), 101.0)
    assert seen == [(1, 102.0, 105.0, 100.0, True, True, 101.0)]
    assert call.members[0].verdict == Retry(0.5, "exception")


def test_an_attempt_that_goes_out_is_marked_before_it_does() -> None:
    marks: list[bool] = []

    class Looks(Recorder):
        def admit(self, attempt: Attempt, now: float) -> Wait | None:
            marks.append(attempt.sent)
            return super().admit(attempt, now)

    call = engine(EVERY, Looks())
    assert begun(call).sent is True
    assert marks == [False]


# --- portions ---


def test_members_that_may_not_travel_together_follow_one_after_the_other() -> None:
    told: list[Event] = []
    call = Several(Policy(EVERY, (), (told.append,)), count=3, most=1)
    attempt = begun(call)
    for number in (1, 2, 3):
        assert (attempt.number, [member.index for member in attempt.members]) == (number, [number - 1])
        step = call.settle([Outcome(number)], 100.0 + number)
        if number < 3:
            assert step == Wait(100.0, "backoff")
            following = call.resume(100.0 + number)
            assert isinstance(following, Attempt)
            attempt = following
    assert step == Stop("ok")
    assert [member.outcome.value for member in call.members if member.outcome] == [1, 2, 3]
    done = told[-1]
    assert isinstance(done, CallSucceeded)
    assert (done.attempt, done.elapsed) == (3, 3.0)


def test_a_pair_may_be_parted_too() -> None:
    call = Several(Policy(EVERY), count=2, most=1)
    assert [member.index for member in begun(call).members] == [0]
    assert call.settle([Outcome(1)], 101.0) == Wait(100.0, "backoff")


def test_what_goes_again_is_announced_with_the_first_that_is_due() -> None:
    told: list[Event] = []
    call = Several(Policy(EVERY, (), (told.append,)), count=2)
    begun(call)
    call.settle([Outcome(error=LOST), Outcome(error=LOST)], 101.0)
    assert [(event.delay, event.reason, event.error, event.members) for event in told if isinstance(event, RetryScheduled)] == [(0.5, "exception", LOST, 2)]


# --- ends of a layer's part ---


class Leaves(Layer):
    """Has everybody waiting, and writes down who left and when."""

    def __init__(self) -> None:
        self.left: list[float] = []

    def admit(self, attempt: Attempt, now: float) -> Wait | None:
        attempt.park()
        return Wait(math.inf, "a place")

    def abandon(self, attempt: Attempt, now: float) -> None:
        self.left.append(now)


def test_who_waits_for_a_layer_leaves_it_at_the_deadline_and_when_abandoned() -> None:
    layer = Leaves()
    call = engine(EVERY, layer, deadline=5.0)
    assert call.begin(100.0) == Wait(105.0, "a place")
    assert call.resume(105.0) == Stop("deadline")
    call = engine(EVERY, layer, deadline=5.0)
    call.begin(100.0)
    call.abandon(101.0)
    assert layer.left == [105.0, 101.0]


def test_what_was_too_much_for_one_attempt_was_rejected_and_goes_again_at_once() -> None:
    class TooLarge(Several):
        __slots__ = ()

        def is_too_large(self, members: Any, outcomes: Any) -> bool:
            return True

    told: list[Event] = []
    call = TooLarge(Policy(EVERY, (), (told.append,)))
    begun(call)
    assert call.settle([Outcome(error=LOST), Outcome(error=LOST)], 101.0) == Wait(101.0, "backoff")
    assert [member.delivery for member in call.members] == [Delivery.REJECTED] * 2
    assert [(event.delay, event.reason, event.attempt, event.max_attempts) for event in told if isinstance(event, RetryScheduled)] == [
        (0.0, "batch too large", 1, 3)
    ]


def test_members_under_one_key_that_may_have_been_executed_do_not_go_again_alone() -> None:
    class Whole(Layer):
        def judge(self, attempt: Attempt, member: Member, outcome: Outcome, verdict: Retry, now: float) -> Retry | Stop:
            return verdict._replace(whole=True)

    told: list[Event] = []
    call = Several(Policy(EVERY, [Whole()], (told.append,)))
    begun(call)
    assert call.settle([Outcome(5), Outcome(error=LOST)], 101.0) == Stop("may have been executed, and the others of its batch do not go again with it")
    (failure,) = (event for event in told if isinstance(event, CallFailed))
    assert failure.reason == "may have been executed, and the others of its batch do not go again with it"


def test_fallbacks_that_all_fail_end_in_the_last_failure() -> None:
    call = engine(None, fallback=Fallback(lambda: 1, lambda: 2))
    begun(call)
    first, second = ValueError("first"), ValueError("second")
    assert isinstance(call.settle(failed(), 101.0), Rescue)
    assert isinstance(call.unrescued(first, 101.0), Rescue)
    assert call.unrescued(second, 101.0) == Stop("fallback")
    (member,) = call.members
    assert member.outcome is not None
    assert member.outcome.error is second
    assert second.__cause__ is first


@pytest.mark.parametrize(("made", "known"), [(1, 3), (2, 3), (3, None)])
def test_a_record_says_how_many_there_may_be_while_that_is_so(made: int, known: int | None) -> None:
    """The one before the last announces one more than the strategy knows of, where a batch was parted."""
    told: list[Event] = []
    call = Several(Policy(EVERY, (), (told.append,)), count=3, most=1)
    begun(call)
    for number in range(1, 4):
        call.settle(failed() if number == made else [Outcome(5)], 100.0 + number)
        call.resume(110.0 + number)
    assert [(event.attempt, event.max_attempts) for event in told if isinstance(event, RetryScheduled)] == [(made, known)]


def test_a_call_whose_sink_has_one_for_each_call_tells_that_one_of_its_success() -> None:
    class One(CallSink):
        def __call__(self, event: Event) -> None:
            seen.append(type(event).__name__)

        def abandoned(self) -> None: ...

    class Each:
        wants = (CallFailed,)

        def begin_call(self, operation: str, requests: Any) -> One:
            return One()

        def __call__(self, event: Event) -> None: ...

    for strategy in (EVERY, RetryStrategy(exceptions=(), when=lambda outcome, tries: None)):
        seen: list[str] = []
        call = Engine(Policy(strategy, (), (Each(),)))
        begun(call)
        call.settle([Outcome(5)], 101.0)
        assert seen == ["AttemptStarted", "CallSucceeded"]


def test_the_sink_of_a_call_is_told_what_each_attempt_came_to() -> None:
    seen: list[Any] = []

    class One(CallSink):
        def __call__(self, event: Event) -> None: ...

        def settled(self, outcomes: Any) -> None:
            seen.append(list(outcomes))

        def abandoned(self) -> None:
            seen.append("abandoned")

    class Each:
        def begin_call(self, operation: str, requests: Any) -> One:
            return One()

        def __call__(self, event: Event) -> None: ...

    call = Engine(Policy(EVERY, (), (Each(),)))
    begun(call)
    first, second = failed(), [Outcome(5)]
    call.settle(first, 101.0)
    call.resume(101.5)
    call.settle(second, 102.0)
    assert seen == [first, second]
    looked_at = Engine(Policy(RetryStrategy(exceptions=(), when=lambda outcome, tries: None), (), (Each(),)))
    begun(looked_at)
    looked_at.settle(second, 101.0)
    assert seen == [first, second, second]
    cut_off = Engine(Policy(EVERY, (), (Each(),)))
    begun(cut_off)
    cut_off.abandon(101.0)
    assert set(seen[3:]) == {"abandoned"}


@pytest.mark.parametrize(("early", "kind"), [(0.0, DeadlineExceeded), (0.005, DeadlineExceeded), (0.5, TimeoutError)])
def test_a_timeout_just_before_the_deadline_is_the_deadlines(early: float, kind: type[Exception]) -> None:
    """A loop's timer may fire a little before its time."""
    call = engine(None, deadline=2.0)
    begun(call)
    call.settle([Outcome(error=TimeoutError())], 102.0 - early)
    (member,) = call.members
    assert member.outcome is not None
    assert type(member.outcome.error) is kind
