"""What a deadline cuts and forbids: calls in virtual time, drawn from the records that they told their sinks."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from drawing import BAD, GOOD, LIMIT, QUIET, plt, save

from rpcretry import Client, DeadlineExceeded, RetryStrategy
from rpcretry.events import AttemptStarted, CallFailed, CallSucceeded, Event, RetryScheduled
from rpcretry.retry import PeriodicBackoff
from rpcretry.testing import Item, ScriptedBackend, VirtualTime, http, result, took

TIMEOUT, DEADLINE = 2.0, 6.0


class Bar(NamedTuple):
    """A piece of a call.

    :ivar kind: ``"ok"``, ``"failed"``, ``"cut"`` by the attempt's limit, ``"ended"`` by the deadline, or ``"wait"``.
    """

    begun: float
    ended: float
    kind: str


class Run(NamedTuple):
    """A call: its attempts and waits, when it ended, and its last word."""

    bars: list[Bar]
    ended: float
    end: str


def call(interval: float, *answers: tuple[float, Item]) -> Run:
    """A call with a timeout and a deadline, to a server that takes so many seconds for each of its answers."""
    time, told = VirtualTime(start=0.0), list[Event]()
    client = Client(
        ScriptedBackend(took(time, seconds, item) for seconds, item in answers),
        retry_strategy=RetryStrategy(idempotent=True, backoff=PeriodicBackoff(attempts=9, interval=interval)),
        timeout=TIMEOUT,
        deadline=DEADLINE,
        on_event=told.append,
        clock=time.clock,
        sleep=time.sleep,
    )
    try:
        end = f"returns {client.call('report')!r} after {time.now:g} s"
    except DeadlineExceeded as error:
        end = f"{type(error).__name__} after {error.elapsed:g} s"
    return Run(bars(told), time.now, end)


def bars(told: list[Event]) -> list[Bar]:
    """The attempts and the waits that the records tell of."""
    found, begun = [], 0.0
    for event in told:
        if isinstance(event, AttemptStarted):
            begun = event.elapsed
        elif isinstance(event, RetryScheduled):
            found.append(Bar(begun, event.elapsed, "cut" if isinstance(event.error, TimeoutError) else "failed"))
            found.append(Bar(event.elapsed, event.elapsed + event.delay, "wait"))
        elif isinstance(event, CallSucceeded):
            found.append(Bar(begun, event.elapsed, "ok"))
        elif isinstance(event, CallFailed):
            found.append(Bar(begun, event.elapsed, "ended" if event.elapsed >= DEADLINE else "failed"))
    return found


LOOKS = {"ok": (GOOD, "", "answered"), "failed": (BAD, "", "HTTP 503"), "cut": (BAD, "////", "cut by timeout"), "ended": (BAD, "xxxx", "cut by the deadline")}

RUNS = {
    "An attempt is cut by the\ntimeout, the next succeeds": lambda: call(0.5, (9.0, http(503)), (1.2, result("done"))),
    "The last attempt gets\nwhat the deadline leaves": lambda: call(0.75, *[(9.0, http(503))] * 5),
    "A wait that would pass the\ndeadline is not begun": lambda: call(3.0, (0.6, http(503)), (0.6, http(503)), (0.6, http(503))),
}


def draw_deadline(path: Path) -> None:
    """Three calls, one above the other."""
    figure, axes = plt.subplots(figsize=(8.6, 3.0))
    drawn: set[str] = set()
    for row, make in enumerate(RUNS.values()):
        found = make()
        for bar in found.bars:
            if bar.kind == "wait":
                axes.hlines(-row, bar.begun, bar.ended, color=QUIET, linewidth=1.4, linestyle=":", label=None if "wait" in drawn else "delay")
            else:
                color, hatch, label = LOOKS[bar.kind]
                face, shown = (color, None) if not hatch else ("white", hatch)
                axes.barh(-row, bar.ended - bar.begun, 0.42, bar.begun, color=face, edgecolor=color, hatch=shown, label=None if bar.kind in drawn else label)
            drawn.add(bar.kind)
        axes.text(DEADLINE + 0.12, -row, found.end, va="center", fontsize=9)
    axes.axvline(DEADLINE, color=LIMIT, linewidth=1.6)
    axes.text(DEADLINE, 0.62, f"deadline={DEADLINE:g}", color=LIMIT, ha="center", fontsize=9)
    axes.set(xlabel=f"seconds since the call began; timeout={TIMEOUT:g}", xlim=(0, 8.4), ylim=(-2.6, 0.55), yticks=[0, -1, -2], yticklabels=list(RUNS))
    axes.tick_params(axis="y", length=0)
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.42, -0.2), ncols=5, fontsize=9)
    save(figure, path)
