"""A JSON-RPC application of fastapi-jsonrpc's, which writes down what it executes. Run by fronts_uvicorn.py."""

from __future__ import annotations

import asyncio
import os

import fastapi_jsonrpc
from fastapi import Body
from pydantic import BaseModel

LEDGER = os.open(os.environ["FRONTS_LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

app = fastapi_jsonrpc.API()
entrypoint = fastapi_jsonrpc.Entrypoint("/rpc")


class NoMoney(fastapi_jsonrpc.BaseError):
    CODE = 5000
    MESSAGE = "not enough money"

    class DataModel(BaseModel):
        missing: int


def executed(method: str, param: object) -> None:
    # One write of a line goes in whole, whatever happens to this process next.
    os.write(LEDGER, f"{method} {param}\n".encode())


@entrypoint.method()
async def pay(param: str = Body(...)) -> str:
    executed("pay", param)
    return param


@entrypoint.method()
async def get(param: str = Body(...)) -> str:
    executed("get", param)
    return param


@entrypoint.method()
async def total(a: int = Body(...), b: int = Body(default=1)) -> int:
    return a + b


@entrypoint.method()
async def nap(seconds: float = Body(...)) -> float:
    await asyncio.sleep(seconds)
    return seconds


@entrypoint.method(errors=[NoMoney])
async def withdraw(amount: int = Body(...)) -> int:
    executed("withdraw", amount)
    raise NoMoney(data={"missing": amount})


@entrypoint.method()
async def fail(param: str = Body(...)) -> int:
    executed("fail", param)
    raise ValueError("a mistake in the method")


app.bind_entrypoint(entrypoint)
