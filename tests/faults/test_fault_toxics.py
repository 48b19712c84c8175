"""Each toxic against both backends: the right result or the error that is documented, what was executed, and no connection that is poisoned."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from typing import Any

import pytest
from fault_rig import LIMIT, METHODS, REPEATED, SINGLE, Case
from wire import Wire, both, settles

from rpcretry import ConnectError, ConnectionLostError, Delivery, IdentityError, RpcRetryError
from rpcretry.retry import PeriodicBackoff, RetryStrategy
from rpcretry.testing.faults import (
    Close,
    CloseIdle,
    CloseReused,
    ExtraAnswer,
    FaultServer,
    InTurn,
    Refuse,
    Reset,
    Silence,
    SlowAccept,
    StaleAnswer,
    Toxic,
)

# Long enough for a machine that does something else, and short for what hangs.
HANGS = 0.12


def outcome(client: Wire, *args: Any, **options: Any) -> Any:
    """The result of a call, or its error."""
    try:
        return client.call(*args, **options)
    except RpcRetryError as problem:
        return problem


def marked(cases: Iterable[Case]) -> list[Any]:
    return [pytest.param(case, id=name_of(case.toxic), marks=[pytest.mark.slow] if case.hangs else []) for case in cases]


def name_of(toxic: Toxic) -> str:
    return re.sub(r"<function .*?>", "drawn", repr(toxic))


@both
@pytest.mark.parametrize("case", marked(SINGLE))
def test_a_single_call(case: Case, kind: str) -> None:
    expected = case.expected(kind)
    with FaultServer(METHODS, seed=7) as server, Wire(kind, server.url, max_response_size=LIMIT) as client:
        assert client.call("add", 1, 2) == 3
        server.faults = case.toxic
        found = outcome(client, "add", 2, 2, _timeout=HANGS if case.hangs else 5)
        if expected is None:
            assert found == 4
        else:
            assert type(found) is expected, found
            assert found.delivery is case.delivery
        assert settles(lambda: server.times("add", 2, 2) == case.executed)
        assert server.met == {case.toxic.name: 1}
        server.faults = None
        # The connection is either whole or gone.
        strategy = REPEATED if case.toxic.lingers else None
        for number in range(3):
            assert client.call("add", 5, number, _retry_strategy=strategy) == 5 + number


@both
@pytest.mark.parametrize("case", marked(case for case in SINGLE if case.result is not None and not isinstance(case.toxic, (CloseReused, StaleAnswer))))
def test_a_single_call_on_a_fresh_connection(case: Case, kind: str) -> None:
    expected = case.expected(kind)
    with FaultServer(METHODS, case.toxic, seed=7) as server, Wire(kind, server.url, max_response_size=LIMIT) as client:
        found = outcome(client, "add", 2, 2, _timeout=HANGS if case.hangs else 5)
        if expected is None:
            assert found == 4
        else:
            assert type(found) is expected, found
            assert found.delivery is case.delivery
        assert settles(lambda: server.times("add", 2, 2) == case.executed)


# --- what must not be taken for an answer ---


@both
@pytest.mark.parametrize("size", [1, 4_000, 9_000, 70_000], ids=lambda size: f"{size} bytes")
@pytest.mark.parametrize("kind_of_id", ["own", "next", "other"])
def test_a_second_answer_is_nobodys_however_long_the_first_one_is(kind: str, kind_of_id: str, size: int) -> None:
    """Clients read ahead: of the second answer all, a part or nothing is in their buffers when the first one ends."""
    with FaultServer({"echo": lambda text: text}, ExtraAnswer("after", kind_of_id)) as server, Wire(kind, server.url) as client:
        for number in range(8):
            text = chr(97 + number) * size
            assert client.call("echo", text) == text
        assert server.met["ExtraAnswer"] == 8


@both
def test_the_answer_of_another_connection_is_nobodys(kind: str) -> None:
    with FaultServer(METHODS) as server, Wire(kind, server.url) as client, Wire(kind, server.url) as other:
        assert client.call("add", 1, 1) == 2
        assert other.call("add", 2, 2) == 4
        server.faults = StaleAnswer("server")
        # Its own last id is 1, as is the other's.
        assert type(outcome(client, "add", 3, 3)) is IdentityError
        assert server.met["StaleAnswer"] == 1
        server.faults = None
        assert client.call("add", 4, 4) == 8


# --- the listener ---


@both
def test_refused(kind: str) -> None:
    with FaultServer(METHODS, Refuse()) as server, Wire(kind, server.url) as client:
        found = outcome(client, "add", 1, 1)
        assert type(found) is ConnectError
        assert found.delivery is Delivery.NOT_SENT
        server.faults = None
        assert client.call("add", 1, 1) == 2
        assert server.times("add", 1, 1) == 1


@both
def test_refused_while_connected(kind: str) -> None:
    """The connections end, and those that follow are refused."""
    with FaultServer(METHODS) as server, Wire(kind, server.url) as client:
        assert client.call("add", 1, 1) == 2
        server.faults = Refuse()
        found = outcome(client, "add", 2, 2)
        assert type(found) in (ConnectError, ConnectionLostError)
        assert outcome(client, "add", 2, 2).delivery is Delivery.NOT_SENT
        assert server.times("add", 2, 2) == 0
        server.faults = None
        assert client.call("add", 2, 2) == 4


@both
def test_refused_for_a_while_and_repeated(kind: str) -> None:
    """Nobody called it idempotent; what was not sent goes again all the same, once the server is back."""
    strategy = RetryStrategy(backoff=PeriodicBackoff(attempts=20, interval=0.01))
    with FaultServer(METHODS) as server, Wire(kind, server.url, retry_strategy=strategy) as client:
        server.restart(down=0.03)
        assert client.call("add", 1, 1) == 2
        assert server.times("add", 1, 1) == 1


@both
def test_a_slow_accept_is_waited_for(kind: str) -> None:
    with FaultServer(METHODS, SlowAccept(0.03)) as server, Wire(kind, server.url) as client:
        started = time.monotonic()
        assert client.call("add", 1, 1) == 2
        assert time.monotonic() - started >= 0.03
        assert server.met["SlowAccept"] == 1


# --- those that break the next request ---


@both
@pytest.mark.parametrize("toxic", [Close("end"), Reset("end"), CloseIdle(0.001), CloseReused(), CloseReused(reset=True)], ids=repr)
def test_what_is_idempotent_survives_connections_that_end_between_calls(kind: str, toxic: Toxic) -> None:
    with FaultServer(METHODS, toxic) as server, Wire(kind, server.url, retry_strategy=REPEATED) as client:
        for number in range(10):
            assert client.call("add", number, number) == 2 * number
        assert all(times >= 1 for times in server.executed.values())


@both
@pytest.mark.slow
def test_a_connection_that_falls_silent_costs_one_attempt(kind: str) -> None:
    with FaultServer(METHODS) as server, Wire(kind, server.url, retry_strategy=REPEATED, timeout=HANGS) as client:
        server.faults = InTurn(Silence("end"))
        assert client.call("add", 1, 1) == 2
        # It goes out on the same connection, unread, and then on another one.
        assert client.call("add", 2, 2) == 4
        assert server.times("add", 2, 2) == 1
        assert server.connections == 2
