"""JSON in and out with every number as it was written: servers send amounts that a float would round."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NoReturn

from .._json import decoded

__all__ = ["ExactCodec", "Written", "read", "read_all", "write"]

# Python refuses to make ints of more digits than 4300, or of as many as the environment says; its least is 640.
DIGITS = 600

_SPACE = re.compile(r"[ \t\r\n]*")

# No UTF-8 has lone surrogates, and terminals act on the others; all may stand escaped in JSON.
_ESCAPED = re.compile("[\ud800-\udfff\x7f-\x9f]")


class Written(float):
    """A number that keeps its spelling.

    :ivar text: how it was written.
    """

    __slots__ = ("text",)

    text: str

    def __new__(cls, text: str) -> Written:
        number = super().__new__(cls, text)
        number.text = text
        return number


def _whole(text: str) -> int | Written:
    return Written(text) if len(text) > DIGITS or text == "-0" else int(text)


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON; send null or a string instead")


_DECODER = json.JSONDecoder(parse_float=Written, parse_int=_whole, parse_constant=_refuse)


def read(text: str) -> Any:
    """The value that *text* is.

    :raises ValueError: where it is no JSON; a :class:`json.JSONDecodeError` says where.
    """
    try:
        return _DECODER.decode(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_all(text: str) -> Iterator[tuple[int, Any]]:
    """The values that *text* holds one after the other, such as JSON lines, each with the number of its line, from 1.

    :raises ValueError: naming the line of what is no JSON.
    """
    position, line = 0, 1
    while (start := _next(text, position)) < len(text):
        line += text.count("\n", position, start)
        try:
            value, position = _DECODER.raw_decode(text, start)
        except json.JSONDecodeError as problem:
            raise ValueError(f"line {problem.lineno} is no JSON: {problem.msg} at column {problem.colno}") from None
        except RecursionError:
            raise ValueError(f"line {line} is nested too deeply") from None
        except ValueError as problem:
            raise ValueError(f"line {line} is no JSON: {problem}") from None
        yield line, value
        line += text.count("\n", start, position)


def _next(text: str, position: int) -> int:
    space = _SPACE.match(text, position)
    return position if space is None else space.end()


def write(value: object, indent: int | None = None) -> str:
    """*value* as JSON, without a line break at the end.

    :param indent: spaces for each level; ``None`` for one line.
    """
    pieces: list[str] = []
    # Not by recursion: what the parser could read, this has to write.
    pending: list[tuple[Iterator[tuple[str, object]], str]] = []
    item = value
    while True:
        if isinstance(item, dict) and item:
            pieces.append("{")
            pending.append((_members(item, indent), "}"))
            begins = True
        elif isinstance(item, (list, tuple)) and item:
            pieces.append("[")
            pending.append(((("", each) for each in item), "]"))
            begins = True
        else:
            pieces.append(_scalar(item))
            begins = False
        while pending:
            items, closer = pending[-1]
            following = next(items, None)
            if following is not None:
                label, item = following
                pieces += ["" if begins else ",", _line(indent, len(pending)), label]
                break
            pending.pop()
            pieces += [_line(indent, len(pending)), closer]
            begins = False
        else:
            return "".join(pieces)


def _members(item: dict[str, object], indent: int | None) -> Iterator[tuple[str, object]]:
    colon = ":" if indent is None else ": "
    return ((_scalar(name) + colon, value) for name, value in item.items())


def _line(indent: int | None, depth: int) -> str:
    return "" if indent is None else "\n" + " " * (indent * depth)


def _scalar(item: object) -> str:
    if isinstance(item, Written):
        return item.text
    text = json.dumps(item, ensure_ascii=False, allow_nan=False)
    return _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", text) if isinstance(item, str) else text


class ExactCodec:
    """For a client whose results are printed.

    :ivar last: the document that was read last; ``None`` before.
    :ivar answers: the answers in all documents, by id; a later one takes the place of an earlier.
    """

    def __init__(self) -> None:
        self.last: Any = None
        self.answers: dict[int | str, dict[str, Any]] = {}

    def dumps(self, value: object, /) -> bytes:
        return write(value).encode()

    def loads(self, body: bytes, charset: str | None, /) -> object:
        text = decoded(body, charset) if charset is not None else body.decode(json.detect_encoding(body), "surrogatepass")
        self.last = document = read(text)
        for answer in document if isinstance(document, list) else [document]:
            if isinstance(answer, dict) and type(answer.get("id")) in (int, str):
                self.answers[answer["id"]] = answer
        return document
