"""What the type variables of a generic class stand for."""

from __future__ import annotations

from collections.abc import Mapping
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

__all__ = ["UNIONS", "Meanings", "meanings_of", "substituted"]

UNIONS = (Union, UnionType)

Meanings = Mapping[Any, Any]


def meanings_of(cls: type, arguments: tuple[Any, ...] = ()) -> dict[type, Meanings]:
    """What the type variables of a class and of its bases stand for, by class.

    :param arguments: what the class is of, for ``Repository[User]`` ``(User,)``.
    """
    mine = dict(zip(getattr(cls, "__parameters__", ()), arguments, strict=False))
    found: dict[type, Meanings] = {cls: mine}
    for base in vars(cls).get("__orig_bases__", cls.__bases__):
        origin = get_origin(base) or base
        if isinstance(origin, type):
            found |= meanings_of(origin, tuple(substituted(one, mine) for one in get_args(base)))
    return found


def substituted(hint: Any, meanings: Meanings) -> Any:
    """The annotation with what its type variables stand for in their places, however deep."""
    if not meanings:
        return hint
    if isinstance(hint, TypeVar):
        return meanings.get(hint, hint)
    if isinstance(hint, list):
        # The params of a Callable.
        return [substituted(one, meanings) for one in hint]
    if isinstance(hint, type):
        # Page[T] of pydantic is a class of its own, and not an alias.
        parts = getattr(hint, "__pydantic_generic_metadata__", {}).get("parameters", ())
        origin: Any = hint
    else:
        origin, parts = get_origin(hint), get_args(hint)
    changed = tuple(substituted(one, meanings) for one in (parts[:1] if origin is Annotated else parts))
    if all(new is old for new, old in zip(changed, parts, strict=False)):
        return hint
    if origin is Annotated:
        return Annotated[(changed[0], *hint.__metadata__)]
    if origin in UNIONS:
        return Union[changed]  # noqa: UP007
    return origin[changed if len(changed) > 1 else changed[0]]
