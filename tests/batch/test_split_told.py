"""What is told of a batch that goes in halves."""

from __future__ import annotations

from support import Rig, both_drivers

from rpcretry import BatchRequest, Request
from rpcretry.events import RetryScheduled
from rpcretry.testing import http, result


@both_drivers
def test_a_batch_that_goes_in_halves_is_not_told_as_the_last_attempt(driver: str) -> None:
    """Without a strategy the limit is one attempt, and the halves are more."""
    rig = Rig(driver, http(413), result("ok"), result("ok"), watched=True)
    rig.send(BatchRequest(Request("pay"), Request("pay")))
    (told,) = [event for event in rig.events if isinstance(event, RetryScheduled)]
    assert (told.attempt, told.max_attempts) == (1, None)
