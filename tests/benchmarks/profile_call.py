"""Where the microseconds of a call go: what each part adds when it is added, and which functions the time is spent in.

The first tables are measured without a profiler: the same call with one part more in each row, or a part of it alone. The
last ones come from cProfile, whose own cost for each call of a function is estimated and taken off.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import gc
import logging
import pstats
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from serving import served
from transports import AsyncNull, Null, Trouble

import rpcretry
import rpcretry.backends.aiohttp
from rpcretry.client import Joining
from rpcretry.codec import encode_request, read_single
from rpcretry.context import RUNNING
from rpcretry.retry import ExponentialBackoff, ImmediateBackoff, RetryStrategy

STRATEGY = RetryStrategy(backoff=ExponentialBackoff(attempts=3), codes={2001}, exceptions={TimeoutError})
MANY, TURNS = 1_000, 7


class Part(NamedTuple):
    """A row: what is measured, its microseconds, and what it adds to the row it is compared with."""

    name: str
    microseconds: float
    added: float | None = None


def each(function: Callable[[], object], count: int, rounds: int) -> float:
    """Microseconds of a call of *function*; the loop's own are taken off."""
    turns = range(count)
    samples = []
    gc.collect()
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in turns:
            pass
        middle = time.perf_counter()
        for _ in turns:
            function()
        samples.append((time.perf_counter() - middle) - (middle - start))
    return statistics.median(samples) / count * 1e6


def null_call(scale: float, rounds: int) -> list[Part]:
    """The parts of a call that succeeds at once, each alone. Those further in are parts of those further out."""
    client = rpcretry.Client(Null(), retry_strategy=STRATEGY)
    shared: Any = client._shared
    unset: Any = rpcretry.UNSET
    none_given = (unset,) * 7

    def build() -> Any:
        return client._method_call("sum", (1, 2), {}, *none_given)

    call = build()
    request, reader, clock = call._request, call._reader, shared.clock
    exchange = call._exchange(call.open(clock()))
    reply = shared.perform(exchange)

    def context() -> None:
        RUNNING.reset(RUNNING.set([call, clock]))

    def keep() -> Any:
        call.received(reply, now)
        return call.result()

    now = clock()
    count = int(40_000 * scale)
    rows: dict[str, Callable[[], object]] = {
        "the whole call": lambda: client.call("sum", 1, 2),
        "build it: options, id, request, body": build,
        "- of that: encode_request": lambda: encode_request(reader.codec, request),
        "- - of that: the codec's dumps of the params": lambda: reader.codec.dumps((1, 2)),
        "drive it, with a transport that answers": lambda: shared_drive(call, shared),
        "- of that: start, which makes the Exchange": lambda: call.start(now),
        "- of that: the transport of the benchmark": lambda: shared.perform(exchange),
        "- of that: received and result": keep,
        "- - of that: read_single": lambda: read_single(reader, reply, 1),
        "- - - of that: pydantic_core's from_json": lambda: reader._quick(reply.body),
        "- of that: current_attempt's context variable": context,
        "- of that: the clock, twice": lambda: (clock(), clock()),
    }
    # A function that does nothing is what each row's lambda costs besides.
    empty = each(lambda: None, count, rounds)
    return [Part(name, each(row, count, rounds) - (0.0 if row is build else empty)) for name, row in rows.items()]


def shared_drive(call: Any, shared: Any) -> Any:
    return rpcretry.Client._drive(call, shared)


def layers(scale: float, rounds: int) -> list[Part]:
    """The same call with one more of what a client may have in each row."""
    settings: dict[str, Callable[[], dict[str, Any]]] = {
        "strategy alone": dict,
        "and a deadline": lambda: {"deadline": 5},
        "and RetryBudget": lambda: {"deadline": 5, "layers": [rpcretry.RetryBudget()]},
        "and CircuitBreaker": lambda: {"deadline": 5, "layers": [rpcretry.RetryBudget(), rpcretry.CircuitBreaker()]},
        "and RetryMetrics": lambda: {"deadline": 5, "layers": [rpcretry.RetryBudget(), rpcretry.CircuitBreaker()], "on_event": rpcretry.RetryMetrics()},
    }
    clients = {name: rpcretry.Client(Null(), retry_strategy=STRATEGY, **make()) for name, make in settings.items()}
    samples: dict[str, list[float]] = {name: [] for name in clients}
    for _ in range(rounds):
        for name, client in clients.items():
            samples[name].append(each(lambda client=client: client.call("sum", 1, 2), int(4_000 * scale), 1))
    found = {name: statistics.median(values) for name, values in samples.items()}
    before = [*found.values()][:1] + [*found.values()][:-1]
    return [Part(name, value, value - last if value != last else None) for (name, value), last in zip(found.items(), before, strict=True)]


def joined(url: str, scale: float, rounds: int) -> list[Part]:
    """1,000 calls at once: what tasks cost, what calls add to it, what joining does, and what is the exchange over loopback."""
    loop = asyncio.new_event_loop()

    async def nothing() -> None: ...

    async def opened() -> dict[str, Callable[[], Any]]:
        null = rpcretry.AsyncClient(AsyncNull(), retry_strategy=STRATEGY)
        joining = rpcretry.AsyncClient(AsyncNull(), retry_strategy=STRATEGY, joining=Joining())
        over = rpcretry.backends.aiohttp.Client(url, retry_strategy=STRATEGY, joining=Joining())
        clients.append(over)
        return {
            "gather and tasks that do nothing": nothing,
            "calls, a transport that answers at once": lambda: null.proxy.sum(1, 2),
            "the same, joined": lambda: joining.proxy.sum(1, 2),
            "joined, over loopback": lambda: over.proxy.sum(1, 2),
        }

    clients: list[Any] = []
    kinds = loop.run_until_complete(opened())

    async def several(make: Callable[[], Any]) -> None:
        await asyncio.gather(*[make() for _ in range(MANY)])

    samples: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(max(3, int(rounds * scale)) + 1):
        for name, make in kinds.items():
            start = time.perf_counter()
            loop.run_until_complete(several(make))
            samples[name].append((time.perf_counter() - start) / MANY * 1e6)
    for client in clients:
        loop.run_until_complete(client.aclose())
    loop.close()
    found = {name: statistics.median(values[1:]) for name, values in samples.items()}
    rows, last = [], None
    for name, value in found.items():
        rows.append(Part(name, value, None if last is None else value - last))
        last = value
    return rows


# --- by function ---


class Function(NamedTuple):
    """A function's share of one call.

    :ivar calls: how often one call of the client calls it.
    :ivar own: its own microseconds in one call of the client, without those of what it calls.
    """

    name: str
    calls: float
    own: float


def by_function(run: Callable[[int], float], count: int) -> tuple[float, list[Function]]:
    """Microseconds of one call without the profiler, and where they go.

    cProfile makes each call of a function longer by about the same. How much that is follows from the whole with it and without
    it; half is taken from the function that is called, and half from the one that calls.
    """
    run(count // 10 + 1)
    some = max(1, count // TURNS)
    plain = statistics.median(run(some) for _ in range(TURNS)) / some
    # A turn in which the machine did something else stands out in one function or another, and not in the medians.
    turns = [profiled(run, some) for _ in range(TURNS)]
    stats = turns[0]
    own = {key: statistics.median(turn[key][2] for turn in turns if key in turn) for key in stats}
    times = {key: entry[1] for key, entry in stats.items()}
    makes = dict.fromkeys(stats, 0)
    for entry in stats.values():
        for caller, said in entry[4].items():
            makes[caller] += said[1]
    cost = max(0.0, sum(own.values()) - plain * some) / max(1, sum(times.values()))
    left = {key: max(0.0, own[key] - cost / 2 * (times[key] + makes[key])) for key in stats}
    # Where too much was taken nothing is left, and the others have that much too much.
    share = plain * 1e6 / (sum(left.values()) or 1.0)
    rows = [Function(named(key), times[key] / some, seconds * share) for key, seconds in left.items()]
    return plain * 1e6, sorted(rows, key=lambda row: -row.own)


def profiled(run: Callable[[int], float], count: int) -> dict[Any, Any]:
    """What cProfile counted, by function."""
    profiler = cProfile.Profile()
    profiler.enable()
    run(count)
    profiler.disable()
    stats: Any = pstats.Stats(profiler)
    found: dict[Any, Any] = stats.stats
    return found


def named(key: tuple[str, int, str]) -> str:
    file, line, name = key
    if file == "~":
        # Some end in an address.
        return re.sub(r" at 0x\w+", "", name.strip("<>").replace("built-in method ", "").replace("method ", ""))
    path = Path(file)
    parts = path.with_suffix("").parts
    for package in ("rpcretry", "aiohttp", "asyncio"):
        if package in parts[-4:]:
            at = len(parts) - 1 - parts[::-1].index(package)
            return f"{'.'.join(parts[at:])}:{line} {name}"
    return f"{path.stem}:{line} {name}"


def profiles(url: str, scale: float) -> dict[str, tuple[float, list[Function]]]:
    count = max(1_000, int(20_000 * scale))
    # Each retry is a warning otherwise; a log line costs more than the retry.
    logging.getLogger("rpcretry").setLevel(logging.ERROR)
    plain = rpcretry.Client(Null(), retry_strategy=STRATEGY)
    whole = rpcretry.Client(
        Null(), retry_strategy=STRATEGY, deadline=5, layers=[rpcretry.RetryBudget(), rpcretry.CircuitBreaker()], on_event=rpcretry.RetryMetrics()
    )

    again = RetryStrategy(exceptions={ConnectionError}, backoff=ImmediateBackoff(3))
    failing = rpcretry.Client(Null(Trouble(2)), retry_strategy=again)

    def looped(client: rpcretry.Client) -> Callable[[int], float]:
        def run(count: int) -> float:
            start = time.perf_counter()
            for _ in range(count):
                client.call("sum", 1, 2)
            return time.perf_counter() - start

        return run

    loop = asyncio.new_event_loop()

    async def opened() -> Any:
        return rpcretry.backends.aiohttp.Client(url, retry_strategy=STRATEGY, joining=Joining())

    joining = loop.run_until_complete(opened())

    async def several() -> None:
        await asyncio.gather(*[joining.proxy.sum(1, 2) for _ in range(MANY)])

    def at_once(count: int) -> float:
        start = time.perf_counter()
        for _ in range(max(1, count // MANY)):
            loop.run_until_complete(several())
        return time.perf_counter() - start

    found = {
        "null call": by_function(looped(plain), count),
        "null call with all layers": by_function(looped(whole), count),
        "a call that fails twice": by_function(looped(failing), count // 10),
        "1,000 calls at once, joined, over loopback": by_function(at_once, max(1, count // (MANY * TURNS)) * MANY * TURNS),
    }
    loop.run_until_complete(joining.aclose())
    loop.close()
    return found


def measured(scale: float, rounds: int, most: int = 15) -> dict[str, Any]:
    """All of it, as JSON takes it."""
    with served() as url:
        parts = {
            "null call, its parts": null_call(scale, rounds),
            "layers, one more in each row": layers(scale, rounds),
            "1,000 calls at once, one part more in each row": joined(url, scale, rounds),
        }
        functions = profiles(url, scale)
    return {
        "parts": {name: [row._asdict() for row in rows] for name, rows in parts.items()},
        "functions": {
            name: {"microseconds": whole, "rows": [row._asdict() for row in rows[:most]], "others": sum(row.own for row in rows[most:])}
            for name, (whole, rows) in functions.items()
        },
    }


def show(found: dict[str, Any]) -> None:
    for name, rows in found["parts"].items():
        print(f"\n{name:<52}{'us':>9}{'added':>9}")
        for row in rows:
            added = "" if row["added"] is None else f"{row['added']:>9.2f}"
            print(f"  {row['name']:<50}{row['microseconds']:>9.2f}{added}")
    for name, profile in found["functions"].items():
        print(f"\n{name}: {profile['microseconds']:.2f} us a call{'':<10}{'calls':>8}{'own us':>9}")
        for row in profile["rows"]:
            print(f"  {row['name']:<70.70}{row['calls']:>8.2f}{row['own']:>9.2f}")
        print(f"  {'all others':<70}{'':>8}{profile['others']:>9.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="how many calls, relative to the usual number")
    parser.add_argument("--rounds", type=int, default=21, help="how many rounds each part takes")
    parser.add_argument("--most", type=int, default=30, help="how many functions to show")
    given = parser.parse_args()
    show(measured(given.scale, given.rounds, given.most))


if __name__ == "__main__":
    main()
