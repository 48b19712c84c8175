"""Checked by mypy --strict and pyright, never run: what callers find on errors, and that a class for a code has data of the type that it declares."""

# pyright: strict

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, assert_type

import rpcretry
from rpcretry import Delivery, JsonRpcError

T = TypeVar("T")


@dataclass
class Missing:
    user_id: int


class UserNotFound(JsonRpcError):
    CODE = 2001
    data: Missing


class Quota(JsonRpcError):
    CODE = range(3000, 3100)


def caught(client: rpcretry.Client) -> None:
    try:
        client.call("m")
    except UserNotFound as error:
        assert_type(error.data, Missing)
        assert_type(error.data.user_id, int)
        error.data.name  # type: ignore[attr-defined]
        text: str = error.data.user_id  # type: ignore[assignment]
        del text
    except Quota as error:
        assert_type(error.data, Any)
        assert_type(error.code, int)
    except JsonRpcError as error:
        assert_type(error.message, str)
        assert_type(error.status, int | None)
        assert_type(error.headers, Mapping[str, str] | None)
        assert_type(error.delivery, Delivery)
    except rpcretry.ResultValidationError as error:
        assert_type(error.result, object)
        assert_type(error.details, tuple[Mapping[str, object], ...])
    except rpcretry.ConnectError as error:
        # It is both.
        one: ConnectionError = error
        other: rpcretry.TransportError = error
        del one, other
    except TimeoutError as error:
        error.code  # type: ignore[attr-defined]


def given(backend: rpcretry.Client) -> None:
    rpcretry.Client(backend.backend, errors=[UserNotFound, Quota])
    rpcretry.Client(backend.backend, errors=[ValueError])  # type: ignore[list-item]
    rpcretry.Client(backend.backend, errors=[UserNotFound()])  # type: ignore[list-item]
    UserNotFound("no", codes=3)  # type: ignore[call-arg]


class Holding(JsonRpcError, Generic[T]):
    data: T


class HoldingInt(Holding[int]):
    CODE = 4000


def generic(error: HoldingInt) -> None:
    assert_type(error.data, int)
    error.data.name  # type: ignore[attr-defined]
