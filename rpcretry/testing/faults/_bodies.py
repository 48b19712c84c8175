"""Toxics of bodies: compressed ones, bombs and giants."""

from __future__ import annotations

import dataclasses
import functools
import gzip
import json
import zlib
from collections.abc import Iterator
from typing import ClassVar, Final

from ..._check import count
from ._toxic import Stage, Toxic, choice
from ._turn import Stream, Turn

__all__ = ["Gzip", "GzipBomb", "Huge"]

BLOCK: Final = 1 << 20


@dataclasses.dataclass(frozen=True)
class Gzip(Toxic):
    """Compresses the body.

    :param kind: ``right``; or broken: no gzip at all but said to be (``plain``), with bytes that are wrong (``corrupt``), ``cut`` in the middle, or
        with a wrong ``checksum``.
    """

    kind: str = "right"
    _stage: ClassVar[Stage] = Stage.HEAD

    def __post_init__(self) -> None:
        choice("kind", self.kind, ("right", "plain", "corrupt", "cut", "checksum"))

    @property
    def harmless(self) -> bool:
        return self.kind == "right"

    def apply(self, turn: Turn) -> bool:
        # Two codings at once are legal, and nothing that a client asks for.
        if isinstance(turn.body, Stream) or not turn.body or any(name == "Content-Encoding" for name, _ in turn.fields):
            return False
        packed = gzip.compress(turn.body, mtime=0)
        if self.kind == "plain":
            packed = turn.body
        elif self.kind == "corrupt":
            packed = packed[:10] + b"\xff" * (len(packed) - 10)
        elif self.kind == "cut":
            packed = packed[: len(packed) // 2]
        elif self.kind == "checksum":
            packed = packed[:-8] + bytes(byte ^ 255 for byte in packed[-8:-4]) + packed[-4:]
        turn.body = packed
        turn.fields.append(("Content-Encoding", "gzip"))
        return True


class _Giant(Toxic):
    _stage: ClassVar[Stage] = Stage.BODY

    def fits(self, turn: Turn) -> bool:
        return turn.is_answered

    def _around(self, turn: Turn) -> tuple[bytes, bytes]:
        """What stands before and after the text: the answer to the first request that asks for one."""
        return b'{"jsonrpc": "2.0", "id": %s, "result": "' % json.dumps(turn.arrival.id).encode(), b'"}'


@dataclasses.dataclass(frozen=True)
class Huge(_Giant):
    """A JSON-RPC answer whose result is a long text. It is sent from one small buffer.

    :param size: bytes of the text.
    """

    size: int = 100_000_000

    def __post_init__(self) -> None:
        count("size", self.size, least=1)

    def apply(self, turn: Turn) -> bool:
        before, after = self._around(turn)
        size = self.size

        def make() -> Iterator[bytes]:
            yield before
            filler = b"a" * min(65_536, size)
            for _ in range(size // len(filler)):
                yield filler
            if size % len(filler):
                yield filler[: size % len(filler)]
            yield after

        turn.body = Stream(len(before) + size + len(after), make)
        return True


@functools.cache
def _packed_block() -> bytes:
    """A mebibyte of text, compressed so that any number of it may follow each other."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(b"a" * BLOCK) + packer.flush(zlib.Z_FULL_FLUSH)


def _pack(data: bytes, flush: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush(flush)


@dataclasses.dataclass(frozen=True)
class GzipBomb(_Giant):
    """A JSON-RPC answer whose result is a long text, compressed about 1,000 to 1. It is sent from one compressed block.

    :param mebibytes: of the text.
    """

    mebibytes: int = 1024

    def __post_init__(self) -> None:
        count("mebibytes", self.mebibytes, least=1)

    def apply(self, turn: Turn) -> bool:
        before, after = self._around(turn)
        block, times = _packed_block(), self.mebibytes
        # RFC 1952: magic, deflate, no flags, no time, best compression, Unix.
        head = b"\x1f\x8b\x08\0\0\0\0\0\x02\x03" + _pack(before, zlib.Z_FULL_FLUSH)
        tail = _pack(after, zlib.Z_FINISH)

        def make() -> Iterator[bytes]:
            yield head
            checksum, text = zlib.crc32(before), b"a" * BLOCK
            for _ in range(times):
                yield block
                # Only as far as the client reads.
                checksum = zlib.crc32(text, checksum)
            size = len(before) + times * BLOCK + len(after)
            yield tail + zlib.crc32(after, checksum).to_bytes(4, "little") + (size % (1 << 32)).to_bytes(4, "little")

        turn.body = Stream(len(head) + times * len(block) + len(tail) + 8, make)
        turn.fields.append(("Content-Encoding", "gzip"))
        return True
