"""Toxics of status lines, headers and framing."""

from __future__ import annotations

import dataclasses
import datetime
import email.utils
from collections.abc import Callable, Sequence
from typing import ClassVar, Final

from ..._check import count, number, text
from ._toxic import Stage, Toxic, choice, flag
from ._turn import Turn

__all__ = ["BadChunks", "Chunked", "ContentLength", "Http10", "Interim", "InvalidHeader", "LongHeader", "NoLength", "Redirect", "RetryAfter", "Status"]

PAGE: Final = "<!DOCTYPE html>\n<html><head><title>{status}</title></head><body><h1>{status}</h1><hr>a server</body></html>\n"


@dataclasses.dataclass(frozen=True)
class Status(Toxic):
    """An HTTP status.

    :param status: from 200 to 599.
    :param body: an ``html`` page, ``text``, ``json`` that is no JSON-RPC, ``empty``, or the JSON-RPC ``answer`` as it is.
    :param retry_after: seconds, or what the header says, to the letter; for its other forms list a :class:`RetryAfter` beside this.
    :param executed: whether the request is executed before; ``None`` for a status below 400 or an ``answer``, and not for others.
    """

    status: int = 503
    body: str = "html"
    retry_after: float | str | None = None
    executed: bool | None = None
    _stage: ClassVar[Stage] = Stage.BODY

    def __post_init__(self) -> None:
        if count("status", self.status, least=200) > 599:
            raise ValueError(f"status must be at most 599, got {self.status}; informational ones are Interim({self.status})")
        choice("body", self.body, ("html", "text", "json", "empty", "answer"))
        if not isinstance(self.retry_after, (str, type(None))):
            number("retry_after", self.retry_after)
        if self.executed is not None:
            flag("executed", self.executed)
        if self.executed is False and self.body == "answer":
            raise ValueError("executed cannot be False with body='answer'; nothing would be there to answer with")

    @property
    def harmless(self) -> bool:
        return self.body == "answer" and self.status < 300

    @property
    def executes(self) -> bool:
        return self.executed if self.executed is not None else self.status < 400 or self.body == "answer"

    def fits(self, turn: Turn) -> bool:
        return self.body != "answer" or turn.is_answered

    def apply(self, turn: Turn) -> bool:
        turn.status = self.status
        if self.retry_after is not None:
            turn.fields.append(("Retry-After", self.retry_after if isinstance(self.retry_after, str) else f"{self.retry_after:.15g}"))
        if self.body == "answer":
            return True
        kinds = {"html": "text/html; charset=utf-8", "json": "application/json"}
        turn.fields[:] = [("Content-Type", kinds.get(self.body, "text/plain")), *(field for field in turn.fields if field[0] != "Content-Type")]
        turn.body = {
            "html": PAGE.format(status=self.status).encode(),
            "text": f"{self.status}\n".encode(),
            "json": b'{"message": "no JSON-RPC", "status": %d}' % self.status,
        }.get(self.body, b"")
        return True


def _date(seconds: float, form: str) -> str:
    # RFC 9110, section 5.6.7: recipients must know all three. strftime's names of days are the locale's.
    when = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)
    standard = email.utils.format_datetime(when, usegmt=True)
    day, month = standard[:3], standard[8:11]
    if form == "rfc850":
        days = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
        return f"{days[when.weekday()]}, {when:%d}-{month}-{when:%y %H:%M:%S} GMT"
    return f"{day} {month} {when.day:2} {when:%H:%M:%S %Y}" if form == "asctime" else standard


AFTER: Final[dict[str, Callable[[float], Sequence[str]]]] = {
    "seconds": lambda seconds: [f"{seconds:.0f}"],
    "imf": lambda seconds: [_date(seconds, "imf")],
    "rfc850": lambda seconds: [_date(seconds, "rfc850")],
    "asctime": lambda seconds: [_date(seconds, "asctime")],
    "past": lambda seconds: [_date(-3600 - seconds, "imf")],
    "negative": lambda seconds: [f"-{seconds + 1:.0f}"],
    "float": lambda seconds: [f"{seconds:.3f}"],
    "words": lambda seconds: ["in a moment"],
    "empty": lambda seconds: [""],
    "huge": lambda seconds: ["9" * 40],
    "twice": lambda seconds: [f"{seconds:.0f}", f"{seconds + 1:.0f}"],
}


@dataclasses.dataclass(frozen=True)
class RetryAfter(Toxic):
    """A Retry-After header in one of its forms. It goes with a :class:`Status`; a 200 may carry it, too, and then it means nothing.

    :param form: legal are ``seconds``, the three forms of dates that RFC 9110 lists, ``imf``, ``rfc850`` and ``asctime``, and a date in the
        ``past``; illegal are ``negative``, ``float``, ``words``, ``empty``, ``huge`` (40 digits) and ``twice``.
    :param seconds: how long to wait. Dates are of whole seconds.
    """

    form: str = "seconds"
    seconds: float = 0
    _stage: ClassVar[Stage] = Stage.HEAD
    _harmless: ClassVar[bool] = True

    def __post_init__(self) -> None:
        choice("form", self.form, tuple(AFTER))
        number("seconds", self.seconds, least=0, most=1e9)

    def apply(self, turn: Turn) -> bool:
        turn.fields += (("Retry-After", value) for value in AFTER[self.form](self.seconds))
        return True


@dataclasses.dataclass(frozen=True)
class Redirect(Toxic):
    """A redirect, which has no end: to this server, or to a host that does not exist.

    :param to: ``self``, ``elsewhere``, or a URL.
    :param status: 301, 302, 303, 307 or 308.
    :param executed: whether the request is executed before.
    """

    to: str = "self"
    status: int = 302
    executed: bool = False
    _stage: ClassVar[Stage] = Stage.BODY

    def __post_init__(self) -> None:
        text("to", self.to)
        flag("executed", self.executed)
        if count("status", self.status) not in (301, 302, 303, 307, 308):
            raise ValueError(f"status must be 301, 302, 303, 307 or 308, got {self.status!r:.60}")

    @property
    def executes(self) -> bool:
        return self.executed

    def apply(self, turn: Turn) -> bool:
        turn.status = self.status
        turn.fields.append(("Location", {"self": turn.url, "elsewhere": "http://elsewhere.invalid/rpc"}.get(self.to, self.to)))
        turn.body = b""
        return True


LENGTHS: Final[dict[str, Callable[[int], Sequence[str]]]] = {
    "large": lambda size: [str(size + 10)],
    "small": lambda size: [str(max(0, size - 10))],
    "negative": lambda size: ["-1"],
    "garbage": lambda size: ["many"],
    "twice": lambda size: [str(size), str(size + 10)],
    "missing": lambda size: [],
}


@dataclasses.dataclass(frozen=True)
class ContentLength(Toxic):
    """Lies about the length of the body, and leaves the connection open.

    :param kind: 10 bytes too ``large`` or too ``small``; ``negative``; ``garbage``; ``twice``, with different values; or ``missing``.
    """

    kind: str = "large"
    _stage: ClassVar[Stage] = Stage.HEAD

    def __post_init__(self) -> None:
        choice("kind", self.kind, tuple(LENGTHS))

    def apply(self, turn: Turn) -> bool:
        turn.lengths = LENGTHS[self.kind]
        return True


@dataclasses.dataclass(frozen=True)
class NoLength(Toxic):
    """Ends the body by closing the connection, and says so with ``Connection: close``, as HTTP allows."""

    _stage: ClassVar[Stage] = Stage.HEAD
    _harmless: ClassVar[bool] = True

    def apply(self, turn: Turn) -> bool:
        turn.framing = "close"
        return True


@dataclasses.dataclass(frozen=True)
class Http10(Toxic):
    """Answers as HTTP/1.0 does: without a length, and the connection closes."""

    _stage: ClassVar[Stage] = Stage.HEAD
    _harmless: ClassVar[bool] = True

    def apply(self, turn: Turn) -> bool:
        turn.version, turn.framing = "HTTP/1.0", "close"
        return True


@dataclasses.dataclass(frozen=True)
class Chunked(Toxic):
    """Sends the body in chunks, as HTTP allows.

    :param size: bytes of a chunk.
    :param extension: whether chunks carry an extension, which HTTP allows as well.
    """

    size: int = 7
    extension: bool = False
    _stage: ClassVar[Stage] = Stage.HEAD
    _harmless: ClassVar[bool] = True

    def __post_init__(self) -> None:
        count("size", self.size, least=1)
        flag("extension", self.extension)

    def apply(self, turn: Turn) -> bool:
        turn.framing, turn.chunk_size = "chunked", self.size
        turn.chunk_extension = b';name="value"' if self.extension else b""
        return True


@dataclasses.dataclass(frozen=True)
class BadChunks(Toxic):
    """Sends the body in chunks that are none.

    :param kind: the ``size`` is no number, ``huge`` (17 digits) or ``negative``; no line ends a chunk (``crlf``); the last chunk is missing
        (``end``), while the connection stays open; garbage follows the last one (``trailing``); or the line of a size has no end for 100 MB
        (``line``).
    """

    kind: str = "size"
    _stage: ClassVar[Stage] = Stage.HEAD

    def __post_init__(self) -> None:
        choice("kind", self.kind, ("size", "huge", "negative", "crlf", "end", "trailing", "line"))

    def apply(self, turn: Turn) -> bool:
        turn.framing, turn.chunk_fault = "chunked", self.kind
        return True


@dataclasses.dataclass(frozen=True)
class Interim(Toxic):
    """Sends informational answers before the final one, as HTTP allows.

    :param status: 100, 102 or 103.
    :param times: how many.
    """

    status: int = 103
    times: int = 1
    _stage: ClassVar[Stage] = Stage.HEAD
    _harmless: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if count("status", self.status) not in (100, 102, 103):
            raise ValueError(f"status must be 100, 102 or 103, got {self.status!r:.60}")
        count("times", self.times, least=1)

    def apply(self, turn: Turn) -> bool:
        turn.interim += [self.status] * self.times
        return True


LINES: Final[dict[str, bytes]] = {
    "no colon": b"this is no header",
    "no name": b": value",
    "space": b"X-Space : value",
    "folded": b"X-Folded: one\r\n two",
    "null": b"X-Null: a\0b",
    "carriage return": b"X-Return: a\rb",
    "bytes": b"X-Bytes: \xff\xfe\x80",
}


@dataclasses.dataclass(frozen=True)
class InvalidHeader(Toxic):
    """Sends a header line that is none. Clients may refuse the answer, or read past the line.

    :param kind: ``no colon``, ``no name``, a ``space`` before the colon, a ``folded`` value, a ``null`` byte, a lone ``carriage return``, or
        ``bytes`` that are no UTF-8.
    """

    kind: str = "no colon"
    _stage: ClassVar[Stage] = Stage.HEAD

    def __post_init__(self) -> None:
        choice("kind", self.kind, tuple(LINES))

    def apply(self, turn: Turn) -> bool:
        turn.raw_lines.append(LINES[self.kind])
        return True


@dataclasses.dataclass(frozen=True)
class LongHeader(Toxic):
    """Sends long headers. Clients may refuse the answer.

    :param size: bytes of the value of each.
    :param times: how many.
    """

    size: int = 100_000
    times: int = 1
    _stage: ClassVar[Stage] = Stage.HEAD

    def __post_init__(self) -> None:
        count("size", self.size, least=1)
        count("times", self.times, least=1)

    def apply(self, turn: Turn) -> bool:
        turn.raw_lines += [b"X-Long: " + b"x" * self.size] * self.times
        return True
