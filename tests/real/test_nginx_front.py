"""Debian's nginx before the server: what it answers by itself, what is repeated then, and what the server executed."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from fronts_calls import KINDS, Caller, Tally, Traffic, both, pairs_of_calls
from fronts_nginx import RETRY_AFTER, SORRY, UNTIL_SECONDS, Nginx, Upstream
from installing import from_debian

import rpcretry
from rpcretry import BatchRequest, ConnectError, ConnectionLostError, DeadlineExceeded, Delivery, HTTPStatusError, ProtocolError, Request, RetryStrategy
from rpcretry.events import RetryScheduled
from rpcretry.layers import RetryAfter
from rpcretry.retry import PeriodicBackoff
from rpcretry.testing import LoopbackServer, VirtualTime

# The default strategy with its delays, and another with some that nobody has to wait for.
SOON = PeriodicBackoff(3, interval=0.001)
CAREFUL = RetryStrategy(backoff=SOON)
READS = RetryStrategy(idempotent={"get"}, backoff=SOON)

schemes = pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])


@pytest.fixture(scope="module")
def upstream() -> Upstream:
    return Upstream()


@pytest.fixture(scope="module")
def front(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    with LoopbackServer(upstream) as server, Nginx(from_debian("nginx", "nginx-light"), tmp_path_factory.mktemp("nginx"), server) as nginx:
        yield nginx


class Visit:
    """A client before the front, and what came of its calls behind it."""

    def __init__(self, front: Nginx, upstream: Upstream, kind: str, tag: str) -> None:
        self.front, self.upstream, self.kind, self.tag = front, upstream, kind, tag
        self._callers: list[Caller] = []

    def to(self, path: str, strategy: RetryStrategy | None = None, *, tls: bool = False, **options: Any) -> Caller:
        options = {"timeout": 20, "retry_strategy": strategy, "headers": {"X-Tag": self.tag}} | (self.front.trust(self.kind) if tls else {}) | options
        caller = Caller(self.kind, self.front.url(path, tls=tls), **options)
        self._callers.append(caller)
        return caller

    def executed(self, method: str = "pay") -> int:
        """How often the upstream executed *method*."""
        return self.upstream.of(self.tag, method).total()

    @property
    def statuses(self) -> list[int]:
        """What the front answered."""
        return [line.status for line in self.front.log(self.tag)]

    def close(self) -> None:
        for caller in self._callers:
            caller.close()


@pytest.fixture(params=KINDS)
def visit(front: Nginx, upstream: Upstream, request: pytest.FixtureRequest) -> Iterator[Visit]:
    made = Visit(front, upstream, request.param, f"{request.node.name}".replace(" ", "-"))
    yield made
    made.close()


def refused(problem: Any, status: int, words: str, delivery: Delivery = Delivery.MAYBE_EXECUTED) -> None:
    """Check a status that nginx answered with its own page."""
    assert type(problem) is HTTPStatusError
    assert (problem.status, problem.delivery) == (status, delivery)
    assert problem.headers["Server"].startswith("nginx")
    assert words in problem.excerpt
    assert f"HTTP {status}: <html>" in str(problem)


# --- a good day ---


@schemes
def test_calls_and_batches_go_through(visit: Visit, tls: bool) -> None:
    caller = visit.to("/", tls=tls)
    assert caller("call", "get", 1) == 1
    assert caller("call", "get", param="x") == "x"
    assert caller("notify", "log", 1) is None
    response = caller("send", Request("get", [2]))
    assert (response.result, response.status) == (2, 200)
    assert response.headers["server"].startswith("nginx")
    first, second = caller("send", BatchRequest(Request("get", [3]), Request("nobody"), Request("log", id=None)))
    assert (first.result, second.error.code) == (3, -32601)
    assert visit.statuses == [200, 200, 204, 200, 200]


@schemes
def test_compressed_answers(visit: Visit, tls: bool) -> None:
    text = "all the same " * 5_000
    response = visit.to("/gzip", tls=tls)("send", Request("get", [text]))
    assert response.headers["Content-Encoding"] == "gzip"
    assert response.result == text


def test_a_connection_that_the_front_closes_every_other_request(visit: Visit) -> None:
    caller = visit.to("/twice")
    assert [caller("call", "pay", number) for number in range(20)] == list(range(20))
    assert len({line.connection for line in visit.front.log(visit.tag)}) == 10
    assert visit.executed() == 20


@pytest.mark.slow
def test_idle_connections_that_the_front_closes_after_a_second(front: Nginx, upstream: Upstream) -> None:
    """Whatever the moment at which it closes them: nothing is paid twice, and what only reads never fails."""
    options: dict[str, Any] = {"timeout": 20, "retry_strategy": READS, "threads": 12}
    tallies = {(kind, tls): Tally() for kind in KINDS for tls in (False, True)}
    with contextlib.ExitStack() as stack:
        idling = []
        for (kind, tls), tally in tallies.items():
            more = {"headers": {"X-Tag": f"brief-{kind}-{tls}"}, **(front.trust(kind) if tls else {})}
            caller = stack.enter_context(Caller(kind, front.url("/brief", tls=tls), **options, **more))
            idling += [(caller, tally, 0.945 + 0.01 * number) for number in range(12)]
        pairs_of_calls(idling)
    for (kind, tls), tally in tallies.items():
        assert len(tally.answered) + len(tally.failed) == 12
        paid, read = (upstream.of(f"brief-{kind}-{tls}", method) for method in ("pay", "get"))
        tally.check(paid + read, most=2)
        assert set(paid.values()) <= {1}
        assert {problem.delivery for problem in tally.failed.values()} <= {Delivery.MAYBE_EXECUTED}


# --- 502 and 504: nobody knows what was done ---


@schemes
def test_502_from_a_dead_upstream(visit: Visit, tls: bool) -> None:
    problem = visit.to("/dead", CAREFUL, tls=tls).problem("call", "pay", 1)
    refused(problem, 502, "502 Bad Gateway")
    assert visit.statuses == [502]
    refused(visit.to("/dead", READS, tls=tls).problem("call", "get", 1), 502, "502 Bad Gateway")
    assert visit.statuses == [502] * 5


def test_502_from_an_upstream_that_died_after_it_had_paid(visit: Visit) -> None:
    refused(visit.to("/quits", CAREFUL).problem("call", "pay", 1), 502, "502 Bad Gateway")
    assert visit.executed("pay") == 1
    refused(visit.to("/quits", READS).problem("call", "get", 1), 502, "502 Bad Gateway")
    assert visit.executed("get") == 4
    # Who names the status gets what he asked for, for every method.
    refused(visit.to("/quits", RetryStrategy(statuses={502}, backoff=SOON)).problem("call", "pay", 2), 502, "502 Bad Gateway")
    assert visit.upstream.of(visit.tag, "pay") == {1: 1, 2: 4}


def test_a_notification_is_not_repeated_after_502(visit: Visit) -> None:
    problem = visit.to("/quits", RetryStrategy(idempotent=True, backoff=SOON)).problem("notify", "log", 1)
    refused(problem, 502, "502 Bad Gateway")
    assert visit.executed("log") == 1


def test_a_batch_after_502_repeats_what_reads(visit: Visit) -> None:
    paid, read = visit.to("/quits", READS).handles(Request("pay", [1]), Request("get", [2]))
    for handle, attempts in ((paid, 1), (read, 4)):
        refused(handle.error, 502, "502 Bad Gateway")
        assert handle.response.attempts == attempts
    assert (visit.executed("pay"), visit.executed("get")) == (1, 4)


def test_one_of_two_upstreams_is_dead_and_nobody_notices(visit: Visit) -> None:
    caller = visit.to("/half")
    assert [caller("call", "pay", number) for number in range(6)] == list(range(6))
    assert visit.upstream.of(visit.tag, "pay") == dict.fromkeys(range(6), 1)


@pytest.mark.slow
def test_504_from_a_slow_upstream(front: Nginx, upstream: Upstream) -> None:
    once = RetryStrategy(idempotent={"get"}, backoff=PeriodicBackoff(1, interval=0.001))
    with contextlib.ExitStack() as stack:
        callers = [stack.enter_context(Caller(kind, front.url("/slow"), retry_strategy=once, headers={"X-Tag": f"slow-{kind}"})) for kind in KINDS]
        futures = [caller.submit("call", method, 1) for caller in callers for method in ("pay", "get")]
        for future in futures:
            refused(future.exception(20), 504, "504 Gateway Time-out")
    for kind in KINDS:
        assert upstream.of(f"slow-{kind}", "pay") == {1: 1}
        assert upstream.of(f"slow-{kind}", "get") == {1: 2}


# --- 503 and 429: limits ---


def test_503_from_a_limit_of_connections_proves_nothing(visit: Visit, upstream: Upstream) -> None:
    upstream.gate.clear()
    upstream.held.clear()
    try:
        holding = visit.to("/single").submit("call", "hold")
        assert upstream.held.wait(20)
        refused(visit.to("/single", CAREFUL).problem("call", "pay", 1), 503, "503 Service Temporarily Unavailable")
        refused(visit.to("/single", READS).problem("call", "get", 1), 503, "503 Service Temporarily Unavailable")
        assert visit.statuses == [503] * 5
        named = RetryStrategy(statuses={503}, backoff=PeriodicBackoff(400, interval=0.02))
        waiting = visit.to("/single", named).submit("call", "pay", 2)
    finally:
        upstream.gate.set()
    assert holding.result(20) is True
    assert waiting.result(20) == 2
    assert visit.upstream.of(visit.tag, "pay") == {2: 1}


def test_503_from_a_limit_of_requests_without_a_hint(visit: Visit) -> None:
    assert visit.to("/seldom")("call", "pay", 1) == 1
    refused(visit.to("/seldom", CAREFUL).problem("call", "pay", 2), 503, "503 Service Temporarily Unavailable")
    refused(visit.to("/seldom", READS).problem("call", "get", 2), 503, "503 Service Temporarily Unavailable")
    assert visit.statuses == [200] + [503] * 5
    assert visit.upstream.of(visit.tag, "pay") == {1: 1}
    assert visit.executed("get") == 0


@schemes
def test_429_is_a_refusal_and_every_method_goes_again(visit: Visit, tls: bool) -> None:
    limit = Maintenance(visit)
    caller = visit.to("/limited", CAREFUL, tls=tls, on_event=limit)
    for param in range(3):
        # The first takes what the limit gives for a minute; the others wait until it is taken away.
        limit.path.touch()
        caller("call", "pay", param)
    limit.path.touch()
    caller("notify", "log", "x")
    assert visit.statuses == [200, 429, 200, 429, 200, 429, 204]
    assert visit.upstream.of(visit.tag, "pay") == {0: 1, 1: 1, 2: 1}
    assert visit.executed("log") == 1


def test_429_for_many_at_once_all_through_in_the_end(visit: Visit) -> None:
    caller = visit.to("/often", RetryStrategy(backoff=PeriodicBackoff(500, interval=0.02)), threads=6)
    futures = [caller.submit("call", "pay", number) for number in range(6)]
    assert [future.result(30) for future in futures] == list(range(6))
    assert visit.upstream.of(visit.tag, "pay") == dict.fromkeys(range(6), 1)


def test_429_without_a_strategy_says_that_nothing_was_done(visit: Visit) -> None:
    caller = visit.to("/often", threads=20)
    futures = [caller.submit("call", "pay", number) for number in range(40)]
    problems = [problem for problem in (future.exception(20) for future in futures) if problem is not None]
    assert problems
    for problem in problems:
        refused(problem, 429, "429 Too Many Requests", Delivery.REJECTED)
    assert visit.executed() == 40 - len(problems)


class Maintenance:
    """The front refuses calls of a visit, or limits them, until somebody has waited for it."""

    def __init__(self, visit: Visit) -> None:
        self.path = visit.front.folder / f"closed-{visit.tag}"
        self.path.touch()

    def __call__(self, event: object) -> None:
        if isinstance(event, RetryScheduled):
            self.path.unlink(missing_ok=True)


@schemes
def test_503_with_retry_after_is_waited_for(visit: Visit, tls: bool, virtual_time: VirtualTime) -> None:
    maintenance = Maintenance(visit)
    caller = visit.to("/closed", CAREFUL, tls=tls, on_event=maintenance)
    assert caller("call", "pay", 1) == 1
    assert virtual_time.delays == [RETRY_AFTER]
    maintenance.path.touch()
    caller("notify", "log", 1)
    maintenance.path.touch()
    responses = caller("send", BatchRequest(Request("pay", [2]), Request("log", [2], id=None), Request("pay", [3])))
    assert [(response.result, response.attempts) for response in responses] == [(2, 2), (3, 2)]
    assert virtual_time.delays == [RETRY_AFTER] * 3
    assert visit.statuses == [503, 200, 503, 204, 503, 200]
    assert visit.upstream.of(visit.tag, "pay") == {1: 1, 2: 1, 3: 1}
    assert visit.upstream.of(visit.tag, "log") == {1: 1, 2: 1}


def test_503_with_retry_after_without_a_strategy(visit: Visit) -> None:
    Maintenance(visit)
    problem = visit.to("/closed").problem("call", "pay", 1)
    refused(problem, 503, "503 Service Temporarily Unavailable", Delivery.REJECTED)
    assert problem.headers["retry-after"] == str(RETRY_AFTER)
    assert (visit.statuses, visit.executed()) == ([503], 0)


def test_a_wait_that_would_pass_the_deadline_is_not_begun(visit: Visit, virtual_time: VirtualTime) -> None:
    Maintenance(visit)
    problem = visit.to("/closed", CAREFUL, deadline=5).problem("call", "pay", 1)
    assert type(problem) is DeadlineExceeded
    refused(problem.__cause__, 503, "503 Service Temporarily Unavailable", Delivery.REJECTED)
    assert (visit.statuses, virtual_time.delays) == ([503], [])


def test_retry_after_as_a_date(visit: Visit, virtual_time: VirtualTime) -> None:
    wall = RetryAfter(wall_clock=lambda: UNTIL_SECONDS - 30.0)
    strategy = RetryStrategy(backoff=PeriodicBackoff(2, interval=0.001))
    refused(visit.to("/until", strategy, layers=[wall]).problem("call", "pay", 1), 503, "503 Service", Delivery.REJECTED)
    assert virtual_time.delays == [30.0, 30.0]
    assert visit.statuses == [503] * 3


# --- 413 ---


def test_a_single_request_that_is_too_large_keeps_its_413(visit: Visit) -> None:
    strategy = RetryStrategy(idempotent=True, backoff=SOON)
    refused(visit.to("/small", strategy).problem("call", "pay", "x" * 2_000), 413, "413 Request Entity Too Large")
    assert (visit.statuses, visit.executed()) == ([413], 0)


@schemes
def test_a_batch_that_is_too_large_goes_in_halves_and_each_member_once(visit: Visit, tls: bool) -> None:
    members = [Request("pay", [f"{number}-{'x' * 150}"]) for number in range(32)]
    responses = visit.to("/small", tls=tls)("send", BatchRequest(*members))
    assert [response.result for response in responses] == [request.params[0] for request in members]
    assert set(visit.upstream.of(visit.tag, "pay").values()) == {1}
    assert visit.executed() == 32
    # Of 32 with some 210 bytes each only 4 fit into 1,024: what was too large once is not tried again.
    assert sorted(visit.statuses) == [200] * 8 + [413] * 3


def test_a_batch_that_is_cut_beforehand_meets_no_413(visit: Visit) -> None:
    caller = visit.to("/small", max_batch_bytes=1_000)
    responses = caller("send", BatchRequest(*(Request("pay", [f"{number}-{'x' * 150}"]) for number in range(16))))
    assert all(response.result for response in responses)
    assert 413 not in visit.statuses
    assert visit.executed() == 16


def test_halves_are_cut_further_by_the_limit_of_a_batch(visit: Visit) -> None:
    caller = visit.to("/small", max_batch_size=12)
    responses = caller("send", BatchRequest(*(Request("pay", [f"{number}-{'x' * 150}"]) for number in range(24))))
    assert [response.error for response in responses] == [None] * 24
    assert set(visit.upstream.of(visit.tag, "pay").values()) == {1}
    # Two parts of 12; what the first one learns by 12 and by 6 holds for the second: all go in threes.
    assert sorted(visit.statuses) == [200] * 8 + [413] * 2


def test_a_client_that_names_nothing_to_split_on_keeps_the_413(visit: Visit) -> None:
    caller = visit.to("/small", RetryStrategy(idempotent=True, backoff=SOON), split_on=())
    for handle in caller.handles(*(Request("pay", [f"{number}-{'x' * 500}"]) for number in range(4))):
        refused(handle.error, 413, "413 Request Entity Too Large")
    assert (visit.statuses, visit.executed()) == ([413], 0)


def test_one_member_that_is_too_large_by_itself_leaves_the_others_alone(visit: Visit) -> None:
    large = Request("pay", ["x" * 2_000])
    responses = visit.to("/small")("send", BatchRequest(Request("pay", [1]), Request("pay", [2]), large, Request("pay", [3])))
    refused(responses[2].error, 413, "413 Request Entity Too Large")
    assert [responses[place].result for place in (0, 1, 3)] == [1, 2, 3]
    assert visit.upstream.of(visit.tag, "pay") == {1: 1, 2: 1, 3: 1}


def test_megabytes_that_the_front_does_not_read(visit: Visit) -> None:
    """It answers 413 while the body is on its way: the answer counts, not the upload that it cuts off."""
    members = [Request("pay", [f"{number}-{'x' * 400_000}"]) for number in range(16)]
    # By default 1 MiB: two go together.
    responses = visit.to("/")("send", BatchRequest(*members))
    assert [response.error for response in responses] == [None] * 16
    assert sorted(visit.statuses) == [200] * 8 + [413] * 3
    assert set(visit.upstream.of(visit.tag, "pay").values()) == {1}


# --- no answer, or half of one ---


@schemes
def test_a_front_that_hangs_up(visit: Visit, tls: bool) -> None:
    problem = visit.to("/hangup", CAREFUL, tls=tls).problem("call", "pay", 1)
    assert type(problem) is ConnectionLostError
    assert isinstance(problem, ConnectionError)
    assert problem.delivery is Delivery.MAYBE_EXECUTED
    assert visit.statuses == [444]
    assert type(visit.to("/hangup", READS, tls=tls).problem("call", "get", 1)) is ConnectionLostError
    assert visit.statuses == [444] * 5


@pytest.mark.parametrize("path", ["/dies", "/dies/chunked"])
@schemes
def test_an_upstream_that_dies_within_its_answer(visit: Visit, path: str, tls: bool) -> None:
    problem = visit.to(path, CAREFUL, tls=tls).problem("call", "pay", 1)
    assert type(problem) is ConnectionLostError
    assert problem.delivery is Delivery.MAYBE_EXECUTED
    assert visit.executed() == 1
    assert type(visit.to(path, READS, tls=tls).problem("call", "get", 1)) is ConnectionLostError
    assert visit.executed("get") == 4


def test_half_an_answer_that_nobody_can_tell_from_a_whole_one(visit: Visit) -> None:
    """Without a length the front takes the end of the connection for the end of the answer, and says so."""
    problem = visit.to("/dies/unmeasured", READS).problem("call", "get", 1)
    assert type(problem) is ProtocolError
    assert (problem.status, problem.delivery) == (200, Delivery.MAYBE_EXECUTED)
    assert visit.executed("get") == 1


# --- pages ---


def test_a_json_rpc_error_in_500_is_read(visit: Visit) -> None:
    problem = visit.to("/undressed", READS).problem("call", "get", 1)
    assert (problem.code, problem.status) == (2002, 500)
    assert visit.executed("get") == 1


def test_a_page_in_the_place_of_an_error_is_no_json_rpc_error(visit: Visit) -> None:
    problem = visit.to("/dressed", READS).problem("call", "get", 1)
    assert type(problem) is HTTPStatusError
    assert (problem.status, problem.excerpt, problem.headers["Content-Type"]) == (500, SORRY, "text/html")
    assert visit.executed("get") == 1


def test_a_page_with_status_200_is_a_protocol_error(visit: Visit) -> None:
    problem = visit.to("/glossed", READS).problem("call", "get", 1)
    assert type(problem) is ProtocolError
    assert problem.status == 200
    assert "Sorry" in problem.excerpt
    assert visit.statuses == [200]


def test_a_path_that_takes_no_post(visit: Visit) -> None:
    refused(visit.to("/page.html", READS).problem("call", "get", 1), 405, "405 Not Allowed")
    assert visit.statuses == [405]


def test_a_redirect_is_refused_and_tells_the_host_only(visit: Visit) -> None:
    problem = visit.to("/moved", READS).problem("call", "get", 1)
    assert type(problem) is rpcretry.RedirectError
    assert (problem.status, problem.delivery) == (301, Delivery.MAYBE_EXECUTED)
    assert "elsewhere.invalid" in str(problem)
    for secret in ("s3cret", "k3y", "user"):
        assert secret not in f"{problem}{problem!r}"
    assert visit.statuses == [301]


def test_headers_that_are_too_large_for_the_front(visit: Visit) -> None:
    problem = visit.to("/", READS).problem("call", "get", 1, _headers={"X-Long": "y" * 40_000})
    refused(problem, 400, "400 Request Header Or Cookie Too Large")
    assert visit.executed("get") == 0


# --- TLS ---


@both
def test_a_certificate_that_nobody_trusts_is_never_tried_again(front: Nginx, upstream: Upstream, kind: str) -> None:
    strategy = RetryStrategy(idempotent=True, backoff=SOON)
    events: list[Any] = []
    with Caller(kind, front.url(tls=True), retry_strategy=strategy, on_event=events.append, headers={"X-Tag": f"untrusted-{kind}"}) as caller:
        problem = caller.problem("call", "get", 1)
    assert type(problem) is rpcretry.CertificateError
    assert problem.delivery is Delivery.NOT_SENT
    assert [event for event in events if isinstance(event, RetryScheduled)] == []
    assert front.log(f"untrusted-{kind}") == []


def test_http_to_the_port_of_https(visit: Visit) -> None:
    with Caller(visit.kind, f"http://127.0.0.1:{visit.front.tls_port}/", retry_strategy=READS) as caller:
        refused(caller.problem("call", "get", 1), 400, "400 The plain HTTP request was sent to HTTPS port")


def test_https_to_the_port_of_http(visit: Visit) -> None:
    with Caller(visit.kind, f"https://127.0.0.1:{visit.front.port}/", retry_strategy=CAREFUL) as caller:
        problem = caller.problem("call", "pay", 1)
    assert type(problem) is ConnectError
    assert problem.delivery is Delivery.NOT_SENT


# --- a front that is changed while calls go on ---


@schemes
def test_reloads_while_calls_go_on(visit: Visit, tls: bool) -> None:
    patient = RetryStrategy(idempotent={"get"}, backoff=PeriodicBackoff(50, interval=0.01))
    with (
        Traffic(visit.to("/", tls=tls), "pay", 3) as plain,
        Traffic(visit.to("/", CAREFUL, tls=tls), "log", 2) as careful,
        Traffic(visit.to("/", patient, tls=tls), "get", 3) as reading,
    ):
        for _ in range(2):
            for traffic in (plain, careful, reading):
                traffic.passes(8)
            visit.front.reload()
        for traffic in (plain, careful, reading):
            traffic.passes(8)
    assert reading.tally.failed == {}
    reading.tally.check(visit.upstream.of(visit.tag, "get"), most=4)
    for traffic, method in ((plain, "pay"), (careful, "log")):
        traffic.tally.check(visit.upstream.of(visit.tag, method))
        for problem in traffic.tally.failed.values():
            # The one that an old worker closed at the very moment.
            assert type(problem) is ConnectionLostError
    assert len({line.pid for line in visit.front.log(visit.tag)}) > 1


@schemes
def test_the_front_is_killed_and_comes_back(visit: Visit, tls: bool) -> None:
    patient = RetryStrategy(idempotent={"get"}, backoff=PeriodicBackoff(2_000, interval=0.01))
    with (
        Traffic(visit.to("/", tls=tls), "pay", 2) as plain,
        Traffic(visit.to("/", RetryStrategy(backoff=PeriodicBackoff(2_000, interval=0.01)), tls=tls), "log", 2) as careful,
        Traffic(visit.to("/", patient, tls=tls), "get", 2) as reading,
    ):
        for traffic in (plain, careful, reading):
            traffic.passes(10)
        visit.front.kill()
        until = time.monotonic() + 20
        while not any(isinstance(problem, ConnectError) for problem in [*plain.tally.failed.values()]):
            assert time.monotonic() < until
            time.sleep(0.005)
        visit.front.start()
        for traffic in (plain, careful, reading):
            traffic.passes(10)
    assert reading.tally.failed == {}
    reading.tally.check(visit.upstream.of(visit.tag, "get"), most=3)
    plain.tally.check(visit.upstream.of(visit.tag, "pay"))
    careful.tally.check(visit.upstream.of(visit.tag, "log"))
    # What certainly was not sent goes again without being declared; what was under way does not.
    assert {type(problem) for problem in careful.tally.failed.values()} <= {ConnectionLostError}
    assert {type(problem) for problem in plain.tally.failed.values()} <= {ConnectionLostError, ConnectError}


def test_the_log_of_the_tests_themselves(visit: Visit) -> None:
    """What these tests count by: the front's log has each request once, and no other test's."""
    caller = visit.to("/")
    for number in range(5):
        caller("call", "get", number)
    assert visit.statuses == [200] * 5
    assert json.dumps(visit.front.log("nobody")) == "[]"
