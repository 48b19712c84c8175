"""Clients over real connections to a server on loopback, of either kind, with calls that look the same."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import inspect
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
import requests

import rpcretry.backends.aiohttp
import rpcretry.backends.requests
from rpcretry.testing import Answer, LoopbackServer, Received
from rpcretry.transport import Exchange, Reply

KINDS = ("requests", "aiohttp")

both = pytest.mark.parametrize("kind", KINDS)


class Wire:
    """A client whose calls are awaited where they need to be.

    :param kind: ``requests`` or ``aiohttp``.
    :param session: what makes a session of the user's, called where such a session must be made.
    :param options: those of the client.
    """

    def __init__(self, kind: str, url: str, *, session: Callable[[], Any] | None = None, **options: Any) -> None:
        self.kind = kind
        self._runner = asyncio.Runner() if kind == "aiohttp" else None
        self.session: Any = None
        if session is not None:
            self.session = self.run(lambda: _later(session) if self._runner else session())
            options["session"] = self.session
        module = rpcretry.backends.requests if kind == "requests" else rpcretry.backends.aiohttp
        try:
            self.client: Any = module.Client(url, **options)
        except BaseException:
            if self._runner is not None:
                self._runner.close()
            raise

    def run(self, act: Callable[[], Any]) -> Any:
        """What *act* returns, awaited in the client's loop where it has one."""
        if self._runner is None:
            return act()

        async def wait() -> Any:
            value = act()
            return await value if inspect.isawaitable(value) else value

        return self._runner.run(wait())

    def call(self, *args: Any, **params: Any) -> Any:
        return self.run(lambda: self.client.call(*args, **params))

    def exchange(self, body: bytes = b"{}", **fields: Any) -> Reply:
        fields.setdefault("ends_by", time.monotonic() + 10)
        reply: Reply = self.run(lambda: self.client.backend.exchange(Exchange(body, **fields)))
        return reply

    def problem(self, body: bytes = b"{}", **fields: Any) -> Any:
        """The exception of an exchange that must fail, without the frames of the test."""
        try:
            self.exchange(body, **fields)
        except Exception as problem:
            return problem
        raise AssertionError("an exchange that must fail did not")

    def close(self) -> None:
        self.run(lambda: self.client.close())
        if self.session is not None:
            self.run(lambda: self.session.close())
        if self._runner is not None:
            self._runner.close()

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


async def _later(make: Callable[[], Any]) -> Any:
    return make()


def user_session(kind: str) -> Callable[[], Any]:
    """What makes a plain session of the library's."""
    return requests.Session if kind == "requests" else aiohttp.ClientSession


def closed_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port: int = gone.getsockname()[1]
    return port


def settles(condition: Callable[[], bool], within: float = 3.0) -> bool:
    """Whether *condition* comes true; a server learns a moment later what a client did."""
    until = time.monotonic() + within
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.002)
    return True


def one(request: Received) -> Answer:
    """The right answer to a single call: its params."""
    call = request.json
    return Answer({"jsonrpc": "2.0", "id": call.get("id"), "result": call.get("params")})


def forwarder() -> LoopbackServer:
    """An HTTP proxy that forwards requests; it counts them like any server."""

    def forward(request: Received) -> Answer:
        parts = urlsplit(request.path)
        connection = http.client.HTTPConnection(parts.netloc, timeout=5)
        fields = {name: value for name, value in request.headers.items() if name.lower() not in ("host", "connection", "proxy-authorization")}
        try:
            connection.request(request.method, parts.path or "/", request.body, fields)
            response = connection.getresponse()
            return Answer(response.read(), response.status, {"X-Proxied": "yes"})
        finally:
            connection.close()

    return LoopbackServer(forward)


class Tunnel:
    """A proxy that only understands CONNECT.

    :param status: what it answers; anything but 200 refuses.
    :ivar heads: the requests for tunnels, as they arrived.
    """

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.heads: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._sockets: list[socket.socket] = [self._listener]

    def __enter__(self) -> Tunnel:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        for open_socket in self._sockets:
            with contextlib.suppress(OSError):
                open_socket.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(3)
        for open_socket in self._sockets:
            open_socket.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._sockets.append(client)
            with contextlib.suppress(OSError):
                self._serve(client)

    def _serve(self, client: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            part = client.recv(65_536)
            if not part:
                return
            head += part
        self.heads.append(head)
        if self.status != 200:
            client.sendall(b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % self.status)
            client.shutdown(socket.SHUT_RDWR)
            return
        host, _, port = head.split()[1].decode().partition(":")
        server = socket.create_connection((host, int(port)))
        self._sockets.append(server)
        client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        for source, sink in ((client, server), (server, client)):
            thread = threading.Thread(target=_splice, args=(source, sink), daemon=True)
            self._threads.append(thread)
            thread.start()


class Plug:
    """A TCP server that treats each connection as *act* says, and closes it."""

    def __init__(self, act: Any) -> None:
        self._act = act
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.connections = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            with connection:
                self._act(connection)

    def __enter__(self) -> Plug:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(3)


def _splice(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while part := source.recv(65_536):
            sink.sendall(part)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def deaf() -> Iterator[str]:
    """The URL of a server whose connections are made and never read."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
