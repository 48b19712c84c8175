"""What the fuzzers found, each as small as it gets."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import encodings
import logging
import time
import traceback
import warnings
from typing import Any

import pytest
from http_answers import Plan
from http_server import RawServer
from http_stage import BACKENDS

import rpcretry.backends.aiohttp
import rpcretry.backends.requests
from rpcretry import ConnectionLostError, ProtocolError, Request, ResponseTooLargeError, RpcRetryError
from rpcretry.cli._exact import ExactCodec
from rpcretry.codec import Codec, JsonCodec, Reader, read_single
from rpcretry.errors import error_registry
from rpcretry.transport import Reply


def read(body: bytes, charset: str, codec: Codec) -> object:
    return read_single(Reader(codec, error_registry()), Reply(body, 200, {"Content-Type": f"application/json; charset={charset}"}), 1)


@pytest.mark.parametrize("codec", [JsonCodec(), ExactCodec()])
def test_a_charset_that_takes_the_square_of_the_length_is_not_tried(codec: Codec) -> None:
    # Python inserts each character of punycode into a text that it copies: 250 kB took 5 s, and a megabyte over a minute.
    body = b"x" * 100_000 + b"-" + b"a" * 100_000
    began = time.thread_time()
    with pytest.raises(ProtocolError):
        read(body, "punycode", codec)
    assert time.thread_time() - began < 0.2


@pytest.mark.parametrize("codec", [JsonCodec(), ExactCodec()])
def test_a_charset_of_the_server_warns_of_nothing(codec: Codec) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(ProtocolError):
            read(b"\\q", "unicode_escape", codec)
    assert caught == []


@pytest.mark.parametrize("codec", [JsonCodec(), ExactCodec()])
def test_an_unknown_charset_leaves_nothing_behind(codec: Codec) -> None:
    # Python remembers each name that it did not find, and servers have any number of them.
    before = len(encodings._cache)
    for number in range(10):
        with pytest.raises(ProtocolError):
            read(b"?", f"no-such-{number}", codec)
    assert len(encodings._cache) == before


@pytest.mark.parametrize("codec", [JsonCodec(), ExactCodec()])
@pytest.mark.parametrize("charset", ["ISO-8859-1", "windows-1252", "cp1252", "us-ascii", "Shift_JIS", "iso-2022-jp", "GB18030", "koi8-u", "cp874", "utf-16le"])
def test_the_charsets_that_servers_use_are_read(charset: str, codec: Codec) -> None:
    known = codecs.lookup(charset)
    # Shift_JIS and the ISO-2022 ones have characters of their own, and none of Latin 1.
    text = next(text for text in ("é", "日", "ґ", "ก", "e") if known.encode(text, "replace")[0].decode(charset) == text)
    assert read(f'{{"id":1,"result":"{text}"}}'.encode(charset), charset, codec) == text


def test_mistakes_with_an_int_of_thousands_of_digits_are_told_as_others_are() -> None:
    # Python shows no such int, and its own ValueError came instead of these.
    huge: Any = 10**5000
    with pytest.raises(TypeError, match=r"params must be a list, .* got int \.\.\.; write params=\[\.\.\.\]"):
        Request("m", huge)
    with pytest.raises(TypeError, match=r"method must be a str, got int \.\.\."):
        Request(huge)
    with pytest.raises(TypeError, match=r"id must be an int or a str, got list \.\.\.;"):
        Request("m", id=[huge])  # type: ignore[arg-type]


@pytest.mark.parametrize("id", [10**4300, -(10**4300), 10**5000], ids=["one more", "negative", "many more"])
def test_an_id_whose_answer_python_would_not_read_is_refused(id: int) -> None:
    with pytest.raises(ValueError, match="id must be an int of at most 4,300 digits"):
        Request("m", id=id)
    assert Request("m", id=10**4299).id == 10**4299


def serve(raw: bytes, kind: str) -> object:
    """What a client of that kind makes of an answer, sent as it is."""
    with RawServer(lambda number: Plan([raw], "close")) as server:
        url, request = f"http://127.0.0.1:{server.port}/secret-path?key=secret-query", Request("m", id=7)
        if kind == "requests":
            with rpcretry.backends.requests.Client(url, timeout=5, trust_env=False) as client:
                return client.send(request).result

        async def sent() -> object:
            async with rpcretry.backends.aiohttp.Client(url, timeout=5, trust_env=False) as client:
                return (await client.send(request)).result

        return asyncio.run(sent())


@pytest.mark.parametrize("kind", BACKENDS)
@pytest.mark.parametrize("digits", [30, 4301])
def test_a_declared_length_of_thousands_of_digits_is_an_error_of_ours(kind: str, digits: int) -> None:
    with pytest.raises((ResponseTooLargeError, ConnectionLostError)):
        serve(b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * digits + b'\r\n\r\n{"id":7,"result":1}', kind)


def test_a_declared_length_may_begin_with_zeros() -> None:
    assert serve(b"HTTP/1.1 200 OK\r\nContent-Length: " + b"0" * 40 + b'19\r\n\r\n{"id":7,"result":1}', "requests") == 1


@pytest.mark.parametrize("kind", BACKENDS)
def test_no_log_shows_the_url_for_headers_that_are_malformed(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), contextlib.suppress(RpcRetryError):
        serve(b'HTTP/1.1 200 OK\r\nContent-Type: x\n\nodd\r\n\r\n{"id":7,"result":1}', kind)
    assert "secret" not in caplog.text


@pytest.mark.parametrize("kind", BACKENDS)
@pytest.mark.parametrize("value", [b"sid=SECRET\x00", b"sid=SECRET" + b"x" * 9000, b"sid=SECRET" + b"x" * 300_000, b"a=b\r\nodd line SECRET"])
def test_no_message_shows_a_header_that_is_malformed(kind: str, value: bytes) -> None:
    # aiohttp quotes it, and so did we. requests takes all but the longest.
    refused = pytest.raises(ConnectionLostError) if kind == "aiohttp" or len(value) > 65_536 else contextlib.nullcontext()
    with refused as caught:
        serve(b"HTTP/1.1 200 OK\r\nConnection: close\r\nSet-Cookie: " + value + b'\r\nContent-Length: 19\r\n\r\n{"id":7,"result":1}', kind)
    if caught is not None:
        assert "SECRET" not in "".join(traceback.format_exception(caught.value))
        assert str(caught.value).rpartition("broke: ")[2]
