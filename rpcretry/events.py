"""What happened, as frozen records, and the sink that logs them.

A sink is a callable that takes one record. It watches and decides nothing; one that raises is logged and
harms nothing. A sink with an attribute ``wants``, a tuple of record classes, is given those alone; a call at whose
records nobody looks builds none. One whose class has a method ``count_success(operation, attempt, max_attempts, elapsed)``
is told so, instead of by a :class:`CallSucceeded`, of calls that succeed at once: they are most calls, and a record
for each of them costs more than to count them.

Several sinks are told of an :class:`AttemptStarted` in their order, and of everything else in the reverse order, the log of
each client first: what one of them opens around an attempt, as a span, holds what later ones do.

Records do not say which call they are about. A sink that has to know, as one that makes spans, has a class with a method
``begin_call(operation, requests)``: it is asked, as each call begins, for a :class:`CallSink`, which gets the records of that
call in its place.
"""

from __future__ import annotations

import abc
import dataclasses
import inspect
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from ._check import is_async_callable
from .errors import CircuitState, RetryExhaustedError

if TYPE_CHECKING:
    from .outcome import Member, Outcome

__all__ = [
    "AttemptStarted",
    "BreakerChanged",
    "BudgetRefused",
    "CallFailed",
    "CallSink",
    "CallSucceeded",
    "Event",
    "FallbackUsed",
    "LoggingSink",
    "RetryScheduled",
    "Sink",
    "Waited",
]


@dataclasses.dataclass(frozen=True, slots=True, init=False)
class Event:
    """The base of all records.

    :ivar operation: the method's name, ``batch of 3``, or a function's name.
    :ivar attempt: the attempt's number, from 1; 0 where a call ended before one was made.
    :ivar max_attempts: how many attempts the strategy allows; ``None`` without a known limit.
    :ivar elapsed: seconds since the call began.
    """

    operation: str
    attempt: int
    max_attempts: int | None
    elapsed: float

    # What dataclasses write for frozen ones takes twice as long, and these two or three are made for every call.
    def __init__(self, operation: str, attempt: int, max_attempts: int | None, elapsed: float) -> None:
        _set_operation(self, operation)
        _set_attempt(self, attempt)
        _set_max_attempts(self, max_attempts)
        _set_elapsed(self, elapsed)


_set_operation, _set_attempt, _set_max_attempts, _set_elapsed = (getattr(Event, name).__set__ for name in ("operation", "attempt", "max_attempts", "elapsed"))


@dataclasses.dataclass(frozen=True, slots=True, init=False)
class AttemptStarted(Event):
    """An attempt is about to go out."""


@dataclasses.dataclass(frozen=True, slots=True)
class RetryScheduled(Event):
    """An attempt failed and another will follow.

    :ivar delay: seconds until then.
    :ivar reason: why it is tried again.
    :ivar error: the failure; ``None`` where a success was not what the strategy waits for.
    :ivar members: how many requests of a batch go again; 1 for a single call.
    """

    delay: float
    reason: str
    error: Exception | None
    members: int = 1

    @property
    def short_reason(self) -> str:
        """``code`` of ``code, the server asks for 3 s``: what follows a comma may be different each time, and is nothing to count by."""
        return self.reason.partition(",")[0]


@dataclasses.dataclass(frozen=True, slots=True, init=False)
class CallSucceeded(Event):
    """The call ended well."""


@dataclasses.dataclass(frozen=True, slots=True)
class CallFailed(Event):
    """The call ended in a failure.

    :ivar reason: why there was no other attempt.
    :ivar error: the failure.
    """

    reason: str
    error: Exception


@dataclasses.dataclass(frozen=True, slots=True)
class Waited(Event):
    """An attempt waited because a layer had it wait, and now goes on.

    :ivar delay: the seconds that it waited.
    :ivar reason: what for, in the layer's words.
    """

    delay: float
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class FallbackUsed(Event):
    """The call failed, and a fallback stands in for its result. Follows :class:`CallFailed`.

    :ivar reason: which fallback: ``"value"``, ``"last good"``, or a function's name.
    :ivar error: the failure.
    """

    reason: str
    error: Exception


@dataclasses.dataclass(frozen=True, slots=True)
class BudgetRefused(Event):
    """A retry budget did not pay for another try.

    :ivar reason: the budget's name.
    :ivar level: the tokens that it has left.
    """

    reason: str
    level: float


@dataclasses.dataclass(frozen=True, slots=True)
class BreakerChanged(Event):
    """A circuit breaker changed its state. Without a call behind it, ``operation`` is empty and ``attempt`` is 0.

    :ivar name: the breaker's name; with its key in brackets where it has one circuit for each key.
    :ivar previous: the state before; OPEN also where its recovery time was over and no probe had gone out yet.
    :ivar state: the state now.
    :ivar reason: why, in a few words.
    :ivar remaining: seconds until it lets a probe through; 0 unless it is open now, ``math.inf`` where it is held open.
    """

    name: str
    previous: CircuitState
    state: CircuitState
    reason: str
    remaining: float = 0.0


Sink: TypeAlias = Callable[[Event], object]


class CallSink(abc.ABC):
    """What the records of one call go to, from a sink whose class has a method ``begin_call(operation, requests)``.

    *operation* is that of the records, and *requests* are the :class:`~rpcretry.Request` objects of the call: one, or those of
    a batch; none for a function. It is told every record of the call: the ``wants`` of the sink that it comes from does not
    filter them. Whatever that method or a call's sink raises is logged and harms nothing.

    :raises TypeError: from a subclass with a method that is an ``async def``, which nobody would await.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name in ("__call__", "settled", "abandoned"):
            _refuse_async(f"{name} of {cls.__name__}", getattr(cls, name))

    @abc.abstractmethod
    def __call__(self, event: Event, /) -> object:
        """Take a record. :class:`CallSucceeded` or :class:`CallFailed` is the last one, but for a :class:`FallbackUsed` after it."""

    def settled(self, outcomes: Sequence[Outcome], /) -> object:
        """An attempt ended with these outcomes, one for each of the requests that were in it.

        Told once for each :class:`AttemptStarted`, unless the call was cut off in between, and after the record that came of
        it: a :class:`RetryScheduled`, the end of the call, or none where others of a batch have yet to go.
        """
        return None

    def abandoned(self) -> object:
        """The call was cut off: cancelled, interrupted, or its loop was left. No other sink hears of that.

        Told once or more, perhaps of a call that had ended, and perhaps by a finalizer. A bulk may go on with such a call, and
        another :class:`AttemptStarted` follows then. :func:`sys.exception` is what cut it off.
        """
        return None


logger = logging.getLogger("rpcretry")
logger.addHandler(logging.NullHandler())


class LoggingSink:
    """Logs each retry (WARNING), each success after a retry (INFO) and each call that was given up after
    one (ERROR), and what circuit breakers, retry budgets and fallbacks did (WARNING). Every client and every
    retried function has one; the logger ``rpcretry`` says what becomes of the lines. Log records have the fields of the
    event as attributes that begin with ``rpc_``: ``rpc_operation``, ``rpc_attempt``, ``rpc_delay``; of ``error`` the type by name.

    :param target: the logger to use.
    """

    def __init__(self, target: logging.Logger | None = None) -> None:
        self.logger = target if target is not None else logger

    def __call__(self, event: Event) -> None:
        level = logging.INFO if isinstance(event, CallSucceeded) else logging.ERROR if isinstance(event, CallFailed) else logging.WARNING
        if not self.logger.isEnabledFor(level):
            # Most of what a line costs is its words and fields.
            return
        if isinstance(event, RetryScheduled):
            limit = "?" if event.max_attempts is None else event.max_attempts
            outcome = "was not accepted" if event.error is None else f"failed: {event.error!r}"
            self.logger.warning("%s: attempt %d/%s %s. Retrying in %.2f s", event.operation, event.attempt, limit, outcome, event.delay, extra=_fields(event))
        elif isinstance(event, CallSucceeded):
            if event.attempt > 1:
                self.logger.info("%s: succeeded on attempt %d", event.operation, event.attempt, extra=_fields(event))
        elif isinstance(event, CallFailed) and event.attempt > 1:
            # A RetryExhaustedError says the rest of this line itself.
            failure = event.error.last_exception if isinstance(event.error, RetryExhaustedError) else event.error
            # As text, so that a handler that keeps records keeps no failure and its frames.
            text = "no result was accepted" if failure is None else repr(failure)
            line = "%s: gave up after %d attempts in %.2f s (%s): %s"
            self.logger.error(line, event.operation, event.attempt, event.elapsed, event.reason, text, extra=_fields(event))
        elif isinstance(event, FallbackUsed):
            # Without a retry no other line names the failure.
            self.logger.warning("%s: failed, and falls back to %s: %s", event.operation, event.reason, repr(event.error), extra=_fields(event))
        elif isinstance(event, BudgetRefused):
            line = "%s: attempt %d is the last, retry budget %s has %.3g tokens left"
            self.logger.warning(line, event.operation, event.attempt, event.reason, event.level, extra=_fields(event))
        elif isinstance(event, BreakerChanged):
            line = "circuit breaker %s: %s, was %s (%s)"
            self.logger.warning(line, event.name, event.state.value, event.previous.value, event.reason, extra=_fields(event))


# The fields of each class of records, and what they are called on log records, which have a name and other things of their own.
_NAMES: dict[type[Event], list[tuple[str, str]]] = {}


def _fields(event: Event) -> dict[str, object]:
    # For handlers that write fields: those of the record.
    kind = type(event)
    names = _NAMES.get(kind) or _NAMES.setdefault(kind, [(field.name, f"rpc_{field.name}") for field in dataclasses.fields(event)])
    found: dict[str, object] = {said: getattr(event, name) for name, said in names}
    for name, value in found.items():
        if isinstance(value, Exception):
            found[name] = type(value).__name__
        elif isinstance(value, CircuitState):
            found[name] = value.value
    return found


log_event = LoggingSink()


def publish(sinks: tuple[Sink, ...], event: Event) -> None:
    """Hand *event* to every sink that wants it; one that raises is logged and does not keep it from the others."""
    # What an AttemptStarted opened is closed in the reverse order.
    for sink in sinks if isinstance(event, AttemptStarted) else sinks[::-1]:
        try:
            if wants(sink, type(event)):
                sink(event)
        except Exception:
            logger.exception("on_event: %r raised on %s", sink, type(event).__name__)


def begun(sinks: tuple[Sink, ...], operation: str, members: Sequence[Member]) -> tuple[Sink, ...]:
    """The sinks of one call, where some of *sinks* have another one for each call."""
    requests = tuple([member.request for member in members if member.request is not None])
    own: list[Sink] = []
    for sink in sinks:
        if not has_call_sinks(sink):
            own.append(sink)
            continue
        try:
            asked: Any = sink
            found = asked.begin_call(operation, requests)
            if not isinstance(found, CallSink):
                raise TypeError(f"begin_call of {type(sink).__name__} must return a CallSink, it returned {found!r:.60}")
            own.append(found)
        except Exception:
            logger.exception("on_event: %r raised at the beginning of a call", sink)
    return tuple(own)


def has_call_sinks(sink: Sink) -> bool:
    """Whether *sink* has another one for each call."""
    # Asked of the class: a mock has an attribute of any name.
    return hasattr(type(sink), "begin_call")


def settled(sinks: tuple[Sink, ...], outcomes: Sequence[Outcome] | None) -> None:
    """Tell those that are of one call what its attempt came to; ``None`` where the call was cut off."""
    for sink in sinks[::-1]:
        if isinstance(sink, CallSink):
            try:
                sink.abandoned() if outcomes is None else sink.settled(outcomes)
            except Exception:
                logger.exception("on_event: %r raised when its %s", sink, "call was cut off" if outcomes is None else "attempt had ended")


def success_teller(sink: Sink) -> Callable[[str, int, int | None, float], object]:
    """What to call when a call succeeds, with the fields of :class:`CallSucceeded`."""
    # Asked of the class: a mock has an attribute of any name. A subclass that overrides __call__ wants to see records.
    for cls in type(sink).__mro__:
        if "count_success" in vars(cls):
            counting: Any = sink
            return counting.count_success  # type: ignore[no-any-return]
        if "__call__" in vars(cls):
            break
    return _Recorder(sink)


class _Recorder:
    """Makes the record for a sink that takes records."""

    __slots__ = ("sink",)

    def __init__(self, sink: Sink) -> None:
        self.sink = sink

    def __call__(self, operation: str, attempt: int, max_attempts: int | None, elapsed: float) -> None:
        self.sink(CallSucceeded(operation, attempt, max_attempts, elapsed))

    def __repr__(self) -> str:
        return repr(self.sink)


def tell_success(tellers: Iterable[Callable[[str, int, int | None, float], object]], operation: str, max_attempts: int | None, elapsed: float) -> None:
    """Tell that a call succeeded at its first attempt."""
    for tell in tellers:
        try:
            tell(operation, 1, max_attempts, elapsed)
        except Exception:
            logger.exception("on_event: %r raised on CallSucceeded", tell)


def wants(sink: Sink, kind: type[Event]) -> bool:
    """Whether *sink* is to be given records of that class."""
    chosen = getattr(sink, "wants", None)
    return not isinstance(chosen, tuple) or issubclass(kind, chosen)


def as_sinks(value: Sink | Iterable[Sink] | None) -> tuple[Sink, ...]:
    """Read an ``on_event=`` argument: one sink or several."""
    if value is None:
        return ()
    sinks: tuple[Any, ...] = (value,) if callable(value) else tuple(value) if isinstance(value, Iterable) else (value,)
    for sink in sinks:
        if not callable(sink):
            raise TypeError(f"on_event must be a callable that takes an event, or several, got {type(sink).__name__} {sink!r:.60}")
        if isinstance(sink, type):
            raise TypeError(f"on_event must be an instance, got the class {sink.__name__}; write on_event={sink.__name__}()")
        _refuse_async("on_event", sink)
        if inspect.isgeneratorfunction(sink) or inspect.isasyncgenfunction(sink):
            raise TypeError(f"on_event must be a plain function, got the generator function {sink!r:.60}, which would do nothing; write no yield")
        _check_wants(sink)
    return sinks


def _refuse_async(name: str, function: object) -> None:
    if is_async_callable(function):
        raise TypeError(f"{name} must be a plain function, got {function!r:.60}, which nobody would await; have it call loop.create_task")


def _check_wants(sink: Sink) -> None:
    # A mock has an attribute of any name; a mistake looks like a collection or a class.
    chosen = getattr(sink, "wants", None)
    classes: tuple[Any, ...] = chosen if isinstance(chosen, tuple) else (chosen,)
    wrong = isinstance(chosen, (list, set, frozenset, type)) or (isinstance(chosen, tuple) and not all(isinstance(cls, type) for cls in classes))
    if wrong:
        raise TypeError(f"on_event: wants of {type(sink).__name__} must be a tuple of record classes, got {chosen!r:.80}; write wants = (CallFailed,)")
    if has_call_sinks(sink):
        asked: Any = sink
        _refuse_async(f"on_event: begin_call of {type(sink).__name__}", asked.begin_call)
