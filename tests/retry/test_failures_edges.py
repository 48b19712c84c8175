"""How far a chain of causes is looked at, and what a call is that says nothing of itself."""

from __future__ import annotations

import itertools

import pytest

from rpcretry.retry._failures import caused
from rpcretry.retry._subject import Subject


def chain(length: int) -> list[Exception]:
    """Each raised from the next."""
    errors: list[Exception] = [ValueError(str(index)) for index in range(length)]
    for error, cause in itertools.pairwise(errors):
        error.__cause__ = cause
    return errors


@pytest.mark.parametrize("length", [1, 2, 51, 99, 101])
def test_a_long_chain_of_causes_is_not_led_back_to_itself(length: int) -> None:
    errors = chain(length)
    last = errors[-1]
    assert caused(last, errors[0]) is last
    assert last.__cause__ is None


def test_a_call_that_says_nothing_of_itself_is_a_call_of_one() -> None:
    subject = Subject()
    (member,) = subject.make_members()
    assert (subject.operation, member.request, subject.recall_key(member), subject.is_too_large([member], [])) == ("call", None, None, False)
    assert (subject.stand_in(member, 5), subject.result_of(6), subject.portion([member])) == (5, 6, [member])
