"""Calls as the simulation makes them: the engine that real calls go by, told a time that is not the clock's."""

from __future__ import annotations

import random

from .._unset import UNSET
from ..layers import compose
from ..messages import Request
from ..outcome import Attempt, Member, Outcome
from ..retry.engine import OK, Engine, Step
from ..retry.policy import Policy
from ._model import PolicySpec

__all__ = ["Process", "SimulatedCall", "WriteCall"]

READ, WRITE = Request("read"), Request("write")

# What a success brings. One for all calls: nothing is ever written to it where no strategy looks at successes.
SUCCESS = (Outcome(None),)


class SimulatedCall(Engine):
    """A call of one request, its own host: there is nothing to encode and nothing to decode.

    :ivar client: whose it is.
    :ivar step: the step of the series that it began in.
    :ivar flight: changes with whatever the call waits for, so that an event that it no longer waits for is known.
    :ivar ends_by: when the attempt under way must have ended.
    :ivar work: what the server's mean service time is multiplied by the first time that it works on the call; ``None`` after that.
    :ivar queued: the flight that queues at the server; 0 for none.
    :ivar executions: how often the server executed it, where it is not to be executed twice.
    """

    __slots__ = ("client", "ends_by", "executions", "flight", "queued", "step", "work")

    is_safe = True
    request = READ

    def __init__(self, policy: Policy, client: int, step: int, work: float | None) -> None:
        # Not through super(): this is the way of every call.
        self.policy = policy
        self._attempt: Attempt | None = None
        self.members = ()
        self.client = client
        self.step = step
        self.flight = self.queued = self.executions = 0
        self.work = work

    @property
    def operation(self) -> str:
        return self.request.method

    def make_members(self) -> list[Member]:
        return [Member(self.request)]

    def start(self, now: float) -> Step | None:
        """The first step; ``None`` for an attempt of which no record is needed, as a client makes it."""
        if self.policy.quick:
            self.ends_by = self.open(now)
            if self.ends_by > now:
                return None
        return self.begin(now)

    def received(self, now: float) -> Step:
        """The step after an answer."""
        policy = self.policy
        if policy.quick and self._attempt is None:
            return OK
        return self.settle(SUCCESS if policy.success_ends else (Outcome(None),), now)

    def failed(self, problem: Exception, now: float) -> Step:
        """The step after a failure."""
        return self.settle((Outcome(UNSET, problem),), now)

    def take(self) -> Exception | None:
        """What the caller gets instead of a result. After a Stop; the call lets go of it, since it may queue at the server for long yet."""
        members, self.members = self.members, ()
        for member in members:
            if member.outcome is not None:
                return member.outcome.error
        return None


class WriteCall(SimulatedCall):
    """A call whose method is not declared safe to execute twice."""

    __slots__ = ()

    is_safe = False
    request = WRITE


class Process:
    """The settings of one process, as its clients have them.

    :ivar read: what calls go by whose method is declared safe to execute twice.
    :ivar write: what the others go by.
    """

    __slots__ = ("read", "settings", "write")

    def __init__(self, spec: PolicySpec, number: int, source: random.Random) -> None:
        self.settings = settings = spec.settings(number, source)
        self.read, self.write = (
            Policy(settings.strategy, compose(settings.strategy, settings.layers, idempotent=declared), (), settings.timeout, settings.deadline)
            for declared in (True, None)
        )
        # Nobody reads a log of a million virtual failures.
        self.read.told = self.write.told = ()
