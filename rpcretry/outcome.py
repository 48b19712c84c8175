"""The values that the engine, the strategies and the layers exchange."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, final

from ._unset import UNSET
from .errors import Delivery, JsonRpcError
from .events import Event, Sink, publish
from .messages import Response
from .transport import SharedExchange

if TYPE_CHECKING:
    from .messages import Request

__all__ = ["Attempt", "Member", "Outcome", "Parking", "Rescue", "Retry", "Stop", "Wait"]


class Retry(NamedTuple):
    """The verdict to try again.

    :ivar delay: seconds from now until the next try, 0 or more.
    :ivar reason: why, in a word or two.
    :ivar held: whether a hint of the server set the delay; such a member of a batch waits alone.
    :ivar whole: whether it may go again only in the same body, with all that it went with; in the engine the number of that attempt.
    """

    delay: float
    reason: str = "retry"
    held: bool = False
    whole: int = False


class Stop(NamedTuple):
    """The verdict to try no more.

    :ivar reason: ``"ok"``, ``"error"``, ``"attempts"``, ``"deadline"``, ``"refused"``, or a layer's own word.
    """

    reason: str


class Wait(NamedTuple):
    """What to wait for before going on.

    :ivar until: a time on the clock of the engine; ``math.inf`` to wait until woken.
    :ivar reason: what for, in a word or two.
    """

    until: float
    reason: str = "wait"


class Rescue(NamedTuple):
    """A fallback to ask, now that the call has failed.

    :ivar name: what it is called in events.
    :ivar ask: returns what stands in for the result, or an awaitable of it.
    """

    name: str
    ask: Callable[[], Any]


class Parking:
    """Where an attempt waits that a layer will wake. ``wake`` may be called from any thread, at any time, repeatedly."""

    __slots__ = ("_callback", "_lock", "woken")

    def __init__(self) -> None:
        self.woken = False
        self._callback: Callable[[], object] | None = None
        # Re-entrant: a signal handler may wake in the middle of a wake.
        self._lock = threading.RLock()

    def wake(self) -> None:
        """End the wait, now or as soon as it begins."""
        with self._lock:
            self.woken = True
            callback, self._callback = self._callback, None
        if callback is not None:
            try:
                callback()
            except BaseException:
                # A wake that an interrupt cut short can be repeated.
                self._callback = callback
                raise

    def on_wake(self, callback: Callable[[], object]) -> None:
        """Have *callback* called when woken; at once if that has happened."""
        with self._lock:
            # In this order: a signal handler that wakes it between the two finds the callback. Called twice it does no more.
            self._callback = callback
            if not self.woken:
                return
            self._callback = None
        callback()


class Outcome:
    """What became of one member in one attempt.

    :ivar value: the response of a client's call, or what a function returned; ``UNSET`` where there is none.
    :ivar error: the failure: a :class:`~rpcretry.JsonRpcError` where the server answered with one.
    :ivar shared: the mark of the exchange that it came from, where that was shared with other calls.
    """

    __slots__ = ("error", "shared", "value")

    def __init__(self, value: Any = UNSET, error: Exception | None = None) -> None:
        self.value = value
        self.error = error
        self.shared: SharedExchange | None = None if error is None else getattr(error, "_shared_exchange", None)

    @property
    def ok(self) -> bool:
        """Whether it succeeded."""
        return self.error is None

    @property
    def result(self) -> Any:
        """The JSON-RPC result, or what a function returned; ``None`` where there is none."""
        if self.error is not None or self.value is UNSET:
            return None
        # What a function returned may have an attribute of that name, which is none of ours.
        return self.value.result if isinstance(self.value, Response) else self.value

    @property
    def code(self) -> int | None:
        """The JSON-RPC error code, or ``None``."""
        return self.error.code if isinstance(self.error, JsonRpcError) else None

    @property
    def status(self) -> int | None:
        """The HTTP status that the answer came with, or ``None``."""
        source = self.error if self.error is not None else self.value
        status = getattr(source, "status", None)
        return status if isinstance(status, int) else None

    @property
    def headers(self) -> Mapping[str, str]:
        """The HTTP headers that the answer came with."""
        source = self.error if self.error is not None else self.value
        return getattr(source, "headers", None) or {}

    @property
    def delivery(self) -> Delivery:
        """What the server may have done. A success, too, may have been executed."""
        found = getattr(self.error, "delivery", None)
        # Somebody else's exception may have an attribute of that name.
        return found if isinstance(found, Delivery) else Delivery.MAYBE_EXECUTED

    def __repr__(self) -> str:
        return f"Outcome({self.error!r})" if self.error is not None else "Outcome(ok)"


class Member:
    """One request of a call, for as long as the call lasts.

    :ivar request: the request; ``None`` for a function.
    :ivar index: its place among the members of the call.
    :ivar tries: how often it was sent so far.
    :ivar delays: its own iterator of delays; ``None`` before its first failure.
    :ivar due: when it may go again.
    :ivar verdict: the last verdict on it; ``None`` while it is in flight for the first time.
    :ivar outcome: its last outcome.
    :ivar delivery: what the server may have done in the tries that failed; ``None`` before one did.
    """

    __slots__ = ("delays", "delivery", "due", "index", "outcome", "request", "tries", "verdict")

    def __init__(self, request: Request | None, index: int = 0) -> None:
        self.request = request
        self.index = index
        self.tries = 0
        self.delays: Iterator[float] | None = None
        self.delivery: Delivery | None = None
        self.due = 0.0
        self.verdict: Retry | Stop | None = None
        self.outcome: Outcome | None = None

    @property
    def method(self) -> str | None:
        """The request's method, ``None`` for a function."""
        return self.request.method if self.request is not None else None

    @property
    def is_notification(self) -> bool:
        """Whether it is a request without an answer."""
        return self.request is not None and self.request.is_notification

    def __repr__(self) -> str:
        return f"<Member {self.request!r} tries={self.tries} verdict={self.verdict!r}>"


def telling(members: Sequence[Member], outcomes: Sequence[Outcome]) -> Sequence[Outcome]:
    """Those of *outcomes* that tell something of the server: that no answer came to a notification does not, where calls went with it."""
    if len(outcomes) == 1:
        return outcomes
    answered = [outcome for member, outcome in zip(members, outcomes, strict=True) if outcome.error is not None or not member.is_notification]
    return answered or outcomes


@final
class Attempt:
    """One exchange of a call, from before its admission until it is settled or abandoned.

    :ivar number: 1 for the first exchange of the call.
    :ivar members: what travels in it.
    :ivar ends_by: when it must have ended, on the clock of the engine; ``math.inf`` for never.
    :ivar operation: the method's name, or ``batch of 3``.
    :ivar started: when the call began, on the clock of the engine.
    :ivar deadline: when the whole call must have ended; ``math.inf`` for never.
    :ivar max_attempts: how many tries the strategy allows; ``None`` without a known limit.
    :ivar sent: whether it went out; one that is abandoned before cost the server nothing.
    """

    __slots__ = ("_sinks", "deadline", "ends_by", "max_attempts", "members", "number", "operation", "parking", "sent", "started")

    def __init__(
        self,
        number: int,
        members: list[Member],
        ends_by: float,
        operation: str,
        started: float = 0.0,
        deadline: float = math.inf,
        max_attempts: int | None = None,
        sinks: tuple[Sink, ...] = (),
    ) -> None:
        self.number = number
        self.members = members
        self.ends_by = ends_by
        self.operation = operation
        self.started = started
        self.deadline = deadline
        self.max_attempts = max_attempts
        self.sent = False
        self.parking: Parking | None = None
        self._sinks = sinks

    def tell(self, event: Event) -> None:
        """Hand *event* to the sinks of the call; for a layer with news of its own. Not to be called with a lock held."""
        publish(self._sinks, event)

    def so_far(self, now: float) -> tuple[str, int, int | None, float]:
        """The fields that every record begins with: ``attempt.tell(Waited(*attempt.so_far(now), delay=...))``."""
        return self.operation, self.number, self.max_attempts, now - self.started

    def park(self) -> Callable[[], None]:
        """Prepare for being woken; for a layer that is about to return ``Wait(math.inf)``.

        :returns: a callable that wakes the attempt, from any thread.
        """
        self.parking = Parking()
        return self.parking.wake

    def __repr__(self) -> str:
        return f"<Attempt {self.number} of {self.operation}>"
