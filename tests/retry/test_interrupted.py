"""Interrupts, dead loops and finalizers in places where nobody expects them."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import Any

import pytest
from support import Rig, both_drivers

import rpcretry.drivers._sync as driver
from rpcretry import LAST_GOOD, AsyncClient, Client, ConcurrencyLimit, Fallback, RetryStrategy, current_attempt
from rpcretry.errors import ClientClosedError, ResultValidationError
from rpcretry.functions import retry
from rpcretry.outcome import Outcome, Parking
from rpcretry.retry import Layer, PeriodicBackoff
from rpcretry.testing import AsyncScriptedBackend, ScriptedBackend, result


class Slot(Layer):
    """Takes a place, and is hit by Ctrl-C when it is about to give it back."""

    def __init__(self, interrupts: int) -> None:
        self.interrupts = interrupts
        self.inside = 0
        self.log: list[str] = []

    def admit(self, attempt: Any, now: float) -> None:
        self.inside += 1

    def settle(self, attempt: Any, outcomes: Any, now: float) -> None:
        if self.interrupts:
            self.interrupts -= 1
            raise KeyboardInterrupt
        self.log.append("settle")
        self.inside -= 1

    def abandon(self, attempt: Any, now: float) -> None:
        self.log.append("abandon")
        self.inside -= 1


@both_drivers
@pytest.mark.parametrize("hit", [0, 1, 2])
def test_a_layer_that_an_interrupt_kept_from_settling_is_abandoned(driver: str, hit: int) -> None:
    layers = [Slot(int(index == hit)) for index in range(3)]
    with pytest.raises(KeyboardInterrupt):
        Rig(driver, result(1), layers=layers).call("m")
    assert [layer.inside for layer in layers] == [0, 0, 0]
    # Settled from the innermost to the outermost: those further in had their turn.
    assert [layer.log for layer in layers] == [["abandon"] if index <= hit else ["settle"] for index in range(3)]


@pytest.mark.parametrize("count", [1, 1_000], ids=["one", "more than a stack is deep"])
def test_the_places_of_dead_waiters_go_on_to_the_next(count: int) -> None:
    limit = ConcurrencyLimit(1)
    entered, go_on = threading.Event(), threading.Event()

    def hold(exchange: Any) -> Any:
        entered.set()
        go_on.wait(5)
        return result(1)(exchange)

    first = threading.Thread(target=lambda: Client(ScriptedBackend([hold]), layers=[limit]).call("m"))
    first.start()
    entered.wait(5)
    loop = asyncio.new_event_loop()
    client = AsyncClient(AsyncScriptedBackend([result(2)]), layers=[limit])
    waiting = [loop.create_task(client.call("m")) for _ in range(count)]
    loop.run_until_complete(asyncio.sleep(0))
    loop.run_until_complete(asyncio.sleep(0))
    assert limit.waiting == count
    loop.close()
    go_on.set()
    first.join(5)
    # The tasks are still held here, as a program might hold them for ever.
    assert (limit.in_use, limit.waiting) == (0, 0)
    assert Client(ScriptedBackend([result(3)]), layers=[limit]).call("m") == 3
    for task in waiting:
        task.get_coro().close()  # type: ignore[union-attr]
        task._log_destroy_pending = False  # type: ignore[attr-defined]


def test_what_a_function_returned_is_its_result_whatever_attributes_it_has() -> None:
    class Job:
        result = None

    job = Job()
    assert Outcome(job).result is job
    calls: list[int] = []

    @retry(strategy=RetryStrategy(when=lambda outcome, tries: outcome.result is None, backoff=PeriodicBackoff(attempts=2, interval=0)))
    def submit() -> Job:
        calls.append(1)
        return job

    assert submit() is job
    assert len(calls) == 1


def test_a_value_that_is_dropped_may_call_the_function_that_dropped_it() -> None:
    again: list[int] = []

    class Value:
        def __del__(self) -> None:
            if not again:
                again.append(1)
                fetch(3)

    @retry(fallback=Fallback(LAST_GOOD, size=1))
    def fetch(key: int) -> Value:
        return Value()

    fetch(1)
    fetch(2)
    assert again == [1]
    again.append(2)


@both_drivers
def test_the_codec_may_ask_for_the_current_attempt(driver: str) -> None:
    from rpcretry.codec import JsonCodec

    seen: list[Any] = []

    class Asking(JsonCodec):
        def dumps(self, value: object, /) -> bytes:
            seen.append(current_attempt())
            return super().dumps(value)

    assert Rig(driver, result(1), codec=Asking(), fallback=Fallback(LAST_GOOD)).call("m", 1) == 1
    assert seen[0] is None
    assert seen[1].number == 1


@pytest.mark.parametrize("cls", [ClientClosedError, ResultValidationError])
def test_what_is_never_retried_cannot_be_named(cls: type[Exception]) -> None:
    with pytest.raises(ValueError, match=f"must not name {cls.__name__}: it ends a call and is never retried"):
        RetryStrategy(exceptions={cls})
    with pytest.raises(ValueError, match=f"must not name {cls.__name__}"):
        retry(on=cls)


def test_a_fallback_that_would_never_be_asked_is_refused() -> None:
    with pytest.raises(ValueError, match="max_age is for LAST_GOOD"):
        Fallback(0, max_age=5)
    with pytest.raises(ValueError, match="size is for LAST_GOOD"):
        Fallback(0, size=5)
    with pytest.raises(ValueError, match="on must name an exception"):
        Fallback(0, on=())
    with pytest.raises(TypeError, match="fallback must be an instance, got the class Fallback"):
        retry(fallback=Fallback)


def test_an_exception_class_in_the_place_of_the_function_names_on() -> None:
    with pytest.raises(TypeError, match="got the class ConnectionError; write on=ConnectionError"):
        retry(ConnectionError)


def test_a_call_in_the_place_of_the_function_is_refused_and_closed() -> None:
    from rpcretry.functions import Retrying

    async def fetch() -> None:
        pass

    with pytest.raises(TypeError, match="give the function itself, and its arguments after it"):
        Retrying().execute(fetch())  # type: ignore[arg-type]


def test_a_parked_call_can_be_woken_by_a_signal_handler_at_any_line_of_its_wait() -> None:
    # A handler that makes a call of its own frees a place, and so wakes the very wait in whose middle it runs.
    for place in range(60):
        parking, ended = Parking(), threading.Event()
        left = place

        def trace(frame: Any, event: str, arg: Any, parking: Parking = parking) -> Any:
            nonlocal left
            if event == "line" and frame.f_code.co_filename in (threading.__file__, driver.__file__):
                left -= 1
                if left == -1:
                    parking.wake()
            return trace

        def wait(parking: Parking = parking, ended: threading.Event = ended, trace: Any = trace) -> None:
            sys.settrace(trace)
            try:
                driver.parked(0.02, parking)
            finally:
                sys.settrace(None)
                ended.set()

        threading.Thread(target=wait, daemon=True).start()
        assert ended.wait(5), place
        if left >= 0:
            break
    else:
        pytest.fail("the wait has more lines than this test goes through")


def test_a_wake_at_any_line_of_parking_is_not_lost() -> None:
    for place in range(20):
        parking, calls, left = Parking(), [], place

        def trace(frame: Any, event: str, arg: Any, parking: Parking = parking) -> Any:
            nonlocal left
            if event == "line":
                left -= 1
                if left == -1:
                    parking.wake()
            return trace

        sys.settrace(trace)
        try:
            parking.on_wake(lambda calls=calls: calls.append("woken"))  # type: ignore[misc]
        finally:
            sys.settrace(None)
        if left >= 0:
            break
        assert calls, place
    else:
        pytest.fail("on_wake has more lines than this test goes through")
