"""Issue 5: virtual time for code that was given no clock: waits take no time and are recorded."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support import finish

from rpcretry import (
    AsyncClient,
    CircuitBreaker,
    CircuitOpenError,
    CircuitState,
    Client,
    ConnectError,
    DeadlineExceeded,
    RateLimit,
    Request,
    RequestTimeoutError,
    RetryStrategy,
    current_attempt,
)
from rpcretry.backends.aiohttp import Client as AiohttpClient
from rpcretry.backends.requests import Client as RequestsClient
from rpcretry.client.core import Shared
from rpcretry.functions import Retrying, bulk, retry, retrying
from rpcretry.functions._call import FunctionCall
from rpcretry.layers._surface import Common
from rpcretry.retry import ExponentialBackoff, PeriodicBackoff
from rpcretry.testing import SILENCE, Answer, AsyncScriptedBackend, LoopbackServer, Received, ScriptedBackend, VirtualTime, _installed, error, result, rpc
from rpcretry.testing._installed import READINGS

STRATEGY = RetryStrategy(exceptions={ConnectionError, TimeoutError}, codes={-32005}, backoff=ExponentialBackoff(attempts=3, base=0.1))
ITEMS = [error(-32005), error(-32005), result(3)]

BEFORE = Client(ScriptedBackend([*ITEMS, *ITEMS]), retry_strategy=STRATEGY)
BEFORE_ASYNC = AsyncClient(AsyncScriptedBackend([*ITEMS, *ITEMS]), retry_strategy=STRATEGY)


@pytest.fixture(autouse=True)
def nothing_waits() -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < 5


def failing(times: int, problem: type[Exception] = ConnectionError) -> Callable[..., str]:
    """A function that fails that many times."""
    left = [problem(f"{number}") for number in range(times)]

    def function(*_: Any) -> str:
        if left:
            raise left.pop(0)
        return "done"

    return function


made_before = Retrying(backoff=ExponentialBackoff(attempts=4, base=0.1))


sync_function = made_before(failing(2))
ASYNC_FAILURES = [ConnectionError("a"), ConnectionError("b")]


@made_before
async def async_function() -> str:
    if ASYNC_FAILURES:
        raise ASYNC_FAILURES.pop(0)
    return "done"


# --- whom it reaches ---


def test_clients_made_before(virtual_time: VirtualTime) -> None:
    assert BEFORE.call("sum") == 3
    assert finish(lambda: BEFORE_ASYNC.call("sum")) == 3
    assert virtual_time.delays == [0.1, 0.2, 0.1, 0.2]


def test_clients_made_in_it(virtual_time: VirtualTime) -> None:
    assert Client(ScriptedBackend(ITEMS), retry_strategy=STRATEGY).using(timeout=3).proxy.sum() == 3
    assert finish(lambda: AsyncClient(AsyncScriptedBackend(ITEMS), retry_strategy=STRATEGY).call("sum")) == 3
    assert virtual_time.delays == [0.1, 0.2, 0.1, 0.2]


def test_functions_decorated_before(virtual_time: VirtualTime) -> None:
    assert sync_function() == "done"
    assert asyncio.run(async_function()) == "done"
    assert virtual_time.delays == [0.1, 0.2, 0.1, 0.2]


def test_functions_in_it_in_every_form(virtual_time: VirtualTime) -> None:
    plan = Retrying(backoff=PeriodicBackoff(attempts=3, interval=1))
    assert plan(failing(1))() == "done"
    assert plan.execute(failing(1)) == "done"
    block = failing(1)
    for attempt in retrying(backoff=PeriodicBackoff(attempts=3, interval=2)):
        with attempt:
            block()

    async def main() -> None:
        async_block = failing(1)
        async for attempt in retrying(backoff=PeriodicBackoff(attempts=3, interval=3)):
            with attempt:
                async_block()

    asyncio.run(main())
    assert virtual_time.delays == [1, 1, 2, 3]


def test_bulk_of_functions_and_of_requests(virtual_time: VirtualTime) -> None:
    found = bulk(failing(3), range(10), concurrency=1, backoff=PeriodicBackoff(attempts=3, interval=5)).run()
    assert len(found.successful) == 10
    assert virtual_time.delays == [5, 5, 5]
    client = Client(ScriptedBackend([error(-32005), result(1), result(2)]), retry_strategy=STRATEGY)
    assert [item.result for item in client.bulk([Request("get")] * 2, concurrency=1)] == [1, 2]
    found = bulk(failing(20), range(10), concurrency=4, backoff=PeriodicBackoff(attempts=30, interval=5)).run()
    assert len(found.successful) == 10


def test_batches(virtual_time: VirtualTime) -> None:
    with Client(ScriptedBackend(ITEMS), retry_strategy=STRATEGY).batch() as batch:
        handle = batch.call("sum")
    assert handle.result() == 3
    assert virtual_time.delays == [0.1, 0.2]


def test_a_clock_and_a_sleep_of_ones_own_stay(virtual_time: VirtualTime) -> None:
    own = VirtualTime()
    assert Client(ScriptedBackend(ITEMS), retry_strategy=STRATEGY, clock=own.clock, sleep=own.sleep).call("sum") == 3
    assert retry(clock=own.clock, sleep=own.sleep, backoff=PeriodicBackoff(attempts=1, interval=7))(failing(1))() == "done"
    assert own.delays == [0.1, 0.2, 7]
    assert virtual_time.delays == []


def test_a_sleep_of_ones_own_moves_the_clock_beside_it(virtual_time: VirtualTime) -> None:
    # Else a deadline would never come, and what retries until then would go on for ever.
    waited: list[float] = []

    async def wait(seconds: float) -> None:
        waited.append(seconds)

    @retry(max_attempts=None, deadline=10, sleep=waited.append, backoff=PeriodicBackoff(attempts=99, interval=4))
    def function() -> None:
        raise ConnectionError

    @retry(max_attempts=None, deadline=10, sleep=wait, backoff=PeriodicBackoff(attempts=99, interval=4))
    async def async_function() -> None:
        raise ConnectionError

    strategy = RetryStrategy(codes={-32005}, backoff=PeriodicBackoff(attempts=99, interval=4))
    client = Client(ScriptedBackend([error(-32005)] * 9), retry_strategy=strategy, deadline=10, sleep=waited.append)
    async_client = AsyncClient(AsyncScriptedBackend([error(-32005)] * 9), retry_strategy=strategy, deadline=10, sleep=wait)
    begun = virtual_time.now
    for act in (function, lambda: asyncio.run(async_function()), lambda: client.call("sum"), lambda: finish(lambda: async_client.call("sum"))):
        with pytest.raises(DeadlineExceeded):
            act()
    assert waited == [4] * 8
    assert virtual_time.now - begun == 32
    assert virtual_time.delays == []


def test_who_patches_the_sleep_of_the_module_loses_no_virtual_time(virtual_time: VirtualTime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("it slept"))
    assert retry(backoff=PeriodicBackoff(attempts=1, interval=7))(failing(1))() == "done"
    assert BEFORE_PATCH() == "done"
    assert Client(ScriptedBackend(ITEMS), retry_strategy=STRATEGY).call("sum") == 3
    assert virtual_time.delays == [7, 8, 0.1, 0.2]


def test_no_module_of_the_kit_keeps_what_freezegun_would_replace() -> None:
    # It looks through the attributes of all modules, and puts its own in place of these.
    found = [name for name, value in vars(_installed).items() if value in (time.monotonic, time.sleep, asyncio.sleep)]
    assert found == []


BEFORE_PATCH = retry(backoff=PeriodicBackoff(attempts=1, interval=8))(failing(1))


def test_all_threads(virtual_time: VirtualTime) -> None:
    threads = [threading.Thread(target=retry(backoff=PeriodicBackoff(attempts=3, interval=60))(failing(1))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert not any(thread.is_alive() for thread in threads)
    # One that had its turn after the minute of another was over need not wait for its own.
    assert set(virtual_time.delays) == {60.0}
    assert len(virtual_time.delays) <= 8


# --- what time it is ---


def test_deadlines_count_waits(virtual_time: VirtualTime) -> None:
    strategy = RetryStrategy(codes={-32005}, backoff=PeriodicBackoff(attempts=9, interval=4))
    client = Client(ScriptedBackend([error(-32005)] * 9), retry_strategy=strategy, deadline=10)
    with pytest.raises(DeadlineExceeded, match=r"10(\.00)? s"):
        client.call("sum")
    assert virtual_time.delays == [4, 4]
    begun = virtual_time.now
    function = retry(max_attempts=None, backoff=PeriodicBackoff(attempts=99, interval=4), deadline=10)(failing(99))
    with pytest.raises(DeadlineExceeded):
        function()
    assert virtual_time.now - begun == 8


def test_a_first_attempt_is_timed_by_it(virtual_time: VirtualTime) -> None:
    # It is made without a call, by the clock that the function was given when it was decorated.
    @made_before
    def outer() -> None:
        virtual_time.advance(50)
        raise ConnectionError("late")

    @retry(deadline=40, max_attempts=9)
    def limited() -> None:
        virtual_time.advance(50)
        raise ConnectionError("late")

    with pytest.raises(DeadlineExceeded):
        limited()
    with pytest.raises(ConnectionError) as raised:
        outer()
    assert "in 251.50 s" in raised.value.__notes__[0]


def test_hours_of_waits_make_no_later_call_late(virtual_time: VirtualTime) -> None:
    virtual_time.advance(36_000)
    assert retry(deadline=1, backoff=PeriodicBackoff(attempts=1, interval=0.5))(failing(1))() == "done"
    assert virtual_time.delays == [0.5]


def test_a_nested_call_passes_the_time_of_the_one_around_it(virtual_time: VirtualTime) -> None:
    inner = retry(backoff=PeriodicBackoff(attempts=5, interval=10))(failing(5))

    @retry(deadline=20, on=ConnectionError)
    def outer() -> None:
        inner()
        found = current_attempt()
        assert found is not None
        raise ConnectionError("after 50 s")

    with pytest.raises(DeadlineExceeded):
        outer()
    assert virtual_time.delays == [10] * 5


def test_breakers_and_rate_limits_go_by_it_also_by_hand(virtual_time: VirtualTime) -> None:
    breaker = CircuitBreaker(failure_threshold=1, recovery_timeout=60)
    client = Client(ScriptedBackend([ConnectError("down"), result(3)]), layers=breaker)
    with pytest.raises(ConnectError):
        client.call("sum")
    with pytest.raises(CircuitOpenError):
        client.call("sum")
    assert breaker.state is CircuitState.OPEN
    virtual_time.advance(59)
    assert breaker.state is CircuitState.OPEN
    virtual_time.advance(1)
    assert breaker.state is CircuitState.HALF_OPEN
    assert client.call("sum") == 3
    limit = RateLimit(2, per=60, burst=1)
    client = Client(ScriptedBackend([result(1)] * 3), layers=limit)
    assert [client.call("sum") for _ in range(3)] == [1, 1, 1]
    assert virtual_time.delays == [30, 30]
    assert limit.level == pytest.approx(0)
    virtual_time.advance(30)
    assert limit.level == pytest.approx(1)


def test_those_who_wait_behind_others_go_when_they_are_woken(virtual_time: VirtualTime) -> None:
    client = AsyncClient(AsyncScriptedBackend([result(1)] * 5), layers=RateLimit(1, per=60, burst=1))

    async def main() -> Any:
        return await asyncio.gather(*(client.call("sum") for _ in range(5)))

    assert asyncio.run(main()) == [1] * 5
    assert virtual_time.delays == [60] * 4


# --- tasks ---


def test_tasks_wait_at_the_same_time(virtual_time: VirtualTime) -> None:
    order: list[str] = []

    async def one(name: str, interval: float) -> None:
        function = failing(2)

        @retry(backoff=PeriodicBackoff(attempts=2, interval=interval))
        async def work() -> None:
            await asyncio.sleep(0)
            function()

        await work()
        order.append(name)

    async def main() -> None:
        await asyncio.gather(one("slow", 10), one("quick", 1), one("also slow", 10))

    begun = virtual_time.now
    asyncio.run(main())
    assert virtual_time.now - begun == 20
    assert order == ["quick", "slow", "also slow"]
    assert sorted(virtual_time.delays) == [1, 1, 10, 10, 10, 10]


def test_a_wait_may_be_cancelled(virtual_time: VirtualTime) -> None:
    async def main() -> None:
        function = retry(backoff=PeriodicBackoff(attempts=2, interval=10))(async_failing)
        task, other = asyncio.create_task(function()), asyncio.create_task(virtual_time.pass_until(virtual_time.now + 20))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await other

    async def async_failing() -> None:
        raise ConnectionError

    begun = virtual_time.now
    asyncio.run(main())
    assert virtual_time.now - begun == 20


def test_a_task_that_polls_holds_nobody_up(virtual_time: VirtualTime) -> None:
    async def main() -> str:
        task = asyncio.create_task(retry(backoff=PeriodicBackoff(attempts=2, interval=10))(made_async(failing(2)))())
        while not task.done():
            await asyncio.sleep(0)
        return await task

    assert asyncio.run(main()) == "done"


def test_a_loop_that_does_not_show_what_is_ready(virtual_time: VirtualTime) -> None:
    class Loop(asyncio.SelectorEventLoop):
        hidden = True

        def __getattribute__(self, name: str) -> Any:
            if name == "_ready" and object.__getattribute__(self, "hidden"):
                import sys

                if sys._getframe(1).f_code.co_name == "_look":
                    raise AttributeError(name)
            return object.__getattribute__(self, name)

    async def main() -> str:
        return await retry(backoff=PeriodicBackoff(attempts=2, interval=10))(made_async(failing(2)))()

    with asyncio.Runner(loop_factory=Loop) as runner:
        assert runner.run(main()) == "done"


def made_async(function: Callable[[], str]) -> Callable[[], Any]:
    async def work() -> str:
        return function()

    return work


def test_neither_a_loop_nor_a_time_is_kept() -> None:
    with VirtualTime().install() as virtual:
        asyncio.run(retry(backoff=PeriodicBackoff(attempts=2, interval=10))(made_async(failing(2)))())
        gc.collect()
        assert len(virtual._loops) == 0
    gone = weakref.ref(virtual)
    del virtual
    gc.collect()
    assert gone() is None


# --- real backends ---


def quiet_then(answer: Callable[[Received], Any], times: int) -> Callable[[Received], Any]:
    left = [SILENCE] * times
    return lambda request: left.pop() if left else answer(request)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [RequestsClient, AiohttpClient])
def test_a_real_backend_keeps_its_real_limit(virtual_time: VirtualTime, kind: Any) -> None:
    virtual_time.advance(1_000)
    strategy = RetryStrategy(exceptions={TimeoutError}, backoff=PeriodicBackoff(attempts=2, interval=60))
    with LoopbackServer(quiet_then(rpc({"sum": lambda: 3}), 1)) as server:

        async def run() -> Any:
            client = kind(server.url, retry_strategy=strategy, timeout=0.1, deadline=100)
            try:
                found = client.call("sum")
                return await found if asyncio.iscoroutine(found) else found
            finally:
                closing = client.close() if kind is RequestsClient else client.aclose()
                if closing is not None:
                    await closing

        begun, now = time.monotonic(), virtual_time.now
        assert asyncio.run(run()) == 3
        assert 0.1 <= time.monotonic() - begun < 3
        assert virtual_time.delays == [60]
        # What was cut off has taken all its time.
        assert virtual_time.now - now == pytest.approx(60.1)


@pytest.mark.slow
def test_a_deadline_that_really_cuts_an_attempt_is_told_as_one(virtual_time: VirtualTime) -> None:
    strategy = RetryStrategy(exceptions={TimeoutError}, backoff=PeriodicBackoff(attempts=9, interval=0))
    with LoopbackServer(lambda request: SILENCE) as server, RequestsClient(server.url, retry_strategy=strategy, deadline=0.1) as client:
        with pytest.raises(DeadlineExceeded) as raised:
            client.call("sum")
        assert isinstance(raised.value.__cause__, RequestTimeoutError)


def test_backends_and_middlewares_see_limits_on_the_real_clock(virtual_time: VirtualTime) -> None:
    virtual_time.advance(1_000)
    left: list[float] = []

    def look(exchange: Any, next: Any) -> Any:
        left.append(exchange.ends_by - time.monotonic())
        return next(exchange)

    client = Client(ScriptedBackend([result(1), result(2)]), middlewares=look, timeout=7)
    client.call("sum")
    client.call("sum", _timeout=None)
    assert left == [pytest.approx(7, abs=0.5), float("inf")]


def test_a_call_that_is_pending_when_it_is_collected_says_nothing(virtual_time: VirtualTime) -> None:
    class Silent:
        async def exchange(self, exchange: Any) -> Any:
            await asyncio.get_running_loop().create_future()

        async def aclose(self) -> None:
            return

    client = AsyncClient(Silent())
    loop = asyncio.new_event_loop()
    task: Any = loop.create_task(client.call("sum"))
    loop.run_until_complete(asyncio.sleep(0))
    task._log_destroy_pending = False
    loop.close()
    told: list[Any] = []
    hook, sys.unraisablehook = sys.unraisablehook, told.append
    try:
        del task, loop
        gc.collect()
    finally:
        sys.unraisablehook = hook
    assert told == []


# --- coming and going ---


def test_afterwards_everything_is_as_it_was() -> None:
    owners = [(Shared, "clock"), (Shared, "sleep"), (Shared, "perform"), (FunctionCall, "clock"), (FunctionCall, "sleep"), (Common, "clock")]
    slots = [vars(owner)[name] for owner, name in owners]
    after = FunctionCall.after
    with VirtualTime().install():
        assert [vars(owner)[name] for owner, name in owners] != slots
        client = Client(ScriptedBackend([result(1)]))
        limit = RateLimit(5)
    assert [vars(owner)[name] for owner, name in owners] == slots
    assert FunctionCall.after is after
    assert "clock" not in vars(RateLimit)
    assert limit.clock is time.monotonic
    assert (client._shared.clock, client._shared.sleep) == (time.monotonic, time.sleep)
    client.close()


def test_a_missing_attribute_is_missed() -> None:
    with VirtualTime().install():
        with pytest.raises(AttributeError, match="'RateLimit' object has no attribute 'clock'"):
            RateLimit.__new__(RateLimit).clock
        with pytest.raises(AttributeError):
            Shared.__new__(Shared).clock
        assert Shared.clock is READINGS[0]
        client = Client(ScriptedBackend([]))
        client.close()
        with pytest.raises(Exception, match="was closed"):
            client.call("sum")


def test_one_within_another_counts_and_the_same_twice() -> None:
    def wait() -> None:
        retry(backoff=PeriodicBackoff(attempts=1, interval=1))(failing(1))()

    with VirtualTime().install() as outer:
        outer.advance(500)
        with VirtualTime().install() as inner, inner.install():
            assert inner.now >= outer.now
            wait()
        wait()
        with outer.install():
            wait()
        wait()
    assert (inner.delays, outer.delays) == ([1], [1, 1, 1])


def test_no_time_begins_before_another_has_ended() -> None:
    with VirtualTime().install() as first:
        first.advance(10_000)
    with VirtualTime().install() as second:
        assert second.now >= first.now
        assert second.now == int(second.now)


def test_a_call_that_began_before_is_not_late(virtual_time: VirtualTime) -> None:
    # As of a function that was entered by another thread.
    assert virtual_time._at(time.monotonic() - 5) == pytest.approx(virtual_time.now - 5, abs=1.5)
    virtual_time.advance(100)
    assert virtual_time._at(time.monotonic()) == virtual_time.now


def test_digits_that_are_noise_are_not_recorded() -> None:
    for start in (0.0, 1e3, 1e5, 12_345_678.9, 1e9):
        virtual = VirtualTime(start)
        for delay in (0.1, 0.2, 0.4):
            virtual.sleep((virtual.now + delay) - virtual.now)
        assert virtual.delays == [0.1, 0.2, 0.4]


def test_it_says_what_it_is() -> None:
    virtual = VirtualTime(5)
    virtual.sleep(1)
    assert repr(virtual) == "<VirtualTime 6, 1 sleeps>"
    virtual.reach(3)
    assert virtual.now == 6


def test_an_answer_over_loopback_is_as_ever(virtual_time: VirtualTime) -> None:
    troubles = [Answer(b"busy", status=503, headers={"Retry-After": "3"})]
    working = rpc({"sum": lambda: 3})
    with LoopbackServer(lambda request: troubles.pop() if troubles else working(request)) as server:
        with RequestsClient(server.url, retry_strategy=RetryStrategy()) as client:
            assert client.call("sum") == 3
    assert virtual_time.delays == [3]
