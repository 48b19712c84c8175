"""What the engine does to the exceptions that it lets through."""

from __future__ import annotations

import contextlib

from ..errors import ClientClosedError, DeadlineExceeded, Delivery, HTTPStatusError, JsonRpcError, Refused, RetryExhaustedError, TransportError
from ..outcome import Member
from .strategy import RetryStrategy

__all__ = ["annotate", "caused", "deadline_exceeded", "give_up", "worse"]

NOTE = "rpcretry: "


def caused(error: Exception, cause: BaseException | None) -> Exception:
    """*error* as raised from *cause*."""
    link, seen = cause, 0
    # A fallback may raise what the failure was raised from; a chain must not lead back to itself. Not endless where it does.
    while link is not None and link is not error and seen < 100:
        link, seen = link.__cause__, seen + 1
    if cause is not None and link is not error:
        # An exception class that refuses attributes must not hide the failure.
        with contextlib.suppress(Exception):
            error.__cause__ = cause
    return error


def annotate(error: BaseException, text: str) -> None:
    """Put one note of ours on *error*, in place of the one that it may carry already."""
    notes = [note for note in getattr(error, "__notes__", ()) if not str(note).startswith(NOTE)]
    with contextlib.suppress(Exception):
        error.__notes__ = [*notes, NOTE + text]


def worse(first: Delivery | None, second: Delivery) -> Delivery:
    """The one that promises less about what the server did."""
    if first is None or first is second:
        return second
    order = (Delivery.NOT_SENT, Delivery.REJECTED, Delivery.MAYBE_EXECUTED)
    return second if order.index(second) > order.index(first) else first


def deadline_exceeded(operation: str, deadline: float, elapsed: float, attempts: int) -> DeadlineExceeded:
    """The end of a call by its deadline."""
    message = f"{operation}: the deadline of {deadline:g} s ended the call after {_tries(attempts)} in {elapsed:.2f} s"
    return DeadlineExceeded(message, deadline=deadline, elapsed=elapsed, attempts=attempts)


def give_up(operation: str, strategy: RetryStrategy | None, member: Member, error: Exception | None, reason: str, elapsed: float) -> Exception | None:
    """What to raise for *error*, with which the call ends for *member*; ``None`` to return what it brought."""
    if error is None:
        if reason != "attempts" or strategy is None or not strategy.wrap:
            return None
        message = f"{operation}: gave up after {_tries(member.tries)} in {elapsed:.2f} s: no result was accepted"
        return RetryExhaustedError(message, attempts=member.tries, elapsed=elapsed)
    if isinstance(error, (TransportError, HTTPStatusError, JsonRpcError, Refused, DeadlineExceeded, ClientClosedError)):
        # A caller reads from it what the server may have done, in whichever of the tries.
        error.delivery = member.delivery or Delivery.NOT_SENT
    if strategy is None or reason == "error":
        return error
    tries = _tries(member.tries)
    if reason == "attempts" and strategy.wrap:
        message = f"{operation}: gave up after {tries} in {elapsed:.2f} s: {_shown(error)}"
        return caused(RetryExhaustedError(message, attempts=member.tries, last_exception=error, elapsed=elapsed), error)
    if not isinstance(error, (Refused, DeadlineExceeded)):
        annotate(error, f"gave up after {tries} in {elapsed:.2f} s ({reason})")
    return error


def _shown(error: Exception) -> str:
    try:
        return repr(error)
    except Exception:
        # A class of the user's with a broken __repr__ must not hide the failure.
        return type(error).__name__


def _tries(count: int) -> str:
    return f"{count} attempt{'' if count == 1 else 's'}"
