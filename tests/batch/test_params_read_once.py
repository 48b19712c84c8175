"""Params that can be read only once: sent as they are, or refused, and never sent empty."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pydantic
import pytest

from rpcretry import Request
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
REFUSAL = r"params of 'pay' cannot be sent as JSON: an? \w+ can be read only once; write list\(\.\.\.\) around it"


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
        rig.call("pay", {1: 2}, HOLDERS[holder](two()), NOT_AT_ONCE[beside]())
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
