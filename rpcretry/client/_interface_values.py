"""The arguments of a typed method against their annotations, by pydantic. Imported when an interface has annotated params."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import ConfigDict, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from .._unset import Unset

__all__ = ["Check", "checker"]

Check = Callable[[dict[str, Any]], dict[str, Any]]

# What the codec writes as it is. What pydantic makes of these is of the same kind.
PLAIN = frozenset({str, int, float, bool, type(None), list, dict, object, Any})

UNIONS = (Union, types.UnionType)


def checker(label: str, hints: Mapping[str, Any]) -> Check:
    """A function that validates arguments by name, and returns what stands for them in JSON, under the names that they have there.

    :param hints: the annotations of the params, in order.
    :raises TypeError: where pydantic has no validator for one of them.
    """
    fields = {name: _without_unset(hint) for name, hint in hints.items()}
    adapter = _adapter(label, fields)
    # The adapter's own methods around these two cost as much as what they do for a few params.
    validate, dump = adapter.validator.validate_python, None if all(map(_is_plain, fields.values())) else adapter.serializer.to_python

    def check(given: dict[str, Any]) -> dict[str, Any]:
        try:
            valid: dict[str, Any] = validate(given)
            return valid if dump is None else dump(valid, mode="json", by_alias=True)
        except ValidationError as problem:
            # Values may be secret.
            details = problem.errors(include_url=False, include_context=False, include_input=False)
        except ValueError as problem:
            raise TypeError(f"{label}(): what was given cannot be sent as JSON: {problem}") from None
        where = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in details[:3])
        raise TypeError(f"{label}(): {where}{f' and {len(details) - 3} more' if len(details) > 3 else ''}")

    return check


def _adapter(label: str, fields: Mapping[str, Any]) -> TypeAdapter[Any]:
    try:
        return _built(label, fields)
    except Exception as problem:
        for name, hint in fields.items():
            try:
                _built(label, {name: hint})
            except Exception as reason:
                said = str(reason).splitlines()[0]
                raise TypeError(f"{label}: {name} must be of a type that pydantic can validate, got {hint!r:.80}: {said:.200}") from None
        raise TypeError(f"{label}: {problem}") from None


def _built(label: str, fields: Mapping[str, Any]) -> TypeAdapter[Any]:
    make: Any = TypedDict
    # Params that were not given are left out.
    document = make(label, dict(fields), total=False)
    if any(getattr(note, "validation_alias", None) for hint in fields.values() for note in getattr(hint, "__metadata__", ())):
        document.__pydantic_config__ = ConfigDict(populate_by_name=True, loc_by_alias=False)
    adapter = TypeAdapter[Any](document)
    if not getattr(adapter, "pydantic_complete", True):
        raise TypeError("it names a type that is not defined yet")
    return adapter


def _without_unset(hint: Any) -> Any:
    if get_origin(hint) not in UNIONS or Unset not in get_args(hint):
        return hint
    return Union[tuple(one for one in get_args(hint) if one is not Unset)]  # noqa: UP007


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
