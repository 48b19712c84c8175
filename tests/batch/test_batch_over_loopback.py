"""Partial retry against real servers on loopback, by both clients: what arrives, what is executed, and what comes back."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import rpcretry.backends.aiohttp
import rpcretry.backends.requests
from rpcretry import BatchRequest, BatchResponse, ConnectionLostError, Delivery, HTTPStatusError, MissingResponseError, Request, RetryStrategy
from rpcretry.retry import PeriodicBackoff
from rpcretry.testing.server import RESET, Answer, LoopbackServer, Received

BUSY = -32001


class Books:
    """A server that executes requests, counts that, and answers as it is told.

    :param refusals: by id, how often it says that it is busy, and executes nothing.
    :param after: what it does with the answers to each exchange in turn; it sends them when there is no more.
    """

    def __init__(self, refusals: dict[int, int] | None = None, after: list[Callable[[list[Any]], Any]] | None = None) -> None:
        self.refusals = Counter(refusals or {})
        self.after = list(after or [])
        self.executed: Counter[Any] = Counter()
        self.seen: list[list[Any]] = []
        self._lock = threading.Lock()

    def __call__(self, received: Received) -> Any:
        document = received.json
        assert isinstance(document, list), "a batch stays an array, also with one request in it"
        with self._lock:
            self.seen.append([one.get("id", "n") for one in document])
            answers = [answer for one in document if (answer := self._one(one)) is not None]
            step = self.after.pop(0) if self.after else Answer
            return step(answers)

    def _one(self, one: Any) -> Any:
        id = one.get("id")
        if self.refusals[id] > 0:
            self.refusals[id] -= 1
            return {"jsonrpc": "2.0", "id": id, "error": {"code": BUSY, "message": "busy"}}
        self.executed[id if id is not None else one["method"]] += 1
        return None if id is None else {"jsonrpc": "2.0", "id": id, "result": {"of": id, "params": one.get("params")}}


class Waiter:
    """A client of either kind whose calls look the same."""

    def __init__(self, kind: str, url: str, **options: Any) -> None:
        self.kind = kind
        self.runner = asyncio.Runner() if kind == "aiohttp" else None
        self.client: Any = getattr(rpcretry.backends, kind).Client(url, timeout=5, **options)

    def send(self, batch: BatchRequest, **options: Any) -> BatchResponse:
        answer = self.client.send(batch, **options)
        found: BatchResponse = answer if self.runner is None else self.runner.run(answer)
        return found

    def handles(self, requests: list[Request], **options: Any) -> Any:
        if self.runner is None:
            with self.client.batch(**options) as batch:
                for request in requests:
                    batch.send(request)
            return batch

        async def fill() -> Any:
            async with self.client.batch(**options) as batch:
                for request in requests:
                    batch.send(request)
            return batch

        return self.runner.run(fill())

    def close(self) -> None:
        if self.runner is None:
            self.client.close()
        else:
            self.runner.run(self.client.aclose())
            self.runner.close()


kinds = pytest.mark.parametrize("kind", ["requests", "aiohttp"])


@pytest.fixture
def serve(kind: str) -> Iterator[Callable[..., Waiter]]:
    opened: list[Any] = []

    def start(handler: Any, **options: Any) -> Waiter:
        server = LoopbackServer(handler)
        server.__enter__()
        waiter = Waiter(kind, server.url, **options)
        opened[:0] = [waiter, server]
        return waiter

    yield start
    for one in opened:
        one.close()


def numbered(*ids: int) -> list[Request]:
    return [Request("count", [id], id=id) for id in ids]


def four_and_a_notification() -> list[Request]:
    return [*numbered(1, 2, 3, 4), Request("tell", id=None)]


CODES = RetryStrategy(codes={BUSY}, backoff=PeriodicBackoff(3, 0.001))


@kinds
def test_only_what_failed_goes_again(serve: Callable[..., Waiter], kind: str) -> None:
    books = Books({2: 1, 4: 2})
    response = serve(books, retry_strategy=CODES).send(BatchRequest(*four_and_a_notification()))
    assert books.seen == [[1, 2, 3, 4, "n"], [2, 4], [4]]
    assert [answer.id for answer in response] == [1, 2, 3, 4]
    assert response.results == [{"of": id, "params": [id]} for id in (1, 2, 3, 4)]
    assert [answer.attempts for answer in response] == [1, 2, 1, 3]
    assert books.executed == {1: 1, 2: 1, 3: 1, 4: 1, "tell": 1}


@kinds
def test_only_what_failed_goes_again_under_handles(serve: Callable[..., Waiter], kind: str) -> None:
    books = Books({2: 1, 4: 2})
    batch = serve(books, retry_strategy=CODES).handles(four_and_a_notification())
    assert books.seen == [[1, 2, 3, 4, "n"], [2, 4], [4]]
    assert [handle.request.id for handle in batch] == [1, 2, 3, 4]
    assert batch.results() == [{"of": id, "params": [id]} for id in (1, 2, 3, 4)]
    assert [handle.response.attempts for handle in batch] == [1, 2, 1, 3]
    assert books.executed == {1: 1, 2: 1, 3: 1, 4: 1, "tell": 1}


@kinds
def test_what_never_gets_through_is_the_only_failure(serve: Callable[..., Waiter], kind: str) -> None:
    books = Books({2: 99})
    response = serve(books, retry_strategy=CODES).send(BatchRequest(*four_and_a_notification()))
    assert books.seen == [[1, 2, 3, 4, "n"], [2], [2], [2]]
    assert [answer.is_success for answer in response] == [True, False, True, True]
    assert response[1].error.code == BUSY  # type: ignore[union-attr]
    assert books.executed == {1: 1, 3: 1, 4: 1, "tell": 1}


def mixed() -> list[Request]:
    """1 and 3 may be executed twice, 2 and 4 must not be."""
    return [Request("get", id=1), Request("pay", id=2), Request("get", id=3), Request("pay", id=4), Request("tell", id=None)]


SAFE = RetryStrategy(idempotent={"get"}, backoff=PeriodicBackoff(3, 0.001))


@kinds
@pytest.mark.parametrize("loss", [[None], [RESET], [b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n[{", None]], ids=["closed", "reset", "cut"])
def test_after_a_lost_connection_only_what_is_safe_goes_again(serve: Callable[..., Waiter], kind: str, loss: Any) -> None:
    """The server read the request, and executed it: only then the connection broke."""
    books = Books(after=[lambda answers: loss])
    response = serve(books, retry_strategy=SAFE).send(BatchRequest(*mixed()))
    assert books.seen == [[1, 2, 3, 4, "n"], [1, 3]]
    assert books.executed == {1: 2, 2: 1, 3: 2, 4: 1, "tell": 1}
    assert [answer.id for answer in response] == [1, 2, 3, 4, None]
    assert [answer.is_success for answer in response] == [True, False, True, False, False]
    for place in (1, 3, 4):
        failure: Any = response[place].error
        assert isinstance(failure, ConnectionLostError)
        assert failure.delivery is Delivery.MAYBE_EXECUTED
        assert response[place].attempts == 1
    assert len({id(response[place].error) for place in (1, 3, 4)}) == 3


@kinds
def test_a_member_that_the_server_left_out_goes_again_only_where_that_is_safe(serve: Callable[..., Waiter], kind: str) -> None:
    books = Books(after=[lambda answers: Answer([answers[2]])])
    strategy = RetryStrategy(exceptions={MissingResponseError}, idempotent={"get"}, backoff=PeriodicBackoff(3, 0.001))
    response = serve(books, retry_strategy=strategy).send(BatchRequest(*mixed()))
    assert books.seen == [[1, 2, 3, 4, "n"], [1]]
    assert [answer.is_success for answer in response] == [True, False, True, False]
    assert isinstance(response[1].error, MissingResponseError)
    assert books.executed == {1: 2, 2: 1, 3: 1, 4: 1, "tell": 1}


@kinds
def test_an_overloaded_server_gets_the_whole_batch_again(serve: Callable[..., Waiter], kind: str) -> None:
    """429 says that nothing was done: all go again, the notification, too."""
    refused: list[Any] = []
    books = Books()

    def handler(received: Received) -> Any:
        if not refused:
            refused.append(received.json)
            return Answer(b"slow down", 429)
        return books(received)

    response = serve(handler, retry_strategy=SAFE).send(BatchRequest(*mixed()))
    assert books.seen == [[1, 2, 3, 4, "n"]]
    assert [one.get("id", "n") for one in refused[0]] == books.seen[0]
    assert response.is_success
    assert set(books.executed.values()) == {1}


@kinds
def test_where_nobody_listens_all_go_again_and_the_failure_is_that_of_the_batch(kind: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    waiter = Waiter(kind, f"http://127.0.0.1:{port}/", retry_strategy=RetryStrategy(backoff=PeriodicBackoff(1, 0.001)))
    try:
        with pytest.raises(rpcretry.ConnectError) as caught:
            waiter.send(BatchRequest(*mixed()))
        assert caught.value.delivery is Delivery.NOT_SENT
        assert "gave up after 2 attempts" in caught.value.__notes__[0]
    finally:
        waiter.close()


@kinds
def test_a_batch_that_is_too_large_goes_in_halves_and_nothing_twice(serve: Callable[..., Waiter], kind: str) -> None:
    books = Books()

    def handler(received: Received) -> Any:
        return books(received) if len(received.json) <= 2 else Answer(b"too much", 413)

    response = serve(handler).send(BatchRequest(*numbered(*range(1, 8))))
    assert [answer.result["of"] for answer in response] == list(range(1, 8))
    assert set(books.executed.values()) == {1}
    assert all(len(seen) <= 2 for seen in books.seen)


@kinds
@pytest.mark.parametrize("concurrency", [1, 4])
def test_parts_come_back_in_the_order_of_the_requests(serve: Callable[..., Waiter], kind: str, concurrency: int) -> None:
    """The first part is answered last."""
    books = Books({2: 1, 9: 2})

    def handler(received: Received) -> Any:
        answer = books(received)
        return [0.03, answer] if received.json[0]["id"] == 1 else answer

    waiter = serve(handler, retry_strategy=CODES, max_batch_size=3, batch_concurrency=concurrency)
    response = waiter.send(BatchRequest(*numbered(*range(1, 11))))
    assert [answer.result["of"] for answer in response] == list(range(1, 11))
    assert sorted(books.seen) == [[1, 2, 3], [2], [4, 5, 6], [7, 8, 9], [9], [9], [10]]
    assert [answer.attempts for answer in response] == [1, 2, 1, 1, 1, 1, 1, 1, 3, 1]


@kinds
def test_a_gateway_between_them_is_every_members_failure(serve: Callable[..., Waiter], kind: str) -> None:
    waiter = serve(lambda received: Answer(b"<html>bad gateway</html>", 502))
    with pytest.raises(HTTPStatusError, match="HTTP 502"):
        waiter.send(BatchRequest(*mixed()))


@kinds
def test_bodies_in_pieces_are_one_answer(serve: Callable[..., Waiter], kind: str) -> None:
    """Chunks that split the array wherever they like."""

    def handler(received: Received) -> Any:
        answers = Answer([{"jsonrpc": "2.0", "id": one["id"], "result": "ü" * one["id"]} for one in reversed(received.json)]).body
        chunks = [answers[start : start + 7] for start in range(0, len(answers), 7)]
        yield b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        for chunk in chunks:
            yield b"%x\r\n%s\r\n" % (len(chunk), chunk)
        yield b"0\r\n\r\n"

    response = serve(handler).send(BatchRequest(*numbered(1, 2, 3)))
    assert response.results == ["ü", "üü", "üüü"]


@kinds
def test_many_threads_and_tasks_with_batches_of_the_same_ids_get_their_own(serve: Callable[..., Waiter], kind: str) -> None:
    """Ids are unique within a batch only; what travels at once under equal ids must not meet."""

    def handler(received: Received) -> Any:
        return Answer([{"jsonrpc": "2.0", "id": one["id"], "result": one["params"]} for one in reversed(received.json)])

    waiter = serve(handler)
    batches = [BatchRequest(*[Request("echo", [caller, id], id=id) for id in range(5)]) for caller in range(12)]
    found: dict[int, list[Any]] = {}
    if kind == "requests":

        def work(caller: int) -> None:
            found[caller] = waiter.send(batches[caller]).results

        threads = [threading.Thread(target=work, args=(caller,)) for caller in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
    else:

        async def main() -> None:
            answers = await asyncio.gather(*[waiter.client.send(batch) for batch in batches])
            found.update({caller: answer.results for caller, answer in enumerate(answers)})

        assert waiter.runner is not None
        waiter.runner.run(main())
    assert found == {caller: [[caller, id] for id in range(5)] for caller in range(12)}
