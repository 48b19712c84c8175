"""The contract of a backend, on the backends of the package and on the one that the documentation shows."""

from __future__ import annotations

import runpy
import socket
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import requests

from rpcretry import Delivery, RequestTimeoutError
from rpcretry.backends.aiohttp import AiohttpBackend
from rpcretry.backends.requests import RequestsBackend
from rpcretry.testing import Answer, LoopbackServer
from rpcretry.testing.contract import AsyncBackendContract, BackendContract, waits
from rpcretry.transport import Exchange, Reply

EXAMPLE = Path(__file__).parents[2] / "examples" / "http_client_backend.py"


class TestRequests(BackendContract):
    def make(self, url: str) -> RequestsBackend:
        return RequestsBackend(url)


class TestRequestsWithASessionOfTheUsers(BackendContract):
    def make(self, url: str) -> RequestsBackend:
        return RequestsBackend(url, session=requests.Session())

    def unmake(self, backend: Any) -> None:
        backend.session.close()

    # DESIGN, Backends: on a user's session the limit holds between bytes.
    def _outlasts(self, head: bytes, drop: bytes, tail: bytes) -> None:
        def handle(_: Any) -> Any:
            yield head
            for _ in range(12):
                yield 0.05
                yield drop
            yield tail

        with LoopbackServer(handle) as server, requests.Session() as session:
            started = time.monotonic()
            with pytest.raises(RequestTimeoutError) as raised:
                RequestsBackend(server.url, session=session).exchange(Exchange(b"{}", ends_by=started + 0.2))
            assert raised.value.delivery is Delivery.MAYBE_EXECUTED
            assert time.monotonic() - started > 0.5

    @waits
    def test_headers_that_drip_end_by_the_limit(self) -> None:
        self._outlasts(b"HTTP/1.1 200 OK\r\nX-Drip: ", b" ", b"\r\nContent-Length: 2\r\n\r\n{}")

    @waits
    def test_a_body_that_drips_ends_by_the_limit(self) -> None:
        self._outlasts(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n", b" ", b"")

    @waits
    def test_a_body_that_drips_in_chunks_ends_by_the_limit(self) -> None:
        self._outlasts(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n", b"0\r\n\r\n")


class TestAiohttp(AsyncBackendContract):
    def make(self, url: str) -> AiohttpBackend:
        return AiohttpBackend(url)


class TestAiohttpWithASessionOfTheUsers(AsyncBackendContract):
    def make(self, url: str) -> AiohttpBackend:
        self.session = aiohttp.ClientSession()
        return AiohttpBackend(url, session=self.session)

    async def unmake(self, backend: Any) -> None:
        await self.session.close()


class TestHttpClient(BackendContract):
    def make(self, url: str) -> Any:
        return runpy.run_path(str(EXAMPLE))["HttpClientBackend"](url)


def test_the_example_makes_a_call(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    assert capsys.readouterr().out == "1 + 2 = 3\n"


class _Sloppy:
    """A backend that breaks one rule after another."""

    def __init__(self, url: str) -> None:
        self.url = url

    def exchange(self, exchange: Exchange) -> Any:
        answer = requests.post(self.url, data=exchange.body.strip(), timeout=5)
        return Reply(answer.content, answer.status_code, answer.headers)

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    "name",
    [
        "test_the_body_is_posted_byte_for_byte",
        "test_the_content_type_is_exactly_application_json",
        "test_headers_of_the_exchange_are_sent_and_override",
        "test_a_redirect_is_returned_and_not_followed",
        "test_a_limit_that_is_past_sends_nothing",
        "test_a_refused_connection_is_not_sent",
        "test_a_body_that_is_cut",
    ],
)
def test_the_contract_can_fail(name: str) -> None:
    class Contract(BackendContract):
        def make(self, url: str) -> Any:
            return _Sloppy(url)

    with pytest.raises((AssertionError, KeyError)):
        getattr(Contract(), name)()


def test_make_must_be_written() -> None:
    with pytest.raises(NotImplementedError, match="write make"):
        BackendContract().test_an_empty_body_is_empty()
    with pytest.raises(NotImplementedError, match="write make"):
        AsyncBackendContract().test_an_empty_body_is_empty()


def test_an_answer_of_the_loopback_server_is_not_recorded_for_half_a_request() -> None:
    with LoopbackServer(lambda request: Answer(b"{}")) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\n123")
            client.shutdown(socket.SHUT_WR)
            assert client.recv(100) == b""
        assert server.requests == []
