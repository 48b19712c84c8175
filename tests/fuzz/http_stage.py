"""Mutated HTTP answers through a backend, and clean ones between them."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import json
import logging
import re
import sys
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any

from fuzz_stage import Memory, Stage, Stop, open_files
from http_answers import COOKIE, Plan, clean, planned, truth
from http_server import RawServer
from pydantic_core import from_json

import rpcretry.backends.aiohttp
import rpcretry.backends.requests
from rpcretry import (
    ConnectionLostError,
    Delivery,
    HTTPStatusError,
    JsonRpcError,
    ProtocolError,
    Request,
    RequestTimeoutError,
    Response,
    RetryStrategy,
)
from rpcretry.layers import RetryAfter
from rpcretry.retry import PeriodicBackoff

__all__ = ["BACKENDS", "Run", "Watch", "judge"]

BACKENDS = ("requests", "aiohttp")
CANARY = "c4n4ry"
PATH = f"/v1/{CANARY}-path?key={CANARY}-query"
HEADERS = {"X-Api-Key": f"{CANARY}-header", "Authorization": f"Bearer {CANARY}-token"}
TIMEOUT = 0.5
SLACK = 1.0
CLEAN = 10**9
CLEAN_EACH = 10
RETRIED_EACH = 7
CLEAN_TRIES = 12
WARM = 0.3
THREADS, TASKS = 8, 16
RETRIED = RetryStrategy(statuses={429, 503}, backoff=PeriodicBackoff(attempts=1, interval=0.0))
# What an answer can be. The others of the tree speak of requests, of layers and of clients.
DOCUMENTED = (JsonRpcError, HTTPStatusError, ProtocolError, ConnectionLostError, RequestTimeoutError)


class Watch:
    """Collects what nobody should have to see: warnings, what is unraisable or unclosed, and secrets in logs."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self.logged: Counter[str] = Counter()

    def note(self, what: str) -> None:
        self.seen[what[:300]] += 1

    def unhandled(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """An event loop's exception handler."""
        self.note(f"the loop: {context.get('message')} {context.get('exception')!r}")

    def _log(self, record: logging.LogRecord) -> bool:
        text = record.getMessage() + ("".join(traceback.format_exception(*record.exc_info)) if record.exc_info else "")
        if CANARY in text:
            self.note(f"{record.name} logs a secret: {text:.200}")
        self.logged[f"{record.name} {record.levelname}"] += 1
        return False

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        hooks = sys.unraisablehook, threading.excepthook
        handler = logging.Handler(logging.WARNING)
        handler.addFilter(self._log)
        logging.root.addHandler(handler)
        # Its thread may be any.
        sys.unraisablehook = lambda problem: self.note(f"unraisable: {problem.exc_value!r} in {problem.object!r}")
        threading.excepthook = lambda problem: self.note(f"a thread: {problem.exc_value!r}")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("always")
                warnings.showwarning = lambda message, category, *_: self.note(f"{category.__name__}: {message}")
                yield
                gc.collect()
        finally:
            sys.unraisablehook, threading.excepthook = hooks
            logging.root.removeHandler(handler)


def judge(number: int, plan: Plan, outcome: Any, seconds: float, *, arrived: bool, tries: int = 1) -> str | None:
    """What is wrong with the *outcome* of a call; ``None`` where nothing is.

    :param arrived: whether the server saw the request.
    """
    if seconds > tries * TIMEOUT + SLACK:
        return f"it took {seconds:.1f} s, with a limit of {tries} times {TIMEOUT} s"
    if not isinstance(outcome, BaseException):
        if plan.own:
            return None if outcome == truth(number) else f"the result {outcome!r:.60}, which is not {truth(number)}"
        of = re.fullmatch(r"t(\d+)-[0-9a-f]{8}", outcome) if isinstance(outcome, str) else None
        return f"the result of {of[1]}" if of and int(of[1]) != number and truth(int(of[1])) == outcome else None
    if not isinstance(outcome, DOCUMENTED):
        return f"{type(outcome).__name__}: {outcome!s:.200}"
    if arrived and outcome.delivery is Delivery.NOT_SENT:
        return f"{type(outcome).__name__} says that nothing was sent, and the server has it"
    if not isinstance(outcome, JsonRpcError) and len(str(outcome)) > 1000:
        return f"{type(outcome).__name__} with a message of {len(str(outcome))} characters"
    if isinstance(outcome, ConnectionLostError) and COOKIE in str(outcome):
        return "the value of a header in the message"
    return "a secret in the exception" if any(CANARY in text for text in _texts(outcome)) else None


def _texts(problem: BaseException) -> Iterator[str]:
    """What a log or a traceback would show of it and of those behind it."""
    seen: set[int] = set()
    todo: list[BaseException | None] = [problem]
    while todo:
        error = todo.pop()
        if error is not None and id(error) not in seen:
            seen.add(id(error))
            yield f"{error} {error!r} {getattr(error, '__notes__', '')}"
            todo += [error.__cause__, error.__context__]


class Run:
    """*count* answers through one backend.

    :param kind: ``requests`` or ``aiohttp``.
    :param memory: whether to look for growth, which says nothing of a short run.
    :ivar patience: seconds until connections that were closed have to be gone.
    """

    patience = 5.0

    def __init__(self, kind: str, count: int, seed: int, stop: Stop, *, memory: bool = True) -> None:
        if kind not in BACKENDS:
            raise ValueError(f"kind must be one of {BACKENDS}, got {kind!r}")
        self.memory = memory
        self.kind = kind
        self.seed = seed
        self.stop = stop
        self.stage = Stage(f"HTTP answers, {kind}", count)
        self.watch = Watch()
        self.plans: dict[int, Plan] = {}
        self.server = RawServer(self.plan_for)
        self.numbers = itertools.count()
        self.kinds: Counter[str] = Counter()
        self.clean = self.broken = 0
        self.lock = threading.Lock()

    def plan_for(self, number: int) -> Plan:
        """What the server asks for."""
        return clean(number) if number >= CLEAN else self.plans.get(number) or clean(number)

    def __call__(self) -> Stage:
        began = time.monotonic()
        # pydantic_core keeps the texts that it read last, 16,384 of them.
        from_json(json.dumps([f"a text of {number}" for number in range(40_000)]))
        with self.watch.watching(), self.server:
            files, threads = open_files(), threading.active_count()
            if self.kind == "requests":
                self._run_threads()
            else:
                with asyncio.Runner() as runner:
                    # The loop has descriptors of its own.
                    runner.get_loop().set_exception_handler(self.watch.unhandled)
                    files = open_files()
                    runner.run(self._run_tasks())
                    self._compare_files(files)
            if self.kind == "requests":
                self._compare_files(files)
            if threading.active_count() != threads:
                self.stage.crashed(f"{threading.active_count() - threads} threads are left", "all inputs")
        self.stage.seconds = time.monotonic() - began
        for what in self.watch.seen:
            self.stage.crashed(what, f"{self.watch.seen[what]} times; all inputs")
        self.stage.facts[:0] = [
            "outcomes: " + ", ".join(f"{name} {many:,}" for name, many in self.kinds.most_common()),
            f"clean calls between them: {self.clean:,}, all right; {self.broken:,} more met a connection that was broken before, and failed as documented",
        ]
        if self.watch.logged:
            self.stage.facts.append("logged by the libraries: " + ", ".join(f"{name} {many:,}" for name, many in self.watch.logged.most_common()))
        return self.stage

    def _compare_files(self, before: int) -> None:
        ends_by = time.monotonic() + self.patience
        while (self.server.connections or open_files() > before) and time.monotonic() < ends_by:
            gc.collect()
            time.sleep(0.02)
        now = open_files()
        self.stage.facts.append(f"file descriptors: {before} before, {now} after; connections that the server still has: {self.server.connections}")
        if now > before or self.server.connections:
            self.stage.crashed("connections are left open", "all inputs")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}{PATH}"

    def options(self) -> dict[str, Any]:
        return {"headers": HEADERS, "timeout": TIMEOUT, "layers": [RetryAfter(max_delay=0.01)], "trust_env": False}

    # --- one call ---

    def _next(self, most: int) -> int | None:
        """The number of the next answer; its plan is made."""
        with self.lock:
            number = next(self.numbers)
            if number >= most or self.stop.left <= 0:
                return None
            self.plans[number] = planned(self.seed, number)
            self.stage.done += 1
            return number

    def _request(self, number: int) -> Request:
        return Request("m", [f"{CANARY}-param"], id=number)

    def _extra(self, number: int) -> dict[str, Any]:
        return {"_retry_strategy": RETRIED} if number % RETRIED_EACH == 0 else {}

    def _came(self, number: int, outcome: Any, seconds: float) -> None:
        plan = self.plans.pop(number)
        tries = 2 if number % RETRIED_EACH == 0 else 1
        why = judge(number, plan, outcome, seconds, arrived=number in self.server.seen, tries=tries)
        name = type(outcome).__name__ if isinstance(outcome, BaseException) else "a result"
        with self.lock:
            self.server.seen.discard(number)
            self.kinds[name] += 1
            if why is not None:
                self.stage.crashed(
                    f"{why} (seed {self.seed}, number {number})", f"Plan({[piece[:2000] for piece in plan.pieces]!r}, {plan.end!r}, own={plan.own})"
                )

    def _clean_came(self, number: int, outcome: Any, tries: int) -> bool:
        """Whether to try once more: a connection of the pool may have been broken by the answer before."""
        with self.lock:
            self.server.seen.discard(number)
            if isinstance(outcome, DOCUMENTED) and tries < CLEAN_TRIES:
                self.broken += 1
                return True
            self.clean += 1
            if outcome != truth(number):
                self.stage.crashed(f"a clean call came to {outcome!r:.120}", f"number {number}, seed {self.seed}")
            return False

    # --- requests ---

    def _run_threads(self) -> None:
        with rpcretry.backends.requests.Client(self.url, **self.options()) as client:
            memory = None
            for most in (int(self.stage.wanted * WARM), self.stage.wanted):
                self.numbers = itertools.count(self.stage.done)
                workers = [threading.Thread(target=self._work, args=(client, most)) for _ in range(THREADS)]
                for worker in workers:
                    worker.start()
                for worker in workers:
                    worker.join()
                if memory is not None:
                    memory.compare(self.stage, slack=500)
                memory = Memory() if self.memory else None

    def _work(self, client: rpcretry.backends.requests.Client, most: int) -> None:
        while (number := self._next(most)) is not None:
            began = time.monotonic()
            outcome = self._sync(lambda number=number: client.send(self._request(number), **self._extra(number)))
            self._came(number, outcome, time.monotonic() - began)
            if number % CLEAN_EACH == 0:
                tries = 1
                while self._clean_came(CLEAN + number, self._sync(lambda number=number: client.send(self._request(CLEAN + number))), tries):
                    tries += 1

    @staticmethod
    def _sync(send: Any) -> Any:
        try:
            return _value(send())
        except Exception as problem:
            return problem.with_traceback(None)

    # --- aiohttp ---

    async def _run_tasks(self) -> None:
        async with rpcretry.backends.aiohttp.Client(self.url, **self.options()) as client:
            memory = None
            for most in (int(self.stage.wanted * WARM), self.stage.wanted):
                self.numbers = itertools.count(self.stage.done)
                await asyncio.gather(*(self._task(client, most) for _ in range(TASKS)))
                if memory is not None:
                    memory.compare(self.stage, slack=500)
                memory = Memory() if self.memory else None
        for _ in range(10):
            await asyncio.sleep(0.01)
        left = len(asyncio.all_tasks()) - 1
        if left:
            self.stage.crashed(f"{left} tasks are left", "all inputs")

    async def _task(self, client: rpcretry.backends.aiohttp.Client, most: int) -> None:
        while (number := self._next(most)) is not None:
            began = time.monotonic()
            outcome = await self._async(client.send(self._request(number), **self._extra(number)))
            self._came(number, outcome, time.monotonic() - began)
            if number % CLEAN_EACH == 0:
                tries = 1
                while self._clean_came(CLEAN + number, await self._async(client.send(self._request(CLEAN + number))), tries):
                    tries += 1

    @staticmethod
    async def _async(sent: Any) -> Any:
        try:
            return _value(await sent)
        except Exception as problem:
            return problem.with_traceback(None)


def _value(response: Response[Any]) -> Any:
    return response.error if response.is_error else response.result
