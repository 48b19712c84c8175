"""Results and error data of the types that the caller asks for, by pydantic. Imported when first asked for."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json

from ..errors import ResultValidationError

__all__ = ["Invalid", "converter", "validator"]

Converter = Callable[[object, str, int | None], Any]


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
    try:
        adapter = TypeAdapter(type_)
    except Exception as problem:
        raise TypeError(f"{parameter} must be a type that pydantic can validate, got {type_!r:.80}: {str(problem).splitlines()[0]:.200}") from None
    if not getattr(adapter, "pydantic_complete", True):
        raise TypeError(f"{parameter} must be a type that pydantic can validate, got {type_!r:.80}: it names a type that is not defined yet")
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
            details = problem.errors(include_url=False, include_context=False)
            where = "; ".join(f"{'.'.join(map(str, item['loc'])) or whole}: {item['msg']}" for item in details[:3])
            more = f" and {len(details) - 3} more" if len(details) > 3 else ""
            raise Invalid(f"no {_name(type_)}: {where}{more}", [dict(item) for item in details]) from None

    return check


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
