"""DESIGN, Delivery: what is called NOT_SENT did not reach the server, and all else may have."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import threading
import time
from typing import Any

import aiohttp
import pytest
import requests
import urllib3
from wire import Plug, Tunnel, Wire, both, closed_port, deaf, forwarder, one, user_session

from rpcretry import (
    CertificateError,
    ConnectError,
    ConnectionLostError,
    ConnectTimeoutError,
    Delivery,
    InvalidTargetError,
    RequestTimeoutError,
    TransportError,
)
from rpcretry.retry import PeriodicBackoff, RetryStrategy
from rpcretry.testing import RESET, SILENCE, Answer, LoopbackServer, Received
from rpcretry.testing.contract import waits

LIBRARY = {"requests": requests.ConnectionError, "aiohttp": aiohttp.ClientConnectorError}
owned_or_not = pytest.mark.parametrize("owned", [True, False], ids=["own session", "user's session"])


def wire(kind: str, url: str, owned: bool, **options: Any) -> Wire:
    return Wire(kind, url, session=None if owned else user_session(kind), **options)


# --- no connection ---


@both
@owned_or_not
def test_refused_is_not_sent(kind: str, owned: bool) -> None:
    with wire(kind, f"http://127.0.0.1:{closed_port()}/", owned) as client:
        problem = client.problem()
    assert type(problem) is ConnectError
    assert isinstance(problem, ConnectionError)
    assert problem.delivery is Delivery.NOT_SENT
    assert isinstance(problem.__cause__, LIBRARY[kind])


@both
@owned_or_not
def test_a_host_without_an_address_is_not_sent(kind: str, owned: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def lookup(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    with wire(kind, "http://nowhere.invalid/", owned) as client:
        problem = client.problem()
    assert type(problem) is ConnectError
    assert problem.delivery is Delivery.NOT_SENT
    assert "nowhere.invalid" in str(problem)
    assert "Name or service not known" in str(problem)


@both
@owned_or_not
@waits
def test_a_connect_timeout_is_not_sent_and_is_both_builtins(kind: str, owned: bool) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        # With the backlog full, the next connection's handshake goes unanswered.
        waiting = [socket.socket() for _ in range(3)]
        for early in waiting:
            early.setblocking(False)
            early.connect_ex(("127.0.0.1", port))
        time.sleep(0.02)
        started = time.monotonic()
        with wire(kind, f"http://127.0.0.1:{port}/", owned, connect_timeout=0.15) as client:
            problem = client.problem()
        took = time.monotonic() - started
        for early in waiting:
            early.close()
    assert type(problem) is ConnectTimeoutError
    assert isinstance(problem, ConnectionError)
    assert isinstance(problem, TimeoutError)
    assert problem.delivery is Delivery.NOT_SENT
    assert 0.14 < took < 1


@both
def test_a_retried_not_sent_call_is_executed_once(kind: str) -> None:
    """The proof is what the server counts: the preset sends a NOT_SENT call again, though nobody called it idempotent."""
    port = closed_port()
    started: list[LoopbackServer] = []

    def start(event: Any) -> None:
        if type(event).__name__ == "RetryScheduled" and not started:
            server = LoopbackServer(one)
            server._listener.close()
            server._listener = socket.create_server(("127.0.0.1", port))
            started.append(server.__enter__())

    with Wire(kind, f"http://127.0.0.1:{port}/", on_event=start, retry_strategy=RetryStrategy(backoff=PeriodicBackoff(attempts=2, interval=0.001))) as client:
        assert client.call("pay", 5) == [5]
    assert [request.json["method"] for request in started[0].requests] == ["pay"]
    started[0].close()


# --- after the request began to leave ---


@both
@owned_or_not
@pytest.mark.parametrize("action", [None, RESET], ids=["closed", "reset"])
def test_a_server_that_acts_and_vanishes_is_maybe_executed(kind: str, owned: bool, action: Any) -> None:
    done: list[Received] = []

    def act(request: Received) -> Any:
        done.append(request)
        return action

    with LoopbackServer(act) as server, wire(kind, server.url, owned) as client:
        problem = client.problem()
    assert type(problem) is ConnectionLostError
    assert problem.delivery is Delivery.MAYBE_EXECUTED
    assert len(done) == 1


@both
@owned_or_not
def test_eof_on_a_reused_connection_is_maybe_executed(kind: str, owned: bool) -> None:
    answers: list[Any] = [Answer(b"1"), None]
    with LoopbackServer(lambda request: answers.pop(0)) as server, wire(kind, server.url, owned) as client:
        client.exchange()
        problem = client.problem()
        assert server.connections == 1
        assert len(server.requests) == 2
    assert type(problem) is ConnectionLostError
    assert problem.delivery is Delivery.MAYBE_EXECUTED


@both
@waits
def test_an_answer_in_time_or_a_timeout_that_is_maybe_executed(kind: str) -> None:
    with LoopbackServer(lambda request: SILENCE) as server, Wire(kind, server.url) as client:
        problem = client.problem(ends_by=time.monotonic() + 0.1)
        assert len(server.requests) == 1
    assert type(problem) is RequestTimeoutError
    assert problem.delivery is Delivery.MAYBE_EXECUTED


@waits
def test_a_limit_that_expires_with_the_payload_unwritten_is_not_sent() -> None:
    """Waiting for a free connection of aiohttp's pool: the payload that notes its first write says that it has none."""
    release = threading.Event()

    def hold(request: Received) -> Any:
        release.wait(3)
        return Answer(request.body)

    async def scenario(client: Any) -> Any:
        from rpcretry.transport import Exchange

        first = asyncio.create_task(client.backend.exchange(Exchange(b"1")))
        await asyncio.sleep(0.02)
        try:
            await client.backend.exchange(Exchange(b"2", ends_by=time.monotonic() + 0.1))
        except Exception as problem:
            return problem
        finally:
            release.set()
            await first

    with LoopbackServer(hold) as server, Wire("aiohttp", server.url, limit=1) as client:
        problem = client.run(lambda: scenario(client.client))
        assert [request.body for request in server.requests] == [b"1"]
    assert type(problem) is RequestTimeoutError
    assert problem.delivery is Delivery.NOT_SENT


@both
@waits
def test_an_upload_that_is_cut_is_maybe_executed(kind: str) -> None:
    with deaf() as url, Wire(kind, url) as client:
        problem = client.problem(b" " * 32_000_000, ends_by=time.monotonic() + 0.1)
    assert problem.delivery is Delivery.MAYBE_EXECUTED


# --- proxies ---


@both
@owned_or_not
def test_a_forwarding_proxy_that_vanishes_after_it_forwarded_is_maybe_executed(kind: str, owned: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trap: urllib3 calls this, too, a ProxyError."""
    executed: list[Received] = []

    def forward(request: Received) -> Any:
        executed.append(request)
        return None

    with LoopbackServer(forward) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        session = None if owned else (lambda: aiohttp.ClientSession(trust_env=True)) if kind == "aiohttp" else requests.Session
        with Wire(kind, "http://service.test/", session=session) as client:
            problem = client.problem()
        assert executed[0].path == "http://service.test/"
        if kind == "requests":
            with requests.Session() as plain, pytest.raises(requests.exceptions.ProxyError):
                plain.post("http://service.test/", data=b"{}", timeout=5)
    assert type(problem) is ConnectionLostError
    assert problem.delivery is Delivery.MAYBE_EXECUTED


@both
@owned_or_not
def test_a_refused_proxy_is_not_sent(kind: str, owned: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed_port()}")
    session = None if owned else (lambda: aiohttp.ClientSession(trust_env=True)) if kind == "aiohttp" else requests.Session
    with Wire(kind, "http://service.test/", session=session) as client:
        problem = client.problem()
    assert type(problem) is ConnectError
    assert problem.delivery is Delivery.NOT_SENT


@both
@owned_or_not
def test_a_refused_tunnel_is_not_sent(kind: str, owned: bool, monkeypatch: pytest.MonkeyPatch, tls: Any) -> None:
    with Tunnel(status=403) as proxy, LoopbackServer(one, tls=tls.server) as server:
        monkeypatch.setenv("https_proxy", proxy.url)
        session = None if owned else (lambda: aiohttp.ClientSession(trust_env=True)) if kind == "aiohttp" else requests.Session
        with Wire(kind, server.url, session=session) as client:
            problem = client.problem()
        assert len(proxy.heads) == 1
        assert server.requests == []
    assert type(problem) is ConnectError
    assert problem.delivery is Delivery.NOT_SENT


@both
def test_through_a_tunnel(kind: str, monkeypatch: pytest.MonkeyPatch, tls: Any) -> None:
    with LoopbackServer(lambda request: Answer(request.body), tls=tls.server) as server, Tunnel() as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        with Wire(kind, server.url, **tls.trust(kind)) as client:
            assert client.exchange(b'"x"').body == b'"x"'
        assert proxy.heads[0].startswith(b"CONNECT 127.0.0.1:")


@both
def test_an_exchange_lost_in_a_tunnel_is_maybe_executed(kind: str, monkeypatch: pytest.MonkeyPatch, tls: Any) -> None:
    with LoopbackServer(lambda request: None, tls=tls.server) as server, Tunnel() as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        with Wire(kind, server.url, **tls.trust(kind)) as client:
            assert client.problem().delivery is Delivery.MAYBE_EXECUTED
        assert len(server.requests) == 1


@both
def test_a_forwarding_proxy_carries_calls(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with LoopbackServer(one) as server, forwarder() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        with Wire(kind, server.url) as client:
            assert client.call("m", 1) == [1]
        assert len(proxy.requests) == len(server.requests) == 1


# --- TLS ---


@both
@owned_or_not
def test_a_certificate_that_is_not_trusted_is_not_sent_and_never_transient(kind: str, owned: bool, tls: Any) -> None:
    named = {"requests": requests.ConnectionError, "aiohttp": aiohttp.ClientError}[kind]
    strategy = RetryStrategy(exceptions={named, ConnectionError, OSError}, backoff=PeriodicBackoff(attempts=3, interval=0.001))
    with LoopbackServer(one, tls=tls.server) as server:
        with wire(kind, server.url, owned, retry_strategy=strategy) as client, pytest.raises(CertificateError, match="is not trusted") as raised:
            client.call("m")
        assert server.connections == 1, "a bad certificate was tried again"
        assert server.requests == []
    assert raised.value.delivery is Delivery.NOT_SENT
    assert not isinstance(raised.value, ConnectionError)
    assert isinstance(raised.value.__cause__, named)


@both
def test_a_certificate_that_is_trusted(kind: str, tls: Any) -> None:
    with LoopbackServer(one, tls=tls.server) as server, Wire(kind, server.url, **tls.trust(kind)) as client:
        assert client.call("m", 1) == [1]


@both
def test_a_certificate_for_another_host_is_not_trusted(kind: str, tls: Any) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.authority.issue_cert("other.test").configure_cert(context)
    with LoopbackServer(one, tls=context) as server, Wire(kind, server.url, **tls.trust(kind)) as client:
        problem = client.problem()
        assert type(problem) is CertificateError
        assert "IP address mismatch, certificate is not valid for '127.0.0.1'" in str(problem)
        assert server.requests == []


@both
@owned_or_not
@pytest.mark.parametrize("act", [lambda connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"), lambda connection: connection.recv(1)])
def test_a_tls_handshake_that_fails_reached_no_server(kind: str, owned: bool, act: Any) -> None:
    """urllib3 reports it by a type that it also uses for a break in mid-exchange, so on a user's session nobody can tell."""
    with Plug(act) as server, wire(kind, f"https://127.0.0.1:{server.port}/", owned) as client:
        problem = client.problem()
        assert server.connections == 1
    assert isinstance(problem, TransportError)
    assert isinstance(problem, ConnectionError)
    if owned or kind == "aiohttp":
        assert type(problem) is ConnectError
        assert problem.delivery is Delivery.NOT_SENT
    else:
        assert problem.delivery is Delivery.MAYBE_EXECUTED


@both
@owned_or_not
@pytest.mark.parametrize("when", ["before", "within"])
def test_a_tls_break_in_mid_exchange_is_maybe_executed(kind: str, owned: bool, when: str, tls: Any) -> None:
    """requests raises the same types before and after the server read the body."""
    executed: list[bytes] = []

    def act(plain: socket.socket) -> None:
        with tls.server.wrap_socket(plain, server_side=True) as secure:
            executed.append(secure.recv(65_536))
            if when == "within":
                secure.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
            secure.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def session() -> Any:
        if kind == "aiohttp":
            return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls.context))
        chosen = requests.Session()
        chosen.verify = tls.path
        return chosen

    with Plug(act) as server:
        url = f"https://127.0.0.1:{server.port}/"
        with Wire(kind, url, **tls.trust(kind)) if owned else Wire(kind, url, session=session) as client:
            problem = client.problem()
        assert len(executed) == 1
    assert type(problem) is ConnectionLostError
    assert problem.delivery is Delivery.MAYBE_EXECUTED


# --- nothing to send to ---


def test_a_header_that_requests_refuses_is_not_sent_and_never_transient() -> None:
    def session() -> requests.Session:
        chosen = requests.Session()
        chosen.headers["X-Key"] = "one\ntwo-s3cret"
        return chosen

    strategy = RetryStrategy(exceptions={requests.RequestException, ValueError}, backoff=PeriodicBackoff(attempts=3, interval=0.001))
    with LoopbackServer(one) as server, Wire("requests", server.url, session=session, retry_strategy=strategy) as client:
        with pytest.raises(InvalidTargetError) as raised:
            client.call("m")
        assert server.connections == 0
    assert raised.value.delivery is Delivery.NOT_SENT
    assert "s3cret" not in f"{raised.value!r} {raised.value.__cause__!r}"


def test_the_type_alone_proves_a_refusal_on_a_users_session() -> None:
    """NewConnectionError is urllib3's proof; without an adapter of ours there is no other."""
    with Wire("requests", f"http://127.0.0.1:{closed_port()}/", session=requests.Session) as client:
        problem = client.problem()
    assert isinstance(problem.__cause__.args[0].reason, urllib3.exceptions.NewConnectionError)
