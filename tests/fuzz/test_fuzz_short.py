"""The fuzzers for a few seconds, and proof that they find what they are for. ``tox -e fuzz`` runs them for long."""

from __future__ import annotations

import gc
import inspect
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import codec_oracle
import fuzz
import fuzz_seeds
import http_stage
import pytest
from codec_oracle import CANARY, PLAIN, SINGLE, Broken, Case, Target, case_of, check, drawn, targets
from codec_stage import guided, large, large_bodies, literal_of, mutations
from fuzz_stage import Memory, Stage, Stop
from http_answers import CHANGES, Plan, clean, document, planned, truth
from http_stage import BACKENDS, Run, Watch, judge
from reducing import reduced
from request_side import sent_and_read_back

from rpcretry import ConnectError, ConnectionLostError, IdentityError, JsonRpcError, ProtocolError
from rpcretry.errors import ResultValidationError
from rpcretry.transport import Reply

PROGRAM = Path(__file__).with_name("fuzz.py")
RIGHT = b'{"jsonrpc":"2.0","id":1,"result":19}'


# --- a few of each ---


def test_mutated_bodies_through_the_codec() -> None:
    stage = mutations(1000, 1, Stop(60))
    assert stage.is_good, "\n".join(stage.lines())


def test_seeds_as_they_are_through_every_way() -> None:
    ways = targets()
    for body in fuzz_seeds.hand_made():
        check(Case(body), ways, deep=True)


def test_huge_pieces_through_every_way() -> None:
    ways = targets()
    for piece in fuzz_seeds.HUGE:
        for body in (piece, b'{"jsonrpc":"2.0","id":1,"result":' + piece + b"}", b'{"id":' + piece + b',"error":{"code":' + piece + b"}}"):
            check(Case(body), ways, deep=True)


def test_every_depth_that_json_reads_is_written_and_shown() -> None:
    # Where the readers end, at 200 and at what is left of Python's 1,000, each step of the way back is as deep.
    ways = targets()
    for depth in (199, 200, 201, *range(960 - len(inspect.stack()), 1001, 2)):
        nest = b"[" * depth + b"]" * depth
        for body in (
            b'{"id":1,"result":%b}',
            b'{"id":%b,"result":1}',
            b'{"id":1,"error":{"code":1,"message":%b}}',
            b'[{"error":{"code":1,"data":%b}},{"error":{"code":1,"data":%b}}]',
        ):
            check(Case(body.replace(b"%b", nest)), ways)


def test_large_bodies_take_no_time() -> None:
    some = [body for name, body in large_bodies() if name in ("for punycode", "many foreign answers", "lone surrogates")]
    for body in some:
        for charset in ("utf-8", "punycode"):
            check(Case(body, 200, {"Content-Type": f"text/plain; charset={charset}"}), targets()[:2])


def test_guided_by_coverage() -> None:
    stage = guided(200, 1, Stop(60))
    assert stage.is_good, "\n".join(stage.lines())


@pytest.mark.parametrize("kind", BACKENDS)
def test_mutated_answers_through_a_backend(kind: str) -> None:
    # How much memory a hundred calls take says nothing.
    run = Run(kind, 150, 1, Stop(60), memory=False)
    stage = run()
    assert stage.is_good, "\n".join(stage.lines())
    assert run.clean == 15
    assert len(run.kinds) >= 4, run.kinds


def test_requests_written_and_read_back() -> None:
    sent_and_read_back(60)


def test_the_program_reports_and_ends_well(tmp_path: Path) -> None:
    report = tmp_path / "reports" / "fuzz.txt"
    command = [sys.executable, str(PROGRAM), "--answers=10", "--only=http", "--seed=3", "--seconds=60", "--jobs=2", f"--report={report}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert report.read_text() in done.stdout
    assert "10 HTTP answers through requests, 10 HTTP answers through aiohttp; crashes: 0; nothing was wrong" in report.read_text()


# --- the oracles bite ---


def wrong(outcome: Any, *, typed: bool = False) -> Target:
    """A reader that makes that of everything."""

    def read(reply: Reply) -> list[Any]:
        if callable(outcome):
            return outcome(reply)
        if isinstance(outcome, BaseException):
            raise outcome
        return [outcome]

    return Target("planted", SINGLE, read, typed)


def slow(reply: Reply) -> list[Any]:
    began = time.thread_time()
    while time.thread_time() - began < 0.02:
        pass
    return [19]


FOREIGN = b'{"jsonrpc":"2.0","id":2,"result":19}'
FAILED = b'{"jsonrpc":"2.0","id":1,"error":{"code":5,"message":"m"}}'


@pytest.mark.parametrize(
    ("body", "outcome", "why"),
    [
        (RIGHT, KeyError("id"), "KeyError"),
        (RIGHT, RecursionError("too deep"), "RecursionError"),
        (RIGHT, UnicodeDecodeError("utf-8", b"", 0, 1, "x"), "UnicodeDecodeError"),
        (RIGHT, ValueError("bare"), "ValueError"),
        (RIGHT, SystemExit(1), "SystemExit"),
        (RIGHT, 20, "a result that the body does not have"),
        (RIGHT, 19.0, "a result that the body does not have"),
        (RIGHT, None, "a result that the body does not have"),
        (RIGHT, ProtocolError("no"), "a clear answer was refused"),
        (RIGHT, JsonRpcError("m", code=5), "an error that the body does not have"),
        (RIGHT, ResultValidationError("no"), "is not of a type"),
        (RIGHT, lambda reply: [19, 19], "2 outcomes for 1 requests"),
        (FOREIGN, 19, "a result that the body does not have"),
        (b'{"id":1.0,"result":19}', 19, "a result that the body does not have"),
        (b'{"id":true,"result":19}', 19, "a result that the body does not have"),
        (b'{"id":"1","result":19}', 19, "a result that the body does not have"),
        (b'{"id":null,"result":19}', 19, "a result that the body does not have"),
        (b"<html>19", 19, "a result that the body does not have"),
        (FAILED, None, "a result that the body does not have"),
        (FAILED, JsonRpcError("m", code=6), "an error that the body does not have"),
        (FAILED.replace(b'"id":1', b'"id":2'), JsonRpcError("m", code=5), "an error that the body does not have"),
        (b"?", ProtocolError("x" * 2000), "2000 characters"),
        (b"?", ProtocolError("m", excerpt="x" * 121), "characters"),
        (b"?", ProtocolError(f"a header {CANARY}"), "shows the value of a header"),
        (b"?", lambda reply: [LookupError("x")], "not among the documented"),
    ],
)
def test_the_oracle_of_the_codec_bites(body: bytes, outcome: Any, why: str) -> None:
    with pytest.raises(Broken, match=re.escape(why)):
        check(Case(body), [wrong(outcome)])


@pytest.mark.parametrize(
    ("body", "outcome", "typed"),
    [
        (RIGHT, 19, False),
        (FAILED, JsonRpcError("m", code=5), False),
        (FOREIGN, IdentityError("no"), False),
        (b"?", ProtocolError("no"), False),
        (RIGHT, ResultValidationError("no", result=19), True),
        (b'[{"id":1,"result":19}]', 19, False),
        (b'{"id":1,"result":NaN}', float("nan"), False),
    ],
)
def test_the_oracle_of_the_codec_lets_what_is_right_pass(body: bytes, outcome: Any, typed: bool) -> None:
    check(Case(body), [wrong(outcome, typed=typed)])


def test_the_oracle_of_the_codec_knows_batches() -> None:
    def batch(*outcomes: Any) -> Target:
        return Target("planted", codec_oracle.BATCH, lambda reply: list(outcomes))

    both = b'[{"id":1,"result":"one"},{"id":"b","result":"bee"},{"id":2,"result":"two"}]'
    check(Case(both), [batch("one", "bee", "two")])
    for outcomes in (("bee", "one", "two"), ("one", "bee", "bee"), ("one", "bee", codec_oracle.MissingResponseError("no"))):
        with pytest.raises(Broken):
            check(Case(both), [batch(*outcomes)])
    twice = b'[{"id":1,"result":"one"},{"id":1,"result":"one"}]'
    with pytest.raises(Broken, match="answered twice"):
        check(Case(twice), [batch("one", *[codec_oracle.MissingResponseError("no")] * 2)])


def test_a_body_that_takes_too_long_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec_oracle, "MOST_SECONDS", 0.01)
    with pytest.raises(Broken, match="s for 36 bytes"):
        check(Case(RIGHT), [wrong(slow)])


def test_an_error_that_does_not_pickle_is_found() -> None:
    class Torn(ProtocolError):
        def __reduce__(self) -> Any:
            return ProtocolError, ("torn",)

    check(Case(b"?"), [wrong(Torn("no"))])
    with pytest.raises(Broken, match="copied"):
        check(Case(b"?"), [wrong(Torn("no"))], deep=True)


def test_memory_and_objects_that_stay_are_found() -> None:
    stage, memory = Stage("planted"), Memory()
    kept = [[number] for number in range(2000)], bytearray(b"x") * (memory.before[0] // 4)
    memory.compare(stage)
    assert kept
    assert stage.again.total() == 2, stage.lines()


def test_a_crash_is_minimised_shown_and_fails_the_run() -> None:
    def planted(reply: Reply) -> list[Any]:
        if b"null" in reply.body:
            raise KeyError("null")
        raise ProtocolError("no")

    ways = [Target("planted", (), planted), Target("planted", (), planted), Target("planted", (), planted)]
    stage = mutations(300, 1, Stop(30), ways)
    assert not stage.is_good
    assert "Case(body=b'null', status=" in "\n".join(stage.lines())
    assert re.search(r"CRASH planted: KeyError: 'null' \(seed 1, number \d+\)", "\n".join(stage.lines()))
    number = int(re.findall(r"number (\d+)", "\n".join(stage.lines()))[0])
    assert b"null" in drawn(1, number).body
    assert "FAILED" in fuzz.told([stage], 1, 1.0)


def test_what_was_not_done_fails_the_run() -> None:
    stage = mutations(10_000, 1, Stop(-1))
    assert stage.done == 1
    assert not stage.is_good
    assert "NOT DONE" in "\n".join(stage.lines())


@pytest.mark.parametrize("only", [None, "codec", "http"])
def test_the_plan_is_for_all_that_was_asked_for(only: str | None) -> None:
    stages = fuzz.plan(1_000_000, 20_000, 1, only, 3)
    bodies = sum(given[0] for made, given in stages if made in (mutations, guided))
    answers = [given[:2] for made, given in stages if made is fuzz.http]
    assert bodies == (0 if only == "http" else 1_000_000)
    assert answers == ([] if only == "codec" else [("requests", 20_000), ("aiohttp", 20_000)])
    assert (large in [made for made, _ in stages]) == (only != "http")


@pytest.mark.parametrize("broken", [True, False])
def test_the_exit_code_says_whether_it_crashed(broken: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    stage = Stage("planted", 1, 1)
    if broken:
        stage.crashed("it broke", "b'...'")
    monkeypatch.setattr(fuzz, "run", lambda *_: [stage])
    assert fuzz.main(["--bodies=1"]) == int(broken)
    assert ("CRASH it broke\n    b'...'" in capsys.readouterr().out) is broken


def test_a_stage_that_breaks_off_is_no_success(capsys: pytest.CaptureFixture[str]) -> None:
    broken: Future[Stage] = Future()
    broken.set_exception(MemoryError("planted"))
    assert not fuzz._stage("http", broken).is_good
    assert "CRASH MemoryError: planted" in capsys.readouterr().out


def test_the_reducer_leaves_what_is_needed() -> None:
    assert reduced(b"x" * 500 + b"{" + b"y" * 300 + b"}" + b"z" * 9, lambda data: b"{" in data and b"}" in data) == b"{}"


def test_cases_are_repeatable() -> None:
    assert [drawn(5, number) for number in range(50)] == [drawn(5, number) for number in range(50)]
    assert [planned(5, number) for number in range(50)] == [planned(5, number) for number in range(50)]
    assert len({drawn(5, number).body for number in range(200)}) > 150
    assert len({planned(5, number).raw for number in range(200)}) > 150
    assert case_of(b"\x00\x00body") == Case(b"body", 200, codec_oracle.HEADERS[0])
    assert eval(literal_of(Case(b"?"), "planted: x", [wrong(19)]), {"Case": Case, "PLAIN": PLAIN}) == Case(b"?")


# --- that of HTTP ---


@pytest.mark.parametrize(
    ("plan", "outcome", "seconds", "why"),
    [
        (clean(5), truth(5), 0.1, None),
        (clean(5), truth(6), 0.1, "which is not"),
        (Plan([b""], own=False), truth(6), 0.1, "the result of 6"),
        (Plan([b""], own=False), "t6-0", 0.1, None),
        (clean(5), truth(5), 1.6, "it took"),
        (clean(5), ValueError("bare"), 0.1, "ValueError"),
        (clean(5), ConnectError("no"), 0.1, "ConnectError"),
        (clean(5), ConnectionLostError("no"), 0.1, None),
        (clean(5), ConnectionLostError("no", delivery=ConnectError.delivery), 0.1, "nothing was sent"),
        (clean(5), ConnectionLostError(f"/{http_stage.CANARY}"), 0.1, "a secret"),
        (clean(5), ConnectionLostError(f"Set-Cookie: {http_stage.COOKIE}"), 0.1, "value of a header"),
        (clean(5), ProtocolError("x" * 1001), 0.1, "characters"),
    ],
)
def test_the_oracle_of_http_bites(plan: Plan, outcome: Any, seconds: float, why: str | None) -> None:
    said = judge(5, plan, outcome, seconds, arrived=True)
    assert said is None if why is None else why in (said or "")


def test_a_secret_in_a_cause_is_found() -> None:
    problem = ConnectionLostError("no")
    problem.__cause__ = OSError(f"http://host/{http_stage.CANARY}")
    assert judge(5, clean(5), problem, 0.1, arrived=True) == "a secret in the exception"


@pytest.mark.parametrize("kind", BACKENDS)
def test_an_answer_of_somebody_else_is_found(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def mixed_up(seed: int, number: int) -> Plan:
        body = document(number).replace(truth(number).encode(), truth(number + 1).encode())
        return Plan([b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)])

    monkeypatch.setattr(http_stage, "planned", mixed_up)
    stage = Run(kind, 8, 1, Stop(30), memory=False)()
    assert stage.again.total() == 8, stage.lines()


def warned() -> None:
    warnings.warn("planted", ResourceWarning, stacklevel=1)


class Torn:
    """Fails where nobody can catch it."""

    def __del__(self) -> None:
        raise RuntimeError("planted")


def unraisable() -> None:
    Torn()
    gc.collect()


def logged() -> None:
    http_stage.logging.getLogger("planted").warning("planted: http://host%s", http_stage.PATH)


@pytest.mark.parametrize("harm", [warned, unraisable, logged])
def test_what_nobody_should_have_to_see_is_found(harm: Callable[[], None]) -> None:
    watch = Watch()
    with watch.watching():
        harm()
    assert [what for what in watch.seen if "planted" in what]


def test_connections_that_stay_open_are_found() -> None:
    run = Run("requests", 1, 1, Stop(5), memory=False)
    run.patience = 0.05
    with Path(__file__).open() as kept:
        run._compare_files(http_stage.open_files() - 1)
        assert not kept.closed
    assert not run.stage.is_good


def test_every_change_of_an_answer_is_drawn() -> None:
    seen = {change.__name__ for change in CHANGES}
    assert len(seen) == 13
    raws = [planned(1, number).raw for number in range(1500)]
    for sign in (b"Content-Encoding", b"chunked", b"Set-Cookie", b"Retry-After", b"Location", b"100 Continue", b"\x00", b"charset="):
        assert any(sign in raw for raw in raws), sign
