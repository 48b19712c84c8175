"""A sink that counts for `Prometheus <https://prometheus.io>`_. Needs the extra ``prometheus``."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable
from typing import ClassVar

from .._check import number, text
from ..errors import CircuitState, DeadlineExceeded, Refused
from ..events import BreakerChanged, BudgetRefused, CallFailed, CallSucceeded, Event, FallbackUsed, RetryScheduled
from ..metrics import OTHERS
from ._names import BoundedNames

try:
    from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
except ModuleNotFoundError as problem:
    raise ModuleNotFoundError('rpcretry.integrations.prometheus needs prometheus-client: pip install "rpcretry[prometheus]"', name=problem.name) from problem

__all__ = ["Prometheus"]


class Prometheus:
    """Counts what happens to calls: give one as ``on_event=`` to any number of clients and functions, in any number of threads.

    ::

        client = Client(url, retry_strategy=RetryStrategy(), on_event=Prometheus())

    As in :class:`~rpcretry.RetryMetrics` a call counts when it ends, and one that was cancelled never does. What a circuit breaker
    does outside of calls, as in ``breaker.reset()``, it hears as a listener: ``breaker.add_listener(prometheus)``.

    :param registry: where the metrics are registered; ``None`` for the one that prometheus-client exposes by itself.
    :param namespace: what their names begin with: letters, digits and underscores.
    :param methods: the operations that have a label of their own; without it the first *max_methods* that are met. All others
        count as ``(others)``, and batches of any size as ``batch``.
    :param max_methods: how many those are. Reasons, breakers and budgets are bounded by the same number each.
    :param buckets: the bounds of the histogram, in seconds and rising; those of prometheus-client without it.
    :raises TypeError, ValueError: naming the parameter, its value and the fix; also where *registry* has metrics of these names.
    """

    wants: ClassVar[tuple[type[Event], ...]] = (CallSucceeded, CallFailed, RetryScheduled, BreakerChanged, BudgetRefused, FallbackUsed)
    """The records that it looks at."""

    def __init__(
        self,
        registry: CollectorRegistry | None = None,
        *,
        namespace: str = "rpcretry",
        methods: Iterable[str] | None = None,
        max_methods: int = 100,
        buckets: Iterable[float] = Histogram.DEFAULT_BUCKETS,
    ) -> None:
        if not re.fullmatch("[a-zA-Z_][a-zA-Z0-9_]*", text("namespace", namespace)):
            raise ValueError(f"namespace must be of letters, digits and underscores, and begin with no digit, got {namespace!r:.60}; write 'my_app'")
        buckets = _bounds(buckets)
        self._operation = BoundedNames(methods, max_methods, OTHERS)
        self._reason, self._budget = BoundedNames(most=max_methods, other=OTHERS), BoundedNames(most=max_methods, other=OTHERS)
        self._breaker = BoundedNames(most=max_methods, other="")
        # In no registry at first: one that is refused must not leave the others there.
        self._calls = Counter("calls", "Calls that ended.", ("operation", "outcome"), namespace, registry=None)
        self._seconds = Histogram("call_seconds", "Whole calls, retries and waits included.", ("operation",), namespace, registry=None, buckets=buckets)
        self._retries = Counter("retries", "Retries that were scheduled.", ("operation", "reason"), namespace, registry=None)
        self._refusals = Counter("budget_refusals", "Tries that a retry budget did not pay for.", ("budget",), namespace, registry=None)
        self._fallbacks = Counter("fallbacks", "Results that a fallback stood in for.", ("operation",), namespace, registry=None)
        self._states = Gauge("breaker_state", "1 for the state that a circuit breaker is in.", ("breaker", "state"), namespace, registry=None)
        self._successes: dict[str, tuple[Counter, Histogram]] = {}
        self._register(REGISTRY if registry is None else registry, namespace)

    def _register(self, registry: CollectorRegistry, namespace: str) -> None:
        if not isinstance(registry, CollectorRegistry):
            raise TypeError(f"registry must be a CollectorRegistry or None, got {type(registry).__name__} {registry!r:.60}")
        registered: list[Counter | Histogram | Gauge] = []
        try:
            for metric in (self._calls, self._seconds, self._retries, self._refusals, self._fallbacks, self._states):
                registry.register(metric)
                registered.append(metric)
        except ValueError as problem:
            for metric in registered:
                registry.unregister(metric)
            fix = "give the same Prometheus object to all clients, or another namespace"
            raise ValueError(f"registry has metrics that begin with namespace {namespace!r} already; {fix}") from problem

    def count_success(self, operation: str, attempt: int, max_attempts: int | None, elapsed: float) -> None:
        """Count a call that succeeded, as its :class:`~rpcretry.events.CallSucceeded` would be."""
        name = self._operation(operation)
        try:
            calls, seconds = self._successes[name]
        except KeyError:
            calls, seconds = self._successes.setdefault(name, (self._calls.labels(name, "success"), self._seconds.labels(name)))
        calls.inc()
        seconds.observe(elapsed)

    def __call__(self, event: Event) -> None:
        """Count *event*; one of a class that it does not know changes nothing."""
        if isinstance(event, CallSucceeded):
            self.count_success(event.operation, event.attempt, event.max_attempts, event.elapsed)
        elif isinstance(event, CallFailed):
            name, error = self._operation(event.operation), event.error
            self._calls.labels(name, "deadline" if isinstance(error, DeadlineExceeded) else "refused" if isinstance(error, Refused) else "failure").inc()
            self._seconds.labels(name).observe(event.elapsed)
        elif isinstance(event, RetryScheduled):
            self._retries.labels(self._operation(event.operation), self._reason(event.short_reason)).inc()
        elif isinstance(event, FallbackUsed):
            self._fallbacks.labels(self._operation(event.operation)).inc()
        elif isinstance(event, BudgetRefused):
            self._refusals.labels(self._budget(event.reason)).inc()
        elif isinstance(event, BreakerChanged):
            name = self._breaker(event.name)
            # Several breakers have no state in common: those beyond the bound are left out.
            for state in CircuitState if name else ():
                self._states.labels(name, state.value).set(state is event.state)


def _bounds(buckets: Iterable[float]) -> list[float]:
    fix = "write buckets=(0.1, 1, 10)"
    if isinstance(buckets, (str, bytes)) or not isinstance(buckets, Iterable):
        raise TypeError(f"buckets must be seconds, got {type(buckets).__name__} {buckets!r:.60}; {fix}")
    found = list(buckets)
    # prometheus-client adds an infinite bound where there is none.
    finite = [number("buckets", bound, above=0) for bound in (found[:-1] if found[-1:] == [math.inf] else found)]
    if not finite or any(after <= before for before, after in itertools.pairwise(finite)):
        raise ValueError(f"buckets must be seconds that rise, got {found!r:.60}; {fix}")
    return found
