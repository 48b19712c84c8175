"""The tables of recommended settings say what the blocks below them build."""

from __future__ import annotations

import dataclasses
import importlib
import re
from collections.abc import Iterator
from typing import Any

import pytest
from pages import DOCS, tables

from rpcretry import CircuitBreaker, Client
from rpcretry.retry import UNLIMITED

PAGE = DOCS / "recommended.rst"
SERVICES, BREAKERS = tables("recommended.rst")


@pytest.fixture(scope="module")
def built() -> Iterator[dict[str, Any]]:
    """What the blocks build, without the calls that they make."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(DOCS / "_ext")
        yield importlib.import_module("picture_recommended").built()


def name_of(cell: str) -> str:
    (name, _) = re.fullmatch(r"``(\w+)``: (.+)", cell).groups()  # type: ignore[union-attr]
    return name


@pytest.mark.parametrize("row", SERVICES, ids=lambda row: name_of(row[0]))
def test_the_row_is_what_its_block_builds(row: list[str], built: dict[str, Any]) -> None:
    first, timeout, deadline, retries, wait, jitter = row
    client = built[name_of(first)]
    assert isinstance(client, Client)
    policy = client._options.policy
    assert (timeout, deadline) == (f"{policy.timeout:g} s", f"{policy.deadline:g} s")
    assert policy.strategy is not None
    backoff = policy.strategy.backoff
    if backoff.attempts == UNLIMITED:
        assert (retries, wait) == ("until the deadline", f"{backoff.max_value:g} s each")
    else:
        plain = dataclasses.replace(backoff, jitter=None)
        assert (retries, wait) == (str(backoff.attempts), f"{sum(plain()):g} s")
    assert jitter == ("full" if backoff.jitter is True else f"{backoff.jitter:.0%}".replace("%", " %"))
    # One attempt that takes all of its time leaves room for another one.
    assert policy.deadline >= 2 * policy.timeout


def test_every_client_of_the_page_is_in_the_table(built: dict[str, Any]) -> None:
    assert {name_of(row[0]) for row in SERVICES} == {name for name, value in built.items() if isinstance(value, Client) and name != "client"}


@pytest.mark.parametrize("row", BREAKERS, ids=lambda row: name_of(row[0]))
def test_the_breakers_row_is_what_its_block_builds(row: list[str], built: dict[str, Any]) -> None:
    name = name_of(row[0])
    assert isinstance(built[name], CircuitBreaker)
    (call,) = re.findall(rf"^   {name} = (CircuitBreaker\(.*?\n?.*?\))\n(?=   \w|\n)", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    for option in re.findall(r"``(\w+=[\d.]+)``", row[1]):
        assert option in call, (name, option)


def test_every_breaker_of_the_page_is_in_the_table(built: dict[str, Any]) -> None:
    assert {name_of(row[0]) for row in BREAKERS} == {name for name, value in built.items() if isinstance(value, CircuitBreaker)}
