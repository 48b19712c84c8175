"""``rpcretry call``: as a process against the demo's server and aria2, and in this process for the rest."""

import contextlib
import errno
import importlib.util
import io
import json
import os
import pty
import re
import select
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest
import trustme
from cli_process import TOOK, command, environment, here, process, running
from installing import from_debian

from rpcretry.cli import main
from rpcretry.cli._scenarios import METHODS
from rpcretry.cli._server import MisbehavingServer, busy, error_code, garbage, slow, unavailable
from rpcretry.testing import SILENCE, Answer, LoopbackServer, rpc


@pytest.fixture(scope="module")
def demo_server():
    with MisbehavingServer({**METHODS, "big": lambda count: ["x" * 100] * count}) as server:
        yield server


@pytest.fixture(autouse=True)
def _calm(request):
    if "demo_server" in request.fixturenames:
        request.getfixturevalue("demo_server").arm(())


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def answering(*answers):
    """A server that gives these answers in turn, and the last one for ever."""
    left = list(answers)
    return LoopbackServer(lambda request: left.pop(0) if len(left) > 1 else left[0])


def reply(result=None, **members):
    return Answer({"jsonrpc": "2.0", "id": 1, **(members or {"result": result})})


def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


# --- as a process --------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_result_goes_to_stdout_and_nothing_else_anywhere(demo_server):
    done = process("call", demo_server.url, "sum", "2", "-3", "4")
    assert (done.returncode, done.stdout, done.stderr) == (0, "3\n", "")


@pytest.mark.slow
def test_a_json_rpc_error_is_one_line_on_stderr(demo_server):
    done = process("call", demo_server.url, "get_weather", "Paris")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "rpcretry: the server answered with error -32601: Method not found\n")


@pytest.mark.slow
def test_an_unreachable_host_is_named_and_nothing_of_the_url():
    port = closed_port()
    done = process("call", f"http://127.0.0.1:{port}/v3/0123456789abcdef?key=hunter2", "sum")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == f"rpcretry: no connection to 127.0.0.1:{port}: Connection refused (ConnectError, not sent)\n"


@pytest.mark.slow
def test_a_body_that_is_no_json_is_quoted(demo_server):
    demo_server.arm([garbage(b"<!doctype html>")])
    done = process("call", demo_server.url, "sum")
    said = "rpcretry: HTTP 200 with a body that is no JSON (Expecting value: line 1 column 1 (char 0)): <!doctype html> (ProtocolError)\n"
    assert (done.returncode, done.stdout, done.stderr) == (4, "", said)


@pytest.mark.slow
def test_a_param_that_is_broken_json_is_not_sent(demo_server):
    done = process("call", demo_server.url, "sum", "1", "[2,")
    said = "rpcretry: the param '[2,' begins as JSON does and is none: Expecting value: line 1 column 4 (char 3)\n"
    assert (done.returncode, done.stdout, done.stderr, demo_server.exchanges) == (2, "", said, [])


@pytest.mark.slow
def test_a_batch_from_stdin_is_answered_line_by_line(demo_server):
    lines = """{"method": "sum", "params": [1, 2]}
{"method": "tick", "id": null}
{"method": "nothing", "id": "x"}
{"method": "get_report", "params": {"year": 1}}
"""
    done = process("call", demo_server.url, "--batch", "-", input=lines)
    expected = '{"id":1,"result":3}\n{"id":"x","error":{"code":-32601,"message":"Method not found"}}\n{"id":2,"result":"report of 1"}\n'
    assert (done.returncode, done.stdout, done.stderr) == (1, expected, "")
    assert demo_server.exchanges == [("sum", "tick", "nothing", "get_report")]


@pytest.mark.slow
def test_a_reader_that_leaves_ends_it_quietly(demo_server):
    with running("call", demo_server.url, "big", "20000", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as started:
        assert started.stdout.readline() == b"[\n"
        started.stdout.close()
        assert started.stderr.read() == b""
    assert started.returncode == 141


@pytest.mark.slow
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_shell_sees_the_same_of_head(demo_server, unbuffered):
    line = f"{sys.executable} -m rpcretry.cli call {demo_server.url} big 20000 | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60, env=environment(PYTHONUNBUFFERED=unbuffered), check=True)
    assert (done.stdout, done.stderr) == ("[\n141\n", "")


@pytest.mark.slow
@pytest.mark.parametrize("library", ["requests", "aiohttp"])
def test_ctrl_c_in_a_backoff_ends_it_at_once(demo_server, library):
    demo_server.arm([busy()])
    arguments = ["call", demo_server.url, "sum", "--on", "http:503", "--backoff", "periodic:interval=60", "-v", "--backend", library]
    with running(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as started:
        line = started.stderr.readline()
        assert TOOK.sub(" after T", line.decode()) == "attempt 1/4  HTTPStatusError 503 (maybe executed) after T -> again in 60.000 s (status)\n"
        interrupted = time.monotonic()
        started.send_signal(signal.SIGINT)
        out, err = started.communicate(timeout=10)
        assert time.monotonic() - interrupted < 3
    assert (started.returncode, out, err) == (-signal.SIGINT, b"", b"rpcretry: interrupted\n")


@pytest.mark.slow
def test_ctrl_c_in_an_attempt_ends_its_line():
    with LoopbackServer(lambda request: SILENCE) as server:
        with running("call", server.url, "sum", "-v", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as started:
            ends = time.monotonic() + 20
            while not server.requests and time.monotonic() < ends:
                time.sleep(0.01)
            started.send_signal(signal.SIGINT)
            out, err = started.communicate(timeout=10)
    assert (started.returncode, out) == (-signal.SIGINT, b"")
    assert re.fullmatch(rb"attempt 1/1  \nrpcretry: interrupted while an attempt was under way; the server may have executed it\n", err), err


@pytest.mark.slow
def test_secrets_from_the_environment_reach_the_server_and_nothing_else():
    received = []

    def repeat(request):
        received.append(request)
        if len(received) == 1:
            return Answer(b"busy for " + request.headers["authorization"].encode(), 503)
        words = f"{request.headers['authorization']} {request.headers['x-api-key']} {request.path}"
        return Answer({"jsonrpc": "2.0", "id": 1, "error": {"code": 7, "message": f"who is {words}?", "data": {"seen": words}}})

    secrets = {"TOKEN": "tok-en-hunter2", "API_KEY": "api-hunter2", "NODE_URL": "put in below"}
    with LoopbackServer(repeat) as server:
        secrets["NODE_URL"] = f"{server.url}v3/hunter2-hunter2-hunter2?key=hunter2&x=1"
        options = ["--bearer-env", "TOKEN", "--header-env", "X-Api-Key=API_KEY", "-v", "--on", "http:503", "--backoff", "immediate"]
        done = process("call", "env:NODE_URL", "who", *options, **secrets)
    assert [request.headers["authorization"] for request in received] == ["Bearer tok-en-hunter2"] * 2
    assert received[0].headers["x-api-key"] == "api-hunter2"
    assert (done.returncode, done.stdout) == (1, "")
    assert "hunter2" not in done.stderr
    assert "error 7: who is Bearer *** *** /v3/***?key=***&x=1?" in done.stderr


@pytest.mark.slow
def test_standard_output_is_utf8_json_whatever_the_locale():
    body = '{"jsonrpc":"2.0","id":1,"result":"é€😀\\u009b"}'.encode()
    with answering(Answer(body)) as server:
        done = [
            subprocess.run(command("call", server.url, "a"), capture_output=True, env=environment(**changes), check=True)
            for changes in ({}, {"PYTHONIOENCODING": "ascii"})
        ]
    assert done[0].stdout == '"é€😀\\u009b"\n'.encode()
    assert done[1].stdout == b'"\\u00e9\\u20ac\\ud83d\\ude00\\u009b"\n'


def aria2_server(folder):
    """The module with the fixture for aria2c lies in another folder of tests, and is no package."""
    spec = importlib.util.spec_from_file_location("aria2_for_cli", Path(__file__).parent.parent / "real" / "test_aria2.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Aria2(from_debian("aria2c", "aria2"), folder)


@pytest.mark.slow
def test_against_aria2(tmp_path):
    server = aria2_server(tmp_path)
    server.start()
    try:
        version = process("call", server.url, "aria2.getVersion", "-c")
        unknown = process("call", server.url, "no.such.method", "--raw", "-c")
        lines = '{"method": "system.listMethods"}\n{"method": "aria2.tellStatus", "params": ["ffffffffffffffff"]}\n'
        batch = here("call", server.url, "--batch", str(_file(tmp_path, lines)))
    finally:
        server.kill()
    assert (version.returncode, version.stderr) == (0, "")
    assert json.loads(version.stdout)["version"].startswith("1.")
    # aria2 answers errors with HTTP 400, and JSON-RPC in it.
    assert (unknown.returncode, unknown.stderr) == (1, "rpcretry: the server answered with error 1: No such method: no.such.method\n")
    assert json.loads(unknown.stdout)["error"] == {"code": 1, "message": "No such method: no.such.method"}
    first, second = map(json.loads, batch.out.splitlines())
    assert "aria2.addUri" in first["result"]
    assert (second["id"], second["error"]["code"], batch.code) == (2, 1, 1)


def _file(folder, text):
    path = folder / "requests.jsonl"
    path.write_text(text)
    return path


# --- params and results, in this process ---------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "params"),
    [
        ([], None),
        (["1", "two", "true", "null", '"3"', '{"a": [1.10]}'], '[1,"two",true,null,"3",{"a":[1.10]}]'),
        (["-1", "-2.5e3", "-"], '[-1,-2.5e3,"-"]'),
        (["a=1", "b=two", "c=[]"], '{"a":1,"b":"two","c":[]}'),
        (["--", "--a", "-v", "-5"], '["--a","-v",-5]'),
        (["--params", "[]"], "[]"),
        (["--params", '{"_timeout": 12345678901234567890.000}'], '{"_timeout":12345678901234567890.000}'),
    ],
)
def test_params_reach_the_server_as_they_were_written(arguments, params):
    with answering(reply("ok")) as server:
        done = here("call", server.url, "m", *arguments)
        body = server.requests[0].body.decode()
    assert done == (0, '"ok"\n', "")
    given = "" if params is None else f',"params":{params}'
    assert body == f'{{"jsonrpc":"2.0","method":"m"{given},"id":1}}'


RESULT = b'{"jsonrpc":"2.0","id":1,"result":{"a":[1.10,1e400],"b":{},"n":12345678901234567890123},"more":true}'


@pytest.mark.parametrize(
    ("options", "printed"),
    [
        ([], '{\n  "a": [\n    1.10,\n    1e400\n  ],\n  "b": {},\n  "n": 12345678901234567890123\n}\n'),
        (["--compact"], '{"a":[1.10,1e400],"b":{},"n":12345678901234567890123}\n'),
        (["--raw", "-c"], RESULT.decode() + "\n"),
    ],
)
@pytest.mark.parametrize("library", ["requests", "aiohttp"])
def test_results_are_printed_as_they_were_written(options, printed, library):
    with answering(Answer(RESULT)) as server:
        assert here("call", server.url, "m", "--backend", library, *options) == (0, printed, "")


@pytest.mark.parametrize("result", [None, 0, False, "", [], {}])
def test_every_result_is_printed_and_is_no_failure(result):
    with answering(reply(result)) as server:
        assert here("call", server.url, "m") == (0, json.dumps(result) + "\n", "")


def test_a_notification_prints_nothing(demo_server):
    assert here("call", demo_server.url, "tick", "--notify") == (0, "", "")
    assert demo_server.executed == {"tick": 1}


def test_headers_and_authentication_arrive(monkeypatch):
    monkeypatch.setenv("PASSWORD", "sesame")
    with answering(reply(1)) as server:
        assert here("call", server.url, "m", "-H", "Accept-Language: en", "--auth-env", "alice:PASSWORD").code == 0
        headers = server.requests[0].headers
    assert (headers["accept-language"], headers["authorization"]) == ("en", "Basic YWxpY2U6c2VzYW1l")


# --- failures ------------------------------------------------------------------------------------


def test_the_data_of_an_error_is_printed_too_and_the_raw_answer_where_asked_for():
    error = {"code": -32000, "message": "no\x1b[31m money\nleft", "data": {"need": 5}}
    with answering(reply(error=error)) as server:
        done = here("call", server.url, "pay")
        raw = here("call", server.url, "pay", "--raw", "-c")
    said = 'rpcretry: the server answered with error -32000: no\\x1b[31m money\\nleft\n  data: {"need":5}\n'
    assert done == (1, "", said)
    assert (raw.code, raw.err, json.loads(raw.out)["error"]) == (1, said, error)


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        (Answer(b"<h1>hi</h1>"), 4, "rpcretry: HTTP 200 with a body that is no JSON ("),
        (Answer(b'{"jsonrpc":"2.0","id":1,"result":NaN}'), 4, "(NaN is no JSON; send null or a string instead): "),
        (Answer(b""), 4, "rpcretry: HTTP 200 with an empty body (ProtocolError)\n"),
        (Answer({"jsonrpc": "2.0", "id": 7, "result": 1}), 4, "(IdentityError)\n"),
        (Answer(b"busy", 503), 3, "rpcretry: HTTP 503: busy (HTTPStatusError, maybe executed)\n"),
        (Answer(b"", 301, {"Location": "https://else.where/?key=hunter2"}), 3, "redirects to host else.where; "),
        (None, 3, "(ConnectionLostError, maybe executed)\n"),
    ],
    ids=["html", "nan", "empty", "id", "503", "redirect", "cut"],
)
def test_no_answer_is_3_and_a_wrong_one_is_4(answer, code, said):
    with answering(answer) as server:
        done = here("call", server.url, "m")
    assert (done.code, done.out) == (code, "")
    assert said in done.err
    assert "hunter2" not in done.err
    assert done.err.startswith("rpcretry: ")


@pytest.mark.parametrize("library", ["requests", "aiohttp"])
def test_timeout_and_deadline_are_3_and_say_which_of_them(library):
    with LoopbackServer(lambda request: SILENCE) as server:
        host = server.url[7:-1]
        late = here("call", server.url, "m", "--timeout", "0.05", "--backend", library)
        over = here("call", server.url, "m", "--deadline", "0.05", "--backend", library)
    assert late == (3, "", f"rpcretry: the answer of {host} took too long (RequestTimeoutError, maybe executed)\n")
    assert (over.code, over.out) == (3, "")
    first, second = over.err.splitlines()
    assert re.fullmatch(r"rpcretry: m: the deadline of 0\.05 s ended the call after 1 attempt in 0\.\d\d s \(DeadlineExceeded, maybe executed\)", first)
    assert second == f"  the last failure before it: the answer of {host} took too long (RequestTimeoutError)"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["URL"], "METHOD is missing; write: rpcretry call URL METHOD, or --batch FILE"),
        (["URL", ""], "method must not be empty"),
        (["URL", "m", "1", "a=2"], "give params by position or by name, not both: a=... stands beside one that has no name"),
        (["URL", "m", "{bad"], "the param '{bad' begins as JSON does and is none"),
        (["URL", "m", "1", "--params", "[]"], "give the params as arguments or by --params, not both"),
        (["URL", "m", "--tmeout", "5"], "no such option: --tmeout; did you mean --timeout? Write -- before params that begin with a hyphen"),
        (["URL", "m", "--tmeout=5"], "no such option: --tmeout; did you mean"),
        (["URL", "m", "--auth", "me:hunter2"], "no such option: --auth; did you mean --auth-env? Write"),
        (["URL", "m", "--force"], "no such option: --force; write -- before params that begin with a hyphen"),
        (["URL", "m", "-x"], "no such option: -x; write"),
        (["URL", "m", "-uhunter2"], "no such option: -u; write"),
        (["URL", "m", "-vx"], "no such option: -x; write"),
        # Wherever it stands, and whatever stands behind it.
        (["URL", "--tmeout", "5", "m"], "no such option: --tmeout; did you mean"),
        (["--verbos", "URL", "m"], "no such option: --verbos; did you mean --verbose?"),
        (["URL", "--tmeout", "m", "--", "5"], "no such option: --tmeout; did you mean"),
        (["URL", "m", "--tmeout", "--", "-5"], "no such option: --tmeout; did you mean"),
        (["URL", "-5"], "-5 stands where METHOD does; write -- before params that begin with a hyphen"),
        (["-5", "URL", "m"], "-5 stands where URL does; write -- before"),
        # Of several short options in one word the parser would take -c and -H for options, and the rest for a param.
        (["URL", "m", "-0xcafe"], "'-0xcafe' begins with a hyphen and is no number; write -- before params that begin with a hyphen"),
        (["URL", "m", "-5c"], "'-5c' begins with a hyphen and is no number; write"),
        (["URL", "m", "-5", "-5c"], "'-5c' begins with a hyphen and is no number; write"),
        (["URL", "m", "-7Ha: b"], "'-7Ha: b' begins with a hyphen and is no number; write"),
        (["URL", "m", "-1.5.2"], "'-1.5.2' begins with a hyphen and is no number; write"),
        # As the process has bytes that are no text.
        (["URL", "m", "\udcff"], "the param '\\udcff' is no text in this locale's encoding; set LC_ALL to a UTF-8 one"),
        (["URL", "m", "a=\udce9"], "the param 'a=\\udce9' is no text in this locale's encoding"),
        (["URL", "\udcff"], "METHOD is no text in this locale's encoding"),
        (["URL\udcff", "m"], "URL is no text in this locale's encoding"),
        (["URL", "m", "--params", '["\udcff"]'], "--params is no text in this locale's encoding"),
        (["URL", "m", "-H", "A: hunter2\udcff"], "a header of -H is no text in this locale's encoding"),
        (["URL", "m", "--batch", "file"], "--batch takes methods and params from its file; leave METHOD, params and --notify out"),
        (["URL", "--notify", "--batch", "file"], "--batch takes methods"),
        (["URL", "--batch", "/nothing/here"], "--batch: cannot read /nothing/here: No such file or directory"),
        (["URL", "m", "--timeout", "0"], "--timeout takes seconds, more than 0, got 0; leave it out for 30 s"),
        (["URL", "m", "--deadline", "nan"], "--deadline takes seconds, more than 0, got nan; leave it out for no limit"),
        (["URL", "m", "--timeout", "soon"], "--timeout takes a number of seconds, got 'soon'\n"),
        (["URL", "m", "--timeout", "5s"], "--timeout takes a number of seconds, got '5s'; write 5, without a unit"),
        (["URL", "m", "--deadline", "1.5 min"], "--deadline takes a number of seconds, got '1.5 min'; write 1.5, without a unit"),
        (["URL", "m", "--timeout", "--", "5"], "--timeout takes a number of seconds, got '--'\n"),
        (["URL", "m", "-H", "--", "-x"], "no such option: -x; write"),
        (["URL", "m", "--backend", "httpx"], "--backend"),
        (["URL", "m", "--backoff", "constant"], "unknown backoff 'constant'; here it is called periodic"),
        (["URL", "m", "--on", "2001,nothing"], "'nothing' is neither a code nor an error"),
        (["URL", "m", "--idempotent"], "--idempotent says what may be repeated; add --retry, --on or --backoff"),
        (["URL", "m", "-H", "Content-Length: 3"], "headers: Content-Length is set by the HTTP library"),
        (["URL", "m", "-H", "A: hunter2\nB: c"], "headers: the value of A holds a control character"),
        (["URL", "m", "--cacert", "/nothing/here"], "--cacert: there is no file /nothing/here"),
        (["URL", "m", "--cacert", "/"], "--cacert: cannot use /: Is a directory"),
        (["URL", "m", "--cacert", "ca.pem", "--insecure"], "--insecure trusts any certificate, --cacert those in a file; give one of them"),
        (["ftp://host/hunter2", "m"], "url must start with http:// or https://, got the scheme 'ftp'"),
        (["localhost:80/hunter2", "m"], "url must start with http:// or https://; write http://localhost:80 or https://...\n"),
        (["127.0.0.1:8545", "m"], "url must start with http:// or https://; write http://127.0.0.1:8545 or https://...\n"),
        (["user:2/hunter2@host", "m"], "url must start with http:// or https://; write http://... or https://...\n"),
        (["hunter2", "m"], "url must start with http:// or https://; write http://... or https://...\n"),
        (["http://ho st/hunter2", "m"], "url must not contain spaces"),
    ],
)
def test_wrong_usage_is_2_and_nothing_is_sent(arguments, said):
    with answering(reply(1)) as server:
        done = here("call", *[server.url if each == "URL" else each for each in arguments])
        assert server.requests == []
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert "hunter2" not in done.err
    assert "Traceback" not in done.err


def test_a_password_with_a_slash_in_it_is_not_shown(monkeypatch):
    monkeypatch.setenv("NODE_URL", "http://user:hunter2pw/x@host/")
    for library in ("requests", "aiohttp"):
        done = here("call", "env:NODE_URL", "m", "--backend", library)
        assert (done.code, done.out) == (2, "")
        assert done.err == "rpcretry: url is malformed: its host or its port is none; write http://host:8545/path\n"


def test_what_a_client_refuses_is_shown_without_secrets(monkeypatch):
    def refuse(*arguments, **options):
        raise ValueError(f"no {options['headers'][0][1]}")

    monkeypatch.setenv("TOKEN", "hunter2-token")
    monkeypatch.setattr("rpcretry.backends.requests.Client", refuse)
    done = here("call", "http://localhost/", "m", "--bearer-env", "TOKEN", "--backend", "requests")
    assert done == (2, "", "rpcretry: no Bearer ***\n")


def test_certificates(tmp_path):
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing")
    with LoopbackServer(rpc({"m": lambda: 1}), tls=context) as server:
        for library in ("requests", "aiohttp"):
            common = ("call", server.url, "m", "--backend", library)
            assert here(*common, "--cacert", str(file)) == (0, "1\n", "")
            assert here(*common, "--insecure") == (0, "1\n", "")
            done = here(*common)
            assert (done.code, done.out) == (3, "")
            assert "is not trusted" in done.err
            wrong = here(*common, "--cacert", str(empty))
            assert wrong == (2, "", f"rpcretry: --cacert: cannot use {empty}: it holds no certificates\n")


# --- retries -------------------------------------------------------------------------------------


def test_nothing_is_retried_unless_asked_for(demo_server):
    demo_server.arm([unavailable("0")])
    done = here("call", demo_server.url, "sum", "1", "-v")
    said = "attempt 1/1  HTTPStatusError 503 (rejected) after T -> not retried\nrpcretry: HTTP 503: try later (HTTPStatusError, rejected)\n"
    assert (done.code, done.out, TOOK.sub(" after T", done.err)) == (3, "", said)


@pytest.mark.parametrize("library", ["requests", "aiohttp"])
def test_verbose_shows_each_attempt_on_stderr(demo_server, library):
    demo_server.arm([error_code(2001, "reserve"), error_code(2001, "reserve")])
    options = ["--on", "2001", "--backoff", "exponential:base=0.01", "--verbose", "--backend", library]
    done = here("call", demo_server.url, "reserve", "12A", *options)
    assert (done.code, done.out) == (0, '"12A is yours"\n')
    first, second, third = done.err.splitlines()
    assert re.fullmatch(r"attempt 1/4  JsonRpcError 2001 after \d\.\d{3} s -> again in 0\.010 s \(code\)", first)
    assert re.fullmatch(r"attempt 2/4  JsonRpcError 2001 after \d\.\d{3} s -> again in 0\.020 s \(code\)", second)
    matched = re.fullmatch(r"attempt 3/4  ok after (\d\.\d{3}) s, (\d\.\d{3}) s in all", third)
    assert float(matched[2]) >= 0.03 + float(matched[1])


def test_the_preset_leaves_alone_what_may_have_been_executed(demo_server):
    options = ["--retry", "--backoff", "immediate", "-v"]
    demo_server.arm([busy()])
    guarded = here("call", demo_server.url, "pay", "1", *options)
    assert (guarded.code, guarded.err.count("attempt 1/4"), guarded.err.count("attempt 2/4")) == (3, 1, 0)
    assert guarded.err.count("not declared idempotent") == 1
    assert "(may have been executed, and is not declared idempotent; add --idempotent if it may be executed twice)\n" in guarded.err
    assert "after T -> not retried\n" in TOOK.sub(" after T", guarded.err)
    demo_server.arm([busy()])
    allowed = here("call", demo_server.url, "pay", "1", *options, "--idempotent")
    assert (allowed.code, allowed.out) == (0, '"paid 1"\n')
    demo_server.arm([unavailable("0")])
    rejected = here("call", demo_server.url, "pay", "1", *options)
    assert (rejected.code, rejected.out) == (0, '"paid 1"\n')


def test_on_retries_that_and_nothing_else(demo_server):
    demo_server.arm([busy(), busy()])
    assert here("call", demo_server.url, "sum", "1", "--on", "http:500..503", "--backoff", "immediate") == (0, "1\n", "")
    demo_server.arm([busy()])
    assert here("call", demo_server.url, "sum", "1", "--on", "2001").code == 3
    assert (
        here("call", f"http://127.0.0.1:{closed_port()}/", "sum", "--on", "ConnectionError", "--backoff", "immediate:attempts=2", "-v").err.count("again in")
        == 2
    )


def test_what_ran_out_says_so(demo_server):
    demo_server.arm([error_code(2001, "reserve")] * 3)
    done = here("call", demo_server.url, "reserve", "1", "--on", "2001", "--backoff", "immediate:attempts=2")
    assert (done.code, done.out) == (1, "")
    assert re.fullmatch(r"rpcretry: the server answered with error 2001: resource is busy\n  gave up after 3 attempts in 0\.\d\d s \(attempts\)\n", done.err), (
        done.err
    )


def test_a_slow_server_under_a_deadline_is_tried_no_more(demo_server):
    demo_server.arm([slow(5.0)])
    done = here("call", demo_server.url, "get_price", "A", "--retry", "--idempotent", "--deadline", "0.1", "-v")
    assert done.code == 3
    said = TOOK.sub(" after T", done.err)
    assert said.startswith("attempt 1/4  DeadlineExceeded from RequestTimeoutError (maybe executed) after T -> the deadline ends the call\n")


def test_a_hint_of_the_server_with_a_fraction_is_kept():
    """Why numbers that keep their spelling are numbers all the same."""
    busy_for = reply(error={"code": 2001, "message": "busy", "data": {"retry_after": 0.04}})
    with answering(busy_for, reply(1)) as server:
        done = here("call", server.url, "m", "--on", "2001", "--backoff", "immediate", "-v")
    assert (done.code, done.out) == (0, "1\n")
    assert re.search(r"again in 0\.0[34]\d s \(", done.err), done.err


# --- batches -------------------------------------------------------------------------------------


def test_an_array_is_answered_by_an_array(demo_server, tmp_path):
    file = _file(tmp_path, '[{"method": "sum", "params": [1.50, 2]}, {"method": "tick", "id": null}, {"method": "sum", "id": 7}]')
    assert here("call", demo_server.url, "--batch", str(file), "-c") == (0, '[{"id":1,"result":3.5},{"id":7,"result":0}]\n', "")
    assert here("call", demo_server.url, "--batch", str(file)).out.startswith('[\n  {\n    "id": 1,\n')
    raw = here("call", demo_server.url, "--batch", str(file), "-c", "--raw").out
    assert raw == '[{"jsonrpc":"2.0","id":1,"result":3.5},{"jsonrpc":"2.0","id":7,"result":0}]\n'


def test_only_what_failed_of_a_batch_goes_again(demo_server, tmp_path):
    demo_server.arm([error_code(2001, "reserve")])
    file = _file(tmp_path, '{"method": "sum", "params": [1]}\n{"method": "reserve", "params": ["12A"]}\n')
    done = here("call", demo_server.url, "--batch", str(file), "--on", "2001", "--backoff", "immediate", "-v")
    assert (done.code, done.out) == (0, '{"id":1,"result":1}\n{"id":2,"result":"12A is yours"}\n')
    assert TOOK.sub(" after T", done.err) == "attempt 1/4  JsonRpcError 2001 after T -> 1 of 2 again in 0.000 s (code)\nattempt 2/4  ok after T\n"
    assert demo_server.exchanges == [("sum", "reserve"), ("reserve",)]


def test_verbose_marks_the_parts_of_a_batch_and_counts_what_failed(demo_server, tmp_path):
    file = _file(tmp_path, '{"method": "nothing"}\n' * 3 + '{"method": "sum"}\n{"method": "reserve", "params": ["12A"]}\n')
    demo_server.arm([None, None, error_code(2001, "reserve")])
    done = here("call", demo_server.url, "--batch", str(file), "--max-batch-size", "2", "-v")
    assert TOOK.sub(" after T", done.err).splitlines() == [
        "part 1 (2 requests): attempt 1/1  MethodNotFoundError -32601 after T -> not retried",
        "part 2 (2 requests): attempt 1/1  MethodNotFoundError -32601 after T -> not retried",
        "part 3 (1 request): attempt 1/1  JsonRpcError 2001 after T -> not retried",
        "4 of 5 requests failed: 3 x error -32601, 1 x error 2001",
    ]
    # Without -v there is the output alone.
    demo_server.arm([])
    assert here("call", demo_server.url, "--batch", str(file), "--max-batch-size", "2").err == ""


def test_a_large_batch_goes_in_parts(demo_server, tmp_path):
    file = _file(tmp_path, '{"method": "sum", "params": [1]}\n' * 5)
    done = here("call", demo_server.url, "--batch", str(file), "--max-batch-size", "2")
    assert (done.code, len(done.out.splitlines())) == (0, 5)
    assert list(map(len, demo_server.exchanges)) == [2, 2, 1]


def test_a_request_without_an_answer_says_why(tmp_path):
    file = _file(tmp_path, '{"method": "a"}\n{"method": "b"}\n')
    with answering(Answer([{"jsonrpc": "2.0", "id": 1, "result": 1}])) as server:
        done = here("call", server.url, "--batch", str(file))
    first, second = map(json.loads, done.out.splitlines())
    assert (done.code, first, second["id"]) == (1, {"id": 1, "result": 1}, 2)
    assert second["error"]["type"] == "MissingResponseError"
    assert "unanswered" in second["error"]["message"]


def test_a_batch_of_notifications_prints_nothing(demo_server, tmp_path):
    file = _file(tmp_path, '{"method": "tick", "id": null}')
    assert here("call", demo_server.url, "--batch", str(file)) == (0, "", "")


@pytest.mark.parametrize(("answer", "code"), [(Answer(b"<h1>hi</h1>"), 4), (Answer(b"busy", 503), 3)])
def test_a_batch_that_fails_as_a_whole_has_the_exit_code_of_that(tmp_path, answer, code):
    file = _file(tmp_path, '{"method": "a"}\n{"method": "b"}\n')
    with answering(answer) as server:
        done = here("call", server.url, "--batch", str(file))
    assert (done.code, done.out) == (code, "")


def test_two_requests_of_one_id_are_wrong_usage(demo_server, tmp_path):
    file = _file(tmp_path, '{"method": "sum", "id": 1}\n{"method": "sum", "id": 1}\n')
    done = here("call", demo_server.url, "--batch", str(file))
    assert (done.code, demo_server.exchanges) == (2, [])
    assert "two requests of the batch have the id 1" in done.err


# --- where it prints -----------------------------------------------------------------------------


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


def on_a_terminal(monkeypatch, *arguments, **variables):
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm-256color", "COLUMNS": "20", **variables}.items():
        monkeypatch.setenv(name, value)
    screen, errors = Terminal(), Terminal()
    with contextlib.redirect_stdout(screen), contextlib.redirect_stderr(errors), pytest.raises(SystemExit):
        main(arguments)
    return screen.getvalue(), errors.getvalue()


def test_a_terminal_gets_colour_and_no_wrapping(monkeypatch, demo_server):
    long = '{"a": "a word that is longer than a line of this terminal", "b": [1, null, true]}'
    with answering(reply(json.loads(long))) as server:
        screen, errors = on_a_terminal(monkeypatch, "call", server.url, "m", "-c", "-v")
        plain, _ = on_a_terminal(monkeypatch, "call", server.url, "m", "-c", NO_COLOR="1")
        dumb, _ = on_a_terminal(monkeypatch, "call", server.url, "m", "-c", TERM="dumb")
    compact = json.dumps(json.loads(long), separators=(",", ":")) + "\n"
    assert "\x1b[" in screen
    assert re.sub(r"\x1b\[[\d;]*m", "", screen) == compact
    assert "\x1b[32mok" in errors
    # What turns the order of characters around stays readable, and the same JSON.
    with answering(reply("a\u202eb\u2066c\u061cé")) as server:
        turned, _ = on_a_terminal(monkeypatch, "call", server.url, "m", NO_COLOR="1")
        piped = here("call", server.url, "m").out
    assert turned == '"a\\u202eb\\u2066c\\u061cé"\n'
    assert piped == '"a\u202eb\u2066c\u061cé"\n'
    assert plain == dumb == compact


def test_the_reader_of_a_real_terminal_sees_the_result(demo_server):
    ours, theirs = pty.openpty()
    with running("call", demo_server.url, "sum", "40", "2", stdin=theirs, stdout=theirs, stderr=theirs) as started:
        os.close(theirs)
        assert started.wait(20) == 0
        seen = b""
        while select.select([ours], [], [], 0.2)[0]:
            try:
                seen += os.read(ours, 65_536)
            except OSError:
                break
        os.close(ours)
    assert re.sub(rb"\x1b\[[\d;]*m", b"", seen) == b"42\r\n"


@pytest.mark.parametrize("steered", [{"FORCE_COLOR": "1"}, {"TTY_COMPATIBLE": "1", "TERM": "xterm-256color"}], ids=["force", "compatible"])
def test_a_pipe_gets_json_whatever_the_environment_says_of_colour(monkeypatch, steered):
    for name, value in steered.items():
        monkeypatch.setenv(name, value)
    with answering(reply({"a": 1})) as server:
        assert here("call", server.url, "m", "-c").out == '{"a":1}\n'
    assert "\x1b" not in here("backoff", "immediate:attempts=1", "--json").out


def test_a_full_disk_is_5():
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(errno.ENOSPC, "No space left on device")

    with answering(reply(1)) as server:
        done = here("call", server.url, "m", stdout=Full())
    assert (done.code, done.err) == (5, "rpcretry: the call was made, but its result could not be written: No space left on device\n")


@pytest.mark.parametrize(
    ("blocked", "arguments", "code", "said"),
    [
        ("requests", (), 0, ""),
        ("aiohttp", (), 0, ""),
        ("requests", ("--backend", "requests"), 2, 'rpcretry: the call needs requests; install with: pip install "rpcretry[requests]"\n'),
        ("requests aiohttp", (), 2, 'rpcretry: a call needs requests or aiohttp; install with: pip install "rpcretry[requests]"\n'),
    ],
)
def test_the_library_that_is_installed_is_taken(monkeypatch, blocked, arguments, code, said):
    from rpcretry.cli import app

    monkeypatch.setattr(app, "_can_import", lambda name: name not in blocked.split())
    with answering(reply(1)) as server:
        done = here("call", server.url, "m", *arguments)
    assert done == (code, "1\n" if code == 0 else "", said)


@pytest.mark.slow
def test_help_loads_no_http_library_and_has_examples():
    program = """
import sys
from rpcretry.cli import main
try:
    main(["call", "--help"])
except SystemExit:
    print(sorted({"requests", "aiohttp", "urllib3", "asyncio", "rpcretry.client", "rpcretry.retry", "matplotlib"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment(), check=True)
    assert done.stdout.endswith("[]\n")
    for word in (
        "Exit codes:",
        "Examples:",
        "  4    an answer that is no JSON-RPC answer",
        "rpcretry call env:NODE_URL status --bearer-env NODE_TOKEN",
        "A PARAM is JSON",
    ):
        assert word in done.stdout


@pytest.mark.parametrize("command", [(), ("call",), ("backoff",), ("demo",), ("openrpc",)], ids=" ".join)
def test_help_fits_a_terminal_of_80_columns(monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "80")
    done = here(*command, "--help")
    assert [line for line in done.out.splitlines() if len(line) > 78] == []
    # Neither types of Python beside arguments, nor sentences that are cut.
    assert not re.search(r"<(?:list|str)", done.out)
    assert not done.out.partition("Commands:\n")[2].count("...")


def test_the_options_of_a_call_are_each_written_once():
    """Typer's parameters are the fields."""
    import dataclasses

    import typer.main

    from rpcretry.cli._options import Invocation
    from rpcretry.cli.app import app

    command = typer.main.get_command(app).commands["call"]
    assert [param.name for param in command.params] == [field.name for field in dataclasses.fields(Invocation)]
