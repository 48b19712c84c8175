"""Names of a package that are loaded when they are first used."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any

__all__ = ["homes_of", "lazily"]


def homes_of(modules: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """The module of each name.

    :param modules: the names in each module.
    """
    return {name: module for module, names in modules.items() for name in names}


def lazily(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The ``__getattr__`` and the ``__dir__`` of a package.

    To be assigned where type checkers do not look: a module with a ``__getattr__`` has for them every name, also one that is misspelled.

    :param homes: from a name to the module of the package that has it.
    """
    namespace = vars(sys.modules[package])

    def find(name: str) -> Any:
        try:
            home = homes[name]
        except KeyError:
            raise AttributeError(f"module {package!r} has no attribute {name!r}") from None
        value = namespace[name] = getattr(import_module(f"{package}.{home}"), name)
        return value

    def names() -> list[str]:
        return sorted({*namespace, *namespace["__all__"]})

    return find, names
