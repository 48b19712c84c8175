"""An adapter for requests whose connections keep to one time limit, from the first byte to the last.

A socket's timeout holds for one read, so a server that sends a byte a second keeps a client busy for as long as
it likes. These connections set the socket's timeout to what is left before every read.
"""

from __future__ import annotations

import http.client
import io
import math
import os
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import requests.adapters
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from ._target import IDLE_LIMIT

__all__ = ["LimitedAdapter", "Progress", "current"]

# Headers and a body up to this many bytes leave in one packet, where urllib3 would send two.
JOINED = 65_536
HEAD = 65_536
RECORD = 16_384

# poll takes milliseconds as a C int. Python's sockets hand it more than that unchecked: 4,294,968 s would be over in 0.7 s, and
# 1e10 s raise OverflowError. A read that takes 24 days ends in any case.
MAX_WAIT = 2_147_483.0


class Progress:
    """How far an exchange has come.

    :ivar ends_by: on the clock of :func:`time.monotonic`.
    :ivar sent: whether a byte of the request may have gone to a connected socket; ``None`` where no connection of
        this module had a part in it, so that nothing is known.
    :ivar response: a response that hooks of the user's are looking at.
    """

    __slots__ = ("ends_by", "response", "sent")

    def __init__(self, ends_by: float) -> None:
        self.ends_by = ends_by
        self.sent: bool | None = None
        self.response: requests.Response | None = None

    def left(self) -> float | None:
        """Seconds left for a read; ``None`` without a limit. Raises TimeoutError when there are none."""
        if self.ends_by == math.inf:
            return None
        left = self.ends_by - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        return min(left, MAX_WAIT)


class _Current(threading.local):
    """The exchange that this thread is making; none where somebody uses the session for a request of his own."""

    progress: Progress | None = None


current = _Current()


class _Rearmed(io.RawIOBase):
    """Reads a socket, and sets its timeout to what is left before each read."""

    def __init__(self, raw: Any, sock: socket.socket) -> None:
        self._raw = raw
        self._sock = sock
        self.ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        progress = current.progress
        if progress is not None:
            self._sock.settimeout(progress.left())
        count: int | None = self._raw.readinto(buffer)
        if count == 0:
            self.ended = True
        return count

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self._reader = _Rearmed(self.fp.detach(), sock)
        self.fp = io.BufferedReader(self._reader)

    def _read_status(self) -> tuple[str, int, str]:
        # typeshed leaves it out.
        version, status, reason = super()._read_status()  # type: ignore[misc]
        # http.client skips 100 alone, and takes 102 and 103 for the answer, which is then left on the connection.
        return version, http.client.CONTINUE if 101 < status < 200 else status, reason

    def begin(self) -> None:
        super().begin()
        if self._reader.ended:
            # http.client takes headers that are cut for all that there are, and the body for empty.
            self.close()
            raise http.client.RemoteDisconnected("the connection was closed within the headers")
        # For headers that are malformed urllib3 would log a warning with the whole URL, where keys live.
        self.msg.defects.clear()
        self.msg.set_payload("")


if TYPE_CHECKING:
    _Base = HTTPConnection
else:
    _Base = object


class _Limited(_Base):
    response_class = _Response
    _joins = False
    _head: bytes | None = None
    idle_since = math.inf
    process = 0

    def request(self, method: str, url: str, body: Any = None, *args: Any, **kwargs: Any) -> None:
        self._joins = isinstance(body, bytes) and 0 < len(body) <= JOINED
        self._head = None
        progress = current.progress
        if progress is not None:
            progress.sent = bool(progress.sent)
            if self.sock is not None:
                self.timeout = progress.left()
        super().request(method, url, body, *args, **kwargs)

    def connect(self) -> None:
        self.process = os.getpid()
        progress = current.progress
        if progress is None:
            super().connect()
            return
        sent = bool(progress.sent)
        try:
            super().connect()
        finally:
            # What a tunnel through a proxy takes is not the request.
            progress.sent = sent
        self.sock.settimeout(progress.left())

    def send(self, data: Any) -> None:
        if self._joins:
            self._joins, self._head = False, data
            return
        if self._head is not None:
            data, self._head = self._head + data, None
        if self.sock is None and self.auto_open:
            self.connect()
        progress = current.progress
        if progress is None:
            super().send(data)
            return
        progress.sent = True
        if len(data) <= JOINED + HEAD:
            super().send(data)
            return
        # Over TLS a socket's timeout holds for each record.
        view = memoryview(data)
        for start in range(0, len(view), RECORD):
            self.sock.settimeout(progress.left())
            super().send(view[start : start + RECORD])


class _LimitedHTTP(_Limited, HTTPConnection):
    pass


class _LimitedHTTPS(_Limited, HTTPSConnection):
    pass


if TYPE_CHECKING:
    _BasePool = HTTPConnectionPool
else:
    _BasePool = object


class _Fresh(_BasePool):
    """Gives out no connection that was idle for long, nor one that was there before this process was forked."""

    def _get_conn(self, timeout: float | None = None) -> Any:
        connection: Any = super()._get_conn(timeout)
        # What the parent process keeps, and every other child has: each would read the answers of all. Closed here, it stays open there.
        if connection.idle_since + IDLE_LIMIT < time.monotonic() or connection.process not in (0, os.getpid()):
            # It connects again when it is used.
            connection.close()
        return connection

    def _put_conn(self, conn: Any) -> None:
        if conn is not None:
            conn.idle_since = time.monotonic()
        super()._put_conn(conn)


class _Pool(_Fresh, HTTPConnectionPool):
    ConnectionCls = _LimitedHTTP


class _SecurePool(_Fresh, HTTPSConnectionPool):
    ConnectionCls = _LimitedHTTPS


_POOLS = {"http": _Pool, "https": _SecurePool}


class LimitedAdapter(requests.adapters.HTTPAdapter):
    """Makes connections that keep to the limit of :data:`current`, to servers and to HTTP proxies."""

    def __init__(self, pool_size: int) -> None:
        # For one endpoint; what requests works out from its URL anew for each request is kept.
        self._pools: dict[object, Any] = {}
        self._paths: dict[object, str] = {}
        super().__init__(pool_connections=4, pool_maxsize=pool_size)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **kwargs: Any) -> None:
        super().init_poolmanager(connections, maxsize, block, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        if isinstance(manager, urllib3.ProxyManager):
            manager.pool_classes_by_scheme = _POOLS
        return manager

    def get_connection_with_tls_context(self, request: requests.PreparedRequest, verify: Any, proxies: Any = None, cert: Any = None) -> Any:
        key = (request.url, verify, cert, _items(proxies))
        pool = self._pools.get(key)
        # urllib3 closes a pool, which then holds no queue, when others have taken its place.
        if pool is None or pool.pool is None:
            pool = super().get_connection_with_tls_context(request, verify, proxies=proxies, cert=cert)
            _keep(self._pools, key, pool)
        return pool

    def request_url(self, request: requests.PreparedRequest, proxies: Any) -> str:
        key = (request.url, _items(proxies))
        path = self._paths.get(key)
        if path is None:
            path = str(super().request_url(request, proxies))
            _keep(self._paths, key, path)
        return path

    def close(self) -> None:
        self._pools.clear()
        super().close()


def _items(proxies: Any) -> object:
    return tuple(proxies.items()) if proxies else ()


def _keep(kept: dict[object, Any], key: object, value: object) -> None:
    # The session is within reach of its users, who may send with it to other places.
    if len(kept) >= 16:
        kept.clear()
    kept[key] = value
