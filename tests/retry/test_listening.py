"""Who is told what: the records that a sink wants, the newer ones in their place, and what is not made where nobody listens."""

from __future__ import annotations

import dataclasses
import functools
import gc
import logging
import math
import pickle
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, ClassVar
from unittest.mock import Mock

import pytest
from support import Recorder, Rig, Slow, both_drivers, fresh

from rpcretry import BatchRequest, BudgetExhaustedError, CircuitState, ConnectError, ConnectionLostError, Request, RetryBudget, RetryStrategy, events
from rpcretry.events import (
    AttemptStarted,
    BreakerChanged,
    BudgetRefused,
    CallFailed,
    CallSucceeded,
    Event,
    FallbackUsed,
    LoggingSink,
    RetryScheduled,
    Waited,
    as_sinks,
    publish,
)
from rpcretry.layers import CircuitBreaker, ConcurrencyLimit, RateLimit
from rpcretry.outcome import Attempt, Wait
from rpcretry.retry import PeriodicBackoff
from rpcretry.retry.engine import Engine
from rpcretry.retry.fallback import Fallback
from rpcretry.testing import error, result

lost = fresh(ConnectionLostError("reset"))
unconnected = fresh(ConnectError("refused"))
EVERY = RetryStrategy(exceptions={ConnectionError}, codes={2001}, backoff=PeriodicBackoff(2, 0.5))
RECORDS: tuple[type[Event], ...] = (
    AttemptStarted,
    RetryScheduled,
    CallSucceeded,
    CallFailed,
    Waited,
    FallbackUsed,
    BudgetRefused,
    BreakerChanged,
)


class Sink:
    """Keeps what it is told, and wants some records only.

    :param wants: what it wants; everything where it is not given.
    """

    def __init__(self, *wants: type[Event]) -> None:
        self.told: list[Event] = []
        if wants:
            self.wants = wants

    def __call__(self, event: Event) -> None:
        self.told.append(event)

    @property
    def names(self) -> list[str]:
        return [type(event).__name__ for event in self.told]


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[Any]:
    with caplog.at_level(logging.DEBUG, "rpcretry"):
        yield lambda: [(record.levelname, record.getMessage()) for record in caplog.records if record.name == "rpcretry"]


def busy(driver: str, sink: Any) -> None:
    """A rig whose calls tell of everything that there is to tell."""
    layers = (RetryBudget(1), Recorder(waits=[lambda attempt, now: Wait(now + 1, "turn")]), CircuitBreaker(failure_threshold=2))
    rig = Rig(driver, result(1), lost, lost, retry_strategy=EVERY, layers=layers, fallback=Fallback(0), on_event=sink)
    rig.call("good")
    rig.call("bad")


# --- what a sink wants ---


@both_drivers
@pytest.mark.parametrize("kind", RECORDS)
def test_a_sink_is_given_the_classes_that_it_wants(driver: str, kind: type[Event]) -> None:
    every, one, base = Sink(), Sink(kind), Sink(Event)
    busy(driver, [every, one, base])
    assert {type(event) for event in every.told} == set(RECORDS)
    assert one.told == [event for event in every.told if type(event) is kind] != []
    # A subclass of what it wants is what it wants.
    assert base.told == every.told


@both_drivers
def test_everything_in_its_order(driver: str) -> None:
    every = Sink()
    busy(driver, every)
    assert every.names == [
        *("Waited", "AttemptStarted", "CallSucceeded"),
        *("AttemptStarted", "RetryScheduled", "AttemptStarted", "BudgetRefused", "BreakerChanged", "CallFailed", "FallbackUsed"),
    ]


@both_drivers
def test_wants_may_stand_on_the_class_or_be_empty(driver: str) -> None:
    class Failures(Sink):
        wants: ClassVar[Any] = (CallFailed, RetryScheduled)

    some, none = Failures(), Sink()
    none.wants = ()
    busy(driver, [some, none])
    assert (some.names, none.told) == (["RetryScheduled", "CallFailed"], [])


def test_a_functions_attribute_counts_too() -> None:
    told: list[Event] = []

    def sink(event: Event) -> None:
        told.append(event)

    sink.wants = (CallFailed,)  # type: ignore[attr-defined]
    busy("sync", sink)
    assert [type(event) for event in told] == [CallFailed]


def test_a_mock_wants_everything() -> None:
    sink = Mock()
    busy("sync", sink)
    assert sink.call_count == 10


@pytest.mark.parametrize(
    "wrong",
    [CallFailed, [CallFailed], {CallFailed}, frozenset({CallFailed}), (1,), ("CallFailed",), (CallFailed, None)],
    ids=repr,
)
@both_drivers
def test_wants_that_would_be_misread_is_refused(driver: str, wrong: Any) -> None:
    """Given as a list it was not looked at, and the sink told everything."""
    sink = Sink()
    sink.wants = wrong
    with pytest.raises(TypeError, match=r"^on_event: wants of Sink must be a tuple of record classes, got .*; write wants = \(CallFailed,\)$"):
        Rig(driver, on_event=sink)
    with pytest.raises(TypeError, match="wants of Sink"):
        Rig(driver, on_event=[print, sink])


def test_a_sink_that_wants_a_record_and_raises_harms_nobody(lines: Any) -> None:
    def bad(event: Event) -> None:
        raise LookupError("full")

    bad.wants = (CallSucceeded,)  # type: ignore[attr-defined]
    after = Sink(CallSucceeded)
    rig = Rig("sync", result(1), on_event=[bad, after])
    assert rig.call("m") == 1
    assert after.names == ["CallSucceeded"]
    ((level, line),) = lines()
    assert level == "ERROR"
    assert line.startswith("on_event: ")
    assert line.endswith(" raised on CallSucceeded")


async def coroutine(event: Event) -> None: ...


class Awaited:
    async def __call__(self, event: Event) -> None: ...


def generator(event: Event) -> Iterator[None]:
    yield


async def async_generator(event: Event) -> AsyncIterator[None]:
    yield


@pytest.mark.parametrize(
    "bad", [coroutine, Awaited(), functools.partial(coroutine), generator, async_generator], ids=["def", "object", "partial", "gen", "agen"]
)
def test_a_sink_that_would_do_nothing_is_refused(bad: Any) -> None:
    with pytest.raises(TypeError, match=r"^on_event must be a plain function, got "):
        as_sinks(bad)
    with pytest.raises(TypeError, match=r"^on_event must be an instance, got the class Awaited"):
        as_sinks(Awaited)


# --- where nobody listens ---


class Counted:
    """Counts the records that are made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[str] = []
        for kind in RECORDS:
            plain = kind.__init__

            def init(record: Event, *args: Any, plain: Any = plain, **fields: Any) -> None:
                self.made.append(type(record).__name__)
                plain(record, *args, **fields)

            monkeypatch.setattr(kind, "__init__", init)


@both_drivers
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"retry_strategy": EVERY, "deadline": 9},
        {"on_event": Sink(CallFailed, RetryScheduled)},
        {"on_event": LoggingSink(logging.getLogger("test"))},
        {"fallback": Fallback(0)},
        {"retry_strategy": EVERY, "layers": RetryBudget(), "on_event": Sink(FallbackUsed)},
        {"layers": CircuitBreaker(), "idempotency_key": True},
    ],
    ids=["bare", "strategy", "failures only", "log only", "fallback", "budget", "breaker"],
)
def test_a_good_call_makes_no_records_for_nobody(driver: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted(monkeypatch)
    rig = Rig(driver, *[result(1)] * 3, **options)
    rig.call("m")
    rig.send(Request("m"))
    rig.notify("m")
    if "on_event" in options and isinstance(options["on_event"], LoggingSink):
        # A log without wants is asked each time; it has a line for later successes only.
        assert set(counted.made) == {"AttemptStarted", "CallSucceeded"}
    else:
        assert counted.made == []


@both_drivers
@pytest.mark.parametrize(
    ("wants", "made"),
    [
        ((AttemptStarted,), ["AttemptStarted"]),
        ((CallSucceeded,), ["CallSucceeded"]),
        ((CallSucceeded, AttemptStarted), ["AttemptStarted", "CallSucceeded"]),
        ((Event,), ["AttemptStarted", "CallSucceeded"]),
    ],
)
def test_only_the_records_that_somebody_wants_are_made(driver: str, wants: Any, made: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted(monkeypatch)
    sink = Sink(*wants)
    Rig(driver, result(1), on_event=[sink, Sink(CallFailed)]).call("m")
    assert counted.made == sink.names == made


@both_drivers
@pytest.mark.parametrize(
    ("options", "quick"),
    [
        ({}, True),
        ({"retry_strategy": EVERY, "deadline": 9, "timeout": 3}, True),
        ({"on_event": Sink(CallFailed, RetryScheduled, Waited)}, True),
        ({"fallback": Fallback(0)}, True),
        ({"idempotency_key": True}, True),
        ({"on_event": Sink(CallSucceeded)}, False),
        ({"on_event": Sink(AttemptStarted)}, False),
        ({"on_event": Sink()}, False),
        ({"layers": Recorder()}, False),
        ({"retry_strategy": RetryStrategy(when=lambda outcome, number: False)}, False),
    ],
)
def test_the_quick_way_makes_no_members_and_no_attempt(driver: str, options: dict[str, Any], quick: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(driver, result(1), lost, **options)
    made: list[str] = []

    plain = Engine._attempt_of

    def noted(engine: Any, *args: Any) -> Any:
        made.append("attempt")
        return plain(engine, *args)

    monkeypatch.setattr(Engine, "_attempt_of", noted)
    assert rig.call("m") == 1
    assert made == ([] if quick else ["attempt"])
    # A failure catches up.
    made.clear()
    if "fallback" in options:
        assert rig.call("m", _retry_strategy=None) == 0
    else:
        with pytest.raises(ConnectionLostError):
            rig.call("m", _retry_strategy=None)
    assert made == ["attempt"]


@both_drivers
def test_a_failure_of_the_quick_way_is_told_as_any_other(driver: str) -> None:
    sink = Sink(CallFailed)
    rig = Rig(driver, Slow(2, lost), on_event=sink)
    with pytest.raises(ConnectionLostError) as caught:
        rig.call("m")
    (failed,) = sink.told
    assert isinstance(failed, CallFailed)
    assert (failed.operation, failed.attempt, failed.max_attempts, failed.elapsed, failed.reason) == ("m", 1, 1, 2.0, "error")
    assert failed.error is caught.value


# --- waits ---


@both_drivers
def test_a_wait_is_told_when_it_is_over(driver: str) -> None:
    sink = Sink()
    layer = Recorder(waits=[lambda attempt, now: Wait(now + 2, "turn"), lambda attempt, now: Wait(now + 3, "again")])
    rig = Rig(driver, result(1), layers=layer, on_event=sink, retry_strategy=EVERY)
    rig.call("m")
    assert sink.told[:2] == [Waited("m", 1, 3, 2.0, 2.0, "turn"), Waited("m", 1, 3, 5.0, 3.0, "again")]
    assert sink.names == ["Waited", "Waited", "AttemptStarted", "CallSucceeded"]


@both_drivers
def test_a_wait_before_a_retry_is_of_that_attempt(driver: str) -> None:
    sink = Sink(Waited)
    layer = Recorder(waits=[None, lambda attempt, now: Wait(now + 2, "turn")])
    rig = Rig(driver, lost, result(1), layers=layer, on_event=sink, retry_strategy=EVERY)
    rig.call("m")
    # The delay of the backoff is no wait of a layer: RetryScheduled told of it.
    assert sink.told == [Waited("m", 2, 3, 2.5, 2.0, "turn")]


@both_drivers
def test_no_wait_is_told_where_no_time_passed(driver: str) -> None:
    sink = Sink(Waited)

    def woken_at_once(attempt: Attempt, now: float) -> Wait:
        attempt.park()()
        return Wait(math.inf, "queue")

    rig = Rig(driver, result(1), layers=Recorder(waits=[woken_at_once]), on_event=sink)
    assert rig.call("m") == 1
    assert sink.told == []


@both_drivers
def test_a_wait_that_the_deadline_ended_is_told(driver: str) -> None:
    def too_long(attempt: Attempt, now: float) -> Wait:
        attempt.park()
        return Wait(now + 9, "queue")

    sink = Sink()
    layer = Recorder(waits=[too_long])
    # A parked wait is real time on both drivers.
    rig = Rig(driver, layers=layer, on_event=sink, deadline=0.02)
    with pytest.raises(TimeoutError):
        rig.call("m")
    assert sink.names == ["Waited", "CallFailed"]
    assert isinstance(sink.told[0], Waited)
    assert round(sink.told[0].delay, 6) == 0.02
    assert layer.log == ["layer.admit", "layer.abandon"]


@both_drivers
def test_the_limits_of_the_package_tell_their_waits(driver: str) -> None:
    sink = Sink(Waited)
    rig = Rig(driver, *[result(1)] * 3, layers=(ConcurrencyLimit(1), RateLimit(2, burst=1)), on_event=sink)
    for _ in range(3):
        rig.call("m")
    assert [(event.delay, event.reason) for event in sink.told if isinstance(event, Waited)] == [(0.5, "rate limit")] * 2


# --- fallbacks, budgets, breakers ---


@both_drivers
def test_a_fallback_follows_the_failure_and_is_told_with_it(driver: str) -> None:
    sink = Sink()
    rig = Rig(driver, *[lost] * 3, retry_strategy=EVERY, fallback=Fallback(0), on_event=sink)
    rig.call("m")
    failed, used = sink.told[-2:]
    assert isinstance(failed, CallFailed)
    assert used == FallbackUsed("m", 3, 3, 1.0, "value", failed.error)
    # A call that a fallback saved has not succeeded.
    assert "CallSucceeded" not in sink.names


@both_drivers
def test_a_fallback_that_is_quick_is_told_to_those_who_want_it_alone(driver: str) -> None:
    sink = Sink(FallbackUsed)
    Rig(driver, lost, fallback=Fallback(0), on_event=sink).call("m")
    assert sink.names == ["FallbackUsed"]


@both_drivers
def test_a_budget_that_does_not_pay_is_told_and_logged(driver: str, lines: Any) -> None:
    """Nothing in the log said why calls were not tried again: the failure of a first attempt has no line."""
    sink = Sink()
    rig = Rig(driver, lost, lost, retry_strategy=EVERY, layers=RetryBudget(1.5, name="db"), on_event=sink)
    with pytest.raises(BudgetExhaustedError):
        rig.call("m")
    assert [event for event in sink.told if isinstance(event, BudgetRefused)] == [BudgetRefused("m", 2, 3, 0.5, "db", 0.5)]
    assert sink.names[-2:] == ["BudgetRefused", "CallFailed"]
    assert lines()[1] == ("WARNING", "m: attempt 2 is the last, retry budget db has 0.5 tokens left")


@both_drivers
def test_a_breaker_that_changes_is_told_and_logged(driver: str, lines: Any) -> None:
    sink = Sink(BreakerChanged)
    breaker = CircuitBreaker("db", failure_threshold=1, success_threshold=1, recovery_timeout=30)
    rig = Rig(driver, lost, result(1), layers=breaker, on_event=sink)
    with pytest.raises(ConnectionLostError):
        rig.call("m")
    rig.time.advance(30)
    rig.call("n")
    changes = [(event.operation, event.attempt, event.name, event.previous, event.state) for event in sink.told if isinstance(event, BreakerChanged)]
    closed, opened, half = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
    assert changes == [("m", 1, "db", closed, opened), ("n", 1, "db", opened, half), ("n", 1, "db", half, closed)]
    told = [line for level, line in lines() if level == "WARNING"]
    assert len(told) == 3
    assert [line.split(" (")[0] for line in told] == [
        "circuit breaker db: open, was closed",
        "circuit breaker db: half-open, was open",
        "circuit breaker db: closed, was half-open",
    ]


@both_drivers
def test_the_log_keeps_no_failure(driver: str) -> None:
    """A handler that keeps records would keep the failure, its frames and what they hold."""
    records: list[logging.LogRecord] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    class Held(ConnectionError):
        pass

    refs: list[weakref.ref[Held]] = []

    def fail(_: object) -> Exception:
        problem = Held("x")
        refs.append(weakref.ref(problem))
        return problem

    target = logging.Logger("kept")
    target.addHandler(Keep())
    rig = Rig(driver, *[fail] * 3, retry_strategy=EVERY, fallback=Fallback(0), on_event=LoggingSink(target))
    rig.call("m")
    del rig
    gc.collect()
    assert [record.levelname for record in records] == ["WARNING", "WARNING", "ERROR", "WARNING"]
    assert [ref() for ref in refs] == [None] * 3


# --- the records themselves ---

SAMPLES: list[Event] = [
    AttemptStarted("m", 1, 3, 0.0),
    RetryScheduled("m", 1, 3, 0.0, 0.5, "exception", ConnectError("x")),
    CallSucceeded("m", 1, 3, 0.0),
    CallFailed("m", 1, 3, 0.0, "error", ConnectError("x")),
    Waited("m", 1, 3, 0.0, 0.5, "turn"),
    FallbackUsed("m", 1, 3, 0.0, "value", ConnectError("x")),
    BudgetRefused("m", 1, 3, 0.0, "db", 0.5),
    BreakerChanged("m", 1, 3, 0.0, "db", CircuitState.CLOSED, CircuitState.OPEN, "5 failures", 30.0),
]


@pytest.mark.parametrize("record", SAMPLES, ids=lambda record: type(record).__name__)
def test_a_record_is_frozen_small_and_can_be_sent_elsewhere(record: Event) -> None:
    assert [field.name for field in dataclasses.fields(record)][:4] == ["operation", "attempt", "max_attempts", "elapsed"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        record.attempt = 2  # type: ignore[misc]
    assert not hasattr(record, "__dict__")
    twin = pickle.loads(pickle.dumps(record))
    assert type(twin) is type(record)
    assert repr(twin) == repr(record)


def test_the_samples_are_all_the_records() -> None:
    public = {getattr(events, name) for name in events.__all__}
    assert {type(record) for record in SAMPLES} == set(RECORDS) == {kind for kind in public if isinstance(kind, type) and issubclass(kind, Event)} - {Event}


def test_published_by_hand_wants_count() -> None:
    every, some = Sink(), Sink(CallFailed)
    publish((every, some), SAMPLES[0])
    publish((every, some), SAMPLES[3])
    assert (len(every.told), some.told) == (2, [SAMPLES[3]])


@both_drivers
def test_a_layers_own_news_reach_those_who_want_them(driver: str) -> None:
    @dataclasses.dataclass(frozen=True, slots=True)
    class Hedged(Waited):
        pass

    class Speaker(Recorder):
        def settle(self, attempt: Attempt, outcomes: Any, now: float) -> None:
            attempt.tell(Hedged(*attempt.so_far(now), 0.0, "hedge"))

    wanted, other = Sink(Waited), Sink(CallFailed)
    Rig(driver, result(1), error(7), layers=Speaker(), on_event=[wanted, other]).call("m")
    assert (wanted.names, other.told) == (["Hedged"], [])


@both_drivers
def test_a_batch_is_told_once_whatever_its_size(driver: str) -> None:
    sink = Sink()
    rig = Rig(driver, unconnected, result(1), retry_strategy=EVERY, on_event=sink)
    rig.send(BatchRequest(*[Request("m") for _ in range(20)]))
    assert sink.names == ["AttemptStarted", "RetryScheduled", "AttemptStarted", "CallSucceeded"]


def test_sinks_are_read_once(lines: Any) -> None:
    made: list[str] = []

    def several() -> Iterator[Callable[[Event], object]]:
        made.append("asked")
        yield Sink()

    rig = Rig("sync", *[result(1)] * 2, on_event=several())
    rig.call("m")
    rig.call("m")
    assert made == ["asked"]


class Counting:
    """A sink that would rather count."""

    def __init__(self) -> None:
        self.counted: list[tuple[Any, ...]] = []
        self.records: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.records.append(event)

    def count_success(self, *fields: Any) -> None:
        self.counted.append(fields)


@both_drivers
def test_a_sink_that_counts_is_told_of_first_successes_without_a_record(driver: str) -> None:
    sink = Counting()
    strategy = RetryStrategy(codes={2001}, backoff=PeriodicBackoff(attempts=2, interval=1))
    rig = Rig(driver, result(1), error(2001), result(2), retry_strategy=strategy, on_event=sink)
    rig.call("sum")
    assert [(name, attempt, limit) for name, attempt, limit, _ in sink.counted] == [("sum", 1, 3)]
    assert [type(event) for event in sink.records] == [AttemptStarted]
    rig.call("sum")
    assert len(sink.counted) == 1
    assert [type(event) for event in sink.records[1:]] == [AttemptStarted, RetryScheduled, AttemptStarted, CallSucceeded]


@both_drivers
def test_a_sink_that_fails_to_count_harms_nothing(driver: str, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Counting):
        def count_success(self, *fields: Any) -> None:
            raise RuntimeError("no")

    other = Counting()
    assert Rig(driver, result(1), on_event=[Broken(), other]).call("sum") == 1
    assert len(other.counted) == 1
    assert "raised on CallSucceeded" in caplog.text


@both_drivers
def test_a_mock_is_a_sink_like_any_other(driver: str) -> None:
    sink = Mock()
    Rig(driver, result(1), on_event=sink).call("sum")
    assert [type(call.args[0]) for call in sink.call_args_list] == [AttemptStarted, CallSucceeded]
