"""Each example runs as it is: no arguments, no network but loopback, no warnings, and soon over."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent.parent / "examples"

# What each has to show, so that one which quietly does nothing is noticed.
SHOWN = {
    "async_calls.py": "50 prices in",
    "batch.py": "sent: sum, reserve, tick, withdraw\nsent: reserve\nsent: reserve\n",
    "bulk_progress.py": "all prices: 83947.5",
    "circuit_breaker.py": "0 requests reached the server while the circuit was open",
    "custom_errors.py": "OutOfStock: more in 3 days",
    "custom_layer.py": "threads: 20 calls, at most 3 at once\nasyncio: 20 calls, at most 3 at once\n",
    "deadline.py": "busy:  ended after 0.0 s and 1 attempt, by HTTPStatusError('HTTP 503')",
    "first_call.py": "typed:       Ada Lovelace, born in 1815",
    "http_client_backend.py": "1 + 2 = 3",
    "idempotency.py": "so it was paid, once: [100, 20]",
    "observability_prometheus.py": 'rpcretry_calls_total{operation="load",outcome="refused"} 3.0',
    "observability_tracing.py": "the server heard of attempts 1 2 3",
    "retry_budget.py": "with a budget: 1000 calls made 1100 requests, 967 retries were refused",
    "retry_function.py": "replica: up to date on attempt 3",
    "retry_strategies.py": "a backoff of one's own: 3 on attempt 4",
    "typed_interface.py": "nothing was sent: Wallet.pay(): amount: Input should be a valid integer",
}
# Those that other tests know better.
FOLDERS = {"openrpc": "openrpc/test_openrpc_generate.py", "presets": "presets/test_preset_examples.py", "testing": "testing/test_testing_page.py"}


def test_every_example_is_known_here() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(SHOWN)
    assert {path.name for path in EXAMPLES.iterdir() if path.is_dir() and path.name != "__pycache__"} == set(FOLDERS)
    for folder, tests in FOLDERS.items():
        assert f'"{folder}"' in (EXAMPLES.parent / "tests" / tests).read_text()


@pytest.mark.parametrize("name", sorted(SHOWN))
def test_the_example_runs(name: str, tmp_path: Path) -> None:
    # A proxy in the environment would be asked for loopback addresses.
    environment = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name)], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=10, check=False
    )
    assert done.returncode == 0, done.stderr
    assert SHOWN[name] in done.stdout
    assert "Traceback" not in done.stderr
