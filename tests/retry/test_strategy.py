"""Strategies: which failures are tried again, what counts more than what, and what bad input gets."""

from __future__ import annotations

import copy
import pickle
import random
import re
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest
import requests

import rpcretry
from rpcretry import (
    CertificateError,
    Classification,
    ClientClosedError,
    ConnectError,
    ConnectionLostError,
    ConnectTimeoutError,
    DeadlineExceeded,
    HTTPStatusError,
    IdentityError,
    InternalError,
    InvalidParamsError,
    InvalidRequestError,
    InvalidTargetError,
    JsonRpcError,
    MethodNotFoundError,
    MissingResponseError,
    Outcome,
    ParseError,
    ProtocolError,
    Refused,
    Request,
    RequestTimeoutError,
    Response,
    RetryExhaustedError,
    RetryStrategy,
    ServerError,
)
from rpcretry.outcome import Member, Retry, Stop
from rpcretry.retry import TRANSIENT_CODES, TRANSIENT_STATUSES, ExponentialBackoff, PeriodicBackoff


def rpc(code: int, status: int | None = 200) -> JsonRpcError:
    return JsonRpcError("no", code=code, status=status)


def http(status: int) -> HTTPStatusError:
    return HTTPStatusError(f"HTTP {status}", status=status)


def by(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


class Busy(JsonRpcError):
    CODE = 2001


# --- what the preset retries ---


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (rpc(-32005), "code"),
        (rpc(429), "code"),
        (rpc(-32000), None),
        (rpc(-32603), None),
        (rpc(2001), None),
        (http(408), "status"),
        (http(429), "status"),
        (http(502), "status"),
        (http(503), "status"),
        (http(504), "status"),
        (http(500), None),
        (http(501), None),
        (http(404), None),
        (http(302), None),
        (ConnectError("x"), "exception"),
        (ConnectTimeoutError("x"), "exception"),
        (ConnectionLostError("x"), "exception"),
        (RequestTimeoutError("x"), "exception"),
        (ConnectionResetError("x"), "exception"),
        (TimeoutError("x"), "exception"),
        (CertificateError("x"), None),
        (InvalidTargetError("x"), None),
        (ProtocolError("x"), None),
        (IdentityError("x"), None),
        (MissingResponseError("x"), None),
        (ClientClosedError("x"), None),
        (OSError("x"), None),
        (ValueError("x"), None),
        (by(CertificateError("x"), requests.exceptions.SSLError("x")), None),
    ],
    ids=lambda value: f"{value!r:.50}" if not isinstance(value, str) else value,
)
def test_defaults_what_the_transient_preset_retries(error: Exception, expected: str | None) -> None:
    assert RetryStrategy().matches(error) == expected


def test_defaults_the_presets_numbers() -> None:
    assert frozenset({-32005, 429}) == TRANSIENT_CODES
    assert frozenset({408, 429, 502, 503, 504}) == TRANSIENT_STATUSES


@pytest.mark.parametrize(
    "strategy",
    [
        RetryStrategy(exceptions={ValueError}),
        RetryStrategy(codes={1}),
        RetryStrategy(codes=()),
        RetryStrategy(statuses={500}),
        RetryStrategy(when=lambda outcome, attempt: False),
    ],
    ids=["exceptions", "codes", "no codes", "statuses", "when"],
)
def test_naming_what_to_retry_replaces_the_preset(strategy: RetryStrategy) -> None:
    for error in (ConnectError("x"), TimeoutError("x"), http(503), rpc(429)):
        assert strategy.matches(error) is None
    assert not strategy.is_guarded


@pytest.mark.parametrize(
    "strategy",
    [
        RetryStrategy(backoff=PeriodicBackoff(attempts=1)),
        RetryStrategy(fatal={ValueError}),
        RetryStrategy(idempotent={"get_*"}),
        RetryStrategy(wrap=True),
    ],
    ids=["backoff", "fatal", "idempotent", "wrap"],
)
def test_the_other_parameters_alone_keep_the_preset(strategy: RetryStrategy) -> None:
    for error in (ConnectError("x"), TimeoutError("x"), http(503), rpc(429)):
        assert strategy.matches(error)
    assert strategy.is_guarded


@pytest.mark.parametrize(
    "types",
    [ValueError, {ValueError}, [ValueError], (ValueError,), frozenset({ValueError}), iter([ValueError]), (cls for cls in [ValueError]), {ValueError: 1}],
    ids=["class", "set", "list", "tuple", "frozenset", "iterator", "generator", "dict"],
)
def test_types_may_be_any_iterable(types: Any) -> None:
    strategy = RetryStrategy(exceptions=types)
    # Twice, since a generator that was kept would be empty by now.
    assert [strategy.matches(ValueError()), strategy.matches(ValueError()), strategy.matches(KeyError())] == ["exception", "exception", None]


@pytest.mark.parametrize("codes", [2001, {2001}, [2001, 7], range(2000, 2010), [range(2000, 2002), -1], (code for code in (1, 2001))])
def test_codes_are_ints_and_ranges(codes: Any) -> None:
    strategy = RetryStrategy(codes=codes)
    assert strategy.matches(rpc(2001)) == "code"
    assert strategy.matches(rpc(1999)) is None


def test_statuses_are_ints_and_ranges() -> None:
    strategy = RetryStrategy(statuses=[range(500, 600), 418])
    assert [strategy.matches(http(status)) for status in (500, 599, 418, 600, 404)] == ["status", "status", "status", None, None]


# --- what counts more ---


@pytest.mark.parametrize(
    ("options", "error", "expected"),
    [
        # fatal beats all
        ({"codes": {7}, "fatal": {7}}, rpc(7), None),
        ({"codes": range(10), "fatal": range(5, 10)}, rpc(7), None),
        ({"codes": range(10), "fatal": range(5, 10)}, rpc(3), "code"),
        ({"codes": {7}, "fatal": JsonRpcError}, rpc(7), None),
        ({"statuses": {503}, "fatal": {7}}, rpc(7, 503), None),
        ({"statuses": {503}, "fatal": HTTPStatusError}, http(503), None),
        ({"exceptions": {OSError}, "fatal": {ConnectionError}}, ConnectError("x"), None),
        ({"exceptions": {OSError}, "fatal": {ConnectionError}}, TimeoutError("x"), "exception"),
        ({"fatal": ConnectTimeoutError}, ConnectTimeoutError("x"), None),
        ({"fatal": ConnectTimeoutError}, ConnectError("x"), "exception"),
        # code before status before exception
        ({"codes": {7}, "statuses": {503}, "exceptions": {JsonRpcError}}, rpc(7, 503), "code"),
        ({"codes": {8}, "statuses": {503}, "exceptions": {JsonRpcError}}, rpc(7, 503), "status"),
        ({"codes": {8}, "statuses": {504}, "exceptions": {JsonRpcError}}, rpc(7, 503), "exception"),
        ({"statuses": {503}, "exceptions": {HTTPStatusError}}, http(503), "status"),
        ({"statuses": {503}, "exceptions": {HTTPStatusError}}, http(500), "exception"),
        # beside a JSON-RPC error the status counts for 429 and 503 only
        ({"statuses": range(400, 600)}, rpc(7, 500), None),
        ({"statuses": range(400, 600)}, rpc(7, 502), None),
        ({"statuses": range(400, 600)}, rpc(7, 429), "status"),
        ({"statuses": range(400, 600)}, rpc(7, 503), "status"),
        ({"statuses": range(400, 600)}, rpc(7, 200), None),
        ({"statuses": range(400, 600)}, rpc(7, None), None),
        ({}, rpc(7, 503), "status"),
        ({}, rpc(7, 500), None),
        # what no repetition mends beats any status
        ({}, rpc(-32700, 503), None),
        ({}, rpc(-32600, 429), None),
        ({}, rpc(-32601, 503), None),
        ({}, rpc(-32602, 429), None),
        ({}, rpc(-32603, 503), "status"),
        ({}, rpc(-32000, 429), "status"),
        ({"statuses": {503}, "codes": {-32601}}, rpc(-32601, 503), "code"),
    ],
    ids=lambda value: f"{value!r:.70}" if not isinstance(value, str) else value,
)
def test_precedence(options: dict[str, Any], error: Exception, expected: str | None) -> None:
    assert RetryStrategy(**options).matches(error) == expected


def test_trap_http_500_hides_the_json_rpc_error() -> None:
    """pjrpc raises the HTTP error and never sees the code."""
    assert RetryStrategy(codes={2001}).matches(Busy(status=500)) == "code"
    assert RetryStrategy(statuses={500}).matches(MethodNotFoundError(status=500)) is None


@pytest.mark.parametrize(
    ("types", "error", "expected"),
    [
        ({Exception}, rpc(7), None),
        ({rpcretry.RpcRetryError}, rpc(7), None),
        ({JsonRpcError}, rpc(7), "exception"),
        ({Busy}, Busy(), "exception"),
        ({Busy}, rpc(2001), None),
        ({ServerError}, ServerError("x", code=-32001), "exception"),
        ({InternalError}, InternalError(), "exception"),
        ({Exception}, http(500), "exception"),
        ({Exception}, ValueError("x"), "exception"),
    ],
    ids=lambda value: f"{value!r:.70}" if not isinstance(value, str) else value,
)
def test_a_json_rpc_error_matches_only_classes_of_json_rpc_errors(types: Any, error: Exception, expected: str | None) -> None:
    assert RetryStrategy(exceptions=types).matches(error) == expected


# --- the exceptions of HTTP libraries ---


@pytest.mark.parametrize(
    ("named", "error", "expected"),
    [
        (requests.ConnectionError, by(ConnectionLostError("x"), requests.ConnectionError("x")), "exception"),
        (requests.ConnectionError, by(ConnectTimeoutError("x"), requests.ConnectTimeout("x")), "exception"),
        (requests.RequestException, by(RequestTimeoutError("x"), requests.ReadTimeout("x")), "exception"),
        (requests.ReadTimeout, by(ConnectTimeoutError("x"), requests.ConnectTimeout("x")), None),
        (aiohttp.ClientError, by(ConnectionLostError("x"), aiohttp.ServerDisconnectedError()), "exception"),
        (aiohttp.ClientConnectionError, by(ConnectionLostError("x"), aiohttp.ClientPayloadError()), None),
        # A library's exception that a backend let through
        (aiohttp.ClientError, aiohttp.ServerDisconnectedError(), "exception"),
        # Builtins match what we raise, and nothing behind it: requests' errors are OSErrors, some are ValueErrors.
        (OSError, by(CertificateError("x"), requests.exceptions.SSLError("x")), None),
        (ValueError, by(ConnectionLostError("x"), requests.exceptions.JSONDecodeError("x", "", 0)), None),
        (Exception, by(ConnectionLostError("x"), requests.ConnectionError("x")), "exception"),
        # Nothing else has a cause that counts
        (requests.ConnectionError, by(ProtocolError("x"), requests.ConnectionError("x")), None),
        (requests.ConnectionError, by(JsonRpcError("x"), requests.ConnectionError("x")), None),
        (requests.ConnectionError, by(ValueError("x"), requests.ConnectionError("x")), None),
        (ConnectionLostError, by(RequestTimeoutError("x"), ConnectionLostError("x")), None),
        # What no repetition mends
        (requests.RequestException, by(CertificateError("x"), requests.exceptions.SSLError("x")), None),
        (requests.RequestException, by(InvalidTargetError("x"), requests.exceptions.InvalidURL("x")), None),
    ],
    ids=lambda value: f"{value!r:.50}" if not isinstance(value, str) else value,
)
def test_errors_a_librarys_exception_matches_through_cause_and_nothing_else_does(named: Any, error: Exception, expected: str | None) -> None:
    assert RetryStrategy(exceptions={named}).matches(error) == expected


def test_trap_connection_error_and_timeout_error_match_transport_errors() -> None:
    """In pjrpc ``{ConnectionError, TimeoutError}`` never matches what requests raises."""
    strategy = RetryStrategy(exceptions={ConnectionError, TimeoutError})
    for error in (ConnectError("x"), ConnectTimeoutError("x"), ConnectionLostError("x"), RequestTimeoutError("x")):
        assert strategy.matches(error) == "exception"


def test_fatal_matches_a_librarys_exception_through_cause_too() -> None:
    strategy = RetryStrategy(fatal={requests.ReadTimeout, aiohttp.ServerDisconnectedError})
    assert strategy.matches(by(RequestTimeoutError("x"), requests.ReadTimeout("x"))) is None
    assert strategy.matches(by(ConnectionLostError("x"), aiohttp.ServerDisconnectedError())) is None
    assert strategy.matches(by(RequestTimeoutError("x"), requests.ConnectTimeout("x"))) == "exception"


def test_fatal_through_cause_is_not_offered_to_when() -> None:
    strategy = RetryStrategy(fatal={requests.ReadTimeout}, when=lambda outcome, attempt: True)
    assert strategy.propose(Member(Request("m")), Outcome(error=by(RequestTimeoutError("x"), requests.ReadTimeout("x")))) == Stop("error")


# --- classify ---


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TimeoutError("x"), Classification.TIMEOUT),
        (ConnectTimeoutError("x"), Classification.TIMEOUT),
        (RequestTimeoutError("x"), Classification.TIMEOUT),
        (DeadlineExceeded("x"), Classification.TIMEOUT),
        (ConnectError("x"), Classification.RETRYABLE),
        (http(503), Classification.RETRYABLE),
        (rpc(429), Classification.RETRYABLE),
        (rpc(1), Classification.NON_RETRYABLE),
        (Refused("x"), Classification.NON_RETRYABLE),
        (KeyboardInterrupt(), Classification.NON_RETRYABLE),
        (GeneratorExit(), Classification.NON_RETRYABLE),
        (RetryExhaustedError("x", last_exception=TimeoutError()), Classification.NON_RETRYABLE),
    ],
    ids=lambda value: f"{value!r:.50}",
)
def test_classify_looks_at_timeouts_first(error: BaseException, expected: Classification) -> None:
    assert RetryStrategy().classify(error) is expected


def test_classify_a_fatal_timeout_is_still_a_timeout() -> None:
    assert RetryStrategy(fatal=TimeoutError).classify(TimeoutError()) is Classification.TIMEOUT
    assert RetryStrategy(exceptions={Exception}).classify(Refused("x")) is Classification.NON_RETRYABLE


# --- propose ---


def proposals(strategy: RetryStrategy, outcome: Outcome, tries: int = 6) -> list[Retry | Stop]:
    member = Member(Request("m", id=1))
    made: list[Retry | Stop] = []
    for _ in range(tries):
        member.tries += 1
        made.append(strategy.propose(member, outcome))
        if isinstance(made[-1], Stop):
            break
    return made


def test_attempts_is_how_many_delays_follow_the_first_try() -> None:
    strategy = RetryStrategy(codes={7}, backoff=ExponentialBackoff(attempts=3, base=1, factor=2))
    assert proposals(strategy, Outcome(error=rpc(7))) == [Retry(1.0, "code"), Retry(2.0, "code"), Retry(4.0, "code"), Stop("attempts")]
    assert strategy.max_attempts == 4
    nothing = RetryStrategy(codes={7}, backoff=PeriodicBackoff(attempts=0))
    assert proposals(nothing, Outcome(error=rpc(7))) == [Stop("attempts")]


def test_every_request_gets_a_fresh_iterator() -> None:
    made: list[Iterator[float]] = []

    def backoff() -> Iterator[float]:
        made.append(iter([1.0, 2.0]))
        return made[-1]

    strategy = RetryStrategy(codes={7}, backoff=backoff)
    one, two = Member(Request("a")), Member(Request("b"))
    failed = Outcome(error=rpc(7))
    assert [strategy.propose(member, failed) for member in (one, two, one, two)] == [Retry(1.0, "code")] * 2 + [Retry(2.0, "code")] * 2
    assert len(made) == 2


def test_a_backoff_is_not_asked_before_a_failure() -> None:
    asked: list[int] = []

    def backoff() -> Iterator[float]:
        asked.append(1)
        return iter([1.0])

    strategy = RetryStrategy(codes={7}, backoff=backoff)
    strategy.propose(Member(Request("m")), Outcome(Response(1, 5)))
    strategy.propose(Member(Request("m")), Outcome(error=rpc(8)))
    assert asked == []


@pytest.mark.parametrize(("delay", "expected"), [(-3, 0.0), (1e9, 86_400.0), (float("inf"), 86_400.0), (2, 2.0)])
def test_what_a_users_iterator_yields_is_made_a_delay(delay: float, expected: float) -> None:
    strategy = RetryStrategy(codes={7}, backoff=lambda: iter([delay]))
    assert proposals(strategy, Outcome(error=rpc(7)), 1) == [Retry(expected, "code")]


@pytest.mark.parametrize(("delay", "error"), [(float("nan"), ValueError), ("1", TypeError), (None, TypeError), (True, TypeError)])
def test_what_is_no_delay_is_refused(delay: Any, error: type[Exception]) -> None:
    # None would end the iteration like an exhausted iterator if it were not told apart.
    strategy = RetryStrategy(codes={7}, backoff=lambda: iter([delay, 1.0]))
    with pytest.raises(error, match="delay must be a number of seconds"):
        proposals(strategy, Outcome(error=rpc(7)), 1)


# --- when ---


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (True, Retry(9.0, "when")),
        (0.25, Retry(0.25, "when")),
        (3, Retry(3.0, "when")),
        (0, Retry(0.0, "when")),
        (-1, Retry(0.0, "when")),
        (False, Stop("error")),
        (None, Stop("error")),
    ],
)
def test_when_says_whether_and_after_how_long(answer: Any, expected: Retry | Stop) -> None:
    strategy = RetryStrategy(when=lambda outcome, attempt: answer, backoff=PeriodicBackoff(2, 9.0))
    assert proposals(strategy, Outcome(error=ValueError()), 1) == [expected]


@pytest.mark.parametrize(
    ("answer", "error", "got"), [("x", TypeError, "str 'x'"), ([], TypeError, r"list \[\]"), (float("nan"), ValueError, "NaN")], ids=["str", "list", "nan"]
)
def test_what_when_may_not_return_is_refused_by_its_name(answer: Any, error: type[Exception], got: str) -> None:
    strategy = RetryStrategy(when=lambda outcome, attempt: answer, backoff=PeriodicBackoff(2, 9.0))
    with pytest.raises(error, match=f"^when must return True, False, None or a number of seconds, got {got}$"):
        proposals(strategy, Outcome(error=ValueError()), 1)


def test_when_a_number_uses_up_an_attempt_all_the_same() -> None:
    strategy = RetryStrategy(when=lambda outcome, attempt: 0.5, backoff=PeriodicBackoff(2, 9.0))
    assert proposals(strategy, Outcome(error=ValueError())) == [Retry(0.5, "when"), Retry(0.5, "when"), Stop("attempts")]


def test_when_is_asked_with_the_outcome_and_the_number_of_the_try_also_of_a_success() -> None:
    asked: list[tuple[Any, int]] = []

    def pending(outcome: Outcome, attempt: int) -> bool:
        asked.append((outcome.result, attempt))
        return outcome.ok and outcome.result == "pending"

    strategy = RetryStrategy(when=pending, backoff=PeriodicBackoff(2))
    assert proposals(strategy, Outcome(Response(1, "pending")))[-1] == Stop("attempts")
    assert proposals(strategy, Outcome(Response(1, "done"))) == [Stop("ok")]
    assert asked == [("pending", 1), ("pending", 2), ("pending", 3), ("done", 1)]


def test_when_is_not_asked_about_what_matched_or_is_fatal() -> None:
    strategy = RetryStrategy(codes={7}, fatal={8, KeyError}, when=lambda outcome, attempt: 1 / 0)
    assert isinstance(proposals(strategy, Outcome(error=rpc(7)), 1)[0], Retry)
    assert proposals(strategy, Outcome(error=rpc(8))) == [Stop("error")]
    assert proposals(strategy, Outcome(error=KeyError())) == [Stop("error")]


# --- idempotent ---


@pytest.mark.parametrize(
    ("declared", "yes", "no"),
    [
        ("get", ["get"], ["get_x", "Get", "ge"]),
        ("get_*", ["get_", "get_x"], ["get", "xget_x", "GET_x"]),
        ({"a", "b?"}, ["a", "b1"], ["b", "b12", "c"]),
        (["x.y", "x.[ab]"], ["x.y", "x.a"], ["xay", "x.c"]),
        (lambda request: request.method == "m", ["m"], ["n"]),
        (True, ["anything"], []),
        (False, [], ["anything"]),
        (None, [], ["anything"]),
        (set(), [], ["anything"]),
    ],
    ids=repr,
)
def test_idempotent_takes_names_globs_a_predicate_or_true(declared: Any, yes: list[str], no: list[str]) -> None:
    strategy = RetryStrategy(codes={1}, idempotent=declared)
    assert [strategy.is_idempotent(Request(method)) for method in yes] == [True] * len(yes)
    assert [strategy.is_idempotent(Request(method)) for method in no] == [False] * len(no)
    assert strategy.is_guarded is (declared is not None)


# --- a strategy is a value ---


def test_a_strategy_is_frozen() -> None:
    strategy = RetryStrategy(codes={7})
    for name in ("backoff", "wrap", "when", "max_attempts", "_codes", "something"):
        with pytest.raises(AttributeError, match=f"immutable.*{name}"):
            setattr(strategy, name, None)


def test_a_strategy_copies_and_pickles() -> None:
    strategy = RetryStrategy(codes={7}, exceptions={KeyError}, idempotent={"get_*"}, backoff=PeriodicBackoff(2), wrap=True)
    for twin in (copy.copy(strategy), copy.deepcopy(strategy), pickle.loads(pickle.dumps(strategy))):
        assert twin.matches(rpc(7)) == "code"
        assert twin.matches(KeyError()) == "exception"
        assert twin.is_idempotent(Request("get_x"))
        assert (twin.max_attempts, twin.wrap) == (3, True)
        with pytest.raises(AttributeError):
            twin.wrap = False


def test_its_repr_says_what_it_is() -> None:
    backoff = "PeriodicBackoff(attempts=2, jitter=None, max_value=None, interval=1.0)"
    assert repr(RetryStrategy(backoff=PeriodicBackoff(2))) == f"RetryStrategy(transient, backoff={backoff})"
    assert repr(RetryStrategy(codes={7}, backoff=PeriodicBackoff(2))).startswith("RetryStrategy(backoff=Periodic")


def test_a_subclass_may_have_parameters_of_its_own() -> None:
    class Mine(RetryStrategy):
        def __init__(self, max_retries: int, /, *, delay: float) -> None:
            super().__init__(codes={7}, backoff=PeriodicBackoff(max_retries, delay))

    assert proposals(Mine(1, delay=0.5), Outcome(error=rpc(7))) == [Retry(0.5, "code"), Stop("attempts")]

    class Plain(RetryStrategy):
        def __init__(self) -> None:
            super().__init__(codes={7})

    assert Plain().matches(rpc(7)) == "code"


def test_the_documented_strategies() -> None:
    default = RetryStrategy(exceptions={TimeoutError}, backoff=PeriodicBackoff(attempts=3, interval=1.0, jitter=lambda: random.gauss(mu=0.5, sigma=0.1)))
    delays = [verdict.delay for verdict in proposals(default, Outcome(error=RequestTimeoutError("x"))) if isinstance(verdict, Retry)]
    assert len(delays) == 3
    assert all(1.0 <= delay <= 2.0 for delay in delays)
    one = RetryStrategy(exceptions={TimeoutError}, codes={2001}, backoff=ExponentialBackoff(attempts=3, base=1.0, factor=2.0))
    assert proposals(one, Outcome(error=Busy())) == [Retry(1.0, "code"), Retry(2.0, "code"), Retry(4.0, "code"), Stop("attempts")]


# --- bad input ---


class Cancel(BaseException):
    pass


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"exceptions": "TimeoutError"}, TypeError, ["exceptions", "classes", "'TimeoutError'"]),
        ({"exceptions": TimeoutError("x")}, TypeError, ["exceptions", "classes", "TimeoutError('x')"]),
        ({"exceptions": {2001}}, TypeError, ["exceptions", "2001", "codes={2001}"]),
        ({"exceptions": {int}}, TypeError, ["exceptions", "int"]),
        ({"exceptions": {BaseException}}, TypeError, ["exceptions", "BaseException", "never retried"]),
        ({"exceptions": {KeyboardInterrupt}}, TypeError, ["exceptions", "KeyboardInterrupt", "never retried"]),
        ({"exceptions": {Cancel}}, TypeError, ["exceptions", "Cancel", "never retried"]),
        ({"exceptions": {Refused}}, ValueError, ["exceptions", "Refused", "never retried"]),
        ({"exceptions": {DeadlineExceeded}}, ValueError, ["exceptions", "DeadlineExceeded", "never retried"]),
        ({"codes": "2001"}, TypeError, ["codes", "ints and ranges", "'2001'"]),
        ({"codes": {2001.0}}, TypeError, ["codes", "float 2001.0"]),
        ({"codes": {True}}, TypeError, ["codes", "bool True"]),
        ({"codes": {TimeoutError}}, TypeError, ["codes", "TimeoutError", "exceptions="]),
        ({"codes": Busy}, TypeError, ["codes", "Busy", "exceptions="]),
        ({"statuses": {"503"}}, TypeError, ["statuses", "'503'"]),
        ({"statuses": [None]}, TypeError, ["statuses", "None"]),
        ({"fatal": {"x"}}, TypeError, ["fatal", "'x'"]),
        ({"fatal": {True}}, TypeError, ["fatal", "True"]),
        ({"when": True}, TypeError, ["when", "callable", "True"]),
        ({"when": lambda outcome: True}, TypeError, ["when", "2 arguments", "the number of the try"]),
        ({"when": lambda: True}, TypeError, ["when", "2 arguments"]),
        ({"idempotent": 5}, TypeError, ["idempotent", "5", "names, globs"]),
        ({"idempotent": {5}}, TypeError, ["idempotent", "int 5"]),
        ({"idempotent": lambda: True}, TypeError, ["idempotent", "1 argument"]),
        ({"wrap": "yes"}, TypeError, ["wrap", "True or False", "'yes'"]),
        ({"wrap": None}, TypeError, ["wrap", "None"]),
    ],
    ids=lambda value: f"{value!r:.40}" if isinstance(value, dict) else "",
)
def test_bad_input_is_named_with_its_value(options: dict[str, Any], error: type[Exception], words: list[str]) -> None:
    with pytest.raises(error) as caught:
        RetryStrategy(**options)
    assert type(caught.value) is error
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("max_retries", "backoff=ExponentialBackoff(attempts=...)"),
        ("initial_delay", "base=..."),
        ("multiplier", "factor=..."),
        ("max_attempts", "max_attempts - 1"),
        ("retry_on", "exceptions"),
        ("timeout", "_timeout"),
        ("exception", "did you mean exceptions?"),
        ("code", "did you mean codes?"),
        ("colour", "known are"),
    ],
)
def test_a_keyword_of_another_library_gives_ours(name: str, ours: str) -> None:
    with pytest.raises(TypeError, match=rf"RetryStrategy has no parameter {name!r}.*{re.escape(ours)}"):
        RetryStrategy(**{name: 3})  # type: ignore[arg-type]


def test_positional_arguments_are_refused_with_the_keywords() -> None:
    with pytest.raises(TypeError, match="keywords only; write backoff="):
        RetryStrategy(PeriodicBackoff(1))  # type: ignore[misc]


def test_errors_that_the_codec_makes_keep_their_classes() -> None:
    """Guards the table above: were one of these no JsonRpcError, its rows would mean nothing."""
    for cls in (ParseError, InvalidRequestError, InvalidParamsError, MethodNotFoundError, InternalError, ServerError):
        assert issubclass(cls, JsonRpcError)
