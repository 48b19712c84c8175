"""The types that a client's exception classes give to the ``data`` of their errors."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import JsonRpcError
from ..errors._answers import Registry
from ._generics import meanings_of, substituted

__all__ = ["data_validators"]


def data_validators(registry: Registry) -> Mapping[type[JsonRpcError], Callable[[object], Any]]:
    """What turns the data of each class's errors into the type that the class declares, for those that declare one.

    :raises TypeError: where the type of one cannot be found, or pydantic has no validator for it.
    """
    found: dict[type[JsonRpcError], Callable[[object], Any]] = {}
    exact, ranges = registry
    for cls in {*exact.values(), *(cls for _, cls in ranges)}:
        declared = _declared(cls)
        if declared is not Any and declared is not object:
            # pydantic proper is large, and most clients declare nothing.
            from .validation import validator

            found[cls] = validator(declared, f"{cls.__name__}.data", "data")
    return found


def _declared(cls: type[JsonRpcError]) -> Any:
    """What the class, or the nearest of its bases, says of ``data``; ``Any`` where none says anything."""
    for base in cls.__mro__[: cls.__mro__.index(JsonRpcError)]:
        try:
            own = {name: type_ for name, type_ in inspect.get_annotations(base).items() if name == "data"}
            if own:
                # What else the class annotates is none of our business, and may be for type checkers alone.
                alone = type(base.__name__, (), {"__annotations__": own, "__module__": base.__module__})
                hint = typing.get_type_hints(alone, localns=dict(vars(base)), include_extras=True)["data"]
                return substituted(hint, meanings_of(cls)[base])
        except Exception as problem:
            hint = "define the type that it names at the top of the module, before the client is made"
            raise TypeError(f"errors: the annotation of {base.__name__}.data cannot be read ({type(problem).__name__}: {problem}); {hint}") from None
    return Any
