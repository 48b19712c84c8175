"""Something that comes in the middle of a layer's work, at every line of it in turn, without signals and without chance."""

from __future__ import annotations

import itertools
import linecache
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from rpcretry.outcome import Attempt, Member, Outcome, Wait
from rpcretry.retry import Layer


def strike(layer: Layer, place: int, act: Callable[[], object], blow: Callable[[], object]) -> bool:
    """Run *act*, and *blow* in front of that line of the layer's module. Returns whether *act* came to so many lines."""
    file, left = sys.modules[type(layer).__module__].__file__, place

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal left
        if frame.f_code.co_filename != file:
            return None
        # A with statement shows its line once more before it lets go of the lock, where no signal comes through.
        if event == "line" and not linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip().startswith("with "):
            left -= 1
            if left == -1:
                blow()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        act()
    finally:
        sys.settrace(before)
    return left < 0


class Scene:
    """Some attempts at a layer, driven by hand.

    :ivar steps: what each that is not over was told last.
    """

    def __init__(self, layer: Layer) -> None:
        self.layer = layer
        self.now = 0.0
        self.steps: dict[Attempt, Wait | None] = {}

    def come(self) -> Attempt:
        attempt = Attempt(1, [Member(None)], float("inf"), "x")
        self.ask(attempt)
        return attempt

    def ask(self, attempt: Attempt) -> None:
        attempt.parking = None
        self.steps[attempt] = Wait(float("inf"), "on its way")
        self.steps[attempt] = self.layer.admit(attempt, self.now)

    def end(self, attempt: Attempt) -> None:
        if attempt in self.steps:
            attempt.sent = True
            self.layer.settle(attempt, [Outcome()], self.now)
            self.steps.pop(attempt, None)

    def leave(self, attempt: Attempt) -> None:
        self.steps.pop(attempt, None)
        self.layer.abandon(attempt, self.now)

    def call(self) -> None:
        """A whole call, as a signal handler makes it; it gives up rather than wait."""
        attempt = self.come()
        if self.steps[attempt] is None:
            self.end(attempt)
        else:
            self.leave(attempt)

    def finish(self) -> bool:
        """Go on until all are over. Returns whether they are: nobody waits for a wake that never comes."""
        for _ in range(20):
            for attempt, step in list(self.steps.items()):
                if step is None:
                    self.end(attempt)
                elif self.now >= step.until or (attempt.parking is not None and attempt.parking.woken):
                    self.ask(attempt)
            self.now += 1
        return not self.steps


def at_every_line(make: Callable[[], tuple[Scene, Callable[[], object], Callable[[], object]]]) -> list[tuple[int, Scene]]:
    """Strike the scenes that *make* gives, with what is done and what comes between, at one line after the other. Returns those that did not come to an end."""
    stuck: list[tuple[int, Scene]] = []
    done = threading.Event()

    def work() -> None:
        for place in itertools.count():
            scene, act, blow = make()
            reached = strike(scene.layer, place, act, blow)
            if not scene.finish():
                stuck.append((place, scene))
            if not reached:
                break
        # Fewer lines than that, and it struck at nothing.
        if place > 1:
            done.set()

    # In a thread, so that one that locks itself out fails and does not hang.
    threading.Thread(target=work, daemon=True).start()
    assert done.wait(5), "it waits for its own lock, or raised"
    return stuck


def interrupted(scene: Scene, attempt: Attempt, act: Callable[[Attempt], object]) -> Callable[[], None]:
    """*act* as the engine does it for a driver that hears of an interrupt."""

    def run() -> None:
        try:
            act(attempt)
        except KeyboardInterrupt:
            scene.leave(attempt)

    return run


def interrupt() -> None:
    raise KeyboardInterrupt
