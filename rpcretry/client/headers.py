"""HTTP headers that a caller gives."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TypeAlias

from ..transport import Headers

__all__ = ["HeadersLike", "as_headers", "merged"]

HeadersLike: TypeAlias = "Mapping[str, str] | Iterable[tuple[str, str]]"

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_FORBIDDEN = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def as_headers(name: str, value: object) -> Headers | None:
    """Refuse headers that cannot be sent. No message shows a value: it may be a secret.

    :raises TypeError: for names and values that are no str.
    :raises ValueError: for control characters, with which a value could add headers of its own.
    """
    if value is None:
        return None
    if isinstance(value, str) or not isinstance(value, (Mapping, Iterable)):
        raise TypeError(f"{name} must be a mapping from str to str, got {type(value).__name__}")
    pairs = list(value.items()) if isinstance(value, Mapping) else list(value)
    for pair in pairs:
        if not (isinstance(pair, tuple) and len(pair) == 2):
            raise TypeError(f"{name} must be a mapping from str to str, or pairs of them, got an item of type {type(pair).__name__}")
        field, content = pair
        if not isinstance(field, str):
            raise TypeError(f"{name}: the names of headers must be str, got {type(field).__name__} {field!r:.40}")
        if field.lower() in ("content-length", "transfer-encoding"):
            raise ValueError(f"{name}: {field} is set by the HTTP library, to what the body is; leave it out")
        if not _NAME.match(field):
            raise ValueError(f"{name}: {field!r:.40} is no name of a header")
        if not isinstance(content, str):
            raise TypeError(f"{name}: the value of {field} must be a str, got {type(content).__name__}; write str(...) around it")
        if _FORBIDDEN.search(content):
            raise ValueError(f"{name}: the value of {field} holds a control character, such as a line break")
        if content != content.strip():
            raise ValueError(f"{name}: the value of {field} begins or ends with a space; strip it")
        # Compared and not encoded: an encoder's error would show the value.
        if any(char > "\xff" for char in content):
            raise ValueError(f"{name}: the value of {field} holds characters beyond Latin-1, which HTTP does not carry")
    return Headers(pairs)


def merged(first: Headers | None, second: Headers | None) -> Headers | None:
    """Both, the second winning. A second of ``None`` drops the first."""
    return second if first is None or second is None else first.updated(second)
