"""Makes a client wrong on purpose, in every way that the oracle is to notice. A check that cannot fail proves nothing."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from soak_oracle import (
    DENIED,
    GROWTH,
    KEYS,
    LATE,
    LEAKED_CONNECTIONS,
    LEAKED_FDS,
    LEAKED_OBJECTS,
    LEAKED_PERMITS,
    LEAKED_TASKS,
    LEAKED_THREADS,
    NOISE,
    SHARED,
    TWICE,
    UNDOCUMENTED,
    UNDONE,
    UNEXPLAINED,
    UNPICKLED,
    WRONG,
)

import rpcretry
from rpcretry.outcome import Attempt
from rpcretry.transport import Exchange, Reply

# What each is to be noticed as.
SABOTAGES = {
    "wrong-answer": WRONG,
    "wrong-type": WRONG,
    "undocumented": UNDOCUMENTED,
    "hang": LATE,
    "double": TWICE,
    "denied": DENIED,
    "undone": UNDONE,
    "unexplained": UNEXPLAINED,
    "shared": SHARED,
    "unpicklable": UNPICKLED,
    "noise": NOISE,
    "keys": KEYS,
    "leak-fd": LEAKED_FDS,
    "leak-thread": LEAKED_THREADS,
    "leak-task": LEAKED_TASKS,
    "leak-connection": LEAKED_CONNECTIONS,
    "leak-permit": LEAKED_PERMITS,
    "leak-object": LEAKED_OBJECTS,
    "growth": GROWTH,
}

SHARED_INSTANCE = rpcretry.ConnectionLostError("the same for all")


class Sabotage:
    """A middleware that does one of :data:`SABOTAGES` to every exchange of some kind.

    :ivar kept: what it holds on to; emptied by :meth:`end`.
    """

    def __init__(self, name: str) -> None:
        if name not in SABOTAGES:
            raise ValueError(f"sabotage must be one of {', '.join(SABOTAGES)}, got {name!r}")
        self.name = name
        self.kept: list[Any] = []
        self.layers: Any = None
        self.port = 0
        self._over = threading.Event()
        self._count = 0

    def sync(self) -> Callable[..., Reply]:
        def middleware(exchange: Exchange, next: Callable[[Exchange], Reply]) -> Reply:
            time.sleep(self._delay())
            self._first(exchange)
            reply = self._instead(exchange) or next(exchange)
            for more in self._again(exchange):
                next(more)
            return self._after(exchange, reply)

        return middleware

    def awaited(self) -> Callable[..., Any]:
        async def middleware(exchange: Exchange, next: Callable[[Exchange], Any]) -> Reply:
            await asyncio.sleep(self._delay())
            if self.name == "leak-task" and len(self.kept) < 3:
                self.kept.append(asyncio.create_task(asyncio.sleep(3_600)))
            self._first(exchange)
            reply = self._instead(exchange) or await next(exchange)
            for more in self._again(exchange):
                await next(more)
            return self._after(exchange, reply)

        return middleware

    def end(self) -> None:
        """Give back what it took."""
        self._over.set()
        for one in self.kept:
            if isinstance(one, socket.socket):
                one.close()
        self.kept.clear()

    def _delay(self) -> float:
        self._count += 1
        remaining = rpcretry.current_attempt().remaining
        if self.name != "hang" or len(self.kept) > 3 or remaining is None or remaining > 1.0:
            return 0.0
        self.kept.append(None)
        return remaining + 1.6

    def _first(self, exchange: Exchange) -> None:
        few = len(self.kept) < 3
        match self.name:
            case "undocumented" if self._count % 10 == 0:
                raise KeyError("id")
            case "shared" if self._count % 3 == 0:
                raise SHARED_INSTANCE
            case "unpicklable" if self._count % 2 == 0:
                problem = rpcretry.ConnectionLostError("reset")
                vars(problem)["why"] = lambda: None
                raise problem
            case "leak-fd" if few:
                self.kept.append(socket.socket())
            case "leak-connection" if few:
                self.kept.append(socket.create_connection(("127.0.0.1", self.port)))
            case "leak-thread" if few:
                thread = threading.Thread(target=self._over.wait, daemon=True)
                thread.start()
                self.kept.append(thread)
            case "leak-permit" if not self.kept:
                attempt = Attempt(1, [], time.monotonic() + 1, "sabotage")
                self.layers.concurrency.admit(attempt, time.monotonic())
                # Without this it would be a live attempt besides.
                self.kept.append(None)
            case "leak-object":
                self.kept.append(exchange)
            case "growth":
                # Not zeros, which take no memory before they are written.
                self.kept.append(b"x" * (2 << 20))
            case "noise" if few:
                self.kept.append(None)
                Noise()

    def _instead(self, exchange: Exchange) -> Reply | None:
        request = json.loads(exchange.body) if self.name == "undone" else []
        if not isinstance(request, dict) or request["method"] != "charge":
            return None
        (token,) = request["params"] if isinstance(request["params"], list) else request["params"].values()
        return Reply(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": {"charged": token}}).encode())

    def _again(self, exchange: Exchange) -> list[Exchange]:
        if self.name == "double" and b'"charge"' in exchange.body:
            return [exchange]
        if self.name == "keys" and exchange.headers is not None and "Idempotency-Key" in exchange.headers:
            body = exchange.body.replace(b'"pay"', b'"get_echo"')
            return [Exchange(body, exchange.requests, exchange.ids, exchange.headers, exchange.ends_by)]
        return []

    def _after(self, exchange: Exchange, reply: Reply) -> Reply:
        if self.name == "denied" and b'"charge"' in exchange.body:
            raise rpcretry.ConnectError("refused, it says")
        body = reply.body
        if self.name == "wrong-answer":
            body = body.replace(b'"charged": 1', b'"charged": 2').replace(b'"charged":1', b'"charged":2')
        elif self.name == "unexplained" and b'"charge"' in exchange.body:
            body = body.replace(b'"id"', b'"id": 0, "the id"')
        elif self.name == "wrong-type":
            body = re.sub(rb'("result": ?\d+)', rb"\1.0", body)
        return reply if body is reply.body else Reply(body, reply.status, reply.headers)


class Noise:
    """Fails where nobody can catch it."""

    def __del__(self) -> None:
        raise ValueError("in a finalizer")
