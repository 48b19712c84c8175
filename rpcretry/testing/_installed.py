"""Virtual time for clients and functions that know nothing of it.

They keep ``time.monotonic``, ``time.sleep`` and ``asyncio.sleep`` in attributes. Here those attributes become
descriptors that give the virtual ones for the real ones, for as long as a virtual time is installed. It costs nothing
where none is.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import math
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from ..client import AsyncClient, Client
from ..client.core import Shared
from ..functions._call import FunctionCall
from ..layers._surface import Common
from ..layers.breaker import CircuitBreaker
from ..layers.rate import RateLimit
from ..transport import Exchange
from ._frame import FRAME, Frame
from .virtual import VirtualTime

__all__ = ["current", "enter", "leave"]


def _default(function: Any, name: str) -> Any:
    return function.__kwdefaults__[name]


class Real:
    """What clients, functions and layers hold that were given nothing. It is read where they have it from: the modules may be patched when
    this one is imported. What the modules have at the moment counts beside it, since functions look there when they are decorated.

    Tuples in a class, since freezegun looks through all modules and puts its own in place of what it knows.
    """

    clocks = tuple(_default(made.__init__, "clock") for made in (Client, AsyncClient, RateLimit, CircuitBreaker))
    sleeps = (_default(Client.__init__, "sleep"),)
    async_sleeps = (_default(AsyncClient.__init__, "sleep"),)


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


def current() -> VirtualTime | None:
    """The time that is installed."""
    # A call of another thread may outlast the context.
    return next(iter(_installed[-1:]), None)


def _is_real_clock(held: Any) -> bool:
    return held is time.monotonic or held in Real.clocks


def _is_real_sleep(held: Any) -> bool:
    return held is time.sleep or held in Real.sleeps


def _is_real_async_sleep(held: Any) -> bool:
    return held is asyncio.sleep or held in Real.async_sleeps


def _clock(_: object, held: Any) -> Any:
    virtual = current()
    return virtual.clock if virtual is not None and _is_real_clock(held) else held


def _sleep_by(clock: Reading) -> Callable[[Any, Any], Any]:
    """What reads the sleep of an object.

    :param clock: what reads its clock.
    """

    def read(instance: Any, held: Any) -> Any:
        virtual = current()
        if virtual is None:
            return held
        if _is_real_sleep(held):
            return virtual.sleep
        if _is_real_async_sleep(held):
            return virtual.sleep_together
        if held is not None and _is_real_clock(clock.held(instance)):
            return functools.partial(_slept, virtual, held)
        return held

    return read


def _slept(virtual: VirtualTime, sleep: Callable[[float], Any], seconds: float) -> Any:
    """Wait with a sleep of the user's. The clock beside it is virtual, and without its moving on no deadline would ever come."""
    until = virtual.now + seconds
    found = sleep(seconds)
    if inspect.isawaitable(found):
        return _slept_async(virtual, found, until)
    virtual.reach(until)
    return found


async def _slept_async(virtual: VirtualTime, waiting: Awaitable[object], until: float) -> None:
    await waiting
    virtual.reach(until)


def _perform(shared: Any, held: Callable[[Exchange], Any]) -> Callable[[Exchange], Any]:
    virtual = current()
    if virtual is None:
        return held
    if not _is_real_clock(SHARED_CLOCK.held(shared)):
        return functools.partial(_untranslated, held)
    return functools.partial(_translated, virtual, held)


@contextlib.contextmanager
def _within(frame: Frame | None) -> Iterator[None]:
    """What is done here is an exchange with limits by *frame*."""
    __tracebackhide__ = True
    token = FRAME.set(frame)
    try:
        yield
    finally:
        # A coroutine that was never finished is closed by whoever collects it, in a context of its own.
        with contextlib.suppress(ValueError):
            FRAME.reset(token)


def _untranslated(perform: Callable[[Exchange], Any], exchange: Exchange) -> Any:
    """Perform *exchange* of a client with a clock of its own, perhaps within an exchange of one that has none."""
    __tracebackhide__ = True
    with _within(None):
        found = perform(exchange)
    return _awaited_untranslated(found) if inspect.isawaitable(found) else found


async def _awaited_untranslated(waiting: Awaitable[Any]) -> Any:
    __tracebackhide__ = True
    with _within(None):
        return await waiting


def _translated(virtual: VirtualTime, perform: Callable[[Exchange], Any], exchange: Exchange) -> Any:
    """Perform *exchange*. Backends, middlewares and joining go by the real clock, so that its limit is to be one on that."""
    __tracebackhide__ = True
    limit = exchange.ends_by
    made = Frame(virtual, time.monotonic(), virtual.now)
    ends_by = math.inf if limit == math.inf else made.real + (limit - made.virtual)
    real = Exchange(exchange.body, exchange.requests, exchange.ids, exchange.headers, ends_by)
    try:
        with _within(made):
            found = perform(real)
    except TimeoutError:
        _catch_up(virtual, ends_by, limit)
        raise
    return _awaited(found, made, ends_by, limit) if inspect.isawaitable(found) else found


async def _awaited(waiting: Awaitable[Any], made: Frame, ends_by: float, limit: float) -> Any:
    __tracebackhide__ = True
    try:
        with _within(made):
            return await waiting
    except TimeoutError:
        _catch_up(made.time, ends_by, limit)
        raise


def _catch_up(virtual: VirtualTime, ends_by: float, limit: float) -> None:
    """An exchange that was really cut off by its limit has taken all of it."""
    if time.monotonic() >= ends_by - SLACK:
        virtual.reach(limit)


SHARED_CLOCK = Reading(Shared, "clock", _clock)
FUNCTION_CLOCK = Reading(FunctionCall, "clock", _clock)
READINGS = (
    SHARED_CLOCK,
    Reading(Shared, "sleep", _sleep_by(SHARED_CLOCK)),
    Reading(Shared, "perform", _perform),
    FUNCTION_CLOCK,
    Reading(FunctionCall, "sleep", _sleep_by(FUNCTION_CLOCK)),
    Reading(Common, "clock", _clock),
    Reading(RateLimit, "clock", _clock),
)

_after = FunctionCall.after


def _virtually_after(call: FunctionCall, failure: Exception, begun: float) -> FunctionCall:
    """In place of :meth:`FunctionCall.after`: a first attempt is made without a call, and timed by the clock that the
    function was given."""
    virtual = current()
    if virtual is not None and _is_real_clock(FUNCTION_CLOCK.held(call)):
        begun = virtual._at(begun)
    return _after(call, failure, begun)


def enter(virtual: VirtualTime) -> None:
    """Install *virtual* over those that are installed."""
    with _lock:
        # Whole seconds, so that sums of delays have few digits.
        virtual._begin(math.ceil(max(time.monotonic(), _latest, *(other.now for other in _installed))))
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
