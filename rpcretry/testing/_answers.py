"""What the replies of a mock come to."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from ..messages import fresh
from ..transport import NO_HEADERS, Exchange, Headers, Reply
from ._calls import Call, UnexpectedCall
from ._expectations import Step

__all__ = ["delivered", "is_test_failure", "part_of", "played", "together"]


def part_of(exchange: Exchange, place: int, member: Any) -> Exchange:
    """One member of a batch as an exchange of its own."""
    requests = exchange.requests[place : place + 1]
    return Exchange(json.dumps(member).encode(), requests, (member["id"],) if "id" in member else (), exchange.headers, exchange.ends_by)


def played(step: Step, exchange: Exchange) -> Reply | Exception:
    """What a reply makes of an exchange.

    :raises UnexpectedCall: where that is nothing.
    """
    item: Any = step.item
    if callable(item) and not isinstance(item, BaseException):
        try:
            item = item(exchange)
        except AssertionError:
            raise
        except Exception as problem:
            item = problem
    if not isinstance(item, (Reply, Exception)):
        raise UnexpectedCall(f"a callable given to replies must return a Reply or an exception, it returned {item!r:.60}")
    return item


def together(replies: list[Reply | Exception], calls: Sequence[Call]) -> Reply | Exception:
    """The answer to a batch: what its members get, or what the whole exchange comes to."""
    answers, status, headers = [], 200, Headers(NO_HEADERS)
    for reply, call in zip(replies, calls, strict=True):
        if isinstance(reply, Exception):
            return reply
        try:
            document = json.loads(reply.body) if reply.body else None
        except ValueError:
            document = None
        if not isinstance(document, dict) and (reply.body or reply.status != 200):
            return reply
        status = status if reply.status == 200 else reply.status
        headers = headers.updated(reply.headers)
        if isinstance(document, dict) and not call.is_notification:
            answers.append(document)
    return Reply(json.dumps(answers).encode() if answers else b"", status, headers)


def is_test_failure(problem: BaseException) -> bool:
    """Whether it is what ``pytest.fail()`` raises."""
    pytest: Any = sys.modules.get("pytest")
    return pytest is not None and isinstance(problem, pytest.fail.Exception)


def delivered(found: Reply | Exception) -> Reply:
    """The reply; what stands for none is raised."""
    if isinstance(found, Exception):
        # No instance is raised to two callers.
        raise fresh(found)
    return found
