"""``rpcretry openrpc``: where documents come from, where modules go, and how it ends."""

from __future__ import annotations

import io
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from documents import document, method

from rpcretry.cli import main
from rpcretry.openrpc import generate
from rpcretry.testing import SILENCE, Answer, LoopbackServer, rpc

DOCUMENT = document(method("sum"), title="Sums")
TEXT = json.dumps(DOCUMENT).encode()
MODULE = generate(DOCUMENT)

both_libraries = pytest.mark.parametrize("library", ["requests", "aiohttp"])


class Ended(NamedTuple):
    code: int
    out: bytes
    err: str


Run = Callable[..., Ended]


@pytest.fixture
def run(capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs the command in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)

    def ended(*arguments: str, stdin: bytes = b"") -> Ended:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with pytest.raises(SystemExit) as caught:
            main(["openrpc", *arguments])
        out, err = capsysbinary.readouterr()
        return Ended(int(caught.value.code or 0), out, err.decode())

    return ended


def test_from_a_file_and_from_standard_input_to_standard_output(run: Run, tmp_path: Path) -> None:
    (tmp_path / "sums.json").write_bytes(b"\xef\xbb\xbf" + TEXT)
    assert run("sums.json") == Ended(0, MODULE.encode(), "")
    assert run("-", "-o", "-", stdin=TEXT) == Ended(0, MODULE.encode(), "")
    assert list(tmp_path.iterdir()) == [tmp_path / "sums.json"]


def test_to_a_file_which_is_not_written_over(run: Run, tmp_path: Path) -> None:
    assert run("-", "-o", "sums.py", stdin=TEXT) == Ended(0, b"", "")
    path = tmp_path / "sums.py"
    assert path.read_text() == MODULE
    path.write_text("# mine")
    path.chmod(0o640)
    assert run("-", "-o", "sums.py", stdin=TEXT) == Ended(2, b"", "rpcretry: sums.py is there already; write over it with --force\n")
    assert path.read_text() == "# mine"
    # Nor is it lost where nothing can be made.
    assert run("-", "-o", "sums.py", "--force", stdin=b"{}").code == 4
    assert path.read_text() == "# mine"
    assert run("-", "-o", "sums.py", "--force", "--class-name", "Adder", stdin=TEXT).code == 0
    assert "class AsyncAdder(Adder, AsyncInterface, Protocol):" in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_is_followed_and_stays(run: Run, tmp_path: Path) -> None:
    (tmp_path / "real.py").write_text("")
    (tmp_path / "link.py").symlink_to("real.py")
    assert run("-", "-o", "link.py", stdin=TEXT).code == 2
    assert run("-", "-o", "link.py", "--force", stdin=TEXT).code == 0
    assert (tmp_path / "link.py").is_symlink()
    assert (tmp_path / "real.py").read_text() == MODULE


@pytest.mark.parametrize("output", ["missing/sums.py", "folder"])
def test_a_module_that_cannot_be_written(run: Run, tmp_path: Path, output: str) -> None:
    (tmp_path / "folder").mkdir()
    ended = run("-", "-o", output, "--force", stdin=TEXT)
    assert ended.code == 5
    assert ended.err.startswith("rpcretry: cannot write ")
    assert list(tmp_path.rglob("*")) == [tmp_path / "folder"]


WRONG: dict[str, tuple[list[str], bytes, int, str]] = {
    "no_file": (["nothing.json"], b"", 2, "cannot read nothing.json: No such file or directory"),
    "no_json": (["-"], b"[1", 4, "standard input holds no JSON: "),
    "no_utf_8": (["-"], b"\xff\xff{}", 4, "standard input holds no JSON: "),
    "nan": (["-"], b'{"openrpc": NaN}', 4, "standard input holds no JSON: NaN is no JSON"),
    "deep": (["-"], b"[" * 100_000, 4, "standard input holds no JSON: "),
    "no_document": (["-"], b"{}", 4, "standard input: $: no OpenRPC document, it has no member openrpc"),
    "a_wrong_place": (["-"], b'{"openrpc": "1.2.6", "methods": [1]}', 4, "standard input: $.methods[0]: expected an object, got a number"),
    "class_name": (["-", "--class-name", "class"], TEXT, 2, "--class-name: class_name must be a name that a class can have, got 'class'; write it as Wallet"),
    "url": (["http://"], b"", 2, "url has no host; write http://host:port/path"),
    "scheme": (["wss://localhost/v3/secret"], b"", 2, "url must start with http:// or https://, got the scheme 'wss'"),
    "scheme_of_a_document": (["ftp://secret@localhost/secret.json"], b"", 2, "url must start with http:// or https://, got the scheme 'ftp'"),
    "one_slash": (["https:/localhost/secret"], b"", 2, "url has no host; write http://host:port/path"),
    "space": ([" http://localhost/secret"], b"", 2, "url must not contain spaces or control characters"),
    "capitals": (["HTTP://127.0.0.1:1/secret.json"], b"", 3, "127.0.0.1:1: the document did not come: "),
    "header": (["http://localhost", "-H", "secret"], b"", 2, "-H takes a name and a value"),
    "no_variable": (["env:NOT_THERE"], b"", 2, "URL names a variable that the environment does not have"),
    "refused": (["http://127.0.0.1:1/"], b"", 3, "no connection to 127.0.0.1:1"),
    "refused_document": (["http://127.0.0.1:1/key.json"], b"", 3, "127.0.0.1:1: the document did not come: "),
}


@pytest.mark.parametrize("name", WRONG)
def test_one_line_says_what_is_wrong(run: Run, name: str) -> None:
    arguments, stdin, code, message = WRONG[name]
    ended = run(*arguments, stdin=stdin)
    assert (ended.code, ended.out) == (code, b"")
    assert ended.err.startswith(f"rpcretry: {message}")
    assert ended.err.count("\n") == 1
    assert "secret" not in ended.err
    assert "key" not in ended.err


def test_a_device_or_a_pipe_is_written_to(run: Run, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as pipe:
        try:
            assert run("-", "-o", f"/dev/fd/{writing}", stdin=TEXT) == Ended(0, b"", "")
        finally:
            os.close(writing)
        assert pipe.read() == MODULE.encode()
    assert run("-", "-o", "/dev/null", stdin=TEXT) == Ended(0, b"", "")


def test_standard_output_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "sums.json").write_bytes(TEXT)
    command = [sys.executable, "-m", "rpcretry.cli", "openrpc", "sums.json", "-o", "/dev/stdout"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, MODULE.encode(), b"")


def test_nothing_stays_beside_the_module_where_it_cannot_be_put_in_place(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def replace(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", replace)
    assert run("-", "-o", "sums.py", stdin=TEXT).code != 0
    assert list(tmp_path.iterdir()) == []


def test_a_module_has_the_permissions_of_a_new_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    assert run("-", "-o", "sums.py", stdin=TEXT).code == 0
    assert (tmp_path / "sums.py").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_only_the_name_is_blamed_on_its_option(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def generated(*_: object, **__: object) -> str:
        raise ValueError("something else")

    monkeypatch.setattr("rpcretry.cli.openrpc.generate", generated)
    assert "--class-name" not in run("-", stdin=TEXT).err


def test_nobody_is_asked_where_nothing_can_be_written(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with LoopbackServer(rpc({"rpc.discover": lambda: DOCUMENT})) as server:
        assert run(server.url, "--class-name", "class").code == 2
        monkeypatch.setitem(sys.modules, "black", None)
        ended = run(server.url)
    assert ended.code == 2
    assert 'pip install "rpcretry[openrpc]"' in ended.err
    assert server.requests == []


# --- over HTTP ---


@both_libraries
def test_a_server_is_asked_for_its_document(run: Run, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODE_KEY", "s3cret-key")
    with LoopbackServer(rpc({"rpc.discover": lambda: DOCUMENT})) as server:
        monkeypatch.setenv("NODE_URL", server.url)
        assert run(server.url, "--backend", library) == Ended(0, MODULE.encode(), "")
        assert run("env:NODE_URL", "--header-env", "X-Key=NODE_KEY", "-H", "Accept-Language: en", "--backend", library).code == 0
    assert [body["method"] for body in server.bodies] == ["rpc.discover"] * 2
    assert server.requests[1].headers["x-key"] == "s3cret-key"
    assert server.requests[1].headers["accept-language"] == "en"


ANSWERS: dict[str, tuple[Any, int, str]] = {
    "no_such_method": (rpc({}), 1, "has no method rpc.discover; give the URL of its document, with --fetch if its path does not end in .json"),
    "another_error": (
        lambda _: Answer({"jsonrpc": "2.0", "id": 1, "error": {"code": 5, "message": "not you"}}),
        1,
        "the server answered with error 5: not you",
    ),
    "http_error": (lambda _: Answer(b"<html>", 502), 3, "HTTP 502"),
    "no_answer": (lambda _: None, 3, "ConnectionLostError"),
    "html": (lambda _: Answer(b"<html>"), 4, "ProtocolError"),
    "no_document": (rpc({"rpc.discover": list}), 4, "$: an OpenRPC document is an object, this is an array"),
    "silence": (lambda _: SILENCE, 3, "RequestTimeoutError"),
}


@both_libraries
@pytest.mark.parametrize("name", ANSWERS)
def test_a_server_without_a_document(run: Run, library: str, name: str) -> None:
    handler, code, message = ANSWERS[name]
    with LoopbackServer(handler) as server:
        ended = run(f"{server.url}a-key-of-mine-in-the-path", "--backend", library, "--timeout", "0.05" if name == "silence" else "30")
    assert (ended.code, ended.out) == (code, b"")
    assert message in ended.err
    assert "a-key-of-mine" not in ended.err
    assert "Traceback" not in ended.err


def test_a_document_is_fetched(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "s3cret-token")
    with LoopbackServer(lambda _: Answer(TEXT)) as server:
        assert run(f"{server.url}v1/openrpc.json?key=1", "--bearer-env", "TOKEN") == Ended(0, MODULE.encode(), "")
        assert run(f"{server.url.replace('//', '//ada:pass%20word@')}document", "--fetch") == Ended(0, MODULE.encode(), "")
    first, second = server.requests
    assert (first.method, first.path, first.headers["authorization"]) == ("GET", "/v1/openrpc.json?key=1", "Bearer s3cret-token")
    assert (second.method, second.path, second.headers["authorization"]) == ("GET", "/document", "Basic YWRhOnBhc3Mgd29yZA==")


FETCHED: dict[str, tuple[Any, int, str]] = {
    "http_error": (lambda _: Answer(b"", 404), 3, "answered with HTTP 404"),
    "redirect": (
        lambda _: Answer(b"", 302, {"Location": "http://elsewhere.example/key"}),
        3,
        "answered with HTTP 302, a redirect to elsewhere.example; give the URL of the document itself",
    ),
    "half": (lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", 3, "the document did not come"),
    "no_http": (lambda _: b"220 mail\r\n", 3, "the document did not come"),
    "no_json": (lambda _: Answer(b"<html>"), 4, "holds no JSON"),
    "silence": (lambda _: SILENCE, 3, "the document did not come: timed out"),
    "drip": (lambda _: [b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", *[0.02, b"{"] * 100], 3, "the document did not come: timed out"),
}


@pytest.mark.parametrize("name", FETCHED)
def test_a_document_that_does_not_come(run: Run, name: str) -> None:
    handler, code, message = FETCHED[name]
    with LoopbackServer(lambda received: [handler(received), None] if name in ("half", "no_http") else handler(received)) as server:
        ended = run(f"{server.url}my-key/openrpc.json", "--timeout", "0.05" if name in ("silence", "drip") else "30")
        assert ended.err.startswith(f"rpcretry: 127.0.0.1:{server.port}")
    assert (ended.code, ended.out) == (code, b"")
    assert message in ended.err
    assert "key" not in ended.err


def test_a_document_has_a_largest_size(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rpcretry.cli.openrpc.MAX_RESPONSE_SIZE", 100)
    with LoopbackServer(lambda _: Answer(b" " * 101)) as server:
        ended = run(f"{server.url}openrpc.json")
    assert ended.code == 4
    assert "is larger than" in ended.err


def test_as_a_process(tmp_path: Path) -> None:
    # What a terminal's encoding does not have is in the module all the same.
    text = json.dumps(document(method("余额", summary="Größe"))).encode()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "rpcretry.cli", "openrpc", "-"],
        input=text,
        capture_output=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C"},
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert "def 余额(self)" in done.stdout.decode()
    assert "Größe" in done.stdout.decode()
