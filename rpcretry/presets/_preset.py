"""A strategy that knows what it was made of, so that another can be made from it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Never, Self, TypeAlias

from .._check import plain_callable_with, refuse_unknown, text
from ..messages import Request
from ..outcome import Outcome
from ..retry.backoff import BackoffLike
from ..retry.strategy import (
    _SYNONYMS,
    DEFAULT_BACKOFF,
    TRANSIENT_CODES,
    TRANSIENT_STATUSES,
    Codes,
    Exceptions,
    Idempotent,
    RetryStrategy,
    When,
    _several,
)
from ._methods import MethodList

__all__ = ["Preset", "transient"]

Fatal: TypeAlias = "type[Exception] | int | range | Iterable[type[Exception] | int | range]"
Failures: TypeAlias = "Callable[[Exception], bool]"

_HERE = {**_SYNONYMS, "idempotent": "methods=MethodList(...)", "never": "methods=MethodList(..., never=...)"}
_IN_EXTENDED = {**_SYNONYMS, "methods": "idempotent and never"}


class Preset(RetryStrategy):
    """A :class:`~rpcretry.RetryStrategy` for one kind of server, to be used as it is or as the start of another.

    What the server may have executed is repeated only for the methods of its list; connection failures and
    timeouts are among what is retried. Where a preset's numbers come from is in its own ``__doc__``.

    :param name: what it is called in its repr.
    :param methods: the methods that may be executed twice.
    :param codes: JSON-RPC codes by which the server says that it did not act.
    :param statuses: HTTP statuses to retry.
    :param exceptions: exception classes to retry.
    :param failures: a predicate of the exception, for failures that have no code or status of their own. Unlike ``when`` it
        is never asked about a success, and costs one nothing.
    :param when: asked for what nothing else matched, as in a RetryStrategy.
    :param fatal: exception classes and codes that are never retried.
    :param backoff: when to try again.
    :param wrap: as in a RetryStrategy.
    :param doc: what it retries, and where that comes from.
    :ivar methods: the list of its methods; ``preset.methods(request)`` says whether the request may be executed twice.
    :ivar codes: the codes, ints and ranges.
    :ivar statuses: the HTTP statuses.
    :ivar exceptions: the exception classes.
    :ivar fatal: what is never retried.
    :raises TypeError, ValueError: naming the parameter, its value and the fix.
    """

    name: str
    methods: MethodList
    codes: frozenset[int | range]
    statuses: frozenset[int | range]
    exceptions: frozenset[type[Exception]]
    fatal: frozenset[type[Exception] | int | range]
    _failures: Failures | None

    if not TYPE_CHECKING:

        def __new__(cls, *args, **kwargs):
            if cls.__init__ is Preset.__init__:
                refuse_unknown(cls.__name__, kwargs, _PARAMETERS, _HERE)
            return super().__new__(cls)

    def __init__(
        self,
        name: str,
        *,
        methods: MethodList,
        codes: Codes | None = TRANSIENT_CODES,
        statuses: Codes | None = TRANSIENT_STATUSES,
        exceptions: Exceptions | None = (ConnectionError, TimeoutError),
        failures: Failures | None = None,
        when: When | None = None,
        fatal: Fatal | None = (),
        backoff: BackoffLike = DEFAULT_BACKOFF,
        wrap: bool = False,
        doc: str | None = None,
    ) -> None:
        name = text("name", name)
        if not isinstance(methods, MethodList):
            raise TypeError(f"methods must be a MethodList, got {type(methods).__name__} {methods!r:.60}; write methods=MethodList(...)")
        if failures is not None:
            plain_callable_with("failures", failures, 1, "it gets the exception")
        # Listed first: an iterator can be looked at only once.
        given = {"codes": _several(codes), "statuses": _several(statuses), "exceptions": _several(exceptions), "fatal": _several(fatal)}
        described = {} if doc is None else {"__doc__": text("doc", doc)}
        super().__init__(**given, when=when, idempotent=methods, backoff=backoff, wrap=wrap)
        self.__dict__.update(described, name=name, methods=methods, _failures=failures, **{part: frozenset(items) for part, items in given.items()})

    def extended(
        self,
        *,
        name: str | None = None,
        codes: Codes | None = None,
        statuses: Codes | None = None,
        exceptions: Exceptions | None = None,
        failures: Failures | None = None,
        when: When | None = None,
        fatal: Fatal | None = None,
        idempotent: Idempotent | None = None,
        never: str | Iterable[str] | None = None,
        backoff: BackoffLike | None = None,
        wrap: bool | None = None,
        doc: str | None = None,
        **unknown: Never,
    ) -> Self:
        """Another preset, with more to it. What is given is added; ``name``, ``backoff``, ``wrap`` and ``doc`` replace what this one has.

        A subclass whose constructor takes other parameters has to override it.

        :param name: what the other one is called in its repr.
        :param codes: more JSON-RPC codes. To name one says that the server did not act where it answers so: then a request
            goes again for every method.
        :param statuses: more HTTP statuses.
        :param exceptions: more exception classes.
        :param failures: a predicate of the exception, asked where the preset's own does not retry.
        :param when: asked for what nothing else matched, before the preset's own.
        :param fatal: more that is never retried.
        :param idempotent: more methods that may be executed twice: names, globs, a predicate of the request, ``True``
            for all, or a :class:`MethodList`. It counts as said, also for methods that the preset itself never repeats.
        :param never: methods that may not be executed twice, or are too dear for that: names and globs.
        :param backoff: another backoff.
        :param wrap: whether to raise :class:`~rpcretry.RetryExhaustedError` when the attempts run out.
        :param doc: the other one's ``__doc__``. Without it that is this one's, after a line that says what was given.
        :raises TypeError, ValueError: naming the parameter, its value and the fix.
        """
        refuse_unknown(f"{type(self).__name__}.extended", unknown, _EXTENDS, _IN_EXTENDED)
        if failures is not None:
            plain_callable_with("failures", failures, 1, "it gets the exception")
        given = {
            "codes": codes,
            "statuses": statuses,
            "exceptions": exceptions,
            "failures": failures,
            "when": when,
            "fatal": fatal,
            "idempotent": idempotent,
            "never": never,
            "backoff": backoff,
            "wrap": wrap,
        }
        return type(self)(
            self.name if name is None else name,
            methods=self.methods.extended(idempotent, never=never),
            codes=[*self.codes, *_several(codes)],
            statuses=[*self.statuses, *_several(statuses)],
            exceptions=[*self.exceptions, *_several(exceptions)],
            failures=failures if self._failures is None else self._failures if failures is None else _EitherFails(self._failures, failures),
            when=when if self.when is None else self.when if when is None else _Either(when, self.when),
            fatal=[*self.fatal, *_several(fatal)],
            backoff=self.backoff if backoff is None else backoff,
            wrap=self.wrap if wrap is None else wrap,
            doc=self._described([part for part, value in given.items() if value is not None]) if doc is None else doc,
        )

    def _described(self, given: list[str]) -> str | None:
        """The docstring of another one that was given these."""
        own: str | None = self.__dict__.get("__doc__")
        if not given:
            return own
        line = f"``{self.name}``, extended with {', '.join(given)}."
        return line if own is None else f"{line} Without that it is:\n\n{inspect.cleandoc(own)}\n"

    def is_idempotent(self, request: Request | None) -> bool:
        """Whether the request was declared safe to execute twice; a function, which has none, is where all methods are."""
        return self.methods._allows_all() if request is None else super().is_idempotent(request)

    def matches(self, error: Exception) -> str | None:
        """As that of a RetryStrategy; ``"failure"`` for what only this kind of server says in its own way."""
        found = super().matches(error)
        if found is None and self._failures is not None and not self._is_fatal(error) and self._failures(error):
            return "failure"
        return found

    def __setattr__(self, name: str, value: object) -> None:
        # The base class sets this one last.
        if hasattr(self, "wrap"):
            raise AttributeError(f"a Preset is immutable; extended(...) makes another one with other {name}")
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a Preset is immutable; it keeps its {name}")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, codes={_in_order(self.codes)}, statuses={_in_order(self.statuses)}, backoff={self.backoff!r})"


def _in_order(numbers: Iterable[int | range]) -> list[int | range]:
    return sorted(numbers, key=lambda one: (one.start, one.stop) if isinstance(one, range) else (one, one))


class _Either:
    """Two conditions; the second is asked where the first does not retry."""

    def __init__(self, first: When, second: When) -> None:
        self.first = first
        self.second = second

    def __call__(self, outcome: Outcome, attempt: int) -> bool | float | None:
        answer = self.first(outcome, attempt)
        # 0.0 is an answer: at once.
        return self.second(outcome, attempt) if answer is None or answer is False else answer


class _EitherFails:
    """Two predicates of an exception."""

    def __init__(self, first: Failures, second: Failures) -> None:
        self.first = first
        self.second = second

    def __call__(self, error: Exception) -> bool:
        return self.first(error) or self.second(error)


# inspect and help() would otherwise show the parameters of the __new__ that checks their names.
_init = inspect.signature(Preset.__init__)
_PARAMETERS = tuple(_init.parameters)[1:]
# Without self and the unknown ones.
_EXTENDS = tuple(inspect.signature(Preset.extended).parameters)[1:-1]
type.__setattr__(Preset, "__signature__", _init.replace(parameters=list(_init.parameters.values())[1:]))

transient = Preset(
    "transient",
    methods=MethodList(),
    doc="""What ``RetryStrategy()`` does, by a name, and to be extended.

    Naming ``codes`` in a RetryStrategy replaces what is usually transient; ``transient.extended(codes=...)`` adds to it.

    * JSON-RPC codes -32005 ("limit exceeded" of EIP-1474) and 429 (HTTP's
      status, used as a code): the server refused, so every method goes again.
    * HTTP 429, and 503 with Retry-After (RFC 6585 and RFC 9110): it refused, so every method goes again.
    * HTTP 408, 502, 503 and 504, a connection that broke, a timeout: it may have acted, so only the methods that
      ``extended(idempotent=...)`` names go again. Nothing is known of the server, so the list is empty.
    * A connection that was never made: every method goes again.

    Three retries within 0.1, 0.2 and 0.4 s with full jitter, 0.7 s of waiting at the most: an exponential backoff with full
    jitter needed the fewest calls in Brooker's simulation ("Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
    """,
)
