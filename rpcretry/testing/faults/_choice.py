"""Which toxics a request gets."""

from __future__ import annotations

import itertools
import json
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from ..._check import count, number, plain_callable_with
from ._connections import Close, CloseReused, Latency, Reset, Truncate
from ._documents import RpcError
from ._heads import Status
from ._toxic import Stage, Toxic
from ._turn import Arrival

__all__ = ["Faults", "InTurn", "Mix", "bad_day"]

Choice: TypeAlias = "Toxic | Sequence[Toxic] | None"
Faults: TypeAlias = "Mix | InTurn | Toxic | Sequence[Toxic] | Callable[[Arrival], Choice] | None"
Keyed: TypeAlias = "bool | Callable[[Arrival], object]"


def as_toxics(name: str, value: object) -> tuple[Toxic, ...]:
    """One toxic, several or none, as a tuple."""
    if value is None:
        return ()
    if isinstance(value, Toxic):
        return (value,)
    if isinstance(value, type) and issubclass(value, Toxic):
        raise TypeError(f"{name} takes toxics that are made, got the class {value.__name__}; write {value.__name__}()")
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        raise TypeError(f"{name} must be a toxic or a sequence of them, got {type(value).__name__} {value!r:.60}")
    found = tuple(value)
    for toxic in found:
        if not isinstance(toxic, Toxic):
            fix = f"; write {toxic.__name__}()" if isinstance(toxic, type) and issubclass(toxic, Toxic) else ""
            raise TypeError(f"{name} must hold toxics only, got {toxic!r:.60}{fix}")
    return found


class Mix:
    """Draws toxics by seed.

    The same seed and the same order of requests give the same faults. The n-th request of a server draws its own from the
    seed and n; where requests come from several threads or tasks, their order is not the same twice, and ``keyed`` makes it so that
    each call meets the same faults whatever the others do. Toxics that act on the listener, such as :class:`Refuse`, are drawn once for
    each connection, from the seed and its number, and not for requests.

    :param toxics: what is drawn, and with what weight: a toxic, or a tuple of them that act together.
    :param rate: the share of requests that draw anything, from 0 to 1.
    :param most: how many of *toxics* act together at the most, from 1 to this number, drawn evenly.
    :param keyed: ``True`` to draw from the seed, the methods and params of the request, and how often they have come before; or a function
        of the :class:`Arrival` whose value stands for methods and params, such as a token among them.
    :raises TypeError, ValueError: naming the parameter and the fix.
    """

    def __init__(self, toxics: Mapping[Toxic | tuple[Toxic, ...], float], *, rate: float = 1.0, most: int = 1, keyed: Keyed = False) -> None:
        if not isinstance(toxics, Mapping):
            raise TypeError(f"toxics must be a mapping from toxics to their weights, got {type(toxics).__name__}; write Mix({{Reset(): 1}})")
        if not toxics:
            raise ValueError("toxics must not be empty; for a server without faults give faults=None")
        self.rate = number("rate", rate, least=0, most=1)
        self.most = count("most", most, least=1)
        if not isinstance(keyed, bool):
            plain_callable_with("keyed", keyed, 1, "it gets the Arrival and returns what stands for the call")
        self.keyed = keyed
        # A toxic and the tuple of it alone are two keys of the mapping and one choice.
        weights: dict[tuple[Toxic, ...], float] = {}
        for toxic, weight in toxics.items():
            group = as_toxics("toxics", toxic)
            weights[group] = weights.get(group, 0) + number(f"the weight of {toxic!r:.80}", weight, least=0)
        self.toxics = {group: weight for group, weight in weights.items() if weight > 0}
        if not self.toxics:
            raise ValueError("toxics must have a weight above 0")
        for group in self.toxics:
            if len({toxic.stage is Stage.CONNECT for toxic in group}) > 1:
                raise ValueError(f"{group!r:.120} mixes toxics of the listener with those of requests; they are drawn at different times")
        self._groups = [_Weighted(self.toxics, of_connections=False), _Weighted(self.toxics, of_connections=True)]
        self._total = sum(self.toxics.values())

    @property
    def needs_body(self) -> bool:
        """Whether it cannot draw before a request was read."""
        return self.keyed is not False

    def draw(self, source: random.Random, *, of_connections: bool = False) -> tuple[Toxic, ...]:
        """What one request, or one connection, gets."""
        group = self._groups[of_connections]
        if not group.toxics or source.random() >= self.rate * group.total / self._total:
            return ()
        times = source.randint(1, self.most) if self.most > 1 else 1
        drawn = dict.fromkeys(itertools.chain.from_iterable(source.choices(group.toxics, cum_weights=group.weights)[0] for _ in range(times)))
        return tuple(drawn)

    def __repr__(self) -> str:
        return f"<Mix of {len(self.toxics)}, rate {self.rate:g}>"


class _Weighted:
    def __init__(self, toxics: Mapping[tuple[Toxic, ...], float], *, of_connections: bool) -> None:
        chosen = {group: weight for group, weight in toxics.items() if group and (group[0].stage is Stage.CONNECT) is of_connections}
        self.toxics = list(chosen)
        self.weights = list(itertools.accumulate(chosen.values()))
        self.total = sum(chosen.values())


def bad_day(rate: float = 0.3) -> Mix:
    """What clients meet when a service does badly: it is slow, breaks connections, cuts answers, and proxies answer in its place.

    Nothing in it is illegal or hangs, so that a client which repeats what it may gets through.

    :param rate: the share of requests that are hit.
    """
    return Mix(
        {
            Latency((0.0, 0.05)): 8,
            CloseReused(): 3,
            Reset("read"): 2,
            Reset("executed"): 2,
            Close("end"): 2,
            Truncate(0.5): 1,
            Status(502): 3,
            Status(503, retry_after=0): 3,
            Status(429, retry_after=0): 2,
            RpcError(): 2,
        },
        rate=rate,
    )


class InTurn:
    """One choice for each request, in order, and then another for all that follow.

    :param choices: toxics, sequences of them, or ``None`` for a request that is served as it should be.
    :param then: what all later requests get.
    """

    def __init__(self, *choices: Choice, then: Choice = None) -> None:
        self.choices = tuple(as_toxics("choices", choice) for choice in choices)
        self.then = as_toxics("then", then)

    def __repr__(self) -> str:
        return f"<InTurn of {len(self.choices)}>"


class Chooser:
    """What ``faults=`` comes to.

    :ivar early: whether the toxics are known before the request's body is.
    :ivar refusing: whether nobody is to listen at all.
    """

    def __init__(self, faults: Any, seed: int) -> None:
        self.faults = faults
        self._seed = seed
        self._unused = random.Random(seed)
        self._counted = 0
        self._lock = threading.Lock()
        self._seen: Counter[str] = Counter()
        if isinstance(faults, (Mix, InTurn)):
            self._fixed: tuple[Toxic, ...] | None = None
        elif callable(faults) and not isinstance(faults, type):
            plain_callable_with("faults", faults, 1, "it gets the Arrival and returns toxics")
            self._fixed = None
        else:
            self._fixed = as_toxics("faults", faults)
            if isinstance(faults, Iterable):
                # Read back, a list would take an append() that nothing comes of.
                self.faults = self._fixed
        self.early = self._fixed is not None or isinstance(faults, InTurn) or (isinstance(faults, Mix) and not faults.needs_body)
        self.refusing = any(type(toxic).__name__ == "Refuse" for toxic in self._fixed or ())
        self._of_request = tuple(toxic for toxic in self._fixed or () if toxic.stage is not Stage.CONNECT)
        self._of_connection = tuple(toxic for toxic in self._fixed or () if toxic.stage is Stage.CONNECT)

    def source(self, what: str, number: int) -> random.Random:
        """Where all that is drawn for a request comes from."""
        return random.Random(f"{self._seed}/{what}/{number}")

    def for_connection(self, number: int) -> tuple[tuple[Toxic, ...], random.Random]:
        source = self.source("connection", number)
        if isinstance(self.faults, Mix):
            return self.faults.draw(source, of_connections=True), source
        return self._of_connection, source

    def for_request(self, arrival: Arrival) -> tuple[tuple[Toxic, ...], random.Random]:
        faults = self.faults
        if isinstance(faults, Mix):
            source = self.source(*self._key(faults, arrival))
            return faults.draw(source), source
        if self._fixed == ():
            return (), self._unused
        source = self.source("request", arrival.number)
        if self._fixed is not None:
            return self._of_request, source
        if isinstance(faults, InTurn):
            with self._lock:
                place, self._counted = self._counted, self._counted + 1
            return faults.choices[place] if place < len(faults.choices) else faults.then, source
        return as_toxics("what the function given as faults returned", faults(arrival)), source

    def _key(self, mix: Mix, arrival: Arrival) -> tuple[str, int]:
        if mix.keyed is False:
            return "request", arrival.number
        key = [(call.method, call.params) for call in arrival.calls] if mix.keyed is True else mix.keyed(arrival)
        text = json.dumps(key, default=repr)
        with self._lock:
            self._seen[text] += 1
            return text, self._seen[text]
