"""What typed calls send and refuse to send, and that what they say of it shows no value."""

from __future__ import annotations

import copy
import pickle
import types
import warnings
from typing import Annotated, Any, Literal, NotRequired, Protocol, Unpack

import pydantic
import pytest
import typing_extensions
from pydantic import AfterValidator, Field, PlainSerializer, SecretStr
from support import Rig, both_drivers

from rpcretry import UNSET, Client, Fallback, JsonRpcError, Request, ResultValidationError, RetryStrategy, Unset, rpc
from rpcretry.client import _interface_values
from rpcretry.testing import ScriptedBackend, error, result


class Cat(pydantic.BaseModel):
    kind: Literal["cat"]


class Dog(pydantic.BaseModel):
    kind: Literal["dog"]


class Pin(pydantic.BaseModel):
    pin: int


class Attributes(pydantic.BaseModel, from_attributes=True):
    values: dict[int, int]


class Written(pydantic.BaseModel):
    @pydantic.model_serializer
    def write(self) -> Any:
        raise KeyError("s3cret")


class Options(typing_extensions.TypedDict):
    first: int
    after: NotRequired[int]


def broken(value: Any) -> Any:
    raise ZeroDivisionError("s3cret")


class Server(Protocol):
    def animal(self, one: Annotated[Cat | Dog, Field(discriminator="kind")]) -> Any: ...

    def keyed(self, values: dict[int, int]) -> Any: ...

    def named(self, values: dict[str, int]) -> Any: ...

    def deep(self, values: list[dict[int, dict[str, Pin]]]) -> Any: ...

    def parsed(self, values: pydantic.Json[dict[str, int]]) -> Any: ...

    def either(self, value: int | list[int]) -> Any: ...

    def narrowed(self, value: Annotated[str, Field(min_length=9)] | int) -> Any: ...

    def attributes(self, value: Attributes) -> Any: ...

    def model(self, value: Pin) -> Any: ...

    def written(self, first: int, value: Written) -> Any: ...

    def circle(self, value: list[Any], pin: Pin) -> Any: ...

    def bare(self, value: list) -> Any: ...  # type: ignore[type-arg]

    def broken(self, value: Annotated[int, AfterValidator(broken)]) -> Any: ...

    def many(self, values: list[int]) -> Any: ...

    @rpc(by="name")
    def aliased(self, a: Annotated[int, Field(alias="A")], **others: int) -> Any: ...

    def unpacked(self, **options: typing_extensions.Unpack[Options]) -> Any: ...  # type: ignore[misc, valid-type]

    def unpacked_too(self, **first: Unpack[Options]) -> Any: ...

    def free(self, a, b=UNSET, c=3): ...  # type: ignore[no-untyped-def]

    def rest(self, *values): ...  # type: ignore[no-untyped-def]

    def open(self, a: int, b: int | Unset = UNSET, c: int | Unset = 3, d: int = 4) -> Any: ...

    def narrow(self, *, a: int | Unset | None = UNSET) -> Any: ...

    def gaps(self, a: int = None, b: int = 1, c: Pin = {"pin": "4"}, d: int = 5) -> Any: ...  # type: ignore[assignment]  # noqa: B006, RUF013

    def kind(self, kind: Literal["a", 1]) -> Any: ...

    def unlock(self, pin: Annotated[SecretStr, PlainSerializer(lambda value: value.get_secret_value())]) -> Any: ...


CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)

# What is called, what it says.
SAID: list[tuple[Any, str]] = [
    (lambda api: api.animal({"kind": "s3cret"}), r"one: unknown tag, expected 'cat', 'dog'$"),
    (lambda api: api.keyed({"s3cret": 1}), r"values\.\[key\]: Input should be a valid integer, unable to parse string as an integer$"),
    (lambda api: api.keyed({8005551234: "x"}), r"values\.\[key\]: Input should be a valid integer"),
    (lambda api: api.named({"s3cret": "x"}), r"values\.\[key\]: Input should be a valid integer"),
    (lambda api: api.deep([{}, {8005551234: {"s3cret": {"pin": "x"}}}]), r"values\.1\.\[key\]\.\[key\]\.pin: Input should be a valid integer"),
    (lambda api: api.named({"!?": "x"}), r"values\.\[key\]: Input should be a valid integer"),
    (lambda api: api.parsed('{"s3cret": "x"}'), r"values\.\[key\]: Input should be a valid integer"),
    (lambda api: api.either(["x"]), r"value\.int: Input should be a valid integer; value\.list\[int\]\.0: Input should be a valid integer"),
    (lambda api: api.narrowed("x"), r"value\.constrained-str: String should have at least 9 characters; value\.int: "),
    (lambda api: api.attributes(types.SimpleNamespace(values={8005551234: "x"})), r"value\.values\.\[key\]: Input should be a valid integer"),
    (lambda api: api.written(1, Written()), r"value, of type Written, cannot be sent as JSON$"),
    (lambda api: api.circle(CIRCLE, Pin(pin=1)), r"value, of type list, cannot be sent as JSON$"),
    (lambda api: api.broken(1), r"what was given could not be validated: a validator raised ZeroDivisionError$"),
    (lambda api: api.many(["x"] * 5), r"values\.0: .*; values\.1: .*; values\.2: Input should be a valid integer, .* and 2 more$"),
    (lambda api: api.aliased(1, A=2), r"multiple values for argument 'A'$"),
    (lambda api: api.unpacked(after=1), r"missing a required (keyword-only )?argument: 'first'$"),
    (lambda api: api.unpacked_too(first="x"), r"first: Input should be a valid integer"),
    (lambda api: api.free(UNSET), r"missing a required argument: 'a'$"),
    (lambda api: api.free(1, c=UNSET), r"'c' may not be UNSET; leave it out$"),
    (lambda api: api.open(1, d=UNSET), r"'d' may not be UNSET; leave it out$"),
    (lambda api: api.open(1, "UNSET"), r"b: Input should be a valid integer"),
    (
        lambda api: api.gaps(b=2),
        r"sends params by position, and 'a', which stands before 'b', has a default that cannot be sent \(a: Input should be a valid integer\); give 'a', too$",
    ),
    (lambda api: api.kind("b"), r"kind: Input should be 'a' or 1$"),
]


@pytest.mark.parametrize(("act", "message"), SAID, ids=[str(number) for number in range(len(SAID))])
@both_drivers
def test_what_is_said_names_the_place_and_shows_no_value(driver: str, act: Any, message: str) -> None:
    rig = Rig(driver, result(1))
    with pytest.raises(TypeError, match=rf"^Server\.\w+\(\):? {message}") as caught:
        act(rig.client.typed(Server))
    assert not {"s3cret", "8005551234"} & set(str(caught.value).replace(".", " ").replace(":", " ").split())
    assert "s3cret" not in str(caught.value)
    assert rig.sent == 0


# What is called, what is sent.
SENT: list[tuple[Any, Any]] = [
    (lambda api: api.aliased(1, b="2"), {"A": 1, "b": 2}),
    (lambda api: api.unpacked(first="1", after=2), {"first": 1, "after": 2}),
    (lambda api: api.unpacked_too(first=1), {"first": 1}),
    (lambda api: api.free(1, UNSET), [1]),
    (lambda api: api.open(1, UNSET, UNSET), [1]),
    (lambda api: api.open(1, 2, UNSET, 5), [1, 2, 3, 5]),
    (lambda api: api.narrow(a=None), {"a": None}),
    (lambda api: api.narrow(a="1"), {"a": 1}),
    (lambda api: api.gaps(1, d=2), [1, 1, {"pin": 4}, 2]),
    (lambda api: api.kind("a"), ["a"]),
    (lambda api: api.unlock("1234"), ["1234"]),
]


@pytest.mark.parametrize(("act", "params"), SENT, ids=[str(number) for number in range(len(SENT))])
@both_drivers
def test_what_is_sent(driver: str, act: Any, params: Any) -> None:
    rig = Rig(driver, result(1))
    rig.run(lambda client: act(client.typed(Server)))
    assert rig.backend.bodies[0]["params"] == params


def test_a_model_that_was_never_validated_is_sent_without_a_warning_that_shows_it() -> None:
    backend = ScriptedBackend([result(1)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Client(backend).typed(Server).model(Pin.model_construct(pin="s3cret"))  # type: ignore[arg-type]
    assert backend.bodies[0]["params"] == [{"pin": "s3cret"}]


def test_what_json_has_no_place_for_is_a_value_error_where_nothing_has_to_be_written_first() -> None:
    api = Client(ScriptedBackend([])).typed(Server)
    with pytest.raises(ValueError, match="Circular reference"):
        api.bare(CIRCLE)


@pytest.mark.parametrize(
    ("hint", "is_plain"),
    [(Literal["a", 1, None], True), (list[Literal["a"]], True), (Literal[b"a"], False), (dict[str, int] | None, True), (list[Pin], False)],
)
def test_literals_that_json_has_need_no_serializer(hint: Any, is_plain: bool) -> None:
    assert _interface_values._is_plain(hint) is is_plain


# --- UNSET ---


class AnyModel(pydantic.BaseModel):
    value: Any


@pytest.mark.parametrize("value", [UNSET, [UNSET], {"a": UNSET}, AnyModel(value=UNSET), {1: UNSET}, {UNSET: 1}], ids=str)
@both_drivers
def test_unset_is_never_sent(driver: str, value: Any) -> None:
    rig = Rig(driver, result(1))
    for act in (
        lambda client: client.call("m", value),
        lambda client: client.call("m", a=value),
        lambda client: client.send(Request("m", [value])),
        lambda client: client.typed(Server).rest(value),
        lambda client: client.typed(Server).circle([value], {"pin": 1}),
    ):
        with pytest.raises(TypeError, match=r"UNSET|cannot be sent as JSON$"):
            rig.run(act)
    with pytest.raises(TypeError, match=r"^params of 'm' cannot be sent as JSON: UNSET stands for what is not given, and cannot be sent; leave it out$"):
        rig.run(lambda client: client.call("m", value))
    assert rig.sent == 0


def test_unset_is_one_wherever_it_goes() -> None:
    assert [pickle.loads(pickle.dumps(UNSET, protocol)) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)] == [UNSET] * (pickle.HIGHEST_PROTOCOL + 1)
    assert copy.copy(UNSET) is copy.deepcopy(UNSET) is copy.deepcopy([UNSET])[0] is UNSET
    assert (repr(UNSET), str(UNSET), bool(UNSET)) == ("UNSET", "UNSET", False)
    assert isinstance(UNSET, Unset)


# --- the same for results and the data of errors ---


@both_drivers
def test_a_result_that_does_not_fit_is_not_shown(driver: str) -> None:
    rig = Rig(driver, result({"s3cret": "x"}), result({"kind": "s3cret"}))
    with pytest.raises(ResultValidationError, match=r"is no dict\[int, int\]: \[key\]: Input should be a valid integer, .*; \[key\]: Input") as caught:
        rig.call("m", _result=dict[int, int])
    assert "s3cret" not in str(caught.value)
    assert caught.value.result == {"s3cret": "x"}
    assert caught.value.details[0]["loc"] == ("s3cret", "[key]")
    assert "ctx" not in caught.value.details[0]
    with pytest.raises(ResultValidationError, match=r": result: unknown tag, expected 'cat', 'dog'$"):
        rig.call("m", _result=Annotated[Cat | Dog, Field(discriminator="kind")])


def test_a_note_shows_no_data() -> None:
    class Keyed(JsonRpcError):
        CODE = 5
        data: dict[int, int]

    with pytest.raises(Keyed) as caught:
        Client(ScriptedBackend([error(5, "m", data={"s3cret": 1})]), errors=[Keyed]).call("m")
    assert caught.value.__notes__ == ["its data is no dict[int, int]: [key]: Input should be a valid integer, unable to parse string as an integer"]


# --- what using() says counts before what the interface says ---


class Opinionated(Protocol):
    @rpc(retry_strategy=None)
    def once(self) -> Any: ...

    @rpc(fallback=Fallback("the interface's"))
    def kept(self) -> Any: ...

    @rpc(idempotency_key=lambda: "the-interfaces")
    def keyed(self) -> Any: ...


@both_drivers
def test_what_a_view_was_told_counts_before_every_option_of_a_method(driver: str) -> None:
    strategy = RetryStrategy(codes={7}, backoff=lambda: iter([0.0]))
    rig = Rig(driver, error(7), result(1), error(7), result(2), result(3))
    assert rig.run(lambda client: client.using(retry_strategy=strategy).typed(Opinionated).once()) == 1
    assert rig.run(lambda client: client.using(fallback=Fallback("the view's")).typed(Opinionated).kept()) == "the view's"
    rig.run(lambda client: client.using(idempotency_key=lambda: "the-views").typed(Opinionated).keyed())
    rig.run(lambda client: client.using(timeout=3).typed(Opinionated).keyed())
    keys = [exchange.headers["Idempotency-Key"] for exchange in rig.backend.exchanges[-2:]]
    assert keys == ["the-views", "the-interfaces"]
