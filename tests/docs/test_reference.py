"""The reference has every public name, and no other."""

from __future__ import annotations

import enum
import importlib
import inspect
import pkgutil
import re
from pathlib import Path
from typing import Any

import pytest

REFERENCE = (Path(__file__).parent.parent.parent / "docs" / "reference.rst").read_text()
DOCUMENTED = re.findall(r"^\.\. auto(?:class|function|data|exception):: (\S+)", REFERENCE, re.MULTILINE)

# Whose names are for users.
MODULES = (
    "rpcretry",
    "rpcretry.backends.aiohttp",
    "rpcretry.backends.requests",
    "rpcretry.bulk",
    "rpcretry.client",
    "rpcretry.codec",
    "rpcretry.context",
    "rpcretry.errors",
    "rpcretry.events",
    "rpcretry.functions",
    "rpcretry.integrations",
    "rpcretry.integrations.opentelemetry",
    "rpcretry.integrations.prometheus",
    "rpcretry.layers",
    "rpcretry.messages",
    "rpcretry.metrics",
    "rpcretry.openrpc",
    "rpcretry.outcome",
    "rpcretry.presets",
    "rpcretry.retry",
    "rpcretry.simulation",
    "rpcretry.testing",
    "rpcretry.testing.contract",
    "rpcretry.testing.faults",
    "rpcretry.testing.plugin",
    "rpcretry.transport",
)
# Modules without names for users, and why.
OTHERS = {
    "rpcretry.backends": "it holds modules",
    "rpcretry.cli": "a command, which has a page of its own",
    "rpcretry.drivers": "the loops that run calls",
}
# What other parts of the package import, in modules that also have names for users.
NOT_FOR_USERS = {
    "rpcretry.codec": {
        "JsonCodec",
        "encode_batch",
        "encode_request",
        "encode_requests",
        "read_batch",
        "read_in_order",
        "read_notification",
        "read_single",
        "split_batch",
    },
    "rpcretry.errors": {"error_class", "error_registry"},
}


def find(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def is_there(name: str) -> bool:
    """Whether a name of the reference exists; one that does not fails a test of its own, and not every other one."""
    try:
        find(name)
    except (ImportError, AttributeError):
        return False
    return True


def test_no_name_is_documented_twice() -> None:
    assert len(DOCUMENTED) == len(set(DOCUMENTED))
    classes = [found for found in map(find, filter(is_there, DOCUMENTED)) if isinstance(found, type)]
    assert len(classes) == len(set(classes))


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_in_the_reference(module: str) -> None:
    documented = {name: find(name) for name in DOCUMENTED if is_there(name)}
    missing = []
    for name in set(importlib.import_module(module).__all__) - NOT_FOR_USERS.get(module, set()):
        value = find(f"{module}.{name}")
        # A class has one place, whatever module offers it too; two constants may have one value.
        same = [other for other in documented.values() if other is value] if callable(value) or isinstance(value, enum.Enum) else []
        if f"{module}.{name}" not in documented and not same:
            missing.append(name)
    assert missing == []


def test_every_module_is_for_users_or_it_is_said_why_not() -> None:
    package = importlib.import_module("rpcretry")
    found = {module.name for module in pkgutil.walk_packages(package.__path__, "rpcretry.") if "._" not in module.name}
    # A module inside of one that is for users is where the latter's names come from.
    inside = {name for name in found if any(name.startswith(f"{outer}.") for outer in (*MODULES[1:], *OTHERS))}
    assert found - inside == {name for name in (*MODULES[1:], *OTHERS) if name not in inside}
    assert set(MODULES[1:]) <= found


def test_what_is_not_for_users_is_there() -> None:
    for module, names in NOT_FOR_USERS.items():
        assert names <= set(importlib.import_module(module).__all__)


@pytest.mark.parametrize("name", DOCUMENTED)
def test_the_reference_has_public_names_only(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    assert module in MODULES
    assert attribute in importlib.import_module(module).__all__


@pytest.mark.parametrize("name", DOCUMENTED)
def test_every_class_and_function_says_what_it_is(name: str) -> None:
    value = find(name)
    # A constant has what its type says, which is about the type.
    if inspect.isclass(value) or inspect.isfunction(value):
        assert (value.__doc__ or "").strip()
