"""What an unexpected call may have been meant to be, and where two values differ."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from .._unset import UNSET
from ._calls import Call, host_of
from ._expectations import Expectation

__all__ = ["difference", "hint"]

# As much of a text as is compared: the time grows with its square.
LONGEST = 2_000
# Texts of this length are compared by eye.
BY_EYE = 80
# How many methods a message lists.
MOST = 10


def difference(found: object, wanted: object, place: str = "params") -> str | None:
    """The first place where *found* is not what was wanted, in words; ``None`` where there is none.

    :param wanted: may hold matchers.
    """
    if bool(found == wanted):
        return None
    if isinstance(found, dict) and isinstance(wanted, dict):
        for name, value in wanted.items():
            where = f"{place}[{name!r:.60}]"
            if name not in found:
                return f"{where} is missing"
            inner = difference(found[name], value, where)
            if inner is not None:
                return inner
        return next((f"{place}[{name!r:.60}] was not expected" for name in found if name not in wanted), None)
    if isinstance(found, list) and isinstance(wanted, list):
        for number, (one, other) in enumerate(zip(found, wanted, strict=False)):
            inner = difference(one, other, f"{place}[{number}]")
            if inner is not None:
                return inner
        return f"{place} has {len(found)} items, expected {len(wanted)}"
    if isinstance(found, str) and isinstance(wanted, str):
        same = next((number for number, (one, other) in enumerate(zip(found, wanted, strict=False)) if one != other), min(len(found), len(wanted)))
        begin = max(0, same - 10)
        return f"{place}{f' from character {begin}' if begin else ''}: {found[begin : begin + 50]!r}, expected {wanted[begin : begin + 50]!r}"
    texts = f"{found!r:.60}", f"{wanted!r:.60}"
    if texts[0] == texts[1]:
        texts = type(found).__name__, type(wanted).__name__
    return f"{place}: {texts[0]}, expected {texts[1]}"


def told_apart(found: object, wanted: object) -> str:
    """The end of a message: where they differ, unless the eye sees that."""
    texts = repr(found), repr(wanted)
    if max(map(len, texts)) <= BY_EYE and texts[0] != texts[1]:
        return ""
    place = difference(found, wanted)
    return "" if place is None else f"; they differ at {place}"


def nearest(value: object, others: Iterable[object]) -> list[object]:
    """*others*, those that look most like *value* first."""
    text = repr(value)[:LONGEST]
    return sorted(others, key=lambda other: -difflib.SequenceMatcher(None, text, repr(other)[:LONGEST]).ratio())


def hint(call: Call, expectations: Sequence[Expectation], used_up: Sequence[Expectation]) -> str:
    """What *call* may have been meant to be.

    :param used_up: those that it fits.
    """
    if used_up:
        total = sum(expectation.used for expectation in used_up)
        return f"{used_up[-1]} was expected {total} time{'' if total == 1 else 's'}, and this is one more"
    same = [expectation for expectation in expectations if expectation.method == call.method]
    if same:
        return _other_params(call, same)
    names = list(dict.fromkeys(expectation.method for expectation in expectations))
    if not names:
        return f"no calls are expected; write rpc_mock.on({call.method!r}).returns(...)"
    meant = difflib.get_close_matches(call.method, names, n=1)
    more = len(names) - MOST
    listed = ", ".join(names) if more <= 0 else f"{', '.join(map(str, nearest(call.method, names)[:MOST]))} and {more} more"
    return f"{f'did you mean {meant[0]}? Expected' if meant else 'expected'} are {listed}"


def _other_params(call: Call, same: Sequence[Expectation]) -> str:
    chosen = nearest(call.params, [expectation.params for expectation in same])
    ranked = sorted(same, key=lambda expectation: chosen.index(expectation.params))[:3]
    meant = " or ".join(str(expectation).removeprefix(f"{call.method} ") for expectation in ranked)
    wanted = ranked[0].params
    apart = "" if wanted is UNSET or callable(wanted) else told_apart(call.params, wanted)
    addresses = [expectation._address for expectation in ranked if expectation._address is not None]
    sent = ""
    if addresses and not any(address.covers(call.url) for address in addresses):
        part = next((part for part in (address.differing(call.url) for address in addresses) if part is not None), None)
        sent = f", and this one went to {'' if part is None else f'another {part} of '}{host_of(call.url)}"
    return f"{call.method} was expected {meant}{apart}{sent}"
