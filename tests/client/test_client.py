"""Clients: what a call sends, what it gives, and what closing does. Each row on the sync and the async client."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import datetime
import decimal
import enum
import inspect
import pickle
import threading
import uuid
from collections.abc import Callable
from typing import Any

import pydantic
import pytest
from support import Rig, both_drivers, finish

import rpcretry
from rpcretry import (
    AsyncClient,
    BatchRequest,
    BatchResponse,
    Client,
    ClientClosedError,
    ConnectionLostError,
    IdentityError,
    InternalError,
    InvalidParamsError,
    JsonRpcError,
    MethodNotFoundError,
    MissingResponseError,
    ParseError,
    ProtocolError,
    Request,
    Response,
    ResultValidationError,
    RetryStrategy,
    ServerError,
)
from rpcretry.retry import PeriodicBackoff
from rpcretry.testing import AsyncScriptedBackend, ScriptedBackend, error, http, result
from rpcretry.transport import Exchange, Reply


class Point(pydantic.BaseModel):
    x: int
    y: int


@dataclasses.dataclass
class Line:
    start: int
    end: int


class Colour(enum.Enum):
    RED = "red"


# --- what is sent ---


@both_drivers
@pytest.mark.parametrize(
    ("act", "document"),
    [
        (lambda c: c.call("m"), {"method": "m", "id": 1}),
        (lambda c: c.call("m", 1, "a"), {"method": "m", "params": [1, "a"], "id": 1}),
        (lambda c: c.call("m", a=1), {"method": "m", "params": {"a": 1}, "id": 1}),
        (lambda c: c("m", None), {"method": "m", "params": [None], "id": 1}),
        (lambda c: c.notify("m"), {"method": "m"}),
        (lambda c: c.notify("m", 1), {"method": "m", "params": [1]}),
        (lambda c: c.notify("m", a=1), {"method": "m", "params": {"a": 1}}),
        (lambda c: c.send(Request("m")), {"method": "m", "id": 1}),
        (lambda c: c.send(Request("m", None)), {"method": "m", "id": 1}),
        (lambda c: c.send(Request("m", [])), {"method": "m", "params": [], "id": 1}),
        (lambda c: c.send(Request("m", {})), {"method": "m", "params": {}, "id": 1}),
        (lambda c: c.send(Request("m", [1], id="x")), {"method": "m", "params": [1], "id": "x"}),
        (lambda c: c.send(Request("m", id=0)), {"method": "m", "id": 0}),
        (lambda c: c.send(Request("m", [1], id=None)), {"method": "m", "params": [1]}),
        (lambda c: c.send(Request("m", Point(x=1, y=2))), {"method": "m", "params": {"x": 1, "y": 2}, "id": 1}),
        (lambda c: c.send(Request("m", Line(1, 2))), {"method": "m", "params": {"start": 1, "end": 2}, "id": 1}),
        (
            lambda c: c.call("m", Colour.RED, uuid.UUID(int=1), decimal.Decimal("1.5")),
            {"method": "m", "params": ["red", str(uuid.UUID(int=1)), "1.5"], "id": 1},
        ),
        (lambda c: c.call("m", datetime.date(2024, 2, 29)), {"method": "m", "params": ["2024-02-29"], "id": 1}),
        (lambda c: c.call("m", 2**70, "\u00fc"), {"method": "m", "params": [2**70, "\u00fc"], "id": 1}),
    ],
)
def test_messages_what_each_way_of_calling_sends(driver: str, act: Any, document: dict[str, Any]) -> None:
    rig = Rig(driver, result(0))
    rig.run(act)
    assert rig.backend.bodies == [{"jsonrpc": "2.0", **document}]


@both_drivers
def test_params_by_position_and_by_name_at_once_are_refused(driver: str) -> None:
    rig = Rig(driver)
    with pytest.raises(TypeError, match="m: give params by position or by name, not both"):
        rig.call("m", 1, a=2)
    assert rig.sent == 0


@both_drivers
@pytest.mark.parametrize(
    ("act", "kind", "words"),
    [
        (lambda c: c.call(5), TypeError, ["method", "int 5"]),
        (lambda c: c.call(""), ValueError, ["method", "empty"]),
        (lambda c: c.call(None), TypeError, ["method", "NoneType"]),
        (lambda c: c.notify(b"m"), TypeError, ["method", "bytes"]),
        (lambda c: c.send("m"), TypeError, ["Request", "'m'", "client.call"]),
        (lambda c: c.send([Request("m")]), TypeError, ["BatchRequest(*requests)"]),
        (lambda c: c.send({"method": "m"}), TypeError, ["Request", "dict"]),
        (lambda c: c.send(None), TypeError, ["Request", "None"]),
        (lambda c: c.send(BatchRequest()), ValueError, ["at least one request"]),
        (lambda c: c.call("m", object()), TypeError, ["params of 'm'", "object"]),
        (lambda c: c.call("m", float("nan")), ValueError, ["params of 'm'", "NaN"]),
        (lambda c: c.call("m", a=[float("inf")]), ValueError, ["params of 'm'", "infinity"]),
        (lambda c: c.call("m", _result=5), TypeError, ["_result", "5"]),
        (lambda c: c.call("m", _result="int"), TypeError, ["_result", "int"]),
    ],
)
def test_bad_calls_are_refused_before_anything_is_sent(driver: str, act: Any, kind: type[Exception], words: list[str]) -> None:
    rig = Rig(driver, result(0), watched=True)
    with pytest.raises(kind) as caught:
        rig.run(act)
    for word in words:
        assert word in str(caught.value)
    assert (rig.sent, rig.events) == (0, [])
    assert rig.call("m") == 0


# --- what is given ---


@both_drivers
@pytest.mark.parametrize("value", [None, 0, False, "", [], {}, 5, 2**70, "\u00fc\U0001f600", {"a": [1, {"b": None}]}, 1.5])
def test_a_result_is_any_json_value(driver: str, value: Any) -> None:
    rig = Rig(driver, *[result(value)] * 4)
    assert rig.call("m") == value
    assert rig.run(lambda client: client("m")) == value
    assert rig.run(lambda client: client.proxy.m()) == value
    response = rig.send(Request("m"))
    assert (response.result, response.is_success, response.is_error, response.error) == (value, True, False, None)


@both_drivers
def test_send_gives_the_response_with_status_and_headers(driver: str) -> None:
    rig = Rig(driver, result(5, status=201, headers={"X-Served-By": "a"}), error(7, "no", data={"why": "x"}, status=500, headers={"X-Served-By": "b"}))
    good, bad = rig.send(Request("m", id="g")), rig.send(Request("m", id="b"))
    assert isinstance(good, Response)
    assert (good.id, good.result, good.status, good.headers["x-served-by"], good.attempts) == ("g", 5, 201, "a", 1)
    assert (bad.id, bad.is_error, bad.status, bad.headers["x-served-by"]) == ("b", True, 500, "b")
    assert (bad.error.code, bad.error.message, bad.error.data, bad.error.status) == (7, "no", {"why": "x"}, 500)
    with pytest.raises(JsonRpcError, match=r"no \[7\]"):
        bad.result


@both_drivers
@pytest.mark.parametrize(
    ("code", "cls"),
    [
        (-32700, ParseError),
        (-32601, MethodNotFoundError),
        (-32602, InvalidParamsError),
        (-32603, InternalError),
        (-32000, ServerError),
        (-32099, ServerError),
        (-32100, JsonRpcError),
        (1, JsonRpcError),
    ],
)
def test_call_raises_the_class_of_the_code(driver: str, code: int, cls: type[JsonRpcError]) -> None:
    rig = Rig(driver, *[error(code, "no")] * 2)
    for act in (lambda c: c.call("m"), lambda c: c.proxy.m()):
        with pytest.raises(JsonRpcError) as caught:
            rig.run(act)
        assert type(caught.value) is cls
        assert caught.value.code == code


class Busy(JsonRpcError):
    CODE = 2001


class Quota(JsonRpcError):
    CODE = range(3000, 3100)


@both_drivers
def test_a_class_of_the_users_is_raised_for_its_code_by_its_client_alone(driver: str) -> None:
    rig = Rig(driver, error(2001), error(3050), errors=[Busy, Quota])
    for cls in (Busy, Quota):
        with pytest.raises(cls):
            rig.call("m")
    other = Rig(driver, error(2001))
    with pytest.raises(JsonRpcError) as caught:
        other.call("m")
    assert type(caught.value) is JsonRpcError


@both_drivers
def test_a_strategy_may_name_a_class_of_the_users(driver: str) -> None:
    rig = Rig(driver, error(2001), result(5), errors=[Busy], retry_strategy=RetryStrategy(exceptions={Busy}, backoff=PeriodicBackoff(1, 0.5)))
    assert rig.call("m") == 5


@both_drivers
def test_results_are_validated_into_the_callers_type(driver: str) -> None:
    rig = Rig(driver, result({"x": 1, "y": "2"}), result([{"x": 1, "y": 2}]), result({"start": 1, "end": 2}), result("2024-02-29"), result({"x": "one"}))
    assert rig.call("m", _result=Point) == Point(x=1, y=2)
    assert rig.call("m", _result=list[Point]) == [Point(x=1, y=2)]
    assert rig.send(Request("m"), _result=Line).result == Line(1, 2)
    assert rig.call("m", _result=datetime.date) == datetime.date(2024, 2, 29)
    with pytest.raises(ResultValidationError, match="the result of 'm' is no Point") as caught:
        rig.call("m", _result=Point)
    assert caught.value.result == {"x": "one"}


@both_drivers
def test_a_result_of_another_type_is_never_retried(driver: str) -> None:
    rig = Rig(driver, result("x"), retry_strategy=RetryStrategy(exceptions={Exception}, backoff=PeriodicBackoff(3)))
    with pytest.raises(ResultValidationError):
        rig.call("m", _result=int)
    assert rig.sent == 1


@both_drivers
def test_in_a_batch_one_result_of_another_type_spoils_no_other(driver: str) -> None:
    def play(exchange: Exchange) -> Reply:
        return Reply(b'[{"id":1,"result":"1"},{"id":2,"result":"x"},{"id":3,"error":{"code":7,"message":"no"}}]')

    rig = Rig(driver, play)
    response = rig.send(BatchRequest(Request("a"), Request("b"), Request("c")), _result=int)
    assert response[0].result == 1
    assert [type(answer.error) for answer in response] == [type(None), ResultValidationError, JsonRpcError]


@both_drivers
@pytest.mark.parametrize(
    "reply",
    [
        Reply(b""),
        Reply(b"", 204),
        Reply(b"null"),
        Reply(b"<html>"),
        Reply(b'{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"x"}}'),
        Reply(b'{"jsonrpc":"2.0","id":9,"result":1}'),
    ],
)
def test_a_notification_takes_any_answer(driver: str, reply: Reply) -> None:
    rig = Rig(driver, reply, reply)
    assert rig.notify("m") is None
    response = rig.send(Request("m", id=None))
    assert (response.id, response.result, response.is_success) == (None, None, True)
    assert rig.backend.exchanges[0].ids == ()


@both_drivers
@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"jsonrpc":"2.0","id":2,"result":1}', IdentityError),
        (b'{"jsonrpc":"2.0","id":1.0,"result":1}', IdentityError),
        (b'{"jsonrpc":"2.0","id":true,"result":1}', IdentityError),
        (b'{"jsonrpc":"2.0","id":"1","result":1}', IdentityError),
        (b'{"jsonrpc":"2.0","id":null,"result":1}', IdentityError),
        (b'{"jsonrpc":"2.0","result":1}', IdentityError),
        (b"<html>", ProtocolError),
        (b"", ProtocolError),
        (b"[]", ProtocolError),
    ],
)
def test_trap_a_wrong_id_never_becomes_somebodys_result(driver: str, body: bytes, kind: type[Exception]) -> None:
    rig = Rig(driver, Reply(body), Reply(body))
    for act in (lambda: rig.call("m"), lambda: rig.send(Request("m", id=1))):
        with pytest.raises(ProtocolError) as caught:
            act()
        assert type(caught.value) is kind


@both_drivers
def test_trap_an_html_body_leaks_no_json_error(driver: str) -> None:
    rig = Rig(driver, Reply(b"<html>sorry</html>"), http(500, b"<html>sorry</html>"))
    with pytest.raises(ProtocolError, match="<html>sorry"):
        rig.call("m")
    with pytest.raises(rpcretry.HTTPStatusError, match="HTTP 500: <html>sorry"):
        rig.call("m")


@both_drivers
def test_batch_in_request_order_whatever_the_order_of_the_answers(driver: str) -> None:
    rig = Rig(driver, Reply(b'[{"id":"b","result":2},{"id":"x","result":9},{"id":"a","result":1}]'))
    response = rig.send(BatchRequest(Request("m", id="a"), Request("m", id="b"), Request("m", id="c")))
    assert isinstance(response, BatchResponse)
    assert [answer.id for answer in response] == ["a", "b", "c"]
    assert [answer.result for answer in response[:2]] == [1, 2]
    assert isinstance(response[2].error, MissingResponseError)
    assert (response.is_error, response.is_success) == (True, False)
    with pytest.raises(MissingResponseError):
        response.results


@both_drivers
def test_send_leaves_the_request_as_it_was(driver: str) -> None:
    rig = Rig(driver, result(1), result(2), result(3))
    request, batch = Request("m"), BatchRequest(Request("n"))
    assert [rig.send(request).id, rig.send(request).id, rig.send(batch)[0].id] == [1, 2, 3]
    assert request == Request("m")
    assert batch == BatchRequest(Request("n"))


# --- closing ---


@both_drivers
def test_a_closed_client_raises_client_closed_error(driver: str) -> None:
    rig = Rig(driver, result(0))
    view = rig.client.using(timeout=1)
    rig.run(lambda client: client.close())
    rig.run(lambda client: client.close())
    assert rig.client.is_closed
    assert rig.backend.closed
    for act in (lambda c: c.call("m"), lambda c: c.notify("m"), lambda c: c.proxy.m(), lambda c: c.send(Request("m")), lambda c: view.call("m")):
        with pytest.raises(ClientClosedError, match="was closed; make another"):
            rig.run(act)
    assert rig.sent == 0
    assert "closed" in repr(rig.client)


def test_context_managers_close() -> None:
    backend = ScriptedBackend([result(1)])
    with Client(backend) as client:
        assert client.call("m") == 1
    assert backend.closed
    with pytest.raises(ClientClosedError), client:
        pass

    other = AsyncScriptedBackend([result(1)])

    async def main() -> None:
        async with AsyncClient(other) as client:
            assert await client.call("m") == 1
        with pytest.raises(ClientClosedError):
            async with client:
                pass

    asyncio.run(main())
    assert other.closed


def test_context_managers_close_after_an_error() -> None:
    backend = ScriptedBackend([error(7)])
    with pytest.raises(JsonRpcError), Client(backend) as client:
        client.call("m")
    assert backend.closed


def test_the_clients_hold_what_they_were_given() -> None:
    backend = ScriptedBackend(())
    client = Client(backend)
    assert client.backend is backend
    assert "Client" in repr(client)


# --- backends of the wrong kind ---


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Client("http://localhost/api"), ["backend", "str", "rpcretry.backends.requests.Client"]),  # type: ignore[arg-type]
        (lambda: AsyncClient("http://localhost/api"), ["backend", "rpcretry.backends.aiohttp.Client"]),  # type: ignore[arg-type]
        (lambda: Client(None), ["backend", "NoneType"]),  # type: ignore[arg-type]
        (lambda: Client(ScriptedBackend), ["backend", "class ScriptedBackend"]),  # type: ignore[arg-type]
        (lambda: Client(AsyncScriptedBackend(())), ["AsyncScriptedBackend", "rpcretry.AsyncClient"]),  # type: ignore[arg-type]
        (lambda: AsyncClient(ScriptedBackend(())), ["ScriptedBackend", "rpcretry.Client"]),  # type: ignore[arg-type]
    ],
)
def test_a_backend_of_the_wrong_kind_says_which_client_to_use(make: Any, words: list[str]) -> None:
    with pytest.raises(TypeError) as caught:
        make()
    for word in words:
        assert word in str(caught.value)


# --- sharing ---


def test_one_sync_client_is_shared_by_threads() -> None:
    barrier = threading.Barrier(20)

    class Busy:
        def exchange(self, exchange: Exchange, /) -> Reply:
            barrier.wait(10)
            return Reply(b'{"jsonrpc":"2.0","id":%d,"result":%d}' % (exchange.ids[0], exchange.ids[0]))

        def close(self) -> None: ...

    client, found = Client(Busy()), []
    threads = [threading.Thread(target=lambda: found.append(client.call("m"))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(found) == list(range(1, 21))


def test_trap_concurrent_callers_share_no_state_of_their_retries() -> None:
    """tenacity's shared retrying object mixes them; each task here fails twice, and each has exactly two waits."""
    failures: dict[Any, int] = {}
    waits: dict[Any, int] = {}

    class Flaky:
        async def exchange(self, exchange: Exchange, /) -> Reply:
            await asyncio.sleep(0)
            id = exchange.ids[0]
            failures[id] = failures.get(id, 0) + 1
            if failures[id] < 3:
                raise ConnectionLostError("reset")
            return Reply(b'{"jsonrpc":"2.0","id":%d,"result":%d}' % (id, id))

        async def aclose(self) -> None: ...

    async def asleep(seconds: float) -> None:
        waits[seconds] = waits.get(seconds, 0) + 1
        await asyncio.sleep(0)

    async def main() -> list[Any]:
        strategy = RetryStrategy(exceptions={OSError}, backoff=lambda: iter([1.0, 2.0]))
        client = AsyncClient(Flaky(), retry_strategy=strategy, sleep=asleep, clock=lambda: 0.0)
        return list(await asyncio.gather(*[client.call("m") for _ in range(50)]))

    assert sorted(asyncio.run(main())) == list(range(1, 51))
    assert set(failures.values()) == {3}
    assert waits == {1.0: 50, 2.0: 50}


# --- a codec of the user's ---


@both_drivers
def test_a_codec_of_the_users(driver: str) -> None:
    import json

    class Loud:
        def dumps(self, value: object, /) -> bytes:
            return json.dumps(value, indent=1).encode()

        def loads(self, body: bytes, charset: str | None, /) -> object:
            return json.loads(body.decode().replace("quiet", "LOUD"))

    rig = Rig(driver, result("quiet"), codec=Loud())
    assert rig.call("m") == "LOUD"
    assert b"\n" in rig.backend.exchanges[0].body


# --- the two clients are one ---


@pytest.mark.parametrize("name", ["call", "__call__", "send", "notify", "batch", "bulk", "using", "__init__"])
def test_both_clients_take_the_same_parameters(name: str) -> None:
    one, two = (list(inspect.signature(getattr(cls, name)).parameters) for cls in (Client, AsyncClient))
    # Only calls of one loop can wait for each other.
    assert one == [parameter for parameter in two if parameter != "joining"]


def test_a_coroutine_of_the_async_client_does_nothing_before_it_is_awaited() -> None:
    backend = AsyncScriptedBackend([result(1)])
    client = AsyncClient(backend)

    async def main() -> None:
        coroutine = client.call("m")
        await asyncio.sleep(0)
        assert backend.exchanges == []
        assert await asyncio.wait_for(coroutine, 5) == 1
        task = asyncio.create_task(client.notify("m"))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(backend.exchanges) == 1

    asyncio.run(main())


# --- copies ---


@both_drivers
@pytest.mark.parametrize("way", [copy.deepcopy, pickle.dumps])
def test_a_client_is_not_copied_with_what_it_holds(driver: str, way: Callable[[Any], Any]) -> None:
    rig = Rig(driver, result(3), headers={"X-Api-Key": "secret"})
    with pytest.raises(TypeError, match=r"a (Async)?Client cannot be pickled or copied in depth: .* make one in each process, and client\.using\(\)"):
        way(rig.client)
    assert rig.call("sum", 1, 2) == 3


@both_drivers
def test_a_shallow_copy_is_a_view(driver: str) -> None:
    rig = Rig(driver, result(3), result(4))
    rig.client.label = "mine"
    view = copy.copy(rig.client)
    assert (type(view), view.label, view.backend) == (type(rig.client), "mine", rig.client.backend)
    assert finish(lambda: view.call("sum", 1, 2)) == 3
    view.label = "other"
    assert (rig.client.label, rig.client.using(timeout=5).label) == ("mine", "mine")
    assert rig.call("sum", 2, 2) == 4
