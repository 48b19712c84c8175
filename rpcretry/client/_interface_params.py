"""The arguments of a typed method to params of a request."""

from __future__ import annotations

import keyword
import sys
import typing
from collections.abc import Mapping
from inspect import Parameter, Signature
from typing import TYPE_CHECKING, Any, NotRequired, Required, Union, get_args, get_origin, get_type_hints

import typing_extensions

from .._unset import UNSET, Unset
from ._generics import UNIONS
from .options import CALL_OPTIONS

if TYPE_CHECKING:
    from ._interface_values import Check

__all__ = ["Params"]

POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
NAMED = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)

# Up to Python 3.11 they are two.
UNPACKS = (typing.Unpack, typing_extensions.Unpack)
QUALIFIERS = (Required, NotRequired, typing_extensions.ReadOnly)

Given = dict[str, Any]


class Params:
    """Makes params of arguments: those that were given, validated against their annotations, and as they travel.

    :ivar signature: without ``self``.
    :raises TypeError, ValueError: where the signature says nothing that could be sent.
    """

    def __init__(self, label: str, signature: Signature, hints: Mapping[str, Any], by: str | None) -> None:
        self._label = label
        self.signature, hints = _unpacked(label, _without_self(label, signature), hints)
        each = list(self.signature.parameters.values())
        for one in each:
            _check_parameter(label, one)
        self._by_name = _travel_by_name(label, each, by)
        self._names = tuple(self.signature.parameters)
        self._positional = tuple(one.name for one in each if one.kind in POSITIONAL)
        self._named = frozenset(one.name for one in each if one.kind in NAMED)
        self._required = frozenset(one.name for one in each if one.default is one.empty and (one.kind in POSITIONAL or one.kind in NAMED))
        self._rest = next((one.name for one in each if one.kind is one.VAR_POSITIONAL), None)
        self._others = next((one.name for one in each if one.kind is one.VAR_KEYWORD), None)
        self._defaults = {one.name: one.default for one in each if one.default is not one.empty}
        # These may be given as UNSET, which is to leave them out.
        self._open = {one.name for one in each if one.default is UNSET or _without_unset(hints.get(one.name)) is not hints.get(one.name)} - self._required
        # With that many arguments by position, or more, nothing is missing.
        self._least = len(self._required) if self._required <= set(self._positional) and not self._open else len(self._positional) + 1
        self._check = _checker(label, each, hints)
        self._unfit = {} if self._by_name else self._unfit_defaults()

    def _unfit_defaults(self) -> dict[str, str]:
        """Why a default cannot fill a gap, for those that cannot."""
        unfit = {}
        for name, default in self._defaults.items():
            if default is UNSET or default is ...:
                unfit[name] = "has no default to send"
            elif self._check is not None:
                try:
                    self._check({name: default})
                except TypeError as problem:
                    unfit[name] = f"has a default that cannot be sent ({str(problem).partition('(): ')[2]})"
        return unfit

    def __call__(self, args: tuple[Any, ...], named: Given) -> Any:
        """The params: a list, a dict, or ``UNSET`` where none are given.

        :raises TypeError: where the arguments are none for this method.
        """
        if not named and self._least <= len(args) <= len(self._positional):
            if self._check is None and not self._by_name:
                return args or UNSET
            given = dict(zip(self._positional, args, strict=False))
        else:
            given = self._bound(args, named)
        if not given:
            return UNSET
        if self._check is not None:
            given = self._check(given)
        if self._by_name:
            return given if self._others is None else self._spread(given)
        if self._rest is None or self._rest not in given:
            return list(given.values())
        *first, rest = given.values()
        return [*first, *rest]

    def _bound(self, args: tuple[Any, ...], named: Given) -> Given:
        if len(args) <= len(self._positional) and named.keys() <= self._named and not self._open:
            # What Signature.bind does, at a fifth of its cost.
            given = dict(zip(self._positional, args, strict=False))
            if given.keys().isdisjoint(named):
                given |= named
                if given.keys() >= self._required:
                    return given if self._by_name else self._without_gaps(given)
        for name in named:
            if name[:1] == "_":
                what = name[1:]
                hint = f"; write client.using({what}=...).typed(...), or @rpc({what}=...) over the method" if name in CALL_OPTIONS else ""
                raise TypeError(f"{self._label}() has no option {name!r}{hint}")
        try:
            given = dict(self.signature.bind(*args, **named).arguments)
        except TypeError as problem:
            raise TypeError(f"{self._label}(): {problem}") from None
        if self._open:
            given = {name: value for name, value in given.items() if value is not UNSET or name not in self._open}
            for name, value in given.items():
                if value is UNSET:
                    what = f"missing a required argument: {name!r}" if name in self._required else f"{name!r} may not be UNSET; leave it out"
                    raise TypeError(f"{self._label}(): {what}")
        return given if self._by_name else self._without_gaps(given)

    def _without_gaps(self, given: Given) -> Given:
        # By position, what comes after a param has its place only where that is there.
        names = self._names
        if tuple(given) == names[: len(given)]:
            return given
        last = max(map(names.index, given))
        filled = {}
        for name in names[: last + 1]:
            if name not in given and name in self._unfit:
                where = f"{name!r}, which stands before {names[last]!r}, {self._unfit[name]}"
                raise TypeError(f"{self._label}() sends params by position, and {where}; give {name!r}, too")
            filled[name] = given[name] if name in given else self._defaults[name]
        return filled

    def _spread(self, given: Given) -> Given:
        others = given.pop(self._others or "", {})
        for name in sorted(given.keys() & others.keys()):
            raise TypeError(f"{self._label}(): multiple values for argument {name!r}")
        return {**given, **others}


def _without_self(label: str, signature: Signature) -> Signature:
    parameters = list(signature.parameters.values())
    if not parameters or parameters[0].kind not in POSITIONAL or parameters[0].default is not Parameter.empty:
        raise TypeError(f"{label} has no self; write def {label.rpartition('.')[2]}(self, ...)")
    return signature.replace(parameters=parameters[1:])


def _check_parameter(label: str, one: Parameter) -> None:
    # Names that start with two underscores come as _Wallet__name.
    if one.name[:1] == "_":
        raise TypeError(
            f"{label}: the name of {one.name!r} starts with _, as options do; for the wire give it another: Annotated[..., Field(alias={one.name!r})]"
        )
    # Without pydantic there is none.
    if isinstance(one.default, getattr(sys.modules.get("pydantic.fields"), "FieldInfo", ())):
        raise TypeError(f"{label}: the default of {one.name} is a Field(...); write it into the annotation: {one.name}: Annotated[..., Field(...)]")


def _unpacked(label: str, signature: Signature, hints: Mapping[str, Any]) -> tuple[Signature, Mapping[str, Any]]:
    """The same with a param for each key of ``**params: Unpack[SomeTypedDict]``."""
    others = list(signature.parameters.values())
    last = others[-1] if others else None
    hint = hints.get(last.name) if last is not None and last.kind is last.VAR_KEYWORD else None
    if last is None or get_origin(hint) not in UNPACKS:
        return signature, hints
    others.pop()
    (document,) = get_args(hint)
    if not typing_extensions.is_typeddict(document) or vars(document).get("__parameters__"):
        raise TypeError(f"{label}: **{last.name} takes Unpack[...] of a TypedDict that is not generic, got {document!r:.80}")
    keys: dict[str, Any] = {}
    for key, one in get_type_hints(document, include_extras=True).items():
        if not key.isidentifier() or keyword.iskeyword(key):
            hint = f"give it a name, and for the wire Annotated[..., Field(alias={key!r})]"
            raise TypeError(f"{label}: the key {key!r} of {document.__name__} can be no name of a param; {hint}")
        if key in signature.parameters and key != last.name:
            raise TypeError(f"{label}: {key} is a param, and a key of {document.__name__}, too; leave out one of them")
        is_required = key in document.__required_keys__
        while get_origin(one) in QUALIFIERS:
            # Those in annotations that are strings are known only now.
            is_required = get_origin(one) is Required or (is_required and get_origin(one) is not NotRequired)
            (one,) = get_args(one)
        keys[key] = one
        # What may be left out is never filled in, so any default will do.
        others.append(Parameter(key, Parameter.KEYWORD_ONLY, default=Parameter.empty if is_required else ..., annotation=one))
    return signature.replace(parameters=others), {**hints, **keys}


def _without_unset(hint: Any) -> Any:
    if get_origin(hint) not in UNIONS or Unset not in get_args(hint):
        return hint
    return Union[tuple(one for one in get_args(hint) if one is not Unset)]  # noqa: UP007


def _travel_by_name(label: str, each: list[Parameter], by: str | None) -> bool:
    kinds = {one.kind: one.name for one in each}
    positional, named = kinds.get(Parameter.POSITIONAL_ONLY), kinds.get(Parameter.KEYWORD_ONLY)
    rest, others = kinds.get(Parameter.VAR_POSITIONAL), kinds.get(Parameter.VAR_KEYWORD)
    by_name = by == "name" if by is not None else named is not None or others is not None
    first, second = positional or (rest and f"*{rest}"), named or (others and f"**{others}")
    if first and second:
        raise TypeError(f"{label}: {first} travels by position and {second} by name, and JSON-RPC sends an array or an object; make them of one kind")
    if by_name and first:
        raise TypeError(f'{label}: {first} has no name to travel by; write by="position", or declare it otherwise')
    if not by_name and others:
        raise TypeError(f'{label}: **{others} has no position to travel by; write by="name", or declare params one by one')
    return by_name


def _checker(label: str, each: list[Parameter], hints: Mapping[str, Any]) -> Check | None:
    annotated = {one.name: _annotation(one, hints.get(one.name, Any)) for one in each}
    if all(hint is Any or hint is object for hint in annotated.values()):
        return None
    from ._interface_values import checker

    return checker(label, annotated)


def _annotation(parameter: Parameter, hint: Any) -> Any:
    hint = _without_unset(hint)
    if parameter.kind is parameter.VAR_POSITIONAL:
        return list[hint]
    return dict[str, hint] if parameter.kind is parameter.VAR_KEYWORD else hint
