"""The pytest plugin: the fixtures ``rpc_mock`` and ``virtual_time``, and the setting ``rpcretry_max_attempts``.

It is loaded by every pytest run where the package is installed, so it imports nothing of it until it is used.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from . import RpcMock, VirtualTime

__all__ = ["rpc_mock", "virtual_time"]

# The failure of a test with a mock, which is told of once.
FAILURE = pytest.StashKey[BaseException]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini("rpcretry_max_attempts", "rpcretry: how many tries a request or function may have in all tests, 1 for no retries", default="")


def pytest_configure(config: pytest.Config) -> None:
    given = config.getini("rpcretry_max_attempts")
    if not given:
        return
    from . import max_attempts

    stack = contextlib.ExitStack()
    config.add_cleanup(stack.close)
    try:
        stack.enter_context(max_attempts(int(given)))
    except ValueError:
        raise pytest.UsageError(f"rpcretry_max_attempts must be an int of at least 1, got {given!r}") from None


@pytest.fixture
def virtual_time() -> Iterator[VirtualTime]:
    """Waits of clients, retried functions and their layers take no time; ``virtual_time.delays`` are their seconds."""
    from . import VirtualTime

    with VirtualTime().install() as time:
        yield time


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, None]:
    outcome = yield
    if outcome.excinfo is not None and "rpc_mock" in getattr(item, "funcargs", ()):
        item.stash[FAILURE] = outcome.excinfo[1]


@pytest.fixture
def rpc_mock(virtual_time: VirtualTime, request: pytest.FixtureRequest) -> Iterator[RpcMock]:
    """Stands in for all JSON-RPC servers, in virtual time. A call that was not expected fails the test, as do replies that are left."""
    from . import RpcMock

    mock = RpcMock(time=virtual_time)
    with mock._active():
        yield mock
    stash = request.node.stash
    failure = stash.get(FAILURE, None)
    if failure is not None:
        # Its traceback holds the test's frames.
        del stash[FAILURE]
    message = None
    try:
        mock.verify(after=failure)
    except AssertionError as problem:
        message = str(problem)
    if message is not None:
        pytest.fail(message, pytrace=False)
