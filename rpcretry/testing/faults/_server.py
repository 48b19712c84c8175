"""A JSON-RPC server on loopback that misbehaves as it is told."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from types import TracebackType
from typing import Any, Final, TypeVar

from ..._check import count, number
from ..._unset import UNSET
from ._calls import Calls
from ._choice import Chooser, Faults
from ._engine import Engine
from ._log import Log, LogEntry
from ._toxic import flag

__all__ = ["FaultServer"]

T = TypeVar("T")

# What close() may take; a method that does not return holds the thread.
PATIENCE: Final = 2.0


class FaultServer:
    """A JSON-RPC server over HTTP/1.1 on 127.0.0.1 that misbehaves by seed, and knows what it has executed.

    It runs in a thread of its own, so that sync and async tests use it alike, from any number of threads and loops. Its methods run in that thread,
    one after the other; one that blocks holds up all connections, and ``async def`` ones do not.

    :param methods: functions, plain or async, by their names. One that raises is answered with the error -32000, or with the exception's ``code``.
    :param faults: a :class:`Mix` to draw from; toxics that all requests get, one or a sequence; :class:`InTurn`; a function that gets the
        :class:`Arrival` of each request and returns toxics; or ``None`` for a server that behaves.
    :param seed: where all that is drawn comes from.
    :param port: to listen on; 0 for one that is free.
    :param dedupe: whether a request that repeats the ``Idempotency-Key`` of an earlier one is answered as that was, and not executed again.
    :param log_size: how many entries of the log are kept.
    :raises TypeError, ValueError: naming the parameter and the fix.
    :raises OSError: where the port is taken.
    """

    def __init__(
        self,
        methods: Mapping[str, Callable[..., Any]] | None = None,
        faults: Faults = None,
        *,
        seed: int = 0,
        port: int = 0,
        dedupe: bool = False,
        log_size: int = 10_000,
    ) -> None:
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise TypeError(f"seed must be an int, got {type(seed).__name__} {seed!r:.60}")
        if count("port", port) > 65_535:
            raise ValueError(f"port must be at most 65535, got {port}; 0 is for one that is free")
        flag("dedupe", dedupe)
        calls = Calls({} if methods is None else methods, dedupe=dedupe)
        log = Log(count("log_size", log_size, least=1))
        self._seed = seed
        self._engine = Engine(calls, Chooser(faults, seed), log, port)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="rpcretry-faults", daemon=True)
        self._closed = False
        # What is to be done in the loop is handed to it before its end is, or refused.
        self._handing = threading.Lock()
        self._thread.start()
        try:
            self._do(self._engine.start())
        except BaseException:
            self.close()
            raise

    # --- where it is, and what it saw ---

    @property
    def url(self) -> str:
        """Where to send requests."""
        return self._engine.url

    @property
    def port(self) -> int:
        """The port that it listens on, and that it keeps while it does not listen."""
        return self._engine.port

    @property
    def executed(self) -> Counter[tuple[str, str]]:
        """How often each method was executed with which params: ``executed["add", "[1,2]"]``, params as JSON without spaces and with sorted keys.
        Notifications and members of batches count as well, and methods that raised. A copy."""
        return self._engine.calls.counted()

    def times(self, method: str, /, *args: object, **params: object) -> int:
        """How often a method was executed with these params.

        :raises TypeError: where params are given both by position and by name.
        """
        if args and params:
            raise TypeError("give params by position or by name, not both; JSON-RPC has no way to send them together")
        return self._engine.calls.times(method, params or (list(args) if args else UNSET))

    @property
    def met(self) -> Counter[str]:
        """How often each toxic acted, by the name of its class. A copy."""
        return self._engine.log.met()

    @property
    def log(self) -> list[LogEntry]:
        """What happened to the last requests, in the order of their arrival. A copy."""
        return self._engine.log.entries()

    @property
    def connections(self) -> int:
        """How many connections were accepted."""
        return self._engine.accepted

    @property
    def open_connections(self) -> int:
        """How many are open now."""
        return self._engine.open_connections

    # --- what it does ---

    @property
    def faults(self) -> Faults:
        """What it misbehaves by; where a list was given, a tuple. It may be replaced at any time, from any thread, and counts for requests that arrive
        from then on; what a :class:`Mix` with ``keyed`` or an :class:`InTurn` has counted begins anew."""
        given: Faults = self._engine.chooser.faults
        return given

    @faults.setter
    def faults(self, faults: Faults) -> None:
        # At once: where a method sets it, the next request may be here before anything else is done in the server's thread.
        self._engine.chooser = Chooser(faults, self._seed)
        self._do(self._engine.chosen())

    def stop(self) -> None:
        """Stop listening and break all connections: new ones are refused until :meth:`start`."""
        self._do(self._engine.stop())

    def start(self) -> None:
        """Listen again, on the same port. It listens from the beginning."""
        self._do(self._engine.start())

    def restart(self, down: float = 0.0) -> None:
        """Stop, and start again by itself. It returns when it has stopped, or, where it is never down, when it listens again.

        :param down: seconds during which connections are refused.
        """
        self._do(self._engine.restart(number("down", down, least=0)))

    def close(self) -> None:
        """End everything; a second time does nothing.

        :raises RuntimeError: where a method has not returned within 2 seconds: its thread goes on; or where the function that chooses toxics
            has raised, which broke the connection of its request.
        """
        if threading.current_thread() is self._thread:
            raise RuntimeError("close() was called by a method of the server itself; call it from outside")
        with self._handing:
            # There is no thread in a process that was forked.
            if self._closed or not self._thread.is_alive():
                return
            self._closed = True
            asyncio.run_coroutine_threadsafe(self._end(), self._loop)
        self._thread.join(PATIENCE)
        if self._thread.is_alive():
            raise RuntimeError("the server could not be closed: one of its methods does not return; let it end, or write it as async def")
        for problem in self._engine.problems:
            raise RuntimeError(f"the function that chooses toxics, a toxic or a method has raised: {problem!r:.200}") from problem

    async def _end(self) -> None:
        try:
            await self._engine.close()
        finally:
            self._loop.stop()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            asyncio.set_event_loop(None)
            self._loop.close()

    def _do(self, what: Coroutine[Any, Any, T]) -> T | None:
        """Do it in the server's thread, and wait for it."""
        if threading.current_thread() is self._thread:
            # A method, or the function that chooses, which cannot wait for its own loop.
            self._engine.soon(what)
            return None
        with self._handing:
            if self._closed or not self._thread.is_alive():
                what.close()
                raise RuntimeError("this server was closed, or this process was forked from its own; make another one")
            future = asyncio.run_coroutine_threadsafe(what, self._loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise RuntimeError("this server was closed meanwhile; make another one") from None

    def __enter__(self) -> FaultServer:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self.close()
        except RuntimeError as problem:
            if value is None:
                raise
            # The test has failed already, perhaps for this.
            value.add_note(f"while the fault server was closed: {problem}")

    def __repr__(self) -> str:
        return f"<FaultServer on port {self.port}, seed {self._seed}>"
