"""The server on loopback that tests stand on: what must not make it deaf."""

from __future__ import annotations

import errno
import socket
import threading
import urllib.request
from typing import Any

import pytest

from rpcretry.testing import Answer, LoopbackServer


class _Failing:
    """A listener whose first calls of accept fail."""

    def __init__(self, listener: socket.socket, *numbers: int) -> None:
        self._listener = listener
        self._numbers = list(numbers)

    def accept(self) -> Any:
        if self._numbers:
            number = self._numbers.pop(0)
            raise OSError(number, errno.errorcode[number])
        return self._listener.accept()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._listener, name)


@pytest.mark.parametrize("number", [errno.ECONNABORTED, errno.EMFILE, errno.ENETDOWN])
def test_a_connection_that_cannot_be_taken_does_not_end_the_server(number: int) -> None:
    server = LoopbackServer(lambda request: Answer(request.body))
    server._listener = _Failing(server._listener, number, number)
    with server, urllib.request.urlopen(server.url, b"still here", timeout=5) as answer:
        assert answer.read() == b"still here"
    assert server.connections == 1


def test_closing_ends_the_thread_that_accepts() -> None:
    before = set(threading.enumerate())
    with LoopbackServer(lambda request: Answer(b"{}")):
        pass
    assert set(threading.enumerate()) <= before
