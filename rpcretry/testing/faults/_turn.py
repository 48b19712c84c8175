"""One request and what is done with it: toxics write here what the connection then does."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple, TypeAlias

from ..._unset import UNSET
from ...transport import Headers
from ..server import Received
from ._toxic import Ending

__all__ = ["Arrival", "Stream", "Turn"]

Fields: TypeAlias = "list[tuple[str, str]]"

REASONS: Final = {200: "OK", 204: "No Content", 302: "Found", 404: "Not Found", 429: "Too Many Requests", 500: "Internal Server Error"}
BUFFER: Final = 65_536
LONG_LINE: Final = 100_000_000
# Where an answer can end early, in the order of its bytes.
PLACES: Final = ("head", "body", "end")


class Call(NamedTuple):
    """A request in the JSON-RPC sense, as it arrived."""

    method: str
    params: str
    id: object = UNSET


class Arrival(Received):
    """A request as it arrived, for functions that choose its toxics.

    :ivar number: the number of the request on this server, from 1.
    :ivar place: the number of the request on its connection, from 1.
    :ivar calls: its members, the only one of a single call: ``(method, params, id)``, where params are JSON, without spaces
        and with sorted keys, and the id of a notification is :data:`~rpcretry.UNSET`. Empty where the body is no JSON-RPC.
    :ivar document: the body, parsed; UNSET where it is no JSON.
    """

    __slots__ = ("calls", "document", "number", "place")

    def __init__(self, number: int, connection: int, place: int, method: str, path: str, headers: Headers, body: bytes = b"") -> None:
        super().__init__(method, path, headers, body, connection)
        self.number = number
        self.place = place
        self.calls: tuple[Call, ...] = ()
        self.document: object = UNSET

    @property
    def id(self) -> object:
        """The first id that asks for an answer, or ``None``."""
        return next((call.id for call in self.calls if call.id is not UNSET), None)


class Stream(NamedTuple):
    """A body that is never held in memory.

    :ivar size: its bytes.
    :ivar make: an iterator of its pieces.
    """

    size: int
    make: Callable[[], Iterator[bytes]]


class Cut(NamedTuple):
    """Where the answer ends early, and how."""

    place: str
    fraction: float
    ending: Ending


class Dripping(NamedTuple):
    interval: float
    size: int


@dataclasses.dataclass(slots=True)
class Turn:
    """What is done with one request. Toxics write into it.

    :ivar arrival: the request.
    :ivar random: where all that is drawn for this request comes from.
    :ivar url: the server's own.
    :ivar previous: the last document that was meant for this connection, before this one.
    :ivar elsewhere: the last document that was meant for another connection.
    :ivar wait_before: seconds before the execution, and ``wait_after`` after it.
    :ivar document: the answer, from the stage ``ANSWER`` on; :data:`~rpcretry.UNSET` where none is due or nothing was executed.
    :ivar body: the body, from the stage ``BODY`` on: bytes, or a stream that is never held in memory.
    :ivar status: the HTTP status.
    :ivar version: ``HTTP/1.1`` or ``HTTP/1.0``.
    :ivar fields: the headers but for those of the framing, names and values, which may repeat.
    :ivar raw_lines: lines among the headers, to the byte.
    :ivar framing: ``length``, ``chunked``, or ``close`` for a body that ends where the connection does.
    :ivar interim: statuses of informational answers before this one.
    :ivar before: whole answers before this one, and ``after`` behind it, to the byte.
    :ivar garbage: bytes in place of the answer, or ``None``.
    """

    arrival: Arrival
    random: random.Random
    url: str
    previous: object = UNSET
    elsewhere: object = UNSET
    # Before the answer.
    stops: dict[str, Ending] = dataclasses.field(default_factory=dict)
    wait_before: float = 0.0
    wait_after: float = 0.0
    refuse_for: float | None = None
    slow_accept: float = 0.0
    # The answer.
    document: object = UNSET
    status: int = 200
    version: str = "HTTP/1.1"
    fields: Fields = dataclasses.field(default_factory=list)
    raw_lines: list[bytes] = dataclasses.field(default_factory=list)
    body: bytes | Stream = b""
    framing: str = "length"
    lengths: Callable[[int], Sequence[str]] | None = None
    chunk_size: int = 65_536
    chunk_extension: bytes = b""
    chunk_fault: str = ""
    interim: list[int] = dataclasses.field(default_factory=list)
    before: list[bytes] = dataclasses.field(default_factory=list)
    after: list[bytes] = dataclasses.field(default_factory=list)
    garbage: bytes | None = None
    # The delivery.
    drips: dict[str, Dripping] = dataclasses.field(default_factory=dict)
    cut: Cut | None = None
    idle_limit: float | None = None

    @property
    def is_batch(self) -> bool:
        """Whether a list of answers is due."""
        return isinstance(self.arrival.document, list)

    @property
    def is_answered(self) -> bool:
        """Whether an answer is due at all."""
        return any(call.id is not UNSET for call in self.arrival.calls)

    @property
    def is_long(self) -> bool:
        """Whether the answer is never to be held in memory."""
        return not isinstance(self.body, bytes) or self.chunk_fault == "line"

    @property
    def is_bodiless(self) -> bool:
        """Whether it has no body by its status, so that nothing is to be framed."""
        return self.status == 204 and not self.body

    def stop(self, place: str, ending: Ending) -> None:
        """End the turn at a place before the answer, or cut the answer there."""
        if place not in PLACES:
            self.stops.setdefault(place, ending)
            return
        self.cut_at(place, 1.0 if place == "end" else 0.5, ending)

    def cut_at(self, place: str, fraction: float, ending: Ending) -> None:
        """End the answer early, unless it ends earlier still."""
        if self.cut is None or (PLACES.index(place), fraction) < (PLACES.index(self.cut.place), self.cut.fraction):
            self.cut = Cut(place, fraction, ending)

    def head(self, size: int) -> bytes:
        """Status line and headers of a body of that size."""
        fields = list(self.fields)
        if not self.is_bodiless:
            if self.framing == "chunked":
                fields.append(("Transfer-Encoding", "chunked"))
            if self.lengths is not None:
                fields += (("Content-Length", value) for value in self.lengths(size))
            elif self.framing == "length":
                fields.append(("Content-Length", str(size)))
        if self.framing == "close" and self.version == "HTTP/1.1":
            fields.append(("Connection", "close"))
        lines = b"".join(f"{name}: {value}\r\n".encode("latin-1", "replace") for name, value in fields)
        raw = b"".join(line + b"\r\n" for line in self.raw_lines)
        first = f"{self.version} {self.status} {REASONS.get(self.status, 'Whatever')}\r\n"
        return b"".join(f"HTTP/1.1 {status} Wait\r\n\r\n".encode() for status in self.interim) + first.encode() + lines + raw + b"\r\n"

    def wire(self) -> Iterator[tuple[str, bytes]]:
        """All bytes of the answer, as far as it is sent: of the ``head`` and of the ``body``."""
        cut = self.cut
        if self.version == "HTTP/1.0":
            # It knows no chunks.
            self.framing = "close"
        size = len(self.body) if isinstance(self.body, bytes) else self.body.size
        head = self.head(size) if self.garbage is None else self.garbage
        if cut is not None and cut.place == "head":
            head = head[: len(head) // 2]
        yield "head", b"".join(self.before) + head
        if self.garbage is not None or (cut is not None and cut.place == "head"):
            return
        left = int(size * cut.fraction) if cut is not None and cut.place == "body" else None
        for piece in self._pieces():
            if left is None:
                yield "body", piece
                continue
            if left <= 0:
                return
            yield "body", piece[:left]
            left -= len(piece)

    def _pieces(self) -> Iterator[bytes]:
        if self.is_bodiless:
            return iter(())
        data = iter((self.body,)) if isinstance(self.body, bytes) else self.body.make()
        return data if self.framing != "chunked" else self._chunks(data)

    def _chunks(self, data: Iterator[bytes]) -> Iterator[bytes]:
        fault = self.chunk_fault
        if fault == "line":
            yield b"5;"
            for _ in range(LONG_LINE // BUFFER):
                yield b"x" * BUFFER
        for piece in data:
            for start in range(0, len(piece), self.chunk_size):
                part = piece[start : start + self.chunk_size]
                size = {"size": b"zz", "huge": b"f" * 17, "negative": b"-5"}.get(fault, b"%x" % len(part))
                yield size + self.chunk_extension + b"\r\n" + part + (b"" if fault == "crlf" else b"\r\n")
        if fault != "end":
            yield b"0\r\n\r\n" + (b"trailing garbage\r\n" if fault == "trailing" else b"")


def encoded(document: object) -> bytes:
    """A document as bytes."""
    return json.dumps(document).encode()


def plain_answer(document: object) -> bytes:
    """A whole and correct HTTP answer."""
    body = encoded(document)
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
