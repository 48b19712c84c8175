"""Virtual time for clients and functions that know nothing of it.

They keep ``time.monotonic``, ``time.sleep`` and ``asyncio.sleep`` in attributes. Here those attributes become
descriptors that give the virtual ones for the real ones, for as long as a virtual time is installed. It costs nothing
where none is.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import math
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

from ..client.core import Shared
from ..functions._call import FunctionCall
from ..layers._surface import Common
from ..layers.rate import RateLimit
from ..transport import Exchange
from ._frame import FRAME, Frame
from .virtual import VirtualTime

__all__ = ["enter", "leave"]

REAL_CLOCK, REAL_SLEEP, REAL_ASLEEP = time.monotonic, time.sleep, asyncio.sleep

# How much before its time a timer may fire, in seconds.
SLACK = 0.01

_installed: list[VirtualTime] = []
_lock = threading.Lock()
# No virtual time begins before another one has ended: what a client of both remembers would lie in the future.
_latest = 0.0


class Reading:
    """A descriptor that gives something else than what an attribute holds.

    :param read: gets the object and what the attribute holds.
    """

    def __init__(self, owner: type, name: str, read: Callable[[Any, Any], Any]) -> None:
        # That of a slot; None where the attribute lies in the object's dictionary.
        self.slot: Any = vars(owner).get(name)
        self._owner = owner
        self._name = name
        self._read = read

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else self._read(instance, self.held(instance))

    def __set__(self, instance: Any, value: Any) -> None:
        if self.slot is not None:
            self.slot.__set__(instance, value)
        else:
            vars(instance)[self._name] = value

    def held(self, instance: Any) -> Any:
        """What the attribute holds."""
        if self.slot is not None:
            return self.slot.__get__(instance, type(instance))
        try:
            return vars(instance)[self._name]
        except KeyError:
            raise AttributeError(f"{type(instance).__name__!r} object has no attribute {self._name!r}") from None

    def put(self) -> None:
        """Take the attribute's place."""
        setattr(self._owner, self._name, self)

    def take_away(self) -> None:
        """Give the attribute its place back."""
        if self.slot is not None:
            setattr(self._owner, self._name, self.slot)
        else:
            delattr(self._owner, self._name)


def _current() -> VirtualTime | None:
    # A call of another thread may outlast the context.
    return next(iter(_installed[-1:]), None)


def _clock(_: object, held: Any) -> Any:
    current = _current()
    return current.clock if held is REAL_CLOCK and current is not None else held


def _sleep(_: object, held: Any) -> Any:
    current = _current()
    if current is not None:
        if held is REAL_SLEEP:
            return current.sleep
        if held is REAL_ASLEEP:
            return current.sleep_together
    return held


def _perform(shared: Any, held: Callable[[Exchange], Any]) -> Callable[[Exchange], Any]:
    current = _current()
    if current is None or SHARED_CLOCK.held(shared) is not REAL_CLOCK:
        return held
    return functools.partial(_translated, current, held)


def _translated(virtual: VirtualTime, perform: Callable[[Exchange], Any], exchange: Exchange) -> Any:
    """Perform *exchange*. Backends, middlewares and joining go by the real clock, so that its limit is to be one on that."""
    __tracebackhide__ = True
    limit = exchange.ends_by
    made = Frame(virtual, REAL_CLOCK(), virtual.now)
    ends_by = math.inf if limit == math.inf else made.real + (limit - made.virtual)
    real = Exchange(exchange.body, exchange.requests, exchange.ids, exchange.headers, ends_by)
    token = FRAME.set(made)
    try:
        found = perform(real)
    except TimeoutError:
        _catch_up(virtual, ends_by, limit)
        raise
    finally:
        FRAME.reset(token)
    return _awaited(found, made, ends_by, limit) if inspect.isawaitable(found) else found


async def _awaited(waiting: Awaitable[Any], made: Frame, ends_by: float, limit: float) -> Any:
    __tracebackhide__ = True
    token = FRAME.set(made)
    try:
        return await waiting
    except TimeoutError:
        _catch_up(made.time, ends_by, limit)
        raise
    finally:
        FRAME.reset(token)


def _catch_up(virtual: VirtualTime, ends_by: float, limit: float) -> None:
    """An exchange that was really cut off by its limit has taken all of it."""
    if REAL_CLOCK() >= ends_by - SLACK:
        virtual.reach(limit)


SHARED_CLOCK = Reading(Shared, "clock", _clock)
FUNCTION_CLOCK = Reading(FunctionCall, "clock", _clock)
READINGS = (
    SHARED_CLOCK,
    Reading(Shared, "sleep", _sleep),
    Reading(Shared, "perform", _perform),
    FUNCTION_CLOCK,
    Reading(FunctionCall, "sleep", _sleep),
    Reading(Common, "clock", _clock),
    Reading(RateLimit, "clock", _clock),
)

_after = FunctionCall.after


def _virtually_after(call: FunctionCall, failure: Exception, begun: float) -> FunctionCall:
    """In place of :meth:`FunctionCall.after`: a first attempt is made without a call, and timed by the clock that the
    function was given."""
    current = _current()
    if current is not None and FUNCTION_CLOCK.held(call) is REAL_CLOCK:
        begun = current._at(begun)
    return _after(call, failure, begun)


def enter(virtual: VirtualTime) -> None:
    """Install *virtual* over those that are installed."""
    with _lock:
        # Whole seconds, so that sums of delays have few digits.
        virtual._begin(math.ceil(max(REAL_CLOCK(), _latest, *(other.now for other in _installed))))
        if not _installed:
            for reading in READINGS:
                reading.put()
            FunctionCall.after = _virtually_after  # type: ignore[method-assign, assignment]  # given back by leave
        _installed.append(virtual)


def leave(virtual: VirtualTime) -> None:
    """Take *virtual* away, once for each :func:`enter`."""
    global _latest
    with _lock:
        _latest = max(_latest, virtual.now)
        # The last one, where it was entered twice.
        del _installed[len(_installed) - 1 - _installed[::-1].index(virtual)]
        if virtual not in _installed:
            virtual._end()
        if not _installed:
            for reading in READINGS:
                reading.take_away()
            FunctionCall.after = _after  # type: ignore[method-assign]
