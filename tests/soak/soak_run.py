"""One run over one backend, from before the client is made until after it is closed."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from soak_control import ServerProcess
from soak_hosts import AsyncHost, Host, Layers, SyncHost
from soak_measures import Reading, Watchdog, fill_caches, listening, read
from soak_oracle import (
    GROWTH,
    LEAKED_CONNECTIONS,
    LEAKED_FDS,
    LEAKED_OBJECTS,
    LEAKED_PERMITS,
    LEAKED_TASKS,
    LEAKED_THREADS,
    METHODS,
    UNDOCUMENTED,
    UNEXPLAINED,
    Oracle,
)
from soak_plan import Operation, Plan
from soak_sabotage import Sabotage

import rpcretry
from rpcretry.metrics import MetricsSnapshot

# What the server is like, and for which part of the requests. The first is the warm-up, after which memory is read.
PHASES = [("noisy", 0.10), ("calm", 0.10), ("noisy", 0.45), ("outage", 0.04), ("restart", 0.06), ("recovery", 0.15), ("calm", 0.10)]
WIDTHS = {"requests": 32, "aiohttp": 200}
MOST_GROWTH = 0.05
LEAST_FOR_MEMORY = 10_000
BREAKER_CLOSES_WITHIN = 5.0


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is to be run.

    :ivar phases: names of phases of the server and the part of the requests for which each lasts.
    :ivar seconds: after this time no more requests are begun.
    """

    backend: str
    calls: int
    seed: int
    seconds: float
    width: int | None = None
    sabotage: str | None = None
    phases: tuple[tuple[str, float], ...] = tuple(PHASES)

    @property
    def at_once(self) -> int:
        """How many operations are under way at once."""
        return self.width or WIDTHS[self.backend]

    @property
    def judges_memory(self) -> bool:
        """Whether the warm-up is long enough to compare memory with."""
        return self.calls >= LEAST_FOR_MEMORY or self.sabotage == "growth"


@dataclasses.dataclass
class Finding:
    """What came of a run."""

    settings: Settings
    oracle: Oracle
    done: int
    seconds: float
    stall: float
    metrics: MetricsSnapshot
    server: dict[str, Any]
    executed: Counter[str]
    baseline: Reading
    last: Reading
    histories: dict[str, Any]

    @property
    def growth(self) -> float:
        """By which part the resident memory grew after the warm-up."""
        return self.last.rss / self.baseline.rss - 1

    @property
    def is_clean(self) -> bool:
        """Whether nothing was wrong, and nothing left out."""
        return not self.oracle.found and self.done == self.settings.calls


def run(settings: Settings, server: ServerProcess | None = None) -> Finding:
    """Run over one backend.

    :param server: a process to use, where several runs share one; without it, one is started.
    """
    if server is None:
        with ServerProcess() as own:
            return run(settings, own)
    server.begin(settings.seed)
    fill_caches()
    oracle = Oracle(settings.calls)
    plan = Plan(settings.seed, settings.calls, is_async=settings.backend == "aiohttp")
    began = time.monotonic()
    sabotage = None if settings.sabotage is None else Sabotage(settings.sabotage)
    try:
        before = read()
        with listening(oracle), Watchdog(oracle) as watchdog:
            layers = Layers(settings.at_once)
            host = _host(settings.backend, server, oracle, layers, sabotage)
            warm_up, *phases = settings.phases
            host.run(_phased(plan, server, [warm_up], began + settings.seconds), settings.at_once)
            baseline = read()
            host.run(_phased(plan, server, phases, began + settings.seconds, start=warm_up[1]), settings.at_once)
            server.ask("phase", name="calm")
            last = read()
            _check_breaker(host, oracle)
            host.close()
            state = _closed_state(server, oracle)
        _check_memory(oracle, before, baseline, last, settings)
        for what in layers.unreturned():
            oracle.offend(LEAKED_PERMITS, what)
        for task in host.tasks_left:
            oracle.offend(LEAKED_TASKS, task)
        metrics, stall = layers.metrics.snapshot(), max(watchdog.stall, host.pace.longest)
        del host, layers
        _check_leaks(oracle, before, read())
    finally:
        if sabotage is not None:
            sabotage.end()
    book = server.ask("executed")
    oracle.reconcile(book["executed"], book["misused"], plan.handed_out)
    for token in server.ask("without a fault", tokens=oracle.to_explain):
        oracle.offend(UNEXPLAINED, f"{METHODS[oracle.method[token]]} for request {token}: {oracle.end_of(token)}", token)
    histories = server.ask("history", tokens=[offence.token for offence in oracle.offences if offence.token is not None])
    executed = Counter({method: sum(by_token.values()) for method, by_token in book["executed"].items()})
    return Finding(settings, oracle, plan.handed_out, time.monotonic() - began, stall, metrics, state, executed, baseline, last, histories)


def _host(backend: str, server: ServerProcess, oracle: Oracle, layers: Layers, sabotage: Sabotage | None) -> Host:
    if sabotage is not None:
        sabotage.layers, sabotage.port = layers, server.port
    return (SyncHost if backend == "requests" else AsyncHost)(server.url, oracle, layers, sabotage)


def _phased(plan: Plan, server: ServerProcess, phases: list[tuple[str, float]], over: float, start: float = 0.0) -> Iterator[Operation]:
    """The operations of *phases*; the server changes while calls are under way, as servers do."""
    until = start
    for name, part in phases:
        server.ask("phase", name=name)
        until += part
        for operation in plan.until(round(plan.calls * until)):
            yield operation
            if time.monotonic() > over:
                return


# --- checks ---


def _check_breaker(host: Host, oracle: Oracle) -> None:
    """With a server that is well, the circuit closes soon."""
    breaker = host.layers.breaker
    ends = time.monotonic() + BREAKER_CLOSES_WITHIN
    while not breaker.is_closed and time.monotonic() < ends:
        try:
            host.probe()
        except rpcretry.RpcRetryError:
            pass
        except Exception as problem:
            oracle.offend(UNDOCUMENTED, f"a call while the breaker is not closed: {type(problem).__name__}: {problem}")
        time.sleep(0.05)
    if not breaker.is_closed:
        oracle.offend(LEAKED_PERMITS, f"the breaker is still {breaker.state.value} after {BREAKER_CLOSES_WITHIN:g} s with a server that is well")


def _closed_state(server: ServerProcess, oracle: Oracle) -> dict[str, Any]:
    """The server's numbers, once it has noticed that the client was closed."""
    state: dict[str, Any] = {}
    for _ in range(40):
        state = server.ask("state")
        if not state["open"]:
            return state
        time.sleep(0.05)
    oracle.offend(LEAKED_CONNECTIONS, f"{state['open']} connections are open 2 s after the client was closed")
    return state


def _check_memory(oracle: Oracle, before: Reading, baseline: Reading, last: Reading, settings: Settings) -> None:
    for what, first, then in (("resident memory", baseline.rss, last.rss), ("allocated blocks", baseline.blocks, last.blocks)):
        if settings.judges_memory and then > first * (1 + MOST_GROWTH):
            oracle.offend(GROWTH, f"{what} grew from {first:,} after the warm-up to {then:,} at the end, {then / first - 1:.1%}")
    alive = last.objects - before.objects
    if alive:
        oracle.offend(LEAKED_OBJECTS, f"alive while no call is under way: {dict(alive)}")


def _check_leaks(oracle: Oracle, before: Reading, after: Reading) -> None:
    more = {name: what for name, what in after.fds.items() if before.fds.get(name) != what}
    if len(after.fds) > len(before.fds):
        oracle.offend(LEAKED_FDS, f"{len(before.fds)} before, {len(after.fds)} after: {more}")
    threads = Counter(after.threads) - Counter(before.threads)
    if threads:
        oracle.offend(LEAKED_THREADS, f"left: {list(threads)}")
    alive = after.objects - before.objects
    if alive:
        oracle.offend(LEAKED_OBJECTS, f"alive after the client was closed: {dict(alive)}")
