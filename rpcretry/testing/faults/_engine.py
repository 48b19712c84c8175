"""The server's half that lives in its loop: the listener and the connections."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Coroutine, Sequence
from typing import Any, Final

from ..._unset import UNSET
from ._calls import Calls
from ._choice import Chooser
from ._connection import Connection
from ._log import Log, of_connection

__all__ = ["Engine"]

HOST: Final = "127.0.0.1"
BACKLOG: Final = 1024


class Engine:
    """Accepts connections and serves them. All of it runs in one loop.

    :ivar chooser: read for each request, and replaced from any thread.
    """

    def __init__(self, calls: Calls, chooser: Chooser, log: Log, port: int) -> None:
        self.calls = calls
        self.chooser = chooser
        self.log = log
        self.accepted = 0
        self._requests = 0
        self._latest: deque[tuple[int, object]] = deque(maxlen=2)
        # It never listens: it keeps the port from others, and from being the local port of a client, while nobody listens.
        self._reservation = _bound(port)
        self.port: int = self._reservation.getsockname()[1]
        self.url = f"http://{HOST}:{self.port}/"
        self._listener: socket.socket | None = None
        self._paused: asyncio.TimerHandle | None = None
        self._serving: dict[asyncio.Task[None], Connection] = {}
        self._down: set[str] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._under_way: set[asyncio.Task[object]] = set()
        self.problems: deque[BaseException] = deque(maxlen=10)
        self._closed = False

    @property
    def open_connections(self) -> int:
        return len(self._serving)

    def next_number(self) -> int:
        self._requests += 1
        return self._requests

    # --- what was said before ---

    def remember(self, connection: int, document: object) -> None:
        """Keep the last document of each of the last two connections."""
        if self._latest and self._latest[-1][0] == connection:
            self._latest.pop()
        self._latest.append((connection, document))

    def latest_elsewhere(self, connection: int) -> object:
        return next((document for number, document in reversed(self._latest) if number != connection), UNSET)

    # --- listening ---

    def update(self) -> None:
        """Listen, unless there is a reason not to."""
        if self._closed or self._down or self.chooser.refusing:
            if self._listener is not None:
                self.pause()
                self._listener.close()
                self._listener = None
        elif self._listener is None:
            self._listener = _bound(self.port)
            self._listener.listen(BACKLOG)
            self._listener.setblocking(False)
            self._go_on()

    def _go_on(self) -> None:
        self.pause()
        if self._listener is not None:
            asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def pause(self, seconds: float | None = None) -> None:
        """Leave those who connect to the system, for some time or until somebody goes on."""
        loop = asyncio.get_running_loop()
        if self._paused is not None:
            self._paused.cancel()
            self._paused = None
        if self._listener is not None:
            loop.remove_reader(self._listener)
        if seconds is not None:
            self._paused = loop.call_later(seconds, self._go_on)

    def _accept(self) -> None:
        if self._listener is None:
            return
        try:
            client, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError:
            # No descriptor is left, say; the client is in the backlog yet.
            self.pause(0.01)
            return
        self.accepted += 1
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(self, client, self.accepted)
        try:
            toxics, source = self.chooser.for_connection(self.accepted)
            turn = of_connection(self.log, toxics, source, self.url, self.accepted)
        except Exception as problem:
            self.problems.append(problem)
            connection.close(reset=False)
            return
        if turn.refuse_for is not None:
            connection.close(reset=True)
            self.refuse_for(turn.refuse_for)
            return
        if turn.slow_accept:
            self.pause(turn.slow_accept)
        task = asyncio.create_task(connection.serve(turn.slow_accept))
        self._serving[task] = connection
        task.add_done_callback(self._served)

    def _served(self, task: asyncio.Task[None]) -> None:
        # A task that is cancelled before its first step has closed nothing.
        self._serving.pop(task).close(reset=False)
        if not task.cancelled() and (problem := task.exception()) is not None:
            # A mistake in a function of the user's, such as the one that chooses toxics.
            self.problems.append(problem)

    def refuse_for(self, seconds: float) -> None:
        """Nobody listens for some time; the later end counts."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        if self._timer is not None:
            until = max(until, self._timer.when())
            self._timer.cancel()
        self._timer = loop.call_at(until, self._up)
        self._down.add("refused")
        self.update()

    def _up(self) -> None:
        self._timer = None
        self._down.discard("refused")
        self.update()

    def soon(self, what: Coroutine[Any, Any, object]) -> None:
        """Do it without waiting for it."""
        task = asyncio.ensure_future(what)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def stop(self) -> None:
        """Stop listening and break the connections, as the end of a process does."""
        self._down.add("stopped")
        self.update()
        await self.drop()

    async def start(self) -> None:
        self._down.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.update()

    async def restart(self, down: float) -> None:
        await self.stop()
        self._down.clear()
        if down > 0:
            self.refuse_for(down)
        self.update()

    async def drop(self) -> None:
        await _ended(list(self._serving))

    async def chosen(self) -> None:
        """Act on another chooser, where it is not requests that it acts on."""
        self.update()
        if self.chooser.refusing:
            await self.drop()

    async def close(self) -> None:
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self.update()
        await self.drop()
        self._reservation.close()
        rest = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        await _ended(rest)


async def _ended(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await task


def _bound(port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((HOST, port))
    except BaseException:
        bound.close()
        raise
    return bound
