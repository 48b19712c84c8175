"""Joined calls that are cancelled, run out of time, are interrupted or closed: each ends for itself, and nothing is left."""

from __future__ import annotations

import asyncio
import gc
import math
import threading
import time
import weakref
from typing import Any

import pytest
from joining_rig import Server, all_of, batches_only, client_of, plainly, run
from support import no_collector

import rpcretry.backends.aiohttp
from rpcretry import AsyncClient, ClientClosedError, DeadlineExceeded, Delivery, Request, RequestTimeoutError
from rpcretry.client import Joining
from rpcretry.testing import SILENCE, LoopbackServer, Received, rpc
from rpcretry.transport import Exchange, Reply


async def sent(server: Server) -> None:
    while not server.seen:
        await asyncio.sleep(0)


# --- cancelled ---


@pytest.mark.parametrize("chosen", [0, 1, 2])
def test_one_that_leaves_before_sending_is_not_sent(chosen: int) -> None:
    server = Server()
    client = client_of(server)

    async def act() -> None:
        tasks = [asyncio.ensure_future(client.call("m", index)) for index in range(3)]
        # They have made their calls, and wait for the end of the turn.
        asyncio.get_running_loop().call_soon(tasks[chosen].cancel)
        results = await all_of(*tasks)
        assert isinstance(results[chosen], asyncio.CancelledError)
        others = [index for index in range(3) if index != chosen]
        assert [results[index] for index in others] == [["m", [index], index + 1] for index in others]
        assert [request["params"] for request in server.seen[0]] == [[index] for index in others]

    run(act)


@pytest.mark.parametrize("chosen", [0, 1, 2])
def test_one_that_leaves_while_they_wait_for_more(chosen: int) -> None:
    server = Server()
    client = client_of(server, Joining(max_delay=0.05))

    async def act() -> None:
        tasks = [asyncio.ensure_future(client.call("m", index)) for index in range(3)]
        await asyncio.sleep(0.001)
        tasks[chosen].cancel()
        results = await all_of(*tasks)
        assert sum(isinstance(result, list) for result in results) == 2
        assert server.sizes == [2]
        assert chosen not in [request["params"][0] for request in server.seen[0]]

    run(act)


def test_the_last_one_that_stays_goes_alone() -> None:
    server = Server()
    client = client_of(server, Joining(max_delay=0.05))

    async def act() -> None:
        tasks = [asyncio.ensure_future(client.call("m", index)) for index in range(3)]
        await asyncio.sleep(0.001)
        for task in tasks[:2]:
            task.cancel()
        assert (await all_of(*tasks))[2] == ["m", [2], 3]
        assert server.sizes == [0]

    run(act)


@pytest.mark.parametrize("delay", [0.0, 5.0])
def test_all_leave_before_sending(delay: float) -> None:
    server = Server()
    client = client_of(server, Joining(max_delay=delay))

    async def act() -> None:
        tasks = [asyncio.ensure_future(client.call("m")) for _ in range(3)]
        asyncio.get_running_loop().call_soon(lambda: [task.cancel() for task in tasks])
        await all_of(*tasks)
        assert server.seen == []
        # Nothing of theirs stands in the way of the next, and no timer is left.
        assert (await asyncio.wait_for(client.call("m", _timeout=0.01), 5))[0] == "m"

    run(act)


@pytest.mark.parametrize("chosen", [0, 1, 2])
def test_one_that_leaves_while_under_way_harms_nobody(chosen: int) -> None:
    server = Server()
    client = client_of(server)

    async def act() -> None:
        server.gate = asyncio.Event()
        tasks = [asyncio.ensure_future(client.call("m", index)) for index in range(3)]
        await sent(server)
        tasks[chosen].cancel("enough")
        with pytest.raises(asyncio.CancelledError, match="enough"):
            await tasks[chosen]
        assert tasks[chosen].cancelled()
        server.gate.set()
        results = await all_of(*tasks)
        assert [result for index, result in enumerate(results) if index != chosen] == [["m", [index], index + 1] for index in range(3) if index != chosen]
        assert server.cancelled == 0

    run(act)


def test_when_all_have_left_the_exchange_is_cancelled() -> None:
    server = Server()
    client = client_of(server)

    async def act() -> None:
        server.gate = asyncio.Event()
        tasks = [asyncio.ensure_future(client.call("m", index)) for index in range(3)]
        await sent(server)
        for task in tasks:
            assert server.cancelled == 0
            task.cancel()
            await asyncio.sleep(0)
        await all_of(*tasks)
        await asyncio.sleep(0)
        assert server.cancelled == 1

    run(act)


def test_a_cancel_in_the_turn_of_the_answer_is_a_cancel() -> None:
    server = Server()
    client = client_of(server)

    async def act() -> None:
        server.gate = asyncio.Event()
        tasks = [asyncio.ensure_future(client.call("m", index)) for index in range(2)]
        await sent(server)
        server.gate.set()
        # The server goes on, answers, and hands the answers out; only then have the callers their turn.
        server.behave = lambda document: (asyncio.get_running_loop().call_soon(tasks[0].cancel), plainly(document))[1]
        results = await all_of(*tasks)
        assert isinstance(results[0], asyncio.CancelledError)
        assert results[1] == ["m", [1], 2]

    run(act)


class Stepping:
    """Cancels one of the calls after so many turns of the loop, whatever it does then."""

    def __init__(self, behave: Any = plainly, **joining: Any) -> None:
        self.server = Server(behave)
        self.client = client_of(self.server, Joining(**joining))

    async def run(self, chosen: int, turns: int) -> bool:
        """Returns whether it was over before."""
        tasks = [asyncio.ensure_future(self.client.call("get", index % 2)) for index in range(4)]
        for _ in range(turns):
            await asyncio.sleep(0)
        over = tasks[chosen].done()
        tasks[chosen].cancel()
        results = await asyncio.wait_for(all_of(*tasks), 5)
        for index, result in enumerate(results):
            if index != chosen or over:
                assert result[:2] == ["get", [index % 2]]
            else:
                assert isinstance(result, asyncio.CancelledError)
        joined: Any = self.client._joined
        assert (joined._open, joined._shareable) == ({}, {})
        return over


@pytest.mark.parametrize("chosen", [0, 1, 3])
@pytest.mark.parametrize(
    ("behave", "joining"),
    [
        (plainly, {}),
        (plainly, {"dedupe": "get"}),
        (plainly, {"max_size": 2}),
        (batches_only(Reply(b"", 400)), {}),
        (batches_only(Reply(b"", 400)), {"dedupe": "get"}),
        (batches_only(Reply(b"", 413)), {}),
    ],
    ids=["joined", "shared", "two batches", "refused", "refused and shared", "too large"],
)
def test_cancelled_in_every_turn(chosen: int, behave: Any, joining: dict[str, Any]) -> None:
    async def act() -> int:
        for turns in range(60):
            if await Stepping(behave, **joining).run(chosen, turns):
                return turns
        raise AssertionError("it never ended")

    # As many turns as it takes a call from its beginning to its end.
    assert run(act) >= 4


def test_a_cancelled_trial_leaves_the_others_theirs() -> None:
    server = Server(batches_only(Reply(b"", 400)))
    client = client_of(server)

    async def act() -> None:
        tasks = [asyncio.ensure_future(client.call("m", index)) for index in range(3)]
        while len(server.seen) < 4:
            await asyncio.sleep(0)
        tasks[1].cancel()
        results = await all_of(*tasks)
        assert (results[0], results[2]) == (["m", [0], 1], ["m", [2], 3])
        server.seen.clear()
        await all_of(client.call("m"), client.call("m"))
        assert server.sizes == [0, 0]

    run(act)


def test_a_backend_that_is_cancelled_from_elsewhere_cancels_the_calls() -> None:
    class Cancelling(Server):
        async def exchange(self, exchange: Exchange, /) -> Reply:
            await asyncio.sleep(0)
            raise asyncio.CancelledError

    async def act() -> None:
        client = client_of(Cancelling())
        results = await asyncio.wait_for(all_of(client.call("a"), client.call("b")), 5)
        assert [type(result) for result in results] == [asyncio.CancelledError] * 2

    run(act)


# --- out of time ---


def test_each_has_a_limit_of_its_own() -> None:
    server = Server()
    client = client_of(server)

    async def act() -> None:
        server.gate = asyncio.Event()
        began = time.monotonic()
        ends: dict[int, float] = {}

        async def one(index: int, limit: float | None) -> Any:
            try:
                return await client.call("m", index, _timeout=limit)
            finally:
                ends[index] = time.monotonic() - began

        tasks = [asyncio.ensure_future(one(index, limit)) for index, limit in enumerate([0.01, 0.03, None])]
        await asyncio.sleep(0.045)
        server.gate.set()
        results = await all_of(*tasks)
        assert server.sizes == [3]
        assert [(type(result), result.delivery) for result in results[:2]] == [(RequestTimeoutError, Delivery.MAYBE_EXECUTED)] * 2
        assert results[2] == ["m", [2], 3]
        assert 0.009 < ends[0] < 0.029 < ends[1] < 0.044 < ends[2]
        assert server.exchanges[0].ends_by == math.inf

    run(act)


def test_the_exchange_ends_with_the_last_of_those_that_are_near() -> None:
    server = Server()
    client = client_of(server)

    async def act() -> None:
        await all_of(*(client.call("m", _timeout=limit) for limit in (5.0, 9.9985, 10.0)))
        left = server.exchanges[0].ends_by - time.monotonic()
        # The smallest of those near to the largest, so that the backend, which knows what was sent, ends them.
        assert 9.9 < left < 9.9986

    run(act)


def test_calls_of_one_turn_leave_no_timer() -> None:
    server = Server()
    client = client_of(server, timeout=30.0)

    async def act() -> None:
        server.gate = asyncio.Event()
        tasks = [asyncio.ensure_future(client.call("m")) for _ in range(20)]
        await sent(server)
        loop: Any = asyncio.get_running_loop()
        assert loop._scheduled == []
        server.gate.set()
        await all_of(*tasks)

    run(act)


def test_one_whose_time_is_over_before_it_goes_is_not_sent() -> None:
    server = Server()
    client = client_of(server)

    async def act() -> None:
        tasks = [asyncio.ensure_future(client.call("m", index, _timeout=limit)) for index, limit in enumerate([0.005, 5, 5])]
        # The loop is held up between the calls and the end of their turn.
        asyncio.get_running_loop().call_soon(time.sleep, 0.01)
        results = await all_of(*tasks)
        assert (type(results[0]), results[0].delivery) == (RequestTimeoutError, Delivery.NOT_SENT)
        assert results[1:] == [["m", [1], 2], ["m", [2], 3]]
        assert server.sizes == [2]

    run(act)


def test_one_that_cannot_wait_takes_the_others_with_it() -> None:
    server = Server()
    client = client_of(server, Joining(max_delay=50))

    async def act() -> None:
        began = time.monotonic()
        results = await all_of(client.call("a"), client.call("b", _timeout=10), client.call("c"))
        assert [result[0] for result in results] == ["a", "b", "c"]
        assert server.sizes == [3]
        assert time.monotonic() - began < 5

    run(act)


def test_a_deadline_ends_one_call() -> None:
    server = Server()
    client = client_of(server)

    async def act() -> None:
        server.gate = asyncio.Event()
        tasks = [asyncio.ensure_future(client.call("m", _deadline=0.01)), asyncio.ensure_future(client.call("n"))]
        with pytest.raises(DeadlineExceeded):
            await tasks[0]
        server.gate.set()
        assert await tasks[1] == ["n", None, 2]

    run(act)


def test_deadlines_that_are_near_are_deadlines() -> None:
    """The exchange ends a little before the last of them; the engine still knows whose end it was."""

    class Limited(Server):
        async def exchange(self, exchange: Exchange, /) -> Reply:
            self.seen.append(exchange)
            await asyncio.sleep(exchange.ends_by - time.monotonic())
            raise RequestTimeoutError("too slow")

    client = client_of(Limited())

    async def act() -> None:
        failures = await all_of(*(client.call("m", _deadline=0.02 + index * 0.001) for index in range(8)))
        assert {type(failure) for failure in failures} == {DeadlineExceeded}

    run(act)


def test_when_all_limits_are_over_the_exchange_is_cancelled() -> None:
    server = Server()
    client = client_of(server)

    async def act() -> None:
        server.gate = asyncio.Event()
        tasks = [asyncio.ensure_future(client.call("m", _timeout=0.005)), asyncio.ensure_future(client.call("m", _timeout=5))]
        await sent(server)
        tasks[1].cancel()
        assert isinstance((await all_of(*tasks))[0], RequestTimeoutError)
        await asyncio.sleep(0)
        assert server.cancelled == 1

    run(act)


def test_over_aiohttp_the_backend_ends_it() -> None:
    def silent(request: Received) -> Any:
        return SILENCE

    with LoopbackServer(silent) as loopback:

        async def act() -> None:
            async with rpcretry.backends.aiohttp.Client(loopback.url, joining=True, timeout=0.03) as client:
                failures = await all_of(*(client.call("m") for _ in range(5)))
                assert [(type(failure), failure.delivery) for failure in failures] == [(RequestTimeoutError, Delivery.MAYBE_EXECUTED)] * 5
                assert len(loopback.bodies) == 1

        asyncio.run(act())


# --- nothing is kept ---


class Kept(dict[str, int]):
    pass


@pytest.mark.parametrize("how", ["answered", "failed", "cancelled", "alone"])
def test_nothing_keeps_a_call(how: str) -> None:
    server = Server((lambda document: rpcretry.ConnectionLostError("gone")) if how == "failed" else plainly)
    client = client_of(server)

    async def act() -> None:
        params = Kept(a=1)
        gone = weakref.ref(params)
        calls = [client.send(Request("m", params))]
        if how != "alone":
            calls.append(client.send(Request("n")))
        del params
        tasks = [asyncio.ensure_future(call) for call in calls]
        del calls
        if how == "cancelled":
            server.gate = asyncio.Event()
            await sent(server)
            tasks[0].cancel()
            server.gate.set()
        results = await all_of(*tasks)
        del tasks
        server.exchanges.clear()
        # The failure of the one keeps none of the other's frames, nor its own in a circle.
        del results
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert gone() is None

    with no_collector():
        asyncio.run(act())


def test_a_failure_that_is_kept_keeps_no_other_calls_request() -> None:
    server = Server(lambda document: rpcretry.ConnectionLostError("gone"))
    client = client_of(server)

    async def act() -> None:
        params = Kept(a=1)
        gone = weakref.ref(params)
        kept, _ = await all_of(client.call("m"), client.send(Request("n", params)))
        del params, _
        server.exchanges.clear()
        await asyncio.sleep(0)
        assert gone() is None
        assert kept.__traceback__ is not None

    with no_collector():
        asyncio.run(act())


# --- closed, interrupted, and other loops ---


def test_closing_ends_those_that_wait() -> None:
    server = Server()
    client = client_of(server, Joining(max_delay=5.0))

    async def act() -> None:
        tasks = [asyncio.ensure_future(client.call("m", _timeout=None)) for _ in range(3)]
        await asyncio.sleep(0.001)
        await client.aclose()
        failures = await all_of(*tasks)
        assert [(type(failure), failure.delivery) for failure in failures] == [(ClientClosedError, Delivery.NOT_SENT)] * 3
        assert len({id(failure) for failure in failures}) == 3
        assert (server.seen, server.closed) == ([], True)

    run(act)


def test_closing_in_the_turn_of_the_calls() -> None:
    server = Server()
    client = client_of(server)

    async def act() -> None:
        tasks = [asyncio.ensure_future(client.call("m")) for _ in range(2)]
        closing = asyncio.ensure_future(client.aclose())
        failures = await all_of(*tasks)
        await closing
        assert [type(failure) for failure in failures] == [ClientClosedError] * 2
        assert server.seen == []

    run(act)


def test_a_middleware_finds_it_closed() -> None:
    server = Server()

    async def slow(exchange: Exchange, next: Any) -> Reply:
        await asyncio.sleep(0.002)
        reply: Reply = await next(exchange)
        return reply

    client = client_of(server, middlewares=slow)

    async def act() -> None:
        task = asyncio.ensure_future(client.call("m"))
        await asyncio.sleep(0)
        await client.aclose()
        with pytest.raises(ClientClosedError):
            await task
        assert server.seen == []

    run(act)


def test_closing_aiohttp_with_joined_calls_under_way() -> None:
    with LoopbackServer(lambda request: SILENCE) as loopback:

        async def act() -> None:
            client = rpcretry.backends.aiohttp.Client(loopback.url, joining=True)
            tasks = [asyncio.ensure_future(client.call("m")) for _ in range(3)]
            while not loopback.bodies:
                await asyncio.sleep(0.001)
            await client.aclose()
            failures = await asyncio.wait_for(all_of(*tasks), 5)
            assert all(isinstance(failure, (ConnectionError, ClientClosedError)) for failure in failures)

        asyncio.run(act())


@pytest.mark.parametrize("place", ["clock", "exchange"])
@pytest.mark.parametrize("delay", [0.0, 0.001])
def test_an_interrupt_leaves_nobody_waiting(place: str, delay: float) -> None:
    """Ctrl-C in the middle of sending, in a loop that is then run again."""
    strikes = iter([True])

    def strike() -> None:
        if next(strikes, False):
            raise KeyboardInterrupt

    class Struck(Server):
        async def exchange(self, exchange: Exchange, /) -> Reply:
            if place == "exchange":
                strike()
            return await super().exchange(exchange)

    server = Struck()
    client = client_of(server, Joining(max_delay=delay))
    joined: Any = client._joined
    if place == "clock":
        joined._start = lambda *_, start=joined._start: (strike(), start(*_))
    loop = asyncio.new_event_loop()
    try:
        tasks = [loop.create_task(client.call("m")) for _ in range(3)]
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(all_of(*tasks))
        results = loop.run_until_complete(asyncio.wait_for(asyncio.wait(tasks), 5))
        failures = [task.exception() for task in tasks if not task.cancelled()]
        assert len(results[1]) == 0
        assert all(isinstance(failure, (rpcretry.TransportError, KeyboardInterrupt)) for failure in failures)
        assert any(isinstance(failure, rpcretry.TransportError) for failure in failures)
        assert loop.run_until_complete(client.call("n"))[0] == "n"
    finally:
        loop.close()


def test_one_loop_after_the_other() -> None:
    server = Server()
    client = client_of(server)

    async def act() -> None:
        server.seen.clear()
        await all_of(client.call("a"), client.call("b"))
        assert server.sizes == [2]

    for _ in range(3):
        run(act)


def test_a_loop_that_died_with_calls_in_it_is_forgotten() -> None:
    server = Server()
    client = client_of(server, Joining(max_delay=5.0))
    loop = asyncio.new_event_loop()
    tasks = [loop.create_task(client.call("m", _timeout=None)) for _ in range(2)]
    loop.run_until_complete(asyncio.sleep(0.001))
    for task in tasks:
        task.cancel()
    loop.run_until_complete(all_of(*tasks))
    loop.close()

    async def act() -> None:
        assert (await client.call("n", _timeout=0.1))[0] == "n"

    run(act)


def test_two_loops_at_once() -> None:
    server = Server()
    client = client_of(server)
    barrier = threading.Barrier(2)
    wrong: list[Any] = []

    async def act(name: str) -> None:
        for burst in range(20):
            results = await all_of(*(client.call(name, index) for index in range(10)))
            if [result[:2] for result in results] != [[name, [index]] for index in range(10)]:
                wrong.append((burst, results))

    def work(name: str) -> None:
        barrier.wait(5)
        asyncio.run(act(name))

    threads = [threading.Thread(target=work, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert wrong == []
    # Those of one loop never wait for those of the other.
    assert all(len({request["method"] for request in document}) == 1 for document in server.seen)


def test_an_aiohttp_client_in_another_loop_says_so() -> None:
    with LoopbackServer(rpc({"m": lambda: 1})) as loopback:
        client = rpcretry.backends.aiohttp.Client(loopback.url, joining=True)
        loop = asyncio.new_event_loop()
        try:
            assert loop.run_until_complete(client.call("m")) == 1

            async def act() -> None:
                failures = await asyncio.wait_for(all_of(client.call("m"), client.call("m")), 5)
                assert [type(failure) for failure in failures] == [RuntimeError] * 2
                assert "another loop" in str(failures[0])

            asyncio.run(act())
            loop.run_until_complete(client.aclose())
        finally:
            loop.close()


def test_a_client_that_is_dropped_with_its_loop_warns_of_nothing() -> None:
    server = Server()

    async def main() -> None:
        client = AsyncClient(server, joining=Joining())
        server.gate = asyncio.Event()
        tasks = [asyncio.ensure_future(client.call("m")) for _ in range(2)]
        await sent(server)
        del client, tasks

    # asyncio.run cancels what is left.
    asyncio.run(main())
    assert server.cancelled == 1
    gc.collect()
