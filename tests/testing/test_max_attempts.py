"""Issue 5: no_retries() and max_attempts(n): fewer tries for everything in the process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support import Rig, both_drivers

from rpcretry import Client, ConnectError, JsonRpcError, Request, RetryBudget, RetryExhaustedError, RetryStrategy
from rpcretry.events import CallFailed
from rpcretry.functions import bulk, retry, retrying
from rpcretry.retry import PeriodicBackoff
from rpcretry.retry.policy import CAPS
from rpcretry.testing import ScriptedBackend, VirtualTime, error, http, max_attempts, no_retries, result

STRATEGY = RetryStrategy(exceptions={ConnectionError}, codes={-32005}, backoff=PeriodicBackoff(attempts=4, interval=1))


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    yield
    assert CAPS == []


def tries_of(decorate: Callable[[Callable[[], None]], Callable[[], None]]) -> int:
    tries = 0

    def function() -> None:
        nonlocal tries
        tries += 1
        raise ConnectionError("down")

    with pytest.raises(ConnectionError):
        decorate(function)()
    return tries


@both_drivers
def test_calls(driver: str) -> None:
    rig = Rig(driver, *[ConnectError("down")] * 5, retry_strategy=STRATEGY)
    with no_retries(), pytest.raises(ConnectError) as raised:
        rig.call("sum")
    assert rig.sent == 1
    assert raised.value.__notes__ == ["rpcretry: gave up after 1 attempt in 0.00 s (attempts)"]
    with max_attempts(3), pytest.raises(ConnectError):
        rig.call("sum")
    assert rig.sent == 4


def test_a_code_and_wrap_end_as_if_the_tries_had_run_out() -> None:
    rig = Rig("sync", error(-32005), retry_strategy=STRATEGY)
    with no_retries():
        assert rig.send(Request("sum")).error.code == -32005
    strategy = RetryStrategy(codes={-32005}, wrap=True)
    with no_retries(), pytest.raises(RetryExhaustedError) as raised:
        Rig("sync", error(-32005), retry_strategy=strategy).call("sum")
    assert raised.value.attempts == 1


@both_drivers
def test_members_of_a_batch_each_have_so_many(driver: str) -> None:
    rig = Rig(driver, *[error(-32005)] * 5, retry_strategy=STRATEGY)

    def act(client: Any) -> Any:
        return client.bulk([Request("a"), Request("b")], batch_size=2, concurrency=1, partial_success_threshold=0).run()

    with max_attempts(2):
        found = rig.run(act)
    assert rig.sent == 2
    assert [item.attempts for item in found.failed] == [2, 2]


def test_functions_blocks_and_bulk() -> None:
    time = VirtualTime()
    options: dict[str, Any] = {"clock": time.clock, "sleep": time.sleep, "max_attempts": 5}
    with max_attempts(2):
        assert tries_of(retry(**options)) == 2

        def block(function: Callable[[], None]) -> Callable[[], None]:
            def run() -> None:
                for attempt in retrying(**options):
                    with attempt:
                        function()

            return run

        assert tries_of(block) == 2
        tried: list[int] = []

        def fails(item: int) -> None:
            tried.append(item)
            raise ConnectionError

        assert len(bulk(fails, range(3), concurrency=1, partial_success_threshold=0, **options).run().failed) == 3
        assert tried == [0, 0, 1, 1, 2, 2]


def test_async_functions_in_all_tasks() -> None:
    time, tried = VirtualTime(), 0

    @retry(clock=time.clock, sleep=time.asleep, max_attempts=None)
    async def fails() -> None:
        nonlocal tried
        tried += 1
        raise ConnectionError

    async def main() -> None:
        await asyncio.gather(fails(), fails(), return_exceptions=True)

    with max_attempts(3):
        asyncio.run(main())
    assert tried == 6


def test_all_threads_and_retry_result() -> None:
    found: list[int] = []

    def work() -> None:
        found.append(tries_of(retry(max_attempts=None, base_delay=0)))

    with no_retries():
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(5)
        assert retry(retry_result=lambda value: True)(lambda: 7)() == 7
    assert found == [1, 1, 1, 1]


def test_no_more_than_the_strategy_allows() -> None:
    rig = Rig("sync", *[ConnectError("down")] * 9, retry_strategy=STRATEGY)
    with max_attempts(100), pytest.raises(ConnectError):
        rig.call("sum")
    assert rig.sent == 5
    with max_attempts(100), pytest.raises(ConnectError):
        rig.call("sum", _retry_strategy=None)
    assert rig.sent == 6


def test_the_last_one_that_was_entered_counts() -> None:
    plan = retry(max_attempts=5, base_delay=0)
    with no_retries():
        with max_attempts(3):
            assert tries_of(plan) == 3
            with max_attempts(None):
                assert tries_of(plan) == 5
            assert tries_of(plan) == 3
        assert tries_of(plan) == 1
    assert tries_of(plan) == 5


def test_contexts_may_end_in_another_order() -> None:
    plan = retry(max_attempts=5, base_delay=0)
    first, second = max_attempts(2), max_attempts(2)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert tries_of(plan) == 2
    second.__exit__(None, None, None)
    assert tries_of(plan) == 5


def test_it_ends_with_an_exception_too() -> None:
    with pytest.raises(ZeroDivisionError), no_retries():
        1 / 0


def test_no_layer_pays_for_a_retry_that_does_not_come() -> None:
    budget = RetryBudget()
    full = budget.level
    client = Client(ScriptedBackend([ConnectError("down")]), retry_strategy=STRATEGY, layers=budget)
    with no_retries(), pytest.raises(ConnectError):
        client.call("sum")
    assert budget.level == full


def test_a_batch_that_is_halved_is_no_retry() -> None:
    client = Client(ScriptedBackend([http(413), result(1), result(2)]))
    with no_retries(), client.batch() as batch:
        first, second = batch.call("a"), batch.call("b")
    assert (first.result(), second.result()) == (1, 2)


def test_a_permanent_error_ends_for_its_own_reason() -> None:
    rig = Rig("sync", error(1), retry_strategy=STRATEGY, watched=True)
    with no_retries(), pytest.raises(JsonRpcError):
        rig.call("sum")
    (failed,) = [event for event in rig.events if isinstance(event, CallFailed)]
    assert failed.reason == "error"


@pytest.mark.parametrize(("number", "kind"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError), ("1", TypeError)])
def test_bad_input_is_refused(number: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="number must be"), max_attempts(number):
        pass
