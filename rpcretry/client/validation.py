"""Results and error data of the types that the caller asks for, by pydantic. Imported when first asked for."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json

from .._unset import UNSET
from ..errors import ResultValidationError

__all__ = ["Invalid", "adapter_of", "converter", "reasons", "validator"]

Converter = Callable[[object, str, int | None], Any]

WORD = re.compile(r"\w+")


class Invalid(Exception):
    """A value that is not of the type that was asked for.

    :param message: what is wrong with it, in one line.
    :param details: pydantic's list of that.
    """

    def __init__(self, message: str, details: Sequence[Mapping[str, object]]) -> None:
        super().__init__(message)
        self.details = details


def validator(type_: Any, parameter: str, whole: str) -> Callable[[object], Any]:
    """The function that turns a value that came as JSON into *type_*, or raises :class:`Invalid`.

    :param parameter: what the type was given as, for the message of a mistake.
    :param whole: what the value is called where all of it is wrong.
    :raises TypeError: where pydantic has no validator for the type.
    """
    # pydantic would look a string up among the names of this module, take a dict for a schema of its own, and call
    # a function with the result.
    if isinstance(type_, (str, dict)) or inspect.isroutine(type_):
        raise TypeError(f"{parameter} must be a type that pydantic can validate, got {type(type_).__name__} {type_!r:.80}; give the type itself")
    adapter = adapter_of(type_, parameter)
    if _is_lazy(adapter.core_schema):
        raise TypeError(
            f"{parameter} must not hold an Iterable or a Generator, got {type_!r:.80}: pydantic would look at its items after the call; write list[...]"
        )
    validate = adapter.validate_python

    def check(value: object) -> Any:
        try:
            return validate(value)
        except ValidationError as first:
            problem = first
            try:
                # A strict type takes a UUID or a date from a JSON string, but not from a Python one.
                return adapter.validate_json(to_json(value))
            except ValidationError as second:
                problem = second
            except ValueError:
                pass
            details = problem.errors(include_url=False)
            message = f"no {_name(type_)}: {reasons(details, value, adapter, whole)}"
            raise Invalid(message, [{key: said for key, said in item.items() if key != "ctx"} for item in details]) from None

    return check


def adapter_of(type_: Any, parameter: str, shown: Any = UNSET) -> TypeAdapter[Any]:
    """pydantic's validator and serializer of a type.

    :param parameter: what the type was given as, for the message of a mistake.
    :param shown: the type that the message shows, where it is another.
    :raises TypeError: where pydantic has none for it.
    """
    try:
        adapter = TypeAdapter[Any](type_)
        if getattr(adapter, "pydantic_complete", True):
            return adapter
        reason = "it names a type that is not defined yet"
    except Exception as problem:
        reason = str(problem).splitlines()[0]
    raise TypeError(f"{parameter} must be a type that pydantic can validate, got {type_ if shown is UNSET else shown!r:.80}: {reason:.200}")


def reasons(details: Sequence[Mapping[str, Any]], value: object, adapter: TypeAdapter[Any], whole: str = "") -> str:
    """What is wrong with *value*, in one line that shows nothing of it: no values, and no keys of mappings.

    :param details: pydantic's list of that.
    :param whole: what the value is called where all of it is wrong.
    """
    known = _words(adapter.core_schema)
    said = (f"{'.'.join(_place(item['loc'], value, known)) or whole}: {_message(item)}" for item in details[:3])
    return "; ".join(said) + (f" and {len(details) - 3} more" if len(details) > 3 else "")


def _message(item: Mapping[str, Any]) -> str:
    # Of pydantic's own messages this one shows a value.
    return f"unknown tag, expected {item['ctx']['expected_tags']}" if item["type"] == "union_tag_invalid" else item["msg"]


def _place(loc: Sequence[int | str], value: Any, known: set[str]) -> list[str]:
    """Where it is, in words of the program. A part that is none of them is a key that came with the value."""
    place: list[str] = []
    for part in loc:
        words = [] if isinstance(part, int) else WORD.findall(part)
        is_key = isinstance(value, Mapping) if isinstance(part, int) else not words or not known.issuperset(words)
        if not (part == "[key]" and place[-1:] == ["[key]"]):
            place.append("[key]" if is_key else str(part))
        if isinstance(value, Mapping):
            value = value.get(part, value)
        elif isinstance(part, int):
            value = value[part] if isinstance(value, (list, tuple)) and part < len(value) else None
        else:
            # What is no attribute names a branch of a union.
            value = getattr(value, "__dict__", {}).get(part, value)
    return place


def _parts(schema: object, without: tuple[str, ...] = ()) -> Iterator[object]:
    """A schema and all that is in it, keys and values, but for what stands under some keys."""
    found, seen = [schema], set[int]()
    for one in found:
        yield one
        if isinstance(one, (dict, list, tuple)) and id(one) not in seen:
            seen.add(id(one))
            found += [part for item in one.items() if item[0] not in without for part in item] if isinstance(one, dict) else one


def _words(schema: object) -> set[str]:
    """The words of a schema: names of fields, types, classes and functions."""
    words = {"constrained"}
    for one in _parts(schema):
        if isinstance(one, str):
            words.update(WORD.findall(one))
        elif callable(one):
            words.update(WORD.findall(getattr(one, "__qualname__", "")))
    return words


def _is_lazy(schema: object) -> bool:
    """Whether a part of what the schema is of is validated only as it is iterated."""
    # In these are values and words of the user's.
    return any(isinstance(one, dict) and one.get("type") == "generator" for one in _parts(schema, ("default", "metadata")))


@functools.lru_cache(maxsize=512)
def _cached(type_: Any, name: str) -> Converter:
    return _build(type_)


def _build(type_: Any) -> Converter:
    check = validator(type_, "_result", "result")

    def convert(result: object, method: str, status: int | None) -> Any:
        try:
            return check(result)
        except Invalid as problem:
            raise ResultValidationError(f"the result of {method!r} is {problem}", result=result, details=problem.details, status=status) from None

    return convert


def converter(type_: Any) -> Converter:
    """The function that turns a result into *type_*.

    :raises TypeError: where pydantic has no validator for it.
    """
    try:
        hash(type_)
    except TypeError:
        return _build(type_)
    # int | str equals str | int, but pydantic tries their members in order.
    return _cached(type_, "" if isinstance(type_, type) else repr(type_))


def _name(type_: Any) -> str:
    return type_.__name__ if isinstance(type_, type) else str(type_)
