"""What a client hands to a backend and what it gets back: plain types, no library."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, final

from ._unset import UNSET

if TYPE_CHECKING:
    from .messages import Request, RequestId

__all__ = ["AsyncBackend", "Backend", "Exchange", "Headers", "Reply", "SharedExchange"]


class Headers(Mapping[str, str]):
    """HTTP headers: an immutable mapping that does not care for case; repeated fields are joined with a comma."""

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[str, str] | Iterable[tuple[str, str]] = ()) -> None:
        # email.message.Message, which the standard library hands out, has items() and is no Mapping.
        pairs: Iterable[tuple[str, str]] = items.items() if hasattr(items, "items") else items or ()
        joined: dict[str, tuple[str, str]] = {}
        for name, value in pairs:
            key = name.lower()
            joined[key] = (joined[key][0], f"{joined[key][1]}, {value}") if key in joined else (name, value)
        self._items = joined

    def __getitem__(self, name: str) -> str:
        return self._items[name.lower()][1]

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self._items.values())

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._items

    def updated(self, headers: Mapping[str, str]) -> Headers:
        """These and *headers*, which win over those of the same name."""
        fields = {name.lower(): (name, value) for name, value in self.items()}
        fields.update((name.lower(), (name, value)) for name, value in headers.items())
        return Headers(fields.values())

    def __repr__(self) -> str:
        return f"<Headers: {', '.join(self)}>"


@final
class Exchange:
    """One HTTP (or other) round trip that a backend is asked to make.

    :ivar body: the bytes to send.
    :ivar requests: the requests in it, in order; one for a single call.
    :ivar ids: the ids that an answer is expected for; empty when only notifications are sent.
    :ivar headers: headers of this exchange beyond the backend's own, or ``None``.
    :ivar ends_by: when the attempt must have ended, on the clock of :func:`time.monotonic`; ``math.inf`` for never.
    """

    __slots__ = ("body", "ends_by", "headers", "ids", "requests")

    def __init__(
        self,
        body: bytes,
        requests: Sequence[Request] = (),
        ids: tuple[RequestId, ...] = (),
        headers: Mapping[str, str] | None = None,
        ends_by: float = math.inf,
    ) -> None:
        self.body = body
        self.requests = requests
        self.ids = ids
        self.headers = headers
        self.ends_by = ends_by

    def with_headers(self, headers: Mapping[str, str]) -> Exchange:
        """The same with further headers, which win over those of the same name."""
        return Exchange(self.body, self.requests, self.ids, Headers(self.headers or {}).updated(headers), self.ends_by)

    def __repr__(self) -> str:
        return f"<Exchange of {len(self.body)} bytes, ids {list(self.ids)}>"


NO_HEADERS: Mapping[str, str] = Headers()


@final
class SharedExchange:
    """The mark of one exchange that several calls shared, for layers that count exchanges and not calls.

    It stands on the replies and on the failures of all of them. Only the loop that made the exchange comes here.
    """

    __slots__ = ("_notes",)

    def __init__(self) -> None:
        self._notes: dict[object, float] = {}

    def claim(self, counter: object) -> bool:
        """Whether *counter*, any hashable, is here for the first time."""
        if counter in self._notes:
            return False
        self._notes[counter] = 0.0
        return True

    def note(self, counter: object, value: float) -> None:
        """Write down *value* for *counter*."""
        self._notes[counter] = value

    def noted(self, counter: object) -> float | None:
        """What was written down for *counter*."""
        return self._notes.get(counter)

    def forget(self, counter: object) -> None:
        """Let the next one begin anew for *counter*: what was counted was taken back."""
        self._notes.pop(counter, None)

    def __reduce__(self) -> tuple[Any, ...]:
        # Failures pickle, and what counts them does not: in a pickle, and in a deep copy, None stands for it.
        return type(None), ()


class Reply:
    """What came back.

    :param body: the whole body, decompressed; empty for a redirect, which is not read.
    :param status: the HTTP status, or 200 for transports without one.
    :param headers: the headers of the answer, any mapping.
    :param document: the parsed body, from a backend that has parsed it already.
    :cvar shared: the mark of the exchange, where several calls shared it.
    """

    __slots__ = ("body", "document", "headers", "status")

    # A subclass gives it a value, so that it costs the others nothing.
    shared: SharedExchange | None = None

    def __init__(self, body: bytes, status: int = 200, headers: Mapping[str, str] = NO_HEADERS, document: object = UNSET) -> None:
        self.body = body
        self.status = status
        self.headers = headers
        self.document = document

    def __repr__(self) -> str:
        return f"<Reply {self.status} of {len(self.body)} bytes>"


class StandIn(Protocol):
    """Answers in the place of the HTTP backends, for tests: ``None`` for an exchange that is to be made.

    :param url: where it would be sent.
    :param headers: the HTTP headers that would be sent with it.
    """

    def answered(self, url: str, headers: Mapping[str, str], exchange: Exchange) -> Reply | None: ...

    async def answered_async(self, url: str, headers: Mapping[str, str], exchange: Exchange) -> Reply | None: ...


# Those of rpcretry.testing that are entered; the last one is asked, which asks the others. The backends look here in each exchange, so that
# clients that are wrapped, patched or made long before are answered, too.
STAND_INS: list[StandIn] = []


class Backend(Protocol):
    """Carries an exchange, once, and decides nothing.

    ``exchange`` raises a :class:`~rpcretry.TransportError` whose ``delivery`` is true, or lets its library's
    exception through, which then counts as MAYBE_EXECUTED. It is called from several threads at once.
    """

    def exchange(self, exchange: Exchange, /) -> Reply: ...

    def close(self) -> None: ...


class AsyncBackend(Protocol):
    """The same with ``async def``; called from many tasks of one loop."""

    async def exchange(self, exchange: Exchange, /) -> Reply: ...

    async def aclose(self) -> None: ...
