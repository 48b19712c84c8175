"""Requests to bytes; :mod:`rpcretry.codec` has the names."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from typing import Any

from pydantic_core import to_json

from ._json import Codec, JsonCodec, refuse_read_once
from ._requests import Requests
from ._unset import UNSET
from .messages import Request, RequestId

__all__ = ["encode_batch", "encode_request", "encode_requests", "refuse_second", "split_batch", "without_id"]

# Documents that are encoded at once; many more would only fall out of the processor's cache.
TOGETHER = 256

STRUCTURED = frozenset({list, tuple, dict})

# Python refuses to write ints of thousands of digits.
HUGE = 1 << 64


def encode_request(codec: Codec, request: Request) -> bytes:
    """The request as a JSON object.

    :raises TypeError: where the params hold something that JSON has no place for.
    :raises ValueError: where they hold NaN, infinity, or themselves.
    """
    params, id = request._params, request._id
    try:
        # Nearly all calls, at two thirds of the cost. Written once only: a generator in the params would be empty the second time.
        if type(id) is int and -HUGE < id < HUGE and type(params) in STRUCTURED and type(codec) is JsonCodec and (frame := _frame(request._method)):
            return frame % (codec.dumps(params), id)
        body = codec.dumps(_document(request))
    except (TypeError, ValueError) as problem:
        raise _unsendable(request, problem) from None
    if type(body) is not bytes:
        raise TypeError(f"codec.dumps must return bytes, got {type(body).__name__}; write .encode()")
    if params is not UNSET and type(params) not in STRUCTURED:
        _check_structured(codec, request, body)
    return body


def _unsendable(request: Request, problem: TypeError | ValueError) -> TypeError | ValueError:
    kind = TypeError if isinstance(problem, TypeError) else ValueError
    return kind(f"params of {request._method!r} cannot be sent as JSON: {problem}")


@functools.lru_cache(1_024)
def _frame(method: str) -> bytes:
    """What stands around the params and the id, as a format of bytes; empty where that takes a slower writer."""
    try:
        name = to_json(method)
    except ValueError:
        return b""
    return b'{"jsonrpc":"2.0","method":%b,"params":%%b,"id":%%d}' % name.replace(b"%", b"%%")


def _document(request: Request) -> dict[str, object]:
    document: dict[str, object] = {"jsonrpc": "2.0", "method": request._method}
    if request._params is not UNSET:
        document["params"] = request._params
    if request._id is not None:
        document["id"] = request._id
    return document


def _check_structured(codec: Codec, request: Request, body: bytes) -> None:
    # Models, dataclasses, sets and the like show only when written whether they are an array or an object.
    document = codec.loads(body, None)
    if isinstance(document, dict) and not isinstance(document.get("params"), (list, dict)):
        name = type(request._params).__name__
        raise TypeError(f"params of {request._method!r} must become a JSON array or object, a {name} becomes neither; write params=[...]")


def encode_batch(fragments: Sequence[bytes]) -> bytes:
    """Join encoded requests into a batch."""
    return b"[" + b",".join(fragments) + b"]"


def encode_requests(codec: Codec, requests: Requests) -> bytes:
    """The requests as a batch, at half the cost of one at a time.

    :raises TypeError, ValueError: as :func:`encode_request` does, naming the method of the first that cannot be sent.
    """
    if type(codec) is not JsonCodec:
        return encode_batch([encode_request(codec, request) for request in requests])
    pieces: list[bytes] = []
    for start in range(0, len(requests), TOGETHER):
        some = requests.part(range(start, start + TOGETHER))
        piece = b""
        if STRUCTURED.issuperset(map(type, some.params)) and None not in some.ids:
            try:
                documents = [{"jsonrpc": "2.0", "method": m, "params": p, "id": i} for m, p, i in zip(some.methods, some.params, some.ids, strict=True)]
                piece = codec.dumps(documents)[1:-1]
            except (TypeError, ValueError):
                for request in some:
                    refuse_second(request)
        # One by one it shows which of them is at fault.
        pieces.append(piece or b",".join([encode_request(codec, request) for request in some]))
    return encode_batch(pieces)


def refuse_second(request: Request) -> None:
    """Refuse a request that may have been written before, and cannot be written again.

    :raises TypeError: naming the method, and the fix.
    """
    try:
        refuse_read_once(request._params)
    except TypeError as problem:
        raise _unsendable(request, problem) from None


def without_id(codec: Codec, id: RequestId, body: bytes) -> bytes:
    """The body of a single request without its id."""
    end = b'"id":' + codec.dumps(id) + b"}"
    if body.endswith(end):
        return body[: -len(end)]
    document: Any = codec.loads(body, None)
    del document["id"]
    return codec.dumps(document)


def split_batch(body: bytes) -> list[bytes]:
    """The encoded requests in what :func:`encode_requests` wrote."""
    text, fragments, position = body.decode(), [], 1
    while position < len(text) - 1:
        # Some codecs write a line break at the end, or indent.
        _, end = _ENDS.raw_decode(text, _after_space(text, position))
        fragments.append(text[position:end].encode())
        position = _after_space(text, end) + 1
    return fragments


def _after_space(text: str, position: int) -> int:
    while text[position : position + 1] in (" ", "\t", "\r", "\n"):
        position += 1
    return position


# Looks for the ends of values, and makes no ints of them: Python refuses those of thousands of digits.
_ENDS = json.JSONDecoder(parse_int=str)
