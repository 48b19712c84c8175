"""Backoffs and causes in words, for the command line and for policy files: text to backoffs, codes, statuses and exception classes."""

from __future__ import annotations

import builtins
import dataclasses
import math
import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from . import errors
from ._check import closest
from .retry.backoff import (
    UNLIMITED,
    Backoff,
    DecorrelatedJitterBackoff,
    ExponentialBackoff,
    FibonacciBackoff,
    ImmediateBackoff,
    LinearBackoff,
    PeriodicBackoff,
)
from .retry.jitter import AdditiveJitter, EqualJitter, FullJitter, Jitter, ProportionalJitter, uniform
from .retry.strategy import refuse_never_retried

__all__ = ["ATTEMPTS", "KINDS", "Causes", "SpecError", "parse_backoff", "parse_causes"]

KINDS: Final[dict[str, type[Backoff]]] = {
    "exponential": ExponentialBackoff,
    "periodic": PeriodicBackoff,
    "linear": LinearBackoff,
    "fibonacci": FibonacciBackoff,
    "decorrelated": DecorrelatedJitterBackoff,
    "immediate": ImmediateBackoff,
}
"""The backoffs by the names that they have in words."""

ATTEMPTS: Final = 3
"""The retries of a backoff that does not say how many, as those of the default strategy."""

JITTERS: Final = ("none", "full", "equal", "decorrelated", "a proportion such as 0.2", "added seconds such as +0.5")

# What other programs call them.
_OTHER_NAMES = {
    "constant": "periodic",
    "const": "periodic",
    "fixed": "periodic",
    "fibo": "fibonacci",
    "expo": "exponential",
    "exp": "exponential",
    "none": "immediate",
    "zero": "immediate",
    "incrementing": "linear",
}

_CODES = re.compile(r"([+-]?\d{1,18})(?:\.\.([+-]?\d{1,18}))?", re.ASCII)


class SpecError(ValueError):
    """A text that is no backoff, or names nothing to retry. The message says what is wrong with it, and what to write."""


def parse_backoff(text: str, random: Callable[[], float] = uniform) -> Backoff:
    """Read a backoff such as ``exponential:base=0.1,factor=2,attempts=5,jitter=full``.

    :param random: a source of numbers in [0, 1), for its jitter.
    :raises SpecError: naming the part that is wrong.
    """
    kind, _, rest = text.partition(":")
    kind = kind.strip().lower()
    if kind not in KINDS:
        meant = _OTHER_NAMES.get(kind)
        raise SpecError(f"unknown backoff {kind!r:.40}{f'; here it is called {meant}' if meant else closest(kind, list(KINDS))}")
    given = _pairs(kind, rest)
    cls = KINDS[kind]
    if given.get("jitter", "").lower() == "decorrelated" and cls is ExponentialBackoff:
        if "factor" in given:
            raise SpecError("exponential: decorrelated jitter grows by a factor of its own, 3; leave factor out")
        del given["jitter"]
        cls = DecorrelatedJitterBackoff
    options: dict[str, Any] = {"attempts": ATTEMPTS}
    known = [field.name for field in dataclasses.fields(cls) if field.name != "random"]
    for name, value in given.items():
        if name in known:
            options[name] = _jitter(value, random) if name == "jitter" else _attempts(kind, value) if name == "attempts" else _number(kind, name, value)
        else:
            raise SpecError(f"{kind} has no parameter {name!r:.40}{_meant(cls, name, known)}")
    if cls is DecorrelatedJitterBackoff:
        options["random"] = random
    try:
        return cls(**options)
    except (TypeError, ValueError) as problem:
        raise SpecError(f"{kind}: {problem}") from None


def _pairs(kind: str, text: str) -> dict[str, str]:
    given: dict[str, str] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not name or not value:
            raise SpecError(f"{kind}: write name=value, got {part!r:.40}; as in {kind}:attempts=5")
        if name in given:
            raise SpecError(f"{kind}: {name} is given twice")
        given[name] = value
    return given


def _meant(cls: type[Backoff], name: str, known: list[str]) -> str:
    """What the class itself says to a parameter that it does not have, where it knows the word."""
    try:
        cls(1, **{name: 1})
    except TypeError as problem:
        _, found, hint = str(problem).partition("; here it is called ")
        return found + hint if found else closest(name, known)
    return closest(name, known)


def _attempts(kind: str, text: str) -> int:
    if text.lower() in ("inf", "infinite", "unlimited"):
        return UNLIMITED
    try:
        return int(text)
    except ValueError:
        raise SpecError(f"{kind}: attempts must be a whole number or inf, got {text!r:.40}") from None


def _number(kind: str, name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        hint = "; give seconds without a unit" if re.match(r"[\d.]+\s*[a-z]+$", text, re.IGNORECASE) else ""
        raise SpecError(f"{kind}: {name} must be a number, got {text!r:.40}{hint}") from None


def _jitter(text: str, random: Callable[[], float]) -> Jitter | None:
    word = text.lower()
    if word in ("none", "false", "no"):
        return None
    if word in ("full", "true", "yes"):
        return FullJitter(random=random)
    if word == "equal":
        return EqualJitter(random=random)
    try:
        number = float(text)
        if math.isfinite(number):
            return (AdditiveJitter if text.startswith("+") else ProportionalJitter)(number, random=random)
    except ValueError:
        pass
    if word == "decorrelated":
        raise SpecError("jitter: only exponential has decorrelated jitter, which is a backoff of its own; write decorrelated:base=0.1,max_value=20")
    raise SpecError(f"jitter must be {', '.join(JITTERS[:-1])} or {JITTERS[-1]}, got {text!r:.40}")


class Causes(NamedTuple):
    """What is to be retried.

    :ivar codes: JSON-RPC error codes.
    :ivar statuses: HTTP statuses.
    :ivar exceptions: exception classes.
    """

    codes: list[int | range]
    statuses: list[int | range]
    exceptions: list[type[Exception]]


def parse_causes(text: str) -> Causes:
    """Read what to retry, such as ``2001,-32099..-32000,http:503,ConnectionError``.

    :raises SpecError: naming the part that is wrong.
    """
    found = Causes([], [], [])
    for part in filter(None, map(str.strip, text.split(","))):
        if part.lower().startswith("http:"):
            statuses = _codes(part[5:].strip())
            if statuses is None or not all(100 <= end <= 599 for end in ([statuses] if isinstance(statuses, int) else [statuses[0], statuses[-1]])):
                raise SpecError(f"{part!r:.40} is no HTTP status; write http:503 or http:500..599")
            found.statuses.append(statuses)
        elif (codes := _codes(part)) is not None:
            found.codes.append(codes)
        else:
            found.exceptions.append(_exception(part))
    if not any(found):
        raise SpecError("nothing to retry is named; write codes such as 2001, http:503, or ConnectionError")
    return found


def _codes(text: str) -> int | range | None:
    matched = _CODES.fullmatch(text)
    if matched is None:
        return None
    first = int(matched[1])
    if matched[2] is None:
        return first
    last = int(matched[2])
    if last < first:
        raise SpecError(f"{text!r} is empty; write the lower end first: {last}..{first}")
    return range(first, last + 1)


def _exception(name: str) -> type[Exception]:
    for module in (errors, builtins):
        found = getattr(module, name, None)
        if isinstance(found, type) and issubclass(found, Exception):
            try:
                refuse_never_retried(name, [found])
            except ValueError:
                raise SpecError(f"{name} ends a call and is never retried") from None
            return found
    known = ["ConnectionError", "TimeoutError", *(each for each in errors.__all__ if each.endswith("Error"))]
    near = closest(name, known)
    hint = near if near.startswith("; did") else "; write codes such as 2001 or -32099..-32000, http:503, or classes such as ConnectionError and TimeoutError"
    raise SpecError(f"{name!r:.40} is neither a code nor an error{hint}")
