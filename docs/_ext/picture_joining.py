"""What joining does to calls that are made at the same time: real clients on an event loop whose clock counts its turns."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

from drawing import ASKING, BAD, GOOD, LIMIT, QUIET, plt, save
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from rpcretry import AsyncClient
from rpcretry.client import Joining
from rpcretry.transport import Exchange, Reply

# A turn of the loop takes a millisecond; an answer, five turns.
TURN, ANSWER = 0.001, 5

# In which turn each caller calls. All that follows is the code's doing.
CALLERS = {"a": 2, "b": 2, "c": 2, "d": 5}


class TurnLoop(asyncio.SelectorEventLoop):
    """An event loop that is never idle, and whose clock is the number of its turns.

    :ivar turn: how many turns it has made.
    """

    def __init__(self) -> None:
        super().__init__()
        self.turn = 0
        self.call_soon(self._tick)

    def time(self) -> float:
        """Seconds since its first turn."""
        return self.turn * TURN

    def _tick(self) -> None:
        self.turn += 1
        # Each turn has another one follow, so that none waits for the clock of the machine.
        self.call_soon(self._tick)

    async def until(self, turn: int) -> None:
        """Wait for a turn."""
        # Whoever sets an event is heard a turn later.
        while self.turn < turn:  # noqa: ASYNC110
            await asyncio.sleep(0)


class Sent(NamedTuple):
    """An exchange.

    :ivar callers: whose requests were in it.
    :ivar begun: the turn in which it was sent.
    :ivar ended: the turn in which its answer was there.
    """

    callers: list[str]
    begun: int
    ended: int


class Run(NamedTuple):
    """What came of all calls.

    :ivar called: the turn of each call.
    :ivar sent: the exchanges.
    :ivar answered: the turn in which each caller had its answer.
    """

    called: dict[str, int]
    sent: list[Sent]
    answered: dict[str, int]


def run(joining: Joining | None) -> Run:
    """The four calls, by a client that joins them as *joining* says, or does not."""
    loop, found = TurnLoop(), Run({}, [], {})

    class Server:
        """Takes its time for an answer, and notes who is in each exchange."""

        async def exchange(self, exchange: Exchange) -> Reply:
            begun, document = loop.turn, json.loads(exchange.body)
            await loop.until(begun + ANSWER)
            requests = document if isinstance(document, list) else [document]
            answers = [{"jsonrpc": "2.0", "id": each["id"], "result": each["params"][0]} for each in requests]
            found.sent.append(Sent([answer["result"] for answer in answers], begun, loop.turn))
            return Reply(json.dumps(answers if isinstance(document, list) else answers[0]).encode())

        async def aclose(self) -> None:
            pass

    async def call(caller: str, ask: Callable[[str], Awaitable[Any]]) -> None:
        await loop.until(CALLERS[caller])
        found.called[caller] = loop.turn
        if await ask(caller) != caller:
            raise ValueError(f"{caller} got somebody else's answer")
        found.answered[caller] = loop.turn

    async def main() -> None:
        async with AsyncClient(Server(), joining=joining, clock=loop.time) as client:
            await asyncio.gather(*[call(caller, client.proxy.echo) for caller in CALLERS])

    try:
        loop.run_until_complete(main())
    finally:
        loop.close()
    return found


RUNS = {
    "not joined": None,
    "joining=Joining()": Joining(),
    f"joining=Joining(max_delay={4 * TURN:g})": Joining(max_delay=4 * TURN),
}


def draw_joining(path: Path) -> None:
    """The same four calls three times."""
    figure, panels = plt.subplots(len(RUNS), 1, figsize=(8.4, 5.6), sharex=True, gridspec_kw={"hspace": 0.42})
    rows = {caller: -place for place, caller in enumerate(CALLERS)}
    last = 0
    for axes, (title, joining) in zip(panels, RUNS.items(), strict=True):
        found = run(joining)
        for sent in found.sent:
            places = [rows[caller] for caller in sent.callers]
            low, high = min(places) - 0.33, max(places) + 0.33
            words = "one request" if len(sent.callers) == 1 else f"one batch of {len(sent.callers)}"
            axes.add_patch(Rectangle((sent.begun, low), sent.ended - sent.begun, high - low, facecolor=ASKING, edgecolor=LIMIT, linewidth=1.4))
            axes.text((sent.begun + sent.ended) / 2, (low + high) / 2, words, ha="center", va="center", fontsize=9, color=LIMIT)
        for caller, row in rows.items():
            (begun,) = [sent.begun for sent in found.sent if caller in sent.callers]
            axes.hlines(row, found.called[caller], begun, color=QUIET, linestyle=":", linewidth=1.6)
            axes.plot(found.called[caller], row, marker="o", color=BAD, markersize=6, clip_on=False)
            axes.plot(found.answered[caller], row, marker="D", color=GOOD, markersize=6, clip_on=False)
        last = max(last, *found.answered.values())
        axes.set_title(f"{title}: {len(found.sent)} exchange{'s' if len(found.sent) > 1 else ''}", fontsize=10, loc="left")
        axes.set(ylim=(min(rows.values()) - 0.6, 0.6), yticks=list(rows.values()), yticklabels=list(rows))
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", color="0.9")
        axes.set_axisbelow(True)
    axes.set(xlabel=f"turns of the event loop; here each takes {TURN * 1000:g} ms", xlim=(0, last + 1), xticks=range(last + 2))
    marks = [
        Line2D([], [], marker="o", color=BAD, linestyle="", label="a call is made"),
        Line2D([], [], color=QUIET, linestyle=":", linewidth=1.6, label="it waits for others"),
        Rectangle((0, 0), 1, 1, facecolor=ASKING, edgecolor=LIMIT, label="an exchange with the server"),
        Line2D([], [], marker="D", color=GOOD, linestyle="", label="the caller has its answer"),
    ]
    figure.legend(handles=marks, frameon=False, loc="lower center", ncols=4, fontsize=9, bbox_to_anchor=(0.5, -0.06))
    save(figure, path)
