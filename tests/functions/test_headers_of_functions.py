"""For tests/functions/: a failure whose headers hold something else than text must not be hidden behind an error of ours."""

from __future__ import annotations

import pytest

from rpcretry.functions import retry
from rpcretry.testing import VirtualTime


@pytest.mark.parametrize(("value", "waits"), [(3, [3.0]), (b"3", [1.0]), (None, [1.0]), (object(), [1.0])])
def test_a_failure_whose_headers_hold_no_text_is_tried_again(value: object, waits: list[float]) -> None:
    time, calls = VirtualTime(), []

    class Busy(ConnectionError):
        headers = {"Retry-After": value}

    @retry(on=Busy, base_delay=1.0, jitter=None, clock=time.clock, sleep=time.sleep)
    def work() -> int:
        calls.append(1)
        if len(calls) == 1:
            raise Busy
        return 5

    assert work() == 5
    assert time.delays == pytest.approx(waits)
