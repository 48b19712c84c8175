"""DESIGN, Errors: what a user gets wrong is a TypeError or ValueError at construction that names the parameter and the fix."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import requests
from wire import Wire, both, one
from yarl import URL

from rpcretry import RpcRetryError
from rpcretry.backends.aiohttp import AiohttpBackend
from rpcretry.backends.requests import RequestsBackend
from rpcretry.testing import Answer, LoopbackServer, Received

BASE = "http://host.test/"


@both
@pytest.mark.parametrize(
    ("url", "kind_of_error", "fix"),
    [
        (None, TypeError, "url must be a str, got NoneType"),
        (5, TypeError, "url must be a str, got int"),
        (b"http://host.test/", TypeError, "url must be a str, got bytes"),
        ("", ValueError, "url must start with http:// or https://.*write http://"),
        ("host.test/rpc", ValueError, "url must start with http:// or https://.*write http://"),
        ("localhost:8080", ValueError, "url must start with http:// or https://"),
        # The place is shown, as hosts are, and nothing else.
        ("localhost:8080/hunter2", ValueError, r"^url must start with http:// or https://; write http://localhost:8080 or https://\.\.\.$"),
        ("[::1]:80?hunter2", ValueError, r"write http://\[::1\]:80 or https://\.\.\.$"),
        ("user:8080/hunter2@host.test", ValueError, r"; write http://\.\.\. or https://\.\.\.$"),
        ("hunter2", ValueError, r"; write http://\.\.\. or https://\.\.\.$"),
        ("ftp://host.test/", ValueError, "url must start with http:// or https://, got the scheme 'ftp'"),
        ("http://", ValueError, "url has no host; write http://host:port/path"),
        ("http:///path", ValueError, "url has no host"),
        ("http://:80/", ValueError, "url has no host"),
        ("http://host.test:port/", ValueError, "url is malformed"),
        ("http://host.test:99999/", ValueError, "url is malformed"),
        ("http://[::1/", ValueError, "url is malformed"),
        # A password whose @host was forgotten; what it says is nowhere in the message.
        ("http://user:hunter2/path", ValueError, "^url is malformed: its host or its port is none; write http://host:8545/path$"),
        (" http://host.test/", ValueError, "url must not contain spaces or control characters; percent-encode"),
        ("http://host.test/a b", ValueError, "url must not contain spaces"),
        ("http://host.test/\n", ValueError, "url must not contain spaces"),
    ],
)
def test_url(kind: str, url: Any, kind_of_error: type[Exception], fix: str) -> None:
    with pytest.raises(kind_of_error, match=fix):
        Wire(kind, url)


@both
@pytest.mark.parametrize("limit", [2_147_484, 4_294_967.32, 1e10, 1e300])
def test_limits_that_will_do_however_long(kind: str, limit: float) -> None:
    # In the milliseconds of poll the second is 24 ms, after 2**32 of them: too short for this answer.
    def answer(request: Received) -> Answer:
        time.sleep(0.04)
        return one(request)

    with LoopbackServer(answer) as server, Wire(kind, server.url, timeout=limit, connect_timeout=limit) as client:
        assert client.call("m", 1) == [1]


@both
def test_urls_that_will_do(kind: str) -> None:
    with LoopbackServer(one) as server:
        for url in (server.url, server.url.rstrip("/"), server.url + "#part", server.url.replace("http", "HTTP"), URL(server.url)):
            with Wire(kind, url) as client:
                assert client.call("m", 1) == [1]


@both
@pytest.mark.parametrize(
    ("options", "kind_of_error", "fix"),
    [
        ({"timeout": 0}, ValueError, "timeout must be more than 0.*None for no limit"),
        ({"timeout": -1}, ValueError, "timeout must be more than 0"),
        ({"timeout": float("nan")}, ValueError, "timeout must be finite"),
        ({"timeout": "5"}, TypeError, "timeout must be a number, got str '5'"),
        ({"timeout": True}, TypeError, "timeout must be a number, got bool"),
        ({"timeout": (1, 2)}, TypeError, "timeout must be a number, got tuple"),
        ({"connect_timeout": 0}, ValueError, "connect_timeout must be more than 0"),
        ({"connect_timeout": -1}, ValueError, "connect_timeout must be more than 0"),
        ({"connect_timeout": float("nan")}, ValueError, "connect_timeout must be finite"),
        ({"connect_timeout": "5"}, TypeError, "connect_timeout must be a number, got str"),
        ({"max_response_size": 0}, ValueError, "max_response_size must be at least 1"),
        ({"max_response_size": -1}, ValueError, "max_response_size must be at least 1"),
        ({"max_response_size": 1.5}, TypeError, "max_response_size must be an int"),
        ({"max_response_size": "1k"}, TypeError, "max_response_size must be an int"),
        ({"auth": "user"}, TypeError, r"auth must be a tuple \(user, password\)"),
        ({"auth": ["user", "password"]}, TypeError, r"auth must be a tuple \(user, password\)"),
        ({"auth": ("user",)}, TypeError, r"auth must be a tuple \(user, password\)"),
        ({"auth": ("user", None)}, TypeError, r"auth must be a tuple \(user, password\)"),
        ({"auth": ("us:er", "password")}, ValueError, "auth: a user name cannot contain a colon"),
        ({"auth": ("user", "password"), "headers": {"authorization": "x"}}, ValueError, "auth or an Authorization header, not both"),
        ({"headers": {"X-One": "a\r\nX-Two: b"}}, ValueError, "headers: the value of X-One holds a control character"),
        ({"headers": {"X One": "a"}}, ValueError, "headers: 'X One' is no name"),
        ({"headers": {"X\r\nY": "a"}}, ValueError, "headers: .* is no name"),
        ({"headers": {"X-One": 5}}, TypeError, "headers: the value of X-One must be a str, got int"),
        ({"headers": "X-One: 5"}, TypeError, "headers must be a mapping"),
        ({"session": "session"}, TypeError, "session must be .*got str"),
    ],
)
def test_options(kind: str, options: dict[str, Any], kind_of_error: type[Exception], fix: str) -> None:
    given = {name: (lambda value=value: value) if name == "session" else value for name, value in options.items()}
    with pytest.raises(kind_of_error, match=fix):
        Wire(kind, BASE, **given)


def test_a_session_of_the_other_library_says_where_it_goes() -> None:
    with requests.Session() as session, pytest.raises(TypeError, match=r"session must be an aiohttp.ClientSession.*rpcretry\.backends\.requests"):
        AiohttpBackend(BASE, session=session)  # type: ignore[arg-type]
    with Wire("aiohttp", BASE, session=aiohttp.ClientSession) as client:
        with pytest.raises(TypeError, match=r"session must be a requests.Session.*rpcretry\.backends\.aiohttp"):
            RequestsBackend(BASE, session=client.session)


@pytest.mark.parametrize(
    ("options", "kind_of_error", "fix"),
    [
        ({"verify": 5}, TypeError, "verify must be True, False or a path.*give a session"),
        ({"verify": None}, TypeError, "verify must be True, False or a path"),
        ({"cert": 5}, TypeError, "cert must be a path, or a pair of paths"),
        ({"cert": (1, 2)}, TypeError, "cert must be a path, or a pair of paths"),
        ({"cert": ("a", "b", "c")}, ValueError, "cert must be a path, or a pair of paths.*tuple of 3"),
        ({"auth": lambda request: request, "headers": {"Authorization": "x"}}, ValueError, "auth or an Authorization header, not both"),
    ],
)
def test_options_of_requests(options: dict[str, Any], kind_of_error: type[Exception], fix: str) -> None:
    with pytest.raises(kind_of_error, match=fix):
        RequestsBackend(BASE, **options)


@pytest.mark.parametrize("name", ["verify", "cert"])
def test_a_path_where_there_is_nothing(name: str, tmp_path: Path) -> None:
    for missing in (tmp_path / "none.pem", str(tmp_path / "none.pem")):
        options: dict[str, Any] = {name: missing}
        with pytest.raises(ValueError, match=rf"{name} must be .*none\.pem', where there is nothing"):
            RequestsBackend(BASE, **options)


@pytest.mark.parametrize("content", [b"", b"no certificate\n", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", b"\x00\xff"])
def test_a_file_without_certificates(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "none.pem"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"verify must be a file of certificates in PEM, got the path '.*none\.pem': \S") as raised:
        RequestsBackend(BASE, verify=str(path))
    assert raised.value.__cause__ is None
    # A folder is OpenSSL's to look into, when a certificate is to be checked.
    RequestsBackend(BASE, verify=str(tmp_path)).close()


@pytest.mark.parametrize(
    ("options", "kind_of_error", "fix"),
    [
        ({"ssl": "path"}, TypeError, "ssl must be True, False or an ssl.SSLContext, got str"),
        ({"ssl": None}, TypeError, "ssl must be True, False or an ssl.SSLContext, got NoneType"),
        ({"limit": -1}, ValueError, "limit must be at least 0"),
        ({"limit": "many"}, TypeError, "limit must be an int"),
        ({"auth": lambda request: request}, TypeError, r"auth must be a tuple \(user, password\)"),
    ],
)
def test_options_of_aiohttp(options: dict[str, Any], kind_of_error: type[Exception], fix: str) -> None:
    with pytest.raises(kind_of_error, match=fix):
        AiohttpBackend(BASE, **options)


@pytest.mark.parametrize(("kind", "options"), [("requests", {"verify": False}), ("requests", {"cert": "x"}), ("requests", {"trust_env": False})])
def test_what_a_users_session_of_requests_says_itself(kind: str, options: dict[str, Any]) -> None:
    with requests.Session() as session, pytest.raises(ValueError, match="verify, cert and trust_env are the session's own"):
        RequestsBackend(BASE, session=session, **options)


@pytest.mark.parametrize("options", [{"trust_env": False}, {"limit": 5}])
def test_what_a_users_session_of_aiohttp_says_itself(options: dict[str, Any]) -> None:
    async def scenario() -> None:
        async with aiohttp.ClientSession() as session:
            AiohttpBackend(BASE, session=session, **options)

    with Wire("aiohttp", BASE) as client, pytest.raises(ValueError, match="trust_env and limit are the session's own"):
        client.run(scenario)


@both
def test_an_option_of_another_library(kind: str) -> None:
    for name in ("max_retries", "url_", "verify_ssl"):
        with pytest.raises(TypeError, match=name):
            Wire(kind, BASE, **{name: 1})


@both
@pytest.mark.parametrize("url", ["http://a..b/", "http://" + "a" * 64 + ".test/", "http://./"])
def test_hosts_that_cannot_be(kind: str, url: str) -> None:
    """aiohttp lets a bare UnicodeError of the resolver's through."""
    with pytest.raises(ValueError, match="url has a host with a part that is empty or longer than 63 characters"):
        Wire(kind, url)


@both
def test_a_host_that_the_library_refuses_is_an_error_of_our_tree(kind: str) -> None:
    with Wire(kind, "http://*/") as client, pytest.raises(RpcRetryError):
        client.call("m")
