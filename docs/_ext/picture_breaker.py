"""A circuit breaker: its transitions, found by driving a real one, and an outage as it goes through it in virtual time."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from drawing import ASKING, BAD, GOOD, LET_THROUGH, LIMIT, QUIET, TURNED_AWAY, arrow, box, plt, save

from rpcretry import CircuitBreaker, CircuitOpenError, CircuitState, Client, HTTPStatusError
from rpcretry.events import BreakerChanged, Event
from rpcretry.testing import VirtualTime, http, result
from rpcretry.transport import Exchange, Reply

FACES = {CircuitState.CLOSED: LET_THROUGH, CircuitState.OPEN: TURNED_AWAY, CircuitState.HALF_OPEN: ASKING}


class Change(NamedTuple):
    """A change of the state, and the breaker's reason for it."""

    previous: CircuitState
    state: CircuitState
    reason: str


# --- the states ---


def _failures(breaker: CircuitBreaker, time: VirtualTime) -> None:
    for _ in range(5):
        if breaker.can_execute():
            breaker.record_failure()


def _successes(breaker: CircuitBreaker, time: VirtualTime) -> None:
    for _ in range(2):
        if breaker.can_execute():
            breaker.record_success()


def _time_passes(breaker: CircuitBreaker, time: VirtualTime) -> None:
    time.advance(30.0)


def _ask(breaker: CircuitBreaker, time: VirtualTime) -> None:
    breaker.can_execute()


STEPS: Sequence[Callable[[CircuitBreaker, VirtualTime], None]] = (
    _failures,
    _successes,
    _time_passes,
    _ask,
    lambda breaker, time: breaker.open(),
    lambda breaker, time: breaker.close(),
    lambda breaker, time: breaker.reset(),
)


def changes() -> list[Change]:
    """Every change of state that any four steps, one after the other, bring about in a breaker with its defaults."""
    found: dict[Change, None] = {}
    for steps in itertools.product(STEPS, repeat=4):
        time, told = VirtualTime(), list[Event]()
        breaker = CircuitBreaker(clock=time.clock, listeners=told.append)
        for step in steps:
            step(breaker, time)
        found.update(dict.fromkeys(Change(event.previous, event.state, event.reason) for event in told if isinstance(event, BreakerChanged)))
    return list(found)


CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN

PLACES = {CLOSED: (0.0, 0.0), OPEN: (4.6, 0.0), HALF_OPEN: (2.3, -2.1)}
BY_HAND = " was called"

# For each pair of states, with the word whether it is by hand: the bend of the arrow, where its words stand, and on which side.
LABELS: dict[tuple[CircuitState, CircuitState, bool], tuple[float, tuple[float, float], str]] = {
    (CLOSED, OPEN, False): (-0.1, (2.3, 0.38), "center"),
    (CLOSED, OPEN, True): (0.06, (2.3, 0.02), "center"),
    (OPEN, CLOSED, True): (0.28, (2.3, 0.82), "center"),
    (OPEN, HALF_OPEN, False): (-0.06, (3.9, -0.95), "left"),
    (HALF_OPEN, OPEN, False): (-0.16, (3.1, -0.85), "right"),
    (HALF_OPEN, OPEN, True): (0.72, (4.8, -1.85), "left"),
    (HALF_OPEN, CLOSED, False): (-0.06, (0.9, -0.5), "left"),
    (HALF_OPEN, CLOSED, True): (-0.72, (-0.2, -1.85), "right"),
}


def draw_breaker_states(path: Path) -> None:
    """The states and what leads from one to another."""
    words: dict[tuple[CircuitState, CircuitState, bool], list[str]] = {}
    for change in changes():
        by_hand = change.reason.endswith(BY_HAND)
        words.setdefault((change.previous, change.state, by_hand), []).append(change.reason.removesuffix(BY_HAND))
    if words.keys() != LABELS.keys():
        raise ValueError(f"the breaker's transitions are not those that the picture has places for: {sorted(map(str, words.keys() ^ LABELS.keys()))}")
    figure, axes = plt.subplots(figsize=(8.6, 4.2))
    boxes = {state: box(axes, x, y, state.name.replace("_", "-"), face=FACES[state], width=0.94, height=0.36, bold=True) for state, (x, y) in PLACES.items()}
    for key, (bend, (x, y), side) in LABELS.items():
        previous, state, by_hand = key
        color = LIMIT if by_hand else "0.2"
        arrow(axes, PLACES[previous], PLACES[state], (boxes[previous], boxes[state]), color=color, dashed=by_hand, bend=bend)
        axes.text(x, y, _wrapped(", ".join(words[key])), color=color, fontsize=9, ha=side, va="center")
    axes.set(xlim=(-1.3, 5.9), ylim=(-2.5, 1.0))
    axes.axis("off")
    save(figure, path)


def _wrapped(words: str) -> str:
    # "recovery time over" stands where there is little room.
    return words.replace("recovery ", "recovery\n")


# --- an outage ---

# The server answers with 503 in this time, and a call is made each second.
DOWN = (10.0, 47.0)
UNTIL = 70
RECOVERY = 15.0


class Outage(NamedTuple):
    """What the calls of a run came to, and the breaker's states.

    :ivar calls: the second and the end of each call: ``"ok"``, ``"failed"`` or ``"refused"``.
    :ivar states: when each state began.
    """

    calls: list[tuple[float, str]]
    states: list[tuple[float, CircuitState]]


def outage() -> Outage:
    """One call each second, before, in and after an outage."""
    time = VirtualTime(start=0.0)
    states = [(0.0, CircuitState.CLOSED)]

    def listen(event: Event) -> None:
        if isinstance(event, BreakerChanged):
            states.append((time.now, event.state))

    def answer(exchange: Exchange) -> Reply:
        return http(503) if DOWN[0] <= time.now < DOWN[1] else result("ok")(exchange)

    class Server:
        def exchange(self, exchange: Exchange) -> Reply:
            return answer(exchange)

        def close(self) -> None:
            pass

    breaker = CircuitBreaker(recovery_timeout=RECOVERY, listeners=listen, clock=time.clock)
    client = Client(Server(), layers=breaker, clock=time.clock, sleep=time.sleep)
    calls = []
    for second in range(UNTIL):
        time.now = float(second)
        try:
            client.call("work")
            end = "ok"
        except HTTPStatusError:
            end = "failed"
        except CircuitOpenError:
            end = "refused"
        calls.append((time.now, end))
    return Outage(calls, states)


def draw_breaker_timeline(path: Path) -> None:
    """The calls of that run over the breaker's states."""
    run = outage()
    figure, axes = plt.subplots(figsize=(8.6, 2.9))
    ends = [begun for begun, _ in run.states[1:]] + [float(UNTIL)]
    for (begun, state), end in zip(run.states, ends, strict=True):
        axes.axvspan(begun - 0.5, end - 0.5, color=FACES[state], linewidth=0)
        if end - begun > 4:
            axes.text((begun + end - 1) / 2, 3.62, state.name, ha="center", va="center", fontsize=9)
        elif state is CircuitState.HALF_OPEN:
            axes.annotate("HALF_OPEN", (begun, 3.4), (begun, 4.15), ha="center", fontsize=9, arrowprops={"arrowstyle": "-", "color": "0.5", "lw": 0.8})
    for row, (end, mark, color, label) in enumerate((("refused", "x", QUIET, "refused"), ("failed", "v", BAD, "HTTP 503"), ("ok", "o", GOOD, "answered"))):
        at = [when for when, what in run.calls if what == end]
        axes.scatter(at, [row + 1] * len(at), marker=mark, color=color, s=26, linewidths=1.2, label=label)
    axes.hlines(0.25, DOWN[0] - 0.5, DOWN[1] - 0.5, color=BAD, linewidth=4)
    axes.text(sum(DOWN) / 2, 0.42, "the server is down", color=BAD, fontsize=9, ha="center", va="bottom")
    axes.set(xlabel="seconds, one call in each", xlim=(-0.5, UNTIL - 0.5), ylim=(0, 4.0), yticks=[1, 2, 3], yticklabels=["refused", "HTTP 503", "answered"])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    save(figure, path)
