"""The page for those who come from elsewhere: our names exist, and theirs are refused with ours in the message."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from rpcretry.client import ClientOptions
from rpcretry.functions import RetryOptions, retry

PAGE = (Path(__file__).parent.parent.parent / "docs" / "migrating.rst").read_text()
OPTIONS = RetryOptions.__annotations__
MODULES = [
    importlib.import_module(f"rpcretry{name}") for name in ("", ".functions", ".retry", ".layers", ".events", ".testing", ".metrics", ".backends.requests")
]

# Words of Python, of the prose and of other things that are no names of ours.
PROSE = {"async for", "async def", "with breaker:", "async with breaker:", "rpcretry"}
# What RetryStrategy takes, named where the text speaks of one.
OF_STRATEGY = {"statuses", "when", "max_value"}


class Row(NamedTuple):
    section: str
    theirs: list[str]
    ours: list[str]


def rows() -> Iterator[Row]:
    """Each row of each table: the literals of its two cells."""
    for section, body in re.findall(r"^([^\n]+)\n-{3,}\n(.*?)(?=^[^\n]+\n-{3,}\n|\Z)", PAGE, re.MULTILINE | re.DOTALL):
        for table in re.findall(r"\.\. list-table::\n(.*?)(?=\n\S|\Z)", body, re.DOTALL):
            for row in re.split(r"^   \* - ", table, flags=re.MULTILINE)[2:]:
                cells = re.split(r"^     - ", row, flags=re.MULTILINE)
                assert len(cells) == 2, row
                theirs, ours = (re.findall(r"``(.+?)``", " ".join(cell.split())) for cell in cells)
                yield Row(section, theirs, ours)


ROWS = list(rows())


def keywords() -> Iterator[tuple[str, list[str]]]:
    """Their keywords of a decorator, with our names beside them."""
    for section, theirs, ours in ROWS:
        # pjrpc decorates nothing.
        for name in theirs:
            match = re.match(r"(\w+)=", name)
            if match and section != "pjrpc":
                yield match[1], ours


def find(name: str) -> Any:
    """A public name of the package."""
    found = [getattr(module, name) for module in MODULES if name in getattr(module, "__all__", ())]
    assert found, f"{name} is no public name"
    return found[0]


def takes(function: Any, name: str) -> bool:
    parameters = inspect.signature(function.__init__ if isinstance(function, type) else function).parameters
    options = [of for of, base in ((OPTIONS, "Retry"), (ClientOptions.__annotations__, "Client")) if base in function.__name__]
    return name in parameters or (any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()) and any(name in of for of in options))


def check(literal: str) -> None:
    """Refuse a literal of the right column that means nothing here."""
    if literal in PROSE or literal in OF_STRATEGY or literal == "_retry_strategy=":
        return
    option = re.fullmatch(r"(\w+)=(.*)", literal)
    if option:
        assert option[1] in OPTIONS, literal
        if re.match(r"[A-Z]\w+", option[2]) and option[2] not in ("None", "True", "OSError", "ValueError", "Exception"):
            check(option[2])
        return
    match = re.fullmatch(r"(\w+)(?:\(([^()]*)\))?(?:\.(\w+))?", literal)
    assert match, f"{literal!r} is no name, no call and no option"
    value = find(match[1])
    for parameter in re.findall(r"(\w+)=", match[2] or ""):
        assert takes(value, parameter), f"{literal}: {match[1]} has no parameter {parameter}"
    if match[3]:
        assert has(value, match[3]), f"{literal}: no attribute {match[3]}"


def has(value: Any, attribute: str) -> bool:
    if value.__name__ == "current_attempt":
        return has(find("CurrentAttempt"), attribute)
    # Exceptions get their attributes in __init__, slots classes have them in __slots__.
    return hasattr(value, attribute) or (issubclass(value, Exception) and hasattr(value(), attribute))


def test_the_tables_are_there() -> None:
    sections = [row.section for row in ROWS]
    counts = {section: sections.count(section) for section in dict.fromkeys(sections)}
    assert list(counts) == ["tenacity", "stamina", "backoff", "pybreaker", "pjrpc", "Helpers of one's own"]
    assert min(counts.values()) >= 10, counts


def test_the_names_of_helpers_that_many_have_are_there() -> None:
    theirs = " ".join(name for row in ROWS for name in row.theirs)
    for name in (
        "RetryConfig(max_retries, initial_delay, exponential_base)",
        "RetryHandler(config).execute",
        "CircuitBreakerError.remaining_timeout",
        "failure_exceptions",
        "RetryContext.current()",
        "BulkRetryManager",
    ):
        assert name in theirs, name


@pytest.mark.parametrize("literal", sorted({literal for row in ROWS for literal in row.ours}))
def test_our_names_exist(literal: str) -> None:
    check(literal)


@pytest.mark.parametrize(
    "literal", ["max_tries=4", "CircuitBreakers", "CircuitBreaker(fail_max=5)", "CircuitBreaker.stat", "current_attempt().num", "Retrying(codes=)"]
)
def test_a_wrong_name_is_found(literal: str) -> None:
    with pytest.raises(AssertionError):
        check(literal)


@pytest.mark.parametrize(("keyword", "ours"), [pair for pair in keywords() if pair[0] not in OPTIONS])
def test_their_keyword_is_refused_with_our_name(keyword: str, ours: list[str]) -> None:
    with pytest.raises(TypeError) as caught:
        retry(**{keyword: None})  # type: ignore[call-overload]
    said = str(caught.value)
    assert said.startswith(f"retry has no parameter {keyword!r}; here it is ")
    named = {word for literal in ours for word in re.findall(r"\w+", literal)}
    assert named & set(re.findall(r"\w+", said.partition("; here it is ")[2])), (said, ours)


def test_few_keywords_are_the_same_here() -> None:
    # Each of them means the same, but for stamina's timeout, of which the page warns.
    assert {keyword for keyword, _ in keywords() if keyword in OPTIONS} == {"sleep", "on", "timeout", "jitter"}
    warning = re.search(r"\.\. warning::\n\n(.*?)\n\n\.\. list-table", PAGE, re.DOTALL)
    assert warning
    assert "``deadline=``" in warning[1]
