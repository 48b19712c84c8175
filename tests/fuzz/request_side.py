"""What is sent: any method, params and id that Hypothesis thinks of, written and read back."""

from __future__ import annotations

import enum
import json
import math
from typing import Any, NoReturn

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

from rpcretry import Request
from rpcretry._requests import Requests
from rpcretry.codec import JsonCodec, encode_request, encode_requests, split_batch

__all__ = ["sent_and_read_back"]

CODEC = JsonCodec()
# Only high surrogates: a pair of them is on the wire what the character is that they stand for.
TEXTS = st.text() | st.text(st.characters(categories=["Cs", "Cc", "Lu"], max_codepoint=0xDBFF))
SCALARS = st.none() | st.booleans() | st.integers() | st.integers(-(10**40), 10**40) | st.floats() | TEXTS
PLAIN = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4), max_leaves=12)


class Colour(enum.Enum):
    """A value that JSON has a place for, in a type that it has none for."""

    RED = 1
    ODD = math.nan


ODD = st.sampled_from([Colour.RED, Colour.ODD, object(), 1j, math, {1: 2}, {(1,): 2}, {None: 1}, range(3), Ellipsis, b"\xff", [[math.inf]], NoReturn])
# Its repr would be a ValueError of Python's.
HUGE = st.just(5000).map(lambda digits: 10**digits)
RICH = st.binary(max_size=4) | st.uuids() | st.datetimes() | st.decimals(allow_nan=True) | st.timedeltas() | st.sets(st.integers(), max_size=3) | ODD | HUGE
ANYTHING = st.recursive(
    PLAIN | RICH, lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=8
)
IDS = st.integers() | HUGE | TEXTS | st.none() | st.booleans() | st.floats() | st.uuids() | st.lists(st.integers(), max_size=1)
METHODS = TEXTS | st.sampled_from(["sum", "a.b", "rpc.x", "__proto__", "\x00", "\ud800"]) | st.integers() | st.none()


def refuse(name: str) -> NoReturn:
    """Nothing on the wire is NaN or infinite."""
    raise AssertionError(f"{name} is on the wire")


def wire(body: bytes) -> Any:
    """The document as a strict server reads it."""
    return json.loads(body.decode("utf-8"), parse_constant=refuse, parse_int=lambda text: int(text) if len(text) < 4000 else text)


def same(one: Any, other: Any) -> bool:
    """Whether they are the same JSON; tuples are lists."""
    if isinstance(one, (list, tuple)):
        return isinstance(other, list) and len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return isinstance(other, dict) and list(one) == list(other) and all(same(one[name], other[name]) for name in one)
    return (
        type(one) is type(other) and (one == other or one != one) and math.copysign(1, one) == math.copysign(1, other)
        if isinstance(one, float)
        else one == other
    )


def is_plain(value: Any) -> bool:
    """Whether JSON has a place for it as it is."""
    if isinstance(value, (list, tuple)):
        return all(map(is_plain, value))
    if isinstance(value, dict):
        return all(type(name) is str and is_plain(item) for name, item in value.items())
    return value is None or type(value) in (bool, str) or (type(value) is int and abs(value) < 10**4000) or (type(value) is float and math.isfinite(value))


def written(method: Any, params: Any, id: Any) -> bytes | None:
    """The request as it goes out; ``None`` where it is refused, which TypeErrors and ValueErrors say."""
    try:
        return encode_request(CODEC, Request(method, params, id=id))
    except (TypeError, ValueError) as problem:
        if isinstance(problem, UnicodeError):
            raise AssertionError(f"a bare {type(problem).__name__}") from problem
        said = str(problem)
        assert said
        assert len(said) < 1000, f"a message of {len(said)} characters"
        return None


def check_one(method: Any, params: Any, id: Any) -> None:
    """Write and read back one request."""
    body = written(method, params, id)
    fits = (
        type(method) is str
        and method
        and (id is None or type(id) is str or (type(id) is int and abs(id) < 10**4300))
        and (params is None or isinstance(params, (list, tuple, dict)))
        and is_plain(params)
    )
    if body is None:
        assert not fits, "what JSON has a place for was refused"
        return
    document = wire(body)
    assert (document["jsonrpc"], document["method"]) == ("2.0", method)
    # The reader above leaves an int of thousands of digits as it is written.
    if id is None or type(id) is str or abs(id) < 10**3999:
        assert (document["id"] == id and type(document["id"]) is type(id)) if id is not None else "id" not in document
    assert "params" not in document if params is None else isinstance(document["params"], (list, dict))
    if params is not None and is_plain(params) and isinstance(params, (list, tuple, dict)):
        assert same(params, document["params"])


def check_batch(requests: list[tuple[str, Any, Any]]) -> None:
    """A batch is its requests, and is cut into them again."""
    alone = [written(method, params, number) for number, (method, params, _) in enumerate(requests)]
    try:
        batch = Requests([Request(method, params, id=number) for number, (method, params, _) in enumerate(requests)])
        body = encode_requests(CODEC, batch)
    except (TypeError, ValueError):
        assert None in alone, "a batch was refused, and none of its requests is"
        return
    assert None not in alone
    assert [wire(fragment) for fragment in split_batch(body)] == wire(body) or "NaN" in body.decode()
    assert wire(body) == [wire(one or b"") for one in alone]


def sent_and_read_back(examples: int, seed: int = 0) -> None:
    """Try *examples* requests, and a fifth as many batches. Raises AssertionError with the smallest that fails."""
    some = settings(max_examples=examples, deadline=None, database=None, phases=[Phase.generate, Phase.shrink], suppress_health_check=list(HealthCheck))

    @some
    @seeded(seed)
    @given(METHODS, PLAIN | ANYTHING, IDS)
    def one(method: Any, params: Any, id: Any) -> None:
        check_one(method, params, id)

    @settings(some, max_examples=max(1, examples // 5))
    @seeded(seed)
    @given(st.lists(st.tuples(st.sampled_from(["sum", "a.b", "\ud800", "é"]), st.lists(ANYTHING, max_size=3), st.none()), min_size=1, max_size=4))
    def several(requests: list[tuple[str, Any, Any]]) -> None:
        check_batch(requests)

    one()
    several()
