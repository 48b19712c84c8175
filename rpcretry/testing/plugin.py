"""The pytest plugin: the fixtures ``rpc_mock`` and ``virtual_time``, and the setting ``rpcretry_max_attempts``.

It is loaded by every pytest run where the package is installed, so it imports nothing else of it until it is used.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from . import RpcMock, VirtualTime

__all__ = ["rpc_mock", "virtual_time"]

# How the test that runs has failed, or why it was skipped, for as long as its fixtures are taken down.
_failed: list[BaseException] = []


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
def _rpcretry_time() -> Iterator[VirtualTime]:
    # A project may have a virtual_time of its own.
    from . import VirtualTime

    with VirtualTime().install() as time:
        yield time


@pytest.fixture
def virtual_time(_rpcretry_time: VirtualTime) -> VirtualTime:
    """Waits of clients, retried functions and their layers take no time; ``virtual_time.delays`` are their seconds."""
    return _rpcretry_time


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    # unittest brings its failures within this hook.
    report = yield
    if call.when == "teardown":
        # Its traceback holds the test's frames.
        _failed.clear()
    elif call.excinfo is not None:
        _failed[:] = [call.excinfo.value]
    return report


def failure() -> BaseException | None:
    """How the test whose fixtures are taken down has ended, unless it has passed: what a mock does not tell of again."""
    return next(iter(_failed), None)


@pytest.fixture
def rpc_mock(_rpcretry_time: VirtualTime) -> Iterator[RpcMock]:
    """Stands in for all JSON-RPC servers, in virtual time. A call that was not expected fails the test, as do replies that are left."""
    from . import RpcMock

    mock = RpcMock(time=_rpcretry_time)
    with mock._active():
        yield mock
    message = None
    try:
        mock.verify(after=failure())
    except AssertionError as problem:
        message = str(problem)
    if message is not None:
        pytest.fail(message, pytrace=False)
