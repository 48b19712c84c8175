"""One behaviour, both drivers: a client over a scripted backend in virtual time, sync or async."""

from __future__ import annotations

import asyncio
import gc
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest

from rpcretry import AsyncClient, Client
from rpcretry.events import Event
from rpcretry.outcome import Attempt, Member, Outcome, Retry, Stop, Wait
from rpcretry.retry import Layer
from rpcretry.testing import AsyncScriptedBackend, ScriptedBackend, VirtualTime, took
from rpcretry.transport import Exchange, Reply

DRIVERS = ("sync", "async")

both_drivers = pytest.mark.parametrize("driver", DRIVERS)


class Slow(NamedTuple):
    """A script's item that takes a while; it finds its clock when the rig is built."""

    seconds: float
    item: Any


def fresh(error: Exception) -> Callable[[Exchange], Exception]:
    """An item that raises an instance of its own at each exchange, as a real backend does."""

    def make(_: Exchange) -> Exception:
        return type(error)(*error.args)

    return make


def raw(document: bytes, status: int = 200) -> Reply:
    return Reply(document, status)


class Rig:
    """A client of either kind whose calls look the same.

    :ivar time: its clock; ``delays`` are the waits that it made.
    :ivar events: what its sink was told.
    """

    def __init__(self, driver: str, *script: Any, watched: bool = False, **options: Any) -> None:
        self.driver = driver
        self.time = VirtualTime()
        self.events: list[Event] = []
        items = [took(self.time, item.seconds, item.item) if isinstance(item, Slow) else item for item in script]
        if watched:
            options["on_event"] = self.events.append
        self.backend: Any
        self.client: Any
        if driver == "sync":
            self.backend = ScriptedBackend(items)
            self.client = Client(self.backend, clock=self.time.clock, sleep=self.time.sleep, **options)
        else:
            self.backend = AsyncScriptedBackend(items)
            self.client = AsyncClient(self.backend, clock=self.time.clock, sleep=self.time.asleep, **options)

    def run(self, act: Callable[[Any], Any]) -> Any:
        """What *act* makes of the client, awaited where it needs to be."""
        return finish(lambda: act(self.client))

    def call(self, *args: Any, **params: Any) -> Any:
        return self.run(lambda client: client.call(*args, **params))

    def send(self, *args: Any, **params: Any) -> Any:
        return self.run(lambda client: client.send(*args, **params))

    def notify(self, *args: Any, **params: Any) -> Any:
        return self.run(lambda client: client.notify(*args, **params))

    @property
    def sent(self) -> int:
        return len(self.backend.exchanges)

    @property
    def waits(self) -> list[float]:
        """The seconds of each wait, without the noise of the clock's large start."""
        return [round(delay, 6) for delay in self.time.delays]

    @property
    def told(self) -> list[str]:
        return [type(event).__name__ for event in self.events]


def finish(act: Callable[[], Any]) -> Any:
    """The value of *act*, which may be a coroutine function in disguise."""
    value = act()
    if not inspect.isawaitable(value):
        return value

    async def wait() -> Any:
        return await value

    return asyncio.run(wait())


class Recorder(Layer):
    """A layer that writes down what it is asked and says what it is told to.

    :param waits: what ``admit`` answers, in turn: a Wait, an exception to raise, ``None`` when there is no more.
    :param judgement: what ``judge`` makes of a verdict.
    """

    def __init__(self, name: str = "layer", log: list[str] | None = None, *, waits: Any = (), judgement: Callable[[Retry], Any] | None = None) -> None:
        self.name = name
        self.log: list[str] = [] if log is None else log
        self.waits = list(waits)
        self.judgement = judgement
        self.attempts: list[Attempt] = []
        self.outcomes: list[list[Outcome]] = []
        self.verdicts: list[list[Retry | Stop | None]] = []

    def admit(self, attempt: Attempt, now: float) -> Wait | None:
        self.log.append(f"{self.name}.admit")
        self.attempts.append(attempt)
        answer = self.waits.pop(0) if self.waits else None
        if isinstance(answer, BaseException):
            raise answer
        if callable(answer):
            answer = answer(attempt, now)
        return answer

    def judge(self, attempt: Attempt, member: Member, outcome: Outcome, verdict: Retry, now: float) -> Retry | Stop:
        self.log.append(f"{self.name}.judge")
        return verdict if self.judgement is None else self.judgement(verdict)

    def settle(self, attempt: Attempt, outcomes: Any, now: float) -> None:
        self.log.append(f"{self.name}.settle")
        self.outcomes.append(list(outcomes))
        self.verdicts.append([member.verdict for member in attempt.members])

    def abandon(self, attempt: Attempt, now: float) -> None:
        self.log.append(f"{self.name}.abandon")

    def count(self, what: str) -> int:
        return self.log.count(f"{self.name}.{what}")


@contextmanager
def no_collector() -> Iterator[None]:
    """Without the cycle collector, what is gone at once was held by nothing, not even by a cycle."""
    was = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
