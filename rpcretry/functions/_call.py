"""One call of a function: the engine, with the function for its only member."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, TypeVar

from .._unset import UNSET
from ..context import CurrentAttempt
from ..outcome import Member, Outcome
from ..retry.engine import Engine, Step
from ..retry.policy import Policy

__all__ = ["First", "FunctionCall"]

CallT = TypeVar("CallT", bound="FunctionCall")


class FunctionCall(Engine):
    """A call of *function*, which is its own host: it knows how to perform its attempts.

    :param name: what it is called in events and messages.
    """

    __slots__ = ("_args", "_begun", "_failure", "_function", "_kwargs", "_name", "clock", "sleep")

    def __init__(
        self,
        policy: Policy,
        name: str,
        clock: Callable[[], float],
        sleep: Callable[[float], Any],
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        super().__init__(policy)
        self._name = name
        self._function = function
        self._args = args
        self._kwargs = kwargs
        self._failure: Exception | None = None
        self.clock = clock
        self.sleep = sleep

    @property
    def operation(self) -> str:
        return self._name

    def perform(self, attempt: Any) -> Any:
        """Make an attempt."""
        return self._function(*self._args, **self._kwargs)

    def after(self: CallT, failure: Exception, begun: float) -> CallT:
        """The call that goes on after a first attempt that was made without it."""
        self._failure, self._begun = failure, begun
        return self

    def start(self, now: float) -> Step:
        """The first step."""
        failure, self._failure = self._failure, None
        if failure is None:
            return self.begin(now)
        self.open(self._begun)
        return self.failed(failure, now)

    def go_on(self, now: float) -> Step:
        """The step after a wait."""
        return self.resume(now)

    def received(self, value: Any, now: float) -> Step:
        """The step after an attempt that returned."""
        return self.settle((Outcome(value),), now)

    def failed(self, problem: Exception, now: float) -> Step:
        """The step after an attempt that raised."""
        return self.settle((Outcome(UNSET, problem),), now)

    def recall_key(self, member: Member) -> Hashable | None:
        key = (self._function, self._args, tuple(sorted(self._kwargs.items())))
        try:
            hash(key)
        except TypeError:
            return None
        return key

    def result(self) -> Any:
        """What the call returns; raises what it raises. To be called once, after a Stop."""
        # The exception's traceback holds the driver's frame, which holds this call: it must let go of it.
        (member,), self.members = self.members, ()
        outcome, member.outcome = member.outcome, None
        if outcome is None:
            return None
        if outcome.error is None:
            return outcome.value
        try:
            raise outcome.error
        finally:
            del outcome, member


class First(NamedTuple):
    """What :func:`~rpcretry.current_attempt` tells of a first attempt for which no call was made."""

    name: str
    policy: Policy

    def current(self, now: float, begun: float) -> CurrentAttempt:
        deadline, elapsed = self.policy.deadline, now - begun
        return CurrentAttempt(self.name, 1, self.policy.max_attempts, None, elapsed, None if deadline is None else max(0.0, deadline - elapsed))
