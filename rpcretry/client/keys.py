"""Idempotency keys: a header by which a server knows a repetition from a new request."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import TypeAlias

from .._check import is_async_callable, needs_argument, plain_callable_with
from ..messages import BatchRequest, Request
from ..transport import Headers
from .headers import as_headers

__all__ = ["HEADER", "IdempotencyKey", "KeySource", "as_key_source", "told_apart", "with_key"]

HEADER = "Idempotency-Key"

IdempotencyKey: TypeAlias = "bool | str | Callable[[], str] | Callable[[Request | BatchRequest], str]"
KeySource: TypeAlias = "Callable[[Request | BatchRequest], str]"


def as_key_source(name: str, value: IdempotencyKey | None, *, one_call: bool) -> KeySource | None:
    """Read an ``idempotency_key=`` argument.

    :param one_call: whether it is for a single call; a key that is written out would be the same for all calls of a client.
    """
    if value is None or value is False:
        return None
    if value is True:
        return lambda request: str(uuid.uuid4())
    if isinstance(value, str):
        if not one_call:
            raise ValueError(f"{name} would be the same for all calls, and the server would answer them all alike; use True, a callable, or _idempotency_key")
        key = value
        _checked(name, key)
        return lambda request: key
    if not callable(value):
        raise TypeError(f"{name} must be True, a str or a callable, got {type(value).__name__} {value!r:.60}")
    if is_async_callable(value):
        raise TypeError(f"{name} must be a plain function, got {value!r:.80}, which nobody would await; write def")
    wanted = needs_argument(value)
    plain_callable_with(name, value, int(wanted), "it gets the request, or nothing, and returns a str")
    make: Callable[..., str] = value
    return (lambda request: _checked(name, make(request))) if wanted else (lambda request: _checked(name, make()))


def with_key(headers: Headers | None, key: str) -> Headers:
    """*headers* and the key.

    :raises ValueError: where a key stands in *headers* already: which of the two counts, only the caller can tell.
    """
    if headers is not None and HEADER in headers:
        raise ValueError(f"give idempotency_key or the header {HEADER}, not both; for a single call write _idempotency_key=...")
    return (headers or Headers()).updated({HEADER: key})


def told_apart(key: str, chosen: tuple[int, ...]) -> str:
    """Another key for a part of the batch whose key is *key*.

    It comes from the places of its members, so that a program that was started again and repeats the batch under a key of
    its own gets the same ones.
    """
    return f"{key}-{uuid.uuid5(uuid.NAMESPACE_OID, repr(chosen))}"


def _checked(name: str, key: object) -> str:
    if not isinstance(key, str):
        raise TypeError(f"{name} must be a str, got {type(key).__name__}; write str(...) around it")
    if not key:
        raise ValueError(f"{name} must not be empty")
    if not key.isascii():
        # requests writes Latin-1 and aiohttp UTF-8: to a server they would be two keys.
        raise ValueError(f"{name} holds characters beyond ASCII, which HTTP libraries write each in their own way; write it in ASCII")
    as_headers(name, {HEADER: key})
    return key
