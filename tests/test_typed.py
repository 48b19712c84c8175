"""``_result=``: results of the type that the caller asks for."""

from __future__ import annotations

import copy
import dataclasses
import datetime
import decimal
import enum
import pickle
import uuid
from collections.abc import Generator, Iterable
from typing import Annotated, Any, Literal, Union

import pydantic
import pytest
from support import Rig, both_drivers
from typing_extensions import TypedDict

from rpcretry import BatchRequest, JsonRpcError, ProtocolError, Request, ResultValidationError, RetryStrategy
from rpcretry.client import validation
from rpcretry.client.validation import converter
from rpcretry.testing import error, result


class User(pydantic.BaseModel):
    id: int
    name: str = "?"


@dataclasses.dataclass
class Point:
    x: int
    when: datetime.date | None = None


class Movie(TypedDict):
    title: str


class Colour(enum.Enum):
    RED = "red"


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)
    id: uuid.UUID
    day: datetime.date
    colour: Colour
    pair: tuple[int, int]


class Unfinished(pydantic.BaseModel):
    other: Nowhere  # type: ignore[name-defined]  # noqa: F821


ID = "12345678-1234-5678-1234-567812345678"
STRICT = {"id": ID, "day": "2026-01-02", "colour": "red", "pair": [1, 2]}

TYPES: list[tuple[Any, object, object]] = [
    (int, 3, 3),
    (str, "a", "a"),
    (float, 3, 3.0),
    (bool, True, True),
    (Any, {"a": 1}, {"a": 1}),
    (object, [1], [1]),
    (dict, {"a": 1}, {"a": 1}),
    (list[int], [1, 2], [1, 2]),
    (tuple[int, str], [1, "a"], (1, "a")),
    (set[int], [1, 1], {1}),
    (int | None, None, None),
    (User, {"id": 1}, User(id=1)),
    (list[User], [{"id": 1, "name": "a"}], [User(id=1, name="a")]),
    (dict[str, User], {"a": {"id": 1}}, {"a": User(id=1)}),
    (Point, {"x": 1, "when": "2026-01-02"}, Point(1, datetime.date(2026, 1, 2))),
    (Movie, {"title": "t"}, {"title": "t"}),
    (datetime.datetime, "2026-01-02T03:04:05Z", datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)),
    (uuid.UUID, ID, uuid.UUID(ID)),
    (decimal.Decimal, "1.10", decimal.Decimal("1.10")),
    (Colour, "red", Colour.RED),
    (Literal["a", "b"], "b", "b"),
    (Annotated[int, pydantic.Field(gt=0)], 1, 1),
    (Strict, STRICT, Strict(id=uuid.UUID(ID), day=datetime.date(2026, 1, 2), colour=Colour.RED, pair=(1, 2))),
    (Annotated[uuid.UUID, pydantic.Strict()], ID, uuid.UUID(ID)),
]


@pytest.mark.parametrize(("type_", "raw", "expected"), TYPES, ids=[str(one[0]) for one in TYPES])
@both_drivers
def test_a_result_becomes_what_was_asked_for(driver: str, type_: Any, raw: object, expected: object) -> None:
    got = Rig(driver, result(raw)).call("m", _result=type_)
    assert got == expected
    assert type(got) is type(expected)


@both_drivers
def test_every_way_to_call_takes_a_type(driver: str) -> None:
    rig = Rig(driver, *[result({"id": 7})] * 5)
    assert rig.call("m", _result=User) == User(id=7)
    assert rig.run(lambda client: client.proxy.m(_result=User)) == User(id=7)
    assert rig.send(Request("m"), _result=User).result == User(id=7)
    assert rig.run(lambda client: client.using(result=User).call("m")) == User(id=7)
    assert rig.call("m") == {"id": 7}


BAD: list[tuple[Any, object, list[tuple[Any, ...]]]] = [
    (int, "three", [()]),
    (int, None, [()]),
    (User, {"name": 3}, [("id",), ("name",)]),
    (list[User], [{"id": 1}, {"id": "x"}], [(1, "id")]),
    (Point, {"when": "never"}, [("x",), ("when",)]),
    (Movie, {}, [("title",)]),
    (Strict, {**STRICT, "day": 5}, [("day",)]),
    (int, "\ud800", [()]),
]


@pytest.mark.parametrize(("type_", "raw", "places"), BAD, ids=[f"{one[0]} {one[1]!a}" for one in BAD])
@both_drivers
def test_another_result_is_a_validation_error_with_the_raw_result_and_details(driver: str, type_: Any, raw: object, places: list[tuple[Any, ...]]) -> None:
    with pytest.raises(ResultValidationError, match="the result of 'pay' is no ") as caught:
        Rig(driver, result(raw, status=201)).call("pay", _result=type_)
    problem = caught.value
    assert problem.result == raw
    assert problem.status == 201
    assert [item["loc"] for item in problem.details][: len(places)] == places
    assert all(item["msg"] for item in problem.details)
    assert isinstance(problem, ProtocolError)
    assert problem.__cause__ is None
    twin = pickle.loads(pickle.dumps(problem))
    assert (str(twin), twin.result, twin.details, twin.status) == (str(problem), problem.result, problem.details, 201)
    assert copy.copy(problem).details == problem.details


def test_the_message_names_the_type_and_the_first_places() -> None:
    with pytest.raises(ResultValidationError) as caught:
        converter(list[User])([{}] * 5, "m", 200)
    assert str(caught.value) == ("the result of 'm' is no list[test_typed.User]: 0.id: Field required; 1.id: Field required; 2.id: Field required and 2 more")
    with pytest.raises(ResultValidationError, match=r"^the result of 'm' is no int: result: Input should be"):
        converter(int)("x", "m", 200)


class Plain:
    pass


def function(value: object) -> object:
    raise AssertionError("called")


@pytest.mark.parametrize(
    "bad",
    [3, True, "int", "Nowhere", object(), [int], {"a": int}, {"type": "int"}, function, len, lambda value: value, Plain, Unfinished, list["Nowhere"], pydantic],  # type: ignore[name-defined]  # noqa: F821
    ids=lambda bad: repr(bad)[:30],
)
@both_drivers
def test_what_is_no_type_is_refused_before_anything_is_sent(driver: str, bad: Any) -> None:
    rig = Rig(driver, result(1))
    for act in (lambda: rig.call("m", _result=bad), lambda: rig.send(Request("m"), _result=bad), lambda: rig.send(BatchRequest(Request("m")), _result=bad)):
        with pytest.raises(TypeError, match=r"^_result must be a type that pydantic can validate, got "):
            act()
    assert rig.sent == 0


class Lazy(pydantic.BaseModel):
    numbers: Iterable[int]


@pytest.mark.parametrize(
    "bad", [Iterable[int], Generator[int, None, None], list[Iterable[int]], Iterable[int] | None, dict[str, Iterable[int]], Lazy, Iterable]
)
@both_drivers
def test_a_type_whose_items_are_looked_at_after_the_call_is_refused(driver: str, bad: Any) -> None:
    rig = Rig(driver, result([1]))
    with pytest.raises(
        TypeError, match=r"^_result must not hold an Iterable or a Generator, got .*: pydantic would look at its items after the call; write list"
    ):
        rig.call("m", _result=bad)
    assert rig.sent == 0


@both_drivers
def test_a_value_that_looks_like_such_a_type_is_none(driver: str) -> None:
    class Row(pydantic.BaseModel):
        kind: Literal["generator"] = "generator"
        made: dict[str, str] = {"type": "generator"}

    assert Rig(driver, result({})).call("m", _result=Row) == Row()


def test_adapters_are_made_once_for_each_type() -> None:
    validation._cached.cache_clear()
    assert converter(User) is converter(User)
    assert converter(list[User]) is converter(list[User])
    assert validation._cached.cache_info().misses == 2
    assert converter(User) is not converter(Point)
    # Equal, and yet tried in another order.
    either: Any = Union[float, int]  # noqa: UP007
    other: Any = Union[int, float]  # noqa: UP007
    assert either == other
    assert type(converter(either)("3", "m", 200)) is float
    assert type(converter(other)("3", "m", 200)) is int


def test_a_type_that_cannot_be_hashed_works_without_the_cache() -> None:
    type_: Any = Annotated[int, pydantic.Field(gt=0), ["unhashable"]]
    with pytest.raises(TypeError):
        hash(type_)
    assert converter(type_)(3, "m", 200) == 3


@both_drivers
def test_a_result_of_another_type_is_never_retried(driver: str) -> None:
    strategies = (RetryStrategy(exceptions={Exception}), RetryStrategy(when=lambda outcome, attempt: outcome.error is not None), RetryStrategy(idempotent=True))
    for strategy in strategies:
        rig = Rig(driver, result("x"), result(3), retry_strategy=strategy)
        with pytest.raises(ResultValidationError):
            rig.call("m", _result=int)
        assert rig.sent == 1
        assert rig.waits == []
        rig = Rig(driver, result("x"), result(3), retry_strategy=strategy)
        (response,) = rig.send(BatchRequest(Request("m")), _result=int)
        assert isinstance(response.error, ResultValidationError)
        assert rig.sent == 1


@both_drivers
def test_a_retried_call_converts_the_result_it_ended_with(driver: str) -> None:
    rig = Rig(driver, error(2001), result({"id": 7}), retry_strategy=RetryStrategy(codes={2001}))
    assert rig.call("m", _result=User) == User(id=7)
    assert rig.sent == 2


@both_drivers
def test_each_member_of_a_batch_is_converted_on_its_own(driver: str) -> None:
    def answers(exchange: Any) -> Any:
        from rpcretry.transport import Reply

        return Reply(b'[{"id":1,"result":"3"},{"id":2,"result":"x"},{"id":3,"error":{"code":5,"message":"no"}}]')

    rig = Rig(driver, answers)
    first, second, third = rig.send(BatchRequest(Request("a", id=1), Request("b", id=2), Request("c", id=3)), _result=int)
    assert first.result == 3
    assert isinstance(second.error, ResultValidationError)
    assert second.error.result == "x"
    assert isinstance(third.error, JsonRpcError)
