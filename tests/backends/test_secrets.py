"""DESIGN, Errors: no message, repr, traceback or log carries a URL's path, query or user-info, or a header's value."""

from __future__ import annotations

import contextlib
import logging
import socket
import struct
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from wire import Tunnel, Wire, both, closed_port, deaf, user_session

from rpcretry import RpcRetryError
from rpcretry.events import LoggingSink
from rpcretry.retry import PeriodicBackoff, RetryStrategy
from rpcretry.testing import RESET, SILENCE, Answer, LoopbackServer
from rpcretry.testing.contract import waits

SECRET = "s3cret"
# Written in ways that the libraries write otherwise.
SUFFIX = f"v1/{SECRET}/ключ-{SECRET}?key={SECRET}%20{SECRET}&q=a'b"


def everything(problem: BaseException) -> str:
    """All that a log or a screen can show of an exception, but for lines of source."""
    seen: list[str] = []
    todo: list[BaseException | None] = [problem]
    while todo:
        error = todo.pop()
        if error is None:
            continue
        seen += [str(error), repr(error), *getattr(error, "__notes__", ())]
        seen += traceback.format_exception_only(error)
        todo += [error.__cause__, None if error.__suppress_context__ else error.__context__]
    return "\n".join(seen)


@contextlib.contextmanager
def served(act: Callable[[Any], Any], tls: Any = None) -> Iterator[str]:
    with LoopbackServer(act, tls=tls) as server:
        yield server.url


@contextlib.contextmanager
def refused() -> Iterator[str]:
    yield f"http://127.0.0.1:{closed_port()}/"


FAILURES: dict[str, Callable[[], Any]] = {
    "refused": refused,
    "closed": lambda: served(lambda request: None),
    "reset": lambda: served(lambda request: RESET),
    "cut": lambda: served(lambda request: [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", None]),
    "no http": lambda: served(lambda request: [b"220 no http\r\n\r\n", None]),
    "bad chunks": lambda: served(lambda request: [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", None]),
    "bad gzip": lambda: served(lambda request: Answer(b"no gzip", headers={"Content-Encoding": "gzip"})),
    "too large": lambda: served(lambda request: Answer(b" " * 2_000)),
    "status": lambda: served(lambda request: Answer(b"<html>", 500, {"Set-Cookie": SECRET})),
    "redirect": lambda: served(lambda request: Answer(b"", 302, {"Location": f"http://user:{SECRET}@elsewhere.test/{SECRET}?{SECRET}"})),
    "garbage": lambda: served(lambda request: Answer(b"<html>")),
    "error": lambda: served(lambda request: Answer({"jsonrpc": "2.0", "id": 1, "error": {"code": 5, "message": "no"}})),
}


@both
@pytest.mark.parametrize("owned", [True, False], ids=["own session", "user's session"])
@pytest.mark.parametrize("name", FAILURES)
def test_no_secret_is_shown(kind: str, owned: bool, name: str, caplog: pytest.LogCaptureFixture) -> None:
    strategy = RetryStrategy(exceptions={Exception}, codes={5}, statuses=range(300, 600), backoff=PeriodicBackoff(attempts=1, interval=0.001))
    caplog.set_level(logging.DEBUG, "rpcretry")
    with FAILURES[name]() as base:
        url = base.replace("://", f"://{SECRET}:{SECRET}@") + SUFFIX
        options: dict[str, Any] = {"headers": {"X-Key": SECRET}, "max_response_size": 1_000, "retry_strategy": strategy, "on_event": LoggingSink()}
        with Wire(kind, url, session=None if owned else user_session(kind), **options) as client:
            with pytest.raises(RpcRetryError) as raised:
                client.call("m", _headers={"X-Other": SECRET})
            assert SECRET not in repr(client.client)
            assert SECRET not in repr(client.client.backend)
    assert SECRET not in everything(raised.value)
    logged = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("rpcretry"))
    assert "attempt" in logged
    assert SECRET not in logged


@both
@waits
def test_timeouts_and_broken_uploads_show_no_secret(kind: str) -> None:
    """aiohttp writes the whole URL into what it raises for an upload that broke."""
    with served(lambda request: SILENCE) as base, Wire(kind, base + SUFFIX) as client:
        assert SECRET not in everything(client.problem(ends_by=time.monotonic() + 0.1))
    with deaf() as base, Wire(kind, base + SUFFIX) as client:
        assert SECRET not in everything(client.problem(b" " * 32_000_000, ends_by=time.monotonic() + 0.1))


@both
def test_an_upload_that_the_server_resets_shows_no_secret(kind: str) -> None:
    def serve() -> None:
        connection, _ = listener.accept()
        connection.recv(10)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        with Wire(kind, f"http://127.0.0.1:{listener.getsockname()[1]}/{SUFFIX}") as client:
            problem = client.problem(b" " * 32_000_000)
        thread.join(3)
    assert isinstance(problem, ConnectionError)
    assert SECRET not in everything(problem)
    assert "127.0.0.1" in str(problem)


@both
def test_certificates_and_tunnels_show_no_secret(kind: str, tls: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(lambda request: None, tls.server) as base:
        with Wire(kind, base + SUFFIX) as client:
            assert SECRET not in everything(client.problem())
        with Tunnel(status=407) as proxy:
            monkeypatch.setenv("https_proxy", proxy.url.replace("://", f"://user:{SECRET}@"))
            with Wire(kind, base + SUFFIX) as client:
                assert SECRET not in everything(client.problem())
                assert SECRET not in repr(client.client)
        monkeypatch.setenv("https_proxy", f"http://user:{SECRET}@127.0.0.1:{closed_port()}")
        with Wire(kind, base + SUFFIX) as client:
            assert SECRET not in everything(client.problem())


def test_params_of_a_session_of_requests_are_as_secret_as_the_url() -> None:
    def make() -> requests.Session:
        session = requests.Session()
        session.params = {"key": SECRET}
        return session

    with Wire("requests", f"http://127.0.0.1:{closed_port()}", session=make) as client:
        assert SECRET not in everything(client.problem())


def test_a_hook_that_raises_for_status_shows_no_secret() -> None:
    def make() -> requests.Session:
        session = requests.Session()
        session.hooks["response"].append(lambda response, **_: response.raise_for_status())
        return session

    with served(lambda request: Answer(b"", 500)) as base, Wire("requests", base + SUFFIX, session=make) as client:
        problem = client.problem()
        assert isinstance(problem.__cause__, requests.HTTPError)
        assert SECRET not in everything(problem)


@both
@pytest.mark.parametrize(
    "url", [f"http://{SECRET}:x@host:99999/", f"ftp://host/{SECRET}", f"http:///{SECRET}", f"http://[{SECRET}/", f"http://host/{SECRET} x", f"{SECRET}"]
)
def test_a_url_that_is_refused_is_not_shown(kind: str, url: str) -> None:
    with pytest.raises(ValueError, match="url") as raised:
        Wire(kind, url)
    assert SECRET not in everything(raised.value)


@both
@pytest.mark.parametrize("headers", [{"X-Key": f"{SECRET}\r\nX: y"}, {"X-Key": f"{SECRET}\u20ac"}, {"X-Key": f"{SECRET}\0"}])
def test_a_header_that_is_refused_is_not_shown(kind: str, headers: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="X-Key") as raised:
        Wire(kind, "http://host.test/", headers=headers)
    assert SECRET not in everything(raised.value)


@both
def test_an_auth_that_is_refused_is_not_shown(kind: str) -> None:
    for auth in ([SECRET, SECRET], (SECRET,), SECRET, (f"a:{SECRET}", SECRET), (SECRET, 5)):
        with pytest.raises((TypeError, ValueError), match="auth") as raised:
            Wire(kind, "http://host.test/", auth=auth)
        assert SECRET not in everything(raised.value)
