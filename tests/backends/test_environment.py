"""DESIGN, Backends: the same policy on both about proxies, netrc, certificates and cookies."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import requests
from wire import Tunnel, Wire, both, closed_port, forwarder, one

from rpcretry import CertificateError
from rpcretry.testing import Answer, LoopbackServer


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def trusting(kind: str) -> Any:
    """What makes a session of the user's that looks at the environment: requests' do by default."""
    return requests.Session if kind == "requests" else lambda: aiohttp.ClientSession(trust_env=True)


def netrc(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = path / "netrc"
    file.write_text("machine 127.0.0.1 login user password pass\n")
    monkeypatch.setenv("NETRC", str(file))


# --- proxies ---


@both
@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy"])
def test_a_proxy_of_the_environment(kind: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with LoopbackServer(one) as server, forwarder() as proxy:
        monkeypatch.setenv(name, proxy.url)
        with Wire(kind, server.url) as client:
            assert client.call("m", 1) == [1]
        assert [request.path for request in proxy.requests] == [server.url]
        with Wire(kind, server.url, trust_env=False) as client:
            assert client.call("m", 2) == [2]
        assert len(proxy.requests) == 1


@both
def test_a_proxy_without_a_scheme_and_one_with_a_password(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with LoopbackServer(one) as server, forwarder() as proxy:
        for spelling in (f"127.0.0.1:{proxy.port}", f"http://user:p%40ss@127.0.0.1:{proxy.port}"):
            monkeypatch.setenv("http_proxy", spelling)
            with Wire(kind, server.url) as client:
                assert client.call("m", 1) == [1]
        assert "Proxy-Authorization" not in proxy.requests[0].headers
        assert proxy.requests[1].headers["Proxy-Authorization"] == basic("user", "p@ss")
        assert "Proxy-Authorization" not in server.requests[1].headers


@both
@pytest.mark.parametrize("entry", ["127.0.0.1", "*", "10.0.0.0/8, 127.0.0.0/8", "other.test,127.0.0.1:{port}"])
def test_no_proxy(kind: str, entry: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks too, which requests knows and the standard library does not."""
    with LoopbackServer(one) as server:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed_port()}")
        monkeypatch.setenv("no_proxy", entry.format(port=server.port))
        with Wire(kind, server.url) as client:
            assert client.call("m", 1) == [1]


@both
@pytest.mark.parametrize("entry", ["", "other.test", "10.0.0.0/8", "127.0.0.1/nonsense"])
def test_no_proxy_for_others_only(kind: str, entry: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with LoopbackServer(one) as server, forwarder() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", entry)
        with Wire(kind, server.url) as client:
            client.call("m", 1)
        assert len(proxy.requests) == 1


@both
def test_the_environment_is_read_once(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with LoopbackServer(one) as server, Wire(kind, server.url) as client:
        client.call("m")
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed_port()}")
        assert client.call("m", 1) == [1]


@both
def test_a_users_session_says_itself_whether_the_environment_counts(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def deaf() -> Any:
        if kind == "aiohttp":
            return aiohttp.ClientSession()
        session = requests.Session()
        session.trust_env = False
        return session

    with LoopbackServer(one) as server, forwarder() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        with Wire(kind, server.url, session=trusting(kind)) as client:
            client.call("m")
        assert len(proxy.requests) == 1
        with Wire(kind, server.url, session=deaf) as client:
            client.call("m")
        assert len(proxy.requests) == 1


def test_session_proxies_of_requests_changed_between_calls() -> None:
    with LoopbackServer(one) as server, forwarder() as proxy, Wire("requests", server.url, session=requests.Session) as client:
        client.call("m")
        client.session.proxies["http"] = proxy.url
        client.call("m")
        assert len(proxy.requests) == 1
        client.session.proxies = {}
        client.call("m")
        assert len(proxy.requests) == 1
        assert len(server.requests) == 3


def test_a_default_proxy_of_an_aiohttp_session() -> None:
    with LoopbackServer(one) as server, forwarder() as proxy:
        with Wire("aiohttp", server.url, session=lambda: aiohttp.ClientSession(proxy=proxy.url)) as client:
            client.call("m")
        assert len(proxy.requests) == 1


@both
def test_a_password_for_a_tunnel_goes_to_the_proxy_alone(kind: str, monkeypatch: pytest.MonkeyPatch, tls: Any) -> None:
    with LoopbackServer(one, tls=tls.server) as server, Tunnel() as proxy:
        monkeypatch.setenv("https_proxy", proxy.url.replace("://", "://user:pass@"))
        with Wire(kind, server.url, **tls.trust(kind)) as client:
            client.call("m")
        assert basic("user", "pass").encode() in proxy.heads[0]
        assert "Proxy-Authorization" not in server.requests[0].headers


# --- netrc ---


@both
def test_netrc(kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    netrc(tmp_path, monkeypatch)
    with LoopbackServer(one) as server:
        for session in (None, trusting(kind)):
            with Wire(kind, server.url, session=session) as client:
                client.call("m")
            assert server.requests[-1].headers["Authorization"] == basic("user", "pass")
        with Wire(kind, server.url, trust_env=False) as client:
            client.call("m")
        assert "Authorization" not in server.requests[-1].headers


@both
def test_the_users_header_wins_over_netrc(kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    netrc(tmp_path, monkeypatch)
    with LoopbackServer(one) as server:
        with Wire(kind, server.url, headers={"authorization": "Bearer 1"}) as client:
            client.call("m")
        with Wire(kind, server.url) as client:
            client.call("m", _headers={"Authorization": "Bearer 2"})
        with Wire(kind, server.url, auth=("me", "mine")) as client:
            client.call("m")
        assert [request.headers["Authorization"] for request in server.requests] == ["Bearer 1", "Bearer 2", basic("me", "mine")]


def test_the_users_header_wins_over_netrc_on_a_session_of_requests(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    netrc(tmp_path, monkeypatch)
    with LoopbackServer(one) as server:
        with requests.Session() as plain:
            plain.post(server.url, data=b"{}", headers={"Authorization": "Bearer 0"}, timeout=5)
        assert server.requests[-1].headers["Authorization"] == basic("user", "pass"), "requests puts netrc over the header"
        with Wire("requests", server.url, session=requests.Session) as client:
            client.call("m", _headers={"Authorization": "Bearer 1"})
            assert server.requests[-1].headers["Authorization"] == "Bearer 1"
            client.session.headers["Authorization"] = "Bearer 2"
            client.call("m")
            assert server.requests[-1].headers["Authorization"] == "Bearer 2"


def test_aiohttp_itself_refuses_a_header_beside_netrc_on_a_session_that_trusts_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """So a user's session with trust_env and such a header fails at once, and loudly, as it does without us."""
    netrc(tmp_path, monkeypatch)
    with LoopbackServer(one) as server, Wire("aiohttp", server.url, session=trusting("aiohttp")) as client:
        with pytest.raises(ValueError, match="Cannot combine AUTHORIZATION header"):
            client.call("m", _headers={"Authorization": "Bearer 1"})
        assert server.requests == []


@both
def test_netrc_in_the_home_directory_and_one_that_is_broken(kind: str, tmp_path: Path) -> None:
    file = tmp_path / ".netrc"
    with LoopbackServer(one) as server:
        file.write_text("machine 127.0.0.1 login user password pass\n")
        file.chmod(0o600)
        with Wire(kind, server.url) as client:
            client.call("m")
        file.write_text("nonsense in a netrc file\n")
        with Wire(kind, server.url) as client:
            client.call("m")
    assert server.requests[0].headers["Authorization"] == basic("user", "pass")
    assert "Authorization" not in server.requests[1].headers


@both
def test_user_info_of_the_url_is_sent_as_auth_and_not_in_the_target(kind: str) -> None:
    with LoopbackServer(one) as server, Wire(kind, server.url.replace("://", "://us%40er:p%3Ass@") + "rpc?key=1#part") as client:
        client.call("m")
    assert server.requests[0].headers["Authorization"] == basic("us@er", "p:ss")
    assert server.requests[0].path == "/rpc?key=1"
    assert "@" not in server.requests[0].headers["Host"]


# --- certificates ---


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_ca_bundles_of_the_environment(name: str, monkeypatch: pytest.MonkeyPatch, tls: Any) -> None:
    monkeypatch.setenv(name, tls.path)
    with LoopbackServer(one, tls=tls.server) as server:
        for session in (None, requests.Session):
            with Wire("requests", server.url, session=session) as client:
                assert client.call("m", 1) == [1]
        with Wire("requests", server.url, trust_env=False) as client:
            assert type(client.problem()) is CertificateError


@both
def test_a_server_that_nobody_vouches_for_when_told_so(kind: str, tls: Any) -> None:
    with LoopbackServer(one, tls=tls.server) as server, Wire(kind, server.url, **tls.distrust(kind)) as client:
        if kind == "requests":
            with pytest.warns(Warning, match="Unverified HTTPS request"):
                assert client.call("m", 1) == [1]
        else:
            assert client.call("m", 1) == [1]


# --- cookies ---


@both
@pytest.mark.parametrize("owned", [True, False])
def test_cookies_come_back_to_the_server_that_set_them(kind: str, owned: bool) -> None:
    """Also to a host without a name, for which a session of aiohttp's needs to be told."""

    def make() -> Any:
        return requests.Session() if kind == "requests" else aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))

    with LoopbackServer(lambda request: Answer(b"{}", headers={"Set-Cookie": "a=b; Path=/"})) as server:
        with Wire(kind, server.url, session=None if owned else make) as client:
            client.exchange()
            client.exchange()
        assert "Cookie" not in server.requests[0].headers
        assert server.requests[1].headers["Cookie"] == "a=b"
        with Wire(kind, server.url) as client:
            client.exchange()
        assert "Cookie" not in server.requests[2].headers
