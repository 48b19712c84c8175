"""Changes to a body, at random and repeatable: of its bytes, and of its structure where it is JSON."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

from fuzz_seeds import HUGE, INTERESTING, NAMES, VALUES

__all__ = ["mutated", "mutated_bytes", "mutated_document"]

LONGEST = 4000
ENCODINGS = ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be", "utf-8-sig", "utf-7", "latin-1")


def mutated(body: bytes, seeds: list[bytes], draw: random.Random) -> bytes:
    """Another body, made of *body* and sometimes of one of *seeds*."""
    if draw.random() < 0.5:
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            document = None
        if isinstance(document, (dict, list)):
            body = mutated_document(document, draw)
            if draw.random() < 0.6:
                return body
    return mutated_bytes(body, seeds, draw)


# --- bytes ---


def mutated_bytes(body: bytes, seeds: list[bytes], draw: random.Random) -> bytes:
    """One to four changes of bytes."""
    changed = bytearray(body)
    for _ in range(draw.choice((1, 1, 1, 2, 2, 3, 4))):
        _change(changed, seeds, draw)
    if draw.random() < 0.004:
        place = draw.randrange(len(changed) + 1)
        changed[place:place] = draw.choice(HUGE)
        return bytes(changed)
    return bytes(changed[:LONGEST])


def _change(body: bytearray, seeds: list[bytes], draw: random.Random) -> None:
    size = len(body)
    place = draw.randrange(size + 1)
    end = min(size, place + draw.randrange(1, 12))
    match draw.randrange(10):
        case 0 if place < size:
            body[place] ^= 1 << draw.randrange(8)
        case 1:
            del body[place:end]
        case 2:
            body[place:place] = bytes([draw.randrange(256)])
        case 3:
            body[place:place] = body[place:end]
        case 4:
            other = draw.choice(seeds)
            body[place:] = other[draw.randrange(len(other) + 1) :]
        case 5:
            del body[place:]
        case 6 if place < size:
            body[place] = draw.randrange(256)
        case 7:
            body[place:end] = draw.choice(INTERESTING)
        case 8:
            body[:] = _encoded(bytes(body), draw)
        case _:
            body[place:place] = draw.choice(INTERESTING)


def _encoded(body: bytes, draw: random.Random) -> bytes:
    return body.decode("utf-8", "replace").encode(draw.choice(ENCODINGS), "replace")


# --- structure ---


def mutated_document(document: Any, draw: random.Random) -> bytes:
    """One to three changes of members and items, written as JSON."""
    document = copy.deepcopy(document)
    for _ in range(draw.choice((1, 1, 2, 3))):
        document = _rebuilt(document, draw)
    text = json.dumps(document, ensure_ascii=draw.random() < 0.8, separators=draw.choice(((",", ":"), (", ", ": "))))
    if draw.random() < 0.05:
        text = _doubled(text, draw)
    return text.encode("utf-8", "surrogatepass")


def _doubled(text: str, draw: random.Random) -> str:
    """The same with a member twice, which no dict has."""
    place = text.find("{")
    name = json.dumps(draw.choice(NAMES[:7]))
    return text if place < 0 else f"{text[: place + 1]}{name}:{json.dumps(draw.choice(VALUES))},{text[place + 1 :]}"


def _rebuilt(document: Any, draw: random.Random) -> Any:
    answers = [one for one in (document if isinstance(document, list) else [document]) if isinstance(one, dict)]
    match draw.randrange(8):
        case 0 if isinstance(document, list) and document:
            document.insert(draw.randrange(len(document) + 1), copy.deepcopy(draw.choice(document)))
        case 1 if isinstance(document, list) and document:
            del document[draw.randrange(len(document))]
        case 2:
            return [document] if draw.random() < 0.5 else [document, copy.deepcopy(draw.choice(VALUES))]
        case 3 if isinstance(document, list) and document:
            draw.shuffle(document)
            return draw.choice(document) if draw.random() < 0.4 else document
        case _ if answers:
            _change_answer(draw.choice(answers), draw)
        case _:
            return {"jsonrpc": "2.0", "id": draw.choice((1, "b", 2)), "result": document}
    return document


def _change_answer(answer: dict[Any, Any], draw: random.Random) -> None:
    value = copy.deepcopy(draw.choice(VALUES))
    match draw.randrange(9):
        case 0:
            answer["id"] = value
        case 1:
            answer["id"] = draw.choice((1, "b", 2, "1", 1.0, True, None))
        case 2 if answer:
            del answer[draw.choice(list(answer))]
        case 3:
            answer["result"], answer["error"] = None, draw.choice(({"code": -32601, "message": "m"}, value))
        case 4:
            answer["error"] = value
        case 5:
            error = answer.get("error")
            if not isinstance(error, dict):
                error = answer["error"] = {"code": -32000, "message": "m"}
            name = draw.choice(("code", "message", "data"))
            if draw.random() < 0.2:
                error.pop(name, None)
            else:
                error[name] = value
        case 6:
            answer["jsonrpc"] = draw.choice(("1.0", 2.0, None, value))
        case 7:
            answer[draw.choice(NAMES)] = value
        case _:
            answer["result"] = value
