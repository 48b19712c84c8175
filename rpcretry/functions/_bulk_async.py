"""The calls of a bulk of an async function. Imported when the first one is met: asyncio is large."""

from __future__ import annotations

from ._async import AsyncFunctionCall
from ._bulk import Repeatable

__all__ = ["AsyncRepeated"]


class AsyncRepeated(Repeatable, AsyncFunctionCall):
    """A call of an async function."""

    __slots__ = ("cut_at", "places")
