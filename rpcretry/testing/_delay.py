"""How long a mock's reply takes."""

from __future__ import annotations

import asyncio
import math

from ..errors import Delivery, RequestTimeoutError
from ..transport import Exchange
from ._calls import UnexpectedCall
from ._frame import NOISE, limit_on
from .virtual import VirtualTime

__all__ = ["pass_async", "pass_sync", "refuse_late"]


def _end(exchange: Exchange, own: VirtualTime, seconds: float) -> tuple[VirtualTime, float, bool]:
    """The time that passes, the moment when it has, and whether the limit of *exchange* comes before."""
    clock, limit = limit_on(own, exchange)
    until = clock.now + seconds
    if until == math.inf and limit == math.inf:
        raise UnexpectedCall("the reply hangs, and the call has no time limit: it would wait for ever; give the client or the call a timeout or a deadline")
    return (clock, until, False) if until <= limit + NOISE else (clock, limit, True)


def _cut() -> RequestTimeoutError:
    return RequestTimeoutError("the answer of the mock took too long")


def refuse_late(exchange: Exchange, own: VirtualTime) -> None:
    """Refuse an exchange whose limit is over, as the backends do: a middleware may have taken all the time.

    :raises RequestTimeoutError: saying that nothing was sent.
    """
    clock, limit = limit_on(own, exchange)
    if clock.now > limit + NOISE:
        raise RequestTimeoutError("no time was left for the attempt", delivery=Delivery.NOT_SENT)


def pass_sync(exchange: Exchange, own: VirtualTime, seconds: float) -> None:
    """Let *seconds* pass, or what *exchange* has left.

    :param own: the time of the mock, for an exchange of a client that goes by it.
    :raises RequestTimeoutError: where its limit comes first.
    """
    if seconds:
        clock, until, is_cut = _end(exchange, own, seconds)
        clock.reach(until)
        if is_cut:
            raise _cut()


async def pass_async(exchange: Exchange, own: VirtualTime, seconds: float) -> None:
    """The same for a task, while others go on."""
    if not seconds:
        # As over a network others have their turn.
        await asyncio.sleep(0)
        return
    clock, until, is_cut = _end(exchange, own, seconds)
    await clock.pass_until(until)
    if is_cut:
        raise _cut()
