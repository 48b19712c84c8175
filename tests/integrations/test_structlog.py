"""structlog writes the lines of the logger ``rpcretry``, with the fields of the records."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from support import Rig, both_drivers

from rpcretry import CircuitBreaker, Fallback, HTTPStatusError, RetryStrategy
from rpcretry.retry import PeriodicBackoff
from rpcretry.testing import http, result

AGAIN = RetryStrategy(statuses={503}, backoff=PeriodicBackoff(2, 0.5))


class Lines:
    def __init__(self) -> None:
        self.stream = io.StringIO()

    @property
    def written(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]


@pytest.fixture
def lines() -> Iterator[Lines]:
    found, logger = Lines(), logging.getLogger("rpcretry")
    handler = logging.StreamHandler(found.stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_log_level, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, structlog.processors.JSONRenderer()],
        )
    )
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield found
    logger.removeHandler(handler)
    logger.setLevel(level)


@both_drivers
def test_lines_have_the_fields_of_the_records(driver: str, lines: Lines) -> None:
    rig = Rig(driver, http(503), result(1), *[http(503)] * 3, retry_strategy=AGAIN)
    rig.call("sum")
    with pytest.raises(HTTPStatusError):
        rig.call("pay")
    first, succeeded, *_, given_up = lines.written
    assert first["level"] == "warning"
    assert first["event"] == "sum: attempt 1/3 failed: HTTPStatusError('HTTP 503: <html>'). Retrying in 0.50 s"
    assert (first["rpc_operation"], first["rpc_attempt"], first["rpc_max_attempts"], first["rpc_delay"]) == ("sum", 1, 3, pytest.approx(0.5))
    assert (first["rpc_reason"], first["rpc_error"], first["rpc_members"]) == ("status", "HTTPStatusError", 1)
    assert (succeeded["level"], succeeded["rpc_attempt"], succeeded["rpc_elapsed"]) == ("info", 2, pytest.approx(0.5))
    assert (given_up["level"], given_up["rpc_operation"], given_up["rpc_reason"], given_up["rpc_error"]) == ("error", "pay", "attempts", "HTTPStatusError")


def test_breakers_and_fallbacks(lines: Lines) -> None:
    rig = Rig("sync", http(503), layers=CircuitBreaker(failure_threshold=1, name="node"), fallback=Fallback(0))
    rig.call("sum")
    opened, fell_back = lines.written
    assert (opened["rpc_name"], opened["rpc_previous"], opened["rpc_state"]) == ("node", "closed", "open")
    assert (fell_back["rpc_operation"], fell_back["rpc_reason"]) == ("sum", "value")


def test_log_records_keep_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    Rig("sync", http(503), result(1), retry_strategy=AGAIN).call("sum")
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    kept = {name: value for name, value in vars(record).items() if name.startswith("rpc_")}
    assert {type(value) for value in kept.values()} <= {str, int, float}
    assert kept["rpc_error"] == "HTTPStatusError"


def test_lines_that_nobody_writes_are_not_worded(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    worded: list[object] = []
    monkeypatch.setattr("rpcretry.events._fields", lambda event: worded.append(event) or {})
    monkeypatch.setattr(HTTPStatusError, "__repr__", lambda error: worded.append(error) or "")
    rig = Rig("sync", http(503), result(1), *[http(503)] * 4, retry_strategy=AGAIN, fallback=Fallback(0))
    with caplog.at_level(logging.CRITICAL, "rpcretry"):
        assert [rig.call("sum"), rig.call("sum")] == [1, 0]
    assert worded == caplog.records == []
