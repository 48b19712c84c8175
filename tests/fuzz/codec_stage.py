"""A million mutated bodies through the codec, and large ones that must not take long."""

from __future__ import annotations

import gc
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from codec_oracle import PLAIN, SEEDS, Broken, Case, Target, case_of, check, chosen, drawn, targets
from fuzz_stage import Memory, Stage, Stop
from guided_exit import ABSENT
from reducing import reduced

__all__ = ["guided", "large", "literal_of", "mutations"]

MIB = 2**20
WARM = 0.2
# Until then the caches of Python's own classes still fill.
WARM_AT_LEAST = 12_000
DEEP_EACH = 64


def literal_of(case: Case, why: str, some: list[Target]) -> str:
    """The case as Python, made smaller."""

    def fails(body: bytes) -> bool:
        try:
            check(case._replace(body=body), some)
        except Broken as problem:
            return _kind(problem) == _kind(why)
        return False

    smaller = case._replace(body=reduced(case.body, fails))
    headers = {name: value for name, value in smaller.headers.items() if name not in PLAIN}
    plain = f"Case(body={smaller.body!r}, status={smaller.status}, headers={{**PLAIN, **{headers!r}}})"
    return plain if len(plain) < 4000 else f"{plain[:4000]} ... ({len(smaller.body)} bytes)"


def _kind(why: object) -> str:
    return re.sub(r"\d+|: .*", "", str(why).partition(": ")[2])


def mutations(count: int, seed: int, stop: Stop, ways: list[Target] | None = None) -> Stage:
    """*count* bodies of the byte and structure mutators."""
    stage = Stage("codec, mutated bodies", count)
    ways = targets() if ways is None else ways
    began = time.monotonic()
    memory: Memory | None = None
    for number in range(count):
        case, some = drawn(seed, number), chosen(ways, number)
        try:
            check(case, some, deep=number % DEEP_EACH == 0)
        except Broken as problem:
            stage.crashed(f"{problem} (seed {seed}, number {number})", lambda case=case, why=str(problem), some=some: literal_of(case, why, some))
        stage.done += 1
        if number % 1000 == 0:
            if memory is None and number >= max(WARM * count, WARM_AT_LEAST):
                memory = Memory()
            if stop.left <= 0:
                break
    stage.seconds = time.monotonic() - began
    stage.facts.append(f"{len(SEEDS)} seeds, {len(ways)} ways into the reader: " + ", ".join(way.name for way in ways))
    if memory is not None:
        memory.compare(stage)
    return stage


# --- coverage guided ---


def guided(count: int, seed: int, stop: Stop) -> Stage:
    """*count* bodies that atheris makes, with the codec instrumented; none where atheris is not there."""
    stage = Stage("codec, guided by coverage (atheris)", count)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus"
        corpus.mkdir()
        for number, body in enumerate(SEEDS):
            (corpus / str(number)).write_bytes(bytes((number % 23, number % 19)) + body)
        program = str(Path(__file__).with_name("guided.py"))
        limits = [f"-runs={count}", f"-seed={seed + 1}", f"-max_total_time={max(1, int(stop.left))}", "-max_len=4096", "-rss_limit_mb=2048", "-timeout=20"]
        command = [sys.executable, program, str(corpus), *limits, f"-artifact_prefix={folder}/found-", "-print_final_stats=1"]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", env={**os.environ, "PYTHONWARNINGS": "ignore"}, check=False)
        stage.seconds = time.monotonic() - began
        if done.returncode == ABSENT:
            stage.wanted = 0
            stage.facts.append("atheris cannot be imported here: the mutators make all bodies alone")
            return stage
        runs = re.search(r"number_of_executed_units: (\d+)", done.stderr)
        stage.done = int(runs[1]) if runs else 0
        points = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)", done.stderr)
        if points:
            stage.facts.append(f"branches seen {points[0][0]} at first, {points[-1][0]} at the end; a corpus of {points[-1][2]} bodies")
        for path in sorted(Path(folder).glob("found-*")):
            _replay(stage, path.read_bytes())
        if done.returncode != 0 and not stage.again:
            stage.crashed(f"atheris ended with {done.returncode}", done.stderr[-500:])
    return stage


def _replay(stage: Stage, data: bytes) -> None:
    case, ways = case_of(data), targets()
    for way in ways:
        try:
            check(case, [way], deep=True)
        except Broken as problem:
            stage.crashed(str(problem), literal_of(case, str(problem), [way]))


# --- large ones ---


def large_bodies() -> Iterator[tuple[str, bytes]]:
    """Bodies of a megabyte, of what parsers and readers take the square of the length for."""
    many = 200_000
    yield "digits", b"9" * MIB
    yield "digits after a point", b"0." + b"9" * MIB
    yield "digits of an exponent", b"1e" + b"9" * MIB
    yield "minus signs", b"-" * MIB
    yield "open brackets", b"[" * MIB
    yield "pairs of brackets", b"[" + b"[]," * (MIB // 3) + b"[]]"
    yield "open braces", b'{"":' * (MIB // 4)
    yield "quotes", b'"' * MIB
    yield "backslashes", b'"' + b"\\" * MIB + b'"'
    yield "escapes", b'{"jsonrpc":"2.0","id":1,"result":"' + b"\\u00e9" * (MIB // 6) + b'"}'
    yield "lone surrogates", b'{"jsonrpc":"2.0","id":1,"result":"' + b"\\ud800" * (MIB // 6) + b'"}'
    yield "high surrogates in bytes", b'"' + b"\xed\xa0\x80" * (MIB // 3) + b'"'
    yield "continuation bytes", b"\x80" * MIB
    yield "NULs", b"\x00" * MIB
    yield "marks", b"\xef\xbb\xbf" * (MIB // 3)
    yield "spaces", b" " * MIB
    yield "spaces, and one", b" " * MIB + b"x"
    yield "slashes", b"/" * MIB
    yield "a text as an id", b'{"jsonrpc":"2.0","result":1,"id":"' + b"x" * MIB + b'"}'
    yield "a text as an error", b'{"jsonrpc":"2.0","id":1,"error":"' + b"x/" * (MIB // 2) + b'"}'
    yield "a list as a message", b'{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":[' + b"1," * (MIB // 2) + b"1]}}"
    yield "digits as a code", b'{"jsonrpc":"2.0","id":1,"error":{"code":"' + b"9" * MIB + b'"}}'
    yield "spaces around a code", b'{"jsonrpc":"2.0","id":1,"error":{"code":"' + b" " * MIB + b'x"}}'
    yield "one member many times", b"{" + b'"id":1,' * (MIB // 7) + b'"result":3}'
    yield "many members", b"{" + b",".join(b'"%d":0' % number for number in range(many // 2)) + b"}"
    yield "many answers to one id", b"[" + b",".join([b'{"id":1,"result":%d}' % number for number in range(many // 4)]) + b"]"
    yield "many foreign answers", b"[" + b",".join([b'{"id":%d,"result":0}' % (number + 9) for number in range(many // 4)]) + b"]"
    yield "many errors without an id", b"[" + b'{"error":{"code":1,"data":[]}},' * (MIB // 32) + b'{"error":{"code":1,"data":[]}}]'
    yield "many different errors", b"[" + b",".join([b'{"error":{"code":%d}}' % number for number in range(many // 5)]) + b"]"
    yield "numbers", b"[" + b"1," * (MIB // 2) + b"1]"
    yield "for punycode", b"x" * (MIB // 2) + b"-" + b"a" * (MIB // 2)


def large(stop: Stop, charsets: tuple[str | None, ...] = (None, "utf-16", "punycode", "shift_jis")) -> Stage:
    """Each large body in the ways of a single request, of a batch and of the client, in each charset."""
    stage = Stage("codec, bodies of 1 MiB")
    ways = [way for way in targets() if way.name != "batch with a notification, json"]
    slowest, which = 0.0, ""
    began = time.monotonic()
    bodies = list(large_bodies())
    stage.wanted = len(bodies) * len(charsets)
    # What earlier stages left would be collected while these are timed.
    gc.collect()
    for name, body in bodies:
        for charset in charsets:
            if stop.left <= 0:
                break
            headers = PLAIN if charset is None else {**PLAIN, "Content-Type": f"application/json; charset={charset}"}
            try:
                took, way = check(Case(body, 200, headers), ways if charset is None else ways[:2])
            except Broken as problem:
                stage.crashed(f"{name}, charset {charset}: {problem}", f"{body[:20]!r}... of {len(body)} bytes")
            else:
                if took > slowest:
                    slowest, which = took, f"{name}, {way}, charset {charset}"
            stage.done += 1
    stage.seconds = time.monotonic() - began
    stage.facts.append(f"the slowest: {slowest:.2f} s of the processor ({which})")
    return stage
