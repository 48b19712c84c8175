"""Ids: unique for every source, from any number of threads."""

from __future__ import annotations

import itertools
import json
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import Rig, both_drivers

from rpcretry import Client, Request, random_ids, sequential_ids, uuid_ids
from rpcretry.client.ids import as_ids
from rpcretry.testing import ScriptedBackend, result
from rpcretry.transport import Exchange, Reply


def counting() -> Iterator[int]:
    """A generator that is slow to advance, so that two threads inside of it would meet."""
    number = 0
    while True:
        number += 1
        for _ in range(20):
            pass
        yield number


def one_by_one() -> Callable[[], int]:
    ids = itertools.count(1)
    return lambda: next(ids)


SOURCES: dict[str, Callable[[], Any]] = {
    "default": lambda: None,
    "sequential": sequential_ids,
    "sequential from 7 by 3": lambda: sequential_ids(7, 3),
    "random": random_ids,
    "random, short ones excepted": lambda: random_ids(32, "01"),
    "uuid": uuid_ids,
    "itertools.count": lambda: itertools.count(5),
    "its __next__": lambda: itertools.count(5).__next__,
    "a generator": counting,
    "a generator function": lambda: counting,
    "a function": one_by_one,
    "a uuid function": lambda: lambda: str(uuid.uuid4()),
}


@pytest.fixture
def hasty() -> Iterator[None]:
    """Threads that take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def drawn_by_threads(next_id: Callable[[], Any], threads: int = 50, each: int = 100) -> list[Any]:
    found: list[list[Any]] = [[] for _ in range(threads)]
    failures: list[BaseException] = []
    start = threading.Barrier(threads)

    def draw(mine: list[Any]) -> None:
        start.wait()
        try:
            mine.extend(next_id() for _ in range(each))
        except BaseException as problem:
            failures.append(problem)

    workers = [threading.Thread(target=draw, args=(mine,)) for mine in found]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert failures == []
    return list(itertools.chain(*found))


@pytest.mark.parametrize("source", SOURCES, ids=str)
@pytest.mark.usefixtures("hasty")
def test_ids_over_50_threads_are_unique(source: str) -> None:
    """jsonrpcclient's ids come from a shared generator: "generator already executing"."""
    ids = drawn_by_threads(as_ids(SOURCES[source]()))
    assert len(ids) == len(set(ids)) == 5_000


@given(source=st.sampled_from(sorted(SOURCES)), threads=st.integers(2, 50), each=st.integers(1, 20))
@settings(max_examples=40, deadline=None)
def test_any_interleaving_of_ids_is_unique(source: str, threads: int, each: int) -> None:
    ids = drawn_by_threads(as_ids(SOURCES[source]()), threads, each)
    assert len(ids) == len(set(ids)) == threads * each


@pytest.mark.usefixtures("hasty")
def test_one_client_shared_by_50_threads_sends_no_id_twice_and_mixes_no_answers() -> None:
    class Echo:
        def __init__(self) -> None:
            self.ids: list[Any] = []

        def exchange(self, exchange: Exchange, /) -> Reply:
            request = json.loads(exchange.body)
            self.ids.append(request["id"])
            return Reply(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": request["params"][0]}).encode())

        def close(self) -> None: ...

    echo = Echo()
    client = Client(echo)
    values = iter(range(10**6))
    asked = threading.local()

    def call() -> bool:
        asked.value = next(values)
        return bool(client.call("echo", asked.value) == asked.value)

    assert all(drawn_by_threads(call, 50, 20))
    assert len(set(echo.ids)) == 1_000


def test_the_default_counts_from_one() -> None:
    ids = as_ids(None)
    assert [ids() for _ in range(3)] == [1, 2, 3]
    assert [type(id) for id in (ids(), random_ids()(), uuid_ids()())] == [int, str, str]


def test_each_client_counts_for_itself_and_its_views_count_with_it() -> None:
    backend = ScriptedBackend([result(0)] * 6)
    one, two = Client(backend), Client(backend)
    for client in (one, two, one.using(timeout=5), one, two.using(deadline=5)):
        client.call("m")
    assert [body["id"] for body in backend.bodies] == [1, 1, 2, 3, 2]


def test_sequential_ids_start_and_step() -> None:
    ids = sequential_ids(10, 5)
    assert [ids(), ids(), ids()] == [10, 15, 20]
    assert sequential_ids(start=0)() == 0


def test_random_ids_have_their_length_and_alphabet() -> None:
    for _ in range(50):
        id = random_ids(9, "ab")()
        assert len(id) == 9
        assert set(id) <= {"a", "b"}
    assert len(random_ids()()) == 16


def test_uuid_ids_are_uuids_that_serialise() -> None:
    backend = ScriptedBackend([result(0)])
    Client(backend, ids=uuid_ids()).call("m")
    assert uuid.UUID(backend.bodies[0]["id"]).version == 4


@both_drivers
def test_ids_of_the_users(driver: str) -> None:
    rig = Rig(driver, *[result(0)] * 6, ids=(f"req-{n}" for n in range(10, 13)))
    for _ in range(3):
        rig.call("m")
    assert [body["id"] for body in rig.backend.bodies] == ["req-10", "req-11", "req-12"]
    with pytest.raises(ValueError, match="ids is exhausted; it must yield an id for every request"):
        rig.call("m")


@both_drivers
def test_no_id_of_a_function_is_lost_to_looking_at_it(driver: str) -> None:
    rig = Rig(driver, *[result(0)] * 3, ids=one_by_one())
    for _ in range(3):
        rig.call("m")
    assert [body["id"] for body in rig.backend.bodies] == [1, 2, 3]


@both_drivers
def test_an_id_of_the_callers_uses_up_none_of_the_clients(driver: str) -> None:
    rig = Rig(driver, *[result(0)] * 3)
    rig.send(Request("m", id="mine"))
    rig.notify("m")
    rig.call("m")
    assert [body.get("id") for body in rig.backend.bodies] == ["mine", None, 1]


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: as_ids(5), TypeError, ["ids", "5", "sequential_ids"]),  # type: ignore[arg-type]
        (lambda: as_ids("abc"), TypeError, ["ids", "'abc'"]),  # type: ignore[arg-type]
        (lambda: as_ids([1, 2, 3]), TypeError, ["ids", "[1, 2, 3]"]),  # type: ignore[arg-type]
        (lambda: as_ids(lambda last: last + 1), TypeError, ["ids", "no argument"]),  # type: ignore[arg-type,misc]
        (lambda: as_ids(sequential_ids), TypeError, ["ids", "sequential_ids()"]),  # type: ignore[arg-type]
        (lambda: as_ids(random_ids), TypeError, ["ids", "random_ids()"]),  # type: ignore[arg-type]
        (lambda: as_ids(uuid_ids), TypeError, ["ids", "uuid_ids()"]),  # type: ignore[arg-type]
        (lambda: as_ids(uuid.uuid4), TypeError, ["id", "UUID", "str(...)"]),  # type: ignore[arg-type]
        (lambda: as_ids(lambda: 1.5), TypeError, ["id", "float 1.5"]),  # type: ignore[arg-type,return-value]
        (lambda: as_ids(lambda: True), TypeError, ["id", "bool True"]),
        (lambda: as_ids(lambda: None)(), TypeError, ["id", "NoneType"]),  # type: ignore[arg-type,return-value]
        (lambda: as_ids(itertools.count(0.5))(), TypeError, ["id", "float 0.5"]),  # type: ignore[arg-type]
        (lambda: as_ids(itertools.count(0.5).__next__)(), TypeError, ["id", "float 0.5"]),  # type: ignore[arg-type]
        (lambda: as_ids(iter([]))(), ValueError, ["ids is exhausted"]),
        (lambda: sequential_ids("1"), TypeError, ["start", "'1'"]),  # type: ignore[arg-type]
        (lambda: sequential_ids(-1), ValueError, ["start", "-1"]),
        (lambda: sequential_ids(1, 0), ValueError, ["step", "0"]),
        (lambda: random_ids(0), ValueError, ["length", "0"]),
        (lambda: random_ids(alphabet="a"), ValueError, ["alphabet", "'a'"]),
        (lambda: random_ids(alphabet=5), (TypeError, ValueError), ["alphabet", "5"]),  # type: ignore[arg-type]
    ],
)
def test_bad_ids_are_named_with_the_fix(make: Callable[[], Any], error: type[Exception], words: list[str]) -> None:
    with pytest.raises(error) as caught:
        make()
    for word in words:
        assert word in str(caught.value)
