"""What ``--backoff`` and ``--on`` mean."""

import pytest

import rpcretry.retry
from rpcretry._specs import ATTEMPTS, KINDS, Causes, SpecError, parse_backoff, parse_causes
from rpcretry.retry import (
    UNLIMITED,
    AdditiveJitter,
    Backoff,
    DecorrelatedJitterBackoff,
    EqualJitter,
    ExponentialBackoff,
    FibonacciBackoff,
    FullJitter,
    ImmediateBackoff,
    LinearBackoff,
    PeriodicBackoff,
    ProportionalJitter,
    RetryStrategy,
)


def test_every_backoff_of_the_package_has_a_name():
    offered = {value for name in rpcretry.retry.__all__ if isinstance(value := getattr(rpcretry.retry, name), type) and issubclass(value, Backoff)}
    assert set(KINDS.values()) == offered - {Backoff}


@pytest.mark.parametrize(
    ("text", "backoff"),
    [
        ("exponential", ExponentialBackoff(ATTEMPTS)),
        ("exponential:base=0.1,factor=3,attempts=5", ExponentialBackoff(5, base=0.1, factor=3.0)),
        (" Exponential : base = .1 , max_value=20 ", ExponentialBackoff(ATTEMPTS, base=0.1, max_value=20.0)),
        ("exponential:", ExponentialBackoff(ATTEMPTS)),
        ("exponential:jitter=none", ExponentialBackoff(ATTEMPTS)),
        ("periodic:interval=1,attempts=3", PeriodicBackoff(3, interval=1.0)),
        ("linear:base=1,increment=2", LinearBackoff(ATTEMPTS, base=1.0, increment=2.0)),
        ("fibonacci:multiplier=0.5,attempts=0", FibonacciBackoff(0, multiplier=0.5)),
        ("immediate:attempts=inf", ImmediateBackoff(UNLIMITED)),
    ],
)
def test_a_spec_is_the_backoff_of_its_name(text, backoff):
    assert parse_backoff(text) == backoff


@pytest.mark.parametrize(
    ("text", "delays"),
    [
        ("full", FullJitter(random=lambda: 0.25)),
        ("TRUE", FullJitter(random=lambda: 0.25)),
        ("equal", EqualJitter(random=lambda: 0.25)),
        ("0.2", ProportionalJitter(0.2, random=lambda: 0.25)),
        ("1", ProportionalJitter(1, random=lambda: 0.25)),
        ("+0.5", AdditiveJitter(0.5, random=lambda: 0.25)),
    ],
)
def test_jitter_draws_from_the_source(text, delays):
    backoff = parse_backoff(f"periodic:interval=2,jitter={text}", random=lambda: 0.25)
    assert type(backoff.jitter) is type(delays)
    assert list(backoff()) == [delays(2.0)] * ATTEMPTS


@pytest.mark.parametrize("text", ["exponential:jitter=decorrelated,base=0.5,max_value=9", "decorrelated:max_value=9,base=0.5"])
def test_decorrelated_jitter_is_a_backoff_of_its_own(text):
    source = iter([0.5, 0.25, 0.0]).__next__
    expected = DecorrelatedJitterBackoff(ATTEMPTS, base=0.5, max_value=9.0, random=iter([0.5, 0.25, 0.0]).__next__)
    assert list(parse_backoff(text, source)()) == list(expected())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("expnential", "unknown backoff 'expnential'; did you mean exponential?"),
        ("constant:interval=1", "unknown backoff 'constant'; here it is called periodic"),
        ("", "unknown backoff ''; known are exponential, periodic, linear, fibonacci, decorrelated, immediate"),
        ("exponential:max_delay=3", "exponential has no parameter 'max_delay'; here it is called max_value"),
        ("exponential:max_retries=3", "exponential has no parameter 'max_retries'; here it is called attempts"),
        ("exponential:bse=3", "exponential has no parameter 'bse'; did you mean base?"),
        ("periodic:factor=3", "periodic has no parameter 'factor'; known are attempts, jitter, max_value, interval"),
        ("decorrelated:random=3", "decorrelated has no parameter 'random'; known are attempts, jitter, max_value, base"),
        ("periodic:self=3", "periodic has no parameter 'self'; known are attempts, jitter, max_value, interval"),
        ("exponential:base=100ms", "exponential: base must be a number, got '100ms'; give seconds without a unit"),
        ("exponential:base=x", "exponential: base must be a number, got 'x'"),
        ("exponential:base=nan", "exponential: base must be finite, got nan"),
        ("exponential:base=-1", "exponential: base must be at least 0, got -1.0"),
        ("exponential:attempts=1.5", "exponential: attempts must be a whole number or inf, got '1.5'"),
        ("exponential:attempts=-1", "exponential: attempts must be at least 0, got -1"),
        ("exponential:5", "exponential: write name=value, got '5'; as in exponential:attempts=5"),
        ("exponential:base=", "exponential: write name=value, got 'base='; as in exponential:attempts=5"),
        ("exponential:base=1,base=2", "exponential: base is given twice"),
        ("exponential:jitter=decorrelated,factor=3", "exponential: decorrelated jitter grows by a factor of its own, 3; leave factor out"),
        ("decorrelated:base=30", "decorrelated: base must be less than max_value, or nothing is left to draw from, got base=30.0 and max_value=20"),
    ],
)
def test_a_wrong_spec_says_what_to_write(text, message):
    with pytest.raises(SpecError) as caught:
        parse_backoff(text)
    assert str(caught.value) == message


@pytest.mark.parametrize("jitter", ["2", "0", "-0.5", "nan", "inf", "some", "+0", "+-1"])
def test_a_wrong_jitter_says_what_there_is(jitter):
    with pytest.raises(SpecError) as caught:
        parse_backoff(f"linear:jitter={jitter}")
    words = "none, full, equal, decorrelated, a proportion such as 0.2 or added seconds such as +0.5"
    assert str(caught.value) == f"jitter must be {words}, got {jitter!r}"


def test_decorrelated_jitter_fits_exponential_alone():
    with pytest.raises(SpecError, match=r"only exponential has decorrelated jitter.*write decorrelated:base="):
        parse_backoff("periodic:jitter=decorrelated")


@pytest.mark.parametrize(
    ("text", "causes"),
    [
        ("2001", Causes([2001], [], [])),
        ("2001, -32005,", Causes([2001, -32005], [], [])),
        ("-32099..-32000", Causes([range(-32099, -31999)], [], [])),
        ("http:503,HTTP:500..599", Causes([], [503, range(500, 600)], [])),
        ("ConnectionError,TimeoutError", Causes([], [], [ConnectionError, TimeoutError])),
        ("ConnectError,ServerError", Causes([], [], [rpcretry.ConnectError, rpcretry.ServerError])),
        ("2001,http:429,TimeoutError", Causes([2001], [429], [TimeoutError])),
    ],
)
def test_causes(text, causes):
    assert parse_causes(text) == causes
    RetryStrategy(**parse_causes(text)._asdict())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "nothing to retry is named; write codes such as 2001, http:503, or ConnectionError"),
        (" , ", "nothing to retry is named; write codes such as 2001, http:503, or ConnectionError"),
        ("http:7", "'http:7' is no HTTP status; write http:503 or http:500..599"),
        ("http:500..700", "'http:500..700' is no HTTP status; write http:503 or http:500..599"),
        ("http:x", "'http:x' is no HTTP status; write http:503 or http:500..599"),
        ("5..1", "'5..1' is empty; write the lower end first: 1..5"),
        ("ConectionError", "'ConectionError' is neither a code nor an error; did you mean ConnectionError?"),
        ("CircuitOpenError", "CircuitOpenError ends a call and is never retried"),
        ("DeadlineExceeded", "DeadlineExceeded ends a call and is never retried"),
    ],
)
def test_wrong_causes_say_what_to_write(text, message):
    with pytest.raises(SpecError) as caught:
        parse_causes(text)
    assert str(caught.value) == message


@pytest.mark.parametrize("text", ["1.5", "foo", "KeyboardInterrupt", "Delivery", "print", "__doc__"])
def test_what_is_neither_code_nor_error_is_refused(text):
    with pytest.raises(SpecError, match="is neither a code nor an error"):
        parse_causes(text)
