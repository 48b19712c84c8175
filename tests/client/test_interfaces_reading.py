"""What an interface may not declare: refused when it is read, with class, method and fix, and before anything is sent."""

from __future__ import annotations

import abc
import functools
import subprocess
import sys
import types
import typing
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, Protocol, TypeVar, Unpack

import pydantic
import pytest
from pydantic import AliasChoices, AliasPath, Field, Secret, SecretBytes, SecretStr
from support import Rig, both_drivers
from typing_extensions import TypeAliasType, TypedDict

from rpcretry import AsyncInterface, Client, Fallback, RetryStrategy, notification, rpc
from rpcretry.client import RpcMethod
from rpcretry.testing import ScriptedBackend, result

if TYPE_CHECKING:
    from decimal import Decimal

T = TypeVar("T")


class Unknown:
    pass


class Unfinished(pydantic.BaseModel):
    other: Nowhere  # type: ignore[name-defined]  # noqa: F821


def interface(**members: Any) -> type:
    """A class of that name with those members, which are called after their names."""

    def fill(names: dict[str, Any]) -> None:
        names["__module__"] = __name__
        for name, member in members.items():
            if isinstance(member, types.FunctionType):
                member.__name__, member.__qualname__ = name, f"Api.{name}"
            names[name] = member

    return types.new_class("Api", (), {}, fill)


class OfATypeVariable(Protocol[T]):
    def get(self) -> T: ...


class WithAttribute(Protocol):
    url: str

    def get(self) -> int: ...


class NotAwaitable(AsyncInterface, Protocol):
    def get(self) -> int: ...


def no_self() -> int: ...  # type: ignore[empty-body]
def all_self(*args: int) -> int: ...  # type: ignore[empty-body]
def keyword_self(*, a: int) -> int: ...  # type: ignore[empty-body]
def default_self(a: int = 1) -> int: ...  # type: ignore[empty-body]
def mixed(self: Any, a: int, /, *, b: int) -> int: ...  # type: ignore[empty-body]
def rest_and_named(self: Any, *a: int, b: int) -> int: ...  # type: ignore[empty-body]
def rest_and_others(self: Any, *a: int, **b: int) -> int: ...  # type: ignore[empty-body]
def first_and_others(self: Any, a: int, /, **b: int) -> int: ...  # type: ignore[empty-body]
def positional(self: Any, a: int, /) -> int: ...  # type: ignore[empty-body]
def rest(self: Any, *a: int) -> int: ...  # type: ignore[empty-body]
def others(self: Any, **a: int) -> int: ...  # type: ignore[empty-body]
def option(self: Any, _timeout: int) -> int: ...  # type: ignore[empty-body]
def unknown_param(self: Any, a: int, b: Unknown) -> int: ...  # type: ignore[empty-body]
def unfinished_param(self: Any, b: Unfinished) -> int: ...  # type: ignore[empty-body]
def unknown_result(self: Any) -> list[Unknown]: ...  # type: ignore[empty-body]
def missing_name(self: Any, a: Decimal) -> int: ...  # type: ignore[empty-body]
def broken_annotation(self: Any, a: "1 +") -> int: ...  # type: ignore  # noqa: F722
def noted(self: Any) -> int: ...  # type: ignore[empty-body]
def with_fallback(self: Any) -> Any: ...
@typing.overload
def overloaded(self: Any, a: int) -> int: ...
@typing.overload
def overloaded(self: Any, a: str) -> str: ...
def overloaded(self: Any, a: Any) -> Any: ...


Password = TypeAliasType("Password", SecretStr)


class Keywords(TypedDict("Keywords", {"from": int})): ...


class Dashes(TypedDict("Dashes", {"a-b": int})): ...


class Twice(TypedDict):
    x: int


class Of(TypedDict, Generic[T]):
    x: T


class WithOption(TypedDict):
    _timeout: int


@notification
def later(self: Any) -> Awaitable[int]: ...  # type: ignore[empty-body, type-var]
def unpacked_key(self: Any, **params: Unpack[Keywords]) -> int: ...  # type: ignore[empty-body]
def unpacked_dash(self: Any, **params: Unpack[Dashes]) -> int: ...  # type: ignore[empty-body]
def unpacked_twice(self: Any, x: int, **params: Unpack[Twice]) -> int: ...  # type: ignore[empty-body, misc]
def unpacked_generic(self: Any, **params: Unpack[Of[int]]) -> int: ...  # type: ignore[empty-body]
def unpacked_bare_generic(self: Any, **params: Unpack[Of]) -> int: ...  # type: ignore[empty-body, type-arg]
def unpacked_class(self: Any, **params: Unpack[Unknown]) -> int: ...  # type: ignore[empty-body, misc]
def unpacked_option(self: Any, **params: Unpack[WithOption]) -> int: ...  # type: ignore[empty-body]
def field_default(self: Any, a: int, b: int = Field(default=5)) -> int: ...  # type: ignore[empty-body]
def same_alias(self: Any, a: Annotated[int, Field(alias="x")], b: Annotated[int, Field(alias="x")]) -> int: ...  # type: ignore[empty-body]
def alias_is_name(self: Any, id_: Annotated[int, Field(alias="id")], id: int) -> int: ...  # type: ignore[empty-body]
def swapped(self: Any, src: Annotated[str, Field(alias="to")], to: Annotated[str, Field(alias="src")]) -> int: ...  # type: ignore[empty-body]
def written_alias(self: Any, a: Annotated[int, Field(serialization_alias="b")], b: int = 3) -> int: ...  # type: ignore[empty-body]
def read_alias(self: Any, a: Annotated[int, Field(validation_alias="b")], b: int = 3) -> int: ...  # type: ignore[empty-body]
def choices(self: Any, a: Annotated[int, Field(validation_alias=AliasChoices("c", AliasPath("b", 0)))], b: int = 3) -> int: ...  # type: ignore[empty-body]
def never_sent(self: Any, a: Annotated[int, Field(exclude=True)], b: int) -> int: ...  # type: ignore[empty-body]
def secret(self: Any, password: SecretStr) -> int: ...  # type: ignore[empty-body]
def secret_inside(self: Any, keys: Annotated[dict[str, SecretBytes | None], Field(min_length=1)]) -> int: ...  # type: ignore[empty-body]
def secret_alias(self: Any, password: Password | None) -> int: ...  # type: ignore[empty-body]
def secret_generic(self: Any, pin: Secret[int]) -> int: ...  # type: ignore[empty-body]


async def slow_fallback() -> int:
    return 3


named: Any = rpc(by="name")
placed: Any = rpc(by="position")

REFUSED: list[tuple[Any, str]] = [
    (3, r"typed takes a class with annotated methods, got int 3$"),
    ("Wallet", r"typed takes a class with annotated methods, got str 'Wallet'$"),
    (None, r"typed takes a class with annotated methods, got NoneType None$"),
    (len, r"typed takes a class with annotated methods, got builtin_function_or_method"),
    (int, r"typed takes a class with annotated methods, got type <class 'int'>$"),
    (list[int], r"typed takes a class with annotated methods, got "),
    (Protocol, r"typed takes a class with annotated methods, got "),
    (AsyncInterface, r"typed takes a class with annotated methods, got "),
    (interface(), r"Api declares no methods; write them as def"),
    (interface(_private=noted), r"Api declares no methods; write them as def"),
    (interface(a=no_self), r"Api\.a has no self; write def a\(self, \.\.\.\)$"),
    (interface(a=all_self), r"Api\.a has no self"),
    (interface(a=keyword_self), r"Api\.a has no self"),
    (interface(a=default_self), r"Api\.a has no self"),
    (interface(a=property(noted)), r"Api\.a is a property, and a server has methods only"),
    (interface(a=functools.cached_property(noted)), r"Api\.a is a property, and a server has methods only"),
    (interface(a=staticmethod(noted)), r"Api\.a is a staticmethod; write def a\(self, \.\.\.\) without @staticmethod$"),
    (interface(a=classmethod(noted)), r"Api\.a is a classmethod; write def a\(self, \.\.\.\) without @classmethod$"),
    (interface(a=functools.partialmethod(noted)), r"Api\.a is a partialmethod, and not a def with a signature to go by"),
    (interface(a=len), r"Api\.a is a builtin_function_or_method, and not a def"),
    (interface(_a=rpc(noted)), r'Api\._a starts with _, as what is private does; .*@rpc\(name="_a"\)$'),
    (WithAttribute, r"WithAttribute\.url is an attribute, and a server has methods only; write def url\(self\) -> \.\.\.: \.\.\.$"),
    (interface(a=mixed), r"Api\.a: a travels by position and b by name, and JSON-RPC sends an array or an object"),
    (interface(a=placed(mixed)), r"Api\.a: a travels by position and b by name"),
    (interface(a=rest_and_named), r"Api\.a: \*a travels by position and b by name"),
    (interface(a=rest_and_others), r"Api\.a: \*a travels by position and \*\*b by name"),
    (interface(a=first_and_others), r"Api\.a: a travels by position and \*\*b by name"),
    (interface(a=named(positional)), r'Api\.a: a has no name to travel by; write by="position"'),
    (interface(a=named(rest)), r'Api\.a: \*a has no name to travel by; write by="position"'),
    (interface(a=placed(others)), r'Api\.a: \*\*a has no position to travel by; write by="name"'),
    (interface(a=option), r"Api\.a: the name of '_timeout' starts with _, as options do; .*Field\(alias='_timeout'\)"),
    (interface(a=unknown_param), r"Api\.a: the annotation of b must be a type that pydantic can validate, got <class '.*Unknown'>: "),
    (interface(a=unfinished_param), r"Api\.a: the annotation of b must be a type that pydantic can validate, got <class '.*Unfinished'>: "),
    (interface(a=unknown_result), r"Api\.a: what it returns must be a type that pydantic can validate, got "),
    (
        interface(a=missing_name),
        r"Api\.a: an annotation names 'Decimal', which is not to be found; import it where the class is, not only under TYPE_CHECKING$",
    ),
    (interface(a=broken_annotation), r"Api\.a: an annotation cannot be read: "),
    (interface(a=notification(noted)), r"Api\.a is a notification, which has no result, and declares one; write -> None, or @rpc$"),
    (interface(a=typing.overload(noted)), r"Api\.a is overloaded, and nothing says which signature is meant"),
    (OfATypeVariable, r"OfATypeVariable is generic; give typed what it is of: OfATypeVariable\[T\]$"),
    (int | str, r"typed takes a class with annotated methods, got UnionType int \| str$"),
    (Annotated[Unknown, 1], r"typed takes a class with annotated methods, got _AnnotatedAlias "),
    (interface(a=later), r"Api\.a is a notification, which has no result"),
    (interface(a=unpacked_key), r"Api\.a: the key 'from' of Keywords can be no name of a param; .* Annotated\[\.\.\., Field\(alias='from'\)\]$"),
    (interface(a=unpacked_dash), r"Api\.a: the key 'a-b' of Dashes can be no name of a param"),
    (interface(a=unpacked_twice), r"Api\.a: x is a param, and a key of Twice, too; leave out one of them$"),
    (interface(a=unpacked_generic), r"Api\.a: \*\*params takes Unpack\[\.\.\.\] of a TypedDict that is not generic, got .*Of\[int\]$"),
    (interface(a=unpacked_bare_generic), r"Api\.a: \*\*params takes Unpack\[\.\.\.\] of a TypedDict that is not generic, got "),
    (interface(a=unpacked_class), r"Api\.a: \*\*params takes Unpack\[\.\.\.\] of a TypedDict that is not generic, got "),
    (interface(a=unpacked_option), r"Api\.a: the name of '_timeout' starts with _, as options do"),
    (interface(a=field_default), r"Api\.a: the default of b is a Field\(\.\.\.\); write it into the annotation: b: Annotated\[\.\.\., Field\(\.\.\.\)\]$"),
    (interface(a=same_alias), r"Api\.a: (b and a|a and b) would both travel as 'x'; give one of them another name$"),
    (interface(a=alias_is_name), r"Api\.a: id_ and id would both travel as 'id'; give one of them another name$"),
    (interface(a=named(swapped)), r"Api\.a: 'to' is an alias of src, and to has that name, too; give one of them another name$"),
    (interface(a=swapped), r"Api\.a: 'to' is an alias of src, and to has that name, too; give one of them another name$"),
    (interface(a=written_alias), r"Api\.a: a and b would both travel as 'b'"),
    (interface(a=read_alias), r"Api\.a: 'b' is an alias of a, and b has that name, too"),
    (interface(a=choices), r"Api\.a: 'b' is an alias of a, and b has that name, too"),
    (interface(a=never_sent), r"Api\.a: a has Field\(exclude=True\), and would never be sent; leave it out of the method$"),
    (interface(a=secret), r"Api\.a: the annotation of password holds a SecretStr, which pydantic writes as stars; .* get_secret_value\(\)$"),
    (interface(a=secret_inside), r"Api\.a: the annotation of keys holds a SecretBytes, which pydantic writes as stars"),
    (interface(a=secret_alias), r"Api\.a: the annotation of password holds a SecretStr, which pydantic writes as stars"),
    (interface(a=secret_generic), r"Api\.a: the annotation of pin holds a Secret, which pydantic writes as stars"),
    (NotAwaitable, r"NotAwaitable\.get is no @rpc, so type checkers would take its result for one that is not awaited; write @rpc over it$"),
]


@pytest.mark.parametrize(("bad", "message"), REFUSED, ids=[str(number) for number in range(len(REFUSED))])
@both_drivers
def test_refused_when_it_is_read(driver: str, bad: Any, message: str) -> None:
    rig = Rig(driver)
    for _ in range(2):
        with pytest.raises(TypeError, match=f"^{message}"):
            rig.client.typed(bad)
    assert rig.sent == 0


def test_what_only_the_client_can_tell_is_told_when_it_is_read_too() -> None:
    bad = interface(a=rpc(fallback=Fallback(slow_fallback))(with_fallback))
    with pytest.raises(TypeError, match=r"^Api\.a: .*slow_fallback"):
        Rig("sync").client.typed(bad)
    assert Rig("async").client.typed(bad).a is not None


def test_a_name_that_is_local_to_a_function_that_has_ended() -> None:
    def make() -> Any:
        class Local(pydantic.BaseModel):
            a: int

        class Api(Protocol):
            def get(self) -> Local: ...

        return Api

    with pytest.raises(TypeError, match=r"^Api\.get: an annotation names 'Local', which is not to be found; define it at the top of the module$"):
        Rig("sync").client.typed(make())


BAD_OPTIONS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"name": ""}, ValueError, "name must not be empty"),
    ({"name": 3}, TypeError, "name must be a str"),
    ({"by": "order"}, ValueError, r'by must be "position" or "name", got \'order\''),
    ({"by": True}, ValueError, r'by must be "position" or "name", got True'),
    ({"by": []}, ValueError, r'by must be "position" or "name", got \[\]'),
    ({"timeout": 0}, ValueError, "timeout must be more than 0"),
    ({"timeout": "5"}, TypeError, "timeout must be a number"),
    ({"deadline": "5"}, TypeError, "deadline must be a number"),
    ({"retry_strategy": 3}, TypeError, "retry_strategy must be a RetryStrategy or None"),
    ({"retry_strategy": RetryStrategy}, TypeError, "retry_strategy must be an instance"),
    ({"idempotency_key": "fixed"}, ValueError, "idempotency_key would be the same for all calls"),
]


@pytest.mark.parametrize(("options", "kind", "message"), BAD_OPTIONS)
@pytest.mark.parametrize("decorator", [rpc, notification])
def test_options_are_checked_where_they_are_written(decorator: Any, options: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        decorator(**options)


@pytest.mark.parametrize(
    ("wrong", "kind", "message"),
    [
        ({"by": "order"}, ValueError, 'by must be "position" or "name"'),
        ({"name": 3}, TypeError, "name must be a str"),
        ({"idempotent": "yes"}, TypeError, "idempotent must be True, False or None"),
        ({"options": {"timeout": 0}}, ValueError, "timeout must be more than 0"),
        ({"options": {"retries": 3}}, TypeError, "RpcMethod has no parameter 'retries'"),
        ({"function": len}, TypeError, "@rpc takes a function, got builtin_function_or_method"),
        ({"function": len, "is_notification": True}, TypeError, "@notification takes a function"),
    ],
)
def test_a_method_that_is_made_by_hand_is_checked_as_well(wrong: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        RpcMethod(**{"function": noted, **wrong})


def test_what_the_decorators_take() -> None:
    with pytest.raises(TypeError, match=r"idempotent must be True, False or None, got str 'get_\*'; names are for RetryStrategy\(idempotent=...\)"):
        rpc(idempotent="get_*")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="fallback must be a Fallback"):
        rpc(fallback=3)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="notification has no parameter 'idempotent'"):
        notification(idempotent=True)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=r"@rpc takes a function, got str 'wallet.get'; write @rpc\(name=\"wallet.get\"\)$"):
        rpc("wallet.get")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=r"@notification takes a function, got property"):
        notification(property())  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="is under two of @rpc and @notification; keep one"):
        rpc(notification(others))  # type: ignore[call-overload]


def test_what_is_no_method_is_left_alone() -> None:
    class Base(abc.ABC):
        LIMIT: ClassVar[int] = 3

        class Part(pydantic.BaseModel):
            a: int

        def __init__(self, value: int) -> None:
            raise AssertionError("made")

        def __len__(self) -> int:
            raise AssertionError("asked")

        @property
        def _hidden(self) -> int:
            raise AssertionError("asked")

        @abc.abstractmethod
        def get(self) -> Part: ...

        @rpc
        @abc.abstractmethod
        def got(self) -> int: ...

        def later(self) -> Awaitable[int]:
            raise NotImplementedError

    with pytest.raises(TypeError, match=r"^Base\.later is awaited"):
        Rig("sync").client.typed(Base)
    api = Rig("async", result({"a": 1}), result("2")).client.typed(Base)
    assert (api.LIMIT, api.Part) == (3, Base.Part)
    assert "got" in Base.__abstractmethods__

    import asyncio

    async def run() -> tuple[Any, Any]:
        return await api.get(), await api.later()

    assert asyncio.run(run()) == (Base.Part(a=1), 2)


def test_several_bases_and_type_variables() -> None:
    class Named(Generic[T]):
        def named(self, name: T) -> list[T]:
            raise NotImplementedError

    class Both(Named[str], OfATypeVariable[int]):
        pass

    api = Client(ScriptedBackend([result(["a"]), result(3)])).typed(Both)
    assert (api.named("a"), api.get()) == (["a"], 3)
    with pytest.raises(TypeError, match=r"^Both\.named\(\): name: Input should be a valid string"):
        api.named(3)  # type: ignore[arg-type]


def test_type_variables_that_only_the_class_knows() -> None:
    # As ``class Repository[T]`` makes it, which Python 3.11 cannot read.
    hidden = TypeVar("hidden")

    class Repository(Protocol[hidden]):  # type: ignore[valid-type, misc]
        __type_params__ = (hidden,)

        def get(self) -> hidden: ...

    names = Repository.__qualname__
    Repository.__qualname__ = "Repository"
    api = Client(ScriptedBackend([result("3")])).typed(Repository[int])  # type: ignore[misc]
    Repository.__qualname__ = names
    assert api.get() == 3


def test_methods_keep_what_functions_say_of_themselves() -> None:
    class Api:
        @rpc(name="x", idempotent=True, timeout=5)
        def get(self) -> int:
            """Get it."""
            raise NotImplementedError

    method = Api.get
    assert isinstance(method, RpcMethod)
    assert (method.name, method.by, method.idempotent, method.is_notification, dict(method.options)) == ("x", None, True, False, {"timeout": 5})
    assert (method.function.__name__, method.__doc__) == ("get", "Get it.")


def test_an_interface_without_annotations_needs_no_pydantic() -> None:
    program = (
        "import sys\n"
        "from rpcretry import Client, rpc\n"
        "from rpcretry.testing import ScriptedBackend, result\n"
        "class Api:\n"
        "    @rpc(by='name')\n"
        "    def get(self, a, b=1): ...\n"
        "print(Client(ScriptedBackend([result(3)])).typed(Api).get(1), 'pydantic' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["3", "False"]
