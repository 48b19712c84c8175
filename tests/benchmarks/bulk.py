"""What a bulk costs: memory above the start and throughput, each measurement in a process of its own. Asserts that nothing is lost, and no time.

Without arguments it runs all of them and prints a table.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from server import Server

import rpcretry
import rpcretry.backends.aiohttp
import rpcretry.backends.requests
import rpcretry.functions
from rpcretry import Request
from rpcretry.retry import PeriodicBackoff, RetryStrategy
from rpcretry.transport import Exchange, Reply

MIB = 2**20


class Null:
    def exchange(self, exchange: Exchange) -> Reply:
        answers = b",".join([b'{"jsonrpc":"2.0","id":%d,"result":3}' % id for id in exchange.ids])
        return Reply(b"[%b]" % answers if exchange.body.startswith(b"[") else answers)

    def close(self) -> None: ...


class AsyncNull(Null):
    async def exchange(self, exchange: Exchange) -> Reply:  # type: ignore[override]
        return Null.exchange(self, exchange)

    async def aclose(self) -> None: ...


def source(count: int) -> Iterator[Request]:
    return (Request("get", [number]) for number in range(count))


def resident() -> float:
    """MiB of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / MIB


class Watch:
    """The most memory above the start, looked at every few milliseconds."""

    def __enter__(self) -> Watch:
        gc.collect()
        self.start = self.most = resident()
        self.begun, self.over = time.perf_counter(), threading.Event()
        self.thread = threading.Thread(target=self._look)
        self.thread.start()
        return self

    def _look(self) -> None:
        while not self.over.wait(0.02):
            self.most = max(self.most, resident())

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self.begun
        self.most = max(self.most, resident())
        self.over.set()
        self.thread.join()

    @property
    def above(self) -> float:
        return self.most - self.start


class Tally:
    """Whether each came out once, in as little memory as a bit for each would take eight times over."""

    def __init__(self, count: int) -> None:
        self.seen = bytearray(count)
        self.failed = self.retried = 0

    def add(self, item: Any) -> None:
        self.seen[item.index] += 1
        self.failed += item.error is not None
        self.retried += item.attempts > 1

    def check(self, failed: int) -> None:
        if self.seen.count(1) != len(self.seen) or self.failed != failed:
            raise SystemExit(f"lost: {self.seen.count(0)} never came out, {self.failed} failed where {failed} did")


def null(kind: str, way: str, count: int, concurrency: int, batch_size: int) -> dict[str, Any]:
    """Requests over a backend that answers at once, as a stream or collected by run()."""
    client: Any = rpcretry.Client(Null()) if kind == "sync" else rpcretry.AsyncClient(AsyncNull())
    tally = Tally(count)
    with Watch() as watch:
        bulk = client.bulk(source(count), concurrency=concurrency, batch_size=batch_size)
        kept = consume(kind, way, bulk, tally)
    tally.check(0)
    del kept
    return {"seconds": watch.seconds, "above": watch.above, "count": count}


def function(kind: str, count: int, concurrency: int) -> dict[str, Any]:
    """Calls of a function that does nothing."""

    async def nothing(item: int) -> None: ...

    def sync_nothing(item: int) -> None: ...

    tally = Tally(count)
    with Watch() as watch:
        bulk: Any = rpcretry.functions.bulk(sync_nothing if kind == "sync" else nothing, range(count), concurrency=concurrency)
        consume(kind, "stream", bulk, tally)
    tally.check(0)
    return {"seconds": watch.seconds, "above": watch.above, "count": count}


def consume(kind: str, way: str, bulk: Any, tally: Tally) -> Any:
    async def stream() -> None:
        async for item in bulk:
            tally.add(item)

    if way == "run":
        result = bulk.run() if kind == "sync" else asyncio.run(bulk.run())
        for item in result.successful:
            tally.add(item)
        return result
    if kind == "sync":
        for item in bulk:
            tally.add(item)
    else:
        asyncio.run(stream())
    return None


def loopback(kind: str, count: int, concurrency: int, batch_size: int) -> dict[str, Any]:
    """Requests to a server of which one in a hundred fails: by turns a connection that breaks, and an error that is not retried."""
    strategy = RetryStrategy(idempotent=True, backoff=PeriodicBackoff(10, 0.001))
    tally = Tally(count)
    command = [sys.executable, __file__, "--serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        if process.stdout is None or process.stdin is None:
            raise SystemExit("no pipes to the server")
        url = f"http://127.0.0.1:{int(process.stdout.readline())}/"
        options: dict[str, Any] = {"retry_strategy": strategy, "trust_env": False}

        async def asynchronous() -> None:
            async with rpcretry.backends.aiohttp.Client(url, **options) as client:
                async for item in client.bulk(source(count), concurrency=concurrency, batch_size=batch_size):
                    tally.add(item)

        with Watch() as watch:
            if kind == "sync":
                with rpcretry.backends.requests.Client(url, **options) as client:
                    for item in client.bulk(source(count), concurrency=concurrency, batch_size=batch_size):
                        tally.add(item)
            else:
                asyncio.run(asynchronous())
        said = json.loads(process.communicate()[0])
    tally.check(said["errors"])
    return {"seconds": watch.seconds, "above": watch.above, "count": count, "errors": said["errors"], "broken": said["broken"], "retried": tally.retried}


class Answers:
    """The transport that the server of the benchmarks writes to; one request in a hundred fails.

    :ivar requests: how many came, over all connections.
    """

    requests = errors = broken = 0

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport

    def write(self, data: bytes) -> None:
        head, _, body = data.partition(b"\r\n\r\n")
        parts = body.strip(b"[]").split(b"},{")
        before, Answers.requests = Answers.requests, Answers.requests + len(parts)
        for turn in range(before // 100 * 100 + 100, Answers.requests + 1, 100):
            if turn % 200 == 0:
                Answers.broken += 1
                self.transport.close()
                return
            Answers.errors += 1
            place = turn - before - 1
            parts[place] = parts[place].replace(b'"result":3', b'"error":{"code":5,"message":"no"}')
        body = b"},{".join(parts)
        body = b"[%b]" % body if data.endswith(b"]") else body
        self.transport.write(b"%b: %d\r\n\r\n%b" % (head.rpartition(b": ")[0], len(body), body))


class Failing(Server):
    """The server of the benchmarks, with such a transport."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport = Answers(self.transport)  # type: ignore[assignment]


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(Failing, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    print(json.dumps({"errors": Answers.errors, "broken": Answers.broken}))


MEASUREMENTS: dict[str, Any] = {
    "null, async stream": lambda n: null("async", "stream", n, 16, 1),
    "null, async stream, batches of 100": lambda n: null("async", "stream", n, 16, 100),
    "null, async run()": lambda n: null("async", "run", n, 16, 1),
    "null, sync stream, 16 threads": lambda n: null("sync", "stream", n, 16, 1),
    "null, sync stream, no threads": lambda n: null("sync", "stream", n, 1, 1),
    "null, sync run(), no threads": lambda n: null("sync", "run", n, 1, 1),
    "function, async stream": lambda n: function("async", n, 16),
    "function, sync stream, no threads": lambda n: function("sync", n, 1),
    "loopback, async stream": lambda n: loopback("async", n // 5, 32, 1),
    "loopback, async stream, batches of 50": lambda n: loopback("async", n // 5, 8, 50),
    "loopback, sync stream, 8 threads": lambda n: loopback("sync", n // 5, 8, 1),
    "loopback, sync stream, 4 threads, batches of 50": lambda n: loopback("sync", n // 5, 4, 50),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", action="store_true", help="be the server that fails")
    parser.add_argument("--one", choices=MEASUREMENTS, help="make this measurement, here")
    parser.add_argument("--count", type=int, default=1_000_000, help="requests; a fifth of that over loopback")
    arguments = parser.parse_args()
    if arguments.serve:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(serve())
    elif arguments.one:
        print(json.dumps(MEASUREMENTS[arguments.one](arguments.count)))
    else:
        for name in MEASUREMENTS:
            done = subprocess.run(
                [sys.executable, __file__, "--one", name, "--count", str(arguments.count)], stdout=subprocess.PIPE, text=True, check=True
            ).stdout
            found = json.loads(done)
            rest = ", ".join(f"{key} {found[key]}" for key in ("errors", "broken", "retried") if key in found)
            rate, each = found["count"] / found["seconds"], found["seconds"] / found["count"] * 1e6
            print(f"{name:50} {found['count']:>9,} {rate:>9,.0f}/s {each:7.2f} us {found['above']:7.1f} MiB above the start  {rest}", flush=True)


if __name__ == "__main__":
    main()
