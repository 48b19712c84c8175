"""Reading an interface: which methods it declares, and what each of them needs to be called."""

from __future__ import annotations

import abc
import functools
import inspect
import sys
import types
import typing
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Mapping
from typing import Any, TypeVar, get_args, get_origin
from weakref import WeakKeyDictionary

import typing_extensions

from .._unset import UNSET, Unset
from ._generics import UNIONS, Meanings, meanings_of, substituted
from ._interface_params import Params
from .interface import AsyncInterface, RpcMethod
from .options import Convert, as_convert

__all__ = ["MethodPlan", "Plan", "plan_of"]

# What an interface is made of, and what is no part of it.
FOUNDATIONS = frozenset({object, typing.Protocol, typing.Generic, abc.ABC, AsyncInterface})

# Classes, too, in some versions of Python.
NO_INTERFACES = FOUNDATIONS | {typing.Annotated, *UNIONS}

# Before Python 3.14 there are two, where typing has one at all.
ALIASES = (typing_extensions.TypeAliasType, getattr(typing, "TypeAliasType", typing_extensions.TypeAliasType))

# What typing.overload leaves of a function.
OVERLOADED = typing.overload(lambda: None)


class MethodPlan:
    """What a method needs to be called, whatever the client.

    :ivar label: the class and the method, as messages name them.
    :ivar method: its name on the server.
    :ivar params: makes params of arguments.
    :ivar convert: of the results; ``None`` where they stay as they come, ``UNSET`` where nothing is said of them.
    :ivar awaited: whether it is declared as one that is awaited.
    :ivar doc: what its docstring says.
    :ivar idempotent, is_notification, options: what its decorator says.
    """

    __slots__ = ("awaited", "convert", "doc", "idempotent", "is_notification", "label", "method", "options", "params")

    def __init__(
        self,
        label: str,
        method: str,
        params: Params,
        convert: Convert | Unset | None,
        awaited: bool,
        declared: RpcMethod[..., Any],
    ) -> None:
        self.label = label
        self.method = method
        self.params = params
        self.convert = convert
        self.awaited = awaited
        self.doc = inspect.getdoc(declared.function)
        self.idempotent = declared.idempotent
        self.is_notification = declared.is_notification
        self.options = declared.options


class Plan:
    """An interface that was read.

    :ivar methods: by the names that they have in the class.
    :ivar awaited: the first method that only an async client can call; ``None`` where every client can.
    :ivar checked: the methods with options that only a client can check.
    """

    __slots__ = ("awaited", "checked", "methods")

    def __init__(self, methods: Mapping[str, MethodPlan]) -> None:
        self.methods = methods
        self.awaited = next((method.label for method in methods.values() if method.awaited), None)
        self.checked = [name for name, method in methods.items() if "fallback" in method.options]


# A plan holds neither the class nor its functions, which hold the class where they name super(): it may go when its module does.
_plans: WeakKeyDictionary[type, dict[Hashable, Plan]] = WeakKeyDictionary()


def plan_of(interface: object) -> tuple[type, Plan]:
    """The class, and what was read of it; each is read once.

    :raises TypeError: naming the class, the method and the fix.
    """
    cls, arguments = (interface, ()) if isinstance(interface, type) else (get_origin(interface), get_args(interface))
    if not isinstance(cls, type) or cls in NO_INTERFACES or cls.__module__ == "builtins":
        raise TypeError(f"typed takes a class with annotated methods, got {type(interface).__name__} {interface!r:.60}")
    try:
        # int | str equals str | int, and is validated in another order.
        key: Hashable = (arguments, repr(arguments))
        known = _plans.setdefault(cls, {})
        plan = known.get(key)
    except TypeError:
        # Arguments that cannot be hashed.
        return cls, _read(cls, arguments)
    if plan is None:
        plan = known[key] = _read(cls, arguments)
    return cls, plan


def _read(cls: type, arguments: tuple[Any, ...]) -> Plan:
    parameters = getattr(cls, "__parameters__", ())
    if len(arguments) != len(parameters):
        raise TypeError(f"{cls.__name__} is generic; give typed what it is of: {cls.__name__}[{', '.join(str(one).lstrip('~+-') for one in parameters)}]")
    meanings = meanings_of(cls, arguments)
    members: dict[str, tuple[type, object]] = {}
    for base in reversed(cls.__mro__):
        if base not in FOUNDATIONS:
            members |= {name: (base, value) for name, value in vars(base).items()}
            for name in inspect.get_annotations(base):
                if name not in vars(base) and name[:1] != "_":
                    raise TypeError(f"{cls.__name__}.{name} is an attribute, and a server has methods only; write def {name}(self) -> ...: ...")
    methods = {}
    for name, (base, value) in members.items():
        declared = _declared(f"{cls.__name__}.{name}", name, value)
        if declared is not None:
            methods[name] = _method(cls, base, name, declared, meanings.get(base, {}))
    if not methods:
        raise TypeError(f"{cls.__name__} declares no methods; write them as def with annotations, under names that do not start with _")
    return Plan(methods)


def _declared(label: str, name: str, value: object) -> RpcMethod[..., Any] | None:
    """What a member of the class declares; ``None`` where it is no method of the server."""
    if name[:1] == "_":
        if isinstance(value, RpcMethod):
            raise TypeError(f'{label} starts with _, as what is private does; call it otherwise, and give its name: @rpc(name="{name}")')
        return None
    if isinstance(value, RpcMethod):
        return value
    if isinstance(value, types.FunctionType):
        return RpcMethod(value)
    if isinstance(value, (property, functools.cached_property)):
        raise TypeError(f"{label} is a property, and a server has methods only; write a def without @property")
    if isinstance(value, (staticmethod, classmethod)):
        raise TypeError(f"{label} is a {type(value).__name__}; write def {name}(self, ...) without @{type(value).__name__}")
    if not _is_type(value) and (callable(value) or hasattr(type(value), "__get__")):
        raise TypeError(f"{label} is a {type(value).__name__}, and not a def with a signature to go by; write def {name}(self, ...)")
    return None


def _method(cls: type, base: type, name: str, declared: RpcMethod[..., Any], meanings: Meanings) -> MethodPlan:
    label, function = f"{cls.__name__}.{name}", declared.function
    if function is OVERLOADED:
        raise TypeError(f"{label} is overloaded, and nothing says which signature is meant; write one def, with unions")
    hints = {key: substituted(hint, meanings) for key, hint in _hints(label, base, function).items()}
    returns = hints.pop("return", UNSET)
    awaited = inspect.iscoroutinefunction(inspect.unwrap(function))
    if (get_origin(returns) or returns) in (Awaitable, Coroutine) and not awaited:
        awaited, returns = True, (get_args(returns) or (Any,))[-1]
    if AsyncInterface in cls.__mro__ and not awaited:
        if not isinstance(vars(base).get(name), RpcMethod):
            raise TypeError(f"{label} is no @rpc, so type checkers would take its result for one that is not awaited; write @rpc over it")
        awaited = True
    if declared.is_notification and returns not in (UNSET, None, type(None)):
        raise TypeError(f"{label} is a notification, which has no result, and declares one; write -> None, or @rpc")
    params = Params(label, inspect.signature(function), hints, declared.by)
    return MethodPlan(label, declared.name or name, params, _converter(label, returns), awaited, declared)


def _is_type(value: object) -> bool:
    """Whether it is what an annotation may name: a class, an alias, a new type or a type variable."""
    return isinstance(value, (type, typing.NewType, TypeVar, *ALIASES)) or get_origin(value) is not None


def _hints(label: str, base: type, function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations, where they are strings looked up in the class, the functions around it that are running, and its module."""
    # Methods may be called list, or type, and mean nothing by that. An alias may be a string.
    inside = {name: value for name, value in vars(base).items() if _is_type(value) or isinstance(value, str)}
    # Those of ``class Repository[T]``, which stand in no scope that could be looked into.
    inside |= {one.__name__: one for one in getattr(base, "__type_params__", ())}
    try:
        return typing.get_type_hints(inspect.unwrap(function), localns={**_around(base), **inside}, include_extras=True)
    except NameError as problem:
        if problem.name in vars(base):
            hint = "in the class it is no type"
        else:
            hint = "define it at the top of the module" if "<locals>" in base.__qualname__ else "import it where the class is, not only under TYPE_CHECKING"
        raise TypeError(f"{label}: an annotation names {problem.name!r}, which is not to be found; {hint}") from None
    except Exception as problem:
        raise TypeError(f"{label}: an annotation cannot be read: {problem}") from None


def _around(base: type) -> dict[str, Any]:
    """The variables of the functions around a class, where they are running and the class is of this run of theirs."""
    *functions, last = base.__qualname__.split(".<locals>.")
    wanted = {".<locals>.".join(functions[: end + 1]) for end in range(len(functions))}
    innermost, found = ".<locals>.".join(functions), dict[str, Any]()
    frame = sys._getframe() if functions else None
    is_inside = False
    while frame is not None:
        name = frame.f_code.co_qualname
        # Reading its variables leaves copies of them in the frame.
        if name in wanted and frame.f_globals.get("__name__") == base.__module__:
            is_inside = is_inside or (name == innermost and _standing(frame.f_locals, last) is base)
            if is_inside:
                wanted.discard(name)
                found = {**frame.f_locals, **found}
        frame = frame.f_back
    return found


def _standing(variables: Mapping[str, object], path: str) -> object:
    """What stands under a dotted name."""
    first, *rest = path.split(".")
    value = variables.get(first)
    for name in rest:
        value = vars(value).get(name) if isinstance(value, type) else None
    return value


def _converter(label: str, returns: object) -> Convert | Unset | None:
    if returns is UNSET:
        return UNSET
    if returns is Any:
        return None
    if returns is None or returns is type(None):
        return dropped
    try:
        return as_convert(returns)
    except TypeError as problem:
        raise TypeError(f"{label}: {str(problem).replace('_result', 'what it returns', 1)}") from None


def dropped(result: object, method: str, status: int | None) -> None:
    """The result of a method that is declared ``-> None``: servers answer true, {} or null there."""
