"""Params that can be read only once: sent as they are, or refused, and never sent empty."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pydantic
import pytest

from rpcretry import Request
from rpcretry._encoding import encode_request, without_id
from rpcretry._json import JsonCodec, refuse_read_once
from rpcretry.retry import Fallback
from rpcretry.retry.fallback import LAST_GOOD
from rpcretry.testing import http, result
from tests.support import Rig, both_drivers, finish


class Unknown: ...


@dataclasses.dataclass
class Order:
    items: Iterator[int]


@dataclasses.dataclass(slots=True)
class Slotted:
    items: Iterator[int]


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    items: Any


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


# What pydantic_core does not write, so that another writer is asked, and what no writer takes.
NOT_AT_ONCE: dict[str, Callable[[], Any]] = {"surrogate": lambda: "\ud800", "deep": lambda: nested(300)}
NEVER: dict[str, Callable[[], Any]] = {"unknown": Unknown, "nan": lambda: float("nan")}
# Where an iterator may be.
HOLDERS: dict[str, Callable[[Iterator[int]], Any]] = {
    "itself": lambda items: items,
    "list": lambda items: [[items]],
    "dict": lambda items: {"items": items},
    "dataclass": Order,
    "slots": Slotted,
    "model": lambda items: Model(items=items),
    "map": lambda items: map(int, items),
}
REFUSAL = r"^params of 'pay' cannot be sent as JSON: a (generator|map) can be read only once; write list\(\.\.\.\) around it$"


def two() -> Iterator[int]:
    return (number for number in (1, 2))


def sent_empty(rig: Rig) -> list[Any]:
    """The exchanges in which a payment went out without what it was for."""
    bodies = [one for body in rig.backend.bodies for one in (body if isinstance(body, list) else [body])]
    return [body for body in bodies if body["method"] == "pay" and "1,2" not in str(body["params"]).replace(" ", "")]


@both_drivers
@pytest.mark.parametrize("holder", HOLDERS)
def test_alone_they_are_written(driver: str, holder: str) -> None:
    rig = Rig(driver, result("ok"))
    assert rig.call("pay", HOLDERS[holder](two())) == "ok"
    assert sent_empty(rig) == []


@both_drivers
@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize("beside", NOT_AT_ONCE)
def test_beside_what_is_not_written_at_once(driver: str, holder: str, beside: str) -> None:
    rig = Rig(driver, result("ok"))
    with pytest.raises(TypeError, match=REFUSAL):
        rig.call("pay", HOLDERS[holder](two()), NOT_AT_ONCE[beside]())
    # The same where keys that are no strings take a way of their own.
    with pytest.raises(TypeError, match=REFUSAL):
        rig.call("pay", {UUID(int=1): 2}, HOLDERS[holder](two()), NOT_AT_ONCE[beside]())
    assert rig.sent == 0


def batch_of(client: Any, driver: str, *calls: tuple[str, Any]) -> Any:
    if driver == "sync":
        with client.batch() as batch:
            for method, param in calls:
                batch.call(method, param)
        return None

    async def act() -> None:
        async with client.batch() as batch:
            for method, param in calls:
                batch.call(method, param)

    return act()


@both_drivers
@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize("beside", NOT_AT_ONCE)
def test_in_a_batch_beside_another_that_is_not_written_at_once(driver: str, holder: str, beside: str) -> None:
    rig = Rig(driver, result("ok"))
    with pytest.raises(TypeError, match=REFUSAL):
        finish(lambda: batch_of(rig.client, driver, ("pay", HOLDERS[holder](two())), ("note", NOT_AT_ONCE[beside]())))
    assert rig.sent == 0


@both_drivers
@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize("beside", [*NOT_AT_ONCE, *NEVER])
def test_in_a_bulk_beside_another_that_is_not_written_at_once(driver: str, holder: str, beside: str) -> None:
    rig = Rig(driver, *[result("ok")] * 5)
    source = [Request("pay", [HOLDERS[holder](two())]), Request("note", [(NOT_AT_ONCE | NEVER)[beside]()]), Request("pay", [HOLDERS[holder](two())])]
    if driver == "sync":
        items = list(rig.client.bulk(source, batch_size=3, concurrency=1))
    else:

        async def collected() -> list[Any]:
            return [item async for item in rig.client.bulk(source, batch_size=3, concurrency=1)]

        items = finish(collected)
    assert sent_empty(rig) == []
    for item in items:
        if item.index != 1:
            with pytest.raises(TypeError, match=REFUSAL):
                raise item.error
    assert len(items) == 3


def test_where_it_is_looked_for() -> None:
    shared: list[Any] = [1]
    for fine in (shared, [shared, shared], {"a": shared}, (shared,), Order([1]), Order, Model(items=[1]), Model, "text", range(3), UUID(int=1)):  # type: ignore[arg-type]
        refuse_read_once(fine)
    with pytest.raises(TypeError, match=r"^a generator can be read only once; write list\(\.\.\.\) around it$"):
        refuse_read_once([shared, shared, two()])
    # One that refers to itself ends, too.
    circle: list[Any] = [1]
    circle.append(circle)
    refuse_read_once(circle)
    circle.append(two())
    with pytest.raises(TypeError, match=r"^a generator can be read only once"):
        refuse_read_once(circle)
    # A field without a value holds nothing.
    empty = Slotted.__new__(Slotted)
    refuse_read_once(empty)


@both_drivers
def test_in_a_batch_with_one_that_refers_to_itself(driver: str) -> None:
    circle: list[Any] = []
    circle.append(circle)
    rig = Rig(driver, result("ok"))
    with pytest.raises(ValueError, match="params of 'note' cannot be sent as JSON: Circular reference"):
        finish(lambda: batch_of(rig.client, driver, ("pay", 1), ("note", circle)))
    assert rig.sent == 0


# --- a body without its id ---


class Spaced:
    """A codec that writes the id where it likes, with spaces."""

    def dumps(self, value: Any, /) -> bytes:
        if isinstance(value, dict) and "id" in value:
            value = {"id": value["id"], **value}
        return json.dumps(value).encode()

    def loads(self, body: bytes, charset: str | None, /) -> object:
        return json.loads(body)


class WriteOnly(JsonCodec):
    def loads(self, body: bytes, charset: str | None = None, /) -> object:
        raise AssertionError("read")


def test_it_is_cut_off_at_the_end_where_it_stands_there() -> None:
    codec = WriteOnly()
    for id, written in ((7, b"7"), ("a", b'"a"')):
        body = encode_request(codec, Request("m", [1, "id"], id=id))
        assert without_id(codec, id, body) == body[: -len(b'"id":' + written + b"}")] == b'{"jsonrpc":"2.0","method":"m","params":[1,"id"],'


def test_elsewhere_it_is_taken_out() -> None:
    codec = Spaced()
    body = encode_request(codec, Request("m", [1], id=7))
    assert body.startswith(b'{"id": 7, ')
    assert without_id(codec, 7, body) == b'{"jsonrpc": "2.0", "method": "m", "params": [1]}'


# --- the last good result ---


@both_drivers
@pytest.mark.parametrize("holder", HOLDERS)
def test_the_last_good_result_is_that_of_the_same_params(driver: str, holder: str) -> None:
    def one(symbol: str) -> Any:
        return HOLDERS[holder](iter([int(symbol)]))

    rig = Rig(driver, result("price of 1"), http(503), http(503), fallback=Fallback(LAST_GOOD, "none"))
    assert rig.call("get_price", one("1")) == "price of 1"
    assert rig.call("get_price", one("2")) == "none"
    assert rig.call("get_price", one("1")) == "price of 1"
    assert rig.waits == []


@both_drivers
def test_in_a_batch_it_is_too(driver: str) -> None:
    rig = Rig(driver, result("price of 1"), http(503), fallback=Fallback(LAST_GOOD, "none"))
    assert rig.call("get_price", iter([1])) == "price of 1"
    if driver == "sync":
        with rig.client.batch() as batch:
            handles = [batch.call("get_price", iter([number])) for number in (2, 1)]
    else:

        async def act() -> list[Any]:
            async with rig.client.batch() as batch:
                return [batch.call("get_price", iter([number])) for number in (2, 1)]

        handles = finish(act)
    assert [handle.result() for handle in handles] == ["none", "price of 1"]
