"""Results of the type that the caller asks for, by pydantic. Imported when first asked for."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json

from ..errors import ResultValidationError

__all__ = ["converter"]

Converter = Callable[[object, str, int | None], Any]


@functools.lru_cache(maxsize=512)
def _cached(type_: Any, name: str) -> Converter:
    return _build(type_)


def _build(type_: Any) -> Converter:
    # pydantic would look a string up among the names of this module, take a dict for a schema of its own, and call
    # a function with the result.
    if isinstance(type_, (str, dict)) or inspect.isroutine(type_):
        raise TypeError(f"_result must be a type that pydantic can validate, got {type(type_).__name__} {type_!r:.80}; give the type itself")
    try:
        adapter = TypeAdapter(type_)
    except Exception as problem:
        raise TypeError(f"_result must be a type that pydantic can validate, got {type_!r:.80}: {str(problem).splitlines()[0]:.200}") from None
    if not getattr(adapter, "pydantic_complete", True):
        raise TypeError(f"_result must be a type that pydantic can validate, got {type_!r:.80}: it names a type that is not defined yet")
    validate = adapter.validate_python

    def convert(result: object, method: str, status: int | None) -> Any:
        try:
            return validate(result)
        except ValidationError as first:
            problem = first
            try:
                # A strict type takes a UUID or a date from a JSON string, but not from a Python one.
                return adapter.validate_json(to_json(result))
            except ValidationError as second:
                problem = second
            except ValueError:
                pass
            details = problem.errors(include_url=False, include_context=False)
            where = "; ".join(f"{'.'.join(map(str, item['loc'])) or 'result'}: {item['msg']}" for item in details[:3])
            more = f" and {len(details) - 3} more" if len(details) > 3 else ""
            message = f"the result of {method!r} is no {_name(type_)}: {where}{more}"
            raise ResultValidationError(message, result=result, details=[dict(item) for item in details], status=status) from None

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
