"""Results of the type that the caller asks for, by pydantic. Imported when first asked for."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from ..errors import ResultValidationError

__all__ = ["converter"]

Converter = Callable[[object, str, int | None], Any]


@functools.lru_cache(maxsize=512)
def _cached(type_: Any) -> Converter:
    return _build(type_)


def _build(type_: Any) -> Converter:
    try:
        validate = TypeAdapter(type_).validate_python
    except PydanticUserError as problem:
        raise TypeError(f"_result must be a type that pydantic can validate, got {type_!r:.80}: {str(problem).splitlines()[0]}") from None

    def convert(result: object, method: str, status: int | None) -> Any:
        try:
            return validate(result)
        except ValidationError as problem:
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
    return _cached(type_)


def _name(type_: Any) -> str:
    return type_.__name__ if isinstance(type_, type) else str(type_)
