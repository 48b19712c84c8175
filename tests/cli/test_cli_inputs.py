"""What the arguments of ``rpcretry call`` mean."""

import io
import sys

import pytest

from rpcretry import UNSET, Request
from rpcretry.cli._ends import CommandError
from rpcretry.cli._inputs import Secrets, basic_auth, headers_of, params_of, params_of_text, read_batch, target_of, text_of


def refused(make, *arguments):
    with pytest.raises(CommandError) as caught:
        make(*arguments)
    assert caught.value.code == 2
    return caught.value.message


@pytest.mark.parametrize(
    ("texts", "params"),
    [
        ([], UNSET),
        (["1", "-2.5", "true", "null"], [1, -2.5, True, None]),
        (["Paris", "0x10", "", "a b", "1.2.3", "NaN", "-x"], ["Paris", "0x10", "", "a b", "1.2.3", "NaN", "-x"]),
        (['"1"', "[1]", '{"a": 1}', "{}"], ["1", [1], {"a": 1}, {}]),
        (["a=1", "b=x", "c=", 'd={"e": [1]}', "e.f-g=null"], {"a": 1, "b": "x", "c": "", "d": {"e": [1]}, "e.f-g": None}),
        (["_x=1", "größe=2"], {"_x": 1, "größe": 2}),
        (["a=b=c"], {"a": "b=c"}),
        # What only looks like a name.
        (["https://host/?a=1", "1=2", "=3", '"a=1"', "a b=1"], ["https://host/?a=1", "1=2", "=3", "a=1", "a b=1"]),
    ],
)
def test_params(texts, params):
    assert params_of(texts) == params


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["1", "a=2"], "give params by position or by name, not both: a=... stands beside one that has no name"),
        (["a=1", "a=2"], "the param a is given twice"),
        (["{bad"], "the param '{bad' begins as JSON does and is none: Expecting property name"),
        (["a=[1,"], "the param 'a=[1,' begins as JSON does and is none: Expecting value"),
        (['"open'], "begins as JSON does and is none: Unterminated string"),
    ],
)
def test_params_that_are_none(texts, message):
    assert message in refused(params_of, texts)


def test_params_as_one_text(tmp_path, monkeypatch):
    assert params_of_text('{"a": 1.10}') == {"a": 1.1}
    assert params_of_text("[]") == []
    file = tmp_path / "params.json"
    file.write_bytes('\ufeff["é"]'.encode())
    assert params_of_text(f"@{file}") == ["é"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"[1]")))
    assert params_of_text("-") == [1]


def test_params_as_one_text_that_are_none(tmp_path):
    assert refused(params_of_text, "7") == "--params must hold a JSON array or object, got '7'; write [7] to send it as the one param"
    assert refused(params_of_text, "{").startswith("--params holds no JSON: ")
    missing = tmp_path / "nothing"
    assert refused(params_of_text, f"@{missing}") == f"--params: cannot read {missing}: No such file or directory"
    missing.write_bytes(b"\xff")
    assert refused(text_of, str(missing), "--batch") == f"--batch: {missing} is no UTF-8"


def batch(tmp_path, text):
    file = tmp_path / "batch"
    file.write_text(text)
    return str(file)


def test_a_batch_by_lines_and_as_an_array(tmp_path):
    one, two, three = Request("sum", [1, 2]), Request("tick", id=None), Request("get", {"a": 1}, id="x")
    lines = '{"method": "sum", "params": [1, 2]}\n\n{"jsonrpc": "2.0", "method": "tick", "id": null}\n{"method": "get", "params": {"a": 1}, "id": "x"}\n'
    assert read_batch(batch(tmp_path, lines)) == ([one, two, three], False)
    array = '[{"method": "sum", "params": [1, 2]}, {"method": "tick", "id": null}]'
    assert read_batch(batch(tmp_path, array)) == ([one, two], True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", " holds no request; write one to a line"),
        ("[]", " holds no request; write one to a line"),
        ('{"method": "a"}\n7', ", line 2: a request is a JSON object with method and params"),
        ('[{"method": "a"}, {"methd": "b"}]', ", item 2: a request has no member 'methd'; did you mean method?"),
        ('{"params": []}', ", line 1: the request has no method"),
        ('{"method": ""}', ", line 1: method must not be empty"),
        ('{"method": 7}', ", line 1: method must be a str, got int 7"),
        ('{"method": "a", "params": 7}', ", line 1: params must be an array or an object"),
        ('{"method": "a", "params": null}', ", line 1: params must be an array or an object"),
        ('{"method": "a", "id": 1.5}', ", line 1: id must be a whole number, a string, or null for a notification"),
        ('{"method": "a"\n{', ": line 2 is no JSON: Expecting ',' delimiter at column 1"),
    ],
)
def test_a_batch_that_is_none_says_where(tmp_path, text, message):
    assert message in refused(read_batch, batch(tmp_path, text))


def test_headers(monkeypatch):
    monkeypatch.setenv("API_KEY", " key-of-theirs ")
    monkeypatch.setenv("API_TOKEN", "token-of-theirs")
    secrets = Secrets()
    found = headers_of(["Accept: a/b; c:d", "X-Secret:  mine-and-only "], ["X-Api-Key=API_KEY"], "API_TOKEN", secrets)
    assert found == [("Accept", "a/b; c:d"), ("X-Secret", "mine-and-only"), ("X-Api-Key", "key-of-theirs"), ("Authorization", "Bearer token-of-theirs")]
    said = "a/b; c:d mine-and-only key-of-theirs Bearer token-of-theirs"
    assert secrets.clean(said) == "a/b; c:d *** *** Bearer ***"


def test_what_is_wrong_with_headers_is_said_without_their_values(monkeypatch):
    monkeypatch.delenv("hunter2", raising=False)
    monkeypatch.setenv("EMPTY", " ")
    for call in (
        lambda: headers_of(["hunter2"], [], None, Secrets()),
        lambda: headers_of([], ["hunter2"], None, Secrets()),
        lambda: headers_of([], ["X=hunter2"], None, Secrets()),
        lambda: headers_of([], ["X=hunter2-"], None, Secrets()),
        lambda: headers_of([], ["X=EMPTY"], None, Secrets()),
        lambda: headers_of([], [], "hunter2", Secrets()),
        lambda: headers_of(["X: hunter2", "x: hunter2"], [], None, Secrets()),
        lambda: basic_auth("hunter2", Secrets()),
        lambda: basic_auth("user:hunter2", Secrets()),
        lambda: target_of("env:hunter2", Secrets()),
    ):
        assert "hunter2" not in refused(call)


def test_basic_authentication_hides_the_password_and_what_is_sent(monkeypatch):
    monkeypatch.setenv("WALLET_PASSWORD", "open:sesame")
    secrets = Secrets()
    assert basic_auth("alice:WALLET_PASSWORD", secrets) == ("alice", "open:sesame")
    assert secrets.clean("open:sesame YWxpY2U6b3BlbjpzZXNhbWU=") == "*** ***"


def test_the_url_may_come_from_the_environment_and_its_keys_are_hidden(monkeypatch):
    url = "https://user:p4ssw%2Frd@host/v3/0123456789abcdef0123/rpc?key=topsecret&v=1"
    monkeypatch.setenv("NODE_URL", url)
    secrets = Secrets()
    assert target_of("env:NODE_URL", secrets) == url
    shown = secrets.clean("host v3 rpc 0123456789abcdef0123 topsecret p4ssw/rd p4ssw%2Frd")
    assert shown == "host v3 rpc *** *** *** ***"
    assert target_of("http://[", secrets) == "http://["


@pytest.mark.parametrize(
    ("url", "said", "shown"),
    [
        # What is hidden: as it is written in the URL, and as a server decodes it.
        ("http://n4me@h/", "n4me bjRtZTo= user", "*** *** user"),
        ("http://k%40y1@h/", "k%40y1 k@y1", "*** ***"),
        ("http://user:p%C3%A4ss@h/", "user p%C3%A4ss päss dXNlcjpw5HNz", "user *** *** ***"),
        ("http://h/?api_key=main&a=b", "main a b", "*** a b"),
        ("http://h/?q=a%2Bb+cd12", "a%2Bb+cd12 a+b+cd12 a+b cd12", "*** *** ***"),
        ("http://h/?0123abcd", "0123abcd", "***"),
        ("http://h/r/abcd%20efgh-ijkl-1/x", "abcd%20efgh-ijkl-1 abcd efgh-ijkl-1", "*** ***"),
        # What is not: words of which messages are made.
        ("http://h/", "HTTP 503 basic Og== main", "HTTP 503 basic Og== main"),
        ("http://user:p4ssword@h/", "user", "user"),
        ("http://h/?network=mainnet&v=HTTP&n=12345678&x=abc123", "mainnet HTTP 12345678 abc123", "mainnet HTTP 12345678 abc123"),
        ("http://h/a-rather-long-segment/v1/rpc", "a-rather-long-segment v1 rpc", "a-rather-long-segment v1 rpc"),
        ("http://h/?key=", "key =", "key ="),
    ],
)
def test_of_a_url_keys_are_hidden_and_words_are_not(url, said, shown):
    secrets = Secrets()
    secrets.add_url(url)
    assert secrets.clean(said) == shown


def test_short_words_are_no_secrets():
    secrets = Secrets()
    secrets.add("", "a", "abc", "abcd", 'quo"ted')
    assert secrets.clean('a abc abcd quo"ted quo\\"ted') == "a abc *** *** ***"


def test_the_beginning_of_a_secret_is_hidden_where_an_excerpt_cuts_it():
    secrets = Secrets()
    secrets.add("0123456789abcdef", "short", "maintenance-token")
    assert secrets.clean("0123456789abcdef 0123456789… 01234567… 0123456… short shor…") == "*** ***… ***… 0123456… *** shor…"
    # Elsewhere it is a word like others.
    assert secrets.clean("down for maintenance, sorry… 01234567 is no key") == "down for maintenance, sorry… 01234567 is no key"


def test_a_variable_that_is_missing_is_named_where_it_looks_like_one(monkeypatch):
    for name in ("API_KEY", "NODE_URL", "AKIAIOSFODNN7EXAMPLE", "api_key"):
        monkeypatch.delenv(name, raising=False)
    missing = "names a variable that the environment does not have, or an empty one"
    assert refused(headers_of, [], ["X-Api-Key=API_KEY"], None, Secrets()) == f"--header-env X-Api-Key=... {missing}: API_KEY; export it first"
    assert refused(headers_of, [], ["X-Api-Key=api_key"], None, Secrets()) == f"--header-env X-Api-Key=... {missing}; export it first"
    assert refused(headers_of, [], ["X-Api-Key=AKIAIOSFODNN7EXAMPLE"], None, Secrets()) == f"--header-env X-Api-Key=... {missing}; export it first"
    assert refused(headers_of, [], ["s3cret=API_KEY"], None, Secrets()) == f"--header-env {missing}: API_KEY; export it first"
    assert refused(headers_of, [], [], "API_KEY", Secrets()) == f"--bearer-env {missing}: API_KEY; export it first"
    assert refused(basic_auth, "alice:API_KEY", Secrets()) == f"--auth-env {missing}: API_KEY; export it first"
    assert refused(target_of, "env:NODE_URL", Secrets()) == f"URL {missing}: NODE_URL; export it first"


def test_what_is_no_text_is_not_taken_from_the_environment(monkeypatch):
    monkeypatch.setenv("API_KEY", "hunter2\udcff")
    said = refused(headers_of, [], [], "API_KEY", Secrets())
    assert said == "the value of the variable that --bearer-env names is no text in this locale's encoding; set LC_ALL to a UTF-8 one"
