"""HTTP answers with something wrong in them, at random and repeatable."""

from __future__ import annotations

import dataclasses
import gzip
import json
import random
import zlib
from collections.abc import Callable

from mutators import mutated

__all__ = ["COOKIE", "Plan", "clean", "document", "planned", "truth"]

# What the server means for the client alone.
COOKIE = "c00k1e-of-the-server"

Headers = list[tuple[bytes, bytes]]

NAMES = (
    b"X-Odd",
    b"",
    b" ",
    b"a b",
    b"\xe9t\xe9",
    b"\x00",
    b"X\x00Y",
    b"Content-Length ",
    b"x" * 9000,
    b":",
    b"\xf0\x9f\x98\x80",
    b"Set-Cookie",
    b"transfer-encoding",
    b"\x7f",
)
TEXTS = (
    b"",
    b" ",
    b"\x00",
    b"a\x00b",
    b"\xff\xfe",
    b"\xe9",
    b"x" * 9000,
    b"x" * 70_000,
    b"\tx",
    b"a\rb",
    b"a\nb",
    b"a\r\n folded",
    b'"',
    b"\x1b[2J",
    b"%",
    b",,,",
    b";;=;",
    b"\xed\xa0\x80",
)
STATUSES = [
    "000",
    "099",
    "99",
    "100",
    "101",
    "102",
    "103",
    "199",
    "200",
    "201",
    "204",
    "205",
    "206",
    "226",
    "299",
    "300",
    "301",
    "302",
    "303",
    "304",
    "307",
    "308",
    "400",
    "401",
    "403",
    "404",
    "407",
    "408",
    "413",
    "421",
    "425",
    "429",
    "451",
    "499",
    "500",
    "501",
    "502",
    "503",
]
STATUSES += ["504", "505", "511", "599", "600", "999", "1000", "2OO", "-200", "+200", "0x1F4", "20", "200.0", "٢٠٠", "nan", "", " 200"]
VERSIONS = (
    b"HTTP/1.1",
    b"HTTP/1.0",
    b"HTTP/0.9",
    b"HTTP/2.0",
    b"HTTP/9",
    b"HTTP/1.1 ",
    b"ICY",
    b"HTP/1.1",
    b"http/1.1",
    b"HTTP/01.1",
    b"",
    b"\x00HTTP/1.1",
    b"RTSP/1.0",
)
LENGTHS = (
    "0",
    "1",
    "-1",
    "abc",
    "1,1",
    "5, 5",
    "+5",
    "0x10",
    "",
    " ",
    "5;",
    "1e3",
    "٣",
    "99999999999",
    "18446744073709551616",
    "9" * 4301,
    "1.0",
    "1 1",
    "\x00",
    "00000005",
)
ENCODINGS = [
    "gzip",
    "x-gzip",
    "deflate",
    "br",
    "zstd",
    "compress",
    "identity",
    "GZIP",
    "Gzip",
    "gzip,gzip",
    "gzip,deflate",
    "br,gzip",
    "unknown",
    ",,",
    "none",
    "*",
    "gzip;q=1",
    "",
    " gzip ",
    "gzip, " * 500 + "gzip",
]
LOCATIONS = (
    "https://other.example/a?b",
    "/there",
    "",
    "//[::1",
    "http://[",
    "http://a:b:c",
    "\x00",
    "x" * 9000,
    "http://é/",
    "javascript:0",
    "http://u:p@h:99999999/",
)
COOKIES = (
    "a=b",
    "a=b; Path=/; Domain=example.com",
    "=",
    ";",
    "a",
    "a=b; expires=Mon, 99 Foo 99999 99:99:99 GMT",
    "a=b; Max-Age=x",
    "a=b; Max-Age=99999999999999999999",
    "\x00=\x01",
)
COOKIES += (
    "a=" + "x" * 5000,
    "é=é",
    'a=b; version=x; port="y"; secure; HttpOnly',
    "__Host-a=b",
    "a=b; Domain=.",
    "a=b; Domain=[",
    'a="b',
    "a=b; Path=é",
    "a=b; expires=Thu, 01 Jan 0000 00:00:00 GMT",
)
COOKIES += (f"sid={COOKIE}", f"sid={COOKIE}\x00", f"sid={COOKIE}" + "x" * 9000, f"sid={COOKIE}\r\nodd line {COOKIE}")
AFTER = (
    "0",
    "1",
    "0.001",
    "-1",
    "1e9",
    "nan",
    "inf",
    "99999999999999999999",
    "Thu, 01 Jan 1970 00:00:00 GMT",
    "Fri, 31 Dec 9999 23:59:59 GMT",
    "Mon, 99 Foo 0000",
    "x",
    "",
    "٣",
    "\x00",
    "Thu, 01 Jan 1970 00:00:00 +9999",
)
TYPES = (
    "application/json; charset=utf-16",
    "application/json; charset=punycode",
    "x; charset=unicode_escape",
    "text/html; charset=no-such",
    "a; charset=" + "x" * 5000,
    "",
    ";",
    "/",
    "\x00",
)
TYPES += (
    "multipart/mixed",
    "multipart/mixed; boundary=x",
    "message/rfc822",
    "message/http",
    "text/event-stream",
    'application/json; charset="',
    "text/plain; charset*=utf-8''é",
    "é/é; charset=é",
)
OTHERS = (
    "Connection: close",
    "Connection: keep-alive",
    "Connection: upgrade\r\nUpgrade: websocket",
    "Connection: upgrade\r\nUpgrade: h2c",
    "Connection: \x00",
    "Keep-Alive: timeout=0",
    "WWW-Authenticate: Basic",
)
OTHERS += (
    'WWW-Authenticate: Digest realm="x',
    "Proxy-Authenticate: Negotiate",
    "Content-Range: bytes 0-1/x",
    "Trailer: X",
    "Date: x",
    "Link: <x>; rel=",
    "Link: <http://[>; rel=x",
    "Refresh: 0;url=/",
    "Alt-Svc: clear",
)
OTHERS += (
    "Connection: close, keep-alive",
    "Proxy-Connection: close",
    "Content-Location: //[",
    "Content-MD5: x",
    "Server: " + "y" * 4000,
    "Strict-Transport-Security: max-age=x",
    "Set-Cookie2: a=b",
)
PAGES = (b"", b"<html>no</html>", b"null", b"[]", b"{}", b" ", b"{" * 5000, b"\x00" * 2000, b"x" * 200_000, b'{"error":{"code":503,"message":"no"}}')


@dataclasses.dataclass
class Plan:
    """What the server does with one request.

    :ivar pieces: what it sends, one write each.
    :ivar end: ``keep``, ``close``, ``reset``, or ``hold``, which waits until the client has had enough.
    :ivar own: whether the body is the right one, so that any result must be the right result.
    """

    pieces: list[bytes]
    end: str = "keep"
    own: bool = True

    @property
    def raw(self) -> bytes:
        return b"".join(self.pieces)


@dataclasses.dataclass
class Draft:
    """An answer in the making."""

    body: bytes
    version: bytes = b"HTTP/1.1"
    status: bytes = b"200"
    reason: bytes = b"OK"
    headers: Headers = dataclasses.field(default_factory=lambda: [(b"Content-Type", b"application/json")])
    framed: bool = False
    before: bytes = b""
    after: bytes = b""
    line_end: bytes = b"\r\n"
    own: bool = True

    def add(self, name: str, value: str) -> None:
        self.headers.append((name.encode(), value.encode("utf-8", "surrogateescape")))

    def raw(self) -> bytes:
        if not self.framed:
            self.headers.append((b"Content-Length", str(len(self.body)).encode()))
        lines = [self.version + b" " + self.status + b" " + self.reason, *(name + b": " + value for name, value in self.headers), b"", b""]
        return self.before + self.line_end.join(lines) + self.body + self.after


def truth(number: int) -> str:
    """The result that only the request with that id can have."""
    return f"t{number}-{zlib.crc32(b'%d' % number):08x}"


def document(number: int) -> bytes:
    """The right answer to it."""
    return json.dumps({"jsonrpc": "2.0", "id": number, "result": truth(number)}).encode()


def clean(number: int) -> Plan:
    """An answer with nothing wrong."""
    return Plan([Draft(document(number)).raw()])


def planned(seed: int, number: int) -> Plan:
    """The answer of that number, with one to three things wrong."""
    draw = random.Random(seed * 10_000_019 + number)
    draft = Draft(document(number))
    for _ in range(draw.choice((1, 1, 2, 3))):
        draw.choice(CHANGES)(draft, draw)
    raw, own = draft.raw(), draft.own
    if draw.random() < 0.15:
        raw, own = mutated(raw[:3000], [document(number)], draw), False
    if draw.random() < 0.1:
        # What is cut off the end is no other body.
        raw = raw[: draw.randrange(len(raw) + 1)]
    end = draw.choices(("keep", "close", "reset", "hold"), (50, 44, 5.5, 0.5))[0]
    return Plan(_pieces(raw, draw), end, own)


def _pieces(raw: bytes, draw: random.Random) -> list[bytes]:
    if draw.random() < 0.8 or len(raw) < 8:
        return [raw]
    cuts = sorted(draw.sample(range(1, len(raw)), 2))
    return [raw[: cuts[0]], raw[cuts[0] : cuts[1]], raw[cuts[1] :]]


# --- changes ---


def _status(draft: Draft, draw: random.Random) -> None:
    draft.status = draw.choice(STATUSES).encode()


def _line(draft: Draft, draw: random.Random) -> None:
    if draw.random() < 0.5:
        draft.version = draw.choice(VERSIONS)
    else:
        draft.reason = draw.choice(TEXTS)


def _length(draft: Draft, draw: random.Random) -> None:
    draft.framed = True
    size = len(draft.body)
    lies = [*LENGTHS, str(size + 1), str(size - 1), str(size + 1000), str(size)]
    draft.add("Content-Length", draw.choice(lies))
    if draw.random() < 0.3:
        draft.add("Content-Length", draw.choice([*lies, str(size)]))


def _no_length(draft: Draft, draw: random.Random) -> None:
    draft.framed = True


def _encoding(draft: Draft, draw: random.Random) -> None:
    draft.add("Content-Encoding", draw.choice(ENCODINGS))
    body = draft.body if draw.random() < 0.9 else b"0" * 2_000_000
    draft.own = draft.own and body is draft.body
    how = draw.choice((_as_is, gzip.compress, zlib.compress, _raw_deflate, _twice, _as_is))
    packed = how(body)
    if draw.random() < 0.4:
        place = draw.randrange(len(packed) + 1)
        spoilt = draw.choice((packed[:place], packed[:place] + b"\xff" + packed[place + 1 :], packed + b"trailing", packed + packed, b""))
        draft.own = draft.own and len(spoilt) <= len(packed) and spoilt == packed[: len(spoilt)]
        packed = spoilt
    draft.body = packed


def _as_is(body: bytes) -> bytes:
    return body


def _raw_deflate(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(body) + packer.flush()


def _twice(body: bytes) -> bytes:
    return gzip.compress(gzip.compress(body))


def _chunked(draft: Draft, draw: random.Random) -> None:
    draft.framed = True
    draft.add(
        "Transfer-Encoding",
        draw.choice(("chunked", "chunked", "chunked", "chunKed", "gzip, chunked", "chunked, chunked", "identity", "chunked,", "xchunked", "")),
    )
    if draw.random() < 0.2:
        draft.add("Content-Length", draw.choice((str(len(draft.body)), "0", "5", "x")))
    size, half = len(draft.body), len(draft.body) // 2
    right = [f"{half:x}".encode(), f"{size - half:x}".encode()]
    if draw.random() < 0.5:
        lies = (
            b"",
            b"xyz",
            b"-1",
            b"F" * 20,
            b"F" * 5000,
            b"0",
            b" 5",
            b"5 ",
            b"+5",
            b"0x5",
            b"5;a=b",
            b"5;" + b"e" * 9000,
            b"\x00",
            f"{half + 1:x}".encode(),
            f"{half - 1:x}".encode(),
        )
        right[draw.randrange(2)] = draw.choice(lies)
        draft.own = False
    end = draw.choice((b"\r\n", b"\r\n", b"\r\n", b"\n", b""))
    last = draw.choice(
        (
            b"0\r\n\r\n",
            b"0\r\n\r\n",
            b"0\r\n\r\n",
            b"",
            b"0\r\n",
            b"0\r\nX: y\r\n\r\n",
            b"0\r\n" + b"X: y\r\n" * 300 + b"\r\n",
            b"0\r\nX: " + b"y" * 9000 + b"\r\n\r\n",
            b"00000\r\n\r\n",
            b"0\r\n\x00\r\n\r\n",
        )
    )
    draft.body = right[0] + b"\r\n" + draft.body[:half] + end + right[1] + b"\r\n" + draft.body[half:] + end + last


def _header(draft: Draft, draw: random.Random) -> None:
    for _ in range(draw.choice((1, 1, 2, 99, 101, 300))):
        draft.headers.insert(draw.randrange(len(draft.headers) + 1), (draw.choice(NAMES), draw.choice(TEXTS[:6] if len(draft.headers) > 20 else TEXTS)))


def _known(draft: Draft, draw: random.Random) -> None:
    name, values = draw.choice((("Location", LOCATIONS), ("Set-Cookie", COOKIES), ("Set-Cookie", COOKIES), ("Retry-After", AFTER), ("Content-Type", TYPES)))
    if name in ("Location", "Retry-After") and draw.random() < 0.7:
        draft.status = draw.choice((b"301", b"307", b"429", b"503"))
    if name == "Content-Type":
        draft.headers = [field for field in draft.headers if field[0] != b"Content-Type"]
    for _ in range(draw.choice((1, 1, 2, 30))):
        draft.add(name, draw.choice(values))


def _other(draft: Draft, draw: random.Random) -> None:
    name, _, value = draw.choice(OTHERS).partition(": ")
    draft.add(name, value)


def _line_end(draft: Draft, draw: random.Random) -> None:
    draft.line_end = draw.choice((b"\n", b"\r", b"\r\r\n", b"\n\r", b"\r\n "))


def _before(draft: Draft, draw: random.Random) -> None:
    draft.before = draw.choice(
        (
            b"\r\n",
            b"\x00",
            b"garbage\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\n" * 50,
            b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n",
            b"HTTP/1.1 100 C\r\n",
            b"\n" * 500,
        )
    )


def _after(draft: Draft, draw: random.Random) -> None:
    draft.after = draw.choice(
        (b"x", b"\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", Draft(document(0)).raw(), b"\x00" * 70_000, b"HTTP/1.1 408 Request Timeout\r\n\r\n")
    )


def _body(draft: Draft, draw: random.Random) -> None:
    draft.own = False
    draft.body = draw.choice(PAGES) if draw.random() < 0.3 else mutated(draft.body, [draft.body], draw)


CHANGES: tuple[Callable[[Draft, random.Random], None], ...] = (_status, _status, _line, _length, _length, _no_length, _encoding, _encoding)
CHANGES += (_chunked, _chunked, _header, _header, _known, _known, _known, _other, _line_end, _before, _after, _body, _body)
