"""A crash, made smaller."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["reduced"]


def reduced(data: bytes, fails: Callable[[bytes], bool], seconds: float = 10.0) -> bytes:
    """The shortest that was found of what *data* can be without, so that it still *fails*.

    Takes pieces away, halves first and single bytes last (the first step of Zeller's delta debugging), until none can go.
    """
    ends_by = time.monotonic() + seconds
    size = max(1, len(data) // 2)
    while size:
        shorter = _without_pieces(data, size, fails, ends_by)
        again = len(shorter) < len(data)
        data = shorter
        if time.monotonic() > ends_by:
            return data
        if not again or size > 1:
            size //= 2
    return data


def _without_pieces(data: bytes, size: int, fails: Callable[[bytes], bool], ends_by: float) -> bytes:
    place = 0
    while place < len(data) and time.monotonic() <= ends_by:
        shorter = data[:place] + data[place + size :]
        if fails(shorter):
            data = shorter
        else:
            place += size
    return data
