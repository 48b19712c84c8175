"""Requests and responses as values. They are immutable and do no I/O."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Generic, TypeAlias, TypeVar, cast, overload

from ._unset import UNSET, Unset
from .transport import NO_HEADERS, Headers

__all__ = ["BatchRequest", "BatchResponse", "Params", "Request", "RequestId", "Response"]

RequestId: TypeAlias = int | str
T = TypeVar("T")
ErrorT = TypeVar("ErrorT", bound=BaseException)
Params: TypeAlias = Sequence[object] | Mapping[str, object] | object


def fresh(error: ErrorT) -> ErrorT:
    """A copy to raise: one exception instance raised twice would collect both callers' tracebacks."""
    try:
        twin = copy.copy(error)
    except Exception:
        # Somebody else's exception whose constructor takes other arguments than it stores.
        twin = type(error).__new__(type(error), *error.args)
        twin.args = error.args
        twin.__dict__.update(error.__dict__)
    twin.__cause__, twin.__suppress_context__ = error.__cause__, error.__suppress_context__
    return twin


# The default of sys.set_int_max_str_digits.
UNREADABLE = 10**4_300


def _shown(value: object) -> str:
    try:
        return f"{type(value).__name__} {value!r:.40}"
    except Exception:
        # Python shows no int of thousands of digits.
        return f"{type(value).__name__} ..."


def check_method(method: object) -> None:
    """Refuse a method name that is no non-empty string."""
    if not isinstance(method, str):
        raise TypeError(f"method must be a str, got {_shown(method)}")
    if not method:
        raise ValueError("method must not be empty")


class Request:
    """One JSON-RPC request.

    :param method: the method's name.
    :param params: a list or tuple (by position), a dict, a dataclass or a pydantic model (by name). Not
        given or ``None``: the request has no ``params`` member. An empty list or dict is sent empty.
    :param id: an int or str. Not given: the client's next id. ``None``: a notification, which has no answer.
    :raises TypeError: where one of them is of a type that JSON-RPC has no place for.
    :raises ValueError: where *method* is empty.
    """

    __slots__ = ("_id", "_method", "_params")

    def __init__(self, method: str, params: Params = UNSET, id: RequestId | Unset | None = UNSET) -> None:
        check_method(method)
        if params is not UNSET:
            if params is None:
                params = UNSET
            elif isinstance(params, (str, bytes, bytearray, int, float)):
                raise TypeError(
                    f"params must be a list, tuple, dict, dataclass or model, got {_shown(params)}; "
                    f"write params=[{_shown(params).partition(' ')[2]}] to send it as the one param"
                )
            elif isinstance(params, Mapping):
                for name in params:
                    if not isinstance(name, str):
                        raise TypeError(f"the names of params must be str, got {type(name).__name__} {name!r:.40}")
        if id is not UNSET and id is not None:
            id = check_id(id)
        self._method = method
        self._params = params
        self._id = id

    @property
    def method(self) -> str:
        """The method's name."""
        return self._method

    @property
    def params(self) -> Params:
        """The params, or :data:`~rpcretry.UNSET` where there are none."""
        return self._params

    @property
    def id(self) -> RequestId | Unset | None:
        """The id; ``None`` for a notification, :data:`~rpcretry.UNSET` for one that the client has yet to give."""
        return self._id

    @property
    def is_notification(self) -> bool:
        """Whether no answer is expected."""
        return self._id is None

    def with_id(self, id: RequestId) -> Request:
        """The same request with that id."""
        return prepared(self._method, self._params, id)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Request):
            return NotImplemented
        return (self._method, self._params, type(self._id), self._id) == (other._method, other._params, type(other._id), other._id)

    def __hash__(self) -> int:
        return hash((self._method, self._id))

    def __repr__(self) -> str:
        # Params may hold passwords and keys, so they are counted and not shown.
        params = "" if self._params is UNSET else f", params=<{type(self._params).__name__}>"
        identity = "" if self._id is UNSET else f", id={self._id!r}"
        return f"Request({self._method!r}{params}{identity})"


def check_id(id: object) -> RequestId:
    """Refuse an id that is neither int nor str: servers turn the others into something else.

    :returns: the plain int or str that a member of an IntEnum or StrEnum is on the wire.
    :raises ValueError: for an int whose answer could not be read.
    """
    if type(id) is str:
        return id
    if isinstance(id, int) and not -UNREADABLE < id < UNREADABLE:
        raise ValueError("id must be an int of at most 4,300 digits: Python reads no longer one back; use str")
    if type(id) is int:
        return id
    if isinstance(id, bool) or not isinstance(id, (int, str)):
        raise TypeError(f"id must be an int or a str, got {_shown(id)}; use str(...) for a UUID, and id=None for a notification")
    return int.__int__(id) if isinstance(id, int) else str.__str__(id)


def prepared(method: str, params: Params, id: RequestId | Unset | None) -> Request:
    """A request whose parts were checked before."""
    request = Request.__new__(Request)
    request._method = method
    request._params = params
    request._id = id
    return request


class BatchRequest(Sequence[Request]):
    """Several requests for one exchange.

    :param requests: the requests. Ids must differ; those without one get the client's next ids.
    :raises TypeError: where something is not a :class:`Request`.
    :raises ValueError: where there is none, or two have the same id.
    """

    __slots__ = ("_requests",)

    def __init__(self, *requests: Request) -> None:
        if not requests:
            raise ValueError("a batch needs at least one request: servers answer an empty one with an error")
        seen: set[RequestId] = set()
        for request in requests:
            if not isinstance(request, Request):
                raise TypeError(f"BatchRequest takes Request objects, got {type(request).__name__} {request!r:.60}; write BatchRequest(*requests) for a list")
            if isinstance(request._id, (int, str)):
                if request._id in seen:
                    raise ValueError(f"two requests of the batch have the id {request._id!r}; leave id out to have the client number them")
                seen.add(request._id)
        self._requests = requests

    @overload
    def __getitem__(self, index: int) -> Request: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Request, ...]: ...
    def __getitem__(self, index: int | slice) -> Request | tuple[Request, ...]:
        return self._requests[index]

    def __len__(self) -> int:
        return len(self._requests)

    def __iter__(self) -> Iterator[Request]:
        return iter(self._requests)

    @property
    def is_notification(self) -> bool:
        """Whether all of them are notifications, so that no answer is expected."""
        return all(request._id is None for request in self._requests)

    def __eq__(self, other: object) -> bool:
        return self._requests == other._requests if isinstance(other, BatchRequest) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._requests)

    def __repr__(self) -> str:
        return f"BatchRequest({', '.join(map(repr, self._requests))})"


def _said(error: Exception | None) -> tuple[object, ...]:
    return type(error), getattr(error, "args", None), getattr(error, "code", None), getattr(error, "data", None)


class Response(Generic[T]):
    """The answer to one request.

    :ivar id: the request's id.
    :ivar error: the server's :class:`~rpcretry.JsonRpcError`, or in a batch the failure that left this
        request without an answer; ``None`` for a success.
    :ivar status: the HTTP status that it came with.
    """

    __slots__ = ("_attempts", "_error", "_headers", "_id", "_result", "_status")

    def __init__(
        self,
        id: RequestId | None,
        result: object = UNSET,
        error: Exception | None = None,
        *,
        status: int = 200,
        headers: Mapping[str, str] = NO_HEADERS,
        attempts: int = 1,
    ) -> None:
        self._id = id
        self._result = result
        self._error = error
        self._status = status
        self._headers = headers
        self._attempts = attempts

    @property
    def id(self) -> RequestId | None:
        return self._id

    @property
    def result(self) -> T:
        """The result. Raises the error, a new instance at each access, where there is one."""
        if self._error is not None:
            raise fresh(self._error)
        return cast("T", None if self._result is UNSET else self._result)

    @property
    def error(self) -> Exception | None:
        return self._error

    @property
    def is_success(self) -> bool:
        return self._error is None

    @property
    def is_error(self) -> bool:
        return self._error is not None

    @property
    def status(self) -> int:
        return self._status

    @property
    def headers(self) -> Mapping[str, str]:
        """The HTTP headers that it came with; names in any case."""
        if type(self._headers) is not Headers:
            self._headers = Headers(self._headers)
        return self._headers

    @property
    def attempts(self) -> int:
        """How many times the request was sent."""
        return self._attempts

    def __getstate__(self) -> tuple[None, dict[str, object]]:
        names = ("_attempts", "_error", "_id", "_result", "_status")
        return None, {**{name: getattr(self, name) for name in names}, "_headers": self.headers}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Response):
            return NotImplemented
        mine, theirs = (type(self._id), self._id, self._result), (type(other._id), other._id, other._result)
        return mine == theirs and _said(self._error) == _said(other._error)

    def __repr__(self) -> str:
        # Results may hold secrets as params do; what fits in no secret is shown.
        shown = repr(self._result) if isinstance(self._result, (bool, int, float, type(None))) else f"<{type(self._result).__name__}>"
        what = f"error={self._error!r}" if self._error is not None else f"result={shown}"
        return f"Response(id={self._id!r}, {what}, status={self._status})"


class BatchResponse(Sequence[Response[Any]]):
    """The answers to a batch, in the order of its requests, notifications left out.

    A request that got no answer is in its place with the failure as its ``error``.
    """

    __slots__ = ("_made", "_results")

    def __init__(self, responses: Sequence[Response[Any]] = ()) -> None:
        self._made: tuple[Response[Any], ...] | None = tuple(responses)
        self._results: tuple[Sequence[Any], list[Any], int, Mapping[str, str]] = ((), [], 200, NO_HEADERS)

    @classmethod
    def of_results(cls, ids: Sequence[Any], results: list[Any], status: int, headers: Mapping[str, str]) -> BatchResponse:
        """That all of one exchange succeeded; each response is made when somebody looks at one."""
        twin = cls()
        twin._made, twin._results = None, (ids, results, status, headers)
        return twin

    @property
    def _responses(self) -> tuple[Response[Any], ...]:
        if self._made is None:
            ids, results, status, headers = self._results
            self._made = tuple([Response(id, result, status=status, headers=headers) for id, result in zip(ids, results, strict=True)])
        return self._made

    def __getstate__(self) -> tuple[None, dict[str, object]]:
        return None, {"_made": self._responses, "_results": ((), [], 200, NO_HEADERS)}

    @overload
    def __getitem__(self, index: int) -> Response[Any]: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Response[Any], ...]: ...
    def __getitem__(self, index: int | slice) -> Response[Any] | tuple[Response[Any], ...]:
        return self._responses[index]

    def __len__(self) -> int:
        return len(self._responses)

    def __iter__(self) -> Iterator[Response[Any]]:
        return iter(self._responses)

    @property
    def results(self) -> list[Any]:
        """All results in order. Raises the first error in it; look at the responses for the others."""
        if self._made is None:
            return self._results[1].copy()
        return [response.result for response in self._responses]

    @property
    def is_success(self) -> bool:
        """Whether every request succeeded."""
        return self._made is None or all(response._error is None for response in self._responses)

    @property
    def is_error(self) -> bool:
        """Whether any request failed."""
        return not self.is_success

    def __eq__(self, other: object) -> bool:
        return self._responses == other._responses if isinstance(other, BatchResponse) else NotImplemented

    def by_id(self, id: RequestId) -> Response[Any]:
        """The response to that id. Raises KeyError where the batch had no such id."""
        for response in self._responses:
            if response._id == id and type(response._id) is type(id):
                return response
        raise KeyError(id)

    def __repr__(self) -> str:
        return f"BatchResponse({list(self._responses)!r})"
