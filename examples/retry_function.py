"""The engine without a client: a decorator for functions and methods, sync and async, and a block."""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path

from rpcretry import Fallback, RetryableError, current_attempt
from rpcretry.functions import retry, retrying

weather = [ConnectionError("reset"), TimeoutError("slow")]


@retry(max_attempts=4, base_delay=0.01, on_retry=lambda attempt, error: print(f"  try {attempt} failed: {error}"))
def forecast(city: str) -> str:
    """Three tries are made: two fail with what is retried unless something else is named."""
    if weather:
        raise weather.pop(0)
    return f"sunny in {city}"


@retry(base_delay=0.01, deadline=2.0, timeout=0.05)
async def tide(port: str) -> str:
    """The first try hangs and is cut after 0.05 s."""
    attempt = current_attempt()
    if attempt is not None and attempt.number == 1:
        await asyncio.sleep(10)
    return f"low in {port}"


class Settings:
    """A file that another program may be writing just now."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @retry(on=json.JSONDecodeError, fatal=FileNotFoundError, base_delay=0.01, fallback=Fallback(dict, on=FileNotFoundError))
    def load(self) -> dict[str, int]:
        text = self.path.read_text()
        if text == "{":
            self.path.write_text('{"port": 8080}')  # what the other program does meanwhile
        return json.loads(text)  # type: ignore[no-any-return]


def main() -> None:
    print("forecast:", forecast("Lisbon"))
    print("tide:", asyncio.run(tide("Brest")))

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "settings.json"
        print("settings without a file:", Settings(path).load())
        path.write_text("{")
        print("settings half written:", Settings(path).load())

    lag = iter([3, 1, 0])
    for attempt in retrying(max_attempts=5):
        with attempt:
            behind = next(lag)
            if behind:
                raise RetryableError(f"the replica lags by {behind} s", delay=0.01 * behind)
            print(f"replica: up to date on attempt {attempt.number}")


if __name__ == "__main__":
    main()
