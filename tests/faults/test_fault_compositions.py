"""Toxics together, drawn: whatever the server does, a call gets its own right result or an error that is documented, and the next one is well."""

from __future__ import annotations

import asyncio
import re
import threading
from collections import Counter
from typing import Any

import pytest
from fault_rig import LIMIT, LINGERING, METHODS, OF_BATCHES, REPEATED, SINGLE
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wire import Wire, both

import rpcretry.backends.aiohttp
import rpcretry.backends.requests
import rpcretry.layers
from rpcretry import BatchRequest, Delivery, Request, RpcRetryError
from rpcretry.events import RetryScheduled
from rpcretry.retry import ImmediateBackoff, PeriodicBackoff, RetryStrategy
from rpcretry.testing.faults import (
    Close,
    Drip,
    FaultServer,
    GzipBomb,
    Huge,
    InTurn,
    Latency,
    LongHeader,
    Mix,
    Reset,
    RetryAfter,
    RpcError,
    Status,
    Toxic,
    Truncate,
)

# Those that are over at once: what hangs has its own tests.
SLOW = (Drip("body", 0.0001), LongHeader(), GzipBomb, Huge)
QUICK = [case.toxic for case in SINGLE if not case.hangs and case.toxic not in SLOW and type(case.toxic) not in SLOW] + OF_BATCHES + LINGERING[1:]
TIMEOUT = 2


def attempt(client: Wire, act: Any) -> Any:
    try:
        return client.run(act)
    except RpcRetryError as problem:
        return problem


def check(server: FaultServer, client: Wire, toxics: list[Toxic], token: int) -> None:
    harmless = all(toxic.harmless for toxic in toxics)
    server.faults = toxics
    found = attempt(client, lambda: client.client.call("add", token, 1, _timeout=TIMEOUT))
    times = server.times("add", token, 1)
    if isinstance(found, RpcRetryError):
        assert not harmless, (toxics, found)
        assert not (found.delivery is Delivery.NOT_SENT and times), (toxics, found)
    else:
        assert found == token + 1, toxics
        assert times == 1
    assert times <= 1
    # From here on the connection may not be what it was.
    lingering = any(toxic.lingers for toxic in toxics)
    harmless = harmless and not lingering
    batch = BatchRequest(Request("add", [token, 2]), Request("add", [token, 3], id=None), Request("add", [token, 4]))
    found = attempt(client, lambda: client.client.send(batch, _timeout=TIMEOUT))
    if isinstance(found, RpcRetryError):
        assert not harmless, (toxics, found)
    else:
        for one, extra in zip(found, (2, 4), strict=True):
            if one.is_success:
                assert one.result == token + extra, toxics
            else:
                assert isinstance(one.error, RpcRetryError), toxics
                assert not harmless, (toxics, one.error)
                assert not (one.error.delivery is Delivery.NOT_SENT and server.times("add", token, extra))
    assert all(server.times("add", token, extra) <= 1 for extra in (2, 3, 4))
    server.faults = None
    # What comes late, an answer in pieces, the pool may learn of late as well. That costs a try, and never means a wrong answer.
    for extra in (5, 6, 7):
        found = attempt(client, lambda extra=extra: client.client.call("add", token, extra, _retry_strategy=REPEATED))
        assert found == token + extra or (lingering and isinstance(found, RpcRetryError)), (toxics, found)


@both
def test_two_or_three_at_once(kind: str) -> None:
    with FaultServer(METHODS) as server, Wire(kind, server.url, max_response_size=LIMIT) as client:
        tokens = iter(range(1_000_000))

        @settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
        @given(st.lists(st.sampled_from(QUICK), min_size=1, max_size=3))
        def attack(toxics: list[Toxic]) -> None:
            check(server, client, toxics, 10 * next(tokens))

        attack()


# --- many at once, by seed ---

MIX = Mix(
    {
        Latency((0.0, 0.002)): 4,
        Drip("all", 0.0001, 32): 2,
        Reset("executed"): 2,
        Reset("read"): 2,
        Close("end"): 2,
        Truncate(0.5): 2,
        (Status(503, retry_after=0), Drip("body", 0.0001, 8)): 2,
        Status(502): 2,
        RpcError(-32005): 2,
    },
    rate=0.5,
    keyed=lambda arrival: [call.params for call in arrival.calls],
)
PATIENT = RetryStrategy(
    idempotent=True, codes={-32005}, statuses={502, 503}, exceptions={ConnectionError}, backoff=PeriodicBackoff(attempts=30, interval=0.001)
)


def storm(kind: str, url: str, tokens: range, workers: int) -> dict[int, Any]:
    """What each token came to, from several threads or tasks."""
    found: dict[int, Any] = {}
    if kind == "requests":
        with rpcretry.backends.requests.Client(url, retry_strategy=PATIENT) as client:

            def work(start: int) -> None:
                for token in tokens[start::workers]:
                    found[token] = client.call("add", token, 1)

            threads = [threading.Thread(target=work, args=(start,)) for start in range(workers)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        return found

    async def main() -> None:
        async with rpcretry.backends.aiohttp.Client(url, retry_strategy=PATIENT) as client:

            async def work(start: int) -> None:
                for token in tokens[start::workers]:
                    found[token] = await client.call("add", token, 1)

            await asyncio.gather(*map(work, range(workers)))

    asyncio.run(main())
    return found


@both
def test_many_at_once_and_each_call_meets_the_same_faults_again(kind: str) -> None:
    tokens = range(120)
    runs = []
    for workers in (8, 3):
        with FaultServer(METHODS, MIX, seed=11) as server:
            assert storm(kind, server.url, tokens, workers) == {token: token + 1 for token in tokens}
            met: dict[str, list[Any]] = {}
            for entry in server.log:
                # Where a connection was closed under a request, that is repeated; a try that never arrived is not in the log.
                if entry.calls:
                    met.setdefault(entry.calls[0].params, []).append(entry.toxics)
            runs.append({params: toxics[0] for params, toxics in met.items()})
            assert sum(server.executed.values()) >= len(tokens)
    assert runs[0] == runs[1]
    assert len(Counter(runs[0].values())) > 5


# --- what is repeated, and what is not ---


@both
def test_what_is_idempotent_ends_well(kind: str) -> None:
    faults = InTurn(Reset("body"), Status(503, retry_after=0), Truncate(), Close("executed"), None)
    with FaultServer(METHODS, faults) as server, Wire(kind, server.url, retry_strategy=REPEATED) as client:
        assert client.call("add", 1, 1) == 2
        assert [(entry.executed, entry.status) for entry in server.log] == [(True, 200), (False, 503), (True, 200), (True, None), (True, 200)]
        assert server.times("add", 1, 1) == 4


@both
@pytest.mark.parametrize("toxic", [Reset("executed"), Reset("head"), Reset("body"), Close("executed"), Truncate(), Status(502, executed=True)], ids=repr)
def test_what_is_not_idempotent_is_executed_once(kind: str, toxic: Toxic) -> None:
    strategy = RetryStrategy(backoff=ImmediateBackoff(attempts=5))
    with FaultServer(METHODS, toxic) as server, Wire(kind, server.url, retry_strategy=strategy) as client:
        found = attempt(client, lambda: client.client.call("add", 1, 1))
        assert isinstance(found, RpcRetryError)
        assert found.delivery is Delivery.MAYBE_EXECUTED
        assert server.times("add", 1, 1) == 1
        assert len(server.log) == 1


@both
@pytest.mark.parametrize("toxic", [Status(429), Status(503, retry_after=0), Status(503, retry_after="soon")], ids=repr)
def test_what_was_rejected_goes_again_though_nobody_called_it_idempotent(kind: str, toxic: Toxic) -> None:
    strategy = RetryStrategy(backoff=ImmediateBackoff(attempts=5))
    with FaultServer(METHODS, InTurn(toxic, toxic)) as server, Wire(kind, server.url, retry_strategy=strategy) as client:
        assert client.call("add", 1, 1) == 2
        assert server.times("add", 1, 1) == 1
        assert len(server.log) == 3


ASKED = {"seconds": 30, "imf": 30, "rfc850": 30, "asctime": 30, "float": 30}


@both
@pytest.mark.parametrize("form", ["seconds", "imf", "rfc850", "asctime", "past", "negative", "float", "words", "empty", "huge", "twice"])
def test_every_form_of_retry_after(kind: str, form: str) -> None:
    """What the server asks for is in the reason of the retry; what it means by the illegal forms, nobody knows, and the backoff decides."""
    reasons: list[str] = []

    def listen(event: object) -> None:
        if isinstance(event, RetryScheduled):
            reasons.append(event.reason)

    strategy = RetryStrategy(backoff=ImmediateBackoff(attempts=1))
    layers = [rpcretry.layers.RetryAfter(max_delay=0.001)]
    with (
        FaultServer(METHODS, InTurn([Status(503), RetryAfter(form, 30)])) as server,
        Wire(kind, server.url, retry_strategy=strategy, layers=layers, on_event=listen) as client,
    ):
        assert client.call("add", 1, 1) == 2
    (reason,) = reasons
    asked = re.search(r"the server asks for ([\d.]+) s", reason)
    assert (asked is not None) is (form in ASKED), reason
    if asked is not None:
        # Dates are of whole seconds.
        assert ASKED[form] - 2 <= float(asked[1]) <= ASKED[form]
