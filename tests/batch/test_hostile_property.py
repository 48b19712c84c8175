"""Random batches, random answers: no wrong answer in 20,000 batches, and every retry is one that the oracle counts, too."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from hostile import WAY_IDS, WAYS, Document, Ended, Style, body, check, document_of, key, read, truth
from hypothesis import given, settings
from hypothesis import strategies as st

from rpcretry import ConnectError, ConnectionLostError, Delivery, JsonRpcError, Request, RetryStrategy
from rpcretry.retry import PeriodicBackoff
from rpcretry.transport import Exchange, Reply

BATCHES = 20_000
"""How many batches are made in all, over the ways to send them."""
SHARE = -(-BATCHES // len(WAYS))

AGAIN, NEVER = (-32001, 2001), (-32002, 7)
IDS = (1, 2, 3, 4, 0, -1, 2**40, "1", "2", "a", "", "null", "ü", "1.0", "true")
ATTEMPTS = 2


class Plan(NamedTuple):
    """How a batch is sent: the strategy, and what it says of a failure that is no error of the server's."""

    name: str
    strategy: RetryStrategy | None


PLANS = [
    Plan("none", None),
    Plan("codes", RetryStrategy(codes=AGAIN, backoff=PeriodicBackoff(ATTEMPTS, 0.0))),
    Plan("guarded", RetryStrategy(codes=AGAIN, exceptions={ConnectionError}, idempotent={"get"}, backoff=PeriodicBackoff(ATTEMPTS, 0.0))),
]


def some_requests(rng: random.Random) -> list[Request]:
    ids: list[Any] = rng.sample(IDS, rng.randint(1, 8))
    ids += [None] * rng.choice((0, 0, 0, 1, 2))
    rng.shuffle(ids)
    return [Request("tell" if id is None else rng.choice(("get", "get", "put", "fail")), [place], id=id) for place, id in enumerate(ids)]


# --- the server ---


class Exchanged(NamedTuple):
    asked: list[Document]
    alone: bool
    reply: Any


class Chaos:
    """Answers each exchange at random.

    :param chance: what to draw from for an exchange, by the ids and the count of their tries, so that threads change nothing.
    """

    def __init__(self, chance: Callable[[str], random.Random]) -> None:
        self.chance = chance
        self.exchanges: list[Exchanged] = []
        self._lock = threading.Lock()
        self._known: list[Document] = []

    def __call__(self, exchange: Exchange) -> Reply:
        sent = json.loads(exchange.body)
        alone = isinstance(sent, dict)
        documents = [sent] if alone else sent
        with self._lock:
            tries = sum(one in before.asked for before in self.exchanges for one in documents)
            reply = self.answer(self.chance(f"{[one.get('id') for one in documents]} {tries}"), documents, alone)
            self._known += [one for one in documents if "id" in one]
            self.exchanges.append(Exchanged(documents, alone, reply))
        if isinstance(reply, Exception):
            raise reply
        return reply

    def answer(self, rng: random.Random, documents: list[Document], alone: bool) -> Any:
        asked = [one for one in documents if "id" in one]
        whole = rng.random()
        if whole < 0.03:
            return rng.choice((ConnectionLostError, ConnectError))("gone")
        if not asked:
            return Reply(b"", 204)
        if whole < 0.05:
            return Reply(b"<html>", rng.choice((200, 404, 502)))
        if whole < 0.08:
            return body(_nameless(rng))
        answers = [self._answer(rng, one) for one in asked]
        for _ in range(rng.choice((0, 0, 0, 1, 1, 2, 3))):
            self._spoil(rng, answers, asked)
        for one in asked:
            # Another's value alone under an id is its answer as far as anybody can tell.
            own = [answer for answer in answers if isinstance(answer, dict) and key(answer.get("id")) == key(one["id"])]
            if len(own) == 1 and truth(one) not in json.dumps(own):
                answers.append(self._answer(rng, one))
        rng.shuffle(answers)
        if alone:
            answers = [answer for answer in answers if truth(asked[0]) in json.dumps(answer)][:1] or [_nameless(rng)]
        elif whole < 0.1:
            text = json.dumps(answers)
            return Reply(text[: rng.randrange(len(text))].encode())
        bare = alone or (whole < 0.12 and answers and all(isinstance(answer, dict) and _is_true(answer, asked) for answer in answers[:1]))
        return body(answers[0] if bare else answers, rng.choice((200, 200, 200, 500)))

    def _answer(self, rng: random.Random, one: Document) -> Document:
        found = {"jsonrpc": "2.0", "id": one["id"]}
        if one["method"] == "fail" or rng.random() < 0.25:
            return {**found, "error": {"code": rng.choice(AGAIN + NEVER), "message": f"no {truth(one)}", "data": truth(one)}}
        return {**found, "result": truth(one)}

    def _spoil(self, rng: random.Random, answers: list[Any], asked: list[Document]) -> None:
        place = rng.randrange(len(answers)) if answers else 0
        one = answers[place] if answers else None
        kind = rng.randrange(10)
        if not isinstance(one, dict) or kind == 0:
            answers.append(_nameless(rng))
        elif kind == 1:
            del answers[place]
        elif kind == 2:
            answers.append(dict(one))
        elif kind == 3:
            other = rng.choice([answer for answer in answers if isinstance(answer, dict)])
            answers.append({**other, "id": one.get("id")})
        elif kind == 4:
            answers[place] = {**one, "id": rng.choice((str(one.get("id")) + "x", [one.get("id")], 99, 1.0, True, False, 2.0, None))}
        elif kind == 5:
            answers.append({"jsonrpc": "2.0", "id": rng.choice((99, "99", None, True, 1.0)), "result": truth(rng.choice(asked))})
        elif kind == 6:
            # One that was answered before, and is not asked for now.
            late = [before for before in self._known if before not in asked]
            answers.append({"jsonrpc": "2.0", "id": rng.choice(late)["id"] if late else 98, "result": truth(rng.choice(asked))})
        elif kind == 7:
            answers[place] = [one]
        elif kind == 8:
            answers.append(rng.choice((None, 1, "x", [], {})))
        else:
            answers[place] = {name: value for name, value in one.items() if name != "id"}


def _is_true(answer: Document, asked: list[Document]) -> bool:
    return all(truth(one) in json.dumps(answer) for one in asked if key(answer.get("id")) == key(one["id"]))


def _nameless(rng: random.Random) -> Document:
    return {"jsonrpc": "2.0", "id": None, "error": {"code": rng.choice(AGAIN + NEVER), "message": "said to nobody"}}


# --- the oracle ---


def went_wrong(document: Document, one: Exchanged, plan: Plan) -> bool | None:
    """Whether the request is to go again after that exchange; None where the server leaves open whose its error is."""
    if plan.strategy is None:
        return False
    if isinstance(one.reply, Exception):
        unsent = isinstance(one.reply, ConnectError)
        return plan.name == "guarded" and (unsent or document["method"] == "get")
    if "id" not in document:
        return False
    answers = [answer for answer in read(one.reply) or [] if isinstance(answer, dict)]
    own = [answer for answer in answers if "id" in answer and key(answer["id"]) == key(document["id"])]
    if len(own) == 1:
        return isinstance(own[0].get("error"), dict) and own[0]["error"]["code"] in AGAIN
    if own:
        return False
    said = {answer["error"]["code"] for answer in answers if answer.get("id") is None and "error" in answer}
    return None if said & set(AGAIN) else False


def judge(requests: list[Request], ended: list[Ended], server: Chaos, plan: Plan, style: Style) -> None:
    assert len(ended) == len(requests)
    sent = [document_of(request) for request in requests]
    order: dict[str, int] = {json.dumps(document): place for place, document in enumerate(sent)}
    for one in server.exchanges:
        # Ids, methods and params as they were given, nobody twice, in the order of the requests.
        places = [order[json.dumps(document)] for document in one.asked]
        assert len(set(places)) == len(places)
        assert places == sorted(places) or style.goes_alone
    for request, document, end in zip(requests, sent, ended, strict=True):
        tries = [one for one in server.exchanges if document in one.asked]
        assert 1 <= len(tries) <= (1 if plan.strategy is None else 1 + ATTEMPTS)
        assert end.tries in (None, len(tries))
        for one in tries[:-1]:
            assert went_wrong(document, one, plan) is not False, f"{request!r} was sent again after {one.reply!r}"
        if len(tries) <= ATTEMPTS:
            assert went_wrong(document, tries[-1], plan) is not True, f"{request!r} was not sent again after {tries[-1].reply!r}"
        check(request, end.value, None, None if request.is_notification else tries[-1].reply, alone=tries[-1].alone)
        if isinstance(end.value, ConnectError) and all(isinstance(one.reply, ConnectError) for one in tries):
            assert end.value.delivery is Delivery.NOT_SENT


def play(style: Style, driver: str, requests: list[Request], plan: Plan, chance: Callable[[str], random.Random]) -> Chaos:
    server = Chaos(chance)
    judge(requests, style.run(driver, server, requests, retry_strategy=plan.strategy), server, plan, style)
    return server


# --- tests ---


@pytest.mark.parametrize(("style", "driver"), WAYS, ids=WAY_IDS)
def test_no_wrong_answer_in_all_these_batches(style: Style, driver: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL", "rpcretry")
    made, replies = 0, 0
    for seed in range(SHARE):
        rng = random.Random(seed)
        requests = some_requests(rng)
        plan = PLANS[seed % len(PLANS)]
        try:
            server = play(style, driver, requests, plan, lambda what, seed=seed: random.Random(f"{seed} {what}"))
        except BaseException as problem:
            problem.add_note(f"seed {seed}, {plan.name}")
            raise
        made += 1
        replies += len(server.exchanges)
    assert made == SHARE
    # With a strategy some went again.
    assert replies > made * 1.3


def test_there_are_as_many_batches_as_it_says() -> None:
    assert SHARE * len(WAYS) >= BATCHES >= 20_000


@pytest.mark.parametrize(("style", "driver"), WAYS, ids=WAY_IDS)
def test_no_wrong_answer_in_batches_that_shrink_to_the_point(style: Style, driver: str) -> None:
    @given(st.randoms(use_true_random=False), st.sampled_from(PLANS))
    @settings(max_examples=60, deadline=None, database=None)
    def one(rng: random.Random, plan: Plan) -> None:
        requests, seed = some_requests(rng), rng.random()
        # Threads would draw from the one source in another order each time.
        play(style, driver, requests, plan, (lambda what: random.Random(f"{seed} {what}")) if style.threads else lambda _: rng)

    one()


# --- the oracle itself would see it ---


class Crossed(Style):
    """A client that is wrong in one way."""

    name = "crossed"

    def __init__(self, how: Callable[[list[Ended]], list[Ended]]) -> None:
        self.how = how

    def run(self, driver: str, server: Callable[[Exchange], Reply], requests: Any, **options: Any) -> list[Ended]:
        return self.how(WAYS[0][0].run(driver, server, requests, **options))


def swapped(ended: list[Ended]) -> list[Ended]:
    return [ended[1], ended[0], *ended[2:]]


def shifted(ended: list[Ended]) -> list[Ended]:
    return [*ended[1:], ended[0]]


def unanswered(ended: list[Ended]) -> list[Ended]:
    return [Ended(None, end.tries) for end in ended]


def miscounted(ended: list[Ended]) -> list[Ended]:
    return [Ended(end.value, 7) for end in ended]


@pytest.mark.parametrize("how", [swapped, shifted, unanswered, miscounted])
def test_the_oracle_sees_a_client_that_is_wrong(how: Callable[[list[Ended]], list[Ended]]) -> None:
    asked = [Request("get", [0], id=1), Request("get", [1], id=2), Request("fail", [2], id=3)]
    wrong = 0
    for seed in range(50):
        try:
            play(Crossed(how), "sync", asked, PLANS[seed % 3], lambda what, seed=seed: random.Random(f"{seed} {what}"))
        except AssertionError:
            wrong += 1
    # Where all have one failure, nothing can be crossed.
    assert wrong > 35


def test_the_oracle_sees_a_retry_that_should_not_be() -> None:
    request = Request("get", [0], id=1)
    document = document_of(request)
    refused = body([{"id": 1, "error": {"code": NEVER[0], "message": "m"}}])
    once, fine = Exchanged([document], False, refused), Exchanged([document], False, body([{"id": 1, "result": truth(document)}]))
    server = Chaos(lambda _: random.Random(0))
    server.exchanges = [once, fine]
    with pytest.raises(AssertionError, match="was sent again"):
        judge([request], [Ended(truth(document), 2)], server, PLANS[1], WAYS[0][0])
    server.exchanges = [Exchanged([document], False, body([{"id": 1, "error": {"code": AGAIN[0], "message": "m"}}]))]
    error = JsonRpcError("m", code=AGAIN[0])
    with pytest.raises(AssertionError, match="was not sent again"):
        judge([request], [Ended(error, 1)], server, PLANS[1], WAYS[0][0])
