"""Many calls, several at once, as a stream: in bounded memory, stopped and gone on with at any time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._items import BulkItem, BulkProgress, BulkResult
from ._sync import Bulk

if TYPE_CHECKING:
    from ._async import AsyncBulk

__all__ = ["AsyncBulk", "Bulk", "BulkItem", "BulkProgress", "BulkResult"]


def __getattr__(name: str) -> Any:
    # asyncio is large, and a program without it need not load it.
    if name == "AsyncBulk":
        from ._async import AsyncBulk

        return AsyncBulk
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
