"""One call of a function: the engine, with the function for its only member."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, NoReturn, TypeVar

from .._unset import UNSET
from ..context import CurrentAttempt
from ..outcome import Member, Outcome
from ..retry.engine import Engine, Step
from ..retry.policy import Policy

__all__ = ["First", "FunctionCall", "refused"]

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
        """The step after an attempt that returned.

        :raises TypeError: where it returned an awaitable; no failure of the attempt, so that nothing tries it again or stands in for it.
        """
        if hasattr(type(value), "__await__"):
            refused(self._name, value)
        return self.settle((Outcome(value),), now)

    def failed(self, problem: Exception, now: float) -> Step:
        """The step after an attempt that raised."""
        return self.settle((Outcome(UNSET, problem),), now)

    def recall_key(self, member: Member) -> Hashable | None:
        named = sorted(self._kwargs.items())
        # By type and value: 1 and True are equal, and not the same argument.
        types = (*map(type, self._args), *(type(value) for _, value in named))
        key = (self._function, self._args, tuple(named), types)
        try:
            hash(key)
        except Exception:
            return None
        return key

    def take(self) -> Outcome:
        """The outcome, after a Stop. The call lets go of it: an error's traceback holds the frames that hold this call."""
        members, self.members = self.members, ()
        outcome = None
        for member in members:
            outcome, member.outcome = member.outcome, None
        return outcome or Outcome(None)

    def result(self) -> Any:
        """What the call returns; raises what it raises. After a Stop."""
        outcome = self.take()
        if outcome.error is None:
            return outcome.value
        try:
            raise outcome.error
        finally:
            del outcome


class First(NamedTuple):
    """What :func:`~rpcretry.current_attempt` tells of a first attempt for which no call was made."""

    name: str
    policy: Policy

    def current(self, now: float, begun: float) -> CurrentAttempt:
        deadline, elapsed = self.policy.deadline, now - begun
        return CurrentAttempt(self.name, 1, self.policy.max_attempts, None, elapsed, None if deadline is None else max(0.0, deadline - elapsed))


def refused(name: str, value: Any) -> NoReturn:
    """A sync function returned an awaitable: what fails in it, fails later, where nobody retries it."""
    if inspect.iscoroutine(value):
        value.close()
    raise TypeError(f"{name} is no async def, but returned an awaitable, {type(value).__name__}; write async def, or use Retrying(...).execute_async")
