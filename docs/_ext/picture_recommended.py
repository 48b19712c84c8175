"""When the attempts of the recommended settings are made, taken from the page's own blocks."""

from __future__ import annotations

import dataclasses
import itertools
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from drawing import BAD, LIMIT, QUIET, plt, save

from rpcretry import Client
from rpcretry.retry import UNLIMITED

PAGE = Path(__file__).parent.parent / "recommended.rst"
BLOCK = re.compile(r"^\.\. code-block:: python\n\n((?:   [^\n]*\n|\n)+)", re.MULTILINE)


class Setting(NamedTuple):
    """What a client of the page does while every attempt fails at once.

    :ivar attempts: seconds from the start to each attempt, in the mean; those before the deadline.
    :ivar latest: seconds to the last of them if each delay is as long as it may be, and to the deadline at the most.
    """

    attempts: list[float]
    latest: float
    deadline: float


def built() -> dict[str, Any]:
    """What the blocks build, without the calls that they make."""
    lines = itertools.chain.from_iterable(textwrap.dedent(block).splitlines() for block in BLOCK.findall(PAGE.read_text()))
    code = "\n".join(line for line in lines if "print(" not in line and not line.startswith("with "))
    names: dict[str, Any] = {}
    exec(compile(code, str(PAGE), "exec"), names)
    return names


def settings() -> Iterator[tuple[str, Setting]]:
    """The clients of the page, in its order."""
    for name, client in built().items():
        # The page's last block closes them all, and calls each by this name.
        if not isinstance(client, Client) or name == "client":
            continue
        policy = client._options.policy
        strategy, deadline = policy.strategy, policy.deadline
        if strategy is None or deadline is None:
            raise ValueError(f"{name} has no strategy or no deadline; the page recommends both")
        backoff = dataclasses.replace(strategy.backoff, jitter=None, attempts=min(strategy.backoff.attempts, 1_000))
        jitter = strategy.backoff.jitter
        # Full jitter takes half in the mean and all at the most; a proportion goes so far each way.
        share, most = (0.5, 1.0) if jitter is True else (1.0, 1.0 + float(jitter or 0.0))
        times = [0.0, *itertools.accumulate(delay * share for delay in backoff())]
        bounded = strategy.backoff.attempts != UNLIMITED
        latest = min(sum(backoff()) * most, deadline) if bounded else deadline
        yield name, Setting([time for time in times if time < deadline], latest, deadline)


def draw_recommended(path: Path) -> None:
    """A row for each client: its attempts, and its deadline."""
    rows = dict(settings())
    figure, axes = plt.subplots(figsize=(8.6, 3.2))
    for place, setting in enumerate(rows.values()):
        axes.plot([0, setting.latest], [-place, -place], color=QUIET, linewidth=1.2)
        axes.plot(setting.attempts, [-place] * len(setting.attempts), "o", color=LIMIT, markersize=5, alpha=0.75)
        axes.plot([setting.deadline] * 2, [-place - 0.3, -place + 0.3], color=BAD, linewidth=2)
    axes.set_xscale("symlog", linthresh=0.1)
    ticks = [0, 0.1, 1, 10, 60, 600, 3600]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_yticks([-place for place in range(len(rows))], list(rows), family="monospace")
    axes.minorticks_off()
    axes.set(xlabel="seconds since the call began", xlim=(-0.02, 5_000), ylim=(-len(rows) + 0.4, 0.6))
    save(figure, path)
