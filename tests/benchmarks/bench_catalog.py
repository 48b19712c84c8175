"""What the benchmarks compare, by name. Imports nothing, so that a page and its test can look here without the peers."""

from __future__ import annotations

from typing import NamedTuple

OURS = "rpcretry"
BY_HAND = "by hand"
DECORATORS = ("tenacity", "stamina", "backoff", "opnieuw")
CONTESTANTS = (OURS, "pjrpc", "jsonrpcclient", "jsonrpc-requests", "jsonrpc-async", BY_HAND, *DECORATORS)

# What has to be installed for them, by the names of the modules; the extra ``bench`` has it all.
NEEDED = ("backoff", "jsonrpc_async", "jsonrpc_requests", "jsonrpcclient", "opnieuw", "pjrpc", "stamina", "tenacity")
NEEDED_ALONE = ("aiohttp", "pydantic", "requests")
VERSIONS = (OURS, "aiohttp", "requests", "urllib3", "pydantic", "pjrpc", "jsonrpcclient", "jsonrpc-requests", "jsonrpc-async", *DECORATORS)
INSTALL = "python -m pip install -e '.[bench]'"


class Scenario(NamedTuple):
    """A scenario of the table.

    :ivar unit: of its numbers, and what they are for.
    :ivar kinds: ``sync``, ``async`` or both.
    """

    title: str
    unit: str
    kinds: tuple[str, ...] = ("sync", "async")


SCENARIOS = {
    "null": Scenario("Null call", "µs a call"),
    "retried": Scenario("Fails twice, then succeeds", "µs a call"),
    "sequential": Scenario("Loopback, one after the other", "µs a call"),
    "hundred": Scenario("Loopback, 100 at once", "µs a call"),
    "thousand": Scenario("Loopback, 1,000 at once", "µs a call"),
    "batch": Scenario("Batch of 100", "µs a request"),
    "large": Scenario("Result of 1 MB", "ms a call"),
    "typed": Scenario("1,000 models", "ms a call"),
    "import": Scenario("Import", "ms"),
    "memory": Scenario("10,000 calls wait in backoff", "KiB a call", ("async",)),
}
SCALES = {"µs": 1e6, "ms": 1e3, "KiB": 1 / 1024}
RECOVERY = "recovery"
PROFILE = "profile"
LETTERS = "abcdefgh"

NO_RETRY = "It has no retries; the decorators of the other columns are what its users put around it."
NO_BATCH = "It has no batches."
CANNOT = {
    ("retried", "jsonrpcclient"): NO_RETRY,
    ("retried", "jsonrpc-requests"): NO_RETRY,
    ("retried", "jsonrpc-async"): NO_RETRY,
    ("retried", BY_HAND): "Retries by hand are what the four decorators are.",
    ("batch", "jsonrpc-requests"): NO_BATCH,
    ("batch", "jsonrpc-async"): NO_BATCH,
    ("memory", "jsonrpcclient"): NO_RETRY,
    ("memory", "jsonrpc-async"): NO_RETRY,
    ("memory", BY_HAND): "It has no backoff to wait in.",
}

# Why a target that was missed was missed, by the beginning of its name in the table.
WHY = {
    "a  null call, sync": "About half of it builds the call and its body, a sixth reads the answer, and the rest are the driver's statements, each of "
    "some hundredths of a microsecond; see the profile.",
    "a  null call, async": "As the sync one, and a coroutine more.",
    "b  ": "Most of it is urllib3 and the socket, which both have.",
    "c  ": "Most of it is aiohttp and the socket, which both have.",
    "d  ": "Most of it is pydantic_core and modules of the standard library.",
    "e  ": "The engine and its records; the peers keep fewer.",
    "f  all layers": "With layers the engine writes down the attempt, its member and its outcome, which a call without layers goes without; the table of the "
    "layers has what each of them adds.",
    "h  1,000 at once, joined, vs pjrpc": "A fifth is asyncio's own work for a task for each call, and about as much the garbage "
    "collector, which walks the objects of all calls that wait.",
    "h  1,000 at once, joined, vs not joined": "As the line before: tasks, and the garbage collector.",
    "h  one after": "A call that is alone looks whether others come, which costs it a turn of the loop where other tasks run.",
}
