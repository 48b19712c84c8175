"""How the limit of an exchange reads on a virtual clock."""

from __future__ import annotations

import math
from contextvars import ContextVar
from typing import NamedTuple

from ..transport import Exchange
from .virtual import VirtualTime

__all__ = ["FRAME", "NOISE", "Frame", "limit_on"]

# What is lost where a limit is read on one clock and meant on another, in seconds.
NOISE = 1e-6


class Frame(NamedTuple):
    """Where a virtual clock stands to the real one, which the limit of an exchange was put on.

    :ivar time: the virtual time.
    :ivar real: a moment on the real clock.
    :ivar virtual: the same moment on the virtual one.
    """

    time: VirtualTime
    real: float
    virtual: float


# That of the exchange that is made here; None where its limit was not put on another clock.
FRAME: ContextVar[Frame | None] = ContextVar("rpcretry.virtual_frame", default=None)


def limit_on(own: VirtualTime, exchange: Exchange) -> tuple[VirtualTime, float]:
    """The virtual time that passes for *exchange*, and when it must have ended on that.

    :param own: the time of a client that was given it, and whose limits are on it.
    """
    frame = FRAME.get()
    if frame is None:
        return own, exchange.ends_by
    return frame.time, math.inf if exchange.ends_by == math.inf else frame.virtual + (exchange.ends_by - frame.real)
