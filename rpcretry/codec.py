"""Bytes to messages and back. The envelope and the ids are checked here and nowhere else.

Strict in what is sent, lenient in what is read: whatever a server sends yields the result or the error that
it means, or a :class:`~rpcretry.ProtocolError` or :class:`~rpcretry.HTTPStatusError` where it means nothing.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, Protocol

from pydantic_core import PydanticSerializationError, from_json, to_json, to_jsonable_python

from ._unset import UNSET
from .errors import (
    Delivery,
    HTTPStatusError,
    IdentityError,
    JsonRpcError,
    MissingResponseError,
    ProtocolError,
    RedirectError,
    Registry,
    error_class,
)
from .messages import Request, RequestId
from .transport import Exchange, Headers, Reply

__all__ = ["Codec", "JsonCodec", "encode_batch", "encode_request", "read_batch", "read_notification", "read_single"]

EXCERPT = 120
LETTER_N, LETTER_I = b"NI"
REDIRECTS = frozenset({301, 302, 303, 307, 308})


class Codec(Protocol):
    """How values become bytes. Bring another with ``Client(codec=...)``."""

    def dumps(self, value: object, /) -> bytes:
        """Write *value* as JSON. Raises TypeError or ValueError for what JSON has no place for."""

    def loads(self, body: bytes, charset: str | None, /) -> object:
        """Read JSON. Raises ValueError for what is none; *charset* is the one that the content type names."""


class JsonCodec:
    """pydantic_core's JSON, about five times as fast as :mod:`json` on small messages.

    pydantic_core writes NaN and infinity, which are no JSON, and does not read or write lone surrogates,
    nesting deeper than 200, or a byte order mark: the first are refused here, and for the others
    :mod:`json` is asked before giving up.
    """

    def dumps(self, value: object, /) -> bytes:
        try:
            body = to_json(value)
        except PydanticSerializationError as problem:
            body = self._dumps_slowly(value, problem)
        # Looking for one byte first is ten times as fast as looking for the words.
        if (LETTER_N in body and b"NaN" in body) or (LETTER_I in body and b"Infinity" in body):
            # Seldom: the words may also stand in a string, which only a parser can tell.
            json.loads(body, parse_constant=_refuse_constant)
        return body

    @staticmethod
    def _dumps_slowly(value: object, problem: Exception) -> bytes:
        try:
            return json.dumps(value, allow_nan=False, separators=(",", ":"), default=_jsonable).encode()
        except RecursionError:
            raise ValueError("the value is nested too deeply, or in a circle") from None
        except (TypeError, ValueError) as again:
            reason = str(problem).removeprefix("Error serializing to JSON: ")
            raise (TypeError if isinstance(again, TypeError) else ValueError)(reason) from None

    def loads(self, body: bytes, charset: str | None = None, /) -> object:
        try:
            return from_json(body)
        except ValueError:
            return self._loads_slowly(body, charset)

    @staticmethod
    def _loads_slowly(body: bytes, charset: str | None) -> object:
        try:
            return json.loads(body)
        except UnicodeDecodeError:
            if charset is None:
                raise
        except RecursionError:
            raise ValueError("nested too deeply") from None
        try:
            return json.loads(body.decode(charset))
        except (LookupError, RecursionError) as problem:
            raise ValueError(str(problem)) from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} has no place in JSON; send null or a string instead")


def _jsonable(value: object) -> object:
    plain = to_jsonable_python(value)
    if plain is value:
        raise TypeError(f"Unable to serialize unknown type: {type(value)}")
    return plain


# --- writing -------------------------------------------------------------------------------------


def encode_request(codec: Codec, request: Request) -> bytes:
    """The request as a JSON object.

    :raises TypeError: where the params hold something that JSON has no place for.
    :raises ValueError: where they hold NaN, infinity, or themselves.
    """
    document: dict[str, object] = {"jsonrpc": "2.0", "method": request._method}
    params = request._params
    if params is not UNSET:
        document["params"] = params
    if request._id is not None:
        document["id"] = request._id
    try:
        body = codec.dumps(document)
    except (TypeError, ValueError) as problem:
        kind = TypeError if isinstance(problem, TypeError) or "unknown type" in str(problem) else ValueError
        raise kind(f"params of {request._method!r} cannot be sent as JSON: {problem}") from None
    if params is not UNSET and not isinstance(params, (list, tuple, dict)):
        _check_structured(codec, request, body)
    return body


def _check_structured(codec: Codec, request: Request, body: bytes) -> None:
    # Models, dataclasses, sets and the like show only when written whether they are an array or an object.
    document = codec.loads(body, None)
    if isinstance(document, dict) and not isinstance(document.get("params"), (list, dict)):
        name = type(request._params).__name__
        raise TypeError(f"params of {request._method!r} must become a JSON array or object, a {name} becomes neither; write params=[...]")


def encode_batch(fragments: Sequence[bytes]) -> bytes:
    """Join encoded requests into a batch."""
    return b"[" + b",".join(fragments) + b"]"


# --- reading -------------------------------------------------------------------------------------


class Reader:
    """Reads the replies of one client.

    :param codec: how bytes become values.
    :param registry: which exception class stands for which code.
    """

    __slots__ = ("_quick", "codec", "registry")

    def __init__(self, codec: Codec, registry: Registry) -> None:
        self.codec = codec
        self.registry = registry
        # What nearly every reply needs; parse() finds out what is wrong with the others.
        self._quick: Callable[[bytes], Any] = from_json if type(codec) is JsonCodec else functools.partial(_loads, codec)

    def parse(self, reply: Reply) -> Any:
        """The document in the body, or the exception that the body means instead of one."""
        if reply.document is not UNSET:
            return reply.document
        body = reply.body
        if reply.status in REDIRECTS:
            raise _redirect(reply)
        if not body or body.isspace():
            raise _unreadable(reply, "an empty body")
        try:
            return self.codec.loads(body, None)
        except ValueError as first:
            charset = _charset(reply.headers)
            problem: Exception = first
            if charset is not None:
                try:
                    return self.codec.loads(body, charset)
                except ValueError as second:
                    problem = second
            raise _unreadable(reply, f"a body that is no JSON ({problem!s:.80})") from None
        except Exception as problem:
            raise _unreadable(reply, f"a body that the codec cannot read ({type(problem).__name__}: {problem!s:.80})") from problem

    def error_of(self, document: dict[Any, Any], reply: Reply) -> JsonRpcError | None:
        """The error in a JSON-RPC answer, whatever shape it has; ``None`` where there is none."""
        raw = document.get("error")
        if raw is None or (not raw and document.get("result") is not None):
            return None
        code: object = 0
        message: object = ""
        data: object = UNSET
        if isinstance(raw, dict):
            code, message, data = raw.get("code"), raw.get("message"), raw.get("data", UNSET)
        elif isinstance(raw, str):
            message = raw
        else:
            data = raw
        number = _code(code)
        if number is None:
            number, data = 0, raw
        text = message if isinstance(message, str) else "" if message is None else self._text(message)
        return _build(error_class(self.registry, number), text, number, data, reply.status, Headers(reply.headers))

    def _text(self, value: object) -> str:
        try:
            return self.codec.dumps(value).decode()
        except Exception:
            return repr(value)


def _build(cls: type[JsonRpcError], text: str, code: int, data: object, status: int | None, headers: Mapping[str, str] | None) -> JsonRpcError:
    try:
        return cls(text, code=code, data=data, status=status, headers=headers)
    except Exception as problem:
        # The server's error must not be lost behind a mistake in a class of the user's.
        error = JsonRpcError(text, code=code, data=data, status=status, headers=headers)
        error.add_note(f"{cls.__name__} could not be made for code {code}: {problem!r}; its __init__ must take what JsonRpcError's takes")
        return error


def _code(code: object) -> int | None:
    if isinstance(code, bool):
        return None
    if isinstance(code, int):
        return code
    if isinstance(code, float) and code.is_integer():
        return int(code)
    if isinstance(code, str) and re.fullmatch(r"\s*[+-]?\d{1,18}\s*", code, re.ASCII):
        return int(code)
    return None


def _loads(codec: Codec, body: bytes) -> object:
    return codec.loads(body, None)


def read_single(reader: Reader, reply: Reply, id: RequestId) -> Any:
    """What the reply to a single request means.

    :returns: the result.
    :raises JsonRpcError: the server's error.
    :raises ProtocolError, HTTPStatusError: where it is no answer to that request.
    """
    document: Any
    if reply.status == 200 and reply.document is UNSET:
        try:
            document = reader._quick(reply.body)
        except Exception:
            document = reader.parse(reply)
    else:
        document = reader.parse(reply)
    if type(document) is dict:
        found = document.get("id")
        if found == id and type(found) is type(id) and "result" in document and document.get("error") is None:
            return document["result"]
    return _read_carefully(reader, document, reply, id)


def _read_carefully(reader: Reader, document: Any, reply: Reply, id: RequestId) -> Any:
    if isinstance(document, list) and len(document) == 1:
        document = document[0]
    if not isinstance(document, dict):
        raise _unreadable(reply, f"a JSON {_kind(document)}")
    found = document.get("id")
    ours = found == id and type(found) is type(id)
    if not ours and not _is_envelope(document, reply):
        raise _unreadable(reply, "JSON that is no JSON-RPC answer")
    error = reader.error_of(document, reply)
    if error is not None:
        if ours or found is None:
            raise error
        raise _foreign(reply, id, found, f"the error {error}", [error])
    if "result" not in document:
        raise _unreadable(reply, "an object with neither result nor error")
    if not ours:
        what = "a result without an id" if "id" not in document else "a result with a null id" if found is None else "a result"
        raise _foreign(reply, id, found, what)
    return document["result"]


def read_notification(reader: Reader, reply: Reply) -> None:
    """Read what a server sent although no answer is expected: anything is fine that is no refusal by HTTP.

    :raises HTTPStatusError: for HTTP 429, 503 with Retry-After, redirects, and other HTTP errors whose body is
        no JSON-RPC answer: those say that the notification did not reach its method.
    """
    if 200 <= reply.status < 300:
        return
    if _delivery(reply) is Delivery.REJECTED:
        raise _unreadable(reply, "a refusal")
    try:
        document = reader.parse(reply)
    except ProtocolError:
        return
    answers = document if isinstance(document, list) else [document]
    if not any(isinstance(answer, dict) and _is_envelope(answer, reply) for answer in answers):
        raise _unreadable(reply, "JSON that is no JSON-RPC answer")


def read_batch(reader: Reader, reply: Reply, exchange: Exchange) -> list[Any]:
    """What the reply to a batch means for each of its requests.

    :returns: for each request, in order, its result, or an exception that is not raised: a JsonRpcError, or a
        ProtocolError where the server did not answer it. ``None`` for a notification.
    :raises ProtocolError, HTTPStatusError: where the reply is no answer to the batch at all.
    """
    if not exchange.ids:
        read_notification(reader, reply)
        return [None] * len(exchange.requests)
    document = reader.parse(reply)
    whole: JsonRpcError | None = None
    lone = False
    if isinstance(document, dict):
        if not _is_envelope(document, reply):
            raise _unreadable(reply, "JSON that is no JSON-RPC answer")
        if "id" not in document or document["id"] is None:
            whole = reader.error_of(document, reply)
        lone = len(exchange.ids) > 1 and document.get("id") in exchange.ids
        document = [document]
    elif not isinstance(document, list):
        raise _unreadable(reply, f"a JSON {_kind(document)}")

    asked = set(exchange.ids)
    answers: dict[RequestId, Any] = {}
    twice: set[RequestId] = set()
    nameless: list[JsonRpcError] = []
    foreign: list[object] = []
    for answer in document:
        id = answer.get("id") if isinstance(answer, dict) else None
        if (type(id) is int or type(id) is str) and id in asked:
            if id in answers:
                twice.add(id)
            answers[id] = answer
            if not lone:
                continue
        # A lone error for the first of several is most likely meant for all, but that is no proof.
        error = reader.error_of(answer, reply) if isinstance(answer, dict) else None
        if error is not None:
            nameless.append(error)
        if error is None or id is not None:
            foreign.append(id)

    explained = whole or _shared_reason(nameless, foreign, len(asked) - len(answers), len(exchange.requests) - len(asked))
    outcomes: list[Any] = []
    for request in exchange.requests:
        wanted = request._id
        if wanted is None:
            outcomes.append(None)
        elif wanted in twice:
            outcomes.append(IdentityError(f"the server answered id {wanted!r} more than once", status=reply.status))
        elif wanted in answers:
            outcomes.append(_member(reader, answers[wanted], reply))
        elif wanted is UNSET:
            raise RuntimeError("a request went out without an id")
        elif explained is not None:
            outcomes.append(_again(explained))
        else:
            outcomes.append(_missing(wanted, reply, nameless, [id for id in foreign if id not in exchange.ids]))
    return outcomes


def _member(reader: Reader, answer: dict[Any, Any], reply: Reply) -> Any:
    error = reader.error_of(answer, reply)
    if error is not None:
        return error
    if "result" not in answer:
        return ProtocolError(f"the answer to id {answer['id']!r} has neither result nor error", status=reply.status)
    return answer["result"]


def _shared_reason(nameless: list[JsonRpcError], foreign: list[object], unanswered: int, notifications: int) -> JsonRpcError | None:
    """The null-id error that must be the answer to every request that got none.

    Only where nothing else can be meant: a server that answers notifications, too, with null-id errors, or
    answers ids that nobody asked for, leaves open which request an error belongs to.
    """
    if not nameless or foreign or notifications or len({error.code for error in nameless}) > 1:
        return None
    return nameless[0] if len(nameless) in (1, unanswered) else None


def _again(error: JsonRpcError) -> JsonRpcError:
    return _build(type(error), error.message, error.code, error.data, error.status, error.headers)


def _missing(id: RequestId, reply: Reply, nameless: list[JsonRpcError], foreign: list[object]) -> MissingResponseError:
    reasons = "; ".join(str(error) for error in nameless[:3])
    also = f", but said: {reasons}" if reasons else ""
    others = f", and answered ids that were not asked for: {foreign[:3]!r:.60}" if foreign else ""
    return MissingResponseError(f"the server left the request with id {id!r} unanswered{also}{others}", status=reply.status, errors=nameless)


def _is_envelope(document: dict[Any, Any], reply: Reply) -> bool:
    """Whether the object is a JSON-RPC answer, rather than an error page that happens to be JSON."""
    error = document.get("error")
    if isinstance(error, dict) and _code(error.get("code")) is not None:
        return True
    if "jsonrpc" in document:
        return "result" in document or error is not None
    return 200 <= reply.status < 300 and ("result" in document or error is not None)


def _foreign(reply: Reply, id: RequestId, found: object, what: str, errors: Sequence[JsonRpcError] = ()) -> IdentityError:
    return IdentityError(
        f"the server answered id {found!r:.40} to the request with id {id!r:.40}: {what:.120}",
        status=reply.status,
        headers=Headers(reply.headers),
        excerpt=_excerpt(reply.body),
        errors=errors,
    )


def _unreadable(reply: Reply, what: str) -> ProtocolError | HTTPStatusError:
    excerpt = _excerpt(reply.body)
    headers = Headers(reply.headers)
    quoted = f": {excerpt}" if excerpt else ""
    if 200 <= reply.status < 300:
        return ProtocolError(f"HTTP {reply.status} with {what}{quoted}", status=reply.status, headers=headers, excerpt=excerpt)
    return HTTPStatusError(f"HTTP {reply.status}{quoted}", status=reply.status, headers=headers, excerpt=excerpt, delivery=_delivery(reply))


def _redirect(reply: Reply) -> HTTPStatusError:
    from urllib.parse import urlsplit

    headers = Headers(reply.headers)
    location = headers.get("location", "")
    try:
        host = urlsplit(location).netloc.rpartition("@")[2]
    except ValueError:
        host = ""
    where = f"to host {host}" if host else "within the same host" if location else "without a Location"
    return RedirectError(
        f"HTTP {reply.status}: the server redirects {where}; a POST is not redirected, give the client the final URL", status=reply.status, headers=headers
    )


def _delivery(reply: Reply) -> Delivery:
    return rejected(reply.status, reply.headers)


def rejected(status: int, headers: Mapping[str, str]) -> Delivery:
    """REJECTED for the statuses that say that nothing was done, MAYBE_EXECUTED for the others."""
    if status == 429 or (status == 503 and "retry-after" in Headers(headers)):
        return Delivery.REJECTED
    return Delivery.MAYBE_EXECUTED


def _charset(headers: Mapping[str, str]) -> str | None:
    found = re.search(r"charset=[\"']?([\w.:-]+)", Headers(headers).get("content-type", ""), re.IGNORECASE)
    return found[1] if found else None


def _excerpt(body: bytes) -> str:
    text = " ".join(body[: 4 * EXCERPT].decode("utf-8", "replace").split())
    text = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
    return text if len(text) <= EXCERPT else text[: EXCERPT - 1] + "…"


def _kind(document: object) -> str:
    names = {bool: "boolean", int: "number", float: "number", str: "string", list: "array", type(None): "null"}
    return names.get(type(document), "value")
