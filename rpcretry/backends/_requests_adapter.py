"""An adapter for requests whose connections keep to one time limit, from the first byte to the last.

A socket's timeout holds for one read, so a server that sends a byte a second keeps a client busy for as long as
it likes. These connections set the socket's timeout to what is left before every read.
"""

from __future__ import annotations

import http.client
import io
import math
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import requests.adapters
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

__all__ = ["LimitedAdapter", "limit"]

# Headers and a body up to this many bytes leave in one packet, where urllib3 would send two.
JOINED = 65_536


class _Limit(threading.local):
    """The limit of the exchange that this thread is making.

    :ivar ends_by: on the clock of :func:`time.monotonic`.
    :ivar sent: whether a byte of the request may have gone to a connected socket; ``None`` where no connection of
        this module had a part in it, so that nothing is known.
    """

    ends_by = math.inf
    sent: bool | None = None

    @property
    def left(self) -> float | None:
        """Seconds left; ``None`` without a limit. Raises TimeoutError when there are none."""
        if self.ends_by == math.inf:
            return None
        left = self.ends_by - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        return left


limit = _Limit()


class _Rearmed(io.RawIOBase):
    """Reads a socket, and sets its timeout to what is left before each read."""

    def __init__(self, raw: Any, sock: socket.socket) -> None:
        self._raw = raw
        self._sock = sock

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(limit.left)
        count: int | None = self._raw.readinto(buffer)
        return count

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_Rearmed(self.fp.detach(), sock))


if TYPE_CHECKING:
    _Base = HTTPConnection
else:
    _Base = object


class _Limited(_Base):
    response_class = _Response
    _joins = False
    _head: bytes | None = None

    def request(self, method: str, url: str, body: Any = None, *args: Any, **kwargs: Any) -> None:
        self._joins = isinstance(body, bytes) and 0 < len(body) <= JOINED
        self._head = None
        limit.sent = bool(limit.sent)
        if self.sock is not None:
            self.timeout = limit.left
        super().request(method, url, body, *args, **kwargs)

    def connect(self) -> None:
        limit.sent = bool(limit.sent)
        super().connect()
        if self.sock is not None:
            self.sock.settimeout(limit.left)

    def send(self, data: Any) -> None:
        if self._joins:
            self._joins, self._head = False, data
            return
        if self._head is not None:
            data, self._head = self._head + data, None
        if self.sock is None and self.auto_open:
            self.connect()
        limit.sent = True
        super().send(data)


class _LimitedHTTP(_Limited, HTTPConnection):
    pass


class _LimitedHTTPS(_Limited, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _LimitedHTTP


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _LimitedHTTPS


_POOLS = {"http": _Pool, "https": _SecurePool}


class LimitedAdapter(requests.adapters.HTTPAdapter):
    """For one endpoint, whose pool is looked up once."""

    def __init__(self, pool_size: int) -> None:
        self._found: dict[tuple[str, str], Any] = {}
        super().__init__(pool_connections=4, pool_maxsize=pool_size)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **kwargs: Any) -> None:
        super().init_poolmanager(connections, maxsize, block, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        if isinstance(manager, urllib3.ProxyManager):
            manager.pool_classes_by_scheme = _POOLS
        return manager

    def close(self) -> None:
        self._found.clear()
        super().close()
