"""Batches to Debian's aria2, in its own form (``system.multicall``) and in JSON-RPC's, with one member that fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from test_aria2 import Async, Sync, aria2  # noqa: F401

import rpcretry.backends.aiohttp
from rpcretry import UNSET, BatchRequest, JsonRpcError, Request, RetryStrategy
from rpcretry.client.joining import Joining
from rpcretry.retry import PeriodicBackoff

pytestmark = pytest.mark.slow

NO_SUCH = "ffffffffffffffff"


@pytest.fixture(params=[Sync, Async], ids=["requests", "aiohttp"])
def client(request: pytest.FixtureRequest) -> Iterator[Any]:
    made = request.param(request.getfixturevalue("aria2").url, timeout=5)
    yield made
    made.close()


def filled(client: Sync | Async, fill: Callable[[Any], object], **options: Any) -> Any:
    """A batch that *fill* filled, sent."""
    if isinstance(client, Sync):
        with client.client.batch(**options) as batch:
            fill(batch)
        return batch

    async def main() -> Any:
        async with client.client.batch(**options) as batch:
            fill(batch)
        return batch

    return client.runner.run(main())


def bulk(client: Sync | Async, requests: list[Request], **options: Any) -> list[Any]:
    """All items, in order."""
    if isinstance(client, Sync):
        items = list(client.client.bulk(requests, **options))
    else:

        async def main() -> list[Any]:
            return [item async for item in client.client.bulk(requests, **options)]

        items = client.runner.run(main())
    return sorted(items, key=lambda item: item.index)


def mixed() -> list[Request]:
    return [
        Request("aria2.getVersion", id=1),
        Request("aria2.tellStatus", [NO_SUCH], id=2),
        Request("aria2.getGlobalStat", id="three"),
        Request("aria2.getGlobalOption", id=4),
    ]


def check_mixed(values: list[Any]) -> None:
    """Each has its own, and the second its error."""
    version, status, stat, option = values
    assert set(version) == {"version", "enabledFeatures"}
    assert isinstance(status, JsonRpcError)
    assert (status.code, NO_SUCH in status.message) == (1, True)
    assert {"numActive", "numWaiting"} <= set(stat)
    assert option["dir"]


# --- system.multicall ---


def multicall() -> list[dict[str, Any]]:
    return [{"methodName": request.method, "params": request.params if request.params is not UNSET else []} for request in mixed()]


def test_multicall_is_one_call_whose_result_holds_the_failure_of_its_member(client: Any) -> None:
    """Each result stands in an array of its own; an error does not."""
    (version,), failure, (stat,), (option,) = client("call", "system.multicall", multicall())
    error = JsonRpcError(failure["message"], code=failure["code"])
    check_mixed([version, error, stat, option])


def test_multicall_by_the_dotted_proxy(client: Any) -> None:
    proxy = client.client.proxy.system
    found = proxy.multicall(multicall()) if isinstance(client, Sync) else client.runner.run(proxy.multicall(multicall()))
    assert [type(one) for one in found] == [list, dict, list, list]


def test_a_multicall_whose_member_fails_is_no_failure_to_a_strategy(client: Any) -> None:
    """The code is inside of the result, where no strategy looks: whoever wants partial retry sends a batch, or uses ``when``."""
    strategy = RetryStrategy(codes={1}, backoff=PeriodicBackoff(2, 0.001))
    response = client("send", Request("system.multicall", [multicall()]), _retry_strategy=strategy)
    assert (response.is_success, response.attempts) == (True, 1)
    failing = RetryStrategy(when=lambda outcome, tries: any(isinstance(one, dict) for one in outcome.result), backoff=PeriodicBackoff(2, 0.001))
    assert client("send", Request("system.multicall", [multicall()]), _retry_strategy=failing).attempts == 3


def test_a_multicall_inside_of_a_batch(client: Any) -> None:
    response = client("send", BatchRequest(Request("system.multicall", [multicall()], id=1), Request("aria2.getVersion", id=2)))
    assert len(response[0].result) == 4
    assert "version" in response[1].result


# --- batches ---


def test_a_batch_with_one_member_that_fails_by_handles(client: Any) -> None:
    batch = filled(client, lambda batch: [batch.send(request) for request in mixed()])
    check_mixed([handle.error or handle.result() for handle in batch])
    assert [handle.request.id for handle in batch.failed] == [2]
    with pytest.raises(ExceptionGroup) as caught:
        batch.results()
    assert [error.code for error in caught.value.exceptions] == [1]  # type: ignore[attr-defined]
    assert caught.value.exceptions[0].__notes__ == ["of 'aria2.tellStatus', id 2"]


def test_a_batch_by_the_proxy_with_a_notification(client: Any) -> None:
    """aria2 answers a notification with an error whose id is null: it is nobody's."""
    handles: list[Any] = []

    def fill(batch: Any) -> None:
        handles.append(batch.proxy.aria2.getVersion())
        batch.notify("aria2.getVersion")
        handles.append(batch.proxy.aria2.tellStopped(0, 10))

    batch = filled(client, fill)
    assert handles[0].result()["version"].startswith("1.")
    assert handles[1].result() == []
    assert (len(batch), batch.failed) == (2, [])


def test_only_the_member_that_fails_goes_again(client: Any) -> None:
    """Downloads would be added twice, if the whole batch went again."""
    before = int(client("call", "aria2.getGlobalStat")["numWaiting"])
    add = [Request("aria2.addUri", [[f"http://127.0.0.1:9/{name}"], {"pause": "true"}], id=name) for name in ("a", "b")]
    strategy = RetryStrategy(codes={1}, backoff=PeriodicBackoff(2, 0.001))
    response = client("send", BatchRequest(add[0], Request("aria2.tellStatus", [NO_SUCH], id="no"), add[1]), _retry_strategy=strategy)
    assert [answer.attempts for answer in response] == [1, 3, 1]
    assert response[1].error.code == 1
    added = [response[0].result, response[2].result]
    assert len(set(added)) == 2
    assert int(client("call", "aria2.getGlobalStat")["numWaiting"]) == before + 2
    removed = client("send", BatchRequest(*[Request("aria2.remove", [gid], id=gid) for gid in added]))
    # Each answer is that of its own download.
    assert [answer.result for answer in removed] == added


def test_a_batch_in_parts(client: Any) -> None:
    batch = filled(client, lambda batch: [batch.send(request) for request in mixed()], max_batch_size=1, concurrency=3)
    check_mixed([handle.error or handle.result() for handle in batch])


@pytest.mark.parametrize("batch_size", [1, 3])
def test_bulk(client: Any, batch_size: int) -> None:
    requests = [Request(request.method, request.params) for _ in range(10) for request in mixed()]
    items = bulk(client, requests, batch_size=batch_size, concurrency=4)
    assert [item.index for item in items] == list(range(40))
    for start in range(0, 40, 4):
        check_mixed([item.error or item.result for item in items[start : start + 4]])


def test_joined_calls(request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue("aria2").url

    async def main() -> None:
        async with rpcretry.backends.aiohttp.Client(url, timeout=5, joining=Joining()) as client:
            for _ in range(3):
                found = await asyncio.gather(*[client.send(request) for request in mixed()])
                check_mixed([answer.error or answer.result for answer in found])

    asyncio.run(main())
