"""An HTTP server on loopback that does exactly what a test says, down to the bytes."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Final, TypeAlias

from ..transport import Headers

__all__ = ["RESET", "SILENCE", "Answer", "Handler", "LoopbackServer", "Received", "rpc"]


JUNK = 65_536


class Received:
    """A request as it arrived.

    :ivar method: the HTTP method.
    :ivar path: the path with the query.
    :ivar headers: the headers, names in any case.
    :ivar body: the bytes of the body.
    :ivar connection: the number of the connection, from 1.
    """

    __slots__ = ("body", "connection", "headers", "method", "path")

    def __init__(self, method: str, path: str, headers: Headers, body: bytes, connection: int) -> None:
        self.method = method
        self.path = path
        self.headers = headers
        self.body = body
        self.connection = connection

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    def __repr__(self) -> str:
        return f"<Received {self.method} {self.path} {self.body[:80]!r}>"


class Answer:
    """A well-formed HTTP answer.

    :param body: bytes, or a value to send as JSON.
    :param close: whether to close the connection after it.
    """

    __slots__ = ("body", "close", "headers", "status")

    def __init__(self, body: object = b"", status: int = 200, headers: Mapping[str, str] | None = None, *, close: bool = False) -> None:
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.status = status
        self.headers = dict(headers or {"Content-Type": "application/json"})
        self.close = close

    def head(self) -> bytes:
        fields = {**self.headers}
        names = {name.lower() for name in fields}
        if "content-length" not in names and "transfer-encoding" not in names and self.status != 204:
            fields["Content-Length"] = str(len(self.body))
        if self.close:
            fields["Connection"] = "close"
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return f"HTTP/1.1 {self.status} Whatever\r\n{lines}\r\n".encode("latin-1")


class _Named:
    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


RESET: Final = _Named("RESET")
"""An action: break the connection with a TCP reset."""
SILENCE: Final = _Named("SILENCE")
"""An action: say nothing until the client closes the connection."""

Action: TypeAlias = "Answer | bytes | float | _Named | None"
Handler: TypeAlias = "Callable[[Received], Action | Iterable[Action]]"


class LoopbackServer:
    """Serves on a free port of 127.0.0.1, a thread for each connection.

    :param handler: called for each request; returns what to do, or an iterable of it: an :class:`Answer`, raw
        ``bytes``, a number of seconds to sleep, :data:`SILENCE`, :data:`RESET`, or ``None`` to close the connection.
    :param tls: a server-side context, to speak TLS.
    :ivar requests: the requests that arrived whole, in order.
    :ivar connections: how many connections were made.
    """

    def __init__(self, handler: Handler, *, tls: ssl.SSLContext | None = None) -> None:
        self.handler = handler
        self.tls = tls
        self.requests: list[Received] = []
        self.connections = 0
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self._closing = threading.Event()
        self._serving: list[threading.Thread] = []
        self._thread = threading.Thread(target=self._accept, name="rpcretry-loopback", daemon=True)

    @property
    def url(self) -> str:
        """Where to send requests."""
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}/"

    @property
    def bodies(self) -> list[Any]:
        """The JSON documents that arrived, in order."""
        return [request.json for request in self.requests]

    def __enter__(self) -> LoopbackServer:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening and break all connections."""
        self._closing.set()
        with contextlib.suppress(OSError):
            # A blocked accept returns on shutdown, and not on close.
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        if self._thread.is_alive():
            self._thread.join(5)
        self.drop_connections()
        for thread in self._serving:
            if thread is not threading.current_thread():
                thread.join(1)

    def drop_connections(self) -> None:
        """Break all open connections, as a restart would."""
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    @property
    def open_connections(self) -> int:
        """How many connections are open now."""
        with self._lock:
            return len(self._open)

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                # A client that was gone before it was taken, or too many open files: the next one is served.
                if self._closing.wait(0.01):
                    return
                continue
            self.connections += 1
            number = self.connections
            with self._lock:
                self._open.add(connection)
            thread = threading.Thread(target=self._serve, args=(connection, number), daemon=True)
            self._serving = [*filter(threading.Thread.is_alive, self._serving), thread]
            thread.start()

    def _serve(self, plain: socket.socket, number: int) -> None:
        connection: socket.socket = plain
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.tls is not None:
                connection = self.tls.wrap_socket(plain, server_side=True)
                with self._lock:
                    self._open.discard(plain)
                    self._open.add(connection)
            with connection.makefile("rb") as stream:
                while (request := _read(stream, number)) is not None:
                    self.requests.append(request)
                    if not self._act(connection, self.handler(request)):
                        return
        except (OSError, ValueError):
            return
        finally:
            with self._lock:
                self._open.discard(plain)
                self._open.discard(connection)
            connection.close()

    def _act(self, connection: socket.socket, actions: Action | Iterable[Action]) -> bool:
        for action in _listed(actions):
            if isinstance(action, Answer):
                connection.sendall(action.head() + action.body)
                if action.close:
                    return False
            elif isinstance(action, bytes):
                connection.sendall(action)
            elif isinstance(action, (int, float)):
                if self._closing.wait(action):
                    return False
            else:
                if action is SILENCE:
                    while connection.recv(JUNK):
                        pass
                elif action is RESET:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return False
        return True


def _listed(actions: Action | Iterable[Action]) -> Iterable[Action]:
    if actions is None or isinstance(actions, (Answer, bytes, int, float, _Named)):
        return [actions]
    return actions


def _read(stream: Any, number: int) -> Received | None:
    line = stream.readline(65_536)
    if not line:
        return None
    method, path, _ = line.decode("latin-1").split(" ", 2)
    fields: list[tuple[str, str]] = []
    while (line := stream.readline(65_536)) not in (b"\r\n", b"\n", b""):
        name, _, value = line.decode("latin-1").partition(":")
        fields.append((name.strip(), value.strip()))
    headers = Headers(fields)
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = b"".join(_chunks(stream))
    else:
        size = int(headers.get("content-length", "0"))
        body = stream.read(size)
        if len(body) < size:
            # The client went away in mid-upload: no server acts on half a request.
            return None
    return Received(method, path, headers, body, number)


def _chunks(stream: Any) -> Iterator[bytes]:
    while size := int(stream.readline().split(b";")[0], 16):
        yield stream.read(size)
        stream.readline()
    stream.readline()


def rpc(methods: Mapping[str, Callable[..., Any]]) -> Callable[[Received], Answer]:
    """A handler that is a well-behaved JSON-RPC server.

    :param methods: the functions that it offers; one that raises answers with the error -32000, or with the
        exception's ``code`` where it has one.
    """

    def one(request: Any) -> dict[str, Any] | None:
        id, method, params = request.get("id"), request.get("method"), request.get("params", [])
        answer: dict[str, Any] = {"jsonrpc": "2.0", "id": id}
        if method not in methods:
            answer["error"] = {"code": -32601, "message": "Method not found"}
        else:
            try:
                answer["result"] = methods[method](**params) if isinstance(params, dict) else methods[method](*params)
            except Exception as problem:
                answer["error"] = {"code": getattr(problem, "code", -32000), "message": str(problem)}
        return answer if "id" in request else None

    def handle(received: Received) -> Answer:
        document = received.json
        if isinstance(document, list):
            answers = [answer for answer in map(one, document) if answer is not None]
            return Answer(answers) if answers else Answer(b"", 204)
        answer = one(document)
        return Answer(answer) if answer is not None else Answer(b"", 204)

    return handle
