"""When a batch is too large to go as one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .._check import count
from .._unset import UNSET
from ..errors import HTTPStatusError, JsonRpcError, MissingResponseError

__all__ = ["UNLIMITED", "BatchLimits", "names_a_request", "says_too_large"]


class BatchLimits:
    """How much of a batch goes at once. Immutable.

    :param size: requests; ``None`` for any number.
    :param bytes: bytes of the body; ``None`` for any number.
    :param concurrency: how many parts may be under way at once.
    :param split_on: the statuses and codes by which a server says that a batch is too large.
    """

    __slots__ = ("bytes", "concurrency", "size", "split_on")

    def __init__(self, size: int | None = None, bytes: int | None = None, concurrency: int = 1, split_on: frozenset[int] = frozenset({413})) -> None:
        self.size = size
        self.bytes = bytes
        self.concurrency = concurrency
        self.split_on = split_on

    def replace(self, options: Mapping[str, Any], concurrency: str = "batch_concurrency") -> BatchLimits:
        """The same with what *options* say; those that are absent or ``UNSET`` stay as they are.

        :param concurrency: what its option is called.
        :raises TypeError, ValueError: naming the option and the fix.
        """
        given = {name: options[name] for name in ("max_batch_size", "max_batch_bytes", concurrency, "split_on") if options.get(name, UNSET) is not UNSET}
        if not given:
            return self
        size, most = given.get("max_batch_size", self.size), given.get("max_batch_bytes", self.bytes)
        if size is not None:
            count("max_batch_size", size, least=1)
        if most is not None:
            count("max_batch_bytes", most, least=1)
        several = count(concurrency, given.get(concurrency, self.concurrency), least=1)
        return BatchLimits(size, most, several, _as_numbers(given["split_on"]) if "split_on" in given else self.split_on)

    def parts(self, sizes: Sequence[int]) -> list[range]:
        """Where to cut a batch, as the places of the requests of each part.

        :param sizes: the bytes of each request.
        """
        size = len(sizes) if self.size is None else self.size
        parts, first, filled = [], 0, 1
        for place, more in enumerate(sizes):
            # Each costs a comma or, the last, the closing bracket.
            if place > first and (place - first == size or (self.bytes is not None and filled + more + 1 > self.bytes)):
                parts.append(range(first, place))
                first, filled = place, 1
            filled += more + 1
        parts.append(range(first, len(sizes)))
        return parts


def says_too_large(errors: Iterable[object], split_on: frozenset[int], is_answered: bool) -> bool:
    """Whether the server turned a whole batch down for its size: some of it so, none of it done.

    :param errors: what each request failed with; ``None`` for one that did not.
    :param is_answered: whether there were answers to single requests; those say more than the status that they came with.
    """
    said = False
    for error in errors:
        by_code = isinstance(error, JsonRpcError) and error.code in split_on
        if by_code or (not is_answered and isinstance(error, (JsonRpcError, HTTPStatusError)) and error.status in split_on):
            said = True
        elif not isinstance(error, MissingResponseError):
            # Those that it says nothing of are not done either: some servers name the first request of the batch only.
            return False
    return said


def names_a_request(document: object) -> bool:
    """Whether the answer to a batch holds one to a single request of it."""
    # No generator: an interrupt in the midst of one that any() leaves behind would be lost.
    if isinstance(document, list):
        for answer in document:
            if isinstance(answer, dict) and answer.get("id") is not None:
                return True
    return False


def _as_numbers(value: object) -> frozenset[int]:
    if isinstance(value, int) or not isinstance(value, Iterable) or isinstance(value, (str, bytes)):
        raise TypeError(f"split_on must be a set of HTTP statuses and JSON-RPC codes, got {type(value).__name__} {value!r:.60}; write split_on={{413}}")
    numbers = frozenset(value)
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, int):
            raise TypeError(f"split_on takes HTTP statuses and JSON-RPC codes, got {type(number).__name__} {number!r:.60}")
    return numbers


UNLIMITED = BatchLimits()
