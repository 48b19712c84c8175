"""What the fuzzers begin with: answers of real servers, documents written by hand, and the bytes that parsers trip over."""

from __future__ import annotations

import codecs
import json
from pathlib import Path

__all__ = ["INTERESTING", "NAMES", "VALUES", "hand_made", "recorded", "seeds"]

DATA = Path(__file__).parent.parent / "data"

DEEP = 100_000
DIGITS = 4301

HAND_MADE: tuple[object, ...] = (
    {"jsonrpc": "2.0", "id": 1, "result": 19},
    {"jsonrpc": "2.0", "id": 1, "result": None},
    {"jsonrpc": "2.0", "id": 1, "result": {"name": "Ada", "born": 1815, "tags": ["a", "b"]}},
    {"jsonrpc": "2.0", "id": 1, "result": [0, -0.0, 1.5, 1e300, 10**30, "é\U0001f600", True]},
    {"jsonrpc": "2.0", "id": "b", "result": "for b"},
    {"jsonrpc": "2.0", "id": 1},
    {"jsonrpc": "2.0", "id": 1, "error": None},
    {"jsonrpc": "2.0", "id": 1, "result": None, "error": {"code": -32601, "message": "Method not found"}},
    {"jsonrpc": "2.0", "id": 1, "result": 3, "error": None},
    {"jsonrpc": "2.0", "id": 1, "error": {"code": -32000, "message": "busy", "data": {"retry_after": 2, "rate": {"backoff_seconds": 1}}}},
    {"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": "Parse error"}},
    {"jsonrpc": "2.0", "error": {"code": -32600, "message": "Invalid Request"}},
    {"id": 1, "result": 3},
    {"jsonrpc": "1.0", "id": 1, "result": 3},
    {"id": 1, "error": "busy"},
    {"id": 1, "error": {"code": "-32050", "message": {"a": [1]}}},
    {"id": 1, "error": {"message": "no code"}},
    {"error": {"code": 503, "message": "unavailable"}},
    [{"jsonrpc": "2.0", "id": 1, "result": "one"}, {"jsonrpc": "2.0", "id": "b", "result": "bee"}, {"jsonrpc": "2.0", "id": 2, "result": "two"}],
    [{"jsonrpc": "2.0", "id": 2, "result": 2}, {"jsonrpc": "2.0", "id": "b", "error": {"code": 5, "message": "no"}}, {"jsonrpc": "2.0", "id": 1, "result": 1}],
    [{"jsonrpc": "2.0", "id": 1, "result": "one"}, {"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": "Invalid Request"}}],
    [{"jsonrpc": "2.0", "id": 1, "result": "one"}, {"jsonrpc": "2.0", "id": 1, "result": "again"}],
    [{"jsonrpc": "2.0", "id": 1, "result": 7}],
    [],
    {},
    {"detail": "Not Found"},
)
RAW: tuple[bytes, ...] = (
    b"",
    b" \r\n",
    b"null",
    b"<html><title>502 Bad Gateway</title></html>",
    b'data: {"jsonrpc":"2.0","id":1,"result":3}\n\n',
    b'{"jsonrpc":"2.0","id":1,"result":1e400}',
    b'{"jsonrpc":"2.0","id":1,"result":"\\ud800"}',
    b'{"jsonrpc":"2.0","id":1,"result":1,"result":2}',
    b'{"jsonrpc":"2.0","id":2,"id":1,"result":3}',
    b'{"jsonrpc":"2.0","id":1,"error":{"code":1e400,"message":"m"}}',
)

# Names that mean something to Python, to pydantic or to JavaScript.
NAMES = (
    "id",
    "result",
    "error",
    "jsonrpc",
    "code",
    "message",
    "data",
    "params",
    "__proto__",
    "__class__",
    "__dict__",
    "constructor",
    "self",
    "",
    "a\x00b",
    "é",
)

VALUES: tuple[object, ...] = (
    None,
    True,
    False,
    0,
    1,
    -1,
    2,
    1.0,
    -0.0,
    0.5,
    float("nan"),
    float("inf"),
    float("-inf"),
    10**30,
    -(10**4299),
    2**53 + 1,
    2**63,
    "",
    "1",
    "b",
    " 1",
    "\x00",
    "\ud800",
    "\n\r\x1b[31m",
    "x" * 300,
    "-32601",
    "٣",
    -32700,
    -32601,
    -32601.0,
    -32005,
    429,
    [],
    [1],
    [[]],
    {},
    {"id": 1},
    {"code": 1, "message": "m"},
    {"code": None},
    {"message": "m"},
    {"__proto__": {"id": 1}},
)

INTERESTING: tuple[bytes, ...] = (
    codecs.BOM_UTF8,
    codecs.BOM_UTF16_LE,
    codecs.BOM_UTF16_BE,
    codecs.BOM_UTF32_LE,
    b"\x00",
    b"\xff",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\\ud800",
    b"\\udc00\\ud800",
    b"\\u0000",
    b"\\",
    b'"',
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"1e400",
    b"-1e400",
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b"-0",
    b"1e-400",
    b"9" * 19,
    b"9" * 400,
    b"null",
    b"true",
    b"1.0",
    b'"1"',
    b'"id":1,',
    b'"id":"b",',
    b'"result":0,',
    b'"error":null,',
    b'"error":{},',
    b"\r\n",
    b"//",
    b"/*",
    b"\x1b",
)
# Seldom, since each costs a millisecond.
HUGE: tuple[bytes, ...] = (
    b"9" * DIGITS,
    b"-" + b"9" * (DIGITS - 1),
    b"0." + b"1" * DIGITS,
    b"[" * DEEP,
    b'{"a":' * DEEP,
    b"[" * 300 + b"]" * 300,
    b"[" * 500 + b"]" * 500,
    b'{"id":' * 400 + b"1" + b"}" * 400,
    b'"' + b"\\u00e9" * DIGITS + b'"',
)


def recorded() -> list[bytes]:
    """The bodies in ``tests/data`` that are not too long to mutate a million times."""
    found: dict[bytes, None] = {}
    for path in sorted(DATA.glob("*.json")):
        if path.stem != "outcomes":
            for one in json.loads(path.read_text()):
                body = one["body"].encode()
                if len(body) < 2000:
                    found[body] = None
    return list(found)


def hand_made() -> list[bytes]:
    """The documents above."""
    return [json.dumps(document).encode() for document in HAND_MADE] + list(RAW)


def seeds() -> list[bytes]:
    """All bodies that the mutators begin with."""
    return hand_made() + recorded()
