"""Who runs the scripts: threads over requests, or tasks over aiohttp."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from soak_oracle import NOISE, Oracle
from soak_plan import Operation
from soak_sabotage import Sabotage
from soak_scripts import SCRIPTS, Script

import rpcretry
import rpcretry.backends.aiohttp
import rpcretry.backends.requests
from rpcretry import CircuitBreaker, ConcurrencyLimit, Joining, RateLimit, RetryBudget, RetryMetrics, RetryStrategy
from rpcretry.retry import ExponentialBackoff

# After a refusal a caller does something else for so many seconds, times the number of callers. Else they would be through with all their
# requests before an open circuit lets the next one pass.
REFUSED_PAUSE = 0.005


# Callers slow down where the machine does: after each operation they pause for so many times what a wait is late by, once it is late by TOLERATED, and
# for LONGEST_PAUSE seconds at the most.
SLOWING, TOLERATED, LONGEST_PAUSE = 4.0, 0.03, 1.0
BEAT = 0.02


class Pace:
    """How late waits of the moment are: a caller that a busy machine keeps from running measures the machine, not the client.

    :ivar lag: seconds by which waits are late, lately.
    :ivar longest: the longest of all.
    """

    def __init__(self) -> None:
        self.lag = self.longest = 0.0

    def beat(self, late: float) -> None:
        """A wait was this late."""
        late = max(0.0, late)
        self.lag = max(late, self.lag * 0.97)
        self.longest = max(self.longest, late)

    def pause(self, was_refused: bool, width: int) -> float:
        """Seconds to wait after an operation."""
        slow = min(self.lag * SLOWING, LONGEST_PAUSE) if self.lag > TOLERATED else 0.0
        return max(slow, REFUSED_PAUSE * width if was_refused else 0.0)


class Layers:
    """What all calls of a run have in common."""

    def __init__(self, width: int) -> None:
        self.budget = RetryBudget(capacity=200, refund=0.2)
        self.concurrency = ConcurrencyLimit(max(2, width * 3 // 4))
        self.rate = RateLimit(5_000, burst=500)
        self.breaker = CircuitBreaker("soak", failure_rate=0.7, window=80, minimum_calls=40, recovery_timeout=0.25)
        self.metrics = RetryMetrics(keep=0)

    def options(self) -> dict[str, Any]:
        """Those of a client, which has them all."""
        return {
            "retry_strategy": RetryStrategy(idempotent="get_*", backoff=ExponentialBackoff(attempts=3, base=0.01, factor=2.0, max_value=0.1, jitter=True)),
            "timeout": 1.5,
            "layers": [self.budget, self.concurrency, self.rate, self.breaker],
            "on_event": [self.metrics],
            "connect_timeout": 0.5,
            "max_response_size": 1 << 20,
        }

    def unreturned(self) -> list[str]:
        """What the layers hold though no call is under way."""
        found = [
            ("places of the concurrency limit", self.concurrency.in_use),
            ("in the queue of the concurrency limit", self.concurrency.waiting),
            ("granted places that nobody took", len(self.concurrency._granted)),
            ("in the queue of the rate limit", self.rate.waiting),
            ("permits of the breaker", len(self.breaker._permits) + len(self.breaker._shares)),
            ("retries that the budget has on its list", len(self.budget._spent)),
        ]
        out = [f"{count} {what}" for what, count in found if count]
        if not 0 <= self.budget.level <= self.budget.capacity:
            out.append(f"the budget's level is {self.budget.level} of {self.budget.capacity}")
        if not 0 <= self.rate.level <= 500:
            out.append(f"the rate limit's level is {self.rate.level} of 500")
        return out


class SyncHost:
    """Runs scripts in threads, over requests.

    :param sabotage: what makes the client wrong on purpose.
    """

    is_async = False

    def __init__(self, url: str, oracle: Oracle, layers: Layers, sabotage: Sabotage | None = None) -> None:
        self.oracle = oracle
        self.layers = layers
        self.pace = Pace()
        self.tasks_left: list[str] = []
        self.client: Any = rpcretry.backends.requests.Client(url, middlewares=[] if sabotage is None else [sabotage.sync()], **layers.options())
        self.joined: Any = None

    def run(self, operations: Iterator[Operation], width: int) -> None:
        """Do all *operations*, *width* at once."""
        lock = threading.Lock()

        def work() -> None:
            while True:
                with lock:
                    operation = next(operations, None)
                if operation is None:
                    return
                time.sleep(self.pace.pause(self.perform(operation), width))

        def beat() -> None:
            while not over.is_set():
                due = time.monotonic() + BEAT
                time.sleep(BEAT)
                self.pace.beat(time.monotonic() - due)

        over = threading.Event()
        heart = threading.Thread(target=beat, name="soak-pace")
        heart.start()
        threads = [threading.Thread(target=work, name=f"soak-{number}") for number in range(width)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        over.set()
        heart.join()

    def perform(self, operation: Operation) -> bool:
        """Do one. Returns whether any of it was refused."""
        self.oracle.begins(operation)
        try:
            self._drive(SCRIPTS[operation.kind](self, operation))
        except Exception as problem:
            self.oracle.documented(f"{operation.kind} {operation.index}, which lets nothing through", problem)
        return self.oracle.ends(operation)

    def _drive(self, script: Script) -> None:
        try:
            value = next(script)
            while True:
                value = script.send(value)
        except StopIteration:
            return

    def filled(self, batch: Any, fill: Callable[[Any], None]) -> None:
        with batch:
            fill(batch)

    def consumed(self, bulk: Any, take: Callable[[Any], None], most: int | None) -> None:
        try:
            for number, item in enumerate(bulk, 1):
                take(item)
                if number == most:
                    return
        finally:
            bulk.close()

    def together(self, scripts: list[Script], cut: tuple[float, int] | None) -> None:
        for script in scripts:
            self._drive(script)

    def probe(self) -> None:
        """One call that counts for nothing but the breaker."""
        self.client.call("get_price", "PROBE", _deadline=1.0)

    def close(self) -> None:
        self.client.close()


class AsyncHost:
    """Runs scripts in tasks, over aiohttp."""

    is_async = True

    def __init__(self, url: str, oracle: Oracle, layers: Layers, sabotage: Sabotage | None = None) -> None:
        self.oracle = oracle
        self.layers = layers
        self.pace = Pace()
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(self._told)
        middlewares = [] if sabotage is None else [sabotage.awaited()]

        async def opened() -> tuple[Any, Any]:
            client, joining = rpcretry.backends.aiohttp.Client, Joining(max_size=20, dedupe="get_price")
            return client(url, middlewares=middlewares, **layers.options()), client(url, middlewares=middlewares, joining=joining, **layers.options())

        self.client, self.joined = self._loop.run_until_complete(opened())
        self.tasks_left: list[str] = []

    def _told(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.oracle.offend(NOISE, f"the loop's exception handler: {context!r:.1000}")

    def run(self, operations: Iterator[Operation], width: int) -> None:
        """Do all *operations*, *width* at once."""

        async def work() -> None:
            for operation in operations:
                await asyncio.sleep(self.pace.pause(await self.perform(operation), width))

        async def beat() -> None:
            while True:
                due = time.monotonic() + BEAT
                await asyncio.sleep(BEAT)
                self.pace.beat(time.monotonic() - due)

        async def workers() -> None:
            heart = asyncio.create_task(beat())
            async with asyncio.TaskGroup() as group:
                for _ in range(width):
                    group.create_task(work())
            heart.cancel()

        self._loop.run_until_complete(workers())

    async def perform(self, operation: Operation) -> bool:
        """Do one, and cut it off where it says so. Returns whether any of it was refused."""
        oracle = self.oracle
        oracle.begins(operation)
        script = SCRIPTS[operation.kind](self, operation)
        was_cut = False
        try:
            if operation.cut is None or operation.cut_as_whole is None:
                await self._drive(script)
            elif operation.cut[1] == "timeout":
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(operation.cut[0]) as limit:
                        await self._drive(script)
                was_cut = limit.expired()
            else:
                was_cut = await self._cancelled(script, operation.cut[0])
        except Exception as problem:
            oracle.documented(f"{operation.kind} {operation.index}, which lets nothing through", problem)
        return oracle.ends(operation, was_cut=was_cut)

    async def _cancelled(self, script: Script, after: float) -> bool:
        task = asyncio.create_task(self._drive(script))
        timer = asyncio.get_running_loop().call_later(after, task.cancel)
        await asyncio.wait([task])
        timer.cancel()
        if task.cancelled():
            return True
        task.result()
        return False

    async def _drive(self, script: Script) -> None:
        try:
            step = next(script)
            while True:
                try:
                    value = await step if step is not None else None
                except BaseException as problem:
                    step = script.throw(problem)
                else:
                    step = script.send(value)
        except StopIteration:
            return

    async def filled(self, batch: Any, fill: Callable[[Any], None]) -> None:
        async with batch:
            fill(batch)

    async def consumed(self, bulk: Any, take: Callable[[Any], None], most: int | None) -> None:
        number = 0
        try:
            async for item in bulk:
                take(item)
                number += 1
                if number == most:
                    return
        finally:
            await bulk.aclose()

    async def together(self, scripts: list[Script], cut: tuple[float, int] | None) -> None:
        tasks = [asyncio.create_task(self._drive(script)) for script in scripts]
        timer = None if cut is None else asyncio.get_running_loop().call_later(cut[0], tasks[cut[1]].cancel)
        try:
            await asyncio.wait(tasks)
        finally:
            if timer is not None:
                timer.cancel()
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError):
                raise result

    def probe(self) -> None:
        """One call that counts for nothing but the breaker."""
        self._loop.run_until_complete(self.client.call("get_price", "PROBE", _deadline=1.0))

    def close(self) -> None:
        async def closed() -> None:
            await self.client.aclose()
            await self.joined.aclose()
            # aiohttp closes transports in the turn after.
            await asyncio.sleep(0.05)
            self.tasks_left = [repr(task) for task in asyncio.all_tasks() if task is not asyncio.current_task()]

        self._loop.run_until_complete(closed())
        self._loop.close()


Host = SyncHost | AsyncHost
