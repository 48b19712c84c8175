"""The tables of recommended settings say what the blocks below them build."""

from __future__ import annotations

import ast
import asyncio
import dataclasses
import datetime
import importlib
import inspect
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pages import DOCS, blocks_of, tables

from rpcretry import AsyncClient, CircuitBreaker, Client, ConnectError, RateLimit
from rpcretry.retry import UNLIMITED
from rpcretry.testing import ScriptedBackend, VirtualTime, result
from rpcretry.transport import Exchange, Reply

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
        most = 1.0 if backoff.jitter is True else 1.0 + backoff.jitter
        assert (retries, wait) == (str(backoff.attempts), f"{sum(plain()) * most:g} s")
    assert jitter == ("full" if backoff.jitter is True else f"{backoff.jitter:.0%}".replace("%", " %"))
    # One attempt that takes all of its time leaves room for another one.
    assert policy.deadline >= 2 * policy.timeout


def test_every_client_of_the_page_is_in_the_table(built: dict[str, Any]) -> None:
    assert {name_of(row[0]) for row in SERVICES} == {name for name, value in built.items() if isinstance(value, Client) and name != "client"}


def settings_of(name: str, built: dict[str, Any]) -> dict[str, Any]:
    """What the page gives a breaker, with the defaults of what it does not."""
    for block in blocks_of(PAGE.read_text()):
        for node in ast.parse(block.code).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name and isinstance(node.value, ast.Call):
                given = {word.arg: eval(ast.unparse(word.value), built) for word in node.value.keywords}
                defaults = {parameter.name: parameter.default for parameter in inspect.signature(CircuitBreaker).parameters.values()}
                return defaults | given
    raise AssertionError(f"no block makes {name}")


def number(text: str) -> float:
    return float(text)


# How a row says a setting in words, and what it means.
WORDS: dict[str, Callable[[re.Match[str]], dict[str, Any]]] = {
    r"``(\w+)=([\d.]+)``": lambda said: {said[1]: number(said[2])},
    r"``window`` of (\d+) s": lambda said: {"window": datetime.timedelta(seconds=int(said[1]))},
    r"(\d+) in a row": lambda said: {"failure_threshold": number(said[1])},
    r"row, (\d+) s": lambda said: {"recovery_timeout": number(said[1])},
    r"(\d+) good probes": lambda said: {"success_threshold": number(said[1])},
}


@pytest.mark.parametrize("row", BREAKERS, ids=lambda row: name_of(row[0]))
def test_the_breakers_row_is_what_its_block_builds(row: list[str], built: dict[str, Any]) -> None:
    name = name_of(row[0])
    assert isinstance(built[name], CircuitBreaker)
    found = settings_of(name, built)
    said: dict[str, Any] = {}
    for pattern, read in WORDS.items():
        for match in re.finditer(pattern, row[1]):
            said |= read(match)
    grows = re.search(r"``recovery_timeout`` that grows from (\d+) s to (\d+) s, with jitter", row[1])
    if grows:
        recovery = found["recovery_timeout"]
        assert (recovery.base, recovery.max_value) == (number(grows[1]), number(grows[2]))
        assert recovery.jitter
    for other in re.findall(r"as ``(\w+)``", row[1]):
        said |= settings_of(other, built) | {"name": found["name"], "recovery_timeout": found["recovery_timeout"]}
    # Each number of the row is one of those that were read.
    assert len(re.findall(r"\d+(?:\.\d+)?", row[1])) == (2 if grows else len(said)), row[1]
    assert said, row[1]
    assert {option: found[option] for option in said} == said


class Gone:
    """A server that is away for so many seconds, and then answers."""

    def __init__(self, time: VirtualTime, seconds: float) -> None:
        self.time, self.back, self.asked = time, time.now + seconds, 0

    async def exchange(self, exchange: Exchange) -> Reply:
        self.asked += 1
        await self.time.sleep_together(0.01)
        if self.time.now < self.back:
            raise ConnectError("gone")
        (request,) = exchange.requests
        return Reply(json.dumps({"jsonrpc": "2.0", "id": request.id, "result": 3}).encode())

    async def aclose(self) -> None:
        pass


def test_a_node_that_restarts_for_a_minute_is_outlasted_by_all_callers(built: dict[str, Any]) -> None:
    node = built["node"]._options
    time = VirtualTime()
    server = Gone(time, 60)
    # The page's own layers, in a client whose callers wait at the same time.
    client = AsyncClient(
        server,
        retry_strategy=node.policy.strategy,
        deadline=node.policy.deadline,
        layers=node.layers,
        clock=time.clock,
        sleep=time.sleep_together,
    )

    async def callers() -> list[Any]:
        return await asyncio.gather(*[client.call("sum", 1, 2) for _ in range(16)])

    began = time.now
    assert asyncio.run(callers()) == [3] * 16
    assert 60 <= time.now - began <= 60 + 10 + 1
    assert server.asked > 16 * 5


def test_no_second_sees_more_calls_than_the_rate_limit_says(built: dict[str, Any]) -> None:
    page = re.search(r"RateLimit\((\d+), per=1\.0, burst=(\d+)\)", PAGE.read_text())
    assert page

    def most(burst: int) -> int:
        time, went = VirtualTime(), []
        backend = ScriptedBackend([result(1)] * 40)
        client = Client(backend, layers=RateLimit(int(page[1]), per=1.0, burst=burst), clock=time.clock, sleep=time.sleep)
        for _ in range(40):
            client.call("sum")
            went.append(time.now)
        return max(sum(first <= moment < first + 0.999 for moment in went) for first in went)

    assert most(int(page[2])) == 10
    (said,) = re.findall(r"with ``burst=10`` a single second may see (\d+) calls", " ".join(PAGE.read_text().split()))
    assert most(10) == int(said)


def test_every_breaker_of_the_page_is_in_the_table(built: dict[str, Any]) -> None:
    assert {name_of(row[0]) for row in BREAKERS} == {name for name, value in built.items() if isinstance(value, CircuitBreaker)}
