"""DESIGN, Backends: a request is prepared once, and all that a user does to a session of requests still has its effect."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import ssl
import time
from collections.abc import Callable
from typing import Any

import pytest
import requests
import requests.adapters
import requests.auth
from wire import Wire, settles

from rpcretry import TransportError
from rpcretry.backends.requests import Client, RequestsBackend
from rpcretry.testing import SILENCE, Answer, LoopbackServer, Received, rpc
from rpcretry.transport import Exchange, Headers


class Seen:
    """A server that is told nothing but answers, the session it is sent from, and the backend over that."""

    def __init__(self, session: requests.Session | None = None, answer: Callable[[Received], Any] | None = None, **options: Any) -> None:
        self.session = requests.Session() if session is None else session
        self.server = LoopbackServer(answer or (lambda request: Answer(b"{}")))
        self.backend = RequestsBackend(self.server.url, session=self.session, **options)

    def __enter__(self) -> Seen:
        self.server.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.backend.close()
        self.session.close()
        self.server.close()

    def send(self, **headers: str) -> Received:
        """Make an exchange; the last request that it led to."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        self.backend.exchange(Exchange(b"{}", headers=Headers(fields) if fields else None))
        return self.server.requests[-1]


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


# --- headers and params ---


def test_session_headers_changed_between_calls() -> None:
    with Seen() as seen:
        seen.session.headers["X-Key"] = "one"
        assert seen.send().headers["X-Key"] == "one"
        seen.session.headers["X-Key"] = "two"
        assert seen.send().headers["X-Key"] == "two"
        del seen.session.headers["X-Key"]
        assert "X-Key" not in seen.send().headers


def test_the_users_content_type_wins_wherever_it_is_given() -> None:
    with Seen() as seen:
        assert seen.send().headers["Content-Type"] == "application/json"
        assert seen.send(content_type="application/x-one").headers["Content-Type"] == "application/x-one"
        seen.session.headers["content-type"] = "application/x-two"
        assert seen.send().headers["Content-Type"] == "application/x-two"
    with Seen(headers={"CONTENT-TYPE": "application/x-three"}) as seen:
        assert seen.send().headers["Content-Type"] == "application/x-three"


def test_headers_of_a_caller_who_changes_them_in_place() -> None:
    """A middleware may give each exchange the same dict."""
    fields = {"X-Turn": "1"}
    with Seen() as seen:
        for turn in ("1", "2"):
            fields["X-Turn"] = turn
            seen.backend.exchange(Exchange(b"{}", headers=fields))
        assert [request.headers["X-Turn"] for request in seen.server.requests] == ["1", "2"]


def test_session_params_changed_between_calls_and_in_place() -> None:
    with Seen() as seen:
        assert seen.send().path == "/"
        seen.session.params = {"key": ["a"]}
        assert seen.send().path == "/?key=a"
        seen.session.params["key"].append("b")
        assert seen.send().path == "/?key=a&key=b"


# --- cookies ---


def test_cookies_of_the_server_and_of_the_user() -> None:
    answers = iter([{"Set-Cookie": "from=server; Path=/"}, {}, {"Set-Cookie": "from=; Max-Age=0; Path=/"}, {}])
    with Seen(answer=lambda request: Answer(b"{}", headers=next(answers))) as seen:
        assert "Cookie" not in seen.send().headers
        assert seen.session.cookies["from"] == "server"
        seen.session.cookies.set("by", "user")
        assert set(seen.send().headers["Cookie"].split("; ")) == {"from=server", "by=user"}
        seen.send()
        assert seen.send().headers["Cookie"] == "by=user"


def test_a_cookie_header_of_the_exchange() -> None:
    with Seen() as seen:
        assert seen.send(cookie="a=b").headers["Cookie"] == "a=b"
        assert "Cookie" not in seen.send().headers
        seen.session.headers["Cookie"] = "c=d"
        assert seen.send().headers["Cookie"] == "c=d"
        seen.session.cookies.set("from", "jar")
        assert seen.send().headers["Cookie"] == "c=d"


def test_cookies_of_our_own_session() -> None:
    with LoopbackServer(lambda request: Answer(b"{}", headers={"Set-Cookie": "kept=yes"})) as server, Wire("requests", server.url) as client:
        client.exchange()
        client.exchange()
        assert server.requests[1].headers["Cookie"] == "kept=yes"


# --- auth ---


def test_session_auth_basic_and_its_changes_in_place() -> None:
    with Seen() as seen:
        seen.session.auth = ("u", "one")
        assert seen.send().headers["Authorization"] == basic("u", "one")
        seen.session.auth = auth = requests.auth.HTTPBasicAuth("u", "two")
        assert seen.send().headers["Authorization"] == basic("u", "two")
        auth.password = "three"
        assert seen.send().headers["Authorization"] == basic("u", "three")
        seen.session.auth = None
        assert "Authorization" not in seen.send().headers


class Token(requests.auth.HTTPBasicAuth):
    """What an auth does that renews itself."""

    turn = 0

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        self.turn += 1
        request.headers["Authorization"] = f"Bearer {self.turn}"
        return request


@pytest.mark.parametrize("place", ["session", "backend"])
def test_an_auth_of_the_users_is_called_for_each_exchange(place: str) -> None:
    auth = Token("", "")
    with Seen(auth=auth) if place == "backend" else Seen() as seen:
        if place == "session":
            seen.session.auth = auth
        assert [seen.send().headers["Authorization"] for _ in range(3)] == ["Bearer 1", "Bearer 2", "Bearer 3"]


@pytest.mark.parametrize("place", ["session", "own", "backend"])
def test_digest_auth(place: str) -> None:
    def answer(request: Received) -> Answer:
        given = request.headers.get("Authorization", "")
        if not given.startswith("Digest"):
            return Answer(b"", 401, {"WWW-Authenticate": 'Digest realm="r", nonce="n", qop="auth", algorithm=MD5'})
        parts = dict(re.findall(r'(\w+)="?([^",]+)"?', given))

        def md5(text: str) -> str:
            return hashlib.md5(text.encode()).hexdigest()

        middle = f"n:{parts['nc']}:{parts['cnonce']}:auth"
        right = parts["response"] == md5(f"{md5('u:r:p')}:{middle}:{md5('POST:/')}")
        return Answer(request.body, 200 if right else 403)

    auth = requests.auth.HTTPDigestAuth("u", "p")
    with LoopbackServer(answer) as server:
        make = requests.Session if place != "own" else None
        with Wire("requests", server.url, session=make, **({} if place == "session" else {"auth": auth})) as client:
            if place == "session":
                client.session.auth = auth
            for _ in range(2):
                reply = client.exchange(b'"x"')
                assert (reply.status, reply.body) == (200, b'"x"')


def test_which_authorization_wins() -> None:
    """The exchange's header before the backend's, that before the session's auth, that before the session's header, as in requests."""
    with Seen() as seen:
        seen.session.headers["Authorization"] = "of the session"
        assert seen.send().headers["Authorization"] == "of the session"
        seen.session.auth = ("u", "p")
        assert seen.send().headers["Authorization"] == basic("u", "p")
        assert seen.send(authorization="of the exchange").headers["Authorization"] == "of the exchange"
    with Seen(headers={"authorization": "of the backend"}) as seen:
        seen.session.auth = ("u", "p")
        assert seen.send().headers["Authorization"] == "of the backend"
        assert seen.send(Authorization="of the exchange").headers["Authorization"] == "of the exchange"
    with Seen(auth=Token("", "")) as seen:
        seen.session.headers["Authorization"] = "of the session"
        assert seen.send().headers["Authorization"] == "Bearer 1"


def test_an_auth_that_makes_calls_of_its_own_keeps_the_limit_of_the_outer_one() -> None:
    class Fetching(requests.auth.AuthBase):
        def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
            request.headers["Authorization"] = inner.exchange(Exchange(b"{}")).body.decode()
            return request

    with LoopbackServer(lambda request: Answer(b"token")) as tokens, LoopbackServer(lambda request: SILENCE) as server:
        inner, outer = RequestsBackend(tokens.url), RequestsBackend(server.url, auth=Fetching())
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            outer.exchange(Exchange(b"{}", ends_by=started + 0.05))
        assert time.monotonic() - started < 1
        assert server.requests[0].headers["Authorization"] == "token"
        inner.close()
        outer.close()


# --- hooks ---


def test_hooks_may_read_the_body_and_change_between_calls() -> None:
    read: list[bytes] = []
    with Seen(answer=lambda request: Answer(b'"body"')) as seen:
        seen.send()
        seen.session.hooks["response"].append(lambda response, **_: read.append(response.content))
        assert seen.backend.exchange(Exchange(b"{}")).body == b'"body"'
        seen.session.hooks["response"] = lambda response, **_: read.append(b"alone")
        seen.send()
        seen.session.hooks["response"] = []
        seen.send()
    assert read == [b'"body"', b"alone"]


def test_a_hook_that_brings_another_response() -> None:
    def replace(response: requests.Response, **_: Any) -> requests.Response:
        response.close()
        other = requests.Response()
        other.status_code, other._content = 202, b'"other"'
        return other

    with Seen() as seen:
        seen.session.hooks["response"].append(replace)
        reply = seen.backend.exchange(Exchange(b"{}"))
        assert (reply.status, reply.body) == (202, b'"other"')


@pytest.mark.parametrize("plain", [True, False], ids=["prepared once", "through request()"])
def test_a_hook_that_raises_leaks_nothing(plain: bool) -> None:
    def check(response: requests.Response, **_: Any) -> None:
        response.raise_for_status()

    with Seen(answer=lambda request: Answer(b" " * 100_000, 503 if len(seen.server.requests) == 1 else 200)) as seen:
        seen.session.hooks["response"].append(check)
        if not plain:
            seen.session.auth = Token("", "")
        with pytest.raises(TransportError, match="HTTPError") as raised:
            seen.send()
        assert isinstance(raised.value.__cause__, requests.HTTPError)
        assert settles(lambda: seen.server.open_connections == 0)
        seen.send()


# --- sessions of the user's own making ---


@pytest.mark.parametrize("step", ["request", "send", "prepare_request", "merge_environment_settings"])
@pytest.mark.parametrize("where", ["class", "instance"])
def test_an_overridden_step_of_a_session_is_taken(step: str, where: str) -> None:
    calls: list[str] = []

    def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(step)
        return getattr(requests.Session, step)(self, *args, **kwargs)

    if where == "class":
        session = type("Mine", (requests.Session,), {step: wrapped})()
    else:
        session = requests.Session()
        session.__dict__[step] = lambda *args, **kwargs: wrapped(session, *args, **kwargs)
    with Seen(session) as seen:
        seen.send()
        seen.send()
    assert calls == [step] * 2


def test_mounted_adapters_are_used_and_may_be_mounted_late() -> None:
    class Canned(requests.adapters.BaseAdapter):
        def send(self, request: Any, *args: Any, **kwargs: Any) -> requests.Response:
            response = requests.Response()
            response.status_code, response._content, response.url, response.request = 200, b'"canned"', request.url, request
            response.raw = None
            return response

        def close(self) -> None:
            pass

    with Seen() as seen:
        seen.send()
        seen.session.mount(seen.server.url, Canned())
        assert seen.backend.exchange(Exchange(b"{}")).body == b'"canned"'
        assert len(seen.server.requests) == 1


def test_session_verify_changed_between_calls(tls: Any) -> None:
    with LoopbackServer(lambda request: Answer(b"{}"), tls=tls.server) as server, Wire("requests", server.url, session=requests.Session) as client:
        assert type(client.problem()).__name__ == "CertificateError"
        client.session.verify = tls.path
        assert client.exchange().status == 200
        client.session.verify = False
        with pytest.warns(Warning, match="Unverified HTTPS request"):
            assert client.exchange().status == 200


@pytest.mark.parametrize("owned", [True, False])
def test_a_client_certificate(owned: bool, tls: Any, tmp_path: Any) -> None:
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.authority.issue_cert("127.0.0.1").configure_cert(server_side)
    server_side.verify_mode = ssl.CERT_REQUIRED
    tls.authority.configure_trust(server_side)
    mine = tls.authority.issue_cert("client@service.test")
    both, key, chain = str(tmp_path / "both.pem"), tmp_path / "key.pem", tmp_path / "chain.pem"
    mine.private_key_and_cert_chain_pem.write_to_path(both)
    mine.private_key_pem.write_to_path(str(key))
    mine.cert_chain_pems[0].write_to_path(str(chain))

    def session() -> requests.Session:
        chosen = requests.Session()
        chosen.verify, chosen.cert = tls.path, both
        return chosen

    with LoopbackServer(lambda request: Answer(b"{}"), tls=server_side) as server:
        for options in ({"verify": tls.path, "cert": both}, {"verify": tls.path, "cert": (chain, key)}) if owned else ({"session": session},):
            with Wire("requests", server.url, **options) as client:
                assert client.exchange().status == 200
        with Wire("requests", server.url, verify=tls.path) as client:
            assert isinstance(client.problem(), ConnectionError)


def test_a_pool_that_urllib3_has_dropped_is_made_anew() -> None:
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(LoopbackServer(rpc({"sum": lambda a, b: a + b}))) for _ in range(8)]
        client = stack.enter_context(Client(servers[0].url))
        assert client.call("sum", 1, 2) == 3
        for server in servers[1:]:
            # The session is within reach; it keeps pools for a few hosts only.
            client.backend.session.get(server.url, data=b'{"id":1}', timeout=5).close()
        assert client.call("sum", 1, 2) == 3
        client.backend.session.get_adapter(client.backend.target.url).close()
        assert client.call("sum", 1, 2) == 3
