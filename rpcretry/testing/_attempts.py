"""Fewer tries, for everything in the process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from .._check import count
from ..retry.policy import CAPS, Cap

__all__ = ["max_attempts", "no_retries"]


@contextlib.contextmanager
def max_attempts(number: int | None) -> Iterator[None]:
    """Let no request and no function have more than *number* tries, the first included, whatever its strategy says: in all
    threads and tasks, for as long as the context lasts. What would be tried again fails as if its tries had run out.

    Contexts nest, and the last one that was entered counts. A batch that is halved because it was too large goes on: its parts are
    no retries.

    :param number: ``None`` for what each strategy allows, inside of a context that allows less.
    :raises TypeError, ValueError: where it is no int of at least 1.
    """
    cap = Cap(None if number is None else count("number", number, least=1))
    CAPS.append(cap)
    try:
        yield
    finally:
        CAPS.remove(cap)


@contextlib.contextmanager
def no_retries() -> Iterator[None]:
    """Let nothing be tried again: ``max_attempts(1)``."""
    with max_attempts(1):
        yield
