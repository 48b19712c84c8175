"""What a retry budget makes of an outage: its level, and the load on the server, from the real layer in virtual time."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from drawing import BAD, LIMIT, QUIET, TURNED_AWAY, plt, save

from rpcretry import BudgetExhaustedError, Client, HTTPStatusError, RetryBudget, RetryStrategy
from rpcretry.retry import ImmediateBackoff
from rpcretry.testing import VirtualTime, http, result
from rpcretry.transport import Exchange, Reply

# Calls in each second, when the server answers with 503, and when the picture ends, in seconds.
CALLS, DOWN, UNTIL = 10, (20, 50), 80


class Second(NamedTuple):
    """What came of one second.

    :ivar load: exchanges for each call.
    :ivar level: the tokens that were left after it; 0 without a budget.
    """

    load: float
    level: float


def outage(budget: RetryBudget | None) -> list[Second]:
    """Ten calls each second under a strategy of three retries, before, in and after an outage."""
    time = VirtualTime(start=0.0)
    exchanges = 0

    class Server:
        def exchange(self, exchange: Exchange) -> Reply:
            nonlocal exchanges
            exchanges += 1
            return http(503) if DOWN[0] <= time.now < DOWN[1] else result("ok")(exchange)

        def close(self) -> None:
            pass

    strategy = RetryStrategy(statuses={503}, backoff=ImmediateBackoff(attempts=3))
    client = Client(Server(), retry_strategy=strategy, layers=budget or (), clock=time.clock, sleep=time.sleep)
    seconds = []
    for second in range(UNTIL):
        time.now, before = float(second), exchanges
        for _ in range(CALLS):
            try:
                client.call("work")
            except (HTTPStatusError, BudgetExhaustedError):
                continue
        seconds.append(Second((exchanges - before) / CALLS, budget.level if budget else 0.0))
    return seconds


def draw_budget(path: Path) -> None:
    """The budget's level above, the load with and without it below."""
    budget = RetryBudget()
    with_budget, without = outage(budget), outage(None)
    figure, (above, below) = plt.subplots(2, 1, figsize=(8.2, 4.4), sharex=True, gridspec_kw={"hspace": 0.16})
    for axes in (above, below):
        axes.axvspan(*DOWN, color=TURNED_AWAY, linewidth=0)
    above.plot(range(UNTIL), [second.level for second in with_budget], color=LIMIT, linewidth=1.8)
    above.set(ylabel="tokens left", ylim=(-3, budget.capacity * 1.08))
    above.text(sum(DOWN) / 2, budget.capacity * 0.9, "the server answers nobody", color=BAD, ha="center", fontsize=9)
    below.step(range(UNTIL), [second.load for second in without], where="post", color=QUIET, linewidth=1.8, linestyle="--", label="without a budget")
    below.step(range(UNTIL), [second.load for second in with_budget], where="post", color=LIMIT, linewidth=1.8, label="with RetryBudget()")
    below.set(xlabel="seconds", ylabel="exchanges\nfor each call", ylim=(0.6, 4.3), yticks=[1, 2, 3, 4], xlim=(0, UNTIL))
    below.legend(frameon=False, loc="upper right", bbox_to_anchor=(1.0, 0.95))
    save(figure, path)
