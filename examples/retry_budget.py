"""What retries do to a server that is down, without a budget and with one, in virtual time."""

from __future__ import annotations

from rpcretry import Client, HTTPStatusError, Refused, RetryBudget, RetryMetrics, RetryStrategy
from rpcretry.testing import ScriptedBackend, VirtualTime, http

CALLS = 1_000


def outage(budget: RetryBudget | None) -> RetryMetrics:
    """Make calls that all fail."""
    time, metrics = VirtualTime(), RetryMetrics()
    client = Client(
        ScriptedBackend([http(503)] * 4 * CALLS),
        retry_strategy=RetryStrategy(idempotent=True),
        layers=() if budget is None else budget,
        on_event=metrics,
        clock=time.clock,
        sleep=time.sleep,
    )
    for _ in range(CALLS):
        try:
            client.call("get_price", "ACME")
        except (HTTPStatusError, Refused):
            continue
    return metrics


def main() -> None:
    for name, budget in (("without a budget", None), ("with a budget", RetryBudget())):
        now = outage(budget).snapshot()
        print(f"{name}: {now.calls} calls made {now.attempts} requests, {now.budget_refusals} retries were refused, {now.total_delay:.0f} s of waiting")


if __name__ == "__main__":
    main()
