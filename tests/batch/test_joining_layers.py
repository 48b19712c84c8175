"""An exchange that joined calls share counts once for breakers and budgets; everything else is each call's own."""

from __future__ import annotations

import asyncio
import copy
import datetime
import gc
import pickle
import time
from typing import Any

import pytest
from joining_rig import Server, all_of, answer_to, as_reply, batches_only, client_of, plainly, run
from support import Recorder

import rpcretry
from rpcretry import (
    CircuitBreaker,
    CircuitOpenError,
    CircuitState,
    ConnectionLostError,
    HTTPStatusError,
    JsonRpcError,
    RequestTimeoutError,
    RetryBudget,
    RetryStrategy,
)
from rpcretry.client import Joining
from rpcretry.messages import fresh
from rpcretry.outcome import Attempt, Outcome
from rpcretry.retry import PeriodicBackoff
from rpcretry.transport import Reply, SharedExchange


def gone(document: Any) -> Any:
    return ConnectionLostError("gone")


def failing(*methods: str, code: int = 7) -> Any:
    """A server that answers these methods with an error."""

    def behave(document: Any) -> Any:
        requests = document if isinstance(document, list) else [document]
        answers = [
            {"jsonrpc": "2.0", "id": request["id"], "error": {"code": code, "message": "no"}} if request["method"] in methods else answer_to(request)
            for request in requests
        ]
        return answers if isinstance(document, list) else answers[0]

    return behave


# --- breakers ---


@pytest.mark.parametrize(
    "behave",
    [gone, lambda document: Reply(b"<html>", 502), lambda document: [], lambda document: Reply(b"<html>")],
    ids=["lost", "502", "nothing", "html"],
)
def test_joined_failures_are_one_failure(behave: Any) -> None:
    breaker = CircuitBreaker(failure_threshold=2)
    client = client_of(Server(behave), layers=breaker)

    async def act() -> None:
        for burst in (1, 2):
            assert breaker.state is CircuitState.CLOSED
            failures = await all_of(*(client.call("m") for _ in range(10)))
            assert not any(isinstance(failure, CircuitOpenError) for failure in failures)
            assert breaker.stats.failed == burst
        assert breaker.state is CircuitState.OPEN

    run(act)


def test_without_joining_each_counts() -> None:
    breaker = CircuitBreaker(failure_threshold=100)
    server = Server(gone)

    async def act() -> None:
        await all_of(*(rpcretry.AsyncClient(server, layers=breaker).call("m") for _ in range(10)))
        assert breaker.stats.failed == 10

    run(act)


def test_joined_successes_are_one_success() -> None:
    breaker = CircuitBreaker(failure_rate=0.5, window=10, minimum_calls=4)
    server = Server()
    client = client_of(server, layers=breaker)

    async def act() -> None:
        await all_of(*(client.call("m") for _ in range(50)))
        assert (breaker.stats.successful, breaker.stats.failed) == (1, 0)
        server.behave = gone
        for _ in range(3):
            await all_of(*(client.call("m") for _ in range(50)))
        # One success and three failures, and not 50 of each.
        assert breaker.stats.failed == 3
        assert breaker.state is CircuitState.OPEN

    run(act)


def test_one_success_speaks_for_the_exchange() -> None:
    """A server that leaves most of a batch out, and answers the last: it is alive."""
    breaker = CircuitBreaker(failure_threshold=1)
    client = client_of(Server(lambda document: [answer_to(document[-1])]), layers=breaker)

    async def act() -> None:
        results = await all_of(*(client.call("m") for _ in range(5)))
        assert results[4] == ["m", None, 5]
        assert all(isinstance(result, rpcretry.MissingResponseError) for result in results[:4])
        assert breaker.state is CircuitState.CLOSED
        assert (breaker.stats.successful, breaker.stats.failed) == (1, 0)

    run(act)


def test_an_error_that_the_server_answered_with_comes_before_a_failure() -> None:
    breaker = CircuitBreaker(failure_threshold=1)
    client = client_of(Server(lambda document: failing("m")(document)[1:]), layers=breaker)

    async def act() -> None:
        results = await all_of(client.call("m"), client.call("m"))
        assert [type(result) for result in results] == [rpcretry.MissingResponseError, JsonRpcError]
        assert (breaker.state, breaker.stats.successful, breaker.stats.failed) == (CircuitState.CLOSED, 1, 0)

    run(act)


def test_each_circuit_counts_for_itself() -> None:
    breaker = CircuitBreaker(key="method", failure_threshold=2)
    client = client_of(Server(gone), layers=breaker)

    async def act() -> None:
        await all_of(*(client.call(method) for method in "aabbbc"))
        assert [(key, breaker[key].stats.failed) for key in "abc"] == [("a", 1), ("b", 1), ("c", 1)]
        await all_of(client.call("a"), client.call("a"))
        assert breaker["a"].state is CircuitState.OPEN
        assert breaker["b"].state is CircuitState.CLOSED

    run(act)


def test_two_breakers_count_the_same_exchange() -> None:
    one, two = CircuitBreaker("one"), CircuitBreaker("two", key="method")
    client = client_of(Server(gone), layers=[one, two])

    async def act() -> None:
        await all_of(*(client.call("m") for _ in range(5)))
        assert (one.stats.failed, two["m"].stats.failed) == (1, 1)

    run(act)


def test_joined_probes_are_one_probe_and_hold_no_slot() -> None:
    now = time.monotonic
    breaker = CircuitBreaker(failure_threshold=1, recovery_timeout=0.005, half_open_max_calls=3, success_threshold=2, clock=now)
    server = Server(gone)
    client = client_of(server, layers=breaker)

    async def act() -> None:
        await all_of(client.call("m"))
        assert breaker.state is CircuitState.OPEN
        await asyncio.sleep(0.006)
        server.behave = plainly
        results = await all_of(*(client.call("m") for _ in range(4)))
        assert [isinstance(result, CircuitOpenError) for result in results] == [False, False, False, True]
        # One exchange is no two successes.
        assert breaker.state is CircuitState.HALF_OPEN
        results = await all_of(*(client.call("m") for _ in range(3)))
        assert not any(isinstance(result, Exception) for result in results)
        assert breaker.state is CircuitState.CLOSED

    run(act)


def test_calls_that_go_one_by_one_count_one_by_one() -> None:
    breaker = CircuitBreaker(failure_threshold=100)
    server = Server(batches_only(Reply(b"", 400)))
    client = client_of(server, layers=breaker)

    async def act() -> None:
        await all_of(client.call("a"), client.call("b"))
        assert breaker.stats.successful == 2
        server.behave = gone
        await all_of(client.call("a"), client.call("b"))
        assert breaker.stats.failed == 2

    run(act)


def test_halves_count_each() -> None:
    breaker = CircuitBreaker()
    server = Server(lambda document: Reply(b"", 413) if len(document) > 2 else as_reply(plainly(document)))
    client = client_of(server, layers=breaker)

    async def act() -> None:
        await all_of(*(client.call("m") for _ in range(4)))
        assert server.sizes == [4, 2, 2]
        assert breaker.stats.successful == 2

    run(act)


def test_those_that_are_cut_off_say_nothing_of_the_exchange() -> None:
    """Its own limit ended the one; what the exchange came to is counted besides."""
    breaker = CircuitBreaker()
    server = Server()
    client = client_of(server, layers=breaker)

    async def act() -> None:
        server.gate = asyncio.Event()
        tasks = [asyncio.ensure_future(client.call("m", _timeout=limit)) for limit in (0.005, 0.01, 0.015, 30)]
        await asyncio.sleep(0.02)
        server.gate.set()
        *failures, result = await all_of(*tasks)
        assert [type(failure) for failure in failures] == [RequestTimeoutError] * 3
        assert result[0] == "m"
        assert (breaker.stats.successful, breaker.stats.failed) == (1, 1)

    run(act)


# --- budgets ---

RETRIES = RetryStrategy(exceptions={ConnectionError}, codes={7}, backoff=PeriodicBackoff(attempts=1, interval=0.001))


def test_retries_of_one_exchange_are_paid_once() -> None:
    budget = RetryBudget(capacity=10)
    server = Server()
    server.behave = lambda document: gone(document) if len(server.seen) == 1 else plainly(document)
    client = client_of(server, Joining(max_delay=0.005), layers=budget, retry_strategy=RETRIES)

    async def act() -> None:
        results = await all_of(*(client.call("m", index) for index in range(5)))
        assert results == [["m", [index], index + 1] for index in range(5)]
        assert server.sizes == [5, 5]
        # One retry is paid, and one success brings something back.
        assert budget.level == pytest.approx(9.1)

    run(act)


def test_errors_of_one_exchange_are_paid_once() -> None:
    budget = RetryBudget(capacity=10)
    client = client_of(Server(failing("bad")), layers=budget, retry_strategy=RETRIES)

    async def act() -> None:
        results = await all_of(*(client.call(method) for method in ("bad", "good", "bad", "bad")))
        assert [isinstance(result, JsonRpcError) for result in results] == [True, False, True, True]
        assert budget.level == pytest.approx(9.0)

    run(act)


def test_a_budget_that_cannot_pay_refuses_all() -> None:
    budget = RetryBudget(capacity=1)
    server = Server(gone)
    client = client_of(server, layers=budget, retry_strategy=RETRIES)

    async def act() -> None:
        assert budget.spend()
        failures = await all_of(*(client.call("m") for _ in range(3)))
        assert [type(failure) for failure in failures] == [rpcretry.BudgetExhaustedError] * 3
        assert server.sizes == [3]

    run(act)


def test_the_last_token_pays_for_all_of_an_exchange() -> None:
    budget = RetryBudget(capacity=1)
    server = Server()
    server.behave = lambda document: gone(document) if len(server.seen) == 1 else plainly(document)
    client = client_of(server, layers=budget, retry_strategy=RETRIES)

    async def act() -> None:
        results = await all_of(*(client.call("m") for _ in range(3)))
        assert not any(isinstance(result, Exception) for result in results)

    run(act)


def test_who_pays_and_then_stops_is_paid_back_and_the_next_one_pays() -> None:
    budget = RetryBudget(capacity=10)
    server = Server()
    server.behave = lambda document: gone(document) if len(server.seen) == 1 else plainly(document)
    client = client_of(server, layers=budget, retry_strategy=RetryStrategy(exceptions={ConnectionError}, backoff=PeriodicBackoff(attempts=1, interval=0.02)))

    async def act() -> None:
        # The deadline forbids the first one's wait.
        first, second, third = await all_of(client.call("m", _deadline=0.015), client.call("m"), client.call("m"))
        assert isinstance(first, rpcretry.DeadlineExceeded)
        assert (second[0], third[0]) == ("m", "m")
        assert budget.level == pytest.approx(9.1)

    run(act)


def test_nobody_goes_again_and_nothing_is_paid() -> None:
    budget = RetryBudget(capacity=10)
    client = client_of(Server(gone), layers=budget, retry_strategy=RetryStrategy(exceptions={ConnectionError}, backoff=PeriodicBackoff(attempts=1, interval=9)))

    async def act() -> None:
        await all_of(*(client.call("m", _deadline=0.5) for _ in range(3)))
        assert budget.level == 10

    run(act)


def test_successes_of_one_exchange_refund_once() -> None:
    budget = RetryBudget(capacity=10)
    client = client_of(Server(), layers=budget)

    async def act() -> None:
        for _ in range(5):
            assert budget.spend()
        await all_of(*(client.call("m") for _ in range(10)))
        assert budget.level == pytest.approx(5.1)
        await client.call("m")
        assert budget.level == pytest.approx(5.2)

    run(act)


# --- what is each call's own ---


def test_each_has_tries_and_delays_of_its_own() -> None:
    server = Server()
    server.behave = lambda document: gone(document) if len(server.seen) == 1 else plainly(document)
    client = client_of(server)
    quick = RetryStrategy(exceptions={ConnectionError}, backoff=PeriodicBackoff(attempts=1, interval=0.001))
    slow = RetryStrategy(exceptions={ConnectionError}, backoff=PeriodicBackoff(attempts=1, interval=0.01))

    async def act() -> None:
        results = await all_of(
            client.call("a", _retry_strategy=quick), client.call("b"), client.call("c", _retry_strategy=slow), client.call("d", _retry_strategy=quick)
        )
        assert isinstance(results[1], ConnectionLostError)
        assert [results[index][0] for index in (0, 2, 3)] == ["a", "c", "d"]
        # The ids are kept, and those whose delays are equal meet again.
        methods = [[request["method"] for request in (document if isinstance(document, list) else [document])] for document in server.seen]
        assert methods[0] == ["a", "b", "c", "d"]
        assert sorted(method for document in methods[1:] for method in document) == ["a", "c", "d"]
        assert {request["id"] for document in server.seen[1:] for request in (document if isinstance(document, list) else [document])} == {1, 3, 4}

    run(act)


def test_only_what_failed_goes_again() -> None:
    server = Server(failing("bad"))
    client = client_of(server, retry_strategy=RETRIES)

    async def act() -> None:
        results = await all_of(client.send(rpcretry.Request("good")), client.send(rpcretry.Request("bad")))
        assert (results[0].result[0], results[0].attempts) == ("good", 1)
        assert (results[1].error.code, results[1].attempts) == (7, 2)
        assert [document if isinstance(document, list) else document["method"] for document in server.seen[1:]] == ["bad"]

    run(act)


def test_fallbacks_are_each_calls_own() -> None:
    client = client_of(Server(gone))

    async def act() -> None:
        results = await all_of(client.call("a", _fallback=rpcretry.Fallback(5)), client.call("b"))
        assert (results[0], type(results[1])) == (5, ConnectionLostError)

    run(act)


def test_layers_see_each_call_once() -> None:
    layer = Recorder()
    client = client_of(Server(failing("bad")), layers=layer)

    async def act() -> None:
        await all_of(client.call("good"), client.call("bad"))
        assert (layer.count("admit"), layer.count("settle"), layer.count("abandon")) == (2, 2, 0)
        good, bad = (outcome for (outcome,) in layer.outcomes)
        assert good.shared is bad.shared is not None
        assert good.result[0] == "good"

    run(act)


# --- the mark ---


def test_an_outcome_without_company_has_no_mark() -> None:
    layer = Recorder()
    client = client_of(Server(), layers=layer)

    async def act() -> None:
        await client.call("m")
        assert layer.outcomes[0][0].shared is None

    run(act)
    assert Outcome(5).shared is None
    assert Outcome(error=ConnectionLostError()).shared is None
    assert Outcome(error=ValueError()).shared is None


def test_the_mark_survives_copies_and_no_pickle() -> None:
    client = client_of(Server(lambda document: Reply(b"<html>", 502)))

    async def act() -> None:
        failures = await all_of(client.call("a"), client.call("b"))
        marks = [Outcome(error=failure).shared for failure in failures]
        assert marks[0] is marks[1] is not None
        for failure in failures:
            assert Outcome(error=fresh(failure)).shared is marks[0]
            for twin in (pickle.loads(pickle.dumps(failure)), copy.deepcopy(failure)):
                assert (type(twin), twin.status, str(twin)) == (HTTPStatusError, 502, str(failure))
                assert Outcome(error=twin).shared is None

    run(act)


def test_somebody_elses_exception_is_marked_too() -> None:
    class Slotted(Exception):
        __slots__ = ()

    for problem in (OSError(5, "odd"), Slotted("odd")):
        layer = Recorder()
        client = client_of(Server(lambda document, problem=problem: problem), layers=layer)

        async def act(layer: Recorder = layer, client: Any = client, problem: Exception = problem) -> None:
            failures = await all_of(client.call("a"), client.call("b"))
            assert [type(failure) for failure in failures] == [type(problem)] * 2
            assert [failure.args for failure in failures] == [problem.args] * 2
            one, two = (outcome for (outcome,) in layer.outcomes)
            assert one.shared is two.shared is not None

        run(act)


def test_whoever_does_not_pay_goes_along_with_who_did() -> None:
    """Delays that are spread would make an exchange of each joined call, for the price of one."""
    budget = RetryBudget(capacity=100)
    server = Server()
    server.behave = lambda document: gone(document) if len(server.seen) == 1 else plainly(document)
    spread = iter([0.01 + 0.001 * (number * 37 % 40) for number in range(40)])
    strategy = RetryStrategy(exceptions={ConnectionError}, backoff=lambda: iter([next(spread)]))
    client = client_of(server, layers=budget, retry_strategy=strategy)

    async def act() -> None:
        results = await all_of(*(client.call("m", number) for number in range(40)))
        assert [result[1] for result in results] == [[number] for number in range(40)]
        paid = 100 - budget.level + 0.1 * (len(server.seen) - 1)
        assert 1 <= round(paid) <= 4
        assert len(server.seen) - 1 <= 10

    run(act)


def test_a_delay_is_not_lengthened_past_the_deadline() -> None:
    budget = RetryBudget(capacity=100)
    server = Server()
    server.behave = lambda document: gone(document) if len(server.seen) == 1 else plainly(document)
    delays = iter([0.04, 0.001])
    client = client_of(server, layers=budget, retry_strategy=RetryStrategy(exceptions={ConnectionError}, backoff=lambda: iter([next(delays)])))

    async def act() -> None:
        results = await all_of(client.call("m", 1), client.call("m", 2, _deadline=0.03))
        assert not any(isinstance(result, Exception) for result in results)
        assert budget.level == pytest.approx(98.1, abs=0.15)

    run(act)


def test_a_mark_is_claimed_once_by_each() -> None:
    mark = SharedExchange()
    assert [mark.claim("a"), mark.claim("a"), mark.claim("b")] == [True, False, True]
    mark.forget("a")
    mark.forget("a")
    assert [mark.claim("a"), mark.claim("a"), mark.claim("b")] == [True, False, False]
    mark.note("c", 1.5)
    assert (mark.noted("c"), mark.noted("d")) == (1.5, None)


def test_windows_of_time_count_exchanges() -> None:
    breaker = CircuitBreaker(failure_rate=1.0, window=datetime.timedelta(seconds=60), minimum_calls=3)
    client = client_of(Server(gone), layers=breaker)

    async def act() -> None:
        for opened in (False, False, True):
            await all_of(*(client.call("m") for _ in range(4)))
            assert breaker.is_open is opened

    run(act)


def test_settling_costs_no_attempt_its_mark() -> None:
    """An attempt that is dropped with its outcomes keeps no breaker alive through the mark, nor the reverse."""
    breaker = CircuitBreaker()
    client = client_of(Server(gone), layers=breaker)

    async def act() -> None:
        await all_of(client.call("a"), client.call("b"))
        gc.collect()
        assert not [found for found in gc.get_objects() if type(found) is Attempt and found.operation in "ab"]

    run(act)
