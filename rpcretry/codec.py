"""Bytes to messages and back. The envelope and the ids are checked here and nowhere else.

Strict in what is sent, lenient in what is read: whatever a server sends yields the result or the error that
it means, or a :class:`~rpcretry.ProtocolError` or :class:`~rpcretry.HTTPStatusError` where it means nothing.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from pydantic_core import from_json

from ._encoding import encode_batch, encode_request, encode_requests, split_batch
from ._json import Codec, JsonCodec
from ._unreadable import charset_of, excerpt_of, kind_of, redirected, rejected, unreadable
from ._unset import UNSET
from .errors import Delivery, IdentityError, JsonRpcError, MissingResponseError, ProtocolError, error_class
from .errors._answers import Registry
from .messages import RequestId, fresh
from .transport import Exchange, Headers, Reply

__all__ = [
    "Codec",
    "JsonCodec",
    "encode_batch",
    "encode_request",
    "encode_requests",
    "read_batch",
    "read_in_order",
    "read_notification",
    "read_single",
    "split_batch",
]

REDIRECTS = frozenset({301, 302, 303, 307, 308})
NOTHING: Mapping[Any, Any] = {}


class Reader:
    """Reads the replies of one client.

    :param codec: how bytes become values.
    :param registry: which exception class stands for which code.
    :param data_validators: of classes that declare a type of ``data``, what turns it into that; raises where it cannot.
    """

    __slots__ = ("_data_validators", "_quick", "codec", "registry")

    def __init__(self, codec: Codec, registry: Registry, data_validators: Mapping[type[JsonRpcError], Callable[[object], Any]] = NOTHING) -> None:
        self.codec = codec
        self.registry = registry
        self._data_validators = data_validators
        # What nearly every reply needs; parse() finds out what is wrong with the others.
        self._quick: Callable[[bytes], Any] = from_json if type(codec) is JsonCodec else lambda body: codec.loads(body, None)

    def parse(self, reply: Reply) -> Any:
        """The document in the body, or the exception that the body means instead of one."""
        if reply.document is not UNSET:
            return reply.document
        body = reply.body
        if reply.status in REDIRECTS:
            raise redirected(reply)
        if not body or body.isspace():
            raise unreadable(reply, "an empty body")
        try:
            return self.codec.loads(body, None)
        except ValueError as problem:
            what = f"a body that is no JSON ({problem!s:.80})"
        except Exception as problem:
            raise unreadable(reply, f"a body that the codec cannot read ({type(problem).__name__}: {problem!s:.80})") from problem
        charset = charset_of(reply.headers)
        if charset is not None:
            # Servers choose the charset, and some of Python's raise what no caller expects.
            with contextlib.suppress(Exception):
                return self.codec.loads(body, charset)
        raise unreadable(reply, what)

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
        error = _build(error_class(self.registry, number), text, number, data, reply.status, Headers(reply.headers))
        if rejected(reply.status, reply.headers) is Delivery.REJECTED:
            error.delivery = Delivery.REJECTED
        validate = self._data_validators.get(type(error))
        if validate is not None:
            _validate_data(error, validate)
        return error

    def _text(self, value: object) -> str:
        try:
            return self.codec.dumps(value).decode()
        except Exception:
            return repr(value)


def _build(cls: type[JsonRpcError], text: str, code: int, data: object, status: int | None, headers: Mapping[str, str] | None) -> JsonRpcError:
    try:
        error = cls(text, code=code, data=data, status=status, headers=headers)
        if "headers" not in vars(error):
            raise TypeError("it did not call super().__init__")
        return error
    except Exception as problem:
        # The server's error must not be lost behind a mistake in a class of the user's.
        error = JsonRpcError(text, code=code, data=data, status=status, headers=headers)
        error.add_note(f"{cls.__name__} could not be made for code {code}: {problem!r}; its __init__ must take what JsonRpcError's takes")
        return error


def _validate_data(error: JsonRpcError, validate: Callable[[object], Any]) -> None:
    raw = error.data
    try:
        # A server that sends no data means none.
        error.data = validate(None if raw is UNSET else raw)
        error._raw_data = raw
    except Exception as problem:
        # What the error is, its code says; the handler that waits for its class must not miss it.
        error.add_note(f"its data is {problem}" if raw is not UNSET else f"it came without data: {problem}")


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
        raise unreadable(reply, f"a JSON {kind_of(document)}")
    found = document.get("id")
    ours = found == id and type(found) is type(id)
    if not ours and not _is_envelope(document, reply):
        raise unreadable(reply, "JSON that is no JSON-RPC answer")
    error = reader.error_of(document, reply)
    if error is not None:
        if ours or found is None:
            try:
                raise error
            finally:
                # Its traceback holds this frame, and with it the reply.
                del error
        raise _foreign(reply, id, found, f"the error {error}", [error])
    if "result" not in document and not (ours and _is_void(document, reply)):
        raise unreadable(reply, "an object with neither result nor error")
    if not ours:
        what = "a result without an id" if "id" not in document else "a result with a null id" if found is None else "a result"
        raise _foreign(reply, id, found, what)
    return document.get("result")


def read_notification(reader: Reader, reply: Reply) -> None:
    """Read what a server sent although no answer is expected: anything is fine that is no refusal by HTTP.

    :raises HTTPStatusError: for HTTP 429, 503 with Retry-After, redirects, and other HTTP errors whose body is
        no JSON-RPC answer: those say that the notification did not reach its method.
    """
    if 200 <= reply.status < 300:
        return
    if rejected(reply.status, reply.headers) is Delivery.REJECTED:
        raise unreadable(reply, "a refusal")
    document = reader.parse(reply)
    answers = document if isinstance(document, list) else [document]
    if not any(isinstance(answer, dict) and _is_envelope(answer, reply) for answer in answers):
        raise unreadable(reply, "JSON that is no JSON-RPC answer")


def read_in_order(document: object, ids: Sequence[RequestId]) -> list[Any] | None:
    """The results in an answer to a batch, if it holds a success for each of *ids* in their order; ``None`` if not."""
    if type(document) is not list or len(document) != len(ids):
        return None
    results = []
    for answer, id in zip(document, ids, strict=True):
        if type(answer) is not dict:
            return None
        found = answer.get("id")
        if found != id or type(found) is not type(id) or "result" not in answer or answer.get("error") is not None:
            return None
        results.append(answer["result"])
    return results


def read_batch(reader: Reader, reply: Reply, exchange: Exchange, document: Any = UNSET) -> list[Any]:
    """What the reply to a batch means for each of its requests.

    :param document: the parsed body, where the caller has it.
    :returns: for each request, in order, its result, or an exception that is not raised: a JsonRpcError, or a
        ProtocolError where the server did not answer it. ``None`` for a notification.
    :raises ProtocolError, HTTPStatusError: where the reply is no answer to the batch at all.
    """
    if not exchange.ids:
        read_notification(reader, reply)
        return [None] * len(exchange.requests)
    if document is UNSET:
        document = reader.parse(reply)
    whole: JsonRpcError | None = None
    bare = isinstance(document, dict)
    if bare:
        if document.get("id") is None:
            whole = reader.error_of(document, reply)
        document = [document]
    elif not isinstance(document, list):
        raise unreadable(reply, f"a JSON {kind_of(document)}")

    asked = set(exchange.ids)
    answers: dict[RequestId, Any] = {}
    twice: set[RequestId] = set()
    nameless: list[JsonRpcError] = []
    foreign: list[object] = []
    for answer in document:
        id = answer.get("id") if isinstance(answer, dict) else None
        if isinstance(id, (int, str)) and _is_one_of(id, asked):
            if id in answers:
                twice.add(id)
            answers[id] = answer
            if not bare or len(asked) == 1:
                continue
        # A lone error for the first of several is most likely meant for all, but that is no proof.
        error = reader.error_of(answer, reply) if isinstance(answer, dict) else None
        if error is not None:
            nameless.append(error)
        if error is None or id is not None:
            foreign.append(id)

    if not answers and (bare or not 200 <= reply.status < 300) and not any(isinstance(answer, dict) and _is_envelope(answer, reply) for answer in document):
        raise unreadable(reply, "JSON that is no JSON-RPC answer")
    headers = Headers(reply.headers)
    explained = whole or _shared_reason(nameless, foreign, len(asked), len(answers), len(exchange.requests) - len(asked))
    strangers = [id for id in foreign if id is not None and not _is_one_of(id, asked)]
    # A refusal by HTTP refuses the notifications, too, which no answer would say.
    refused = not answers and rejected(reply.status, reply.headers) is Delivery.REJECTED
    outcomes: list[Any] = []
    for request in exchange.requests:
        wanted = request._id
        if wanted is None:
            outcomes.append(unreadable(reply, "a refusal") if refused else None)
        elif wanted in twice:
            outcomes.append(IdentityError(f"the server answered id {wanted!r:.40} more than once", status=reply.status, headers=headers))
        elif wanted in answers:
            outcomes.append(_member(reader, answers[wanted], reply, headers))
        elif wanted is UNSET:
            raise RuntimeError("a request went out without an id")
        elif explained is not None:
            outcomes.append(fresh(explained))
        else:
            outcomes.append(_missing(wanted, reply, headers, nameless, strangers))
    return outcomes


def _is_one_of(id: object, asked: Collection[RequestId]) -> bool:
    return (type(id) is int or type(id) is str) and id in asked


def _member(reader: Reader, answer: dict[Any, Any], reply: Reply, headers: Headers) -> Any:
    error = reader.error_of(answer, reply)
    if error is not None:
        return error
    if "result" not in answer and not _is_void(answer, reply):
        return ProtocolError(f"the answer to id {answer['id']!r:.40} has neither result nor error", status=reply.status, headers=headers)
    return answer.get("result")


def _shared_reason(nameless: list[JsonRpcError], foreign: list[object], asked: int, answered: int, notifications: int) -> JsonRpcError | None:
    """The null-id error that must be the answer to every request that got none.

    Only where nothing else can be meant: a server that answers notifications, too, with null-id errors, or
    answers ids that nobody asked for, leaves open which request an error belongs to.
    """
    if not nameless or foreign or notifications:
        return None
    first = nameless[0]
    if any((type(error), error.code, error.message) != (type(first), first.code, first.message) for error in nameless):
        return None
    if len(nameless) != asked - answered and (answered or len(nameless) > 1):
        return None
    if any(error.raw_data != first.raw_data for error in nameless):
        # Which of them is whose remains unknown, so that nobody gets another request's. What was made of the data may be of a
        # class that cannot be compared; notes speak of it.
        first = fresh(first)
        first.data = first._raw_data = UNSET
        first.__notes__ = []
    return first


def _missing(id: RequestId, reply: Reply, headers: Headers, nameless: list[JsonRpcError], foreign: list[object]) -> MissingResponseError:
    reasons = "; ".join(f"{error!s:.120}" for error in nameless[:3])
    also = f", but said: {reasons}" if reasons else ""
    others = f", and answered ids that were not asked for: {foreign[:3]!r:.60}" if foreign else ""
    message = f"the server left the request with id {id!r:.40} unanswered{also}{others}"
    return MissingResponseError(message, status=reply.status, headers=headers, errors=nameless)


def _is_envelope(document: dict[Any, Any], reply: Reply) -> bool:
    """Whether the object is a JSON-RPC answer, rather than an error page that happens to be JSON."""
    error = document.get("error")
    code = _code(error.get("code")) if isinstance(error, dict) else None
    if code is not None and code != reply.status:
        return True
    # {"error": {"code": 503}} under HTTP 503 is how gateways write their error pages.
    if "jsonrpc" in document:
        return "result" in document or error is not None
    return 200 <= reply.status < 300 and ("result" in document or error is not None)


def _is_void(document: dict[Any, Any], reply: Reply) -> bool:
    """Whether this is a success without a value: servers in JavaScript leave out a result that is undefined."""
    return 200 <= reply.status < 300 and "jsonrpc" in document and document.keys() <= {"jsonrpc", "id", "error"}


def _foreign(reply: Reply, id: RequestId, found: object, what: str, errors: Sequence[JsonRpcError] = ()) -> IdentityError:
    return IdentityError(
        f"the server answered id {found!r:.40} to the request with id {id!r:.40}: {what:.120}",
        status=reply.status,
        headers=Headers(reply.headers),
        excerpt=excerpt_of(reply.body),
        errors=errors,
    )
