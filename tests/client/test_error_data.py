"""Exception classes that declare a type of ``data``."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import threading
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import pydantic
import pytest
from support import Rig, both_drivers
from typing_extensions import TypedDict

from rpcretry import UNSET, BatchRequest, JsonRpcError, Request, RetryStrategy
from rpcretry.client import Joining
from rpcretry.messages import fresh
from rpcretry.testing import error, result
from rpcretry.transport import Reply

if TYPE_CHECKING:
    from collections.abc import Hashable as Unknown

T = TypeVar("T")


class UserData(pydantic.BaseModel):
    user_id: int
    retry_after: float = 0.0


@dataclasses.dataclass
class Limit:
    left: int


class Where(TypedDict):
    field: str


class UserNotFound(JsonRpcError):
    CODE = 2001
    data: UserData


class Banned(UserNotFound):
    CODE = 2002


class OutOfMoney(JsonRpcError):
    CODE = range(3000, 3010)
    data: Limit


class BadField(JsonRpcError):
    CODE = 2003
    data: list[Where]


class MaybeData(JsonRpcError):
    CODE = 2004
    data: UserData | None


class OnlyForCheckers(JsonRpcError):
    CODE = 2005
    other: Unknown
    data: int


class Holder(JsonRpcError, Generic[T]):
    CODE = 2006
    data: T


class Untyped(JsonRpcError):
    CODE = 2007


class Busy(JsonRpcError):
    CODE = 2008
    data: UserData


ERRORS = [UserNotFound, Banned, OutOfMoney, BadField, MaybeData, OnlyForCheckers, Holder, Untyped, Busy]

GOOD: list[tuple[int, type[JsonRpcError], object, object]] = [
    (2001, UserNotFound, {"user_id": 7}, UserData(user_id=7)),
    (2002, Banned, {"user_id": 7}, UserData(user_id=7)),
    (3007, OutOfMoney, {"left": 3}, Limit(3)),
    (2003, BadField, [{"field": "a"}], [{"field": "a"}]),
    (2004, MaybeData, {"user_id": 7}, UserData(user_id=7)),
    (2005, OnlyForCheckers, 3, 3),
    (2006, Holder, {"any": 1}, {"any": 1}),
    (2007, Untyped, {"any": 1}, {"any": 1}),
]


@pytest.mark.parametrize(("code", "cls", "raw", "data"), GOOD, ids=[str(one[0]) for one in GOOD])
@both_drivers
def test_data_is_of_the_type_that_the_class_declares(driver: str, code: int, cls: type[JsonRpcError], raw: object, data: object) -> None:
    rig = Rig(driver, error(code, "m", data=raw), error(code, "m", data=raw), error(code, "m", data=raw), errors=ERRORS)
    with pytest.raises(cls) as caught:
        rig.call("m")
    sent = rig.send(Request("m")).error
    (member,) = rig.send(BatchRequest(Request("m")))
    twins = (copy.copy(caught.value), fresh(caught.value), pickle.loads(pickle.dumps(caught.value)))
    for problem in (caught.value, sent, member.error, *twins):
        assert type(problem) is cls
        assert (problem.data, problem.raw_data) == (data, raw)
        assert not getattr(problem, "__notes__", [])


BAD: list[tuple[int, object, str]] = [
    (2001, {"user_id": "x"}, "its data is no UserData: user_id: Input should be a valid integer"),
    (2001, {}, "its data is no UserData: user_id: Field required"),
    (2001, "gone", "its data is no UserData: data: Input should be"),
    (3000, {"left": None}, "its data is no Limit: left: Input should be"),
    (2001, UNSET, "it came without data: no UserData: data: Input should be"),
]


@pytest.mark.parametrize(("code", "raw", "note"), BAD, ids=[str(one[1])[:20] for one in BAD])
@both_drivers
def test_other_data_loses_neither_the_class_nor_the_data(driver: str, code: int, raw: object, note: str) -> None:
    item = error(code, "m") if raw is UNSET else error(code, "m", data=raw)
    with pytest.raises((UserNotFound, OutOfMoney)) as caught:
        Rig(driver, item, errors=ERRORS).call("m")
    assert caught.value.data == caught.value.raw_data == raw
    (said,) = caught.value.__notes__
    assert said.startswith(note)
    assert "gone" not in said


@both_drivers
def test_no_data_is_none_where_the_type_admits_it(driver: str) -> None:
    with pytest.raises(MaybeData) as caught:
        Rig(driver, error(2004, "m"), errors=ERRORS).call("m")
    assert caught.value.data is None
    assert caught.value.raw_data is UNSET


@both_drivers
def test_a_hint_in_the_data_is_read_whatever_its_type(driver: str) -> None:
    strategy = RetryStrategy(codes={2008}, backoff=lambda: iter([0.1]))
    rig = Rig(driver, error(2008, "m", data={"user_id": 1, "retry_after": 7}), result(3), errors=ERRORS, retry_strategy=strategy)
    assert rig.call("m") == 3
    assert rig.waits == [7.0]


def test_joined_calls_have_data_of_their_own() -> None:
    import asyncio

    from rpcretry import AsyncClient
    from rpcretry.testing import AsyncScriptedBackend

    async def main() -> list[Any]:
        backend = AsyncScriptedBackend([error(2001, "m", data={"user_id": 7})])
        async with AsyncClient(backend, errors=ERRORS, joining=Joining(dedupe="m"), retry_strategy=RetryStrategy(idempotent=True)) as client:
            return await asyncio.gather(*(client.call("m") for _ in range(3)), return_exceptions=True)

    problems = asyncio.run(main())
    assert [type(problem) for problem in problems] == [UserNotFound] * 3
    assert [problem.data for problem in problems] == [UserData(user_id=7)] * 3
    assert len({id(problem.data) for problem in problems}) == len({id(problem.raw_data) for problem in problems}) == 3


def test_the_same_code_in_two_clients_does_not_collide() -> None:
    class Other(JsonRpcError):
        CODE = 2001

    for cls, data in ((UserNotFound, UserData(user_id=7)), (Other, {"user_id": 7}), (JsonRpcError, {"user_id": 7})):
        with pytest.raises(JsonRpcError) as caught:
            Rig("sync", error(2001, "m", data={"user_id": 7}), errors=[] if cls is JsonRpcError else [cls]).call("m")
        assert type(caught.value) is cls
        assert caught.value.data == data


def test_a_validator_that_breaks_hides_no_error() -> None:
    class Broken(pydantic.BaseModel):
        @pydantic.model_validator(mode="before")
        @classmethod
        def explode(cls, value: object) -> object:
            raise RuntimeError("out of order")

    Raises = type("Raises", (JsonRpcError,), {"CODE": 2001, "__annotations__": {"data": Broken}})
    with pytest.raises(Raises) as caught:
        Rig("sync", error(2001, "m", data=1), errors=[Raises]).call("m")
    assert caught.value.data == 1
    assert caught.value.__notes__ == ["its data is out of order"]


def test_a_type_that_cannot_be_used_is_refused_when_the_client_is_made() -> None:
    class Nothing:
        pass

    unknown = type("Unknown", (JsonRpcError,), {"CODE": 1, "__annotations__": {"data": "Nowhere"}, "__module__": __name__})
    with pytest.raises(TypeError, match=r"^errors: the annotation of Unknown.data cannot be read \(NameError: .*Nowhere.*\); define the type"):
        Rig("sync", errors=[unknown])
    unusable = type("Unusable", (JsonRpcError,), {"CODE": 1, "__annotations__": {"data": Nothing}})
    with pytest.raises(TypeError, match=r"^Unusable.data must be a type that pydantic can validate, got <class"):
        Rig("sync", errors=[unusable])


class OfInt(Holder[int]):
    CODE = 2010


class Listed(Holder[list[T]], Generic[T]):
    CODE = 2011


class OfPages(Listed[UserData]):
    CODE = 2012


@pytest.mark.parametrize(
    ("cls", "good", "bad"),
    [(OfInt, 3, "x"), (OfPages, [{"user_id": 7}], [{"user_id": "x"}]), (Listed, [{"any": 1}], 3)],
)
def test_type_variables_of_error_classes_are_what_the_class_gives_them(cls: type[JsonRpcError], good: object, bad: object) -> None:
    def raised(data: object) -> JsonRpcError:
        with pytest.raises(cls) as caught:
            Rig("sync", error(cls.CODE, "m", data=data), errors=[OfInt, OfPages, Listed]).call("m")  # type: ignore[arg-type]
        return caught.value

    assert not getattr(raised(good), "__notes__", [])
    assert raised(good).data == ([UserData(user_id=7)] if cls is OfPages else good)
    assert len(raised(bad).__notes__) == 1


class Uncomparable:
    def __eq__(self, other: object) -> bool:
        raise RuntimeError("compared")

    __hash__ = None  # type: ignore[assignment]

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_plain_validator_function(lambda value: cls())


class Odd(JsonRpcError):
    CODE = 2013
    data: Uncomparable


@pytest.mark.parametrize("code", [2001, 2013, 2007, 9])
@both_drivers
def test_nobody_gets_the_data_of_another_request(driver: str, code: int) -> None:
    nameless = [{"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": "m", "data": {"user_id": user}}} for user in ("one", 2)]
    rig = Rig(driver, Reply(json.dumps(nameless).encode()), errors=[*ERRORS, Odd])
    for response in rig.send(BatchRequest(Request("a"), Request("b"))):
        assert (response.error.code, response.error.data, response.error.raw_data) == (code, UNSET, UNSET)
        assert not getattr(response.error, "__notes__", [])


@both_drivers
def test_data_that_is_the_same_for_all_is_everybodys(driver: str) -> None:
    nameless = [{"jsonrpc": "2.0", "id": None, "error": {"code": 2001, "message": "m", "data": {"user_id": 1}}}] * 2
    rig = Rig(driver, Reply(json.dumps(nameless).encode()), errors=ERRORS)
    for response in rig.send(BatchRequest(Request("a"), Request("b"))):
        assert (response.error.data, response.error.raw_data) == (UserData(user_id=1), {"user_id": 1})


class Locked(pydantic.BaseModel):
    user_id: int
    _lock: Any = pydantic.PrivateAttr(default_factory=threading.Lock)


class LockedError(JsonRpcError):
    CODE = 2014
    data: Locked


def test_data_that_cannot_be_pickled_travels_as_it_came() -> None:
    with pytest.raises(LockedError) as caught:
        Rig("sync", error(2014, "m", data={"user_id": 7}), errors=[LockedError]).call("m")
    here = caught.value
    here.add_note("mine")
    there = pickle.loads(pickle.dumps(here))
    assert (type(there), there.code, there.data, there.raw_data) == (LockedError, 2014, {"user_id": 7}, {"user_id": 7})
    assert there.__notes__ == ["mine", "its data is as it came, since a Locked cannot be pickled"]
    twin = copy.copy(here)
    assert (twin.data, twin.raw_data, twin.__notes__) == (here.data, {"user_id": 7}, ["mine"])
    assert here.__notes__ == ["mine"]
