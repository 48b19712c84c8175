"""Sync bulks that are interrupted: wherever Ctrl-C comes, everything finished is in hand, nothing is lost and nothing sent twice."""

from __future__ import annotations

import contextvars
import gc
import itertools
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from bulk_rig import BulkRig, Server, indices, requests, taken
from support import Recorder

import rpcretry
from rpcretry import Client, ConcurrencyLimit, Delivery, Request, RetryStrategy, TransportError
from rpcretry.bulk import Bulk, BulkItem
from rpcretry.context import RUNNING
from rpcretry.retry import PeriodicBackoff
from rpcretry.transport import Exchange, Reply

PACKAGE = str(Path(rpcretry.__file__).parent)
Items = list[BulkItem[Any, Any]]

both_ways = pytest.mark.parametrize("concurrency", [1, 3])


class Backend(Server):
    """Answers at once.

    :param hold: called before the answer, outside of any lock.
    """

    def __init__(self, answer: Callable[[int, int], Any] = lambda number, time: number * 10, hold: Callable[[int], object] = lambda number: None) -> None:
        super().__init__(answer)
        self.hold = hold

    def exchange(self, exchange: Exchange) -> Reply:
        reply = self._reply(exchange)
        (request,) = exchange.requests[:1]
        self.hold(request.params[0] if isinstance(request.params, list) else -1)
        return reply

    def close(self) -> None: ...


def workers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "rpcretry fan"]


def gone(timeout: float = 5.0) -> bool:
    """Whether the threads end."""
    gives_up = time.monotonic() + timeout
    while workers() and time.monotonic() < gives_up:
        time.sleep(0.001)
    return not workers()


@pytest.fixture(autouse=True)
def _no_thread_stays() -> Iterator[None]:
    yield
    gc.collect()
    assert gone()
    # Struck between two statements at its end, a driver leaves an emptied mark, which says the same as none.
    assert not RUNNING.get()
    RUNNING.set(None)


def check(items: Items, backend: Server, count: int) -> None:
    """Every request came out once; those that may have been executed say so, and nothing was sent again but by the strategy."""
    assert indices(items) == list(range(count))
    for item in items:
        if item.ok:
            assert item.result == item.index * 10
            assert item.attempts == backend.times[item.index]
        else:
            assert isinstance(item.error, TransportError)
            assert item.error.delivery is Delivery.MAYBE_EXECUTED
            assert backend.times.get(item.index, 0) <= item.attempts


# --- an interrupt at every point where a signal handler can run ---


class Striker:
    """Raises KeyboardInterrupt in the package at the chosen one of the points at which the interpreter looks for signals.

    These are the beginning of a function and the return from one that is written in C, whose value is then lost. The events of
    a profiler come at the same points.
    """

    def __init__(self, chosen: int, *within: str) -> None:
        self.left = chosen
        self.within = within or PACKAGE
        self.struck = ""

    def __call__(self, frame: FrameType, event: str, arg: object) -> None:
        if event not in ("call", "c_return") or not frame.f_code.co_filename.startswith(self.within):
            return
        self.left -= 1
        if self.left == 0:
            self.struck = f"{frame.f_code.co_filename.removeprefix(PACKAGE)}:{frame.f_lineno} {event} {getattr(arg, '__name__', '')}"
            raise KeyboardInterrupt


@both_ways
@pytest.mark.parametrize("batch_size", [1, 2])
@pytest.mark.parametrize("collected", [True, False], ids=["run", "loop"])
def test_an_interrupt_at_every_point_loses_nothing_and_repeats_nothing(concurrency: int, batch_size: int, collected: bool) -> None:
    places = 0
    for chosen in itertools.count(1, 1 if concurrency == 1 else 3):
        backend = Backend(lambda number, time: {"code": 2001, "message": ""} if number == 1 and time == 1 else number * 10)
        # No generator for the delays: what is raised while one is collected goes nowhere.
        client = Client(backend, retry_strategy=RetryStrategy(codes={2001}, backoff=lambda: iter([0.0, 0.0])), timeout=None)
        # No generator, which an interrupt within it would end.
        bulk = client.bulk(iter(list(requests(5))), concurrency=concurrency, batch_size=batch_size, partial_success_threshold=0)
        items: Items = []
        striker = Striker(chosen)
        sys.setprofile(striker)
        try:
            if collected:
                bulk.run()
            else:
                for item in bulk:
                    items += [item]
        except KeyboardInterrupt:
            assert striker.struck
        finally:
            sys.setprofile(None)
        if collected:
            # All that has ended so far is in hand.
            assert bulk.collected.total == bulk.progress.done
            bulk.run()
            items = bulk.collected.items
        else:
            items += taken(bulk)
        try:
            check(items, backend, 5)
            assert max(map(len, backend.seen)) <= batch_size
        except AssertionError as problem:
            raise AssertionError(f"struck at {striker.struck}: {items} {backend.seen}") from problem
        if not striker.struck:
            break
        places += 1
    assert places > 60


@pytest.fixture
def _no_collection() -> Iterator[None]:
    """What is struck while the collector ends it goes nowhere."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_no_collection")
@pytest.mark.parametrize("where", ["backoff", "progress", "threads"])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_second_interrupt_at_every_point_after_the_first(where: str, batch_size: int) -> None:
    for chosen in itertools.count(1):
        # An Event that is struck in its own code keeps its lock, and whoever waits there does so for ever.
        striker, left = Striker(chosen, PACKAGE, threading.__file__), [1]

        def strike(place: str, striker: Striker = striker, left: list[int] = left) -> None:
            if left and place == where.replace("threads", "progress"):
                left.pop()
                sys.setprofile(striker)
                raise KeyboardInterrupt

        backend = Backend(lambda number, time: {"code": 2001, "message": ""} if number in (1, 3) and time == 1 else number * 10)
        strategy = RetryStrategy(codes={2001}, backoff=lambda: iter([0.005, 0.0]))
        sleep = time.sleep if where == "threads" else lambda seconds: strike("backoff")
        client = Client(backend, retry_strategy=strategy, sleep=sleep, timeout=None)
        bulk = client.bulk(
            iter(list(requests(7))),
            concurrency=3 if where == "threads" else 1,
            batch_size=batch_size,
            partial_success_threshold=0,
            progress=lambda progress: strike("progress"),
        )
        try:
            with pytest.raises(KeyboardInterrupt):
                bulk.run()
        finally:
            sys.setprofile(None)
        bulk.run()
        try:
            check(bulk.collected.items, backend, 7)
            assert max(map(len, backend.seen)) <= batch_size
        except AssertionError as problem:
            raise AssertionError(f"struck at {striker.struck}: {bulk.collected.items} {backend.seen}") from problem
        if not striker.struck:
            break
    assert chosen > (3 if where == "progress" else 10)


# --- where it comes from ---


def interrupting(times: int) -> Callable[[], None]:
    left = [times]

    def strike() -> None:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt

    return strike


@both_ways
@pytest.mark.parametrize("where", ["backend", "sleep", "source", "progress", "consumer"])
def test_an_interrupt_goes_through_and_the_next_loop_goes_on(concurrency: int, where: str) -> None:
    strike = interrupting(3)

    def at(place: str) -> None:
        if place == where:
            strike()

    class Source:
        """An iterator, which an interrupt does not end as it ends a generator."""

        def __init__(self) -> None:
            self.left = iter(range(20))

        def __iter__(self) -> Source:
            return self

        def __next__(self) -> Request:
            at("source")
            return Request("get", [next(self.left)])

    backend = Backend(lambda number, time: {"code": 2001, "message": ""} if number % 4 == 0 and time == 1 else number * 10, lambda number: at("backend"))
    strategy = RetryStrategy(codes={2001}, backoff=PeriodicBackoff(2, 100))
    layer = Recorder()
    clock = itertools.count(1.0, 0.125).__next__
    client = Client(backend, retry_strategy=strategy, layers=[layer], sleep=lambda seconds: at("sleep"), clock=clock, timeout=None)
    bulk = client.bulk(Source(), concurrency=concurrency, partial_success_threshold=0, progress=lambda progress: at("progress"))
    items: Items = []
    with pytest.raises(KeyboardInterrupt):
        for item in bulk:
            items.append(item)
            at("consumer")
    for item in bulk:
        items.append(item)
    check(items, backend, 20)
    assert layer.count("admit") == layer.count("settle") + layer.count("abandon")
    # In a backoff nothing was in flight, so nothing failed.
    assert sum(not item.ok for item in items) == (1 if where == "backend" else 0)


def test_a_generator_that_an_interrupt_ended_is_not_taken_for_the_end() -> None:
    strike = interrupting(4)

    def source() -> Iterator[Request]:
        for number in range(10):
            strike()
            yield Request("get", [number])

    bulk = Client(Backend()).bulk(source(), concurrency=1)
    with pytest.raises(KeyboardInterrupt):
        bulk.run()
    assert bulk.collected.results() == [0, 10, 20]
    with pytest.raises(RuntimeError, match="ended since it raised KeyboardInterrupt, and what it had left is lost"):
        bulk.run()


# --- a real Ctrl-C, in the wait for threads ---


def press_when(arrived: Callable[[], bool], presses: int = 1) -> threading.Thread:
    """Press Ctrl-C when the main thread will soon wait."""
    main = threading.get_ident()

    def press() -> None:
        gives_up = time.monotonic() + 10
        while not arrived() and time.monotonic() < gives_up:
            time.sleep(0.001)
        for _ in range(presses):
            time.sleep(0.02)
            if arrived():
                signal.pthread_kill(main, signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    return thread


def test_ctrl_c_waits_for_what_is_in_flight_and_cuts_what_waits() -> None:
    release = threading.Event()

    def hold(number: int) -> None:
        if number in (5, 6):
            release.wait(10)

    backend = Backend(lambda number, time: {"code": 2001, "message": ""} if number in (3, 4) and time == 1 else number * 10, hold)
    # The real sleep: these two would wait for an hour.
    client = Client(backend, retry_strategy=RetryStrategy(codes={2001}, backoff=PeriodicBackoff(2, 3_600)))
    bulk = client.bulk(requests(30), concurrency=4, partial_success_threshold=0)
    presser = press_when(lambda: {5, 6} <= set(backend.times) and len(backend.seen) == 7)
    threading.Timer(0.1, release.set).start()
    with pytest.raises(KeyboardInterrupt):
        bulk.run()
    presser.join()
    assert release.is_set()
    assert [item.index for item in bulk.collected.successful] == [0, 1, 2, 5, 6]
    assert bulk.collected.failed == []
    assert gone()

    calls = bulk._fan.returned
    assert sorted(call.places[0][0] for call in calls) == [3, 4]
    for call in calls:
        # Their hour is over, as far as this test goes.
        call._pending[0].due = 0.0
    result = bulk.run()
    assert result.results() == [number * 10 for number in range(30)]
    assert [item.attempts for item in result.items[3:5]] == [2, 2]
    assert max(backend.times.values()) == 2


def test_the_second_ctrl_c_ends_the_wait() -> None:
    release = threading.Event()
    backend = Backend(hold=lambda number: number == 3 and release.wait(10))
    bulk = Client(backend).bulk(requests(10), concurrency=2)
    presser = press_when(lambda: 3 in backend.times, presses=2)
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        bulk.run()
    presser.join()
    assert time.monotonic() - begun < 5
    # What it goes on with is the answer of the one that was not waited for, too.
    release.set()
    assert bulk.run().results() == [number * 10 for number in range(10)]
    assert max(backend.times.values()) == 1


@both_ways
def test_two_of_them_leave_the_with_block(concurrency: int) -> None:
    release = threading.Event()
    backend = Backend(hold=lambda number: number == 3 and release.wait(10))
    begun = time.monotonic()
    presser = press_when(lambda: 3 in backend.times, presses=2)
    with pytest.raises(KeyboardInterrupt), Client(backend).bulk(requests(10), concurrency=concurrency) as bulk:
        try:
            bulk.run()
        except KeyboardInterrupt:
            if concurrency == 1:
                # Nothing is in flight any more, and the second one comes right here.
                time.sleep(5)
            raise
    assert time.monotonic() - begun < 4
    presser.join()
    release.set()
    assert gone()


def test_one_of_them_outside_of_the_loop_waits_for_what_is_in_flight() -> None:
    begun = threading.Event()

    def hold(number: int) -> None:
        if number == 0:
            begun.wait(5)
        else:
            begun.set()
            time.sleep(0.03)

    backend = Backend(hold=hold)
    with pytest.raises(KeyboardInterrupt), Client(backend).bulk(requests(10), concurrency=3) as bulk:
        assert next(bulk).index == 0
        raise KeyboardInterrupt
    assert bulk._fan.done
    assert all(not isinstance(value, Exception) for _, value in bulk._fan.done)


def test_a_call_that_waits_in_a_queue_is_cut() -> None:
    limit = ConcurrencyLimit(1)
    inside, leave = threading.Event(), threading.Event()
    other = Client(Backend(hold=lambda number: (inside.set(), leave.wait(10))), layers=[limit])
    holder = threading.Thread(target=lambda: other.call("get", 0))
    holder.start()
    inside.wait(5)
    backend = Backend()
    bulk = Client(backend, layers=[limit]).bulk(requests(5), concurrency=3)
    presser = press_when(lambda: limit.waiting == 3)
    with pytest.raises(KeyboardInterrupt):
        bulk.run()
    presser.join()
    assert (limit.waiting, limit.in_use, backend.seen) == (0, 1, [])
    leave.set()
    holder.join()
    assert bulk.run().results() == [0, 10, 20, 30, 40]


# --- threads ---


def test_leaving_the_with_block_waits_and_a_later_loop_goes_on() -> None:
    backend = Backend(hold=lambda number: time.sleep(0.002))
    with Client(backend).bulk(requests(40), concurrency=4) as bulk:
        items = taken(bulk, 3)
    before = len(backend.seen)
    assert workers() == [] or gone()
    time.sleep(0.01)
    assert len(backend.seen) == before <= 3 + 8
    items += taken(bulk)
    check(items, backend, 40)


def test_one_that_is_forgotten_leaves_no_thread() -> None:
    bulk: Bulk[Any, Any] | None = Client(Backend()).bulk(requests(1_000), concurrency=4)
    assert bulk is not None
    assert len(taken(bulk, 5)) == 5
    assert workers()
    del bulk
    gc.collect()
    assert gone()


def test_it_takes_as_many_threads_as_there_are_calls_and_none_for_one() -> None:
    names: set[str] = set()
    backend = Backend(hold=lambda number: names.add(threading.current_thread().name))
    Client(backend).bulk(requests(5), concurrency=1).run()
    assert names == {threading.current_thread().name}
    bulk = Client(Backend(hold=lambda number: time.sleep(0.001))).bulk(requests(2), concurrency=50)
    next(bulk)
    assert len(workers()) <= 2
    bulk.run()


def test_threads_have_the_context_of_the_consumer() -> None:
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="")
    seen: set[str] = set()
    name.set("here")
    Client(Backend(hold=lambda number: seen.add(name.get()))).bulk(requests(10), concurrency=3).run()
    assert seen == {"here"}


def test_a_layer_s_queue_lets_all_of_them_through() -> None:
    limit = ConcurrencyLimit(2)
    backend = Backend(hold=lambda number: time.sleep(0.0005))
    result = Client(backend, layers=[limit]).bulk(requests(60), concurrency=8).run()
    assert result.total == 60
    assert (limit.in_use, limit.waiting) == (0, 0)


def test_without_more_threads_those_there_are_do_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    start, started = threading.Thread.start, []

    def refuse(thread: threading.Thread) -> None:
        started.append(thread)
        if len(started) > 1:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    result = Client(Backend()).bulk(requests(20), concurrency=4).run()
    assert result.total == 20


def test_without_any_thread_it_says_so_and_goes_on_when_there_are_some(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    bulk = Client(Backend()).bulk(requests(20), concurrency=4)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        for _ in range(20):
            with pytest.raises(RuntimeError, match="can't start"):
                bulk.run()
    assert bulk.run().results() == [number * 10 for number in range(20)]


def test_an_interrupt_while_a_thread_begins_is_one_though_the_lock_of_threading_complains(monkeypatch: pytest.MonkeyPatch) -> None:
    start, struck = threading.Thread.start, []

    def strike(thread: threading.Thread) -> None:
        start(thread)
        if not struck:
            struck.append(thread)
            try:
                raise KeyboardInterrupt
            finally:
                raise RuntimeError("release unlocked lock")

    backend = Backend()
    bulk = Client(backend).bulk(requests(20), concurrency=4)
    monkeypatch.setattr(threading.Thread, "start", strike)
    with pytest.raises(KeyboardInterrupt):
        bulk.run()
    assert bulk.run().results() == [number * 10 for number in range(20)]
    assert max(backend.times.values()) == 1


def test_virtual_time_passes_in_threads_too() -> None:
    rig = BulkRig("sync", lambda number, time: {"code": 2001, "message": ""} if time <= 2 else number * 10)
    strategy = RetryStrategy(codes={2001}, backoff=PeriodicBackoff(3, 100))
    items = rig.all(requests(12), concurrency=4, _retry_strategy=strategy)
    assert [item.attempts for item in items] == [3] * 12
    # While one waits, time passes for the others.
    assert 2 <= len(rig.time.delays) <= 24
