"""The calls of a client's bulk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .._check import count
from .._encoding import refuse_second
from .._requests import Requests
from .._unset import UNSET
from ..bulk._calls import Place, Resumable
from ..bulk._core import PARAMETERS, refuse_names
from ..bulk._items import BulkItem
from ..codec import Reader, encode_requests
from ..drivers._fan_sync import Halt
from ..drivers._sync import Host
from ..messages import BatchRequest, Request, prepared
from .batch_call import BatchCall, cut
from .call import Order, SingleCall
from .core import ClientCore
from .ids import number_all
from .options import CALL_OPTIONS, Options

__all__ = ["ClientPlan", "bulk_of"]


# How a backend of ours, which sent nothing, and how asyncio say that they are on another event loop than that of their connections.
UNSENT = "bound to the event loop of its first call"
LOST = (UNSENT, "Event loop is closed", "bound to a different event loop", "attached to a different loop")


def refuse_loop(call: Resumable, problem: Exception) -> None:
    """Where no call can be made on this event loop, leave the rest of the bulk alone.

    :raises Halt: with *problem*.
    """
    if isinstance(problem, RuntimeError):
        text = str(problem)
        if any(words in text for words in LOST):
            if UNSENT in text:
                call.unsent()
            raise Halt(problem)


class BulkSingleCall(Resumable, SingleCall):
    """A single request of a bulk."""

    __slots__ = ("cut_at", "places")

    def __init__(self, options: Options, reader: Reader, request: Request, places: Sequence[Place]) -> None:
        super().__init__(options, reader, request, False)
        self.places = places
        self.cut_at = None

    def start(self, now: float) -> Order:
        if self.cut_at is None:
            return SingleCall.start(self, now)
        self.thaw(now)
        return self.go_on(now)

    def is_over(self) -> bool:
        return super().is_over() if self.members else hasattr(self, "_reply")

    def failed(self, problem: Exception, now: float) -> Order:
        refuse_loop(self, problem)
        return SingleCall.failed(self, problem, now)

    def ended(self) -> list[BulkItem[Any, Any]]:
        if self.members:
            return Resumable.ended(self)
        index, request = self.places[0]
        return [BulkItem(index, request, self._value, None, 1)]


class BulkBatchCall(Resumable, BatchCall):
    """A batch of a bulk."""

    __slots__ = ("cut_at", "places", "plan")

    def __init__(self, plan: ClientPlan, requests: Requests, body: bytes, places: Sequence[Place]) -> None:
        super().__init__(plan.options, plan.shared.reader, requests, body)
        self.plan = plan
        self.places = places
        self.cut_at = None

    def start(self, now: float) -> Order:
        if self.cut_at is None:
            return BatchCall.start(self, now)
        self.thaw(now)
        return self.go_on(now)

    def is_over(self) -> bool:
        return super().is_over() if self.members else self._results is not None

    def failed(self, problem: Exception, now: float) -> Order:
        refuse_loop(self, problem)
        return BatchCall.failed(self, problem, now)

    def ended(self) -> list[BulkItem[Any, Any]]:
        most = self._whole.most
        if most is not None:
            # What is too much for the server now is too much for it in a later batch.
            self.plan.most = most if self.plan.most is None else min(most, self.plan.most)
        if self.members or self._results is None:
            return Resumable.ended(self)
        return [BulkItem(index, request, result, None, 1) for (index, request), result in zip(self.places, self._results, strict=True)]

    def result(self) -> Any:
        return Resumable.result(self)


class ClientPlan:
    """How a client's bulk calls.

    :param batched: whether requests go as batches.
    :ivar most: how many requests go in one batch, once the server found more too many.
    """

    __slots__ = ("_batched", "_client", "clock", "host", "most", "options", "shared")

    def __init__(self, client: ClientCore[Any], options: Options, batched: bool) -> None:
        # Of one that is closed later, its views know.
        self._client = client
        self.shared = client._shared
        self.options = options
        self._batched = batched
        self.most: int | None = None
        self.host: Host = client._shared
        self.clock = client._shared.clock

    def check(self, element: Any) -> Exception | None:
        if isinstance(element, Request):
            return None
        hint = "; write Request(method, params=[...])" if isinstance(element, str) else ""
        hint = "; give its requests one by one, and batch_size" if isinstance(element, BatchRequest) else hint
        return TypeError(f"bulk takes Request objects, got {type(element).__name__} {element!r:.60}{hint}")

    def check_again(self, element: Request) -> None:
        refuse_second(element)

    def identity(self, element: Request) -> Any:
        return element._id if isinstance(element._id, (int, str)) else None

    def calls(self, places: Sequence[Place]) -> Sequence[Any]:
        shared, options = self.shared, self.options
        if shared.closed:
            raise self._client._closed()
        if not self._batched:
            request: Request = places[0][1]
            if request._id is UNSET:
                request = prepared(request._method, request._params, shared.next_id())
            return (BulkSingleCall(options.keyed(request), shared.reader, request, places),)
        requests, limits, most = Requests([request for _, request in places]), options.limits, self.most
        number_all(requests.ids, shared.next_id)
        body = encode_requests(shared.reader.codec, requests)
        if most is not None:
            limits = limits.replace({"max_batch_size": most if limits.size is None else min(most, limits.size)})
        return [BulkBatchCall(self, some, part_body, places[part.start : part.stop]) for part, some, part_body in cut(limits, requests, body)]


def bulk_of(
    kind: Any,
    client: ClientCore[Any],
    source: object,
    options: tuple[Any, ...],
    settings: Mapping[str, Any],
    unknown: Mapping[str, object],
) -> Any:
    """A bulk of *kind*.

    :param options: those of its calls, in the order of :data:`~rpcretry.client.options.CALL_OPTIONS`.
    """
    refuse_names("bulk", unknown, [*PARAMETERS, *CALL_OPTIONS], {name[1:]: name for name in CALL_OPTIONS})
    if isinstance(source, (str, bytes, bytearray, dict)):
        raise TypeError(f"requests must be an iterable of Request objects, got {type(source).__name__}; write [Request(method, params=[...]), ...]")
    if isinstance(options[-1], str):
        raise ValueError("_idempotency_key would be the same for all requests, and the server would answer them all alike; use True or a callable")
    if client._shared.closed:
        raise client._closed()
    plan = ClientPlan(client, client._chosen(*options), count("batch_size", settings["batch_size"], least=1) > 1)
    return kind(source, plan, "requests", **settings)
