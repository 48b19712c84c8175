"""What the demo does: each bad day, and how the call must end."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from ..errors import ConnectionLostError, DeadlineExceeded, HTTPStatusError, JsonRpcError, MethodNotFoundError, ProtocolError
from ..retry import EqualJitter, ExponentialBackoff, RetryStrategy
from ._server import Fault, busy, drop_after_work, drop_before_work, error_code, garbage, slow, unavailable

__all__ = ["METHODS", "SCENARIOS", "Expected", "Scenario"]

METHODS: Final[Mapping[str, Callable[..., Any]]] = {
    "sum": lambda *numbers: sum(numbers),
    "get_price": lambda symbol: 41.5,
    "get_report": lambda year: f"report of {year}",
    "reserve": lambda seat: f"{seat} is yours",
    "pay": lambda amount: f"paid {amount}",
    "tick": lambda: None,
}
"""What the server offers. The strategies below declare ``get_*`` idempotent, and nothing else."""

Random: TypeAlias = Callable[[], float]

HTML = b"<!doctype html><title>Sign in</title><h1>Please sign in to the hotel network</h1>"


@dataclasses.dataclass(frozen=True)
class Expected:
    """How a call must end.

    :ivar attempts: how many exchanges it takes.
    :ivar result: what it returns; the list of results for a batch.
    :ivar error: exactly the class of what it raises, in place of a result.
    :ivar code: the JSON-RPC code of that.
    :ivar executed: how often the server executes each method; ``None`` where that depends on who is faster.
    :ivar exchanges: the methods in each exchange; ``None`` where every exchange carries the whole call.
    """

    attempts: int
    result: object = None
    error: type[Exception] | None = None
    code: int | None = None
    executed: Mapping[str, int] | None = None
    exchanges: tuple[tuple[str, ...], ...] | None = None


def _backoff(random: Random) -> ExponentialBackoff:
    return ExponentialBackoff(attempts=3, base=0.04, factor=2.0, jitter=EqualJitter(random=random))


def transient(random: Random) -> RetryStrategy:
    """The preset, with a short backoff: connection failures, timeouts and the usual statuses."""
    return RetryStrategy(idempotent="get_*", backoff=_backoff(random))


def on_2001(random: Random) -> RetryStrategy:
    """The JSON-RPC code 2001 and nothing else."""
    return RetryStrategy(codes={2001}, backoff=_backoff(random))


@dataclasses.dataclass(frozen=True)
class Scenario:
    """One call and the bad day that it has.

    :ivar title: what goes wrong, in a few words.
    :ivar requests: methods and params; several make a batch.
    :ivar expected: how it must end.
    :ivar faults: what the server does in the first exchanges.
    :ivar strategy: makes the strategy from a source of random numbers.
    :ivar timeout: seconds for each attempt; ``None`` for the client's.
    :ivar deadline: seconds for the whole call; ``None`` for none.
    :ivar notify: whether it is a notification.
    """

    title: str
    requests: tuple[tuple[str, tuple[object, ...]], ...]
    expected: Expected
    faults: tuple[Fault | None, ...] = ()
    strategy: Callable[[Random], RetryStrategy] = transient
    timeout: float | None = None
    deadline: float | None = None
    notify: bool = False


SCENARIOS: Final[tuple[Scenario, ...]] = (
    Scenario(
        "a good day",
        (("sum", (2, 3)),),
        Expected(attempts=1, result=5, executed={"sum": 1}),
    ),
    Scenario(
        "503 with Retry-After, twice",
        (("get_price", ("ACME",)),),
        Expected(attempts=3, result=41.5, executed={"get_price": 1}),
        # The first hint is longer than the backoff's delay and takes its place; the second is not.
        faults=(unavailable("1"), unavailable("0")),
    ),
    Scenario(
        "503 with Retry-After: the server did not act, so even a payment goes again",
        (("pay", (99,)),),
        Expected(attempts=2, result="paid 99", executed={"pay": 1}),
        faults=(unavailable("0"),),
    ),
    Scenario(
        "connections dropped before and after the work, on an idempotent method",
        (("get_price", ("ACME",)),),
        Expected(attempts=3, result=41.5, executed={"get_price": 2}),
        faults=(drop_before_work(), drop_after_work()),
    ),
    Scenario(
        "a connection dropped after the work, on a payment: never repeated",
        (("pay", (99,)),),
        Expected(attempts=1, error=ConnectionLostError, executed={"pay": 1}),
        faults=(drop_after_work(),),
    ),
    Scenario(
        "JSON-RPC code 2001, twice",
        (("reserve", ("12A",)),),
        Expected(attempts=3, result="12A is yours", executed={"reserve": 1}),
        faults=(error_code(2001, "reserve"), error_code(2001, "reserve")),
        strategy=on_2001,
    ),
    Scenario(
        "a slow answer, cut by the attempt's timeout of 0.3 s",
        (("get_report", (2024,)),),
        Expected(attempts=2, result="report of 2024", executed={"get_report": 2}),
        faults=(slow(5.0),),
        timeout=0.3,
    ),
    Scenario(
        "a slow answer, cut by the call's deadline of 0.3 s",
        (("get_report", (2024,)),),
        Expected(attempts=1, error=DeadlineExceeded),
        faults=(slow(5.0),),
        deadline=0.3,
    ),
    Scenario(
        "Retry-After of 30 s under a deadline of 2 s: no wait in vain",
        (("get_price", ("ACME",)),),
        Expected(attempts=1, error=DeadlineExceeded, executed={}),
        faults=(unavailable("30"),),
        deadline=2.0,
    ),
    Scenario(
        "a web page in place of an answer",
        (("get_price", ("ACME",)),),
        Expected(attempts=1, error=ProtocolError, executed={}),
        faults=(garbage(HTML),),
    ),
    Scenario(
        "503 each time, until no attempt is left",
        (("get_price", ("ACME",)),),
        Expected(attempts=4, error=HTTPStatusError, executed={}),
        faults=(busy(),) * 4,
    ),
    Scenario(
        "code 2001 each time, until no attempt is left",
        (("reserve", ("12A",)),),
        Expected(attempts=4, error=JsonRpcError, code=2001, executed={}),
        faults=(error_code(2001, "reserve"),) * 4,
        strategy=on_2001,
    ),
    Scenario(
        "an error that no repetition mends",
        (("get_weather", ("Paris",)),),
        Expected(attempts=1, error=MethodNotFoundError, code=-32601, executed={}),
    ),
    Scenario(
        "a batch with code 2001 for one: only that one goes again",
        (("sum", (1, 2)), ("reserve", ("12A",)), ("get_price", ("ACME",))),
        Expected(
            attempts=2,
            result=[3, "12A is yours", 41.5],
            executed={"sum": 1, "reserve": 1, "get_price": 1},
            exchanges=(("sum", "reserve", "get_price"), ("reserve",)),
        ),
        faults=(error_code(2001, "reserve"),),
        strategy=on_2001,
    ),
    Scenario(
        "a notification: whatever is answered is dropped",
        (("tick", ()),),
        Expected(attempts=1, executed={"tick": 1}),
        faults=(garbage(HTML, work=True),),
        notify=True,
    ),
)
