"""Tables and lines of the pages that list what the code has: nothing is left out, nothing is made up."""

from __future__ import annotations

import logging
import re

import pytest
from pages import DOCS, literals, tables

import rpcretry
from rpcretry import CircuitState, ConnectError, events, layers
from rpcretry.client.options import CALL_OPTIONS
from rpcretry.events import BreakerChanged, BudgetRefused, CallFailed, CallSucceeded, Event, FallbackUsed, LoggingSink, RetryScheduled
from rpcretry.functions import RetryOptions
from rpcretry.functions._options import DEFAULT_ON, DEFAULTS


def linked(cell: str) -> str:
    """The last part of the name that a cell links to."""
    (name,) = re.findall(r":class:`~[\w.]+?(\w+)`", cell)
    return str(name)


def test_the_options_of_functions_are_all_there() -> None:
    options = tables("functions.rst")[0]
    assert sorted(name for row in options for name in literals(row[0])) == sorted(RetryOptions.__annotations__)


def test_their_defaults_are_those_of_the_code() -> None:
    defaults = {name: row[1] for row in tables("functions.rst")[0] for name in literals(row[0])}
    assert literals(defaults.pop("on")) == [cls.__name__ for cls in DEFAULT_ON]
    for name, value in DEFAULTS.items():
        assert defaults.pop(name).strip("`") == (f"{value:g}" if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)), name
    assert defaults.pop("wrap") == "``False``"
    assert defaults.pop("name") == "the function's own"
    assert {defaults.pop("clock"), defaults.pop("sleep")} == {"real time"}
    assert set(defaults.values()) == {""}


def test_the_layers_that_ship_are_all_there() -> None:
    listed = [linked(row[0]) for row in tables("layers.rst")[0]]
    shipped = [name for name in layers.__all__ if isinstance(getattr(layers, name), type) and issubclass(getattr(layers, name), rpcretry.Layer)]
    assert sorted(listed) == sorted(shipped)


def test_the_records_are_all_there() -> None:
    listed = [linked(row[0]) for row in tables("events.rst")[0]]
    records = [name for name in events.__all__ if isinstance(getattr(events, name), type) and issubclass(getattr(events, name), Event)]
    assert sorted([*listed, "Event"]) == sorted(records)


def test_the_table_of_a_snapshot_names_what_it_has() -> None:
    snapshot = rpcretry.RetryMetrics().snapshot()
    named = {re.sub(r"\(.*", "", name) for row in tables("events.rst")[1] for name in literals(row[0])}
    named = {f"latency{name}" if name.startswith("_") else name for name in named}
    public = {name for name in dir(snapshot) if not name.startswith("_")}
    assert named == public - {"latency_buckets"}


def test_the_options_of_a_call_are_all_there() -> None:
    assert sorted(literals(row[0])[0] for row in tables("clients.rst")[0]) == sorted(CALL_OPTIONS)


def test_the_log_lines_are_as_they_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    error = ConnectError("no connection to localhost:80: Connection refused")
    told = [
        RetryScheduled("sum", 1, 4, 0.1, 1.23, "exception", error),
        CallSucceeded("sum", 3, 4, 2.0),
        CallFailed("sum", 4, 4, 7.02, "attempts", error),
        BreakerChanged("", 0, None, 0.0, "node", CircuitState.CLOSED, CircuitState.OPEN, "5 failures in a row", 30.0),
        BudgetRefused("sum", 2, 4, 0.5, "node", 0.4),
        FallbackUsed("sum", 4, 4, 7.02, "last good", error),
    ]
    sink = LoggingSink(logging.getLogger("a page's lines"))
    with caplog.at_level(logging.INFO, "a page's lines"):
        for event in told:
            sink(event)
    (shown,) = re.findall(r"^Log lines\n-+\n.*?\.\. code-block:: text\n\n(.*?)\n\n(?=\S)", (DOCS / "events.rst").read_text(), re.MULTILINE | re.DOTALL)
    assert [" ".join(line.split()) for line in shown.splitlines()] == [f"{record.levelname} {record.getMessage()}" for record in caplog.records]
