"""Clients of either kind that call in the background, and the book in which a server writes down what it executed."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

import rpcretry
import rpcretry.backends.aiohttp
import rpcretry.backends.requests
from rpcretry import ConnectionLostError, HTTPStatusError, Request

KINDS = ("requests", "aiohttp")

both = pytest.mark.parametrize("kind", KINDS)


class Caller:
    """A client whose calls look the same.

    The loop of an async one runs in a thread of its own all the time, as that of a real program does: so it learns of a
    connection that the server closes meanwhile.

    :param kind: ``requests`` or ``aiohttp``.
    :param options: those of the client.
    """

    def __init__(self, kind: str, url: str, *, threads: int = 8, **options: Any) -> None:
        self.kind = kind
        self._loop: asyncio.AbstractEventLoop | None = None
        if kind == "requests":
            self._pool = ThreadPoolExecutor(threads)
            self.client: Any = rpcretry.backends.requests.Client(url, **options)
        else:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="fronts-loop")
            self._thread.start()
            self.client = rpcretry.backends.aiohttp.Client(url, **options)

    def submit(self, name: str, *args: Any, **options: Any) -> Future[Any]:
        """Begin a call of the client's method *name*."""
        act: Callable[..., Any] = getattr(self.client, name)
        if self._loop is None:
            return self._pool.submit(act, *args, **options)

        async def run() -> Any:
            return await act(*args, **options)

        return asyncio.run_coroutine_threadsafe(run(), self._loop)

    def __call__(self, name: str, *args: Any, **options: Any) -> Any:
        return self.submit(name, *args, **options).result(60)

    def handles(self, *requests: Request) -> list[Any]:
        """The handles of a batch of which nothing came."""
        batch = self.client.batch()

        async def run() -> None:
            async with batch:
                for request in requests:
                    batch.send(request)

        if self._loop is None:
            with pytest.raises(rpcretry.RpcRetryError), batch:
                for request in requests:
                    batch.send(request)
        else:
            with pytest.raises(rpcretry.RpcRetryError):
                asyncio.run_coroutine_threadsafe(run(), self._loop).result(60)
        return list(batch)

    def problem(self, name: str, *args: Any, **options: Any) -> Any:
        """The exception of a call that must fail."""
        try:
            self(name, *args, **options)
        except Exception as problem:
            return problem
        raise AssertionError("a call that must fail did not")

    def close(self) -> None:
        if self._loop is None:
            self.client.close()
            self._pool.shutdown()
            return
        self("aclose")
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Tally:
    """What became of calls whose params are all different.

    :ivar answered: the params of those that have their result.
    :ivar failed: the failure of each of the others.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.answered: list[Any] = []
        self.failed: dict[Any, Exception] = {}

    def note(self, param: Any, result: Any) -> None:
        with self._lock:
            if isinstance(result, Exception):
                self.failed[param] = result
            else:
                assert result == param, f"{param} got the result of {result}"
                self.answered.append(param)

    def check(self, executed: Counter[Any], most: int = 1) -> None:
        """Compare with all that the server executed of the method or methods.

        :param most: how often a call may have been executed.
        """
        assert all(count <= most for count in executed.values()), executed.most_common(3)
        assert [param for param in self.answered if executed[param] == 0] == []
        for param, problem in self.failed.items():
            delivery = getattr(problem, "delivery", None)
            if delivery is not rpcretry.Delivery.MAYBE_EXECUTED:
                assert executed[param] == 0, f"{problem!r} says {delivery}, and it was executed"


class Traffic:
    """Calls one after the other in several threads, each with a param of its own, until told to stop."""

    def __init__(self, caller: Caller, method: str, threads: int, prefix: str = "") -> None:
        self.tally = Tally()
        self._prefix = prefix
        self._caller, self._method = caller, method
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(threads)]

    def _run(self, thread: int) -> None:
        for number in range(100_000):
            if self._over.is_set():
                return
            param = f"{self._prefix}-{thread}-{number}"
            try:
                self.tally.note(param, self._caller("call", self._method, param=param))
            except (ConnectionError, HTTPStatusError) as problem:
                self.tally.note(param, problem)
                # Nobody is there: no need to ask a thousand times.
                time.sleep(0.02)

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)

    def passes(self, more: int) -> None:
        """Wait until that many more calls have been answered."""
        target, until = len(self.tally.answered) + more, time.monotonic() + 40
        while len(self.tally.answered) < target:
            assert time.monotonic() < until, "no calls are answered any more"
            time.sleep(0.005)


def pairs_of_calls(idling: Iterable[tuple[Caller, Tally, float]]) -> None:
    """Two calls in each of many threads, and between them a gap of so many seconds.

    The second one is by turns ``get``, which the callers' strategy knows for idempotent and which must not fail, and ``pay``,
    which may lose its connection.
    """

    def pair(caller: Caller, tally: Tally, gap: float, number: int) -> None:
        method = ("get", "pay")[number % 2]
        assert caller("call", "get", param=f"first-{number}") == f"first-{number}"
        time.sleep(gap)
        param = f"{method}-{number}"
        try:
            tally.note(param, caller("call", method, param=param))
        except ConnectionLostError as problem:
            tally.note(param, problem)

    chosen = list(idling)
    with ThreadPoolExecutor(len(chosen)) as pool:
        futures = [pool.submit(pair, *one, number) for number, one in enumerate(chosen)]
        for future in futures:
            future.result(60)
    for _, tally, _ in chosen:
        assert [problem for param, problem in tally.failed.items() if param.startswith("get")] == []
