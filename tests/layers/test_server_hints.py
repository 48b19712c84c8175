"""What the server asks for: each form of the hint at the edge of what is believed."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from rpcretry import ConnectionLostError, HTTPStatusError, JsonRpcError
from rpcretry.layers import RetryAfter
from rpcretry.outcome import Attempt, Member, Outcome, Retry, Stop

NOW = datetime.datetime(2026, 11, 22, 12, 0, 0, tzinfo=datetime.UTC).timestamp()


def hint(layer: RetryAfter, header: str | None = None, data: Any = None) -> float | None:
    headers = {} if header is None else {"Retry-After": header}
    return layer.hint(Outcome(error=JsonRpcError("busy", code=2001, data=data, status=200, headers=headers)))


def judged(header: str, delay: float, **options: Any) -> Retry | Stop:
    outcome = Outcome(error=HTTPStatusError("HTTP 503", status=503, headers={"Retry-After": header}))
    member = Member(None)
    return RetryAfter(**options).judge(Attempt(1, [member], 99.0, "x"), member, outcome, Retry(delay, "status"), 0.0)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("3", 3.0),
        (" 3 ", 3.0),
        ("0", 0.0),
        ("1.5", 1.5),
        ("999999999", 999999999.0),
        ("1000000000", None),
        ("-1", None),
        ("", None),
        ("soon", None),
        ("٣", None),
        ("Sun, 22 Nov 2026 12:00:30 GMT", 30.0),
        ("Sun, 22 Nov 2026 12:00:30", 30.0),
        ("Sun, 22 Nov 2026 13:00:30 +0100", 30.0),
        ("Sun, 22 Nov 2026 11:59:59 GMT", 0.0),
        ("Sun, 22 Nov 99999 12:00:30 GMT", None),
    ],
)
def test_the_header(header: str, seconds: float | None) -> None:
    assert hint(RetryAfter(wall_clock=lambda: NOW), header) == seconds


@pytest.mark.parametrize(
    ("data", "seconds"),
    [
        ({"retry_after": 3}, 3.0),
        ({"retryAfter": 3}, 3.0),
        ({"retry-after": 3}, 3.0),
        ({"backoff_seconds": 3}, 3.0),
        ({"try_again_in": 3}, 3.0),
        ({"retry_after": 0}, 0.0),
        ({"retry_after": 999_999_999.5}, 999_999_999.5),
        ({"retry_after": 1e9}, None),
        ({"retry_after": 1_000_000_000}, None),
        ({"retry_after": -1}, None),
        ({"retry_after": True}, None),
        ({"retry_after": None, "retryAfter": 4}, 4.0),
        ({"retry_after": "3"}, 3.0),
        ({"retry_after": " 1.5 S "}, 1.5),
        ({"retry_after": "3sec"}, 3.0),
        ({"retry_after": "3 seconds"}, 3.0),
        ({"retry_after": "250MS"}, 0.25),
        ({"retry_after": "2m"}, 120.0),
        ({"retry_after": "2h"}, None),
        ({"retry_after": "٣"}, None),
        ({"retry_after": "3 ſ"}, None),
        ({"retry_after": "1000000000"}, None),
        ({"retry_after": ["3"]}, None),
        ({"rate": {"backoff_seconds": 30}}, 30.0),
        ({"rate": {"rate": {"backoff_seconds": 30}}}, None),
        ({"rate": 30}, None),
        ("3", None),
        (None, None),
    ],
)
def test_the_data_of_an_error(data: Any, seconds: float | None) -> None:
    assert hint(RetryAfter(), None, data) == seconds


def test_the_header_goes_before_the_data_and_the_data_before_nothing() -> None:
    assert hint(RetryAfter(), "3", {"retry_after": 5}) == 3.0
    assert hint(RetryAfter(), "soon", {"retry_after": 5}) == 5.0


@pytest.mark.parametrize(
    ("header", "delay", "expected"),
    [
        ("3", 1.0, Retry(3.0, "status, the server asks for 3 s", True)),
        ("3", 3.0, Retry(3.0, "status")),
        ("3", 5.0, Retry(5.0, "status")),
        ("60", 1.0, Retry(60.0, "status, the server asks for 60 s", True)),
        ("61", 1.0, Retry(60.0, "status, the server asks for 61 s", True)),
        ("61", 60.0, Retry(60.0, "status")),
        ("90", 70.0, Retry(70.0, "status")),
        ("soon", 1.0, Retry(1.0, "status")),
    ],
)
def test_a_hint_raises_a_delay_and_lowers_none(header: str, delay: float, expected: Retry) -> None:
    assert judged(header, delay) == expected


def test_a_cap_of_nothing_believes_nothing() -> None:
    assert judged("3", 0.0, max_delay=0) == Retry(0.0, "status")
    assert judged("3", 0.0, max_delay=0.5) == Retry(0.5, "status, the server asks for 3 s", True)


@pytest.mark.parametrize("headers", [5, [("x",)], {5: "3"}, {"Retry-After": None}])
def test_headers_of_another_kind_say_nothing(headers: Any) -> None:
    """What a function raised may have an attribute of that name."""
    problem = ConnectionLostError("reset")
    problem.headers = headers  # type: ignore[attr-defined]
    assert RetryAfter().hint(Outcome(error=problem)) is None


@pytest.mark.parametrize(("value", "seconds"), [(3, 3.0), (1.5, 1.5), (0, 0.0), ("3", 3.0), (True, None), (-1, None), (b"3", None)])
def test_a_number_of_seconds_is_one_also_where_it_is_no_text(value: Any, seconds: float | None) -> None:
    problem = ConnectionLostError("reset")
    problem.headers = {"Retry-After": value}  # type: ignore[attr-defined]
    assert RetryAfter().hint(Outcome(error=problem)) == seconds


def test_an_outcome_without_headers_says_nothing() -> None:
    assert RetryAfter().hint(Outcome(5)) is None
    assert RetryAfter().hint(Outcome(error=ConnectionLostError("reset"))) is None
