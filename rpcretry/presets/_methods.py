"""Lists of methods with exceptions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeAlias, cast

from .._check import plain_callable_with
from ..messages import Request
from ..retry.strategy import Idempotent, RetryStrategy, _idempotency, _several

__all__ = ["MethodList"]

NamesOf: TypeAlias = "Callable[[Request], Iterable[str]]"
"""From a request to what it calls: one name, several where one request makes several calls, none where it cannot be read."""


class _Named(NamedTuple):
    """Names and globs, and whether a method that matches one of them may be executed twice."""

    given: frozenset[str]
    exact: frozenset[str]
    globs: tuple[re.Pattern[str], ...]
    verdict: bool

    def __call__(self, name: str, request: Request) -> bool | None:
        return self.verdict if name in self.exact or any(glob.match(name) for glob in self.globs) else None

    def __repr__(self) -> str:
        return f"{'may' if self.verdict else 'never'} {', '.join(map(repr, sorted(self.given)))}"


class _Asked(NamedTuple):
    """A predicate of the user's or ``True``, which names what may be executed twice and forbids nothing."""

    given: object
    declared: RetryStrategy

    def __call__(self, name: str, request: Request) -> bool | None:
        return self.declared.is_idempotent(request) or None

    def __repr__(self) -> str:
        # Its name only: what a partial or an object holds is the user's.
        return "may all" if self.given is True else f"may if {getattr(self.given, '__qualname__', type(self.given).__name__)}"


Rule: TypeAlias = "_Named | _Asked"


def method_of(request: Request) -> Iterable[str]:
    """What a request calls, on most servers: its method."""
    return (request.method,)


def params_on_the_wire(request: Request) -> object:
    """The params as the server gets them, whatever they were made of; ``None`` where they cannot be read."""
    # Asked after a failure only, when a client has the codec long since.
    from .._json import JsonCodec

    codec = JsonCodec()
    try:
        return codec.loads(codec.dumps(request.params))
    except Exception:
        # Serializers of the user's raise what they like, and the failure that is being judged must not be lost behind that.
        return None


class MethodList:
    """Which methods may be executed twice, with exceptions: a predicate for ``RetryStrategy(idempotent=...)``. Immutable.

    ``MethodList("get_*", never="get_lock")`` says what no glob says. A request that makes several calls may be
    executed twice where all of them may.

    :param idempotent: names and globs (``"get_*"``), a predicate of the request, or ``True`` for all. Another list adds its
        own rules, what it forbids included; one whose ``names_of`` is another is a predicate, which forbids nothing.
    :param never: names and globs that are not meant, whatever ``idempotent`` says.
    :param names_of: what a request calls, for servers that wrap a call into the params of another; returns a list of the
        names that ``idempotent`` and ``never`` are compared with. A request of which it returns none may not be executed
        twice, whatever ``idempotent`` says.
    :ivar names: the names and globs that one of the rules allows. A rule that is asked before may forbid some of them; the repr
        shows the rules in their order. What ``True`` and predicates allow is not in it.
    :ivar never: the names and globs that one of the rules forbids. A rule that is asked before may allow some of them.
    :raises TypeError: naming the parameter and its value. A call of the list raises it, too, where ``names_of`` returns anything
        but several str.
    """

    names: frozenset[str]
    never: frozenset[str]
    _rules: tuple[Rule, ...]
    _names_of: NamesOf

    def __init__(self, idempotent: Idempotent | None = (), *, never: str | Iterable[str] | None = (), names_of: NamesOf = method_of) -> None:
        plain_callable_with("names_of", names_of, 1, "it gets the request and returns the names of what it calls")
        self._set(_rules(idempotent, never, names_of), names_of)

    def extended(self, idempotent: Idempotent | None = (), *, never: str | Iterable[str] | None = ()) -> MethodList:
        """Another list, which is asked first; where it says nothing, this one decides.

        :param idempotent: what else may be executed twice; also what this list forbids.
        :param never: what may not; also what this list allows.
        :raises TypeError: naming the parameter and its value.
        """
        twin = MethodList.__new__(MethodList)
        twin._set((*_rules(idempotent, never, self._names_of), *self._rules), self._names_of)
        return twin

    def _set(self, rules: tuple[Rule, ...], names_of: NamesOf) -> None:
        named = [rule for rule in rules if isinstance(rule, _Named)]
        names = frozenset(name for rule in named if rule.verdict for name in rule.given)
        never = frozenset(name for rule in named if not rule.verdict for name in rule.given)
        self.__dict__.update(_rules=rules, _names_of=names_of, names=names, never=never)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a MethodList is immutable; extended(...) makes another one with other {name}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a MethodList is immutable; it keeps its {name}")

    def __call__(self, request: Request) -> bool:
        """Whether *request* may be executed twice."""
        names = _listed(self._names_of(request))
        return bool(names) and all(self._allows(name, request) for name in names)

    def _allows(self, name: str, request: Request) -> bool:
        for rule in self._rules:
            verdict = rule(name, request)
            if verdict is not None:
                return verdict
        return False

    def _allows_all(self) -> bool:
        """Whether ``True`` comes before anything that forbids: then even what has no request may be executed twice."""
        for rule in self._rules:
            if rule.given is True:
                return True
            if isinstance(rule, _Named) and not rule.verdict:
                return False
        return False

    def __repr__(self) -> str:
        return f"MethodList({'; '.join(map(repr, self._rules))})"


def _listed(names: object) -> tuple[str, ...]:
    """What ``names_of`` returned, once: an iterator is true though it is empty, and a str is one name and no letters."""
    if isinstance(names, (str, bytes, bytearray)) or not isinstance(names, Iterable):
        # What stands in the params may be secret, so no values.
        raise TypeError(f"names_of must return several names, got {type(names).__name__}; write [name]")
    listed = tuple(names)
    for name in listed:
        if not isinstance(name, str):
            raise TypeError(f"names_of must return names, which are str, got one that is {type(name).__name__}; write [name]")
    return listed


def _rules(idempotent: Idempotent | None, never: str | Iterable[str] | None, names_of: NamesOf) -> tuple[Rule, ...]:
    """The rules in the order in which they are asked."""
    rules: list[Rule] = []
    if forbidden := _several(never):
        rules.append(_named("never", forbidden, False))
    if isinstance(idempotent, MethodList) and idempotent._names_of in (method_of, names_of):
        rules.extend(idempotent._rules)
    elif isinstance(idempotent, Iterable):
        if allowed := _several(idempotent):
            rules.append(_named("idempotent", allowed, True))
    elif idempotent is not None and idempotent is not False:
        # It says what is wrong with a predicate, and with what that returns.
        rules.append(_Asked(idempotent, RetryStrategy(idempotent=idempotent)))
    return tuple(rules)


def _named(parameter: str, given: list[str], verdict: bool) -> _Named:
    exact, globs = _idempotency(given, parameter)
    return _Named(frozenset(given), cast("frozenset[str]", exact), globs, verdict)
