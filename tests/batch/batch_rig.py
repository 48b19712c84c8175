"""A batch with handles on either driver: filled by a plain function, sent on leaving the block."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from tests.support import Rig


def batched(rig: Rig, fill: Callable[[Any], Any], **options: Any) -> tuple[Any, Any]:
    """The batch and what *fill* returned, after the block."""
    if rig.driver == "sync":
        with rig.client.batch(**options) as batch:
            kept = fill(batch)
        return batch, kept

    async def block() -> tuple[Any, Any]:
        async with rig.client.batch(**options) as batch:
            kept = fill(batch)
        return batch, kept

    return asyncio.run(block())


def opened(rig: Rig, fill: Callable[[Any], Any], **options: Any) -> tuple[Any, BaseException | None]:
    """The batch and what leaving its block raised."""
    batches: list[Any] = []

    def keep(batch: Any) -> None:
        batches.append(batch)
        fill(batch)

    try:
        batched(rig, keep, **options)
    except BaseException as problem:
        return batches[0], problem
    return batches[0], None
