"""From the user's iterable to calls, one at a time, so that a stop in between loses nothing and doubles nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, Protocol

from ..drivers._sync import Host
from ..errors import ClientClosedError
from ._calls import Place, Refusal

__all__ = ["AsyncCalls", "Calls", "CallsCore", "Plan"]


class Plan(Protocol):
    """How a bulk calls: what a client, and a function, provide."""

    @property
    def host(self) -> Host | None:
        """What performs the steps of the calls; ``None`` where each call is its own host."""

    @property
    def clock(self) -> Callable[[], float]: ...

    def check(self, element: Any) -> Exception | None:
        """Why *element* of the source cannot be called."""

    def check_again(self, element: Any) -> None:
        """Raises where *element* cannot be called once :meth:`calls` has looked at it."""

    def identity(self, element: Any) -> Any:
        """What may be only once in a batch; ``None`` where that does not matter."""

    def calls(self, places: Sequence[Place]) -> Sequence[Any]:
        """The calls for some elements. Raises where one of them cannot be sent."""


class CallsCore:
    """What is known of the source, and what of it waits.

    :ivar count: how many elements came.
    :ivar ended: whether the source has no more.
    """

    def __init__(self, source: Any, plan: Plan, batch_size: int) -> None:
        self._source = source
        self._plan = plan
        self._size = batch_size
        self.count = 0
        self.ended = False
        # Elements that have no call yet: the last one that came, and a batch that is not full.
        self._raw: list[Any] = []
        self._gathered: list[Place] = []
        self._identities: set[Any] = set()
        self._front: deque[Any] = deque()
        self._failure: Exception | None = None
        self._broken: BaseException | None = None

    def _place(self) -> None:
        """Find the last element its place. Interrupted before the end, it does so again; at the end no signal handler comes between."""
        element, plan = self._raw[0], self._plan
        place = (self.count, element)
        if len(self._gathered) >= self._size:
            # An interrupt came between the last one of a batch and the batch.
            self._flush()
        try:
            problem = plan.check(element)
        except Exception as broken:
            # Its __repr__ is.
            problem = broken
        if problem is None and self._size > 1:
            identity = plan.identity(element)
            if identity in self._identities:
                self._flush()
            if identity is not None:
                self._identities.add(identity)
            del self._raw[0]
            self.count += 1
            self._gathered.append(place)
            if len(self._gathered) >= self._size:
                self._flush()
            return
        made = [Refusal(place, problem)] if problem is not None else self._made([place])
        del self._raw[0]
        self.count += 1
        self._front.extend(made)

    def _flush(self) -> None:
        """Make a batch of what was gathered."""
        if self._gathered:
            made, none = self._made(self._gathered), set[Any]()
            # Statements between which no signal handler comes.
            self._gathered, self._identities = [], none
            self._front.extend(made)

    def _made(self, places: list[Place]) -> Sequence[Any]:
        try:
            return self._plan.calls(places)
        except ClientClosedError:
            raise
        except Exception as problem:
            if len(places) == 1:
                return [Refusal(places[0], problem)]
        # One of them is at fault, and the others go without it.
        good: list[Place] = []
        refused: list[Any] = []
        for place in places:
            try:
                self._plan.check_again(place[1])
                self._plan.calls([place])
            except ClientClosedError:
                raise
            except Exception as problem:
                refused.append(Refusal(place, problem))
            else:
                good.append(place)
        if len(good) == len(places):
            # What makes them all fail is in none of them, such as a source of ids that repeats itself.
            return [call for place in places for call in self._made([place])]
        return [*(self._made(good) if good else ()), *refused]

    def _over(self) -> bool:
        """The source has no more. Returns whether nothing is left to send.

        :raises RuntimeError: where it raised before, and so may have ended too early.
        """
        if self.ended:
            return True
        if self._broken is not None:
            raise RuntimeError(
                f"the source has ended since it raised {type(self._broken).__name__}, and what it had left is lost; give the rest to another bulk"
            )
        self._flush()
        self.ended = True
        return not self._front

    def _raised(self, problem: BaseException) -> None:
        """The source raised. Raises that, unless something is to be sent before."""
        if isinstance(problem, (StopIteration, StopAsyncIteration)):
            # Raised again, it would be taken for the end.
            wrong = RuntimeError(f"the source raised {type(problem).__name__}, which ends it only where it is an iterator of that kind; return instead")
            wrong.__cause__ = problem
            problem = wrong
        if not self._raw:
            self._broken = problem
        if not self._gathered or not isinstance(problem, Exception):
            raise problem
        self._failure = problem
        self._flush()

    def _next_is_here(self) -> bool:
        """Go one step without asking the source. Returns whether there was one; raises what the source raised."""
        if self._raw:
            self._place()
            return True
        problem, self._failure = self._failure, None
        if problem is not None:
            raise problem
        return False


class Calls(CallsCore, Iterator[Any]):
    """The calls of an iterable."""

    def __next__(self) -> Any:
        front = self._front
        while not front:
            if not self._next_is_here() and not self._ask() and self._over():
                raise StopIteration
        call = front[0]
        del front[0]
        return call

    def _ask(self) -> bool:
        try:
            # No signal handler comes between the end of an iterator's step and the next statement, as it may after a call of next().
            for element in self._source:
                self._raw.append(element)
                self._broken = None
                return True
        except BaseException as problem:
            self._raised(problem)
            return True
        return False


class AsyncCalls(CallsCore, AsyncIterator[Any]):
    """The calls of an async iterable."""

    async def __anext__(self) -> Any:
        while not self._front:
            if not self._next_is_here() and not await self._ask() and self._over():
                raise StopAsyncIteration
        call = self._front[0]
        del self._front[0]
        return call

    async def _ask(self) -> bool:
        if self.count and self._broken is None and getattr(self._source, "ag_frame", self) is None:
            # A generator that the end of its loop closed.
            self._broken = GeneratorExit()
        try:
            element = await anext(self._source)
        except StopAsyncIteration:
            return False
        except BaseException as problem:
            self._raised(problem)
            return True
        self._raw.append(element)
        self._broken = None
        return True
