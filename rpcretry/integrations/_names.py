"""Labels of a bounded number."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from .._check import count
from .._requests import BatchName

__all__ = ["LONGEST", "BoundedNames"]

# Characters: a server's methods may be named by its users, and what keeps names keeps the longest of them, too.
LONGEST = 200


class BoundedNames:
    """Values for one label, of which there is never more than a fixed number: a monitoring system keeps a series for each.

    A name beyond that number, and one of more than :data:`LONGEST` characters that is not allowed, becomes *other*. Batches
    of any size become ``batch``.

    :param allowed: the only names that there are; without it the first *most* that are met.
    :param most: how many those are.
    :param other: what stands for the rest.
    :raises TypeError, ValueError: naming ``methods`` or ``max_methods``, as sinks call these parameters.
    """

    __slots__ = ("_is_open", "_known", "_lock", "_most", "_other")

    def __init__(self, allowed: Iterable[str] | None = None, most: int = 100, other: str = "_OTHER") -> None:
        if isinstance(allowed, (str, bytes)) or not (allowed is None or isinstance(allowed, Iterable)):
            raise TypeError(f"methods must be an iterable of names, got {type(allowed).__name__} {allowed!r:.60}; write [...] around it")
        names = [] if allowed is None else list(allowed)
        wrong = next((name for name in names if not isinstance(name, str)), None)
        if wrong is not None:
            raise TypeError(f"methods must be names of type str, got {type(wrong).__name__} {wrong!r:.60}")
        self._is_open = allowed is None
        self._known = dict(zip(names, names, strict=True))
        self._most = count("max_methods", most, least=1)
        self._other = other
        # Re-entrant: a finalizer may end a call while this very thread is in here.
        self._lock = threading.RLock()

    def __call__(self, name: str) -> str:
        """The label's value for *name*."""
        return "batch" if type(name) is BatchName else self._known.get(name) or self._met(name)

    def _met(self, name: str) -> str:
        with self._lock:
            if self._is_open and len(self._known) < self._most and len(name) <= LONGEST:
                return self._known.setdefault(name, name)
        return self._other
