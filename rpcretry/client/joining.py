"""Joining: calls that are made at the same time go to the server as one batch, and each gets its own answer."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING

from .._check import count, number, refuse_unknown
from ..retry.strategy import _several
from ._join_backend import JoiningBackend

__all__ = ["Joining", "JoiningBackend", "as_joining"]

# What other libraries and in-house helpers call our parameters.
_SYNONYMS = {
    "batch_interval": "max_delay",
    "batch_size": "max_size",
    "batch_max_count": "max_size",
    "batch_max_size": "max_bytes",
    "batch_stall_time": "max_delay",
    "delay": "max_delay",
    "dedup": "dedupe",
    "max_batch_bytes": "max_bytes",
    "max_batch_size": "max_size",
    "max_wait": "max_delay",
    "wait": "max_delay",
    "window": "max_delay",
}


@dataclasses.dataclass(frozen=True)
class Joining:
    """How calls that are made at the same time are joined into batches: ``AsyncClient(backend, joining=Joining())``.

    Each call keeps its own limit, deadline, tries, error and cancel. Calls are joined that have equal headers, whatever
    their trace context (W3C's, B3, Jaeger's or X-Ray's), of which the batch carries that of its first call; a call with an
    idempotency key goes alone. A server that turns batches away gets the same calls one by one, at once, and all later ones
    so once it has answered some of them; one that finds a batch too large gets halves, and smaller batches from then on once it
    has answered some of those.

    :param max_size: the most requests in one batch. Their answers come as one body, which has to fit into the backend's
        ``max_response_size``.
    :param max_delay: seconds that a call waits for others at the most; 0 joins what is called in the same turn of the loop.
    :param max_bytes: the most bytes of a batch; a request that is larger goes alone. Just below the 1 MiB that nginx, and many
        servers behind it, take unless told otherwise.
    :param dedupe: names and globs (``"get_*"``) of methods that only read. Calls of one with equal params and headers that are
        under way at once are sent once, and each gets a copy of the result of its own. A call may so get what the server
        read before the call was made; not long before, but before a write that was made in between.
    :raises TypeError, ValueError: naming the parameter, its value and the fix.
    """

    max_size: int = 100
    max_delay: float = 0.0
    max_bytes: int = 1_000_000
    dedupe: str | Iterable[str] = ()

    if not TYPE_CHECKING:

        def __new__(cls, *args, **kwargs):
            if cls is Joining:
                refuse_unknown("Joining", kwargs, [field.name for field in dataclasses.fields(cls)], _SYNONYMS)
            return super().__new__(cls)

    def __post_init__(self) -> None:
        count("max_size", self.max_size, least=1)
        number("max_delay", self.max_delay, least=0)
        count("max_bytes", self.max_bytes, least=1)
        names = _several(self.dedupe)
        for name in names:
            if not isinstance(name, str):
                raise TypeError(f"dedupe takes method names and globs, got {type(name).__name__} {name!r:.60}; write dedupe={{'get_*'}}")
            if not name:
                raise ValueError("dedupe takes method names and globs, got an empty one; write dedupe={'get_*'}")
        object.__setattr__(self, "dedupe", frozenset(names))


def as_joining(value: object) -> Joining | None:
    """Read a ``joining=`` argument.

    :raises TypeError: for what is neither a :class:`Joining` nor a bool nor ``None``.
    """
    if value is None or value is False:
        return None
    if value is True:
        return Joining()
    if isinstance(value, Joining):
        return value
    hint = "joining=Joining()" if isinstance(value, type) else "joining=True, or joining=Joining(max_size=...)"
    raise TypeError(f"joining must be a Joining, True or None, got {type(value).__name__} {value!r:.60}; write {hint}")
