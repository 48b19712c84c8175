"""What the codec may make of a body, said by a reader that knows nothing of it: the json module."""

from __future__ import annotations

import json
import pickle
import random
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from fuzz_seeds import seeds
from mutators import mutated

from rpcretry import BatchRequest, Client, HTTPStatusError, IdentityError, JsonRpcError, MissingResponseError, ProtocolError, Request
from rpcretry._json import decoded
from rpcretry.codec import JsonCodec, Reader, read_batch, read_single
from rpcretry.errors import ResultValidationError, error_registry
from rpcretry.messages import RequestId, fresh
from rpcretry.transport import Exchange, Reply

__all__ = ["Broken", "Case", "Target", "case_of", "check", "chosen", "drawn", "targets"]

CANARY = "c4n4ry-of-a-header"
MOST_SECONDS = 1.0
MOST_WORDS = 1000
ASKED: tuple[RequestId, ...] = (1, "b", 2)
SINGLE = (Request("m", id=1),)
BATCH = tuple(Request("m", id=id) for id in ASKED)
NOTIFIED = (*BATCH, Request("m", id=None))
DOCUMENTED = (JsonRpcError, ProtocolError, HTTPStatusError)
REDIRECTS = {301, 302, 303, 307, 308}
STATUSES = (200,) * 12 + (201, 204, 301, 307, 400, 404, 429, 500, 502, 503, 599)
NOTHING = object()
# What is nested deeper may be too deep for Python, by how deep the caller is in it.
NESTED = 700

PLAIN = {"Set-Cookie": f"key={CANARY}", "Location": f"https://user:{CANARY}@other.example/{CANARY}?key={CANARY}"}
REAL = ("utf-8", "utf-16", "utf-16-le", "utf-32", "utf-7", "latin-1", "cp1252", "shift_jis", "hz")
# Python decodes the first three of these, and no server writes them.
CHARSETS = (*REAL, "punycode", "idna", "unicode_escape", "zip", "no-such", "")
KINDS: tuple[dict[str, str], ...] = (
    *({}, {}, {}, {}, {"Content-Type": "application/json"}, {"Retry-After": "1"}),
    *({"Content-Type": f"text/html; charset={charset}"} for charset in CHARSETS),
)
HEADERS = tuple({**PLAIN, **kind} for kind in KINDS)


class Case(NamedTuple):
    """One reply."""

    body: bytes
    status: int = 200
    headers: dict[str, str] = PLAIN

    @property
    def reply(self) -> Reply:
        return Reply(self.body, self.status, self.headers)


class Broken(AssertionError):
    """What the codec must not do."""


SEEDS = seeds()


def drawn(seed: int, number: int) -> Case:
    """The reply of that number."""
    draw = random.Random(seed * 10_000_019 + number)
    return Case(mutated(draw.choice(SEEDS), SEEDS, draw), draw.choice(STATUSES), draw.choice(HEADERS))


def case_of(data: bytes) -> Case:
    """The reply that a coverage guided fuzzer means: its first two bytes choose the status and the headers."""
    first, second, body = data[:1], data[1:2], data[2:]
    return Case(body, STATUSES[(first or b"\0")[0] % len(STATUSES)], HEADERS[(second or b"\0")[0] % len(HEADERS)])


# --- the readers ---


class JsonModule(JsonCodec):
    """The way of a body that pydantic_core does not read."""

    def loads(self, body: bytes, charset: str | None = None, /) -> object:
        try:
            return json.loads(body if charset is None else decoded(body, charset))
        except RecursionError:
            raise ValueError("nested too deeply") from None


class Busy(JsonRpcError):
    """An error whose data has a type."""

    CODE = -32000
    data: dict[str, int]


class Canned:
    """A backend that brings one reply."""

    reply = Reply(b"")

    def exchange(self, exchange: Exchange, /) -> Reply:
        return self.reply

    def close(self) -> None:
        """Nothing is open."""


class Target(NamedTuple):
    """One way into the reader.

    :ivar read: what it makes of a reply: for each of *requests* a value or an exception; raises what concerns all.
    :ivar typed: whether results are turned into another type.
    """

    name: str
    requests: Sequence[Request]
    read: Callable[[Reply], list[Any]]
    typed: bool = False


def targets() -> list[Target]:
    """All ways, the frequent ones first."""
    quick, slow = Reader(JsonCodec(), error_registry()), Reader(JsonModule(), error_registry())
    found = []
    exchange, notified = Exchange(b"", BATCH, ASKED), Exchange(b"", NOTIFIED, ASKED)
    for name, reader in (("pydantic_core", quick), ("json", slow)):
        found += [
            Target(f"single, {name}", SINGLE, lambda reply, reader=reader: [read_single(reader, reply, 1)]),
            Target(f"batch, {name}", BATCH, lambda reply, reader=reader: read_batch(reader, reply, exchange)),
            Target(f"batch with a notification, {name}", NOTIFIED, lambda reply, reader=reader: read_batch(reader, reply, notified)),
        ]
    text = (Request("m", id="b"),)
    backend = Canned()
    client = Client(backend, errors=[Busy], ids=lambda: 1)

    def through(call: Callable[[], Any]) -> Callable[[Reply], list[Any]]:
        def read(reply: Reply) -> list[Any]:
            backend.reply = reply
            return [call()]

        return read

    def sent(reply: Reply) -> list[Any]:
        backend.reply = reply
        answers = client.send(BatchRequest(*BATCH))
        if [answer.id for answer in answers] != list(ASKED):
            raise Broken(f"the answers have the ids {[answer.id for answer in answers]!r:.80}")
        return [answer.error if answer.is_error else answer.result for answer in answers]

    return [
        *found,
        Target("single, a str id", text, lambda reply: [read_single(quick, reply, "b")]),
        Target("notification", (), lambda reply: []),
        Target("client.call", SINGLE, through(lambda: client.call("m"))),
        Target("client.send", SINGLE, through(lambda: client.send(SINGLE[0]).result)),
        Target("client.call, typed", SINGLE, through(lambda: client.call("m", _result=list[int])), typed=True),
        Target("client.send, a batch", BATCH, sent),
        Target("client.notify", (), lambda reply: through(lambda: client.notify("m"))(reply) and []),
    ]


def chosen(targets: Sequence[Target], number: int) -> list[Target]:
    """A single request, a batch, and one of the other ways in turn."""
    return [*targets[:2], targets[2 + number % (len(targets) - 2)]]


# --- the oracle ---


def check(case: Case, some: Sequence[Target], *, deep: bool = False) -> tuple[float, str]:
    """Read the reply in each of the ways.

    :param deep: whether the errors are also copied and pickled.
    :returns: how long the slowest took, in seconds of the processor, and its name.
    :raises Broken: where one of them does what it must not.
    """
    document: Any = None
    read, slowest = False, (0.0, "")
    for target in some:
        outcomes, took = observed(target, case)
        if took > MOST_SECONDS:
            # A busy machine makes processors slow, too.
            took = min(took, observed(target, case)[1], observed(target, case)[1])
        slowest = max(slowest, (took, target.name))
        if took > MOST_SECONDS:
            raise Broken(f"{target.name}: {took:.1f} s for {len(case.body)} bytes")
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                _check_error(target, outcome, deep)
        if not read:
            document, read = reading(case), True
        for request, outcome in zip(target.requests, outcomes, strict=True):
            why = None if request.id is None else _objection(request, outcome, document, case, len(target.requests) > 1, target.typed)
            if why is not None:
                raise Broken(f"{target.name}: {why}, for id {request.id!r}: {_shown(outcome)}")
    return slowest


def observed(target: Target, case: Case) -> tuple[list[Any], float]:
    """For each request what came of it, and the seconds of the processor that it took."""
    began = time.thread_time()
    try:
        outcomes = target.read(case.reply)
    except Broken:
        raise
    except DOCUMENTED as problem:
        # A frame on its traceback holds the reply.
        problem.__traceback__ = None
        outcomes = [problem] * len(target.requests)
    except KeyboardInterrupt:
        raise
    except BaseException as problem:
        raise Broken(f"{target.name}: {type(problem).__name__}: {problem!s:.100}") from problem
    took = time.thread_time() - began
    if len(outcomes) != len(target.requests):
        raise Broken(f"{target.name}: {len(outcomes)} outcomes for {len(target.requests)} requests")
    return outcomes, took


def _check_error(target: Target, error: BaseException, deep: bool) -> None:
    if not isinstance(error, DOCUMENTED):
        raise Broken(f"{target.name}: {type(error).__name__} is not among the documented errors")
    words, notes = str(error), " ".join(getattr(error, "__notes__", ()))
    # A JSON-RPC error says what the server says, however long.
    if (not isinstance(error, JsonRpcError) and len(words) > MOST_WORDS) or len(notes) > 2 * MOST_WORDS or len(getattr(error, "excerpt", "")) > 120:
        raise Broken(f"{target.name}: {type(error).__name__} with a message of {len(words)} characters, notes of {len(notes)}")
    if CANARY in f"{words} {error!r} {notes}":
        raise Broken(f"{target.name}: {type(error).__name__} shows the value of a header")
    if deep:
        # Python pickles no value that is nested as deeply as it goes itself, and a result can be.
        with roomy():
            copies = fresh(error), pickle.loads(pickle.dumps(error))
        for twin in copies:
            if (type(twin), str(twin), twin.args) != (type(error), words, error.args):
                raise Broken(f"{target.name}: {type(error).__name__} is not the same when it was copied")


def reading(case: Case) -> Any:
    """The document in the body, read by the json module alone."""
    found = re.search(r"charset=([\w.:-]+)", case.headers.get("Content-Type", ""))
    for charset in (None, found[1]) if found and found[1] in REAL else (None,):
        try:
            return _loads(case.body if charset is None else case.body.decode(charset))
        except (ValueError, LookupError, RecursionError):
            continue
    return NOTHING


def _loads(text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        with roomy():
            return json.loads(text)


class roomy:
    """Deeper recursion, so that the reference reads whatever the codec reads."""

    def __enter__(self) -> None:
        self.before = sys.getrecursionlimit()
        sys.setrecursionlimit(self.before + 3000)

    def __exit__(self, *_: object) -> None:
        sys.setrecursionlimit(self.before)


def _objection(request: Request, outcome: Any, document: Any, case: Case, batch: bool, typed: bool) -> str | None:
    """Why that cannot be what the document means to the request; ``None`` where it can."""
    own = [answer for answer in _answers(document, batch) if is_own(answer, request.id)]
    if batch and len(own) > 1:
        return None if isinstance(outcome, IdentityError) or case.status in REDIRECTS else "an id that was answered twice"
    if not isinstance(outcome, Exception):
        return None if any(_may_be(outcome, answer, typed) for answer in own) else "a result that the body does not have"
    if isinstance(outcome, ResultValidationError):
        return None if typed and any(_may_be(outcome.result, answer, False) for answer in own) else "a result that is not there is not of a type"
    if isinstance(outcome, JsonRpcError):
        said = own or [answer for answer in _answers(document, batch) if answer.get("id") is None]
        return None if any(_is_error(outcome, answer) for answer in said) else "an error that the body does not have"
    if isinstance(outcome, MissingResponseError) and own:
        return "an answer that is there is called missing"
    if case.status in REDIRECTS or case.body.count(b"[") + case.body.count(b"{") > NESTED:
        return None
    return "a clear answer was refused" if any(_is_clear(answer) for answer in own) else None


def _answers(document: Any, batch: bool) -> Iterator[dict[Any, Any]]:
    if not isinstance(document, list):
        document = [document]
    elif not batch and len(document) != 1:
        return
    yield from (answer for answer in document if isinstance(answer, dict))


def is_own(answer: dict[Any, Any], id: object) -> bool:
    """Whether the answer has that id, by type and value."""
    found = answer.get("id")
    return type(found) is type(id) and found == id


def _may_be(value: Any, answer: dict[Any, Any], typed: bool) -> bool:
    error, result = answer.get("error"), answer.get("result")
    if error is not None and (error or result is None):
        return False
    if "result" not in answer and not ("jsonrpc" in answer and answer.keys() <= {"jsonrpc", "id", "error"}):
        return False
    return typed or _same(value, result)


def _same(one: Any, other: Any) -> bool:
    try:
        return repr(one) == repr(other)
    except RecursionError:
        with roomy():
            return repr(one) == repr(other)


def _is_error(error: JsonRpcError, answer: dict[Any, Any]) -> bool:
    raw = answer.get("error")
    if raw is None:
        return False
    code = raw.get("code") if isinstance(raw, dict) else None
    if type(code) is int or (isinstance(code, float) and code.is_integer()):
        return error.code == code
    return error.code == (int(code) if isinstance(code, str) and re.fullmatch(r"\s*[+-]?[0-9]{1,18}\s*", code, re.ASCII) else 0)


def _is_clear(answer: dict[Any, Any]) -> bool:
    error = answer.get("error")
    return error is None if "result" in answer else isinstance(error, dict) and type(error.get("code")) is int


def _shown(outcome: Any) -> str:
    return f"{type(outcome).__name__} {outcome!s:.60}"
