"""``client.typed``: calls through an interface, on both drivers."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import datetime
import enum
import gc
import inspect
import pickle
import threading
import types
import weakref
from typing import Annotated, Any, Generic, Protocol, Required, TypeVar, Unpack, runtime_checkable

import pydantic
import pytest
from support import Rig, Slow, both_drivers, finish
from typing_extensions import TypedDict

from rpcretry import (
    UNSET,
    AsyncInterface,
    Client,
    ClientClosedError,
    ConnectError,
    ConnectionLostError,
    Fallback,
    InvalidParamsError,
    RequestTimeoutError,
    ResultValidationError,
    RetryStrategy,
    notification,
    rpc,
)
from rpcretry._unset import Unset
from rpcretry.client import _interface_plan
from rpcretry.retry import PeriodicBackoff
from rpcretry.testing import ScriptedBackend, error, result

T = TypeVar("T")


class Balance(pydantic.BaseModel):
    amount: int = pydantic.Field(alias="AMT")


@dataclasses.dataclass
class Point:
    x: int
    when: datetime.date | None = None


class Colour(enum.Enum):
    RED = "red"


class Options(pydantic.BaseModel):
    depth: int = 1


class Filter(TypedDict, total=False):
    first: Required[int]
    after: datetime.date


@runtime_checkable
class Wallet(Protocol):
    """A wallet."""

    UNIT = "sat"

    @rpc(name="wallet.getBalance", by="name")
    def get_balance(self, address: str, confirmations: int = 1) -> Balance:
        """What an address has."""
        ...

    def move(self, source: str, target: str = "me", amount: int = 5, note: str | None = None) -> bool: ...

    def tail(self, first: int, *rest: int) -> Any: ...

    def find(self, *, name: str, limit: int | Unset = UNSET) -> list[str]: ...

    @rpc(by="name")
    def open(self, kind: str, **options: int) -> Any: ...

    def search(self, **filter: Unpack[Filter]) -> Any: ...

    def late(self, a: int, b: int | Unset = UNSET, c: int = ...) -> Any: ...  # type: ignore[assignment]

    def point(self, where: Point, colour: Colour = Colour.RED, when: datetime.datetime | None = None) -> Point: ...

    def send(self, from_: Annotated[str, pydantic.Field(alias="from")], value: Balance) -> None: ...

    @rpc(by="name")
    def send_by_name(self, from_: Annotated[str, pydantic.Field(alias="from")], value: Balance) -> None: ...

    def free(self, anything, more=3): ...  # type: ignore[no-untyped-def]

    def lock(self) -> None: ...

    def plain(self) -> Any: ...

    @notification
    def log(self, line: str) -> None: ...

    @notification(name="trace.event", by="name")
    def trace(self, line: str, level: int = 1) -> None: ...

    def _private(self) -> None: ...


def sent_by(rig: Rig, act: Any) -> Any:
    """The document that went out."""
    rig.run(lambda client: act(client.typed(Wallet)))
    return rig.backend.bodies[-1]


NO_PARAMS = object()

CALLS: list[tuple[Any, str, Any]] = [
    (lambda api: api.get_balance("a"), "wallet.getBalance", {"address": "a"}),
    (lambda api: api.get_balance("a", 2), "wallet.getBalance", {"address": "a", "confirmations": 2}),
    (lambda api: api.get_balance(confirmations=2, address="a"), "wallet.getBalance", {"address": "a", "confirmations": 2}),
    (lambda api: api.move("a"), "move", ["a"]),
    (lambda api: api.move("a", "b", 3), "move", ["a", "b", 3]),
    (lambda api: api.move(target="b", source="a"), "move", ["a", "b"]),
    (lambda api: api.move("a", amount=7), "move", ["a", "me", 7]),
    (lambda api: api.move("a", note="n"), "move", ["a", "me", 5, "n"]),
    (lambda api: api.move("a", note=None), "move", ["a", "me", 5, None]),
    (lambda api: api.move("a", amount="7"), "move", ["a", "me", 7]),
    (lambda api: api.tail(1), "tail", [1]),
    (lambda api: api.tail(1, 2, "3"), "tail", [1, 2, 3]),
    (lambda api: api.find(name="x"), "find", {"name": "x"}),
    (lambda api: api.find(name="x", limit=3), "find", {"name": "x", "limit": 3}),
    (lambda api: api.find(name="x", limit=UNSET), "find", {"name": "x"}),
    (lambda api: api.open("k"), "open", {"kind": "k"}),
    (lambda api: api.open("k", a=1, b="2"), "open", {"kind": "k", "a": 1, "b": 2}),
    (lambda api: api.search(first=1), "search", {"first": 1}),
    (lambda api: api.search(first="1", after=datetime.date(2026, 1, 2)), "search", {"first": 1, "after": "2026-01-02"}),
    (lambda api: api.late(1), "late", [1]),
    (lambda api: api.late(1, 2, 3), "late", [1, 2, 3]),
    (lambda api: api.late(1, UNSET), "late", [1]),
    (lambda api: api.point(Point(1, datetime.date(2026, 1, 2))), "point", [{"x": 1, "when": "2026-01-02"}]),
    (lambda api: api.point({"x": "1"}, "red"), "point", [{"x": 1, "when": None}, "red"]),
    (lambda api: api.point({"x": 1}, when=datetime.datetime(2026, 1, 2)), "point", [{"x": 1, "when": None}, "red", "2026-01-02T00:00:00"]),
    (lambda api: api.send("a", Balance(AMT=3)), "send", ["a", {"AMT": 3}]),
    (lambda api: api.send(value={"AMT": 3}, from_="a"), "send", ["a", {"AMT": 3}]),
    (lambda api: api.send_by_name("a", Balance(AMT=3)), "send_by_name", {"from": "a", "value": {"AMT": 3}}),
    (lambda api: api.free(Balance(AMT=3), [1]), "free", [{"AMT": 3}, [1]]),
    (lambda api: api.free(anything=1), "free", [1]),
    (lambda api: api.lock(), "lock", NO_PARAMS),
    (lambda api: api.trace("a"), "trace.event", {"line": "a"}),
]


@pytest.mark.parametrize(("act", "method", "params"), CALLS, ids=[f"{number} {one[1]}" for number, one in enumerate(CALLS)])
@both_drivers
def test_what_goes_out(driver: str, act: Any, method: str, params: Any) -> None:
    values = {"get_balance": {"AMT": 1}, "wallet.getBalance": {"AMT": 1}, "move": True, "find": [], "point": {"x": 1}}
    document = sent_by(Rig(driver, result(values.get(method))), act)
    assert document["method"] == method
    assert document.get("params", NO_PARAMS) == params
    assert ("id" in document) is (method != "trace.event")


WRONG: list[tuple[Any, str]] = [
    (lambda api: api.get_balance(), r"^Wallet\.get_balance\(\): missing a required argument: 'address'$"),
    (lambda api: api.get_balance("a", 1, 2), r"^Wallet\.get_balance\(\): too many positional arguments$"),
    (lambda api: api.get_balance("a", depth=1), r"^Wallet\.get_balance\(\): got an unexpected keyword argument 'depth'$"),
    (lambda api: api.get_balance("a", address="b"), r"^Wallet\.get_balance\(\): multiple values for argument 'address'$"),
    (lambda api: api.get_balance(5), r"^Wallet\.get_balance\(\): address: Input should be a valid string$"),
    (lambda api: api.get_balance("a", "s3cret"), r"^Wallet\.get_balance\(\): confirmations: Input should be a valid integer, unable to parse string"),
    (lambda api: api.get_balance("a", _timeout=3), r"^Wallet\.get_balance\(\) has no option '_timeout'; write client\.using\(timeout=\.\.\.\)"),
    (lambda api: api.open("a", _deadline=3), r"^Wallet\.open\(\) has no option '_deadline'; write client\.using\(deadline=\.\.\.\)"),
    (lambda api: api.open("a", _x=3), r"^Wallet\.open\(\) has no option '_x'$"),
    (lambda api: api.open("a", kind=3), r"^Wallet\.open\(\): multiple values for argument 'kind'"),
    (lambda api: api.tail(1, "x"), r"^Wallet\.tail\(\): rest\.0: Input should be"),
    (lambda api: api.search(first=1, last=1), r"^Wallet\.search\(\): got an unexpected keyword argument 'last'$"),
    (lambda api: api.search(after="2026-01-02"), r"^Wallet\.search\(\): missing a required (keyword-only )?argument: 'first'$"),
    (lambda api: api.search(first="x"), r"^Wallet\.search\(\): first: Input should be a valid integer"),
    (lambda api: api.late(1, c=3), r"^Wallet\.late\(\) sends params by position, and 'b', which stands before 'c', has no default to send; give 'b', too$"),
    (lambda api: api.late(UNSET), r"^Wallet\.late\(\): missing a required argument: 'a'$"),
    (lambda api: api.find(name=UNSET), r"^Wallet\.find\(\): missing a required argument: 'name'$"),
    (lambda api: api.point(Point(1), "blue"), r"^Wallet\.point\(\): colour: Input should be 'red'$"),
    (lambda api: api.point({"x": "s3cret", "when": "s3cret"}, "blue"), r"^Wallet\.point\(\): where\.x: .*; where\.when: .*; colour: .*$"),
    (lambda api: api.send("a", {}), r"^Wallet\.send\(\): value\.AMT: Field required$"),
    (lambda api: api.send(5, {}), r"^Wallet\.send\(\): from_: .*; value\.AMT: Field required$"),
    (lambda api: api.lock(1), r"^Wallet\.lock\(\): too many positional arguments$"),
    (lambda api: api.log(), r"^Wallet\.log\(\): missing a required argument: 'line'$"),
    (lambda api: api.log(None), r"^Wallet\.log\(\): line: Input should be a valid string$"),
]


@pytest.mark.parametrize(("act", "message"), WRONG, ids=[str(number) for number in range(len(WRONG))])
@both_drivers
def test_a_wrong_call_fails_before_anything_is_sent(driver: str, act: Any, message: str) -> None:
    rig = Rig(driver, result(1))
    with pytest.raises(TypeError, match=message) as caught:
        # Called, and not awaited.
        act(rig.client.typed(Wallet))
    assert "s3cret" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert rig.sent == 0
    # The id that it would have had is another's.
    rig.call("next")
    assert rig.backend.bodies[0]["id"] == 1


@both_drivers
def test_results_are_of_the_declared_types(driver: str) -> None:
    rig = Rig(driver, result({"AMT": 3}), result({"x": "1"}), result(True), result({"a": 1}), result({"a": 1}), result([1]))
    assert rig.run(lambda client: client.typed(Wallet).get_balance("a")) == Balance(AMT=3)
    assert rig.run(lambda client: client.typed(Wallet).point(Point(1))) == Point(1)
    assert rig.run(lambda client: client.typed(Wallet).lock()) is None
    assert rig.run(lambda client: client.typed(Wallet).plain()) == {"a": 1}
    assert rig.run(lambda client: client.typed(Wallet).free(1)) == {"a": 1}
    with pytest.raises(ResultValidationError, match=r"the result of 'find' is no list\[str\]: 0: ") as caught:
        rig.run(lambda client: client.typed(Wallet).find(name="a"))
    assert caught.value.result == [1]


@both_drivers
def test_a_method_that_returns_none_waits_for_the_answer_and_raises_its_error(driver: str) -> None:
    rig = Rig(driver, error(-32602, "no"), result(1))
    with pytest.raises(InvalidParamsError):
        rig.run(lambda client: client.typed(Wallet).lock())
    assert rig.run(lambda client: client.typed(Wallet).lock()) is None


@both_drivers
def test_a_notification_waits_for_no_answer(driver: str) -> None:
    rig = Rig(driver, error(-32602, "no"))
    assert rig.run(lambda client: client.typed(Wallet).log("a")) is None
    assert rig.backend.bodies == [{"jsonrpc": "2.0", "method": "log", "params": ["a"]}]


@both_drivers
def test_a_result_of_another_type_is_never_retried(driver: str) -> None:
    rig = Rig(driver, result("x"), result({"AMT": 1}), retry_strategy=RetryStrategy(exceptions={Exception}))
    with pytest.raises(ResultValidationError):
        rig.run(lambda client: client.typed(Wallet).get_balance("a"))
    assert rig.sent == 1


TRANSIENT = RetryStrategy(backoff=PeriodicBackoff(2, 1.0))
NAMED = RetryStrategy(exceptions={ConnectionError}, backoff=PeriodicBackoff(2, 1.0))


class Careful(Protocol):
    @rpc(idempotent=True)
    def read(self) -> Any: ...

    @rpc(idempotent=False)
    def pay(self) -> Any: ...

    @rpc(idempotent=False, idempotency_key=True)
    def pay_once(self) -> Any: ...

    def either(self) -> Any: ...


# What is declared, the strategy, what fails; how often it is sent.
IDEMPOTENCE: list[tuple[str, RetryStrategy, Any, int]] = [
    ("read", TRANSIENT, ConnectionLostError("reset"), 2),
    ("pay", TRANSIENT, ConnectionLostError("reset"), 1),
    ("either", TRANSIENT, ConnectionLostError("reset"), 1),
    ("read", NAMED, ConnectionLostError("reset"), 2),
    ("pay", NAMED, ConnectionLostError("reset"), 1),
    ("either", NAMED, ConnectionLostError("reset"), 2),
    ("pay", RetryStrategy(idempotent=True), ConnectionLostError("reset"), 1),
    ("read", RetryStrategy(idempotent=False), ConnectionLostError("reset"), 2),
    ("pay", NAMED, ConnectError("refused"), 2),
    ("pay_once", TRANSIENT, ConnectionLostError("reset"), 2),
    # A code that the strategy names is the server's word that it did nothing.
    ("pay", TRANSIENT, error(-32005), 2),
]


@pytest.mark.parametrize(("name", "strategy", "failure", "sent"), IDEMPOTENCE, ids=[f"{number} {one[0]}" for number, one in enumerate(IDEMPOTENCE)])
@both_drivers
def test_what_is_declared_idempotent_is_what_is_repeated(driver: str, name: str, strategy: RetryStrategy, failure: Any, sent: int) -> None:
    rig = Rig(driver, failure, result(3), retry_strategy=strategy)
    act = lambda client: getattr(client.typed(Careful), name)()
    if sent == 1:
        with pytest.raises(ConnectionLostError):
            rig.run(act)
    else:
        assert rig.run(act) == 3
        assert len({body["id"] for body in rig.backend.bodies}) == 1
    assert rig.sent == sent


@both_drivers
def test_a_declaration_survives_other_options_of_a_view(driver: str) -> None:
    rig = Rig(driver, ConnectionLostError("reset"), result(3))
    assert rig.run(lambda client: client.using(retry_strategy=TRANSIENT, timeout=3).typed(Careful).read()) == 3


@both_drivers
def test_plain_calls_know_nothing_of_an_interface(driver: str) -> None:
    rig = Rig(driver, result(1), ConnectionLostError("reset"), retry_strategy=TRANSIENT)
    rig.run(lambda client: client.typed(Careful).read())
    with pytest.raises(ConnectionLostError):
        rig.call("read")


class Limited(Protocol):
    @rpc(timeout=5, deadline=7, retry_strategy=None)
    def short(self) -> Any: ...

    @rpc(timeout=None)
    def endless(self) -> Any: ...

    @rpc(retry_strategy=RetryStrategy(codes={7}, backoff=PeriodicBackoff(1, 0.5)))
    def again(self) -> Any: ...

    @rpc(fallback=Fallback([]))
    def listed(self) -> list[str]: ...

    def usual(self) -> Any: ...


# The method, what using() says; seconds until the exchange has to end.
LIMITS: list[tuple[str, dict[str, Any], float]] = [
    ("usual", {}, 20.0),
    ("short", {}, 5.0),
    ("endless", {}, float("inf")),
    ("short", {"timeout": 6}, 6.0),
    ("short", {"timeout": None}, 7.0),
    ("short", {"timeout": None, "deadline": None}, float("inf")),
    ("endless", {"timeout": 2}, 2.0),
    ("endless", {"deadline": 3}, 3.0),
]


@pytest.mark.parametrize(("name", "using", "seconds"), LIMITS)
@both_drivers
def test_an_option_of_the_method_counts_before_the_clients_and_one_of_using_before_it(driver: str, name: str, using: dict[str, Any], seconds: float) -> None:
    rig = Rig(driver, result(1), timeout=20)
    rig.run(lambda client: getattr(client.using(**using).using(headers={"X-A": "1"}).typed(Limited), name)())
    (exchange,) = rig.backend.exchanges
    assert exchange.ends_by - rig.time.clock() == seconds
    assert exchange.headers["x-a"] == "1"


@both_drivers
def test_strategies_and_fallbacks_of_a_method(driver: str) -> None:
    rig = Rig(driver, error(7), result(1), error(7), error(7), error(9), retry_strategy=RetryStrategy(codes={9}))
    assert rig.run(lambda client: client.typed(Limited).again()) == 1
    assert rig.waits == [0.5]
    assert rig.run(lambda client: client.typed(Limited).listed()) == []
    with pytest.raises(Exception, match="error 7"):
        rig.run(lambda client: client.typed(Limited).usual())
    with pytest.raises(Exception, match="error 9"):
        rig.run(lambda client: client.typed(Limited).short())
    assert rig.sent == 5


@both_drivers
def test_a_typed_method_takes_the_type_that_a_view_gives_all_results_where_it_declares_none(driver: str) -> None:
    rig = Rig(driver, result("3"), result("3"))
    assert rig.run(lambda client: client.using(result=int).typed(Wallet).free(1)) == 3
    assert rig.run(lambda client: client.using(result=int).typed(Wallet).plain()) == "3"


@both_drivers
def test_calls_pass_through_middlewares_sinks_and_layers(driver: str) -> None:
    seen: list[str] = []

    def plain(exchange: Any, next: Any) -> Any:
        seen.append(exchange.requests[0].method)
        return next(exchange)

    async def awaited(exchange: Any, next: Any) -> Any:
        seen.append(exchange.requests[0].method)
        return await next(exchange)

    rig = Rig(driver, error(-32005), result({"AMT": 1}), retry_strategy=TRANSIENT, watched=True, middlewares=plain if driver == "sync" else awaited)
    rig.run(lambda client: client.typed(Wallet).get_balance("a"))
    assert seen == ["wallet.getBalance"] * 2
    assert rig.told[-1] == "CallSucceeded"


def test_tasks_that_call_at_once_are_joined() -> None:
    rig = Rig("async", result({"AMT": 1}), joining=True)

    async def both(client: Any) -> Any:
        api = client.typed(Wallet)
        return await asyncio.gather(api.get_balance("a"), api.get_balance("b"))

    assert rig.run(both) == [Balance(AMT=1)] * 2
    assert [one["params"] for one in rig.backend.bodies[0]] == [{"address": "a"}, {"address": "b"}]


@both_drivers
def test_a_closed_client_is_closed_for_its_interfaces(driver: str) -> None:
    rig = Rig(driver, result(1))
    api = rig.client.typed(Wallet)
    api.lock
    finish(rig.client.close)
    with pytest.raises(ClientClosedError):
        api.lock()
    with pytest.raises(ClientClosedError):
        rig.client.typed(Wallet).plain()


@both_drivers
def test_a_time_limit_of_a_method_cuts_it(driver: str) -> None:
    rig = Rig(driver, Slow(6, result(1)))
    with pytest.raises(RequestTimeoutError):
        rig.run(lambda client: client.typed(Limited).short())


def test_threads_share_an_interface() -> None:
    client = Client(ScriptedBackend([result({"AMT": 1})] * 200))
    api = client.typed(Wallet)
    start = threading.Barrier(4)

    def work() -> None:
        start.wait()
        for _ in range(50):
            api.get_balance("a")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(body["id"] for body in client.backend.bodies) == list(range(1, 201))


# --- the object ---


@both_drivers
def test_looking_at_it_sends_nothing(driver: str) -> None:
    rig = Rig(driver)
    api = rig.client.typed(Wallet)
    assert repr(api).startswith("<Wallet of <rpcretry.client.")
    assert {"get_balance", "move", "log"} <= set(dir(api))
    assert not hasattr(api, "nothing")
    assert not hasattr(api, "_repr_html_")
    assert not hasattr(api, "_private")
    assert not hasattr(api, "register")
    assert api.UNIT == "sat"
    assert isinstance(api, Wallet)
    assert not isinstance(api, Balance)
    with pytest.raises(AttributeError, match=r"^Wallet has no method 'get_balanc'; did you mean get_balance\?$"):
        api.get_balanc
    with pytest.raises(AttributeError, match=r"^Wallet has no method 'zzz'; known are get_balance, move, .*, trace$"):
        api.zzz
    large = types.new_class("Large", (), {}, lambda names: names.update({f"method_number_{number}": lambda self: None for number in range(50)}))
    with pytest.raises(AttributeError, match=r"^Large has no method 'zzz'; dir\(\) lists them$"):
        rig.client.typed(large).zzz
    for act in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match=r"typed\(Wallet\) returned cannot be pickled or copied; keep the client"):
            act(api)
    assert api.get_balance is api.get_balance
    assert (api.get_balance.__name__, api.get_balance.__qualname__, api.get_balance.__doc__) == ("get_balance", "Wallet.get_balance", "What an address has.")
    assert str(inspect.signature(api.get_balance)) == "(address: 'str', confirmations: 'int' = 1) -> 'Balance'"
    assert rig.sent == 0


def test_a_class_is_stood_in_for_without_being_made() -> None:
    class Made:
        def __init__(self) -> None:
            raise AssertionError("made")

        def ping(self) -> str:
            raise AssertionError("run")

    api = Client(ScriptedBackend([result("pong")])).typed(Made)
    assert isinstance(api, Made)
    assert api.ping() == "pong"


def test_a_method_can_be_replaced_on_the_object() -> None:
    api: Any = Client(ScriptedBackend([])).typed(Wallet)
    api.lock = lambda: "mine"
    assert api.lock() == "mine"


# --- declarations ---


class Awaited(Protocol):
    @rpc
    def get(self, id: int) -> str: ...


class AwaitedAlways(Awaited, AsyncInterface, Protocol): ...


class Native(Protocol):
    async def get(self, id: int) -> str: ...

    @rpc(name="other")
    async def got(self, id: int) -> str: ...

    def kept(self, id: int) -> Any: ...


@pytest.mark.parametrize(("interface", "names"), [(Awaited, ["get"]), (AwaitedAlways, ["get"]), (Native, ["get", "got", "kept"])])
def test_an_async_client_awaits_every_interface(interface: Any, names: list[str]) -> None:
    for name in names:
        rig = Rig("async", result("a"))
        pending = getattr(rig.client.typed(interface), name)(1)
        assert inspect.iscoroutine(pending)
        assert finish(lambda pending=pending: pending) == "a"  # type: ignore[misc]


@pytest.mark.parametrize(("interface", "method"), [(AwaitedAlways, "AwaitedAlways.get"), (Native, "Native.get")])
def test_a_sync_client_refuses_what_is_awaited(interface: Any, method: str) -> None:
    with pytest.raises(TypeError, match=rf"^{method} is awaited, and Client does not wait so; use an AsyncClient"):
        Rig("sync").client.typed(interface)


class Repository(Protocol[T]):
    @rpc(name="get")
    def get(self, id: int) -> T: ...

    def all(self, like: T | None = None) -> list[T]: ...


class Points(Repository[Point], Protocol):
    def all(self, like: Point | None = None, most: int = 3) -> list[Point]: ...


class Named(Generic[T]):
    def named(self, name: T) -> T:
        raise NotImplementedError


class Both(Named[str], Repository[Balance]):
    pass


@both_drivers
def test_generic_interfaces(driver: str) -> None:
    rig = Rig(driver, result({"x": 1}), result([{"x": 1}]), result({"AMT": 2}), result("a"), result([{"x": 2}]))
    assert rig.run(lambda client: client.typed(Repository[Point]).get(1)) == Point(1)
    assert rig.run(lambda client: client.typed(Points).all(most=4)) == [Point(1)]
    assert rig.run(lambda client: client.typed(Both).get(1)) == Balance(AMT=2)
    assert rig.run(lambda client: client.typed(Both).named("a")) == "a"
    assert rig.run(lambda client: client.typed(Repository[Point]).all({"x": 1})) == [Point(2)]
    assert rig.backend.bodies[1]["params"] == [None, 4]
    with pytest.raises(TypeError, match=r"Points.all\(\): like\.x: "):
        rig.client.typed(Points).all({"x": "a"})


def test_what_a_class_overrides_wins() -> None:
    class Older(Protocol):
        @rpc(name="old")
        def one(self) -> int: ...

        @rpc(name="two.old")
        def two(self) -> int: ...

    class Newer(Older, Protocol):
        def one(self) -> Any: ...

    client = Client(ScriptedBackend([result("a"), result(2)]))
    api = client.typed(Newer)
    assert (api.one(), api.two()) == ("a", 2)
    assert [body["method"] for body in client.backend.bodies] == ["one", "two.old"]


def test_annotations_of_a_function_around_and_of_the_class_itself() -> None:
    class Local(pydantic.BaseModel):
        a: int

    class Inside(Protocol):
        class Nested(pydantic.BaseModel):
            b: int

        def list(self) -> list[Local]: ...

        def nested(self, first: Nested) -> Nested: ...

    api = Client(ScriptedBackend([result([{"a": 1}]), result({"b": 1})])).typed(Inside)
    assert api.list() == [Local(a=1)]
    assert api.nested(Inside.Nested(b=2)) == Inside.Nested(b=1)


def passing_interface() -> Any:
    class Passing(Protocol):
        @rpc(idempotent=True)
        def get(self, id: int) -> list[str]: ...

    return Passing


def test_an_interface_is_read_once_and_goes_when_nobody_has_it() -> None:
    passing = passing_interface()
    client = Client(ScriptedBackend([]))
    client.typed(passing).get
    assert _interface_plan.plan_of(passing)[1] is _interface_plan.plan_of(passing)[1]
    assert _interface_plan.plan_of(Repository[int])[1] is not _interface_plan.plan_of(Repository[str])[1]
    gone = weakref.ref(passing)
    del passing
    gc.collect()
    assert gone() is None


class Numbers(pydantic.BaseModel):
    ratio: float


def test_nan_is_refused_also_inside_of_a_model() -> None:
    class Ratios(Protocol):
        def set(self, numbers: Numbers) -> None: ...

    client = Client(ScriptedBackend([]))
    with pytest.raises(ValueError, match="NaN and infinity have no place in JSON"):
        client.typed(Ratios).set(Numbers(ratio=float("nan")))


def test_making_an_instance_of_the_class_calls_nothing() -> None:
    class Mine:
        @rpc
        def two(self) -> int:
            return 2

    assert Mine().two() == 2
    assert repr(Mine.two).startswith("<rpc test_making")
