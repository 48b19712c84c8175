"""Numbers that the prose of the pages states are those of the code."""

from __future__ import annotations

import re

import pytest
from pages import DOCS

from rpcretry import layers
from rpcretry.backends import aiohttp, requests
from rpcretry.retry import TRANSIENT_CODES, TRANSIENT_STATUSES


def numbers(page: str, pattern: str) -> set[int]:
    """The numbers in what the pattern finds once on a page, line breaks left aside."""
    (found,) = re.findall(pattern, " ".join((DOCS / page).read_text().split()))
    return {int(number) for number in re.findall(r"-?\d+", found)}


def test_the_codes_and_statuses_of_the_preset_are_as_the_page_says() -> None:
    assert numbers("strategies.rst", r"usually transient: JSON-RPC codes (.*?), HTTP") == TRANSIENT_CODES
    assert numbers("strategies.rst", r"usually transient: JSON-RPC codes .*?, HTTP ([\d, ]+and \d+)") == TRANSIENT_STATUSES
    assert numbers("cli.rst", r"timeouts, HTTP ([\d, ]+and \d+)") == TRANSIENT_STATUSES


@pytest.mark.parametrize("backend", [requests, aiohttp])
def test_the_largest_answer_is_as_the_page_says(backend: object) -> None:
    assert {most * 2**20 for most in numbers("troubleshooting.rst", r"An answer of more than (\d+) MiB")} == {backend.MAX_RESPONSE_SIZE}  # type: ignore[attr-defined]


def test_the_limit_of_an_attempt_is_as_the_pages_say() -> None:
    with requests.Client("http://localhost") as client:
        (limit,) = {client._options.policy.timeout}
    assert numbers("troubleshooting.rst", r"``timeout`` passed, (\d+) s if nothing was said") == {limit}
    assert numbers("tutorial.rst", r"limits each attempt \((\d+) s if you say nothing\)") == {limit}


def test_the_cap_of_a_hint_is_as_the_page_says() -> None:
    assert numbers("faq.rst", r"A hint over (\d+ s counts as \d+) s") == {layers.RetryAfter().max_delay}
