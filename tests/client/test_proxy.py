"""Proxies: attributes that send when called, and never before."""

from __future__ import annotations

import copy
import inspect
import pickle
import pprint
from typing import Any

import pytest
from support import Rig, both_drivers

from rpcretry.testing import result


@both_drivers
def test_a_method_is_an_attribute(driver: str) -> None:
    rig = Rig(driver, result(3), result(4), result(5))
    assert rig.run(lambda client: client.proxy.sum(1, 2)) == 3
    assert rig.run(lambda client: client.proxy.sum(a=1, b=2)) == 4
    assert rig.run(lambda client: client.proxy.sum()) == 5
    assert [(body["method"], body.get("params", "none")) for body in rig.backend.bodies] == [("sum", [1, 2]), ("sum", {"a": 1, "b": 2}), ("sum", "none")]


@both_drivers
def test_dotted_names(driver: str) -> None:
    rig = Rig(driver, *[result(0)] * 4)
    rig.run(lambda client: client.proxy.aria2.addUri(["http://x"]))
    rig.run(lambda client: client.proxy.a.b.c())
    rig.run(lambda client: client.proxy["a.b"]["c-d"]())
    system = rig.client.proxy.system
    rig.run(lambda client: system.listMethods())
    assert [body["method"] for body in rig.backend.bodies] == ["aria2.addUri", "a.b.c", "a.b.c-d", "system.listMethods"]


@both_drivers
def test_params_named_method_or_self_reach_the_server(driver: str) -> None:
    rig = Rig(driver, *[result(0)] * 3)
    names = {"method": 1, "self": 2, "args": 3, "params": 4, "name": 5, "id": 6, "request": 7}
    rig.run(lambda client: client.proxy.m(**names))
    rig.run(lambda client: client.call("m", **names))
    rig.run(lambda client: client("m", **names))
    assert [body["params"] for body in rig.backend.bodies] == [names] * 3


@both_drivers
@pytest.mark.parametrize("name", ["call", "send", "close", "self", "method", "keys", "mro", "proxy", "await_"])
def test_no_name_of_a_method_is_taken_by_the_proxy(driver: str, name: str) -> None:
    rig = Rig(driver, *[result(0)] * 2)
    rig.run(lambda client: getattr(client.proxy, name)())
    rig.run(lambda client: getattr(client.proxy.deep, name)())
    assert [body["method"] for body in rig.backend.bodies] == [name, f"deep.{name}"]


@both_drivers
def test_a_proxy_refuses_names_that_start_with_an_underscore_and_says_how_to_call_them(driver: str) -> None:
    rig = Rig(driver, result(1), result(2))
    proxy = rig.client.proxy
    for name in ("_repr_html_", "__wrapped__", "_private", "__deepcopy__", "_ipython_canary_method_should_not_exist_"):
        for part in (proxy, proxy.some):
            with pytest.raises(AttributeError, match=name):
                getattr(part, name)
    assert rig.run(lambda client: proxy["_private"]()) == 1
    assert rig.run(lambda client: proxy.some["_call"]()) == 2
    assert [body["method"] for body in rig.backend.bodies] == ["_private", "some._call"]


@both_drivers
def test_what_inspects_a_proxy_sends_nothing(driver: str) -> None:
    """A notebook's display hooks, copying and pretty printing look attributes up and call what they find."""
    rig = Rig(driver)
    for thing in (rig.client.proxy, rig.client.proxy.sum, rig.client.proxy.a.b):
        repr(thing), str(thing), pprint.pformat(thing), hash(thing), bool(thing), dir(thing), thing == thing
        inspect.isawaitable(thing), inspect.iscoroutinefunction(thing), inspect.getmembers(type(thing))
        for hook in ("_repr_html_", "_repr_mimebundle_", "_ipython_display_", "__rich__", "__rich_console__", "__array__", "__len__", "__fspath__"):
            assert not hasattr(thing, hook)
        for refuse in (copy.copy, copy.deepcopy, pickle.dumps, iter, list, len):
            with pytest.raises(TypeError):
                refuse(thing)
    assert rig.sent == 0


@both_drivers
def test_its_repr_says_what_it_stands_for(driver: str) -> None:
    proxy = Rig(driver).client.proxy
    assert (repr(proxy), repr(proxy.a.b)) == ("<proxy>", "<proxy of a.b>")


@both_drivers
def test_a_proxy_itself_is_no_method(driver: str) -> None:
    rig = Rig(driver)
    with pytest.raises(TypeError, match="not callable"):
        rig.client.proxy()
    for bad in ("", 5, None, slice(1)):
        with pytest.raises(TypeError, match="name of a method must be a non-empty str"):
            rig.client.proxy[bad]


@both_drivers
def test_options_with_an_underscore_work_on_a_proxy(driver: str) -> None:
    rig = Rig(driver, result("5"))
    answer = rig.run(lambda client: client.proxy.m(1, _timeout=3, _headers={"X-A": "b"}, _result=int))
    assert answer == 5
    exchange = rig.backend.exchanges[0]
    assert exchange.ends_by == 1_003
    assert dict(exchange.headers) == {"X-A": "b"}
    with pytest.raises(TypeError, match=r"unknown option '_timeuot'; did you mean _timeout\?"):
        rig.run(lambda client: client.proxy.m(1, _timeuot=3))


@both_drivers
def test_a_proxy_of_a_view_has_its_options(driver: str) -> None:
    rig = Rig(driver, result(0))
    rig.run(lambda client: client.using(timeout=7).proxy.m())
    assert rig.backend.exchanges[0].ends_by == 1_007


def test_setting_an_attribute_of_a_proxy_is_refused() -> None:
    proxy: Any = Rig("sync").client.proxy
    with pytest.raises(AttributeError):
        proxy.sum = 5
