"""Many requests, cheaply."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import overload

from ._unset import Unset
from .messages import Params, Request, RequestId, prepared

__all__ = ["BatchName", "Requests"]


class BatchName(str):
    """The operation of a batch, told from a method of that name by its type."""

    __slots__ = ()


class Requests(Sequence[Request]):
    """Requests whose parts were checked before, kept as lists of parts; each is made when somebody looks at it.

    A batch of many costs half as much so, and the collector has fewer objects to look at again and again.
    """

    __slots__ = ("_made", "ids", "methods", "params")

    def __init__(self, requests: Iterable[Request] = ()) -> None:
        self.methods: list[str] = []
        self.params: list[Params] = []
        self.ids: list[RequestId | Unset | None] = []
        self._made: tuple[Request, ...] | None = None
        for request in requests:
            self.add(request._method, request._params, request._id)

    def add(self, method: str, params: Params, id: RequestId | Unset | None) -> None:
        """One more, before the first look."""
        self.methods.append(method)
        self.params.append(params)
        self.ids.append(id)

    def part(self, places: range) -> Requests:
        """Some of them, next to each other."""
        twin, cut = Requests(), slice(places.start, places.stop)
        twin.methods, twin.params, twin.ids = self.methods[cut], self.params[cut], self.ids[cut]
        return twin

    @property
    def made(self) -> tuple[Request, ...]:
        """All of them."""
        if self._made is None:
            self._made = tuple(map(prepared, self.methods, self.params, self.ids))
        return self._made

    @overload
    def __getitem__(self, index: int) -> Request: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Request, ...]: ...
    def __getitem__(self, index: int | slice) -> Request | tuple[Request, ...]:
        return self.made[index]

    def __len__(self) -> int:
        return len(self.methods)

    def __iter__(self) -> Iterator[Request]:
        return iter(self.made)

    def __eq__(self, other: object) -> bool:
        return self.made == tuple(other) if isinstance(other, (Requests, tuple)) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.made)

    def __repr__(self) -> str:
        return repr(self.made)
