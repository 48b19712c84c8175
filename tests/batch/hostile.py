"""Servers that answer batches badly, what may become of each request, and one adapter for every way to send several at once.

The oracle is in the answers: for each request the server works out a value that only that request can have, so that any
wrong pairing is seen, wherever it happened. What a request may end with is said twice. Each server of the table says it
in a word (:data:`SERVERS`), and :func:`possible` reads it from the document that went out, with the json module only.
"""

from __future__ import annotations

import asyncio
import codecs
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from rpcretry import (
    UNSET,
    AsyncClient,
    BatchRequest,
    Client,
    ConnectError,
    ConnectionLostError,
    HTTPStatusError,
    IdentityError,
    JsonRpcError,
    MissingResponseError,
    ProtocolError,
    Request,
    RequestTimeoutError,
    RpcRetryError,
    TransportError,
)
from rpcretry.client.joining import Joining
from rpcretry.testing import VirtualTime
from rpcretry.transport import Exchange, Reply

Document = dict[str, Any]
Key = tuple[type, Any]
Fates = Sequence[str] | Callable[[Document, int, int], str]

SAID = -32055
"""The code of the errors that our servers send without saying whose they are."""


def truth(document: Document) -> str:
    """What only this request can have for a result: of its method, its params and its id with its type."""
    return hashlib.sha256(json.dumps([document["method"], document.get("params"), document.get("id")]).encode()).hexdigest()[:16]


def right(document: Document) -> Document:
    """The right answer: a result, or an error for methods that are called ``fail``."""
    return {"jsonrpc": "2.0", "id": document["id"], **content(document)}


def content(document: Document) -> Document:
    if document["method"] == "fail":
        return {"error": {"code": -32050, "message": "no", "data": truth(document)}}
    return {"result": truth(document)}


def wrong(document: Document, id: Any) -> Document:
    """The answer to one under the id of another."""
    return {**right(document), "id": id}


def nameless(**members: Any) -> Document:
    return {"jsonrpc": "2.0", "id": None, "error": {"code": SAID, "message": "said to nobody"}, **members}


def key(id: Any) -> Key:
    return type(id), id


# --- servers ---


class Hostile(NamedTuple):
    """A server that answers arrays badly.

    :ivar reply: makes the reply, or the exception, of the requests that have an id.
    :ivar fates: what becomes of each, by its place, where the last word stands for all that follow; or a callable that is given the
        request, its place and how many there are.

        ``own`` its own answer; ``void`` the result None; ``identity``, ``missing``, ``protocol``, ``http``, ``lost`` the error
        of that name; ``said`` the error without an id that the server sent, or a missing answer that names it; ``code N`` an error of that code.
    :ivar refuses: whether it says that it takes no batches, or none so large, so that a client may send the same in another way.
    """

    name: str
    reply: Callable[[list[Document]], Any]
    fates: Fates
    refuses: bool = False


def body(document: Any, status: int = 200, headers: dict[str, str] | None = None) -> Reply:
    return Reply(json.dumps(document).encode(), status, headers or {})


def table() -> list[Hostile]:
    found: list[Hostile] = []

    def server(name: str, reply: Callable[[list[Document]], Any], *fates: Any, refuses: bool = False) -> None:
        found.append(Hostile(name, reply, fates[0] if callable(fates[0]) else fates, refuses))

    def array(name: str, make: Callable[[list[Document]], Iterable[Any]], *fates: Any, status: int = 200) -> None:
        server(name, lambda asked: body(list(make(asked)), status), *fates)

    def each(name: str, change: Callable[[Document], Any], *fates: Any) -> None:
        array(name, lambda asked: map(change, map(right, asked)), *fates)

    def rights(asked: list[Document]) -> list[Document]:
        return list(map(right, asked))

    def numbers_missing(one: Document, index: int, count: int) -> str:
        return "missing" if type(one["id"]) is int else "own"

    def results_missing(one: Document, index: int, count: int) -> str:
        return "own" if one["method"] == "fail" else "missing"

    def last(word: str, others: str) -> Callable[[Document, int, int], str]:
        return lambda one, index, count: word if index == count - 1 else others

    # Orders.
    array("in order", rights, "own")
    array("reversed", lambda asked: rights(asked)[::-1], "own")
    array("rotated", lambda asked: [*rights(asked)[1:], right(asked[0])], "own")
    array("sorted by value", lambda asked: sorted(rights(asked), key=json.dumps), "own")
    # More than once.
    array("one twice", lambda asked: [*rights(asked), right(asked[0])], "identity", "own")
    array("one twice at once", lambda asked: [right(asked[0]), *rights(asked)], "identity", "own")
    array("one with another's value, too", lambda asked: [*rights(asked), wrong(asked[1], asked[0]["id"])], "identity", "own")
    array("another's value first", lambda asked: [wrong(asked[1], asked[0]["id"]), *rights(asked)], "identity", "own")
    array("one in the other's place", lambda asked: [wrong(asked[0], asked[1]["id"]), *rights(asked)[1:]], "missing", "identity", "own")
    array("a result and an error apart", lambda asked: [*rights(asked), {**nameless(), "id": asked[0]["id"]}], "identity", "own")
    array("all twice", lambda asked: rights(asked) * 2, "identity")
    array("one id for all", lambda asked: [wrong(one, asked[0]["id"]) for one in asked], "identity", "missing")
    # Ids of nobody.
    each("foreign ids", lambda answer: {**answer, "id": f"{answer['id']}-foreign"}, "missing")
    each("ids that are one too high", lambda answer: {**answer, "id": 1_000_001}, "missing")
    array("one foreign id", lambda asked: [{**right(asked[0]), "id": -7}, *rights(asked)[1:]], "missing", "own")
    array("a foreign one more", lambda asked: [{**right(asked[0]), "id": -7}, *rights(asked)], "own")
    array("2,000 foreign ones more", lambda asked: [*({**right(asked[0]), "id": -index - 1} for index in range(2000)), *rights(asked)], "own")
    array("a foreign error", lambda asked: [{**nameless(), "id": "x"}, *rights(asked)[1:]], "said", "own")
    # Ids of another type. The first is 1, and "1" is not among the others.
    each("ids as text", lambda answer: {**answer, "id": f"{answer['id']}"} if type(answer["id"]) is int else answer, numbers_missing)
    each("ids as floats", lambda answer: {**answer, "id": float(answer["id"])} if type(answer["id"]) is int else answer, numbers_missing)
    array("true for an id", lambda asked: [{**right(asked[0]), "id": True}, *rights(asked)[1:]], "missing", "own")
    each("ids in arrays", lambda answer: {**answer, "id": [answer["id"]]}, "missing")
    each("ids in objects", lambda answer: {**answer, "id": {"id": answer["id"]}}, "missing")
    array("as text, and right", lambda asked: [*({**right(one), "id": f"_{one['id']}"} for one in asked), *rights(asked)], "own")
    # No id.
    each("null ids", lambda answer: {**answer, "id": None} if "result" in answer else answer, results_missing)
    array("one null id", lambda asked: [{**right(asked[0]), "id": None}, *rights(asked)[1:]], "missing", "own")
    array("no id", lambda asked: [{"jsonrpc": "2.0", **content(asked[0])}, *rights(asked)[1:]], "missing", "own")
    array("one null-id error for one", lambda asked: [*rights(asked)[1:], nameless()], "said", "own")
    array("one null-id error for two", lambda asked: [*rights(asked)[2:], nameless()], "said", "said", "own")
    array("one null-id error too many", lambda asked: [*rights(asked), nameless()], "own")
    array("one null-id error for all", lambda asked: [nameless()], "said")
    array("null-id errors for all", lambda asked: [nameless() for _ in asked], "said")
    array("null-id errors and one answer", lambda asked: [nameless(), nameless(), right(asked[-1])], last("own", "said"))
    array("null-id errors with data", lambda asked: [nameless(error={"code": SAID, "message": "m", "data": truth(one)}) for one in asked], "said")
    # Fewer and more.
    array("the first left out", lambda asked: rights(asked)[1:], "missing", "own")
    array("the last left out", lambda asked: rights(asked)[:-1], last("missing", "own"))
    array("the first alone", lambda asked: [right(asked[0])], "own", "missing")
    array("an empty array", lambda asked: [], "missing")
    array("nulls for two", lambda asked: [None, None, *rights(asked)[2:]], "missing", "missing", "own")
    # Other shapes.
    server("the first as a bare object", lambda asked: body(right(asked[0])), "own", "missing")
    server("an object by ids", lambda asked: body({str(one["id"]): right(one) for one in asked}), "protocol")
    server("a single error", lambda asked: body(nameless()), "said")
    server("a single error without an id", lambda asked: body({"error": {"code": SAID, "message": "said"}}), "said")
    server("a single error for the first", lambda asked: body({**nameless(), "id": asked[0]["id"]}), "said")
    server("a single error for nobody", lambda asked: body({**nameless(), "id": 0}), "said")
    array("nested", lambda asked: [rights(asked)], "missing")
    array("each nested", lambda asked: [[answer] for answer in rights(asked)], "missing")
    array("one nested", lambda asked: [[right(asked[0])], *rights(asked)[1:]], "missing", "own")
    array("scalars among them", lambda asked: [3, "x", None, True, 1.5, *rights(asked)], "own")
    array("scalars alone", lambda asked: [asked[0]["id"], "x", None], "missing")
    array("empty objects", lambda asked: [{} for _ in asked], "missing")
    array("values alone", lambda asked: [truth(one) for one in asked], "missing")
    array("the requests back", lambda asked: asked, "protocol")
    # Envelopes.
    each("null errors beside results", lambda answer: {"error": None, **answer}, "own")
    each("null results beside errors", lambda answer: {"result": None, **answer}, "own")
    each("errors beside results", lambda answer: {**answer, "result": "x", "error": {"code": -32051, "message": "m"}}, "code -32051")
    each("no version", lambda answer: {name: value for name, value in answer.items() if name != "jsonrpc"}, "own")
    each("version 1.0, as a number", lambda answer: {**answer, "jsonrpc": 1.0}, "own")
    each("more members", lambda answer: {**answer, "method": "m", "params": [], "x": {"id": 2}}, "own")
    each("neither", lambda answer: {"jsonrpc": "2.0", "id": answer["id"], "extra": 0}, "protocol")
    each("nothing for a result", lambda answer: {"jsonrpc": "2.0", "id": answer["id"]}, "void")
    # Errors.
    each("codes as text", lambda answer: {**answer, "error": {**answer["error"], "code": "-32050"}} if "error" in answer else answer, "own")
    each("codes as floats", lambda answer: {**answer, "error": {**answer["error"], "code": -32050.0}} if "error" in answer else answer, "own")
    each("words for codes", lambda answer: {"id": answer["id"], "error": {"code": "E_BUSY", "message": "m"}}, "code 0")
    each("text for errors", lambda answer: {"id": answer["id"], "error": "busy"}, "code 0")
    each("numbers for errors", lambda answer: {"id": answer["id"], "error": 7}, "code 0")
    each("no code", lambda answer: {"id": answer["id"], "error": {"message": "m"}}, "code 0")
    each("codes beyond all integers", lambda answer: {"id": answer["id"], "error": {"code": 10**30, "message": "m"}}, f"code {10**30}")
    each("objects for messages", lambda answer: {"id": answer["id"], "error": {"code": 5, "message": {"a": [1]}}}, "code 5")
    # Notifications.
    array("a result for a notification", lambda asked: [{"jsonrpc": "2.0", "id": None, "result": "done"}, *rights(asked)], "own")
    array("an error for a notification", lambda asked: [nameless(), *rights(asked)], "own")
    # Bodies.
    for share in (0.1, 0.5, 0.9):
        server(f"cut after {share:.0%}", lambda asked, share=share: _cut(asked, share), "protocol")
    server("cut before the last byte", lambda asked: Reply(json.dumps(rights(asked)).encode()[:-1]), "protocol")
    server("two documents", lambda asked: Reply(json.dumps(rights(asked)).encode() * 2), "protocol")
    server("a document a line", lambda asked: Reply(b"\n".join(json.dumps(answer).encode() for answer in rights(asked))), "protocol")
    server("an event stream", lambda asked: Reply(b"data: " + json.dumps(rights(asked)).encode() + b"\n\n"), "protocol")
    server("a BOM", lambda asked: Reply(codecs.BOM_UTF8 + json.dumps(rights(asked)).encode()), "own")
    server("space around", lambda asked: Reply(b"\r\n\t " + json.dumps(rights(asked), indent=3).encode() + b"\r\n\r\n"), "own")
    server("UTF-16", lambda asked: Reply(json.dumps(rights(asked)).encode("utf-16"), 200, {"Content-Type": "application/json; charset=utf-16"}), "own")
    server("an empty body", lambda asked: Reply(b""), "protocol")
    server("nothing but space", lambda asked: Reply(b" \r\n"), "protocol")
    server("204", lambda asked: Reply(b"", 204), "protocol")
    server("null", lambda asked: Reply(b"null"), "protocol")
    server("a number", lambda asked: Reply(b"3"), "protocol")
    server("an empty object", lambda asked: Reply(b"{}"), "protocol")
    server("HTML", lambda asked: Reply(b"<html>hello</html>"), "protocol")
    server("bytes", lambda asked: Reply(b"\xff\xfe\x00\x9d[" * 9), "protocol")
    server("an endless nest", lambda asked: Reply(b"[" * 100_000), "protocol")
    # HTTP around it.
    for status in (201, 400, 404, 500, 503, 599):
        array(f"right answers under {status}", rights, "own", status=status)
    for status in (401, 403, 429, 500, 502, 503, 504):
        server(f"HTML under {status}", lambda asked, status=status: Reply(b"<html>no</html>", status), "http")
    server("503 and Retry-After", lambda asked: Reply(b"later", 503, {"Retry-After": "1"}), "http")
    server("a gateway's page", lambda asked: body({"error": {"code": 503, "message": "unavailable"}}, 503), "http")
    server("a framework's page", lambda asked: body({"detail": "Not Found"}, 500), "http")
    server("an empty array under 500", lambda asked: body([], 500), "http")
    server("a redirect", lambda asked: Reply(b"", 307, {"Location": "https://elsewhere.example/"}), "http")
    # No answer.
    server("no connection", lambda asked: ConnectError("refused"), "lost")
    server("a lost connection", lambda asked: ConnectionLostError("reset"), "lost")
    server("a silent one", lambda asked: RequestTimeoutError("too long"), "lost")
    # Servers that take no batches, and do their work where the requests come one by one.
    server("refused as an invalid request", lambda asked: body(nameless(error={"code": -32600, "message": "no batches"})), "code -32600", refuses=True)
    server("refused by 400", lambda asked: body(nameless(error={"code": -32600, "message": "no batches"}), 400), "code -32600", refuses=True)
    server("refused by 405", lambda asked: Reply(b"no", 405), "http", refuses=True)
    server("413 for more than three", _few, lambda one, index, count: "http" if count > 3 else "own", refuses=True)
    server("413 for anything", lambda asked: Reply(b"too much", 413), "http", refuses=True)
    server("refused by 415", lambda asked: Reply(b"no", 415), "http", refuses=True)
    return found


def _cut(asked: list[Document], share: float) -> Reply:
    whole = json.dumps([right(one) for one in asked]).encode()
    return Reply(whole[: int(len(whole) * share)])


def _few(asked: list[Document]) -> Reply:
    return body([right(one) for one in asked]) if len(asked) <= 3 else Reply(b"too much", 413)


SERVERS = table()


MIXES = ("well", "failing", "notified")


def requests(mix: str = "notified") -> list[Request]:
    """Ten: numbers and text for ids, methods that fail among them, and two notifications, unless *mix* says otherwise.

    Clients have a shorter way where all goes well. The first five and the last five are alike, for those that send five at once.
    """
    found = [Request("get", [0], id=1), Request("get", [1], id="b"), Request("fail", [2], id="c"), Request("get", {"of": 3}, id=2)]
    found += [Request("fail", [4], id=3), Request("get", [5], id=11), Request("get", [6], id="g"), Request("fail", [7], id="h")]
    found += [Request("get", {"of": 8}, id=12), Request("get", [9], id=13)]
    if mix == "notified":
        return [*found[:4], Request("tell", [4], id=None), *found[5:9], Request("tell", [9], id=None)]
    return found if mix == "failing" else [Request("get", request.params, request.id) for request in found]


def document_of(request: Request) -> Document:
    """The request as the server sees it."""
    found: Document = {"jsonrpc": "2.0", "method": request.method}
    if request.params is not UNSET:
        found["params"] = request.params
    return found if request.is_notification else {**found, "id": request.id}


class Server:
    """Answers exchanges, keeps what it saw, and knows what each request may end with.

    :param answer: makes a Reply or an exception of the documents that have an id; by default those that arrive alone are answered rightly.
    :ivar seen: the documents of each exchange; a request that came alone as itself, and not in a list.
    :ivar fates: by the key of the id, what the table says of the last exchange that it was in.
    :ivar last: by the key of the id, the reply to the last exchange that it was in.
    """

    def __init__(self, answer: Callable[[list[Document]], Any], fates: Fates = ()) -> None:
        self.answer = answer
        self.words = fates
        self.seen: list[Any] = []
        self.fates: dict[Key, str] = {}
        self.last: dict[Key, Any] = {}

    def __call__(self, exchange: Exchange) -> Reply:
        document = json.loads(exchange.body)
        self.seen.append(document)
        if isinstance(document, dict):
            reply = body(right(document)) if "id" in document else Reply(b"", 204)
            self._note([document], reply, ["own"])
            return reply
        asked = [one for one in document if "id" in one]
        reply = self.answer(asked) if asked else Reply(b"", 204)
        self._note(asked, reply, self.words)
        if isinstance(reply, Exception):
            raise reply
        return reply

    def _note(self, asked: list[Document], reply: Any, words: Fates) -> None:
        asked = [one for one in asked if "id" in one]
        for index, one in enumerate(asked):
            self.last[key(one["id"])] = reply
            if callable(words):
                self.fates[key(one["id"])] = words(one, index, len(asked))
            elif words:
                self.fates[key(one["id"])] = words[min(index, len(words) - 1)]

    def tries(self, request: Request) -> int:
        """How often it arrived."""
        arrays = [document if isinstance(document, list) else [document] for document in self.seen]
        return sum(key(one.get("id")) == key(request.id) for array in arrays for one in array)


# --- the oracle ---


def check(request: Request, ended: Any, fate: str | None, reply: Any, *, alone: bool = False) -> None:
    """Fail where *ended*, a result or an exception, is not what may become of the request.

    :param fate: the word of the table, if there is one.
    :param reply: what the server said to the last exchange that it was in, if that is known.
    :param alone: whether it went by itself, and not in an array.
    """
    if isinstance(ended, Exception):
        assert isinstance(ended, RpcRetryError), f"{ended!r} is not among the documented errors"
        assert str(ended)
    if request.is_notification:
        assert ended is None or isinstance(ended, (HTTPStatusError, ProtocolError, JsonRpcError, TransportError)), ended
        return
    document = document_of(request)
    if not isinstance(ended, Exception):
        assert ended == truth(document) or (ended is None and fate in ("void", None)), f"{request!r} has {ended!r}, which is another's"
        assert fate in ("void", None) or document["method"] != "fail", f"{request!r} has a result in place of its error"
    if reply is not None:
        assert possible(document, ended, reply, alone), (
            f"{request!r} ended with {ended!r} where the server said {reply!r}: {getattr(reply, 'body', reply)!r:.600}"
        )
    if fate is not None:
        assert fitting(document, ended, fate), f"{request!r} ended with {ended!r}, and should be {fate}"


def fitting(document: Document, ended: Any, fate: str) -> bool:
    """Whether *ended* is what that word of the table says."""
    if fate == "own":
        return is_right(document, ended)
    if fate == "void":
        return ended is None
    if fate == "said":
        return _says(ended, SAID)
    if fate.startswith("code "):
        return isinstance(ended, JsonRpcError) and ended.code == int(fate[5:])
    kinds: dict[str, type[Exception]] = {
        "identity": IdentityError,
        "missing": MissingResponseError,
        "protocol": ProtocolError,
        "http": HTTPStatusError,
        "lost": TransportError,
    }
    return type(ended) is kinds[fate] or (fate in ("http", "lost") and isinstance(ended, kinds[fate]))


def is_right(document: Document, ended: Any) -> bool:
    if document["method"] == "fail":
        return isinstance(ended, JsonRpcError) and (ended.code, ended.message, ended.data) == (-32050, "no", truth(document))
    return bool(ended == truth(document))


def _says(ended: Any, code: int) -> bool:
    errors = ended.errors if isinstance(ended, MissingResponseError) else [ended]
    return any(isinstance(error, JsonRpcError) and error.code == code for error in errors)


def possible(document: Document, ended: Any, reply: Any, alone: bool) -> bool:
    """Whether *ended* is what the server's *reply* says of that request, read without any code of ours."""
    if isinstance(reply, Exception):
        return type(ended) is type(reply)
    answers = read(reply)
    if answers is None:
        return isinstance(ended, HTTPStatusError if not 200 <= reply.status < 300 else ProtocolError)
    own = [one for one in answers if isinstance(one, dict) and "id" in one and key(one["id"]) == key(document["id"])]
    if len(own) > 1:
        return isinstance(ended, IdentityError)
    if len(own) == 1:
        return _is_of(ended, own[0])
    if isinstance(ended, JsonRpcError):
        # Only what the server said to nobody.
        said = [one["error"] for one in answers if isinstance(one, dict) and one.get("id") is None and isinstance(one.get("error"), dict)]
        return any(_is_that(ended, error, data=False) for error in said) and (
            not isinstance(ended.data, str) or all(error.get("data") == ended.data for error in said)
        )
    if alone or isinstance(answers, _Bare):
        # A request that went alone learns of the foreign id itself.
        return isinstance(ended, (MissingResponseError, HTTPStatusError, IdentityError)) or type(ended) is ProtocolError
    return isinstance(ended, (MissingResponseError, HTTPStatusError))


class _Bare(list[Any]):
    """What was no array."""


def read(reply: Reply) -> list[Any] | None:
    """The answers in a body, as the json module finds them."""
    text = reply.body.removeprefix(codecs.BOM_UTF8)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, list) else _Bare([found])


def _is_of(ended: Any, answer: Document) -> bool:
    error = answer.get("error")
    if error is not None:
        return _is_that(ended, error, data=True)
    if "result" in answer:
        return bool(ended == answer["result"])
    return ended is None or type(ended) is ProtocolError


def _is_that(ended: Any, error: Any, *, data: bool) -> bool:
    if not isinstance(ended, JsonRpcError):
        return False
    if not isinstance(error, dict):
        return ended.code == 0
    same = not isinstance(error.get("message"), str) or ended.message == error["message"]
    try:
        code = int(error.get("code"))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return same and ended.code == 0
    return same and ended.code == code and (not data or "data" not in error or ended.data == error["data"])


# --- styles ---


class Ended(NamedTuple):
    """What became of one request.

    :ivar value: its result or its exception; None for a notification that went well.
    :ivar tries: how often the client says that it was sent; None where it does not say.
    """

    value: Any
    tries: int | None = None


class SyncBackend:
    def __init__(self, server: Callable[[Exchange], Reply]) -> None:
        self.server = server

    def exchange(self, exchange: Exchange, /) -> Reply:
        return self.server(exchange)

    def close(self) -> None: ...


class AsyncBackend:
    def __init__(self, server: Callable[[Exchange], Reply]) -> None:
        self.server = server

    async def exchange(self, exchange: Exchange, /) -> Reply:
        await asyncio.sleep(0)
        return self.server(exchange)

    async def aclose(self) -> None: ...


class Style:
    """A way to send several requests at once."""

    name = ""
    drivers: tuple[str, ...] = ("sync", "async")
    # Whether requests may be sent again by themselves where the server takes no batches.
    goes_alone = False
    # Whether the sync client asks the server from several threads.
    threads = False
    # Whether callers who gave the same id share a run.
    takes_equal_ids = False

    def run(self, driver: str, server: Callable[[Exchange], Reply], requests: Sequence[Request], **options: Any) -> list[Ended]:
        """What became of each request."""
        time = VirtualTime()
        if driver == "sync":
            return self.sync(Client(SyncBackend(server), clock=time.clock, sleep=time.sleep, **options), requests)
        return asyncio.run(self.asynchronous(self.async_client(server, time, **options), requests))

    def async_client(self, server: Callable[[Exchange], Reply], time: VirtualTime, **options: Any) -> AsyncClient:
        return AsyncClient(AsyncBackend(server), clock=time.clock, sleep=time.asleep, **options)

    def sync(self, client: Client, requests: Sequence[Request]) -> list[Ended]:
        raise NotImplementedError

    async def asynchronous(self, client: AsyncClient, requests: Sequence[Request]) -> list[Ended]:
        raise NotImplementedError

    def __repr__(self) -> str:
        return self.name


class Batches(Style):
    """``client.send(BatchRequest(...))``."""

    name = "BatchRequest"

    def sync(self, client: Client, requests: Sequence[Request]) -> list[Ended]:
        batch = BatchRequest(*requests)
        try:
            return self.told(requests, client.send(batch))
        except Exception as problem:
            return [Ended(problem)] * len(requests)

    async def asynchronous(self, client: AsyncClient, requests: Sequence[Request]) -> list[Ended]:
        batch = BatchRequest(*requests)
        try:
            return self.told(requests, await client.send(batch))
        except Exception as problem:
            return [Ended(problem)] * len(requests)

    def told(self, requests: Sequence[Request], response: Sequence[Any]) -> list[Ended]:
        answers = list(response)
        found: list[Ended] = []
        for request in requests:
            if request.is_notification and not (answers and answers[0].id is None):
                # Only one that failed has a place in the response.
                found.append(Ended(None))
                continue
            answer = answers.pop(0)
            assert is_of(answer, request)
            found.append(Ended(answer.error if answer.is_error else answer.result, answer.attempts))
        assert not answers
        return found


class Parts(Batches):
    """The same, of a client that sends five at most, and two such parts at once."""

    name = "parts"
    threads = True

    def run(self, driver: str, server: Callable[[Exchange], Reply], requests: Sequence[Request], **options: Any) -> list[Ended]:
        return super().run(driver, server, requests, max_batch_size=5, batch_concurrency=2, **options)


class Handles(Style):
    """``with client.batch() as batch``."""

    name = "handles"

    def sync(self, client: Client, requests: Sequence[Request]) -> list[Ended]:
        handles: list[Any] = []
        raised: Exception | None = None
        try:
            with client.batch() as batch:
                handles += [batch.send(request) for request in requests]
        except Exception as problem:
            if len(handles) < len(requests):
                # It was refused, and is nothing that became of them.
                raise
            raised = problem
        return self.told(requests, batch, handles, raised)

    async def asynchronous(self, client: AsyncClient, requests: Sequence[Request]) -> list[Ended]:
        handles: list[Any] = []
        raised: Exception | None = None
        try:
            async with client.batch() as batch:
                handles += [batch.send(request) for request in requests]
        except Exception as problem:
            if len(handles) < len(requests):
                # It was refused, and is nothing that became of them.
                raise
            raised = problem
        return self.told(requests, batch, handles, raised)

    def told(self, requests: Sequence[Request], batch: Any, handles: list[Any], raised: Exception | None) -> list[Ended]:
        found: list[Ended] = []
        for request, handle in zip(requests, handles, strict=True):
            assert handle.is_done
            assert is_of(handle.request, request)
            value = caught(handle.result)
            if isinstance(value, Exception):
                # Its own, in an instance for each who asks.
                assert value is not handle.error
                assert like(value) == like(handle.error)
            else:
                assert handle.error is None
            found.append(Ended(value, handle.response.attempts))
        self.compare(requests, batch, handles, found)
        if raised is not None:
            # Only where nothing came of any, and for one reason.
            assert {like(end.value) for end in found} == {like(raised)}
            assert not any(raised is handle.error for handle in handles)
        return found

    def compare(self, requests: Sequence[Request], batch: Any, handles: list[Any], found: list[Ended]) -> None:
        """All ways to look at a batch show the same."""
        failed = [isinstance(end.value, Exception) for end in found]
        asked = [not request.is_notification for request in requests]
        assert list(batch) == [handle for handle, ask in zip(handles, asked, strict=True) if ask]
        assert batch.failed == [handle for handle, fail in zip(handles, failed, strict=True) if fail]
        assert batch.succeeded == [handle for handle, fail, ask in zip(handles, failed, asked, strict=True) if ask and not fail]
        shown = [request for request, fail, ask in zip(requests, failed, asked, strict=True) if ask or fail]
        assert all(is_of(response, request) for response, request in zip(batch.responses, shown, strict=True))
        results = caught(batch.results)
        if isinstance(results, ExceptionGroup):
            assert [like(one) for one in results.exceptions] == [like(end.value) for end, fail in zip(found, failed, strict=True) if fail]
        else:
            assert not any(failed)
            assert results == [end.value for end, ask in zip(found, asked, strict=True) if ask]


class Joined(Style):
    """Single calls at the same time, of an async client that joins them."""

    name = "joining"
    drivers = ("async",)
    goes_alone = True
    takes_equal_ids = True

    def async_client(self, server: Callable[[Exchange], Reply], time: VirtualTime, **options: Any) -> AsyncClient:
        return super().async_client(server, time, joining=Joining(), **options)

    async def asynchronous(self, client: AsyncClient, requests: Sequence[Request]) -> list[Ended]:
        responses = await asyncio.gather(*[client.send(request) for request in requests], return_exceptions=True)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, "a task is left behind"
        found: list[Ended] = []
        for request, response in zip(requests, responses, strict=True):
            if isinstance(response, BaseException):
                assert isinstance(response, Exception)
                found.append(Ended(response))
                continue
            assert is_of(response, request)
            value = response.error if response.is_error else response.result
            found.append(Ended(value, response.attempts))
        return found


class Bulks(Style):
    """``client.bulk(...)``, in batches of five."""

    name = "bulk"
    threads = True
    takes_equal_ids = True

    def sync(self, client: Client, requests: Sequence[Request]) -> list[Ended]:
        return self.told(requests, list(client.bulk(requests, concurrency=2, batch_size=5)))

    async def asynchronous(self, client: AsyncClient, requests: Sequence[Request]) -> list[Ended]:
        items = [item async for item in client.bulk(requests, concurrency=2, batch_size=5)]
        assert asyncio.all_tasks() == {asyncio.current_task()}, "a task is left behind"
        return self.told(requests, items)

    def told(self, requests: Sequence[Request], items: list[Any]) -> list[Ended]:
        items.sort(key=lambda item: item.index)
        assert [item.index for item in items] == list(range(len(requests)))
        found: list[Ended] = []
        for request, item in zip(requests, items, strict=True):
            assert item.request is request
            value = caught(lambda item=item: item.result)
            if isinstance(value, Exception):
                assert value is not item.error
                assert like(value) == like(item.error)
            assert item.ok is not isinstance(value, Exception)
            found.append(Ended(value, item.attempts))
        return found


def is_of(answer: Any, request: Request) -> bool:
    """Whether it has the id of the request, or the one that the client gave to it."""
    return type(answer.id) is int if request.id is UNSET else key(answer.id) == key(request.id)


def caught(act: Callable[[], Any]) -> Any:
    """What *act* returns, or the exception that it raises."""
    try:
        return act()
    except Exception as problem:
        return problem


def like(error: Any) -> tuple[type, str]:
    return type(error), str(error)


STYLES: list[Style] = [Batches(), Parts(), Handles(), Joined(), Bulks()]
WAYS = [(style, driver) for style in STYLES for driver in style.drivers]
WAY_IDS = [f"{style}-{driver}" for style, driver in WAYS]
