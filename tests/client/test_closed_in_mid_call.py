"""A client that is closed between two attempts of a call: what the call says of the attempts before."""

from __future__ import annotations

from typing import Any

import pytest
from support import Rig, both_drivers, fresh

from rpcretry import BatchRequest, ClientClosedError, ConnectError, ConnectionLostError, Delivery, Request
from rpcretry.retry import PeriodicBackoff, RetryStrategy

EVERY = RetryStrategy(exceptions={ConnectionError}, backoff=PeriodicBackoff(3, 1.0))
LOST, UNMADE = fresh(ConnectionLostError("lost")), fresh(ConnectError("no connection"))


def closed_in_the_wait(driver: str, *script: Any, closing: int = 1) -> Rig:
    """A rig whose client is closed in that one of its waits."""
    rig = Rig(driver, *script, retry_strategy=EVERY)
    waits = 0

    def turn() -> bool:
        nonlocal waits
        waits += 1
        return waits == closing

    def sleep(_: float) -> None:
        if turn():
            rig.client.close()

    async def asleep(_: float) -> None:
        if turn():
            await rig.client.aclose()

    rig.client._shared.sleep = sleep if driver == "sync" else asleep
    return rig


@both_drivers
@pytest.mark.parametrize(
    ("script", "delivery"),
    [
        ([LOST], Delivery.MAYBE_EXECUTED),
        ([UNMADE], Delivery.NOT_SENT),
        ([LOST, UNMADE], Delivery.MAYBE_EXECUTED),
        ([UNMADE, LOST], Delivery.MAYBE_EXECUTED),
    ],
)
def test_the_end_tells_of_all_attempts(driver: str, script: list[Any], delivery: Delivery) -> None:
    rig = closed_in_the_wait(driver, *script, closing=len(script))
    with pytest.raises(ClientClosedError, match="was closed while a call was under way") as caught:
        rig.call("pay", 99)
    assert rig.sent == len(script)
    assert caught.value.delivery is delivery
    # What happened last is not lost.
    assert type(caught.value.__cause__) is type(script[-1](None))


@both_drivers
def test_so_does_that_of_a_batch(driver: str) -> None:
    rig = closed_in_the_wait(driver, LOST)
    with pytest.raises(ClientClosedError) as caught:
        rig.send(BatchRequest(Request("pay", [1]), Request("pay", [2])))
    assert (caught.value.delivery, type(caught.value.__cause__)) == (Delivery.MAYBE_EXECUTED, ConnectionLostError)


@both_drivers
def test_a_call_after_the_end_was_not_sent(driver: str) -> None:
    rig = Rig(driver, retry_strategy=EVERY)
    rig.run(lambda client: client.close() if driver == "sync" else client.aclose())
    with pytest.raises(ClientClosedError) as caught:
        rig.call("pay", 99)
    assert (caught.value.delivery, caught.value.__cause__) == (Delivery.NOT_SENT, None)
