"""A backend of one's own, over the standard library's http.client: all that it takes to bring a transport."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import socket
import threading
import time
from urllib.parse import urlsplit

from rpcretry import Client, ConnectError, ConnectionLostError, ConnectTimeoutError, Delivery, RequestTimeoutError
from rpcretry.testing import LoopbackServer, rpc
from rpcretry.transport import Exchange, Headers, Reply


class HttpClientBackend:
    """Opens a connection for every exchange."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._netloc, self._path = parts.netloc, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")

    def exchange(self, exchange: Exchange) -> Reply:
        left = exchange.ends_by - time.monotonic()
        if left <= 0:
            raise RequestTimeoutError("no time was left", delivery=Delivery.NOT_SENT)
        connection = self._kind(self._netloc, timeout=min(left, 5.0))
        try:
            connection.connect()
        except TimeoutError as problem:
            raise ConnectTimeoutError("no connection in time") from problem
        except OSError as problem:
            raise ConnectError("no connection") from problem
        headers = {"content-type": "application/json"} | {name.lower(): value for name, value in (exchange.headers or {}).items()}
        # A socket's own timeout starts anew with every byte; the limit is for the whole exchange.
        connection.sock.settimeout(None)
        watch = threading.Timer(min(left, threading.TIMEOUT_MAX), shut_down, [connection.sock])
        watch.daemon = True
        watch.start()
        try:
            connection.request("POST", self._path, exchange.body, headers)
            response = connection.getresponse()
            body = response.read()
            if time.monotonic() >= exchange.ends_by:
                raise TimeoutError("the connection was shut down, which looks like the end of the headers or of the body")
        except (OSError, http.client.HTTPException) as problem:
            if time.monotonic() >= exchange.ends_by:
                raise RequestTimeoutError("no answer in time") from problem
            raise ConnectionLostError("the connection broke") from problem
        finally:
            watch.cancel()
            connection.close()
        if response.getheader("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        return Reply(body, response.status, Headers(response.getheaders()))

    def close(self) -> None:
        """No connection outlives its exchange."""


def shut_down(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


if __name__ == "__main__":
    with LoopbackServer(rpc({"sum": lambda a, b: a + b})) as server, Client(HttpClientBackend(server.url)) as client:
        print("1 + 2 =", client.call("sum", 1, 2))
