"""Type variables, aliases and names in the annotations of interfaces, and what a class that was read leaves behind."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import inspect
import types
import typing
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from typing import Annotated, Any, Generic, NewType, Protocol, TypeAlias, TypeVar
from unittest import mock

import pydantic
import pytest
import typing_extensions
from support import Rig

from rpcretry import AsyncClient, AsyncInterface, Client, ResultValidationError, notification, rpc
from rpcretry.client import _generics
from rpcretry.testing import AsyncScriptedBackend, ScriptedBackend, result

T = TypeVar("T")
U = TypeVar("U")


class User(pydantic.BaseModel):
    id: int


class Page(pydantic.BaseModel, Generic[T]):
    items: list[T]


@dataclasses.dataclass
class Slice(Generic[T]):
    items: list[T]


class Part(typing_extensions.TypedDict, Generic[T]):
    items: list[T]


class Repository(Protocol[T]):
    def page(self) -> Page[T]: ...

    def pages(self) -> list[Page[T]]: ...

    def maybe(self) -> Page[T] | None: ...

    def noted(self) -> Annotated[Page[T], "note"]: ...

    def nested(self) -> Page[Page[T]]: ...

    def slice(self) -> Slice[T]: ...

    def part(self) -> Part[T]: ...

    def put(self, pages: dict[str, Page[T]]) -> Any: ...


class Other(Protocol[U]):
    def page(self) -> Page[U]: ...


class Users(Other[User], Protocol): ...


ONE = {"items": [{"id": "x"}]}

GENERIC: list[tuple[Any, str, Any]] = [
    (Repository[User], "page", ONE),
    (Repository[User], "pages", [ONE]),
    (Repository[User], "maybe", ONE),
    (Repository[User], "noted", ONE),
    (Repository[User], "nested", {"items": [ONE]}),
    (Repository[User], "slice", ONE),
    (Repository[User], "part", ONE),
    (Other[User], "page", ONE),
    (Users, "page", ONE),
]


@pytest.mark.parametrize(("interface", "name", "wrong"), GENERIC, ids=[f"{number} {one[1]}" for number, one in enumerate(GENERIC)])
def test_type_variables_are_those_of_the_interface_however_deep(interface: Any, name: str, wrong: Any) -> None:
    api = Client(ScriptedBackend([result(wrong)])).typed(interface)
    with pytest.raises(ResultValidationError, match=r"items\.0\.id: Input should be a valid integer"):
        getattr(api, name)()


def test_type_variables_of_params() -> None:
    api = Client(ScriptedBackend([])).typed(Repository[User])
    with pytest.raises(TypeError, match=r"^Repository\.put\(\): pages\.\[key\]\.items\.0\.id: Input should be a valid integer"):
        api.put({"a": {"items": [{"id": "x"}]}})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("hint", "expected"),
    [
        (Callable[[T, int], list[T]], Callable[[str, int], list[str]]),
        (typing.Literal["a"], typing.Literal["a"]),
        (tuple[()], tuple[()]),
        (tuple[T, ...], tuple[str, ...]),
        (typing_extensions.Required[T], typing_extensions.Required[str]),
        (typing.Optional[T], typing.Optional[str]),  # noqa: UP045
        (Page, Page[str]),
        (int, int),
        (U, U),
    ],
    ids=str,
)
def test_substitution(hint: Any, expected: Any) -> None:
    assert _generics.substituted(hint, {T: str}) == expected


def test_a_union_keeps_its_order_whatever_was_read_before() -> None:
    client = Client(ScriptedBackend([result("1"), result("1")]))
    # The two are equal. typing would give the first for the second as long as it remembers it.
    first, second = (types.GenericAlias(Identity, (union,)) for union in (int | float, float | int))
    assert first == second
    assert [type(client.typed(one).get(5)) for one in (first, second)] == [int, float]


class Identity(Protocol[T]):
    def get(self, value: T) -> T: ...


# --- aliases in the class ---


class Aliases(Protocol):
    Items = list[int]
    Positive = Annotated[int, pydantic.Field(gt=0)]
    UserId = NewType("UserId", int)
    Either = int | str
    Named = typing_extensions.TypeAliasType("Named", list[int])
    Text: TypeAlias = "int | None"
    _Private = list[int]
    _PrivateId = NewType("_PrivateId", int)

    def items(self, one: Positive, two: UserId, three: _PrivateId) -> Items: ...

    def private(self) -> _Private: ...

    def named(self) -> Named: ...

    def text(self) -> Text: ...


def test_aliases_that_stand_in_the_class() -> None:
    api = Client(ScriptedBackend([result(["1"]), result(["2"]), result(["3"]), result(None)])).typed(Aliases)
    assert (api.items(1, Aliases.UserId(2), Aliases._PrivateId(3)), api.private(), api.named(), api.text()) == ([1], [2], [3], None)
    assert (api.Items, api.UserId, api.Positive, api.Either) == (Aliases.Items, Aliases.UserId, Aliases.Positive, Aliases.Either)
    with pytest.raises(TypeError, match=r"^Aliases\.items\(\): one: Input should be greater than 0$"):
        api.items(0, Aliases.UserId(2), Aliases._PrivateId(3))


class NoType(Protocol):
    LIMIT = 3

    def get(self) -> LIMIT: ...  # type: ignore[valid-type]


def test_a_name_of_the_class_that_is_no_type() -> None:
    with pytest.raises(TypeError, match=r"^NoType\.get: an annotation names 'LIMIT', which is not to be found; in the class it is no type$"):
        Rig("sync").client.typed(NoType)


# --- names of the functions around ---


def test_the_innermost_of_several_names_counts() -> None:
    class Local(pydantic.BaseModel):
        outer: int

    class Above(pydantic.BaseModel):
        above: int

    def inner() -> Any:
        class Local(pydantic.BaseModel):
            inner: int

        class Api(Protocol):
            def get(self) -> Local: ...

            def above(self) -> Above: ...

        return Client(ScriptedBackend([result({"inner": 1}), result({"above": 2})])).typed(Api)

    api = inner()
    assert (api.get().inner, api.above().above) == (1, 2)


def test_a_class_in_a_class_in_a_function() -> None:
    class Local(pydantic.BaseModel):
        a: int

    class Outer:
        class Api(Protocol):
            def get(self) -> Local: ...

    assert Client(ScriptedBackend([result({"a": 1})])).typed(Outer.Api).get() == Local(a=1)


def make(model: Any, other: Any = None) -> Any:
    class Api(Protocol):
        def get(self) -> model: ...  # type: ignore[valid-type]

    return Client(ScriptedBackend([result("x")])).typed(other) if other is not None else Api


def test_another_run_of_the_same_function_says_nothing() -> None:
    made = make(int)
    with pytest.raises(TypeError, match=r"^Api\.get: an annotation names 'model', which is not to be found; define it at the top of the module$"):
        make(str, made)


def again(depth: int) -> Any:
    if depth:
        early = int
        return again(depth - 1)

    class Api(Protocol):
        def get(self) -> early: ...  # type: ignore[valid-type, name-defined]

    return Client(ScriptedBackend([])).typed(Api)


def test_nor_does_the_run_that_called_it() -> None:
    with pytest.raises(TypeError, match=r"^Api\.get: an annotation names 'early', which is not to be found"):
        again(1)


def test_a_function_of_another_module_with_the_same_name_says_nothing() -> None:
    class Local(pydantic.BaseModel):
        a: int

    class Api(Protocol):
        def get(self) -> Local: ...

    other = types.ModuleType("other")
    name = inspect.currentframe().f_code.co_name  # type: ignore[union-attr]
    exec(f"def {name}(client, Api):\n    class Local: ...\n    return client.typed(Api)", vars(other))
    client = Client(ScriptedBackend([result({"a": 1})]))
    assert getattr(other, name)(client, Api).get() == Local(a=1)


# --- what is left of a class that was read ---


def with_super() -> Any:
    class Passing(Protocol):
        """What it is."""

        @rpc(idempotent=True)
        def get(self, id: int) -> int:
            """Get it."""
            return super().get(id)  # type: ignore[misc, no-any-return, safe-super]

    return Passing


def with_nested() -> Any:
    class Passing(Protocol):
        class Nested(pydantic.BaseModel):
            a: int

        def get(self, one: Nested) -> Nested: ...

    return Passing


def with_base() -> Any:
    class Base(Protocol[T]):
        def get(self) -> T: ...

    class Passing(Base[int], Protocol): ...

    return Passing


@pytest.mark.parametrize("make", [with_super, with_nested, with_base])
def test_a_class_that_was_read_goes_when_nobody_has_it(make: Any) -> None:
    passing = make()
    Client(ScriptedBackend([])).typed(passing).get
    gone = weakref.ref(passing)
    del passing
    gc.collect()
    assert gone() is None


# --- awaited ---


class Later(Protocol):
    @rpc
    def some(self) -> Awaitable[int]: ...

    @rpc
    def more(self) -> Coroutine[Any, Any, int]: ...

    @rpc
    def any(self) -> typing.Awaitable: ...  # type: ignore[type-arg]

    @rpc
    def all(self) -> Coroutine: ...  # type: ignore[type-arg]

    @notification
    async def tell(self) -> None: ...


class LaterStill(Later, AsyncInterface, Protocol): ...


@pytest.mark.parametrize("interface", [Later, LaterStill])
def test_what_is_declared_to_return_an_awaitable_is_awaited_once(interface: Any) -> None:
    async def main() -> list[Any]:
        api = AsyncClient(AsyncScriptedBackend([result("1"), result("2"), result("3"), result("4"), result(None)])).typed(interface)
        results = [await api.some(), await api.more(), await api.any(), await api.all()]
        await api.tell()
        return results

    assert asyncio.run(main()) == [1, 2, "3", "4"]
    with pytest.raises(TypeError, match=r"\.some is awaited, and Client does not wait so"):
        Rig("sync").client.typed(interface)


# --- methods of the class ---


class Wallet(Protocol):
    """A wallet."""

    @rpc
    def balance(self, address: str) -> int: ...

    @notification
    def tick(self) -> None: ...

    again = rpc(lambda self, address: None)  # type: ignore[misc]


class Fixed(Wallet):
    @rpc
    def balance(self, address: str) -> int:
        return 7


class Doubled(Fixed):
    def balance(self, address: str) -> int:  # type: ignore[override]
        return 2 * Fixed.balance(self, address)


def test_methods_of_the_class_are_called_as_functions_are() -> None:
    backend = ScriptedBackend([result(3), result(None), result(4)])
    api = Client(backend).typed(Wallet)
    assert Wallet.balance(api, "a") == 3
    Wallet.tick(api)
    assert Wallet.again(api, address="b") == 4
    assert [body.get("params") for body in backend.bodies] == [["a"], None, ["b"]]
    assert Doubled().balance("a") == 14
    with pytest.raises(TypeError, match=r"^Wallet\.balance\(\) is a method; call it on what client\.typed returned$"):
        Wallet.balance()  # type: ignore[call-overload]


def test_what_looks_at_functions_finds_one() -> None:
    assert callable(Wallet.balance)
    assert str(inspect.signature(Wallet.balance)) == "(self, address: 'str') -> 'int'"
    double = mock.create_autospec(Wallet, instance=True)
    double.balance.return_value = 5
    assert double.balance("a") == 5
    double.balance.assert_called_once_with("a")
    double.tick()
    assert mock.create_autospec(Wallet).balance is not None
    with pytest.raises(AttributeError):
        double.nothing


def test_the_object_says_what_its_interface_says() -> None:
    api = Client(ScriptedBackend([])).typed(Wallet)
    assert (api.__doc__, inspect.getdoc(api)) == ("A wallet.", "A wallet.")
