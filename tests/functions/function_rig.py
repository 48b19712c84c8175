"""One behaviour, every way in: a function over a script in virtual time, sync or async, decorated or executed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from support import DRIVERS, finish

from rpcretry.events import Event
from rpcretry.functions import Retrying
from rpcretry.testing import VirtualTime

both = pytest.mark.parametrize("driver", DRIVERS)
every_way = pytest.mark.parametrize(("driver", "form"), [(driver, form) for driver in DRIVERS for form in ("decorated", "executed")])


class Takes(NamedTuple):
    """A script's item that takes a while."""

    seconds: float
    item: Any


def lost() -> Any:
    """An item that fails with an instance of its own each time."""
    raise ConnectionError("lost")


class FunctionRig:
    """A retried function that plays a script, one item for each try; the last item again when they run out.

    An item is an exception class or instance to raise, a callable whose value counts, or a value.

    :ivar tries: the arguments of every try.
    :ivar waits: the seconds of each wait.
    """

    def __init__(self, driver: str, *script: Any, form: str = "decorated", watched: bool = False, **options: Any) -> None:
        self.driver, self.form = driver, form
        self.time = VirtualTime()
        self.events: list[Event] = []
        self.tries: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        self._script = list(script)
        if watched:
            options["on_event"] = self.events.append
        if "backoff" not in options and "strategy" not in options:
            options.setdefault("jitter", None)
        options.setdefault("sleep", self.time.sleep if driver == "sync" else self.time.asleep)
        self.retrying = Retrying(clock=self.time.clock, **options)

        def sync_play(*args: Any, **kwargs: Any) -> Any:
            return self._play(args, kwargs)

        async def async_play(*args: Any, **kwargs: Any) -> Any:
            await asyncio.sleep(0)
            return self._play(args, kwargs)

        self.plain: Callable[..., Any] = sync_play if driver == "sync" else async_play
        self.function = self.retrying(self.plain)

    def _play(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self.tries.append((args, kwargs))
        item = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        if isinstance(item, Takes):
            self.time.advance(item.seconds)
            item = item.item
        if isinstance(item, BaseException) or (isinstance(item, type) and issubclass(item, BaseException)):
            raise item
        return item() if callable(item) else item

    def start(self, /, *args: Any, **kwargs: Any) -> Any:
        """The call: its value, or its coroutine."""
        if self.form == "decorated":
            return self.function(*args, **kwargs)
        act: Any = self.retrying.execute if self.driver == "sync" else self.retrying.execute_async
        return act(self.plain, *args, **kwargs)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        return finish(lambda: self.start(*args, **kwargs))

    def fails(self, kind: type[BaseException], /, *args: Any, **kwargs: Any) -> Any:
        """The exception of a call, which must be exactly of that class."""
        with pytest.raises(kind) as caught:
            self(*args, **kwargs)
        assert type(caught.value) is kind
        return caught.value

    @property
    def count(self) -> int:
        return len(self.tries)

    @property
    def waits(self) -> list[float]:
        return [round(delay, 6) for delay in self.time.delays]

    @property
    def told(self) -> list[str]:
        return [type(event).__name__ for event in self.events]
