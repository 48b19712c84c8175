"""The arguments of a typed method against their annotations, by pydantic. Imported when an interface has annotated params."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import AliasChoices, AliasPath, ConfigDict, PlainSerializer, Secret, SecretBytes, SecretStr, TypeAdapter, ValidationError, WrapSerializer
from pydantic.fields import FieldInfo
from typing_extensions import TypedDict

from ._generics import UNIONS
from .validation import adapter_of, reasons

__all__ = ["Check", "checker"]

Check = Callable[[dict[str, Any]], dict[str, Any]]

# What the codec writes as it is. What pydantic makes of these is of the same kind.
PLAIN = frozenset({str, int, float, bool, type(None), list, dict, object, Any})

SECRETS = (Secret, SecretStr, SecretBytes)


def checker(label: str, hints: Mapping[str, Any]) -> Check:
    """A function that validates arguments by name, and returns what stands for them in JSON, under the names that they have there.

    :param hints: the annotations of the params, in order.
    :raises TypeError: where pydantic has no validator for one of them, or would not send it as it is.
    """
    adapter = _adapter(label, hints)
    _check_names(label, hints)
    for name, hint in hints.items():
        for secret in _secrets(hint):
            what = f"the annotation of {name} holds a {secret.__name__}, which pydantic writes as stars"
            raise TypeError(f"{label}: {what}; annotate it str or bytes, and give get_secret_value()")
    # The adapter's own methods around these two cost as much as what they do for a few params.
    validate, dump = adapter.validator.validate_python, None if all(map(_is_plain, hints.values())) else adapter.serializer.to_python

    def check(given: dict[str, Any]) -> dict[str, Any]:
        try:
            valid: dict[str, Any] = validate(given)
        except ValidationError as problem:
            details = problem.errors(include_url=False)
        except Exception as problem:
            raise TypeError(f"{label}(): what was given could not be validated: a validator raised {type(problem).__name__}") from problem
        else:
            return valid if dump is None else written(valid, dump)
        raise TypeError(f"{label}(): {reasons(details, given, adapter)}")

    def written(valid: dict[str, Any], dump: Callable[..., Any]) -> dict[str, Any]:
        try:
            # A warning would show values.
            document: dict[str, Any] = dump(valid, mode="json", by_alias=True, warnings=False)
            return document
        except Exception:
            # So does what it says of the reason.
            raise TypeError(f"{label}(): {', '.join(_unwritten(valid, dump))} cannot be sent as JSON") from None

    return check


def _unwritten(valid: Mapping[str, Any], dump: Callable[..., Any]) -> Iterator[str]:
    for name, value in valid.items():
        try:
            dump({name: value}, mode="json", by_alias=True, warnings=False)
        except Exception:
            yield f"{name}, of type {type(value).__name__},"


def _adapter(label: str, fields: Mapping[str, Any]) -> TypeAdapter[Any]:
    try:
        return adapter_of(_document(label, fields), label)
    except TypeError as problem:
        for name, hint in fields.items():
            adapter_of(_document(label, {name: hint}), f"{label}: the annotation of {name}", hint)
        raise TypeError(f"{label}: {problem}") from None


def _document(label: str, fields: Mapping[str, Any]) -> type:
    make: Any = TypedDict
    # Params that were not given are left out.
    document: type = make(label, dict(fields), total=False)
    if any(field.validation_alias for field in _noted(fields).values()):
        document.__pydantic_config__ = ConfigDict(populate_by_name=True)  # type: ignore[attr-defined]
    return document


def _noted(fields: Mapping[str, Any]) -> dict[str, FieldInfo]:
    """What ``Field(...)`` says of the params."""
    return {name: FieldInfo.from_annotation(hint) for name, hint in fields.items() if get_origin(hint) is Annotated}


def _check_names(label: str, fields: Mapping[str, Any]) -> None:
    # pydantic looks for an alias before it looks for the name, and would take the one param for the other.
    owners, noted = {name: name for name in fields}, _noted(fields)
    travel = {name: noted[name].serialization_alias or name if name in noted else name for name in fields}
    for name, field in noted.items():
        if field.exclude:
            raise TypeError(f"{label}: {name} has Field(exclude=True), and would never be sent; leave it out of the method")
        for alias in (travel[name], *_aliases(field.validation_alias)):
            other = owners.setdefault(alias, name)
            if other != name:
                both = travel[other] == travel[name]
                what = f"{name} and {other} would both travel as {alias!r}" if both else f"{alias!r} is an alias of {name}, and {other} has that name, too"
                raise TypeError(f"{label}: {what}; give one of them another name")


def _aliases(alias: str | AliasPath | AliasChoices | None) -> list[str]:
    if isinstance(alias, AliasChoices):
        return [name for one in alias.choices for name in _aliases(one)]
    first = alias.path[0] if isinstance(alias, AliasPath) else alias
    return [first] if isinstance(first, str) else []


def _secrets(hint: Any) -> Iterator[type]:
    """The types in an annotation that are written as stars."""
    # What ``type Name = ...`` stands for.
    hint = getattr(hint, "__value__", hint)
    origin = get_origin(hint) or hint
    if isinstance(origin, type) and issubclass(origin, SECRETS):
        yield origin
    elif origin is Annotated and any(isinstance(note, (PlainSerializer, WrapSerializer)) for note in hint.__metadata__):
        # It says itself how it is written.
        return
    else:
        for one in get_args(hint):
            yield from _secrets(one)


def _is_plain(hint: Any) -> bool:
    origin = get_origin(hint)
    if origin in (list, dict, *UNIONS):
        return all(map(_is_plain, get_args(hint)))
    if origin is Literal:
        return all(type(one) in PLAIN for one in get_args(hint))
    try:
        return hint in PLAIN
    except TypeError:
        return False
