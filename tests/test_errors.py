"""Every exception: what it is, what it says about delivery, and that nothing of it gets lost."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from typing import Any

import multidict
import pytest
from requests.structures import CaseInsensitiveDict

from rpcretry import UNSET, errors
from rpcretry.codec import JsonCodec, Reader, read_batch, read_single
from rpcretry.errors import (
    BatchUnfinishedError,
    BudgetExhaustedError,
    BulkError,
    CertificateError,
    CircuitOpenError,
    CircuitState,
    ClientClosedError,
    ConnectError,
    ConnectionLostError,
    ConnectTimeoutError,
    DeadlineExceeded,
    Delivery,
    HTTPStatusError,
    IdentityError,
    InternalError,
    InvalidParamsError,
    InvalidRequestError,
    InvalidTargetError,
    JsonRpcError,
    LimitReachedError,
    MethodNotFoundError,
    MissingResponseError,
    ParseError,
    ProtocolError,
    RedirectError,
    Refused,
    RequestTimeoutError,
    ResponseTooLargeError,
    ResultValidationError,
    RetryableError,
    RetryExhaustedError,
    RpcRetryError,
    ServerError,
    TransportError,
    error_class,
    error_registry,
)
from rpcretry.messages import Request, fresh
from rpcretry.transport import Exchange, Reply

CLASSES = sorted((cls for cls in vars(errors).values() if inspect.isclass(cls) and issubclass(cls, RpcRetryError)), key=lambda cls: cls.__name__)
HTTP = {"status": 503, "headers": {"Retry-After": "1"}}


class Unpaid(JsonRpcError):
    """A class whose constructor takes other arguments than it hands on."""

    CODE = 2001

    def __init__(self, message: str, *, code: int, data: object, status: int | None, headers: Any) -> None:
        super().__init__(f"unpaid: {message}", code=code, data=data, status=status, headers=headers)
        self.customer = "c-7"


INSTANCES = [
    RpcRetryError("m"),
    BatchUnfinishedError("m", delivery=Delivery.MAYBE_EXECUTED),
    BulkError("m", successful=[1], failed=[2]),
    JsonRpcError("m", code=2001, data={"a": [1]}, **HTTP),
    JsonRpcError(),
    ParseError("m"),
    InvalidRequestError(data=None),
    MethodNotFoundError(),
    InvalidParamsError("m", data="d"),
    InternalError("m"),
    ServerError("m", code=-32005),
    HTTPStatusError("m", **HTTP, excerpt="e", delivery=Delivery.REJECTED),
    RedirectError("m", status=301),
    ProtocolError("m", **HTTP, excerpt="e", errors=[ParseError("reason", data=1)]),
    IdentityError("m", errors=[JsonRpcError("reason", code=5)]),
    MissingResponseError("m", status=200),
    ResponseTooLargeError("m"),
    ResultValidationError("m", result={"a": 1}, details=[{"loc": ("a",), "msg": "no"}], status=200),
    TransportError("m", delivery=Delivery.NOT_SENT),
    ConnectError("m"),
    ConnectTimeoutError("m"),
    ConnectionLostError("m"),
    RequestTimeoutError("m", delivery=Delivery.NOT_SENT),
    CertificateError("m"),
    InvalidTargetError("m"),
    Refused("m"),
    CircuitOpenError("m", name="prices", state=CircuitState.HALF_OPEN, remaining=1.5),
    BudgetExhaustedError("m", name="prices", level=0.5),
    LimitReachedError("m", name="prices", remaining=0.25),
    RetryableError("m", delay=2.0),
    DeadlineExceeded("m", deadline=1.5, elapsed=1.25, attempts=2),
    RetryExhaustedError("m", attempts=3, last_exception=ConnectError("last"), elapsed=0.5),
    ClientClosedError("m"),
    Unpaid("m", code=2001, data=None, status=402, headers={}),
]


def parts(error: BaseException) -> Any:
    """All that a copy must have, exceptions inside of it included."""

    def plain(value: object) -> object:
        if isinstance(value, BaseException):
            return parts(value)
        if isinstance(value, (tuple, list)):
            return [plain(one) for one in value]
        return dict(value) if hasattr(value, "items") else value

    return type(error), str(error), repr(error), error.args, {name: plain(value) for name, value in vars(error).items()}


def test_the_instances_leave_no_class_out() -> None:
    assert {type(error) for error in INSTANCES} == {*CLASSES, Unpaid}


@pytest.mark.parametrize("error", INSTANCES, ids=lambda error: type(error).__name__)
def test_every_exception_pickles_and_copies_with_all_it_has(error: RpcRetryError) -> None:
    error = copy.copy(error)
    error.add_note("first")
    error.add_note("second")
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        assert parts(pickle.loads(pickle.dumps(error, protocol))) == parts(error)
    for twin in (copy.copy(error), copy.deepcopy(error), fresh(error)):
        assert twin is not error
        assert parts(twin) == parts(error)
        assert twin.delivery is error.delivery
        # A note on one of them is no note on the other.
        twin.add_note("third")
        assert error.__notes__ == ["first", "second"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Retry-After": "1"},
        CaseInsensitiveDict({"Retry-After": "1"}),
        multidict.CIMultiDict({"Retry-After": "1"}),
        multidict.CIMultiDictProxy(multidict.CIMultiDict({"Retry-After": "1"})),
    ],
    ids=lambda headers: type(headers).__name__,
)
def test_an_exception_pickles_whatever_its_headers_are(headers: Any) -> None:
    for error in (JsonRpcError("m", headers=headers), HTTPStatusError("m", headers=headers), ProtocolError("m", headers=headers)):
        twin = pickle.loads(pickle.dumps(error))
        assert twin.headers["retry-after"] == twin.headers["Retry-After"] == "1"


def test_a_fresh_copy_keeps_its_cause_and_no_traceback() -> None:
    cause = OSError("cause")
    try:
        raise ConnectError("m") from cause
    except ConnectError as caught:
        error = caught
    twin = fresh(error)
    assert (twin.__cause__, twin.__suppress_context__, twin.__traceback__) == (cause, True, None)


class Foreign(Exception):
    """Somebody else's, which copy.copy cannot make again."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(f"{host}:{port}")
        self.port = port


@pytest.mark.parametrize("error", [Foreign("h", 80), ValueError("v"), OSError(5, "io"), UnicodeDecodeError("utf-8", b"x", 0, 1, "r"), KeyError("k")])
def test_a_fresh_copy_of_somebody_elses_exception_is_another_instance(error: Exception) -> None:
    twin = fresh(error)
    assert twin is not error
    assert parts(twin) == parts(error)


# --- the tree ---


def drawn() -> list[tuple[str, str, list[str], list[str]]]:
    """Name, parent, builtins and deliveries of each line of the tree at the top of the module."""
    found = []
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.fullmatch(r"    ((?:[│ ] {3})*(?:[├└]── )?)(\w+)\s*(.*)", line)
        if match is None or not hasattr(errors, match[2]):
            continue
        depth = len(match[1]) // 4
        path[depth:] = [match[2]]
        found.append(
            (match[2], path[depth - 1] if depth else "", re.findall(r"\((\w+)\)", match[3]), re.findall(r"\b(?:NOT_SENT|REJECTED|MAYBE_EXECUTED)\b", match[3]))
        )
    return found


TREE = drawn()


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    assert sorted(name for name, *_ in TREE) == [cls.__name__ for cls in CLASSES]
    assert (errors.__doc__ or "").count("──") == len(CLASSES) - 1
    for name, parent, *_ in TREE:
        cls = getattr(errors, name)
        assert cls.__bases__[0] is (getattr(errors, parent) if parent else Exception), name


@pytest.mark.parametrize(("name", "builtins_"), [(name, builtins_) for name, _, builtins_, _ in TREE])
def test_every_exception_is_of_the_builtins_drawn_and_of_no_others(name: str, builtins_: list[str]) -> None:
    watched = {"ConnectionError", "TimeoutError", "ValueError", "RuntimeError", "TypeError", "KeyError", "OSError"}
    cls = getattr(errors, name)
    ancestors = {ancestor.__name__ for ancestor in cls.__mro__ if ancestor.__module__ == "builtins"} & watched
    inherited = {builtin for other, _, more, _ in TREE for builtin in more if issubclass(cls, getattr(errors, other))}
    assert set(builtins_) <= ancestors
    # OSError comes with ConnectionError and TimeoutError.
    assert ancestors - {"OSError"} == inherited


def test_what_a_caller_catches_with_builtins() -> None:
    assert issubclass(ConnectTimeoutError, ConnectionError)
    assert issubclass(ConnectTimeoutError, TimeoutError)
    assert issubclass(ConnectTimeoutError, ConnectError)
    assert issubclass(RequestTimeoutError, TimeoutError)
    assert not issubclass(RequestTimeoutError, ConnectionError)
    assert not issubclass(ConnectionLostError, TimeoutError)
    assert not issubclass(Refused, ConnectionError)
    assert not any(
        issubclass(cls, (ConnectionError, TimeoutError)) for cls in (CertificateError, InvalidTargetError, JsonRpcError, ProtocolError, HTTPStatusError)
    )


@pytest.mark.parametrize(("name", "deliveries"), [(name, deliveries) for name, _, _, deliveries in TREE if deliveries])
def test_every_exception_has_the_delivery_drawn(name: str, deliveries: list[str]) -> None:
    cls = getattr(errors, name)
    assert cls("m").delivery.name == deliveries[0]
    assert cls.delivery.name == deliveries[0]


def test_deliveries_that_depend_on_the_case() -> None:
    assert RequestTimeoutError("m").delivery is Delivery.MAYBE_EXECUTED
    assert RequestTimeoutError("m", delivery=Delivery.NOT_SENT).delivery is Delivery.NOT_SENT
    assert RetryExhaustedError("m", last_exception=ConnectError()).delivery is Delivery.NOT_SENT
    assert RetryExhaustedError("m", last_exception=KeyError()).delivery is Delivery.MAYBE_EXECUTED
    assert [cls.__name__ for cls in CLASSES if issubclass(cls, TransportError) and cls.permanent] == ["CertificateError", "InvalidTargetError"]


def test_every_exception_is_exported_and_documented() -> None:
    import rpcretry

    for cls in CLASSES:
        assert cls.__name__ in errors.__all__
        assert cls.__name__ in rpcretry.__all__
        assert cls.__doc__


# --- codes ---


class Taken(JsonRpcError):
    CODE = 2001
    MESSAGE = "taken"


class Business(JsonRpcError):
    CODE = range(2000, 3000)


class Quiet(MethodNotFoundError):
    CODE = -32601


class AllStandard(JsonRpcError):
    CODE = range(-32768, -31999)


class Whole(JsonRpcError):
    CODE = range(-32099, -31999)


def raised(registry: Any, code: int) -> type[JsonRpcError]:
    reply = Reply(b'{"jsonrpc":"2.0","id":1,"error":{"code":%d,"message":"m"}}' % code)
    with pytest.raises(JsonRpcError) as caught:
        read_single(Reader(JsonCodec(), registry), reply, 1)
    assert caught.value.code == code
    assert type(caught.value) is error_class(registry, code)
    return type(caught.value)


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        ([], {2001: JsonRpcError, -32601: MethodNotFoundError, -32000: ServerError, -32099: ServerError, -32100: JsonRpcError, -31999: JsonRpcError}),
        ([Taken], {2001: Taken, 2000: JsonRpcError}),
        ([Business], {2000: Business, 2001: Business, 2999: Business, 3000: JsonRpcError, 1999: JsonRpcError}),
        ([Business, Taken], {2001: Taken, 2002: Business}),
        # A single code comes before a range, whatever the order, and otherwise later ones before earlier ones.
        ([Taken, Business], {2001: Taken, 2002: Business}),
        ([AllStandard, Whole], {-32000: Whole, -32601: AllStandard}),
        ([Quiet], {-32601: Quiet, -32600: InvalidRequestError}),
        ([AllStandard], {-32700: AllStandard, -32601: AllStandard, -32000: AllStandard, -31999: JsonRpcError}),
        ([AllStandard, Quiet], {-32700: AllStandard, -32601: Quiet}),
        ([Whole], {-32000: Whole, -32099: Whole, -32603: InternalError}),
        ([ServerError], {-32000: ServerError, -32601: MethodNotFoundError}),
    ],
)
def test_a_users_classes_stand_for_their_codes(classes: list[type[JsonRpcError]], expected: dict[int, type[JsonRpcError]]) -> None:
    registry = error_registry(classes)
    assert {code: raised(registry, code) for code in expected} == expected


def test_a_registry_knows_nothing_of_another() -> None:
    assert raised(error_registry([Taken]), 2001) is Taken
    assert raised(error_registry(), 2001) is JsonRpcError
    assert raised(error_registry([Quiet]), -32601) is Quiet
    assert raised(error_registry(), -32601) is MethodNotFoundError


class NoCode(JsonRpcError):
    pass


class TrueCode(JsonRpcError):
    CODE = True


class TextCode(JsonRpcError):
    CODE = "2001"  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (Taken, r"errors takes an iterable of classes, got the class Taken; write errors=\[Taken\]"),
        ([NoCode], "NoCode.CODE must be an int or a range of them, got None; give the class a CODE"),
        ([TrueCode], "TrueCode.CODE must be an int"),
        ([TextCode], "TextCode.CODE must be an int .* got '2001'"),
        ([ValueError], "errors takes subclasses of JsonRpcError, got <class 'ValueError'>"),
        ([Taken("m")], "errors takes subclasses of JsonRpcError, got"),
        ([2001], "errors takes subclasses of JsonRpcError, got 2001"),
        (None, "errors takes an iterable of classes, got NoneType None"),
        (2001, "errors takes an iterable of classes, got int 2001"),
    ],
)
def test_what_is_no_class_of_errors_is_refused(bad: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        error_registry(bad)


def test_a_class_gives_its_code_and_message_where_none_came() -> None:
    assert (Taken().code, str(Taken())) == (2001, "taken [2001]")
    assert (Business().code, str(Business())) == (2000, "JSON-RPC error 2000")
    assert str(JsonRpcError("no", code=5)) == "no [5]"
    assert repr(Taken("no")) == "Taken('no [2001]')"
    assert (JsonRpcError().code, str(JsonRpcError())) == (0, "JSON-RPC error 0")
    assert JsonRpcError("m").data is UNSET


class NeedsMore(JsonRpcError):
    CODE = 2002

    def __init__(self, customer: str) -> None:
        super().__init__(customer)


class Explodes(JsonRpcError):
    CODE = 2003

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise ZeroDivisionError("never works")


class Forgets(JsonRpcError):
    """Does not call super: nothing that came is in it."""

    CODE = 2004

    def __init__(self, message: str, **_: Any) -> None:
        self.mine = message


@pytest.mark.parametrize("cls", [NeedsMore, Explodes, Forgets])
def test_a_class_with_a_broken_init_loses_nothing(cls: type[JsonRpcError]) -> None:
    assert isinstance(cls.CODE, int)
    reader = Reader(JsonCodec(), error_registry([cls]))
    document = b'{"code":%d,"message":"m","data":{"a":1}}' % cls.CODE
    with pytest.raises(JsonRpcError) as caught:
        read_single(reader, Reply(b'{"id":1,"error":%b}' % document, 402, {"A": "b"}), 1)
    whole = read_batch(reader, Reply(b'{"id":null,"error":%b}' % document, 402, {"A": "b"}), Exchange(b"", (Request("m", id=1), Request("m", id=2)), (1, 2)))
    assert whole[0] is not whole[1]
    for error in (caught.value, *whole, pickle.loads(pickle.dumps(caught.value))):
        assert (error.code, error.message, error.data, error.status) == (cls.CODE, "m", {"a": 1}, 402)
        assert error.headers["a"] == "b"
        (note,) = error.__notes__
        assert cls.__name__ in note
        assert "its __init__ must take what JsonRpcError's takes" in note


def test_a_class_with_an_init_of_its_own_is_raised_pickled_and_copied() -> None:
    reader = Reader(JsonCodec(), error_registry([Unpaid]))
    with pytest.raises(Unpaid, match=r"unpaid: m \[2001\]") as caught:
        read_single(reader, Reply(b'{"id":1,"error":{"code":2001,"message":"m"}}', 402), 1)
    for twin in (pickle.loads(pickle.dumps(caught.value)), copy.copy(caught.value), fresh(caught.value)):
        assert (str(twin), twin.customer, twin.status) == ("unpaid: m [2001]", "c-7", 402)
    whole = read_batch(reader, Reply(b'{"id":null,"error":{"code":2001,"message":"m"}}', 402), Exchange(b"", (Request("m", id=1), Request("m", id=2)), (1, 2)))
    # Not "unpaid: unpaid: m", which another round through __init__ would make.
    assert [str(error) for error in whole] == ["unpaid: m [2001]"] * 2
