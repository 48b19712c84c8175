"""Options: of a client, of a view, of one call; what overrides what, and what bad ones get."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any

import pytest
from support import Recorder, Rig, both_drivers, fresh

from rpcretry import AsyncClient, BatchRequest, Client, ConnectError, Layer, Request, RetryStrategy, notification, rpc
from rpcretry.client.options import CALL_OPTIONS
from rpcretry.retry import ExponentialBackoff, PeriodicBackoff
from rpcretry.testing import AsyncScriptedBackend, ScriptedBackend, error, result

unconnected = fresh(ConnectError("refused"))
ONCE = RetryStrategy(backoff=PeriodicBackoff(1, 0.5))
TWICE = RetryStrategy(backoff=PeriodicBackoff(2, 0.25))

# Each way to make a call; all of them take the same options.
WAYS = {
    "call": lambda client, **options: client.call("m", 1, **options),
    "__call__": lambda client, **options: client("m", 1, **options),
    "proxy": lambda client, **options: client.proxy.m(1, **options),
    "dotted proxy": lambda client, **options: client.proxy.a.b(1, **options),
    "notify": lambda client, **options: client.notify("m", 1, **options),
    "send": lambda client, **options: client.send(Request("m", [1]), **options),
    "send a batch": lambda client, **options: client.send(BatchRequest(Request("m", [1]), Request("n")), **options),
}
every_way = pytest.mark.parametrize("way", WAYS)


def ends(rig: Rig) -> list[float]:
    return [exchange.ends_by - 1_000 for exchange in rig.backend.exchanges]


@both_drivers
@every_way
def test_every_way_of_calling_takes_every_option(driver: str, way: str) -> None:
    def act(**options: Any) -> None:
        rig.run(lambda client: WAYS[way](client, **options))

    rig = Rig(driver, *[result(0)] * 8, unconnected, unconnected, result(0), timeout=20)
    act()
    act(_timeout=3)
    act(_timeout=None)
    act(_deadline=2)
    act(_deadline=2, _timeout=1)
    assert ends(rig) == [20, 3, math.inf, 2, 1]
    act(_headers={"X-Key": "a"})
    act(_headers=[("X-Key", "a"), ("x-key", "b")])
    act(_headers=None)
    assert [dict(exchange.headers or {}) for exchange in rig.backend.exchanges[5:]] == [{"X-Key": "a"}, {"X-Key": "a, b"}, {}]
    act(_retry_strategy=TWICE)
    assert rig.waits == [0.25, 0.25]


@both_drivers
@every_way
def test_none_disables_and_absent_inherits(driver: str, way: str) -> None:
    rig = Rig(driver, unconnected, result(0), unconnected, result(0), retry_strategy=ONCE, timeout=20, deadline=60, headers={"X-A": "1"})
    rig.run(WAYS[way])
    assert (ends(rig), rig.waits) == ([20, 20.5], [0.5])
    with pytest.raises(ConnectError):
        rig.run(lambda client: WAYS[way](client, _retry_strategy=None))
    rig.run(lambda client: WAYS[way](client, _deadline=None, _timeout=None, _headers=None))
    last = rig.backend.exchanges[-1]
    assert (last.ends_by, last.headers) == (math.inf, None)
    assert [dict(exchange.headers) for exchange in rig.backend.exchanges[:3]] == [{"X-A": "1"}] * 3


@both_drivers
def test_headers_are_added_and_the_inner_ones_win_in_any_case(driver: str) -> None:
    rig = Rig(driver, *[result(0)] * 2, headers={"X-A": "client", "X-B": "client", "X-C": "client"})
    rig.run(lambda client: client.using(headers={"x-b": "view", "X-D": "view"}).call("m", _headers={"X-C": "call"}))
    rig.call("m")
    first, second = (dict(exchange.headers) for exchange in rig.backend.exchanges)
    assert first == {"X-A": "client", "x-b": "view", "X-C": "call", "X-D": "view"}
    assert second == {"X-A": "client", "X-B": "client", "X-C": "client"}


@both_drivers
def test_a_view_is_cheap_and_shares_connections_ids_and_closing(driver: str) -> None:
    rig = Rig(driver, *[result(0)] * 4, timeout=20)
    view = rig.client.using(timeout=5)
    assert type(view) is type(rig.client)
    assert view.backend is rig.client.backend
    rig.run(lambda _: view.call("m"))
    rig.run(lambda _: view.using(deadline=2).call("m"))
    rig.run(lambda client: client.call("m"))
    assert ends(rig) == [5, 2, 20]
    assert [body["id"] for body in rig.backend.bodies] == [1, 2, 3]
    rig.run(lambda _: view.close())
    assert (rig.client.is_closed, rig.backend.closed) == (False, False)
    rig.run(lambda client: client.close())
    assert (view.is_closed, rig.backend.closed) == (True, True)


@both_drivers
def test_a_view_types_every_result_and_none_leaves_them(driver: str) -> None:
    rig = Rig(driver, *[result("5")] * 4)
    view = rig.client.using(result=int)
    assert rig.run(lambda _: view.call("m")) == 5
    assert rig.run(lambda _: view.call("m", _result=str)) == "5"
    assert rig.run(lambda _: view.call("m", _result=None)) == "5"
    assert rig.run(lambda _: view.send(Request("m"))).result == 5


@both_drivers
def test_options_of_one_call_stay_with_that_call(driver: str) -> None:
    rig = Rig(driver, *[result(0)] * 2, unconnected, timeout=20)
    rig.call("m", _timeout=1, _headers={"X": "1"}, _retry_strategy=ONCE)
    rig.call("m")
    assert ends(rig) == [1, 20]
    assert rig.backend.exchanges[1].headers is None
    with pytest.raises(ConnectError):
        rig.call("m")


@both_drivers
def test_layers_and_sinks_stay_with_options_of_a_call(driver: str) -> None:
    layer = Recorder()
    rig = Rig(driver, *[result(0)] * 3, layers=layer, watched=True)
    rig.call("m", _timeout=3)
    rig.call("m", _retry_strategy=ONCE, _deadline=9)
    rig.run(lambda client: client.using(retry_strategy=ONCE, timeout=1, headers={"a": "b"}).call("m"))
    assert layer.log == ["layer.admit", "layer.settle"] * 3
    assert rig.told == ["AttemptStarted", "CallSucceeded"] * 3


@both_drivers
def test_the_defaults_of_a_client(driver: str) -> None:
    rig = Rig(driver, result(0), unconnected)
    rig.call("m")
    assert ends(rig) == [30]
    assert rig.backend.exchanges[0].headers is None
    with pytest.raises(ConnectError):
        rig.call("m")
    assert rig.client.layers == ()


@pytest.mark.parametrize("cls", [Client, AsyncClient])
def test_the_options_of_all_ways_are_the_same(cls: type) -> None:
    def options(function: Any) -> set[str]:
        return {name for name in inspect.signature(function).parameters if name.startswith("_")}

    assert options(cls.call) == options(cls.__call__) == options(cls.send) == set(CALL_OPTIONS)  # type: ignore[attr-defined]
    assert options(cls.notify) == set(CALL_OPTIONS) - {"_result", "_fallback"}  # type: ignore[attr-defined]


# --- bad input ---


@both_drivers
@pytest.mark.parametrize("way", ["call", "__call__", "proxy", "notify"])
@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("_timout", "; did you mean _timeout?;"),
        ("_retry", "; here it is _retry_strategy=RetryStrategy(...);"),
        ("_retry_str", "; did you mean _retry_strategy?;"),
        ("_max_retries", "; here it is _retry_strategy=RetryStrategy(backoff=ExponentialBackoff(attempts=...));"),
        ("_layers", "; here it is given where the client is made;"),
        ("_connect_timeout", "; here it is given where the client is made;"),
        ("_id", "; here it is client.send(Request(method, params, id));"),
        ("_foo", "; known are _retry_strategy, _timeout"),
        ("__x", "; known are"),
    ],
)
def test_an_unknown_option_is_named(driver: str, way: str, name: str, hint: str) -> None:
    rig = Rig(driver)
    act = {
        "call": lambda c: c.call("m", **{name: 1}),
        "__call__": lambda c: c("m", **{name: 1}),
        "proxy": lambda c: c.proxy.m(**{name: 1}),
        "notify": lambda c: c.notify("m", **{name: 1}),
    }[way]
    with pytest.raises(TypeError) as caught:
        rig.run(act)
    assert f"unknown option {name!r}" in str(caught.value)
    assert hint in str(caught.value)
    assert "client.send(Request(method, params=" in str(caught.value)
    assert rig.sent == 0


@both_drivers
def test_an_unknown_option_of_send_is_named(driver: str) -> None:
    rig = Rig(driver)
    with pytest.raises(TypeError, match="_timout"):
        rig.send(Request("m"), _timout=1)


@both_drivers
def test_a_notification_has_no_result_to_type(driver: str) -> None:
    rig = Rig(driver)
    with pytest.raises(TypeError, match=r"'_result'.*notification") as caught:
        rig.notify("m", _result=int)
    assert "did you mean _result" not in str(caught.value)


@both_drivers
def test_a_param_that_starts_with_an_underscore_goes_through_a_request(driver: str) -> None:
    rig = Rig(driver, result(0))
    rig.send(Request("m", {"_timeout": 5, "_x": 1}))
    assert rig.backend.bodies[0]["params"] == {"_timeout": 5, "_x": 1}
    assert ends(rig) == [30]


BAD: list[tuple[str, Any, type[Exception], list[str]]] = [
    ("retry_strategy", 3, TypeError, ["RetryStrategy or None", "int 3", "use None for no retries"]),
    ("retry_strategy", ExponentialBackoff(attempts=3), TypeError, ["ExponentialBackoff", "RetryStrategy(backoff=...)"]),
    ("retry_strategy", RetryStrategy, TypeError, ["class RetryStrategy", "RetryStrategy()"]),
    ("retry_strategy", False, TypeError, ["RetryStrategy or None", "False"]),
    ("timeout", 0, ValueError, ["more than 0", "0", "None for no limit"]),
    ("timeout", -1, ValueError, ["more than 0", "-1"]),
    ("timeout", "3", TypeError, ["number", "'3'", "give seconds"]),
    ("timeout", math.nan, ValueError, ["finite", "nan"]),
    ("timeout", math.inf, ValueError, ["finite", "inf", "None for no limit"]),
    ("timeout", True, TypeError, ["number", "True"]),
    ("timeout", (5, 30), TypeError, ["number", "(5, 30)"]),
    ("deadline", "3", TypeError, ["number", "'3'", "None for no limit"]),
    ("deadline", math.nan, ValueError, ["finite", "nan", "None for no limit"]),
    ("deadline", -math.inf, ValueError, ["finite", "-inf"]),
    ("deadline", True, TypeError, ["number", "True"]),
    ("headers", "X: y", TypeError, ["mapping", "str"]),
    ("headers", 5, TypeError, ["mapping", "int"]),
    ("headers", ["X"], TypeError, ["mapping", "item of type str"]),
    ("headers", {1: "a"}, TypeError, ["names", "int 1"]),
    ("headers", {"X": 1}, TypeError, ["value of X", "int", "str(...)"]),
    ("headers", {"X": b"a"}, TypeError, ["value of X", "bytes"]),
    ("headers", {"X": None}, TypeError, ["value of X", "NoneType"]),
    ("headers", {"X y": "a"}, ValueError, ["'X y'"]),
    ("headers", {"": "a"}, ValueError, ["''"]),
    ("headers", {"X\n": "a"}, ValueError, ["X"]),
    ("headers", {"X": "a\r\nY: b"}, ValueError, ["value of X", "control character"]),
    ("headers", {"X": "a\x00"}, ValueError, ["value of X", "control character"]),
    ("headers", {"X": "\u20ac"}, ValueError, ["value of X", "Latin-1"]),
]


@pytest.mark.parametrize(("name", "value", "kind", "words"), BAD, ids=lambda value: f"{value!r:.30}")
def test_bad_options_are_named_wherever_they_are_given(name: str, value: Any, kind: type[Exception], words: list[str]) -> None:
    client = Client(ScriptedBackend(()))
    asynchronous = AsyncClient(AsyncScriptedBackend(()))
    places = [
        (name, lambda: Client(ScriptedBackend(()), **{name: value})),
        (name, lambda: AsyncClient(AsyncScriptedBackend(()), **{name: value})),
        (name, lambda: client.using(**{name: value})),
        (f"_{name}", lambda: client.call("m", **{f"_{name}": value})),
        (f"_{name}", lambda: client.notify("m", **{f"_{name}": value})),
        (f"_{name}", lambda: client.proxy.m(**{f"_{name}": value})),
        (f"_{name}", lambda: client.send(Request("m"), **{f"_{name}": value})),
        (f"_{name}", lambda: asynchronous.call("m", **{f"_{name}": value})),
    ]
    for given, act in places:
        with pytest.raises(kind) as caught:
            act()
        assert type(caught.value) is kind
        text = str(caught.value)
        assert text.startswith(given)
        for word in words:
            assert word in text


def test_no_message_about_headers_shows_a_value() -> None:
    for headers in (
        {"Authorization": "Bearer s3cret\n"},
        {"Authorization": b"s3cret"},
        {"Authorization": "s3cret\u20ac"},
        "Authorization: s3cret",
        [("a", "s3cret", "b")],
    ):
        with pytest.raises((TypeError, ValueError)) as caught:
            Client(ScriptedBackend(()), headers=headers)  # type: ignore[arg-type]
        assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"on_event": 5}, TypeError, ["on_event", "int 5"]),
        ({"on_event": [print, 5]}, TypeError, ["on_event", "int 5"]),
        ({"on_event": Recorder}, TypeError, ["on_event", "class Recorder", "on_event=Recorder()"]),
        ({"layers": [5]}, TypeError, ["layers", "5"]),
        ({"layers": 5}, TypeError, ["layers", "5"]),
        ({"layers": Recorder}, TypeError, ["layers", "Recorder"]),
        ({"layers": [Layer]}, TypeError, ["layers", "Layer()"]),
        ({"ids": 5}, TypeError, ["ids", "5"]),
        ({"errors": [ValueError]}, TypeError, ["errors", "ValueError"]),
        ({"errors": 5}, TypeError, ["errors", "5"]),
        ({"codec": 5}, TypeError, ["codec", "dumps", "loads", "5"]),
        ({"clock": 5}, TypeError, ["clock", "5", "time.monotonic"]),
        ({"clock": lambda a: a}, TypeError, ["clock", "no argument"]),
        ({"sleep": 5}, TypeError, ["sleep", "5"]),
        ({"sleep": lambda: None}, TypeError, ["sleep", "1 argument"]),
    ],
    ids=lambda value: f"{value!r:.30}" if isinstance(value, dict) else "",
)
def test_bad_options_of_a_client_are_named(options: dict[str, Any], kind: type[Exception], words: list[str]) -> None:
    for make in (lambda: Client(ScriptedBackend(()), **options), lambda: AsyncClient(AsyncScriptedBackend(()), **options)):
        with pytest.raises(kind) as caught:
            make()
        for word in words:
            assert word in str(caught.value)


def test_a_sleep_of_the_other_kind_is_refused_at_construction() -> None:
    """One would block the loop and then fail at the first retry, the other would not wait at all."""
    import asyncio
    import time

    with pytest.raises(TypeError, match="sleep"):
        Client(ScriptedBackend(()), sleep=asyncio.sleep)
    with pytest.raises(TypeError, match="sleep"):
        AsyncClient(AsyncScriptedBackend(()), sleep=time.sleep)  # type: ignore[arg-type]


@both_drivers
def test_one_layer_or_sink_needs_no_list(driver: str) -> None:
    layer = Recorder()
    rig = Rig(driver, result(0), error(1), layers=layer, watched=True)
    rig.call("m")
    assert rig.client.layers == (layer,)
    assert rig.told == ["AttemptStarted", "CallSucceeded"]


def test_an_unknown_parameter_of_a_ready_made_client_names_what_was_meant() -> None:
    import rpcretry.backends.aiohttp
    import rpcretry.backends.requests

    for client in (rpcretry.backends.requests.Client, rpcretry.backends.aiohttp.Client):
        with pytest.raises(TypeError, match="has no parameter 'header'; did you mean headers"):
            client("http://127.0.0.1:1", header={})  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="has no parameter 'strategy'; did you mean retry_strategy"):
            client("http://127.0.0.1:1", strategy=None)  # type: ignore[call-arg]


@pytest.mark.parametrize("value", [" x", "x ", "x\t", "\u20ac"])
def test_a_header_that_cannot_be_sent_is_refused_and_its_value_not_shown(value: str) -> None:
    with pytest.raises(ValueError, match="the value of X-Key") as caught:
        Client(ScriptedBackend(()), headers={"X-Key": value})
    assert caught.value.__context__ is None


STRATEGY = "retry_strategy=RetryStrategy(backoff=ExponentialBackoff(attempts=...))"
MADE = "given where the client is made"


def refused(act: Callable[..., Any], **options: Any) -> str:
    with pytest.raises(TypeError) as caught:
        act(**options)
    return str(caught.value)


def test_what_other_clients_call_an_option_is_answered_with_ours() -> None:
    import rpcretry.backends.aiohttp
    import rpcretry.backends.requests

    sync, asynchronous = (
        functools.partial(refused, functools.partial(cls, "http://127.0.0.1:1"))
        for cls in (rpcretry.backends.requests.Client, rpcretry.backends.aiohttp.Client)
    )
    for client in (sync, asynchronous):
        assert client(retries=3) == client(max_retries=3).replace("max_retries", "retries") == f"Client has no parameter 'retries'; here it is {STRATEGY}"
        assert client(max_attempts=3).endswith(f"; here it is {STRATEGY}, which counts the retries: max_attempts - 1")
        assert client(backoff=3).endswith("; here it is retry_strategy=RetryStrategy(backoff=...)")
        for name in ("cookies", "proxies", "proxy"):
            assert client(**{name: {}}) == f"Client has no parameter {name!r}; here it is session=..., a session of your own with {name}"
        assert client(result=int).endswith("; here it is client.using(result=...), or _result=... of a call")
    assert sync(ssl=False).endswith("; here it is verify=..., True, False or the path of a file of certificates")
    assert asynchronous(verify=False).endswith("; here it is ssl=..., True, False or an ssl.SSLContext")
    assert asynchronous(cert="a").endswith("; here it is ssl=..., an ssl.SSLContext that has loaded it")


@both_drivers
def test_what_belongs_to_a_backend_is_no_session_of_a_client_that_has_none(driver: str) -> None:
    for name in ("ssl", "proxies"):
        assert "; known are headers, clock, sleep" in refused(functools.partial(type(Rig(driver).client), Rig(driver).backend), **{name: 1})


@both_drivers
def test_an_unknown_option_of_a_view_is_named(driver: str) -> None:
    using = functools.partial(refused, Rig(driver).client.using)
    assert using(max_retries=3) == f"using has no parameter 'max_retries'; here it is {STRATEGY}"
    assert using(_timeout=5) == "using has no parameter '_timeout'; did you mean timeout?"
    assert using(timeout=5, heders={}) == "using has no parameter 'heders'; did you mean headers?"
    for name in ("layers", "middlewares", "codec", "connect_timeout", "verify", "session", "max_batch_size", "clock"):
        assert using(**{name: 1}) == f"using has no parameter {name!r}; here it is {MADE}"
    assert using(x=1) == "using has no parameter 'x'; known are retry_strategy, timeout, deadline, headers, result, fallback, idempotency_key"


@both_drivers
def test_an_unknown_option_of_a_batch_is_named(driver: str) -> None:
    batch = functools.partial(refused, Rig(driver).client.batch)
    assert batch(deadline=3) == "batch has no parameter 'deadline'; did you mean _deadline?"
    assert batch(retries=3) == f"batch has no parameter 'retries'; here it is _{STRATEGY}"
    assert batch(batch_concurrency=3) == "batch has no parameter 'batch_concurrency'; here it is concurrency"
    assert batch(layers=3) == f"batch has no parameter 'layers'; here it is {MADE}"


def test_an_unknown_option_of_an_interface_is_named() -> None:
    for decorator in (rpc, notification):
        name = decorator.__name__
        assert refused(decorator, timout=3) == f"{name} has no parameter 'timout'; did you mean timeout?"
        assert refused(decorator, retries=3) == f"{name} has no parameter 'retries'; here it is {STRATEGY}"
        assert refused(decorator, headers={}) == f"{name} has no parameter 'headers'; here it is client.using(headers=...)"
        assert refused(decorator, layers=()) == f"{name} has no parameter 'layers'; here it is {MADE}"
    assert refused(rpc, result=int) == "rpc has no parameter 'result'; here it is what the method is annotated to return"
    assert refused(notification, idempotent=True) == "notification has no parameter 'idempotent'; did you mean idempotency_key?"


@pytest.mark.parametrize("function", [Client.using, Client.batch, AsyncClient.batch, rpc, notification])
def test_what_checks_names_shows_the_parameters_that_there_are(function: Callable[..., Any]) -> None:
    kinds = {parameter.kind for parameter in inspect.signature(function).parameters.values()}
    assert inspect.Parameter.VAR_KEYWORD not in kinds
    assert inspect.Parameter.KEYWORD_ONLY in kinds
    assert function.__doc__ is not None
