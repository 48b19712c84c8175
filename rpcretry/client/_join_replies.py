"""What the reply to joined requests means for each of them."""

from __future__ import annotations

import contextlib
import copy
from typing import Any, NoReturn

from .._unset import UNSET
from ..codec import Codec, Reader, read_batch, read_in_order, read_notification, read_single
from ..errors import JsonRpcError
from ..messages import RequestId, fresh
from ..transport import Exchange, Reply, SharedExchange
from .batch_limits import names_a_request, says_too_large

__all__ = ["FailedReply", "JoinedReply", "copied", "is_answer", "marked", "parsed", "read_joined", "refusal", "says_little", "without_frames"]

# By these a server that takes no arrays, or something in front of it, turns the document down before any method is called:
# it is no request to it (400, 422), or of no kind that it takes (405, 406, 415). The other 4xx say nothing about the document, but
# about credentials (401, 403, 407), about the URL (404, 410), or when to come again (408, 425, 429).
REFUSING = frozenset({400, 405, 406, 415, 422})
ELSEWISE = frozenset({401, 403, 407, 408, 425, 429, 503})

# Each member of the array is a valid request of its own, so that "no valid request" and "no JSON" can only mean the array.
INVALID, UNPARSED = -32600, -32700


class JoinedReply(Reply):
    """What one caller gets of the reply to all.

    :param reply: the reply to all.
    :param id: the caller's id; ``None`` for a notification.
    :param value: the result.
    """

    __slots__ = ("_codec", "_reply", "shared")

    def __init__(self, reply: Reply, codec: Codec, id: RequestId | None, value: object, shared: SharedExchange) -> None:
        self.status = reply.status
        self.headers = reply.headers
        self.document = {"jsonrpc": "2.0", "id": id, "result": value}
        self.shared = shared
        self._codec = codec
        self._reply = reply
        if id is None and not 200 <= reply.status < 300:
            # A notification has gone through, whatever status the answers of the others came with.
            self.status = 200

    @property
    def body(self) -> bytes:  # type: ignore[override]
        """The caller's own answer, for middlewares that look at it."""
        return self._codec.dumps(self.document)


class FailedReply(JoinedReply):
    """What a caller gets whose answer is an error, or that has none.

    :param problem: what the reply means for the caller.
    """

    __slots__ = ("_id", "_problem")

    def __init__(self, reply: Reply, codec: Codec, id: RequestId | None, problem: Exception, shared: SharedExchange) -> None:
        self.status = reply.status
        self.headers = reply.headers
        self.shared = shared
        self._codec = codec
        self._reply = reply
        self._id = id
        self._problem = problem

    @property
    def document(self) -> NoReturn:  # type: ignore[override]
        """Raises what the reply means, a new instance at each access."""
        raise fresh(self._problem)

    @property
    def body(self) -> bytes:  # type: ignore[override]
        """The caller's own error; the whole body where the server gave none."""
        problem = self._problem
        if not isinstance(problem, JsonRpcError):
            return self._reply.body
        data = problem.raw_data
        error = {"code": problem.code, "message": problem.message, **({} if data is UNSET else {"data": data})}
        return self._codec.dumps({"jsonrpc": "2.0", "id": self._id, "error": error})


def parsed(reader: Reader, reply: Reply) -> Any:
    """The document in the body; ``UNSET`` where it cannot be read."""
    try:
        return reader.parse(reply)
    except Exception:
        return UNSET


def refusal(reader: Reader, reply: Reply, document: object, too_large: frozenset[int], *, alone: bool = False) -> int | None:
    """The status or the code by which a server refuses a whole batch; ``None`` where it does not.

    Nothing was executed then. What a server answers to some of the requests is no refusal of all, and another JSON-RPC error may
    be one in the middle of the work.

    :param too_large: the statuses and codes that mean that it was too large.
    :param alone: whether the reply is the answer to a single request, which is refused in the same ways.
    """
    status = reply.status
    if isinstance(document, list):
        return None
    if status in too_large:
        return status
    if status in ELSEWISE:
        return None
    error = None
    if isinstance(document, dict):
        error = reader.error_of(document, reply)
        if error is None and "result" in document:
            return None
    if isinstance(document, dict) and error is not None and error.code not in (0, status):
        # Some give a parse error an id of their own, or the last that they had seen.
        explains = error.code == UNPARSED or ((error.code == INVALID or error.code in too_large) and (alone or document.get("id") is None))
        return error.code if explains else None
    return status if status in REFUSING else None


def is_answer(reader: Reader, reply: Reply, exchange: Exchange, too_large: frozenset[int] = frozenset()) -> bool:
    """Whether the server answered one of the requests at least, be it with an error; one that says "too large" is no answer."""
    _, values = read_joined(reader, reply, exchange, too_large)
    for value in values:
        if not isinstance(value, Exception) or (isinstance(value, JsonRpcError) and not says_too_large([value], too_large, is_answered=False)):
            return True
    return False


def read_joined(reader: Reader, reply: Reply, exchange: Exchange, too_large: frozenset[int]) -> tuple[int | None, list[Any]]:
    """What the reply means for each of the requests: its result, or an exception; or the refusal of the whole."""
    if len(exchange.requests) == 1:
        try:
            if exchange.ids:
                return None, [read_single(reader, reply, exchange.ids[0])]
            read_notification(reader, reply)
            return None, [None]
        except Exception as problem:
            return None, [without_frames(problem)]
    document = parsed(reader, reply)
    refused = refusal(reader, reply, document, too_large)
    if refused is not None:
        return refused, []
    values = read_in_order(document, exchange.ids) if len(exchange.ids) == len(exchange.requests) else None
    if values is not None:
        return None, values
    try:
        values = read_batch(reader, reply, exchange, document)
    except Exception as problem:
        values = [without_frames(problem)] * len(exchange.requests)
        said: list[Exception | None] = [problem]
    else:
        # Of a notification nothing is said in either case.
        said = [value if isinstance(value, Exception) else None for value, request in zip(values, exchange.requests, strict=True) if request._id is not None]
    if says_too_large(said, too_large, is_answered=names_a_request(document)):
        return next((error.code for error in said if isinstance(error, JsonRpcError) and error.code in too_large), reply.status), []
    return None, values


def without_frames(problem: Exception) -> Exception:
    # Copies of it are raised; its own traceback would hold the frame that holds it.
    problem.__traceback__ = None
    return problem


def marked(error: Exception, shared: SharedExchange) -> Exception:
    """*error* with the mark of the exchange that it came from."""
    # One of somebody else's may have slots; its callers count one by one.
    with contextlib.suppress(AttributeError):
        error._shared_exchange = shared  # type: ignore[attr-defined]
    return error


def copied(value: Any) -> Any:
    """What another caller gets of a result or an error."""
    if isinstance(value, JsonRpcError):
        twin = fresh(value)
        vars(twin).update(copy.deepcopy({name: own for name, own in vars(value).items() if name in ("data", "_raw_data")}))
        return twin
    return value if isinstance(value, Exception) else copy.deepcopy(value)


def says_little(found: tuple[object, object]) -> int:
    """How little it says of the server: an error that it answered with, another failure, or that no answer came to a notification."""
    return 0 if isinstance(found[1], JsonRpcError) else 1 if isinstance(found[1], Exception) else 2
