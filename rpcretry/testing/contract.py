"""What every backend must do, as tests that pytest collects.

For a backend of yours, put a class in a test file::

    from rpcretry.testing.contract import BackendContract

    class TestMine(BackendContract):
        def make(self, url):
            return MyBackend(url)

:class:`AsyncBackendContract` is the same for async backends. The tests talk HTTP/1.1 to a
:class:`~rpcretry.testing.LoopbackServer`. Those that wait for real have a true attribute ``waits``, by which a
conftest can mark them. Override a test to say that your backend differs there on purpose.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import math
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

from ..errors import Delivery
from ..transport import AsyncBackend, Backend, Exchange, Headers, Reply
from .server import RESET, SILENCE, Answer, Handler, LoopbackServer, Received

__all__ = ["AsyncBackendContract", "BackendContract"]

F = TypeVar("F", bound=Callable[..., None])

CALL = b'{"jsonrpc":"2.0","method":"m","id":1}'
ALL_BYTES = bytes(range(256)) * 800
STEP = 0.05
DRIP = 80


def waits(test: F) -> F:
    """Mark a test that takes some tenths of a second because it waits for a limit."""
    test.waits = True  # type: ignore[attr-defined]
    return test


class Carrier(Protocol):
    """A backend of either kind, seen from a sync test."""

    def exchange(self, exchange: Exchange, /) -> Reply: ...

    def together(self, exchanges: Sequence[Exchange], /) -> list[Reply]: ...

    def close(self) -> None: ...


class _SyncCarrier:
    def __init__(self, contract: BackendContract, url: str) -> None:
        self._contract = contract
        self._backend = contract.make(url)
        self.exchange = self._backend.exchange

    def together(self, exchanges: Sequence[Exchange], /) -> list[Reply]:
        with ThreadPoolExecutor(len(exchanges)) as pool:
            return list(pool.map(self._backend.exchange, exchanges))

    def close(self) -> None:
        self._backend.close()
        self._contract.unmake(self._backend)


class _AsyncCarrier:
    def __init__(self, contract: AsyncBackendContract, url: str) -> None:
        self._contract = contract
        self._runner = asyncio.Runner()
        try:
            self._backend = self._runner.run(self._make(url))
        except BaseException:
            self._runner.close()
            raise

    async def _make(self, url: str) -> AsyncBackend:
        return self._contract.make(url)

    def exchange(self, exchange: Exchange, /) -> Reply:
        return self._runner.run(self._one(exchange))

    async def _one(self, exchange: Exchange) -> Reply:
        reply = await self._backend.exchange(exchange)
        assert len(asyncio.all_tasks()) == 1, f"an exchange left tasks behind: {asyncio.all_tasks()}"
        return reply

    def together(self, exchanges: Sequence[Exchange], /) -> list[Reply]:
        return self._runner.run(self._all(exchanges))

    async def _all(self, exchanges: Sequence[Exchange]) -> list[Reply]:
        return await asyncio.gather(*map(self._backend.exchange, exchanges))

    def close(self) -> None:
        with self._runner:
            self._runner.run(self._close())

    async def _close(self) -> None:
        await self._backend.aclose()
        await self._contract.unmake(self._backend)


class _Contract:
    tolerance: float = 0.5
    """Seconds that an exchange may go on after its limit."""

    def _carrier(self, url: str) -> Carrier:
        raise NotImplementedError

    @contextlib.contextmanager
    def _serving(self, handler: Handler) -> Iterator[tuple[LoopbackServer, Carrier]]:
        with LoopbackServer(handler) as server, contextlib.closing(self._carrier(server.url)) as carrier:
            yield server, carrier

    def _answered(self, answer: Any) -> Reply:
        with self._serving(lambda request: answer) as (_, carrier):
            return carrier.exchange(_exchange())

    def _fails(self, actions: Callable[[], Any], limit: float = math.inf) -> BaseException:
        """The failure of an exchange that is answered so; afterwards nothing is leaked and the backend still works."""
        turns: Iterator[Any] = iter((actions,))

        def handle(request: Received) -> Any:
            turn = next(turns, None)
            return Answer(request.body) if turn is None else turn()

        with self._serving(handle) as (server, carrier):
            started = time.monotonic()
            problem = _problem(carrier, _exchange(ends_by=started + limit))
            took = time.monotonic() - started
            assert limit == math.inf or limit - 0.01 <= took < limit + self.tolerance, f"limited to {limit} s, it took {took:.3f} s"
            assert _settles(server, 0), "after a failure the connection is still open"
            assert carrier.exchange(_exchange(b'"next"')).body == b'"next"', "the exchange after a failure went wrong"
            assert len(server.requests) == 2, f"2 exchanges made {len(server.requests)} requests"
        return problem

    # --- what is sent ---

    def test_the_body_is_posted_byte_for_byte(self) -> None:
        with self._serving(lambda request: Answer(b"{}")) as (server, carrier):
            bodies = [CALL, ALL_BYTES, b" " * 1_000_000]
            for body in bodies:
                carrier.exchange(_exchange(body))
            assert [request.body for request in server.requests] == bodies
            assert {request.method for request in server.requests} == {"POST"}

    def test_the_content_type_is_exactly_application_json(self) -> None:
        with self._serving(lambda request: Answer(b"{}")) as (server, carrier):
            carrier.exchange(_exchange())
            assert server.requests[0].headers["Content-Type"] == "application/json"

    def test_headers_of_the_exchange_are_sent_and_override(self) -> None:
        with self._serving(lambda request: Answer(b"{}")) as (server, carrier):
            carrier.exchange(_exchange(headers=Headers({"content-type": "application/json-rpc", "X-Trace": "a b; c"})))
            carrier.exchange(_exchange())
        first, second = (request.headers for request in server.requests)
        assert (first["Content-Type"], first["X-Trace"]) == ("application/json-rpc", "a b; c")
        assert second["Content-Type"] == "application/json", "the headers of one exchange went out with the next"
        assert "X-Trace" not in second, "the headers of one exchange went out with the next"

    # --- what comes back ---

    def test_status_and_headers_come_back(self) -> None:
        for status in (200, 204, 400, 404, 500, 503):
            body = b"" if status == 204 else b'{"status":%d}' % status
            reply = self._answered(Answer(body, status, {"Content-Type": "application/json", "X-Kept": "yes", "Retry-After": "7"}))
            assert (reply.status, reply.body) == (status, body)
            headers = Headers(reply.headers)
            assert (headers["content-type"], headers["x-kept"], headers["retry-after"]) == ("application/json", "yes", "7")

    def test_an_empty_body_is_empty(self) -> None:
        for status in (200, 204, 500):
            reply = self._answered(Answer(b"", status))
            assert (reply.status, reply.body) == (status, b"")

    def test_the_body_comes_back_byte_for_byte(self) -> None:
        packed = gzip.compress(ALL_BYTES)
        for sent in (
            Answer(ALL_BYTES),
            Answer(_chunked(ALL_BYTES), headers={"Transfer-Encoding": "chunked"}),
            Answer(packed, headers={"Content-Encoding": "gzip"}),
            Answer(_chunked(packed), headers={"Content-Encoding": "gzip", "Transfer-Encoding": "chunked"}),
            [b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + ALL_BYTES, None],
        ):
            assert self._answered(sent).body == ALL_BYTES

    def test_a_redirect_is_returned_and_not_followed(self) -> None:
        for status in (301, 302, 303, 307, 308):
            with LoopbackServer(lambda request: Answer(b"{}")) as elsewhere:
                reply = self._answered(Answer(b"moved", status, {"Location": elsewhere.url}))
                assert (reply.status, Headers(reply.headers)["Location"]) == (status, elsewhere.url)
                assert elsewhere.requests == [], f"the redirect {status} was followed"

    # --- time limits ---

    def test_a_limit_that_is_past_sends_nothing(self) -> None:
        with self._serving(lambda request: Answer(request.body)) as (server, carrier):
            problem = _problem(carrier, _exchange(ends_by=time.monotonic() - 1))
            assert isinstance(problem, TimeoutError)
            assert _delivery(problem) is Delivery.NOT_SENT
            assert carrier.exchange(_exchange(b'"next"')).body == b'"next"'
            assert len(server.requests) == 1

    @waits
    def test_a_silent_server_ends_by_the_limit(self) -> None:
        _is_timeout(self._fails(lambda: SILENCE, limit=0.2))

    @waits
    def test_headers_that_drip_end_by_the_limit(self) -> None:
        _is_timeout(self._fails(lambda: _drip(b"HTTP/1.1 200 OK\r\nX-Drip: "), limit=0.3))

    @waits
    def test_a_body_that_drips_ends_by_the_limit(self) -> None:
        _is_timeout(self._fails(lambda: _drip(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"), limit=0.3))

    @waits
    def test_a_body_that_drips_in_chunks_ends_by_the_limit(self) -> None:
        _is_timeout(self._fails(lambda: _drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"), limit=0.3))

    @waits
    def test_an_upload_that_nobody_reads_ends_by_the_limit(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as deaf, contextlib.closing(self._carrier(_url(deaf))) as carrier:
            started = time.monotonic()
            problem = _problem(carrier, _exchange(b" " * 32_000_000, ends_by=started + 0.2))
            assert time.monotonic() - started < 0.2 + self.tolerance
            _is_timeout(problem)

    # --- failures ---

    def test_a_refused_connection_is_not_sent(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as gone:
            url = _url(gone)
        with contextlib.closing(self._carrier(url)) as carrier:
            problem = _problem(carrier, _exchange())
        assert isinstance(problem, ConnectionError), f"a refused connection must be a ConnectionError, it is {problem!r}"
        assert _delivery(problem) is Delivery.NOT_SENT

    def test_a_server_that_closes_without_an_answer(self) -> None:
        _is_lost(self._fails(lambda: None))

    def test_a_server_that_resets_without_an_answer(self) -> None:
        _is_lost(self._fails(lambda: RESET))

    def test_a_reset_in_the_headers(self) -> None:
        _is_lost(self._fails(lambda: [b"HTTP/1.1 200 OK\r\nContent-", RESET]))

    def test_a_reset_in_the_body(self) -> None:
        _is_lost(self._fails(lambda: [b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", RESET]))

    def test_a_body_that_is_cut(self) -> None:
        _is_lost(self._fails(lambda: [b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", None]))

    def test_a_chunked_body_that_is_cut(self) -> None:
        _is_lost(self._fails(lambda: [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{", None]))

    def test_an_answer_that_is_no_http_raises_and_leaves_nothing(self) -> None:
        assert _delivery(self._fails(lambda: [b"220 mail.example ESMTP\r\n\r\n", None])) is Delivery.MAYBE_EXECUTED

    def test_an_idle_connection_that_the_server_closed(self) -> None:
        with self._serving(lambda request: Answer(request.body)) as (server, carrier):
            carrier.exchange(_exchange(b"1"))
            server.drop_connections()
            assert _settles(server, 0)
            # It may go out on the dead connection, and then nobody knows; but only once.
            with contextlib.suppress(ConnectionError):
                assert carrier.exchange(_exchange(b"2")).body == b"2"
            assert carrier.exchange(_exchange(b"3")).body == b"3"

    # --- many at once, and the end ---

    def test_each_of_many_at_once_gets_its_own_answer(self) -> None:
        def handle(request: Received) -> Any:
            # The later ones overtake the earlier ones.
            return [0.03 - int(request.body) / 1000, Answer(b'"%s"' % request.body)]

        with self._serving(handle) as (server, carrier):
            bodies = [b"%d" % number for number in range(8)]
            replies = carrier.together([_exchange(body) for body in bodies])
            assert [reply.body for reply in replies] == [b'"%s"' % body for body in bodies]
            assert sorted(request.body for request in server.requests) == bodies

    def test_close_closes_all_connections(self) -> None:
        with LoopbackServer(lambda request: [0.02, Answer(request.body)]) as server:
            carrier = self._carrier(server.url)
            carrier.together([_exchange() for _ in range(4)])
            carrier.close()
            assert _settles(server, 0), f"close() left {server.open_connections} connections open"


class BackendContract(_Contract):
    """The tests for a :class:`~rpcretry.transport.Backend`. Subclass it and write :meth:`make`."""

    def make(self, url: str) -> Backend:
        """A new backend that sends to *url*, over which ``close()`` is called in the end."""
        raise NotImplementedError("write make(self, url) so that it returns your backend")

    def unmake(self, backend: Backend) -> None:
        """Close what :meth:`make` opened beside the backend, such as a session that the backend does not own."""

    def _carrier(self, url: str) -> Carrier:
        return _SyncCarrier(self, url)


class AsyncBackendContract(_Contract):
    """The tests for an :class:`~rpcretry.transport.AsyncBackend`. Subclass it and write :meth:`make`."""

    def make(self, url: str) -> AsyncBackend:
        """A new backend that sends to *url*; called inside of the event loop that the exchanges are made on."""
        raise NotImplementedError("write make(self, url) so that it returns your backend")

    async def unmake(self, backend: AsyncBackend) -> None:
        """Close what :meth:`make` opened beside the backend, such as a session that the backend does not own."""

    def _carrier(self, url: str) -> Carrier:
        return _AsyncCarrier(self, url)


def _exchange(body: bytes = CALL, headers: Mapping[str, str] | None = None, ends_by: float | None = None) -> Exchange:
    return Exchange(body, headers=headers, ends_by=time.monotonic() + 10 if ends_by is None or ends_by == math.inf else ends_by)


def _url(listener: socket.socket) -> str:
    return f"http://127.0.0.1:{listener.getsockname()[1]}/"


def _problem(carrier: Carrier, exchange: Exchange) -> BaseException:
    try:
        reply = carrier.exchange(exchange)
    except Exception as problem:
        return problem
    raise AssertionError(f"an exchange that must fail returned {reply!r}")


def _delivery(problem: BaseException) -> Delivery:
    """What the engine takes it for: an exception of a library counts as MAYBE_EXECUTED."""
    return getattr(problem, "delivery", Delivery.MAYBE_EXECUTED)


def _is_timeout(problem: BaseException) -> None:
    assert isinstance(problem, TimeoutError), f"an exchange that took too long must raise a TimeoutError, it raised {problem!r}"
    assert _delivery(problem) is Delivery.MAYBE_EXECUTED


def _is_lost(problem: BaseException) -> None:
    assert isinstance(problem, ConnectionError), f"a connection that broke must raise a ConnectionError, it raised {problem!r}"
    assert _delivery(problem) is Delivery.MAYBE_EXECUTED


def _settles(server: LoopbackServer, count: int, within: float = 3.0) -> bool:
    """Whether the server comes to see that many open connections; it learns of a closed one a moment later."""
    until = time.monotonic() + within
    while server.open_connections != count:
        if time.monotonic() > until:
            return False
        time.sleep(0.002)
    return True


def _drip(head: bytes, drop: bytes = b" ") -> Iterator[Any]:
    yield head
    for _ in range(DRIP):
        yield STEP
        yield drop


def _chunked(body: bytes, size: int = 10_000) -> bytes:
    parts = (body[start : start + size] for start in range(0, len(body), size))
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
