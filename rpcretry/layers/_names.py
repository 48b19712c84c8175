"""Refusing parameters that a layer does not have, with the names of those that were meant."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from .._check import refuse_unknown
from ..retry.layer import Layer

T = TypeVar("T", bound=Layer)


def checks_names(synonyms: Mapping[str, str]) -> Callable[[type[T]], type[T]]:
    """Decorate a class whose instances are made with keywords, so that an unknown one, or one value too many by place, gets an error that helps.

    A subclass with an ``__init__`` of its own says itself what it takes.

    :param synonyms: what other libraries call the parameters, and what to write here.
    """

    def decorate(cls: type[T]) -> type[T]:
        init: Any = cls.__init__
        signature = inspect.signature(init)
        parameters = list(signature.parameters.values())[1:]
        known = [parameter.name for parameter in parameters]
        keywords = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
        places = known[: len(known) - len(keywords)]

        def new(kind: type[T], *args: Any, **kwargs: Any) -> Any:
            if kind.__init__ is init:
                refuse_unknown(cls.__name__, kwargs, known, synonyms)
                if len(args) > len(places):
                    extra = args[len(places)]
                    raise TypeError(f"{cls.__name__} takes only {' and '.join(places)} by place, got {extra!r:.60} besides; write {keywords[0]}={extra!r:.60}")
            return super(cls, kind).__new__(kind)

        # inspect and help() would otherwise show the parameters of this one.
        new.__signature__ = signature  # type: ignore[attr-defined]
        new.__name__, new.__qualname__ = "__new__", f"{cls.__qualname__}.__new__"
        cls.__new__ = staticmethod(new)  # type: ignore[assignment]
        return cls

    return decorate
