"""What the server does for its clients, and the book in which it writes down what it executed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from soak_plan import SHIFT, price_of

BUSY = -32005


class Refusal(Exception):
    """An error response; nothing was executed. Its message names the request that it is for."""

    def __init__(self, code: int, token: int) -> None:
        super().__init__(f"no to request {token}")
        self.code = code


class Bank:
    """The methods. All are called in one thread.

    :ivar executed: how often each method was executed for each token.
    """

    def __init__(self) -> None:
        self.executed: dict[str, Counter[int]] = {}
        self._arrived: Counter[int] = Counter()

    @property
    def methods(self) -> dict[str, Callable[..., Any]]:
        """The functions, by the names that they are called by. Some requests give params by name, and any names will do."""
        found = {
            "get_echo": self._echo,
            "get_sum": self._sum,
            "get_price": lambda symbol: {"symbol": symbol, "price": price_of(symbol)},
            "get_blob": self._blob,
            "charge": lambda token: self._done("charge", token, {"charged": token}),
            "pay": lambda token: self._done("pay", token, {"paid": token}),
            "log": lambda token: self._done("log", token, None),
            "busy": self._busy,
            "refuse": self._refuse,
        }
        return {name: _by_any_name(method) for name, method in found.items()}

    def _done(self, method: str, token: int, result: Any) -> Any:
        self.executed.setdefault(method, Counter())[token] += 1
        return result

    def _echo(self, token: int, value: Any) -> Any:
        return self._done("get_echo", token, {"token": token, "value": value})

    def _sum(self, a: int, b: int) -> int:
        self._done("get_sum", a >> SHIFT, None)
        return a + b

    def _blob(self, token: int, size: int) -> str:
        self._done("get_blob", token, None)
        return f"{token}:" + "x" * size

    def _busy(self, token: int, times: int) -> Any:
        self._arrived[token] += 1
        if self._arrived[token] <= times:
            raise Refusal(BUSY, token)
        return self._done("busy", token, {"done": token})

    def _refuse(self, token: int, code: int) -> None:
        raise Refusal(code, token)


def _by_any_name(method: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *params, **named: method(*params, *named.values())
