"""Waiting as long as the server asks for."""

from __future__ import annotations

import datetime
import email.utils
import re
import time
from collections.abc import Callable, Mapping

from .._check import callable_with, number
from ..errors import JsonRpcError
from ..outcome import Attempt, Member, Outcome, Retry, Stop
from ..retry.layer import Layer
from ..transport import Headers

__all__ = ["RetryAfter"]

# What servers call the hint in ``error.data``, all in seconds. ``backoff_seconds`` stands in a ``rate`` object.
DATA_KEYS = ("retry_after", "retryAfter", "retry-after", "backoff_seconds", "try_again_in")
UNITS = {"": 1.0, "s": 1.0, "sec": 1.0, "seconds": 1.0, "ms": 0.001, "m": 60.0}


class RetryAfter(Layer):
    """Raises the delay to what the server asks for: Retry-After in seconds or as an HTTP date, or a hint in
    the error's ``data``. Every client and every retried function with a strategy has one; give it another to
    change the cap.

    :param max_delay: the longest wait in seconds that is accepted; a longer hint counts as this.
    :param wall_clock: seconds since the epoch, to read HTTP dates by.
    """

    def __init__(self, *, max_delay: float = 60.0, wall_clock: Callable[[], float] = time.time) -> None:
        self.max_delay = number("max_delay", max_delay, least=0)
        callable_with("wall_clock", wall_clock, 0, "pass time.time")
        self.wall_clock = wall_clock

    def judge(self, attempt: Attempt, member: Member, outcome: Outcome, verdict: Retry, now: float) -> Retry | Stop:
        hint = self.hint(outcome)
        if hint is None or hint <= verdict.delay:
            return verdict
        delay = min(hint, self.max_delay)
        return Retry(delay, f"{verdict.reason}, the server asks for {hint:g} s", held=True) if delay > verdict.delay else verdict

    def hint(self, outcome: Outcome) -> float | None:
        """The seconds that the server asks for, or ``None``."""
        try:
            header: object = Headers(outcome.headers).get("retry-after") if outcome.headers else None
        except Exception:
            # What a function returned or raised has headers of another kind.
            header = None
        # What a function raised may keep it as a number.
        found = self._header(header) if isinstance(header, str) else _duration(header)
        if found is None and isinstance(outcome.error, JsonRpcError):
            found = _in_data(outcome.error.raw_data)
        return found

    def _header(self, value: str) -> float | None:
        value = value.strip()
        if re.fullmatch(r"\d{1,9}(\.\d+)?", value, re.ASCII):
            return float(value)
        try:
            when = email.utils.parsedate_to_datetime(value)
            if when.tzinfo is None:
                # HTTP dates are GMT, said or not; a naive one would be read in the zone of this machine.
                when = when.replace(tzinfo=datetime.UTC)
            return max(0.0, when.timestamp() - self.wall_clock())
        except (TypeError, ValueError, OverflowError, IndexError):
            return None


def _in_data(data: object, depth: int = 2) -> float | None:
    if not isinstance(data, Mapping) or depth == 0:
        return None
    for key in DATA_KEYS:
        found = _duration(data.get(key))
        if found is not None:
            return found
    return _in_data(data.get("rate"), depth - 1)


def _duration(value: object) -> float | None:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value) if 0 <= value < 1e9 else None
    match = re.fullmatch(r"\s*(\d{1,9}(?:\.\d+)?)\s*([a-z]*)\s*", value, re.ASCII | re.IGNORECASE) if isinstance(value, str) else None
    if match is None or match[2].lower() not in UNITS:
        return None
    return float(match[1]) * UNITS[match[2].lower()]
