"""What users do with one circuit by hand: read it, move it, and put it around blocks and functions."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, Self, TypeVar

from .._check import is_async_callable
from ..errors import CircuitOpenError, CircuitState
from ..events import BreakerChanged, Sink, log_event, publish
from ..outcome import Attempt, Outcome
from ._circuit import Change, CircuitStats, Machine, Permit, Rules
from ._verdicts import Verdicts

__all__ = ["Circuit", "Common"]

P = ParamSpec("P")
T = TypeVar("T")

# The blocks that this thread or task is in, with the permit of each. Immutable, so that a task that is started inside
# of a block leaves those of its parent alone.
_entered: ContextVar[tuple[tuple[Circuit, Permit], ...]] = ContextVar("rpcretry_circuits", default=())


class Common:
    """What the circuits of one breaker share."""

    __slots__ = ("clock", "listeners", "lock", "rules", "verdicts")

    def __init__(self, rules: Rules, verdicts: Verdicts, clock: Callable[[], float]) -> None:
        self.rules = rules
        self.verdicts = verdicts
        self.clock = clock
        self.listeners: tuple[Sink, ...] = ()
        # Re-entrant, since a signal handler or the garbage collector may bring a thread back here.
        self.lock = threading.RLock()

    def listen(self, before: tuple[Sink, ...], after: tuple[Sink, ...]) -> bool:
        """Put *after* in place of *before*, unless somebody else was quicker."""
        with self.lock:
            if self.listeners is not before:
                return False
            self.listeners = after
            return True

    def tell(self, name: str, changes: Sequence[Change], attempt: Attempt | None = None, now: float = 0.0) -> None:
        for change in changes:
            so_far = ("", 0, None, 0.0) if attempt is None else attempt.so_far(now)
            record = BreakerChanged(*so_far, name, *change)
            if attempt is None:
                publish((log_event,), record)
            else:
                attempt.tell(record)
            publish(self.listeners, record)


class Circuit:
    """One circuit: what an unkeyed :class:`CircuitBreaker` is, and what ``breaker[key]`` gives.

    ``with circuit:`` and ``async with circuit:`` let the block through or raise :class:`~rpcretry.CircuitOpenError`, and
    count how it ends. Any number of threads and tasks may be inside at once, also of one another. A block that is
    cancelled, or left by any other BaseException that is no Exception, gives its slot back and counts nothing.

    Blocks of one thread or task are left in the reverse of the order in which they were entered. Generators that are
    suspended inside of such blocks and resumed by turns break it: one may take the permit of the other, and what it
    counts then may be dropped as old, or a slot be held until its lease ends. Use :meth:`protect`, or
    :meth:`can_execute`, there.

    :ivar name: what it is called in errors and events.
    """

    def __init__(self, name: str, common: Common, *, keyed: bool = False) -> None:
        self.name = name
        self._common = common
        self._own: Machine | None = None if keyed else Machine(name, common.rules)

    if not TYPE_CHECKING:

        def __call__(self, *args, **kwargs):
            raise TypeError(f"breaker {self.name} is no decorator; write @breaker.protect")

    def __reduce__(self) -> NoReturn:
        raise TypeError("a CircuitBreaker has state of its own; make another, or share this one")

    def __copy__(self) -> NoReturn:
        self.__reduce__()

    def __deepcopy__(self, memo: object) -> NoReturn:
        self.__reduce__()

    @property
    def _machine(self) -> Machine:
        if self._own is None:
            raise TypeError(f"breaker {self.name} has one circuit for each key; write breaker[key].state, and so on for all that concerns one circuit")
        return self._own

    # --- reading ---

    @property
    def state(self) -> CircuitState:
        """The state now: HALF_OPEN as soon as the recovery time is over. Reading changes nothing."""
        return self._machine.status(self._common.clock())[0]

    @property
    def is_closed(self) -> bool:
        """Whether it lets every call through."""
        return self.state is CircuitState.CLOSED

    @property
    def is_open(self) -> bool:
        """Whether it turns every call away."""
        return self.state is CircuitState.OPEN

    @property
    def is_half_open(self) -> bool:
        """Whether it lets a few calls through as probes."""
        return self.state is CircuitState.HALF_OPEN

    @property
    def remaining(self) -> float:
        """Seconds until a probe is let through: 0 when it is not open, ``math.inf`` where it is held open."""
        return self._machine.status(self._common.clock())[1]

    @property
    def stats(self) -> CircuitStats:
        """What it counted, as one consistent record."""
        return self._machine.stats()

    # --- by hand ---

    def open(self) -> None:
        """Open it, until :meth:`close` or :meth:`reset`."""
        self._tell(self._machine.hold(_called("open"), self._common.clock()))

    def close(self) -> None:
        """Close it. A circuit that is closed already keeps its counters."""
        self._tell(self._machine.close(_called("close"), self._common.clock()))

    def reset(self) -> None:
        """Close it and clear its counters and :attr:`stats`. Calls under way no longer move its state."""
        self._tell(self._machine.close(_called("reset"), self._common.clock(), forget=True))

    def can_execute(self) -> bool:
        """Whether a call may be made now. In HALF_OPEN it takes the slot of a probe, for as long as the recovery time.

        After a ``True``, say how the call ended: :meth:`record_success` or :meth:`record_failure`.
        """
        machine = self._machine
        try:
            _, changes = machine.admit(self._common.clock(), by_hand=True)
        except CircuitOpenError:
            return False
        self._tell(changes)
        return True

    def record_success(self) -> None:
        """A call ended well. Counts, and moves the state, whether or not :meth:`can_execute` was asked before."""
        self._tell(self._machine.record_by_hand(False, self._common.clock()))

    def record_failure(self, error: BaseException | None = None) -> None:
        """A call failed. Counts, and moves the state, whether or not :meth:`can_execute` was asked before.

        :param error: where given, it counts as what it is to this breaker: one that proves that the server is alive is
            a success, and a cancellation gives the slot back and counts nothing.
        :raises TypeError: where *error* is no exception.
        """
        if error is not None and not isinstance(error, BaseException):
            raise TypeError(f"error must be an exception or None, got {type(error).__name__} {error!r:.60}")
        machine = self._machine
        failed = True if error is None else self._verdict(error)
        self._tell(machine.record_by_hand(failed, self._common.clock()))

    # --- around blocks and functions ---

    def _enter(self) -> Permit:
        machine = self._machine
        permit = machine.passage
        if permit is None:
            permit, changes = machine.admit(self._common.clock())
            self._tell(changes)
        return permit

    def _leave(self, permit: Permit, error: BaseException | None) -> None:
        machine = self._machine
        failed = self._verdict(error)
        if failed is None:
            machine.give_back(permit)
        else:
            self._tell(machine.record(permit, failed, self._common.clock()))

    def _verdict(self, error: BaseException | None) -> bool | None:
        if error is None and self._common.verdicts.plain:
            return False
        return self._common.verdicts.of(Outcome(error=error)) if error is None or isinstance(error, Exception) else None

    def _tell(self, changes: Sequence[Change]) -> None:
        if changes:
            self._common.tell(self.name, changes)

    def __enter__(self) -> Self:
        permit = self._enter()
        _entered.set((*_entered.get(), (self, permit)))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        entered = _entered.get()
        for place in range(len(entered) - 1, -1, -1):
            if entered[place][0] is self:
                _entered.set(entered[:place] + entered[place + 1 :])
                self._leave(entered[place][1], error)
                return
        # Left in another context than it was entered in; its slot, if it had one, ends with its lease.
        self._leave(Permit(-1), error)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.__exit__(kind, error, trace)

    def protect(self, function: Callable[P, T]) -> Callable[P, T]:
        """Decorate a function or method, sync or async: each call of it is one block of this circuit.

        :raises TypeError: for what runs later than it is called: generators, async generators, and, when it is
            called, a sync function that returns an awaitable; for classes, and for classmethod objects.
        """
        _ = self._machine
        _refuse(function)
        if is_async_callable(function):
            wanted: Any = function

            @functools.wraps(function)
            async def guarded_async(*args: Any, **kwargs: Any) -> Any:
                permit = self._enter()
                try:
                    value = await wanted(*args, **kwargs)
                except BaseException as error:
                    self._leave(permit, error)
                    raise
                self._leave(permit, None)
                return value

            found: Any = guarded_async
            return found  # type: ignore[no-any-return]

        @functools.wraps(function)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
            permit = self._enter()
            try:
                value = function(*args, **kwargs)
            except BaseException as error:
                self._leave(permit, error)
                raise
            if hasattr(type(value), "__await__"):
                self._machine.give_back(permit)
                if inspect.iscoroutine(value):
                    value.close()
                raise TypeError(
                    f"protect: {function!r:.80} is no async def and returned an awaitable, whose end nobody would see; write async def and await it"
                )
            self._leave(permit, None)
            return value

        return guarded


def _called(method: str) -> str:
    return f"{method}() was called"


def _refuse(function: object) -> None:
    fix = "which runs after it was called; put the work in a function that returns"
    if isinstance(function, (type, classmethod)) or not callable(function):
        order = "; put @classmethod above protect" if isinstance(function, classmethod) else ""
        raise TypeError(f"protect takes a function, got {function!r:.60}{order}")
    for asked in (function, type(function).__call__):
        if inspect.isgeneratorfunction(asked):
            raise TypeError(f"protect takes no generator, got {function!r:.60}, {fix}")
        if inspect.isasyncgenfunction(asked):
            raise TypeError(f"protect takes no async generator, got {function!r:.60}, {fix}")
