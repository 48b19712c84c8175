"""Where request ids come from: callables without arguments that return the next id, safe to call from threads."""

from __future__ import annotations

import itertools
import secrets
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import TypeAlias

from .._check import callable_with, count
from .._unset import UNSET, Unset
from ..messages import RequestId, check_id

__all__ = ["IdSource", "random_ids", "sequential_ids", "uuid_ids"]

IdSource: TypeAlias = Callable[[], RequestId]


class _Counter(itertools.count):  # type: ignore[type-arg]
    """Tells our counter of ints from one of the user's, which may count by halves."""


def sequential_ids(start: int = 1, step: int = 1) -> IdSource:
    """1, 2, 3 ... The default. Servers written in JavaScript keep ints up to 2 ** 53 apart, and no larger ones."""
    count("start", start)
    count("step", step, least=1)
    counter = _Counter(start, step)
    # The interpreter's lock makes the bare counter atomic; builds without it need ours.
    return counter.__next__ if getattr(sys, "_is_gil_enabled", lambda: True)() else _locked(counter)


def random_ids(length: int = 16, alphabet: str = "0123456789abcdefghijklmnopqrstuvwxyz") -> IdSource:
    """Random strings, from the operating system's source of randomness.

    :param length: characters of an id.
    :param alphabet: the characters to draw from.
    """
    count("length", length, least=1)
    if not isinstance(alphabet, str) or len(alphabet) < 2:
        raise ValueError(f"alphabet must be a str of at least two characters, got {alphabet!r:.60}")
    return lambda: "".join(secrets.choice(alphabet) for _ in range(length))


def uuid_ids() -> IdSource:
    """Random UUIDs (version 4) as strings."""
    return lambda: str(uuid.uuid4())


def as_ids(value: IdSource | Iterator[RequestId] | None) -> IdSource:
    """Read an ``ids=`` argument: a callable, an iterator, or a function that returns an iterator.

    :raises TypeError: for anything else; when called, for an id that is neither int nor str.
    """
    if value is None:
        return sequential_ids()
    if not isinstance(value, Iterator):
        callable_with("ids", value, 0, "pass rpcretry.sequential_ids(), random_ids() or uuid_ids()")
        factories: tuple[object, ...] = (sequential_ids, random_ids, uuid_ids)
        factory = value in factories
        if not factory and (getattr(value, "__module__", None) == __name__ or isinstance(getattr(value, "__self__", None), _Counter)):
            return value
        first: object = value()
        if callable(first):
            name = getattr(value, "__name__", "...")
            raise TypeError(f"ids must return an id at each call, got a function that returns a {type(first).__name__}; write ids={name}()")
        if not isinstance(first, Iterator):
            return _locked(itertools.chain([check_id(first)], iter(value, None)))
        value = first
    return _locked(value)


def number_all(ids: list[RequestId | Unset | None], next_id: IdSource) -> None:
    """Put the next ids into the places of *ids* that have none yet; those that have one have one each.

    :raises ValueError: where the source repeats itself.
    """
    new = [place for place, id in enumerate(ids) if id is UNSET]
    taken: set[object] = {id for id in ids if id is not None} if len(new) < len(ids) else set()
    for place in new:
        ids[place] = next_id()
    if len(set(ids)) + max(0, ids.count(None) - 1) == len(ids):
        return
    # As many more as the caller's own ids could stand in the way of.
    tries = range(len(taken) + 1)
    for place in new:
        for _ in tries:
            if ids[place] not in taken:
                break
            ids[place] = next_id()
        else:
            raise ValueError(f"ids gave {ids[place]!r:.40} again; every request of a batch needs an id of its own")
        taken.add(ids[place])


def _locked(ids: Iterator[RequestId]) -> IdSource:
    # A generator that two threads enter at once raises "generator already executing".
    lock = threading.Lock()

    def next_id() -> RequestId:
        with lock:
            id = next(ids, None)
        if id is None:
            raise ValueError("ids is exhausted; it must yield an id for every request")
        return check_id(id)

    return next_id
