"""Where the call stands that is running here: :func:`current_attempt`."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar, Token
from typing import Any, NamedTuple

__all__ = ["CurrentAttempt", "current_attempt"]


class CurrentAttempt(NamedTuple):
    """The attempt under way, as it was when it was asked for.

    :ivar operation: the method's name, ``batch of 3``, or the function's name.
    :ivar number: 1 for the first attempt.
    :ivar max_attempts: how many the strategy allows; ``None`` without a known limit.
    :ivar last_exception: the failure of the attempt before; ``None`` in the first. Do not keep it: its traceback holds frames.
    :ivar elapsed: seconds since the call began.
    :ivar remaining: seconds until the deadline of the call; ``None`` where it has none.
    """

    operation: str
    number: int
    max_attempts: int | None
    last_exception: Exception | None
    elapsed: float
    remaining: float | None


# The call that runs in this context and what it needs to know the time. A list, because contexts are copied by tasks, timers
# and connections that outlive the call: it is emptied at the end, so that none of them keeps the call alive.
RUNNING: ContextVar[list[Any] | None] = ContextVar("rpcretry.current_attempt", default=None)


def current_attempt() -> CurrentAttempt | None:
    """The attempt that is under way here: inside of a retried function, a backend or a middleware. ``None`` elsewhere.

    Each task and each thread has its own, a task that an attempt starts sees that attempt, and where retried calls are
    nested it is the innermost.
    """
    # Copied at once: another thread may empty it at any time.
    running = tuple(RUNNING.get() or ())
    if not running:
        return None
    call, clock, *begun = running
    found: CurrentAttempt = call.current(clock(), *begun)
    return found


def enter(call: Any, clock: Callable[[], float]) -> tuple[list[Any], Token[list[Any] | None]]:
    """Have :func:`current_attempt` tell of *call*, which has a method ``current(now)``."""
    running = [call, clock]
    return running, RUNNING.set(running)


def leave(token: Token[list[Any] | None]) -> None:
    """The call is over. Its list is emptied before, by a statement that no interrupt comes in front of."""
    try:
        RUNNING.reset(token)
    except ValueError:
        # A coroutine that was never finished is closed by whoever collects it, in a context of its own.
        return
