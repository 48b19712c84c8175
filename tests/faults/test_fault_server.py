"""The hostile server itself: what it counts, how it is changed and ended, what it draws, and what it refuses."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import json
import os
import random
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fault_rig import ALL, METHODS, add
from wire import Wire, both, settles

import rpcretry.backends.aiohttp
import rpcretry.backends.requests
import rpcretry.testing.faults as faults
from rpcretry import BatchRequest, ConnectError, Request, RequestTimeoutError, RpcRetryError
from rpcretry.testing.faults import (
    Arrival,
    BadChunks,
    Chunked,
    Close,
    CloseReused,
    ContentLength,
    Drip,
    FaultServer,
    Garbage,
    Huge,
    Interim,
    InTurn,
    Latency,
    Mix,
    OneError,
    Redirect,
    Refuse,
    Reset,
    RetryAfter,
    RpcError,
    Silence,
    SlowAccept,
    Stage,
    Status,
    Toxic,
    Truncate,
    Turn,
    WrongId,
    current_request,
)

CLIENT = rpcretry.backends.requests.Client


def posted(body: bytes, fields: bytes = b"") -> bytes:
    return b"POST / HTTP/1.1\r\nHost: x\r\n%sContent-Length: %d\r\n\r\n" % (fields, len(body)) + body


def said(port: int, *pieces: bytes) -> bytes:
    """All that the server says to these bytes until it closes, or for a moment."""
    with socket.create_connection(("127.0.0.1", port)) as plain:
        for piece in pieces:
            plain.sendall(piece)
        plain.shutdown(socket.SHUT_WR)
        data = b""
        while part := plain.recv(65_536):
            data += part
    return data


def document(answer: bytes) -> Any:
    return json.loads(answer.partition(b"\r\n\r\n")[2] or b"null")


# --- JSON-RPC, as it should be ---


def failing(code: Any) -> Callable[[], None]:
    def fail() -> None:
        error = ValueError("no")
        error.code = code  # type: ignore[attr-defined]
        raise error

    return fail


async def later(value: int) -> int:
    await asyncio.sleep(0)
    return value


SERVED = {"add": add, "later": later, "fail": failing(7), "odd": failing("x"), "object": lambda: object(), "quiet": failing(None)}


@pytest.mark.parametrize(
    ("body", "meaning"),
    [
        (b'{"jsonrpc": "2.0", "id": 1, "method": "add", "params": [1, 2]}', {"jsonrpc": "2.0", "id": 1, "result": 3}),
        (b'{"jsonrpc": "2.0", "id": "x", "method": "add", "params": {"a": 1, "b": 2}}', {"jsonrpc": "2.0", "id": "x", "result": 3}),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "later", "params": [5]}', {"jsonrpc": "2.0", "id": 1, "result": 5}),
        (b'{"jsonrpc": "2.0", "method": "add", "params": [1, 2]}', None),
        (b'[{"jsonrpc": "2.0", "method": "add", "params": [1, 2]}]', None),
        (
            b'[{"jsonrpc": "2.0", "id": 1, "method": "add", "params": [1, 2]}, {"jsonrpc": "2.0", "method": "add", "params": [1, 2]}]',
            [{"jsonrpc": "2.0", "id": 1, "result": 3}],
        ),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "fail"}', {"jsonrpc": "2.0", "id": 1, "error": {"code": 7, "message": "no"}}),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "odd"}', {"jsonrpc": "2.0", "id": 1, "error": {"code": -32000, "message": "no"}}),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "nothing"}', {"jsonrpc": "2.0", "id": 1, "error": {"code": -32601, "message": "Method not found"}}),
        (b"{", {"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": "Parse error"}}),
        (b"[]", {"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": "Invalid Request"}}),
        (b"7", {"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": "Invalid Request"}}),
    ],
)  # fmt: skip
def test_it_answers_as_a_server_should(body: bytes, meaning: Any) -> None:
    with FaultServer(SERVED) as server:
        answer = said(server.port, posted(body))
        assert document(answer) == meaning
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n" if meaning is not None else b"HTTP/1.1 204 No Content\r\n")


def test_a_result_that_is_no_json_is_an_error() -> None:
    with FaultServer(SERVED) as server, CLIENT(server.url) as client, pytest.raises(rpcretry.ServerError, match="not JSON serializable"):
        client.call("object")


def test_requests_arrive_in_any_framing() -> None:
    body = b'{"jsonrpc": "2.0", "id": 1, "method": "add", "params": [1, 2]}'
    chunks = (
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\n" + body[:5] + b"\r\n%x\r\n" % (len(body) - 5) + body[5:] + b"\r\n0\r\nX: y\r\n\r\n"
    )
    with FaultServer(SERVED) as server:
        assert document(said(server.port, chunks))["result"] == 3
        # A byte at a time, and two at once.
        assert document(said(server.port, *(bytes([byte]) for byte in posted(body))))["result"] == 3
        assert said(server.port, posted(body) * 2).count(b'"result": 3') == 2
        continued = said(server.port, posted(body, b"Expect: 100-continue\r\n"))
        assert continued.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK")
        assert said(server.port, posted(body, b"Connection: close\r\n") + posted(body)).count(b"HTTP/1.1") == 1
        assert sum(server.executed.values()) == 6


@pytest.mark.parametrize(
    "junk",
    [
        b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\n{}",
        b"x" * 300_000,
        b"",
    ],
    ids=lambda junk: repr(junk[-20:]),
)
def test_what_is_no_request_ends_the_connection_and_nothing_else(junk: bytes) -> None:
    with FaultServer(SERVED) as server:
        # It may close before it has read all of it.
        with contextlib.suppress(OSError):
            assert said(server.port, junk) == b""
        assert server.executed == {}
        with CLIENT(server.url) as client:
            assert client.call("add", 1, 2) == 3


# --- what it counts ---


def test_it_counts_what_it_has_executed() -> None:
    with FaultServer(SERVED) as server, CLIENT(server.url) as client:
        client.call("add", 1, 2)
        client.call("add", b=2, a=1)
        client.notify("add", 1, 2)
        client.send(BatchRequest(Request("add", [1, 2]), Request("later", [1]), Request("nothing")))
        with pytest.raises(RpcRetryError):
            client.call("fail")
        assert server.executed == {("add", "[1,2]"): 3, ("add", '{"a":1,"b":2}'): 1, ("later", "[1]"): 1, ("fail", "[]"): 1}
        assert server.times("add", 1, 2) == 3
        assert server.times("add", a=1, b=2) == server.times("add", b=2, a=1) == 1
        assert server.times("fail") == 1
        assert server.times("add", 9, 9) == 0
        with pytest.raises(TypeError, match="not both"):
            server.times("add", 1, b=2)
        # A copy of its own each time.
        server.executed.clear()
        assert server.times("fail") == 1


def test_the_log_says_what_happened_to_each_request() -> None:
    toxics = InTurn(None, [Latency(0), Status(503)], Reset("executed"), Close("unread"))
    with FaultServer(METHODS, toxics) as server, CLIENT(server.url) as client:
        for number in range(4):
            with_problem = number in (1, 2, 3)
            try:
                client.call("add", number, 0, _timeout=5)
                assert not with_problem
            except RpcRetryError:
                assert with_problem
        assert settles(lambda: all(entry.ended != "under way" for entry in server.log))
        seen = [(entry.number, entry.connection, entry.toxics, entry.executed, entry.status, entry.ended) for entry in server.log]
        assert seen == [
            (1, 1, (), True, 200, "kept"),
            (2, 1, (Latency(0), Status(503)), False, 503, "kept"),
            (3, 1, (Reset("executed"),), True, None, "reset"),
            (4, 2, (Close("unread"),), False, None, "closed"),
        ]
        assert [entry.calls for entry in server.log] == [(("add", f"[{number},0]", number + 1),) for number in range(3)] + [()]
        assert server.met == {"Latency": 1, "Status": 1, "Reset": 1, "Close": 1}


def test_the_log_is_bounded() -> None:
    with FaultServer(METHODS, log_size=3) as server, CLIENT(server.url) as client:
        for number in range(5):
            client.call("add", number, 0)
        assert [entry.number for entry in server.log] == [3, 4, 5]


def test_a_request_whose_client_goes_is_executed_all_the_same() -> None:
    with FaultServer(METHODS, Latency(0.05)) as server, CLIENT(server.url) as client:
        with pytest.raises(RequestTimeoutError):
            client.call("add", 1, 2, _timeout=0.02)
        assert settles(lambda: server.times("add", 1, 2) == 1)
        assert settles(lambda: server.log[0].ended in ("lost", "kept"))


def test_repetitions_with_a_key_are_answered_and_not_executed() -> None:
    gate = threading.Event()

    async def slow(token: int) -> int:
        while not gate.is_set():
            await asyncio.sleep(0.001)
        return token

    with FaultServer({"slow": slow}, InTurn(Reset("body")), dedupe=True) as server, CLIENT(server.url) as client:
        gate.set()
        with pytest.raises(RpcRetryError):
            client.call("slow", 1, _idempotency_key="a")
        assert client.call("slow", 1, _idempotency_key="b") == 1
        assert server.times("slow", 1) == 2
        gate.clear()
        # While the first one is under way, too.
        with pytest.raises(RequestTimeoutError):
            client.call("slow", 2, _idempotency_key="c", _timeout=0.05)
        threading.Timer(0.02, gate.set).start()
        with pytest.raises(rpcretry.IdentityError):
            # The key is an answer's, and so is its id.
            client.call("slow", 2, _idempotency_key="c")
        assert server.times("slow", 2) == 1


def test_methods_know_the_request() -> None:
    seen: list[Arrival] = []
    with FaultServer({"f": lambda a: seen.append(current_request())}) as server, CLIENT(server.url, headers={"X-Token": "t"}) as client:
        client.call("f", 1)
        client.call("f", 2)
    assert [(one.number, one.connection, one.place, one.headers["x-token"], one.calls[0].params) for one in seen] == [
        (1, 1, 1, "t", "[1]"),
        (2, 1, 2, "t", "[2]"),
    ]
    assert seen[0].document == {"jsonrpc": "2.0", "id": 1, "method": "f", "params": [1]}
    with pytest.raises(RuntimeError, match="for the methods of a FaultServer"):
        current_request()


# --- changed while it runs ---


def test_a_function_chooses() -> None:
    def choose(request: Arrival) -> Any:
        assert isinstance(request.document, dict)
        if request.calls[0].params == "[1,1]":
            return [Status(500)]
        return RpcError(-1, "no") if request.headers.get("x-no") else None

    with FaultServer(METHODS, choose) as server, CLIENT(server.url) as client:
        assert client.call("add", 2, 2) == 4
        with pytest.raises(rpcretry.HTTPStatusError):
            client.call("add", 1, 1)
        with pytest.raises(rpcretry.JsonRpcError, match="no"):
            client.call("add", 2, 2, _headers={"X-No": "1"})


def test_a_method_may_change_the_faults() -> None:
    def last() -> str:
        server.faults = Status(500)
        return "well"

    with FaultServer({"last": last}) as server, CLIENT(server.url) as client:
        # Many times: one in twenty of the next requests was quicker.
        for _ in range(60):
            assert client.call("last") == "well"
            with pytest.raises(rpcretry.HTTPStatusError):
                client.call("last")
            server.faults = None


@both
def test_it_stops_starts_and_restarts_on_the_same_port(kind: str) -> None:
    with FaultServer(METHODS) as server, Wire(kind, server.url) as client:
        port = server.port
        assert client.call("add", 1, 1) == 2
        server.stop()
        with pytest.raises(RpcRetryError):
            client.call("add", 1, 1)
        with pytest.raises(ConnectError):
            client.call("add", 1, 1)
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            # It keeps the port meanwhile.
            other.bind(("127.0.0.1", port))
        server.start()
        assert client.call("add", 1, 1) == 2
        server.restart()
        assert server.open_connections == 0
        assert client.run(lambda: client.client.call("add", 1, 1, _retry_strategy=rpcretry.RetryStrategy(idempotent=True))) == 2
        server.restart(down=0.02)
        with pytest.raises(RpcRetryError):
            client.call("add", 1, 1)
        assert settles(lambda: reachable(port))
        assert server.port == port


def reachable(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def test_refused_by_a_draw_is_for_a_while() -> None:
    with FaultServer(METHODS, Mix({Refuse(0.03): 1})) as server:
        assert reachable(server.port)
        assert settles(lambda: not reachable(server.port), within=1)
        server.faults = None
        assert settles(lambda: reachable(server.port))
        assert server.met["Refuse"] >= 1


def test_those_of_the_listener_may_be_chosen_for_a_request() -> None:
    with FaultServer(METHODS, InTurn(Refuse(0.05), SlowAccept(0.05))) as server, CLIENT(server.url) as client:
        with pytest.raises(rpcretry.ConnectionLostError):
            client.call("add", 1, 1)
        assert not reachable(server.port)
        assert settles(lambda: reachable(server.port))
        assert server.times("add", 1, 1) == 0
        assert client.call("add", 2, 2) == 4
        started = time.monotonic()
        with CLIENT(server.url) as other:
            assert other.call("add", 3, 3) == 6
        assert time.monotonic() - started > 0.03
        assert server.met == {"Refuse": 1, "SlowAccept": 1}


# --- ended ---


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@both
def test_it_ends_within_two_seconds_and_leaves_nothing(kind: str) -> None:
    gc.collect()
    before, threads = descriptors(), threading.active_count()
    server = FaultServer(METHODS, InTurn(Silence("read"), Latency(60), Drip("body", 1), Huge(), None, then=Silence("executed")))
    plain = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(8)]
    for one in plain[:6]:
        one.sendall(posted(b'{"jsonrpc": "2.0", "id": 1, "method": "add", "params": [1, 2]}'))
    assert settles(lambda: server.open_connections == 8)
    server.restart(down=30)
    started = time.monotonic()
    server.close()
    assert time.monotonic() - started < 2
    server.close()
    for one in plain:
        one.close()
    gc.collect()
    assert threading.active_count() == threads
    assert descriptors() == before


def test_a_method_that_does_not_return_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    from rpcretry.testing.faults import _server

    monkeypatch.setattr(_server, "PATIENCE", 0.05)
    gate = threading.Event()
    server = FaultServer({"wait": gate.wait})
    with CLIENT(server.url) as client, pytest.raises(RequestTimeoutError):
        client.call("wait", _timeout=0.05)
    with pytest.raises(RuntimeError, match="does not return"):
        server.close()
    gate.set()
    server._thread.join(5)
    assert not server._thread.is_alive()


def test_a_closed_server_says_so() -> None:
    server = FaultServer()
    server.close()
    for act in (server.stop, server.start, server.restart, lambda: setattr(server, "faults", None)):
        with pytest.raises(RuntimeError, match="was closed"):
            act()


def test_a_function_that_fails_is_told_of_at_the_end() -> None:
    def choose(request: Arrival) -> Toxic:
        raise LookupError("mine")

    server = FaultServer(METHODS, choose)
    with CLIENT(server.url) as client, pytest.raises(rpcretry.ConnectionLostError):
        client.call("add", 1, 2)
    with pytest.raises(RuntimeError, match="LookupError") as caught:
        server.close()
    assert isinstance(caught.value.__cause__, LookupError)
    with pytest.raises(KeyError) as failed, FaultServer(METHODS, choose) as server:
        with CLIENT(server.url) as client, pytest.raises(rpcretry.ConnectionLostError):
            client.call("add", 1, 2)
        raise KeyError("the test's own")
    assert "LookupError" in failed.value.__notes__[0]


def test_one_of_the_listener_that_fails_is_told_of_at_the_end() -> None:
    server = FaultServer(METHODS, SlowAccept(lambda source: "soon"))
    with CLIENT(server.url) as client, pytest.raises(rpcretry.ConnectionLostError):
        client.call("add", 1, 2, _timeout=2)
    with pytest.raises(RuntimeError, match="must be a number, got str 'soon'"):
        server.close()


def test_what_a_function_broke_is_lost_in_the_log() -> None:
    server = FaultServer(METHODS, lambda request: 1 / 0)
    with CLIENT(server.url) as client, pytest.raises(rpcretry.ConnectionLostError):
        client.call("add", 1, 2)
    assert [entry.ended for entry in server.log] == ["lost"]
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        server.close()


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_a_method_that_wants_to_end_the_process_ends_nothing(kind: type[BaseException]) -> None:
    def leave() -> None:
        raise kind("bye")

    with FaultServer({"leave": leave, "add": add}) as server, CLIENT(server.url) as client:
        with pytest.raises(rpcretry.ServerError, match="bye"):
            client.call("leave")
        server.faults = None
        assert client.call("add", 1, 2) == 3


def test_a_server_that_a_method_may_not_close_can_be_closed() -> None:
    servers: list[FaultServer] = []
    with FaultServer({"close": lambda: servers[0].close()}) as server, CLIENT(server.url) as client:
        servers.append(server)
        with pytest.raises(rpcretry.ServerError, match="call it from outside"):
            client.call("close")
    assert not server._thread.is_alive()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_in_a_forked_process_it_says_so_and_does_not_wait() -> None:
    with FaultServer(METHODS) as server, CLIENT(server.url) as client:
        child = os.fork()
        if child == 0:
            signal.alarm(5)
            code = 1
            with contextlib.suppress(BaseException):
                with pytest.raises(RuntimeError, match="forked"):
                    server.faults = None
                server.close()
                code = 0
            os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert client.call("add", 1, 2) == 3


def test_long_waits_are_written_as_digits() -> None:
    for seconds, written in ((1_000_000, b"1000000"), (5.0, b"5"), (0.25, b"0.25")):
        with FaultServer(METHODS, Status(429, retry_after=seconds)) as server:
            assert b"Retry-After: %s\r\n" % written in said(server.port, posted(b"{}"))


def test_a_taken_port_is_told_of() -> None:
    with FaultServer() as server, pytest.raises(OSError, match="in use"):
        FaultServer(port=server.port)


# --- from several sides ---


def test_threads_and_loops_use_it_at_once() -> None:
    found: list[int] = []

    async def tasks(url: str) -> list[int]:
        async with rpcretry.backends.aiohttp.Client(url) as client:
            return await asyncio.gather(*(client.call("add", number, 1) for number in range(20)))

    with FaultServer(METHODS, Latency((0, 0.002))) as server:

        def work(kind: int) -> None:
            if kind % 2:
                found.extend(asyncio.run(tasks(server.url)))
            else:
                with CLIENT(server.url) as client:
                    found.extend(client.call("add", number, 1) for number in range(20))

        threads = [threading.Thread(target=work, args=(kind,)) for kind in range(6)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            assert isinstance(server.executed, Counter)
            assert len(server.log) <= 120
        assert sorted(found) == sorted([*range(1, 21)] * 6)
        assert set(server.executed.values()) == {6}


def test_a_client_that_reads_slowly_is_waited_for() -> None:
    with FaultServer(METHODS, Huge(50_000_000)) as server, socket.create_connection(("127.0.0.1", server.port)) as plain:
        plain.sendall(posted(b'{"jsonrpc": "2.0", "id": 1, "method": "add", "params": [1, 2]}'))
        size = len(plain.recv(100))
        time.sleep(0.02)
        # It is held up by the system's buffers, and serves others meanwhile.
        assert server.log[0].ended == "under way"
        server.faults = None
        with CLIENT(server.url) as client:
            assert client.call("add", 1, 1) == 2
        plain.settimeout(10)
        while size < 50_000_000:
            size += len(plain.recv(1 << 20))
        assert settles(lambda: server.log[0].ended == "kept")


# --- what is drawn ---


def drawn(mix: Mix, seed: int, times: int = 200) -> list[tuple[Toxic, ...]]:
    return [mix.draw(random.Random(f"{seed}/{number}")) for number in range(times)]


def test_a_toxic_and_the_tuple_of_it_are_one_choice_with_both_weights() -> None:
    assert Mix({Reset(): 1, (Reset(),): 2, Status(503): 1}).toxics == {(Reset(),): 3, (Status(503),): 1}


def test_a_list_of_faults_is_read_back_as_a_tuple() -> None:
    """An append() to it would come to nothing, and say nothing."""
    given = [Status(503)]
    with FaultServer(METHODS, given) as server:
        assert server.faults == (Status(503),)
        given.append(Reset())
        assert server.faults == (Status(503),)
        server.faults = [*server.faults, Reset()]
        assert server.faults == (Status(503), Reset())


def test_a_mix_draws_by_seed_by_weight_and_by_rate() -> None:
    mix = Mix({Reset(): 3, (Status(503), Truncate()): 1, Close(): 0}, rate=0.5)
    assert drawn(mix, 1) == drawn(mix, 1) != drawn(mix, 2)
    counted = Counter(drawn(mix, 1, 4000))
    assert set(counted) == {(), (Reset(),), (Status(503), Truncate())}
    assert counted[()] == pytest.approx(2000, rel=0.1)
    assert counted[Reset(),] == pytest.approx(1500, rel=0.1)
    assert drawn(Mix({Reset(): 1}, rate=0), 1) == [()] * 200
    assert drawn(Mix({Reset(): 1}), 1) == [(Reset(),)] * 200


def test_a_mix_draws_several_at_once_and_none_twice() -> None:
    found = drawn(Mix({Reset(): 1, Close(): 1, Drip(): 1}, most=3), 1, 500)
    assert {len(toxics) for toxics in found} == {1, 2, 3}
    assert all(len(set(toxics)) == len(toxics) for toxics in found)


def test_the_listeners_share_of_a_mix_is_drawn_for_connections() -> None:
    mix = Mix({SlowAccept(0.001): 1, Status(500): 3}, rate=0.8)
    source = random.Random(1)
    of_requests = Counter(mix.draw(source) for _ in range(4000))
    of_connections = Counter(mix.draw(source, of_connections=True) for _ in range(4000))
    assert set(of_requests) == {(), (Status(500),)}
    assert of_requests[Status(500),] == pytest.approx(2400, rel=0.1)
    assert set(of_connections) == {(), (SlowAccept(0.001),)}
    assert of_connections[SlowAccept(0.001),] == pytest.approx(800, rel=0.15)


def test_the_same_seed_gives_the_same_faults_and_the_same_bytes() -> None:
    mix = Mix({Garbage(20, "body"): 1, WrongId(): 1, Latency((0, 0.001)): 1, Status(500): 1}, rate=0.7)
    body = posted(b'[{"jsonrpc": "2.0", "id": 1, "method": "add", "params": [1, 2]}, {"jsonrpc": "2.0", "id": 2, "method": "add", "params": [1, 2]}]')

    def run(seed: int) -> tuple[bytes, list[Any]]:
        with FaultServer(METHODS, mix, seed=seed) as server:
            return said(server.port, body * 30), [entry.toxics for entry in server.log]

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_keyed_by_what_is_called_the_order_does_not_matter() -> None:
    def run(keyed: Any, order: list[int]) -> dict[int, list[Any]]:
        found: dict[int, list[Any]] = {}
        with FaultServer(METHODS, Mix({Status(500): 1, Status(502): 1, Status(503): 1}, rate=0.7, keyed=keyed), seed=5) as server:
            for number in order:
                said(server.port, posted(b'{"jsonrpc": "2.0", "id": 1, "method": "add", "params": [%d, 0]}' % number))
            for number, entry in zip(order, server.log, strict=True):
                found.setdefault(number, []).append(entry.toxics)
        return found

    tokens = [*range(15), *range(15)]
    for keyed in (True, lambda arrival: arrival.document["params"][0]):
        forward, backward = run(keyed, tokens), run(keyed, tokens[::-1])
        assert forward == backward
        # The second time is another draw.
        assert any(first != second for first, second in forward.values())
    assert run(False, tokens) != run(False, tokens[::-1])


def test_in_turn_and_then() -> None:
    with FaultServer(METHODS, InTurn(Status(500), None, [Status(502)], then=Status(503))) as server:
        assert server.faults.choices[1] == ()  # type: ignore[union-attr]
        body = posted(b'{"jsonrpc": "2.0", "id": 1, "method": "add", "params": [1, 2]}')
        said(server.port, body * 5)
        assert [entry.status for entry in server.log] == [500, 200, 502, 503, 503]


def test_what_a_request_holds_is_not_asked_for_where_it_is_left_unread() -> None:
    """The client is in the middle of a long upload when the connection breaks."""
    with FaultServer({"size": len}, Reset("unread")) as server, CLIENT(server.url, timeout=5) as client:
        with pytest.raises(rpcretry.ConnectionLostError) as caught:
            client.call("size", "x" * 30_000_000)
        assert caught.value.delivery is rpcretry.Delivery.MAYBE_EXECUTED
        assert server.executed == {}


# --- toxics are values ---


@pytest.mark.parametrize("toxic", ALL, ids=lambda toxic: toxic.name)
def test_toxics_are_values_that_say_what_they_are(toxic: Toxic) -> None:
    twin = type(toxic)(**{field.name: getattr(toxic, field.name) for field in dataclasses.fields(toxic)})
    assert twin == toxic
    assert hash(twin) == hash(toxic)
    assert isinstance(toxic.stage, Stage)
    assert toxic.name == type(toxic).__name__ == type(toxic).__qualname__
    assert {type(toxic.harmless), type(toxic.lingers), type(toxic.executes)} == {bool}
    with pytest.raises(AttributeError):
        toxic.kind = 1  # type: ignore[attr-defined]


def test_the_rig_has_every_toxic() -> None:
    public = {name for name in faults.__all__ if isinstance(getattr(faults, name), type) and issubclass(getattr(faults, name), Toxic)} - {"Toxic"}
    assert {toxic.name for toxic in ALL} == public


def test_a_body_is_compressed_once() -> None:
    with FaultServer(METHODS, [faults.Gzip(), faults.Gzip("plain")]) as server, CLIENT(server.url) as client:
        assert client.call("add", 1, 2) == 3
        assert server.met == {"Gzip": 1}


class Shouting(Toxic):
    """A toxic of one's own."""

    _stage = Stage.HEAD

    def apply(self, turn: Turn) -> bool:
        turn.fields.append(("X-Shout", turn.arrival.calls[0].method.upper()))
        return True


def test_a_toxic_of_ones_own() -> None:
    with FaultServer(METHODS, Shouting()) as server:
        assert b"X-Shout: ADD\r\n" in said(server.port, posted(b'{"jsonrpc": "2.0", "id": 1, "method": "add", "params": [1, 2]}'))
        assert server.met == {"Shouting": 1}


# --- what it refuses ---


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (lambda: FaultServer([1]), TypeError, "methods must be a mapping"),
        (lambda: FaultServer({"a": 1}), TypeError, r"methods\['a'\] must be callable, got int"),
        (lambda: FaultServer({"": add}), ValueError, "must not be empty"),
        (lambda: FaultServer({1: add}), TypeError, "a name in methods must be a str"),
        (lambda: FaultServer(seed="x"), TypeError, "seed must be an int"),
        (lambda: FaultServer(port=70_000), ValueError, "at most 65535"),
        (lambda: FaultServer(port="80"), TypeError, "port must be an int"),
        (lambda: FaultServer(dedupe=1), TypeError, "dedupe must be True or False"),
        (lambda: FaultServer(log_size=0), ValueError, "log_size must be at least 1"),
        (lambda: FaultServer(faults=Reset), TypeError, r"write Reset\(\)"),
        (lambda: FaultServer(faults=[Reset]), TypeError, r"write Reset\(\)"),
        (lambda: FaultServer(faults=["Reset"]), TypeError, "must hold toxics only, got 'Reset'"),
        (lambda: FaultServer(faults="Reset"), TypeError, "must be a toxic or a sequence of them, got str"),
        (lambda: FaultServer(faults={Reset(): 1}), TypeError, "got dict"),
        (lambda: FaultServer(faults=lambda: None), TypeError, "it gets the Arrival"),
        (lambda: Mix([Reset()]), TypeError, "mapping from toxics to their weights"),
        (lambda: Mix({}), ValueError, "must not be empty"),
        (lambda: Mix({Reset(): 0}), ValueError, "a weight above 0"),
        (lambda: Mix({Reset(): -1}), ValueError, "at least 0"),
        (lambda: Mix({Reset(): "x"}), TypeError, "the weight of Reset"),
        (lambda: Mix({"Reset": 1}), TypeError, "toxics must be a toxic"),
        (lambda: Mix({Reset(): 1}, rate=2), ValueError, "rate must be at most 1"),
        (lambda: Mix({Reset(): 1}, most=0), ValueError, "most must be at least 1"),
        (lambda: Mix({Reset(): 1}, keyed=1), TypeError, "keyed must be callable"),
        (lambda: Mix({(Refuse(), Reset()): 1}), ValueError, "drawn at different times"),
        (lambda: InTurn("x"), TypeError, "choices must be a toxic"),
        (lambda: Reset("middle"), ValueError, "when must be one of unread, read"),
        (lambda: Reset(1), TypeError, "when must be a str"),
        (lambda: Close("bdoy"), ValueError, "did you mean body"),
        (lambda: Refuse(0), ValueError, "more than 0"),
        (lambda: Latency(-1), ValueError, "at least 0"),
        (lambda: Latency((2, 1)), ValueError, "at least 2"),
        (lambda: Latency((1,)), ValueError, "a pair"),
        (lambda: Latency(lambda: 1), TypeError, "it gets a random.Random"),
        (lambda: Latency(1, "between"), ValueError, "when must be one of before, after"),
        (lambda: Drip("foot"), ValueError, "part must be one of"),
        (lambda: Drip(size=0), ValueError, "size must be at least 1"),
        (lambda: Truncate(1), ValueError, "less than 1"),
        (lambda: Truncate(1.5), ValueError, "at most 1"),
        (lambda: Status(103), ValueError, "at least 200"),
        (lambda: Status(600), ValueError, "at most 599"),
        (lambda: Status(500, "page"), ValueError, "body must be one of"),
        (lambda: Status(500, "answer", executed=False), ValueError, "nothing would be there"),
        (lambda: Status(503, retry_after=[1]), TypeError, "retry_after must be a number"),
        (lambda: RetryAfter("soon"), ValueError, "form must be one of"),
        (lambda: Redirect(status=200), ValueError, "status must be 301"),
        (lambda: Redirect(""), ValueError, "must not be empty"),
        (lambda: ContentLength("wrong"), ValueError, "kind must be one of"),
        (lambda: Chunked(0), ValueError, "at least 1"),
        (lambda: BadChunks("x"), ValueError, "kind must be one of"),
        (lambda: Interim(200), ValueError, "100, 102 or 103"),
        (lambda: Interim(103.0), TypeError, "status must be an int"),
        (lambda: Redirect(status="302"), TypeError, "status must be an int"),
        (lambda: Redirect(executed="no"), TypeError, "executed must be True or False"),
        (lambda: Status(503, executed="no"), TypeError, "executed must be True or False"),
        (lambda: RpcError(executed=0), TypeError, "executed must be True or False"),
        (lambda: OneError(executed=0), TypeError, "executed must be True or False"),
        (lambda: Chunked(extension="no"), TypeError, "extension must be True or False"),
        (lambda: CloseReused(reset="no"), TypeError, "reset must be True or False"),
        (lambda: Huge(0), ValueError, "at least 1"),
        (lambda: RpcError("x"), TypeError, "code must be an int"),
        (lambda: WrongId("nul"), ValueError, "did you mean null"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_with_the_parameter_and_the_fix(make: Callable[[], object], kind: type[Exception], words: str) -> None:
    threads = threading.active_count()
    with pytest.raises(kind, match=words):
        make()
    assert threading.active_count() == threads


def test_it_binds_loopback_alone() -> None:
    source = "".join(path.read_text() for path in Path(faults.__file__).parent.glob("*.py"))
    assert "0.0.0.0" not in source
    with FaultServer() as server:
        assert server._engine._listener is not None
        assert server._engine._listener.getsockname()[0] == "127.0.0.1"
