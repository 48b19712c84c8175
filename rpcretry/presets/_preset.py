"""A strategy that knows what it was made of, so that another can be made from it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, Never, TypeAlias

from .._check import plain_callable_with, text
from ..outcome import Outcome
from ..retry.backoff import BackoffLike
from ..retry.strategy import DEFAULT_BACKOFF, TRANSIENT_CODES, TRANSIENT_STATUSES, Codes, Exceptions, Idempotent, RetryStrategy, When
from ._methods import MethodList

__all__ = ["Preset", "transient"]

Fatal: TypeAlias = "type[Exception] | int | range | Iterable[type[Exception] | int | range]"


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

    def __init__(
        self,
        name: str,
        *,
        methods: MethodList,
        codes: Codes = TRANSIENT_CODES,
        statuses: Codes = TRANSIENT_STATUSES,
        exceptions: Exceptions = (ConnectionError, TimeoutError),
        failures: Callable[[Exception], bool] | None = None,
        when: When | None = None,
        fatal: Fatal = (),
        backoff: BackoffLike = DEFAULT_BACKOFF,
        wrap: bool = False,
        doc: str | None = None,
    ) -> None:
        if not isinstance(methods, MethodList):
            raise TypeError(f"methods must be a MethodList, got {type(methods).__name__} {methods!r:.60}; write methods=MethodList(...)")
        if failures is not None:
            plain_callable_with("failures", failures, 1, "it gets the exception")
        parts = _Parts(codes, statuses, exceptions, fatal)
        self.name = text("name", name)
        self.methods = methods
        self.codes, self.statuses, self.exceptions, self.fatal = parts.codes, parts.statuses, parts.exceptions, parts.fatal
        self._failures = failures
        if doc is not None:
            self.__doc__ = doc
        super().__init__(
            codes=self.codes,
            statuses=self.statuses,
            exceptions=self.exceptions,
            when=when,
            fatal=self.fatal,
            idempotent=methods,
            backoff=backoff,
            wrap=wrap,
        )

    def extended(
        self,
        *,
        codes: Codes = (),
        statuses: Codes = (),
        exceptions: Exceptions = (),
        when: When | None = None,
        fatal: Fatal = (),
        idempotent: Idempotent = (),
        never: str | Iterable[str] = (),
        backoff: BackoffLike | None = None,
        wrap: bool | None = None,
        **unknown: Never,
    ) -> Preset:
        """Another preset, with more to it. What is given is added; ``backoff`` and ``wrap`` replace what this one has.

        :param codes: more JSON-RPC codes. To name one says that the server did not act where it answers so: then a request
            goes again for every method.
        :param statuses: more HTTP statuses.
        :param exceptions: more exception classes.
        :param when: asked for what nothing else matched, before the preset's own.
        :param fatal: more that is never retried.
        :param idempotent: more methods that may be executed twice: names, globs, a predicate of the request, or ``True``
            for all. It counts as said, also for methods that the preset itself never repeats.
        :param never: methods that may not be executed twice, or are too dear for that: names and globs.
        :param backoff: another backoff.
        :param wrap: whether to raise :class:`~rpcretry.RetryExhaustedError` when the attempts run out.
        :raises TypeError, ValueError: naming the parameter, its value and the fix.
        """
        # What is unknown here is unknown there, and is refused with the name that was meant.
        RetryStrategy(when=when, **unknown)
        added = _Parts(codes, statuses, exceptions, fatal)
        return Preset(
            self.name,
            methods=self.methods.extended(idempotent, never=never),
            codes=self.codes | added.codes,
            statuses=self.statuses | added.statuses,
            exceptions=self.exceptions | added.exceptions,
            failures=self._failures,
            when=when if self.when is None else self.when if when is None else _Either(when, self.when),
            fatal=self.fatal | added.fatal,
            backoff=self.backoff if backoff is None else backoff,
            wrap=self.wrap if wrap is None else wrap,
            doc=self.__doc__,
        )

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

    def __repr__(self) -> str:
        return f"Preset({self.name!r}, backoff={self.backoff!r})"


class _Parts:
    """What may be given as one or as several, as sets, after RetryStrategy has said what is wrong with it."""

    def __init__(self, codes: Codes, statuses: Codes, exceptions: Exceptions, fatal: Fatal) -> None:
        given = {"codes": codes, "statuses": statuses, "exceptions": exceptions, "fatal": fatal}
        # Listed first: an iterator can be looked at only once.
        listed: dict[str, Any] = {name: _listed(value) for name, value in given.items()}
        RetryStrategy(**listed)
        self.codes: frozenset[int | range] = frozenset(listed["codes"])
        self.statuses: frozenset[int | range] = frozenset(listed["statuses"])
        self.exceptions: frozenset[type[Exception]] = frozenset(listed["exceptions"])
        self.fatal: frozenset[type[Exception] | int | range] = frozenset(listed["fatal"])


def _listed(value: object) -> list[object]:
    if value is None:
        return []
    return list(value) if isinstance(value, Iterable) and not isinstance(value, (range, str, type)) else [value]


class _Either:
    """Two conditions; the second is asked where the first does not retry."""

    def __init__(self, first: When, second: When) -> None:
        self.first = first
        self.second = second

    def __call__(self, outcome: Outcome, attempt: int) -> bool | float | None:
        answer = self.first(outcome, attempt)
        # 0.0 is an answer: at once.
        return self.second(outcome, attempt) if answer is None or answer is False else answer


# It would show the parameters of the base class, which has a signature of its own.
_init = inspect.signature(Preset.__init__)
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
