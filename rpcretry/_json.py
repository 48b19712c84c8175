"""Values to JSON bytes and back: the seam where a client takes another engine."""

from __future__ import annotations

import dataclasses
import encodings
import encodings.aliases
import enum
import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NoReturn, Protocol

from pydantic_core import PydanticSerializationError, SchemaSerializer, core_schema, from_json, to_json, to_jsonable_python

from ._unset import UNSET

__all__ = ["Codec", "JsonCodec", "refuse_read_once"]

SCALARS = frozenset({str, int, float, bool, type(None)})
LETTER_I, LETTER_N, LETTER_L, LETTER_U = b"INlu"


class Codec(Protocol):
    """How values become bytes. Bring another with ``Client(codec=...)``."""

    def dumps(self, value: object, /) -> bytes:
        """Write *value* as JSON. Raises TypeError or ValueError for what JSON has no place for."""

    def loads(self, body: bytes, charset: str | None, /) -> object:
        """Read JSON. Raises ValueError for what is none; *charset* is the one that the content type names."""


class JsonCodec:
    """pydantic_core's JSON, about five times as fast as :mod:`json` on small messages.

    pydantic_core writes NaN and infinity, which are no JSON, or null in their place where they hide in a model;
    and it does not read or write lone surrogates, nesting deeper than 200, or a byte order mark: the first are
    refused here, and for the others :mod:`json` is asked before giving up.
    """

    def dumps(self, value: object, /) -> bytes:
        try:
            body = to_json(value)
        except PydanticSerializationError:
            body = _dumps_slowly(value)
        # Looking for one byte first is several times as fast as looking for the words.
        if (LETTER_N in body and b"NaN" in body) or (LETTER_I in body and b"Infinity" in body):
            # Seldom: the words may also stand in a string, which only a parser can tell; one that makes no ints, here and below,
            # since Python refuses those of thousands of digits.
            json.loads(body, parse_constant=_refuse_constant, parse_int=str)
        if LETTER_U in body and LETTER_L in body and body.find(b"null") >= 0 and not _is_plain(value):
            # A NaN that hides in a model was written as null, as if the caller had said None.
            _refuse_hidden(value, body)
        return body

    def loads(self, body: bytes, charset: str | None = None, /) -> object:
        try:
            return from_json(body)
        except ValueError:
            return _loads_slowly(body, charset)


def _dumps_slowly(value: object) -> bytes:
    try:
        try:
            return _SLOW.encode(value).encode()
        except TypeError as problem:
            if not str(problem).startswith("keys must be"):
                raise
            # Keys that are no strings, which pydantic_core writes and json does not.
            refuse_read_once(value)
            return _STRICT.encode(to_jsonable_python(value, fallback=_plain)).encode()
    except RecursionError:
        raise ValueError("the value is nested too deeply, or in a circle") from None
    except (TypeError, ValueError) as problem:
        raise _reason(problem) from None


def _reason(problem: Exception) -> TypeError | ValueError:
    text = str(problem)
    if text.startswith("Out of range float"):
        return ValueError(NOT_FINITE)
    # The second is said by pydantic_core where a serializer of the user's own calls it.
    return TypeError(text) if isinstance(problem, TypeError) or text.startswith("Unable to serialize unknown type") else ValueError(text)


NOT_FINITE = "NaN and infinity have no place in JSON; send null or a string instead"


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(NOT_FINITE)


def _is_plain(value: Any) -> bool:
    kind = type(value)
    if kind is dict:
        value = value.values()
    elif kind is not list and kind is not tuple:
        return kind in SCALARS
    for item in value:  # noqa: SIM110 - all() with a generator takes twice as long
        if type(item) not in SCALARS and not _is_plain(item):
            return False
    return True


def _refuse_hidden(value: object, body: bytes) -> None:
    try:
        hidden = _became_null(_ANY.to_python(value), json.loads(body, parse_int=str))
    except (ValueError, RecursionError):
        # Deeper than pydantic_core goes.
        return
    if hidden:
        raise ValueError(NOT_FINITE)


def _became_null(value: Any, written: Any) -> bool:
    """Whether a NaN or an infinity in *value* is a null in what was written of it."""
    if isinstance(value, enum.Enum):
        value = value.value
    if isinstance(value, float):
        return written is None and not math.isfinite(value)
    if isinstance(value, Mapping) and isinstance(written, dict):
        return any(map(_became_null, value.values(), written.values()))
    if isinstance(value, Collection) and isinstance(written, list):
        return any(map(_became_null, value, written))
    return False


def refuse_read_once(value: object) -> None:
    """For what may have been written before: what of it can be read only once may be empty now, and would be sent so.

    :raises TypeError: where an iterator is in it, among its items, values and fields.
    """
    found, seen = [value], set[int]()
    for one in found:
        if isinstance(one, Iterator):
            raise TypeError(f"a {type(one).__name__} can be read only once; write list(...) around it")
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, Mapping):
            found += one.values()
        elif isinstance(one, (list, tuple, set, frozenset)):
            found += one
        elif dataclasses.is_dataclass(one) and not isinstance(one, type):
            found += [getattr(one, field.name, None) for field in dataclasses.fields(one)]
        elif hasattr(type(one), "__pydantic_serializer__"):
            found += vars(one).values()


def _jsonable(value: object) -> object:
    # pydantic_core may have taken items from it before it gave up.
    refuse_read_once(value)
    return to_jsonable_python(value, fallback=_plain)


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence):
        return list(value)
    if value is UNSET.value:
        raise TypeError("UNSET stands for what is not given, and cannot be sent; leave it out")
    raise TypeError(f"Unable to serialize unknown type: {type(value)}")


_ANY = SchemaSerializer(core_schema.any_schema())
_STRICT = json.JSONEncoder(allow_nan=False, separators=(",", ":"))
_SLOW = json.JSONEncoder(allow_nan=False, separators=(",", ":"), default=_jsonable)


# What IANA or a vendor registered. Of what else Python can decode, punycode takes time in the square of the length (5 s for 250 kB),
# and unicode_escape warns; and a name that it does not know stays in its tables for good.
CHARSETS = frozenset({*encodings.aliases.aliases, *encodings.aliases.aliases.values(), "cp720", "cp737", "cp874", "koi8_t", "koi8_u", "utf_8_sig"})


def decoded(body: bytes, charset: str) -> str:
    """*body* in a charset that a server names.

    :raises ValueError: where the charset is not known, or *body* is not written in it.
    """
    try:
        if encodings.normalize_encoding(charset).lower() in CHARSETS:
            return body.decode(charset)
    except LookupError:
        # Those that turn bytes into bytes.
        pass
    raise ValueError("in an unknown charset")


def _loads_slowly(body: bytes, charset: str | None) -> object:
    try:
        return json.loads(body if charset is None else decoded(body, charset))
    except RecursionError:
        raise ValueError("nested too deeply") from None
