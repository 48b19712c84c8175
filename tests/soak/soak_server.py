"""The server's process: executes, misbehaves by phase, and tells over its pipes what it executed.

It reads commands from its standard input and answers each on its standard output, as lines of JSON.
"""

from __future__ import annotations

import json
import random
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any

from soak_bank import Bank
from soak_faults import FAULTS, seen_through
from soak_plan import SHIFT

from rpcretry.testing.faults import Arrival, FaultServer, Toxic

# Seconds between two restarts, and of each.
EVERY, DOWN = 0.5, 0.15


class Server:
    """A :class:`FaultServer` with phases."""

    def __init__(self) -> None:
        self._restarting: threading.Event | None = None
        self.begin(0)

    def begin(self, seed: int) -> None:
        """Serve a client that nothing is known of, at another port."""
        self._seed = seed
        self._bank = Bank()
        self._phase = "calm"
        self._arrived: Counter[int] = Counter()
        self._bodies: dict[str, bytes] = {}
        self._misused: list[str] = []
        self._repeated = 0
        self._history: dict[int, list[str]] = {}
        self.server = FaultServer(self._bank.methods, self._choose, seed=seed, dedupe=True, log_size=1)

    def _choose(self, arrival: Arrival) -> Sequence[Toxic]:
        key = arrival.headers.get("Idempotency-Key")
        if key is not None:
            self._repeated += key in self._bodies
            if self._bodies.setdefault(key, arrival.body) != arrival.body:
                self._misused.append(key)
        tokens = _tokens(arrival)
        faults = FAULTS[self._phase]
        if faults is None or not tokens:
            return ()
        # By the request and how often it came, so that what it meets does not depend on what the others do.
        self._arrived[tokens[0]] += 1
        toxics = faults.draw(random.Random(f"{self._seed}/{tokens[0]}/{self._arrived[tokens[0]]}"))
        toxics = seen_through(toxics, [call.method for call in arrival.calls])
        if toxics:
            what = f"{', '.join(map(repr, toxics))} on a body of {len(tokens)}"
            for token in tokens:
                self._history.setdefault(token, []).append(what)
        return toxics

    def command(self, given: dict[str, Any]) -> Any:
        """Do what the other end wants."""
        match given["do"]:
            case "begin":
                self.server.close()
                self.begin(given["seed"])
                return self.server.port
            case "phase":
                self._change(given["name"])
                return None
            case "state":
                return {"met": self.server.met, "open": self.server.open_connections, "connections": self.server.connections, "repeated": self._repeated}
            case "executed":
                return {"executed": self._bank.executed, "misused": self._misused}
            case "without a fault":
                return [token for token in given["tokens"] if token not in self._history]
            case "history":
                return {token: self._history.get(token, []) for token in given["tokens"]}
        raise ValueError(f"no command {given!r}")

    def _change(self, phase: str) -> None:
        if self._restarting is not None:
            self._restarting.set()
            self._restarting = None
        if self._phase == "outage":
            self.server.start()
        self._phase = phase
        if phase == "outage":
            self.server.stop()
        elif phase == "restart":
            self._restarting = threading.Event()
            threading.Thread(target=self._restart, args=(self._restarting,), daemon=True).start()

    def _restart(self, over: threading.Event) -> None:
        while True:
            self.server.restart(DOWN)
            if over.wait(EVERY):
                return


def _tokens(arrival: Arrival) -> list[int]:
    found = []
    for name, text, _ in arrival.calls:
        params = json.loads(text)
        first = next(iter(params.values() if isinstance(params, dict) else params), None)
        if isinstance(first, int):
            found.append(first >> SHIFT if name == "get_sum" else first)
    return found


def main() -> None:
    """Serve until the other end closes the pipe."""
    server = Server()
    for line in sys.stdin:
        print(json.dumps(server.command(json.loads(line))), flush=True)
    server.server.close()


if __name__ == "__main__":
    main()
