"""A mock of JSON-RPC servers: what they reply to which calls, and what they were called with."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import threading
import time as real_time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Unpack

from .._unset import UNSET
from ..client.headers import HeadersLike
from ..client.options import ClientOptions
from ..transport import Exchange, Headers, Reply
from ._answers import delivered, is_test_failure, part_of, played, together
from ._calls import Address, Call, UnexpectedCall, listed, shown
from ._delay import pass_async, pass_sync, refuse_late
from ._expectations import Expectation, Step, lists
from ._hints import hint, told_apart
from ._installed import current
from ._stand_ins import standing_in
from .virtual import VirtualTime

if TYPE_CHECKING:
    from ..client import AsyncClient, Client, Joining

__all__ = ["RpcMock"]

logger = logging.getLogger("rpcretry.testing")


class RpcMock:
    """Stands in for the servers that the code under test calls. pytest has one as the fixture ``rpc_mock``.

    As a context manager it answers every exchange of :class:`~rpcretry.backends.requests.RequestsBackend` and
    :class:`~rpcretry.backends.aiohttp.AiohttpBackend`, of clients made before and in it, so that nothing reaches a network; it
    installs its virtual time; and in the end it verifies. Clients of its own need no context.

    :param url: what it stands in for, where the code under test talks to several servers and there is a mock for each: one URL, or
        without a path any path of its host. A mock without it stands in for all.
    :param strict: whether :meth:`verify` wants replies whose number was given to be used up.
    :param time: the virtual time that its replies take, and that is installed. Not given, it is the one that is installed already, and else
        one of its own.
    :ivar time: that time; ``rpc_mock.time.delays`` are the waits between attempts.
    :ivar strict: as above; may be set.
    :ivar backend: a :class:`~rpcretry.transport.Backend` that the mock answers.
    :ivar async_backend: the same for async clients.
    :raises TypeError, ValueError: where *url* is no absolute http or https URL.
    """

    def __init__(self, *, url: str | None = None, strict: bool = True, time: VirtualTime | None = None) -> None:
        # First of all what repr() shows: a failure shows it, too.
        self._expectations: list[Expectation] = []
        self._calls: list[Call] = []
        if time is not None and not isinstance(time, VirtualTime):
            raise TypeError(f"time must be a VirtualTime, got {type(time).__name__} {time!r:.60}")
        if not isinstance(strict, bool):
            raise TypeError(f"strict must be True or False, got {type(strict).__name__} {strict!r:.60}")
        self._address = None if url is None else Address(url)
        self._url = url
        self.strict = strict
        self.time = time or current() or VirtualTime(real_time.monotonic())
        self.backend = MockBackend(self)
        self.async_backend = AsyncMockBackend(self)
        self._lock = threading.RLock()
        self._passing: list[Address] = []
        self._exchanges = 0
        self._unexpected: list[BaseException] = []
        self._context: contextlib.ExitStack | None = None

    def __repr__(self) -> str:
        return f"<RpcMock: {len(self._expectations)} expectations, {len(self._calls)} calls>"

    # --- what is to come ---

    def on(self, method: str, params: object = UNSET, *, url: str | None = None) -> Expectation:
        """Expect calls of *method*, notifications as well; say what they get with the methods of what it returns.

        Of several that a call fits, one with params or a URL comes before one without. Then those that are good for a number of
        calls come first, in the order in which they were written, until they are used up; and of those that are good for any
        number the last one that was written.

        :param params: a list or a tuple, a dict, ``None`` for a call without params, a matcher such as :func:`including` or
            ``unittest.mock.ANY``, in place of all or of one, or a function that gets the params and says whether it is for them.
        :param url: where they are sent; as that of the mock.
        :raises TypeError, ValueError: naming the parameter, its value and the fix.
        """
        expectation = Expectation(method, params, url)
        with self._lock:
            self._expectations.append(expectation)
        return expectation

    def passes(self, url: str) -> None:
        """Let exchanges with a server go out: they are made, and the mock does not see them.

        :param url: where they are sent, such as the ``url`` of a :class:`LoopbackServer`; as that of the mock.
        :raises TypeError, ValueError: where it is no absolute http or https URL.
        """
        self._passing.append(Address(url))

    def reset(self) -> None:
        """Forget all expectations and calls, and what passes."""
        with self._lock:
            self._expectations, self._calls, self._unexpected, self._passing, self._exchanges = [], [], [], [], 0

    # --- clients ---

    def client(self, *, headers: HeadersLike | None = None, **options: Unpack[ClientOptions]) -> Client:
        """A client whose calls the mock answers, in virtual time.

        :param headers: HTTP headers of every exchange.
        :param options: those of :class:`~rpcretry.client.ClientOptions`.
        """
        from ..client import Client

        return Client(self.backend, headers=headers, clock=self.time.clock, sleep=self.time.sleep, **options)

    def async_client(self, *, headers: HeadersLike | None = None, joining: Joining | bool | None = None, **options: Unpack[ClientOptions]) -> AsyncClient:
        """The same for async code.

        :param headers: HTTP headers of every exchange.
        :param joining: as that of :class:`~rpcretry.AsyncClient`.
        :param options: those of :class:`~rpcretry.client.ClientOptions`.
        """
        from ..client import AsyncClient

        time = self.time
        return AsyncClient(self.async_backend, headers=headers, clock=time.clock, sleep=time.sleep_together, joining=joining, **options)

    # --- what came ---

    @property
    def calls(self) -> list[Call]:
        """The calls that came, retries among them, in order: ``assert rpc_mock.calls == [("sum", [1, 2])]``."""
        with self._lock:
            return list(self._calls)

    def calls_of(self, method: str) -> list[Call]:
        """Those of one method."""
        return [call for call in self.calls if call.method == method]

    def assert_called_once_with(self, method: str, /, *args: object, **params: object) -> None:
        """Check that *method* was called once, with these params, which are written as for a client's ``call``.

        :raises AssertionError: naming the calls that there were.
        """
        __tracebackhide__ = True
        if args and params:
            raise TypeError(f"{method}: give params by position or by name, not both")
        wanted = lists(params or args) or None
        found = self.calls_of(method)
        if len(found) != 1:
            times = f"{len(found)} times" if found else "not at all"
            raise AssertionError(f"{method} was to be called once, and was called {times}; the calls were:{listed(self.calls)}")
        # Params that were given empty are none here, too: a client's call leaves them out.
        if wanted != (found[0].params or None):
            apart = told_apart(found[0].params, wanted).replace("; ", "\n", 1)
            raise AssertionError(f"wanted one call of {shown(method, wanted)}\nand it was one of   {shown(*found[0])}{apart}")

    def assert_not_called(self, method: str | None = None) -> None:
        """Check that *method* was not called, or nothing at all.

        :raises AssertionError: naming the calls that there were.
        """
        __tracebackhide__ = True
        found = self.calls if method is None else self.calls_of(method)
        if found:
            raise AssertionError(f"{'nothing' if method is None else method} was to be called; the calls were:{listed(found)}")

    def assert_all_used(self) -> None:
        """Check that every expectation had a call, and that replies whose number was given are used up.

        :raises AssertionError: naming those that are left.
        """
        __tracebackhide__ = True
        left = self._left(lambda expectation: not expectation.used)
        if left:
            raise AssertionError(f"not all replies were used:{''.join(left)}")

    def verify(self, after: BaseException | None = None) -> None:
        """Check that every call was expected and, where the mock is strict, that replies whose number was given are used up.

        :param after: the failure of the test; what it says is not said again, and replies may be left after it.
        :raises AssertionError: naming the calls, or the replies that are left.
        """
        known = _chain(after)
        told: list[str] = []
        for problem in self._unexpected:
            # One that is repeated, by a loop of the code under test, is told once.
            if id(problem) not in known and str(problem) not in told:
                told.append(str(problem))
        if told:
            raise AssertionError("\n".join(told))
        left = self._left(lambda expectation: False) if self.strict and after is None else []
        if left:
            raise AssertionError(f"not all replies were used:{''.join(left)}")

    def _left(self, is_left: Callable[[Expectation], bool]) -> list[str]:
        told = []
        for expectation in list(self._expectations):
            limit, used = expectation.limit, expectation.used
            if expectation.is_unfinished:
                told.append(f"\n  {expectation}: its reply is missing; add .returns(...)")
            elif limit is None:
                if is_left(expectation):
                    told.append(f"\n  {expectation}: never called")
            elif used < limit:
                told.append(f"\n  {expectation}: {used} of {limit} used")
        return told

    # --- standing in for servers ---

    @contextlib.contextmanager
    def _active(self) -> Iterator[RpcMock]:
        """All that the context does, but :meth:`verify` in the end."""
        with self.time.install(), standing_in(self):
            yield self

    def __enter__(self) -> RpcMock:
        if self._context is not None:
            raise RuntimeError("this RpcMock is entered already; make another one")
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._active())
            self._context = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None) -> None:
        context, self._context = self._context, None
        if context is not None:
            context.close()
        if problem is None:
            # Taken down as a fixture, it hears of the test's failure by the plugin alone.
            plugin = sys.modules.get("rpcretry.testing.plugin")
            self.verify(after=None if plugin is None else plugin.failure())
            return
        try:
            self.verify(after=problem)
        except AssertionError as more:
            problem.add_note(str(more))

    def _serves(self, url: str) -> bool:
        """Whether it stands in for the server at *url*."""
        return self._address is None or self._address.covers(url)

    def _lets_pass(self, url: str) -> bool:
        """Whether an exchange with *url* goes out."""
        return any(address.covers(url) for address in list(self._passing))

    def _expects(self, exchange: Exchange, url: str) -> bool:
        """Whether something is expected of every method in *exchange*."""
        expected = {expectation.method for expectation in list(self._expectations) if expectation._is_at(url)}
        return all(request.method in expected for request in exchange.requests)

    def _remember(self, problem: BaseException) -> None:
        """Fail the test in the end. It is logged at once: where a worker has died of it, the end may never come."""
        self._unexpected.append(problem)
        logger.error("%s", problem)

    # --- answering ---

    def _exchange(self, exchange: Exchange, url: str | None, headers: Headers) -> Reply:
        """Answer *exchange*.

        :param url: where it was sent.
        :param headers: its HTTP headers, and those of its backend.
        """
        __tracebackhide__ = True
        with self._watched():
            seconds, found = self._answer(exchange, url, headers)
            pass_sync(exchange, self.time, seconds)
        return delivered(found)

    async def _async_exchange(self, exchange: Exchange, url: str | None, headers: Headers) -> Reply:
        """The same for a task."""
        __tracebackhide__ = True
        with self._watched():
            seconds, found = self._answer(exchange, url, headers)
            await pass_async(exchange, self.time, seconds)
        return delivered(found)

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        """Remember what is to fail the test, whatever the code under test makes of it."""
        __tracebackhide__ = True
        try:
            yield
        except UnexpectedCall as problem:
            self._remember(problem)
            raise
        except AssertionError as problem:
            # Of a function of the test's.
            failed = UnexpectedCall(f"an assertion failed in a function that the mock was given: {problem}")
            self._remember(failed)
            raise failed from problem
        except BaseException as problem:
            if is_test_failure(problem):
                self._remember(problem)
            raise

    def _answer(self, exchange: Exchange, url: str | None, headers: Headers) -> tuple[float, Reply | Exception]:
        __tracebackhide__ = True
        refuse_late(exchange, self.time)
        try:
            document = json.loads(exchange.body)
        except ValueError as problem:
            raise UnexpectedCall(f"the mock reads JSON, and what the codec or a middleware made of {len(exchange.requests)} requests is none") from problem
        members = document if isinstance(document, list) else [document]
        with self._lock:
            self._exchanges += 1
            calls = [Call(member, headers, self._exchanges, url) for member in members]
            self._calls += calls
            steps: list[Step] = []
            for call in calls:
                steps.append(self._step(call))
        parts = [exchange] if members is not document else [part_of(exchange, place, member) for place, member in enumerate(members)]
        replies: list[Reply | Exception] = [played(step, part) for step, part in zip(steps, parts, strict=True)]
        seconds = max([step.seconds for step in steps], default=0.0)
        return seconds, replies[0] if members is not document else together(replies, calls)

    def _step(self, call: Call) -> Step:
        __tracebackhide__ = True
        candidates = [expectation for expectation in self._expectations if expectation.method == call.method and expectation._is_for(call)]
        # Of those that end the first, and of those that do not the last.
        order = sorted(enumerate(candidates), key=lambda item: (*item[1]._place, -item[0] if item[1]._place[1] else item[0]))
        for _, expectation in order:
            step = expectation._next()
            if step is not None:
                return step
        raise UnexpectedCall(f"unexpected call: {shown(*call)}; {hint(call, self._expectations, candidates)}")


class MockBackend:
    """A :class:`~rpcretry.transport.Backend` that an :class:`RpcMock` answers."""

    def __init__(self, mock: RpcMock) -> None:
        self._mock = mock

    def __repr__(self) -> str:
        return "<rpc mock>"

    def exchange(self, exchange: Exchange, /) -> Reply:
        __tracebackhide__ = True
        return self._mock._exchange(exchange, self._mock._url, Headers(exchange.headers or ()))

    def close(self) -> None:
        """There is nothing to close."""


class AsyncMockBackend:
    """The same for async clients."""

    def __init__(self, mock: RpcMock) -> None:
        self._mock = mock

    def __repr__(self) -> str:
        return "<rpc mock>"

    async def exchange(self, exchange: Exchange, /) -> Reply:
        __tracebackhide__ = True
        return await self._mock._async_exchange(exchange, self._mock._url, Headers(exchange.headers or ()))

    async def aclose(self) -> None:
        """There is nothing to close."""


def _chain(problem: BaseException | None) -> set[int]:
    """The ids of an exception and of all that it tells of."""
    known: set[int] = set()
    todo: list[BaseException | None] = [problem]
    while todo:
        error = todo.pop()
        if error is not None and id(error) not in known:
            known.add(id(error))
            todo += [error.__cause__, error.__context__, *getattr(error, "exceptions", ())]
    return known
