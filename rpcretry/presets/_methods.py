"""Lists of methods with exceptions."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeAlias

from .._check import plain_callable_with
from ..messages import Request
from ..retry.strategy import Idempotent, RetryStrategy

__all__ = ["MethodList"]

NamesOf: TypeAlias = "Callable[[Request], Sequence[str]]"
"""From a request to what it calls: one name, or several where one request makes several calls."""


class _Named(NamedTuple):
    """Names and globs, and whether a method that matches one of them may be executed twice."""

    names: frozenset[str]
    verdict: bool

    def __call__(self, name: str, request: Request) -> bool | None:
        matches = name in self.names or any(fnmatch.fnmatchcase(name, glob) for glob in self.names)
        return self.verdict if matches else None


class _Asked(NamedTuple):
    """A predicate of the user's, which names what may be executed twice and forbids nothing."""

    predicate: Callable[[Request], bool]

    def __call__(self, name: str, request: Request) -> bool | None:
        return self.predicate(request) or None


Rule: TypeAlias = "_Named | _Asked"


def method_of(request: Request) -> Sequence[str]:
    """What a request calls, on most servers: its method."""
    return (request.method,)


class MethodList:
    """Which methods may be executed twice, with exceptions: a predicate for ``RetryStrategy(idempotent=...)``. Immutable.

    ``MethodList("get_*", never="get_lock")`` says what no glob says. A request that makes several calls may be
    executed twice where all of them may.

    :param idempotent: names and globs (``"get_*"``), a predicate of the request, or ``True`` for all.
    :param never: names and globs that are not meant, whatever ``idempotent`` says.
    :param names_of: what a request calls, for servers that wrap a call into the params of another; returns the
        names that ``idempotent`` and ``never`` are compared with.
    :ivar names: the names and globs that may be executed twice.
    :ivar never: those that may not.
    :raises TypeError: naming the parameter and its value.
    """

    names: frozenset[str]
    never: frozenset[str]
    _rules: tuple[Rule, ...]
    _names_of: NamesOf

    def __init__(self, idempotent: Idempotent = (), *, never: str | Iterable[str] = (), names_of: NamesOf = method_of) -> None:
        plain_callable_with("names_of", names_of, 1, "it gets the request and returns the names of what it calls")
        self._set(_rules(idempotent, never), names_of)

    def extended(self, idempotent: Idempotent = (), *, never: str | Iterable[str] = ()) -> MethodList:
        """Another list, which is asked first; where it says nothing, this one decides.

        :param idempotent: what else may be executed twice; also what this list forbids.
        :param never: what may not; also what this list allows.
        :raises TypeError: naming the parameter and its value.
        """
        twin = MethodList.__new__(MethodList)
        twin._set((*_rules(idempotent, never), *self._rules), self._names_of)
        return twin

    def _set(self, rules: tuple[Rule, ...], names_of: NamesOf) -> None:
        named = [rule for rule in rules if isinstance(rule, _Named)]
        names = frozenset(name for rule in named if rule.verdict for name in rule.names)
        never = frozenset(name for rule in named if not rule.verdict for name in rule.names)
        self.__dict__.update(_rules=rules, _names_of=names_of, names=names, never=never)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a MethodList is immutable; extended(...) makes another one with other {name}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a MethodList is immutable; it keeps its {name}")

    def __call__(self, request: Request) -> bool:
        """Whether *request* may be executed twice."""
        names = self._names_of(request)
        return bool(names) and all(self._allows(name, request) for name in names)

    def _allows(self, name: str, request: Request) -> bool:
        for rule in self._rules:
            verdict = rule(name, request)
            if verdict is not None:
                return verdict
        return False

    def __repr__(self) -> str:
        return f"MethodList({sorted(self.names)!r}, never={sorted(self.never)!r})"


def _rules(idempotent: Idempotent, never: str | Iterable[str]) -> tuple[Rule, ...]:
    """The rules in the order in which they are asked."""
    if isinstance(idempotent, Iterable) and not isinstance(idempotent, str):
        # Listed first: an iterator can be looked at only once.
        idempotent = tuple(idempotent)
    # It says what is wrong with what it is given, and its is_idempotent what is wrong with what a predicate returns.
    declared = RetryStrategy(idempotent=idempotent)
    forbidden = [never] if isinstance(never, str) else list(never) if isinstance(never, Iterable) else [never]
    for name in forbidden:
        if not isinstance(name, str):
            raise TypeError(f"never takes method names and globs, got {type(name).__name__} {name!r:.60}")
    rules: list[Rule] = [_Named(frozenset(forbidden), False)] if forbidden else []
    if isinstance(idempotent, bool) or callable(idempotent):
        rules.append(_Asked(declared.is_idempotent))
    elif idempotent:
        rules.append(_Named(frozenset([idempotent] if isinstance(idempotent, str) else idempotent), True))
    return tuple(rules)
