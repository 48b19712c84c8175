"""Failures in what the server answered."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from .._unset import UNSET
from ._base import Delivery, RpcRetryError

__all__ = [
    "HTTPStatusError",
    "IdentityError",
    "InternalError",
    "InvalidParamsError",
    "InvalidRequestError",
    "JsonRpcError",
    "MethodNotFoundError",
    "MissingResponseError",
    "ParseError",
    "ProtocolError",
    "RedirectError",
    "ResponseTooLargeError",
    "ResultValidationError",
    "ServerError",
    "error_class",
    "error_registry",
]


class JsonRpcError(RpcRetryError):
    """An error that the server answered with.

    Subclass it with a ``CODE`` (an int, or a ``range`` of them) and hand the class to a client as
    ``errors=[...]``: that client then raises it for that code, and no other client is touched. Annotate ``data`` in the
    class, and pydantic validates what comes with the error into that type.

    :param message: the server's own sentence; ``MESSAGE`` of the class where it is empty.
    :param code: the JSON-RPC error code; ``CODE`` of the class where it is not given. 0 stands for
        an error whose sender gave no number.
    :param data: what came with the error, or :data:`~rpcretry.UNSET`. Data that is not of the type that the class declares stays
        as it came, and a note on the error says what is wrong with it.
    :param status: the HTTP status of the answer, if the backend knows one.
    :param headers: the HTTP headers of the answer.
    """

    CODE: ClassVar[int | range | None] = None
    MESSAGE: ClassVar[str] = ""

    _raw_data: object

    def __init__(
        self, message: str = "", *, code: int | None = None, data: object = UNSET, status: int | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        if code is None:
            declared = self.CODE
            code = declared if isinstance(declared, int) else declared[0] if declared else 0
        self.code: int = code
        self.message: str = message or self.MESSAGE
        # Any, so that a subclass may declare a type of its own.
        self.data: Any = data
        self.status: int | None = status
        self.headers: Mapping[str, str] | None = headers

    @property
    def raw_data(self) -> object:
        """What came with the error, as the server sent it, whatever type the class declares."""
        return vars(self).get("_raw_data", self.data)

    def __copy__(self) -> JsonRpcError:
        restore, arguments = super().__reduce__()
        copied: JsonRpcError = restore(*arguments)
        return copied

    def __reduce__(self) -> tuple[Any, ...]:
        restore, (cls, args, state) = super().__reduce__()
        if "_raw_data" in state:
            try:
                pickle.dumps(self.data)
            except Exception:
                # Whatever a class of the user's holds, the error gets through, with what it was made of.
                state["data"] = self._raw_data
                state["__notes__"] = [*state.get("__notes__", ()), f"its data is as it came, since a {type(self.data).__name__} cannot be pickled"]
        return restore, (cls, args, state)

    def __str__(self) -> str:
        return f"{self.message} [{self.code}]" if self.message else f"JSON-RPC error {self.code}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"


class ParseError(JsonRpcError):
    """-32700: the server could not parse the request as JSON."""

    CODE: ClassVar[int | range | None] = -32700
    MESSAGE = "Parse error"


class InvalidRequestError(JsonRpcError):
    """-32600: the server does not take the document for a JSON-RPC request."""

    CODE: ClassVar[int | range | None] = -32600
    MESSAGE = "Invalid Request"


class MethodNotFoundError(JsonRpcError):
    """-32601: the server has no such method."""

    CODE: ClassVar[int | range | None] = -32601
    MESSAGE = "Method not found"


class InvalidParamsError(JsonRpcError):
    """-32602: the method does not take these params."""

    CODE: ClassVar[int | range | None] = -32602
    MESSAGE = "Invalid params"


class InternalError(JsonRpcError):
    """-32603: the server failed."""

    CODE: ClassVar[int | range | None] = -32603
    MESSAGE = "Internal error"


class ServerError(JsonRpcError):
    """-32099 to -32000: the range that the specification leaves to servers."""

    CODE: ClassVar[int | range | None] = range(-32099, -31999)
    MESSAGE = "Server error"


Registry = tuple[Mapping[int, type[JsonRpcError]], Sequence[tuple[range, type[JsonRpcError]]]]


def error_registry(errors: Iterable[type[JsonRpcError]] = ()) -> Registry:
    """Build the table from code to exception class of one client.

    :param errors: classes with ``CODE``; they come before the standard ones, a single code before a range, and
        later ones before earlier.
    :raises TypeError: where something is not a subclass of :class:`JsonRpcError` with a ``CODE``.
    """
    exact: dict[int, type[JsonRpcError]] = {}
    ranges: list[tuple[range, type[JsonRpcError]]] = []
    standard = (ParseError, InvalidRequestError, MethodNotFoundError, InvalidParamsError, InternalError, ServerError)
    if isinstance(errors, type):
        raise TypeError(f"errors takes an iterable of classes, got the class {errors.__name__}; write errors=[{errors.__name__}]")
    if not isinstance(errors, Iterable):
        raise TypeError(f"errors takes an iterable of classes, got {type(errors).__name__} {errors!r:.60}")
    for cls in (*standard, *errors):
        if not (isinstance(cls, type) and issubclass(cls, JsonRpcError)):
            raise TypeError(f"errors takes subclasses of JsonRpcError, got {cls!r}")
        if isinstance(cls.CODE, range):
            ranges.insert(0, (cls.CODE, cls))
            # A range of the user's comes before the standard classes, and not before a class of theirs for one code.
            for code in [code for code, known in exact.items() if code in cls.CODE and known in standard]:
                del exact[code]
        elif isinstance(cls.CODE, int) and not isinstance(cls.CODE, bool):
            exact[cls.CODE] = cls
        else:
            raise TypeError(f"{cls.__name__}.CODE must be an int or a range of them, got {cls.CODE!r}; give the class a CODE")
    return exact, ranges


def error_class(registry: Registry, code: int) -> type[JsonRpcError]:
    """The class that a client raises for *code*."""
    exact, ranges = registry
    found = exact.get(code)
    if found is not None:
        return found
    return next((cls for codes, cls in ranges if code in codes), JsonRpcError)


class HTTPStatusError(RpcRetryError):
    """An HTTP status that is no success, around a body that is no JSON-RPC answer.

    :param status: the HTTP status.
    :param headers: the HTTP headers of the answer.
    :param excerpt: the first characters of the body, without the URLs and paths in it.
    """

    def __init__(
        self,
        message: str = "",
        *,
        status: int = 0,
        headers: Mapping[str, str] | None = None,
        excerpt: str = "",
        delivery: Delivery = Delivery.MAYBE_EXECUTED,
    ) -> None:
        super().__init__(message)
        self.status: int = status
        self.headers: Mapping[str, str] | None = headers
        self.excerpt: str = excerpt
        self.delivery = delivery


class RedirectError(HTTPStatusError):
    """The server answered a POST with a redirect; following one would send the params elsewhere."""


class ProtocolError(RpcRetryError):
    """The answer is not a JSON-RPC answer to what was asked. Never retried by the default strategy.

    :param status: the HTTP status, where the backend knows one.
    :param headers: the HTTP headers of the answer.
    :param excerpt: the first characters of the body, without the URLs and paths in it.
    :param errors: what the server itself gave as the reason, where it did.
    """

    def __init__(
        self,
        message: str = "",
        *,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
        excerpt: str = "",
        errors: Sequence[JsonRpcError] = (),
    ) -> None:
        super().__init__(message)
        self.status: int | None = status
        self.headers: Mapping[str, str] | None = headers
        self.excerpt: str = excerpt
        self.errors: tuple[JsonRpcError, ...] = tuple(errors)


class IdentityError(ProtocolError):
    """An answer with an id that was not asked for, was answered twice, or is null beside a result."""


class MissingResponseError(ProtocolError):
    """The server answered a batch and left this request out."""


class ResponseTooLargeError(ProtocolError):
    """The body, after decompression, is larger than ``max_response_size``; the rest was not read."""


class ResultValidationError(ProtocolError):
    """The result is not of the type that ``_result=`` asks for. Never retried.

    :param result: the result as the server sent it.
    :param details: pydantic's list of what is wrong with it.
    """

    def __init__(self, message: str = "", *, result: object = UNSET, details: Sequence[Mapping[str, object]] = (), status: int | None = None) -> None:
        super().__init__(message, status=status)
        self.result: object = result
        self.details: tuple[Mapping[str, object], ...] = tuple(details)
