"""The reference has every public name, and no other."""

from __future__ import annotations

import enum
import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

REFERENCE = (Path(__file__).parent.parent.parent / "docs" / "reference.rst").read_text()
DOCUMENTED = re.findall(r"^\.\. auto(?:class|function|data|exception):: (\S+)", REFERENCE, re.MULTILINE)

MODULES = (
    "rpcretry",
    "rpcretry.backends.aiohttp",
    "rpcretry.backends.requests",
    "rpcretry.bulk",
    "rpcretry.client",
    "rpcretry.context",
    "rpcretry.events",
    "rpcretry.functions",
    "rpcretry.layers",
    "rpcretry.metrics",
    "rpcretry.outcome",
    "rpcretry.retry",
    "rpcretry.testing",
    "rpcretry.testing.contract",
    "rpcretry.transport",
)


def find(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def test_no_name_is_documented_twice() -> None:
    assert len(DOCUMENTED) == len(set(DOCUMENTED))
    classes = [found for found in map(find, DOCUMENTED) if isinstance(found, type)]
    assert len(classes) == len(set(classes))


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_in_the_reference(module: str) -> None:
    documented = {name: find(name) for name in DOCUMENTED}
    missing = []
    for name in importlib.import_module(module).__all__:
        value = find(f"{module}.{name}")
        # A class has one place, whatever module offers it too; two constants may have one value.
        same = [other for other in documented.values() if other is value] if callable(value) or isinstance(value, enum.Enum) else []
        if f"{module}.{name}" not in documented and not same:
            missing.append(name)
    assert missing == []


@pytest.mark.parametrize("name", DOCUMENTED)
def test_the_reference_has_public_names_only(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    assert module in MODULES
    assert attribute in importlib.import_module(module).__all__


@pytest.mark.parametrize("name", [name for name in DOCUMENTED if inspect.isclass(find(name)) or inspect.isfunction(find(name))])
def test_every_class_and_function_says_what_it_is(name: str) -> None:
    assert (find(name).__doc__ or "").strip()
