"""What the arguments of ``rpcretry call`` mean."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, unquote_plus, urlsplit

from .._check import closest
from .._unset import UNSET
from ..backends._target import basic
from ..messages import Params, Request
from . import UNUSABLE
from ._ends import CommandError
from ._exact import read, read_all

__all__ = ["Secrets", "basic_auth", "headers_of", "in_locale", "params_of", "params_of_text", "read_batch", "target_of", "text_of"]

_NAMED = re.compile(r"([^\W\d][\w.-]*)=(.*)", re.DOTALL)
# Surely the name of a header, and no secret in its place.
_HEADER = re.compile(r"[A-Za-z]{1,16}(?:-[A-Za-z]{1,16})+|Authorization|Cookie", re.ASCII)
_VARIABLE = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_SENSITIVE = re.compile(r"auth|cookie|key|secret|token|signature|passw|passphrase|pwd|credential", re.IGNORECASE)
# As names of variables are written. A secret has digits in it, or goes on for longer without an underscore.
_CAPITALS = re.compile(r"[A-Z]{1,16}(?:_[A-Z]{1,16})*\d?")

# How the core ends an excerpt of what a server sent.
CUT: Final = "…"

MEMBERS: Final = ("jsonrpc", "method", "params", "id")


def wrong(message: str) -> CommandError:
    """What to raise for wrong usage."""
    return CommandError(message, UNUSABLE)


def in_locale(what: str, text: str) -> str:
    """Refuse *text* with bytes that are no characters: Python has them as lone surrogates, which no JSON and no header can carry."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise wrong(f"{what} is no text in this locale's encoding; set LC_ALL to a UTF-8 one") from None
    return text


class Secrets:
    """What must not be shown, wherever it turns up: a server may repeat a header in an error."""

    # Whoever has a shorter one has no secret, and every other word would be hidden by it.
    LEAST = 4
    # So much of the beginning of a longer one gives it away, or enough of it.
    PART = 8

    def __init__(self) -> None:
        self._found: set[str] = set()

    def add(self, *values: str) -> None:
        """Hide these from now on."""
        for value in values:
            if len(value) >= self.LEAST:
                self._found |= {value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]}

    def add_url(self, url: str) -> None:
        """Hide the parts of *url* that may be keys: of the user-info the password, or the name where it stands alone; values of the query by
        their name or their looks; and long segments of the path. Other words are left: a server's messages are made of them."""
        try:
            parts = urlsplit(url)
            user, password = parts.username or "", parts.password or ""
        except ValueError:
            return
        if user or password:
            self._add_quoted(password or user)
            self.add(basic((unquote(user), unquote(password))).split()[-1])
        for pair in parts.query.split("&"):
            name, equals, value = pair.partition("=")
            if not equals:
                name, value = "", pair
            looks = unquote(value)
            if _SENSITIVE.search(unquote(name)) or (len(looks) >= 8 and re.search(r"[^\W\d_]", looks) and re.search(r"\d", looks)):
                self._add_quoted(value)
        for segment in parts.path.split("/"):
            if len(segment) >= 16 and re.search(r"\d", segment):
                self._add_quoted(segment)

    def _add_quoted(self, value: str) -> None:
        """Hide a part of a URL as it is written there, and as it is meant."""
        self.add(value, unquote(value), unquote_plus(value))

    def clean(self, text: str) -> str:
        """*text* without them, and without what is left of one where an excerpt ends in the middle of it."""
        for secret in sorted(self._found, key=len, reverse=True):
            text = text.replace(secret, "***")
            if CUT in text:
                for length in range(len(secret) - 1, self.PART - 1, -1):
                    text = text.replace(secret[:length] + CUT, "***" + CUT)
        return text


def target_of(text: str, secrets: Secrets) -> str:
    """The URL, which ``env:NAME`` takes from the environment."""
    url = _variable("URL", text[4:], "env:NODE_URL") if text.startswith("env:") else in_locale("URL", text)
    secrets.add_url(url)
    return url


def headers_of(given: Iterable[str], from_environment: Iterable[str], bearer: str | None, secrets: Secrets) -> list[tuple[str, str]]:
    """The headers of ``-H``, ``--header-env`` and ``--bearer-env``. No message shows a value."""
    headers: list[tuple[str, str]] = []
    for line in given:
        name, colon, value = line.partition(":")
        if not colon:
            raise wrong("-H takes a name and a value: -H 'Accept-Language: en'")
        # Nothing of it is shown: the value may stand where the name does.
        in_locale("a header of -H", line)
        headers.append((name.strip(), value.strip()))
        if _SENSITIVE.search(name):
            secrets.add(value.strip(), *value.split()[-1:])
    for line in from_environment:
        name, equals, variable = line.partition("=")
        if not equals:
            raise wrong("--header-env takes a header and the name of a variable: --header-env X-Api-Key=API_KEY")
        option = f"--header-env {name.strip()}=..." if _HEADER.fullmatch(name.strip()) else "--header-env"
        headers.append((name.strip(), _variable(option, variable, "X-Api-Key=API_KEY")))
        secrets.add(headers[-1][1], *headers[-1][1].split()[-1:])
    if bearer is not None:
        token = _variable("--bearer-env", bearer, "API_TOKEN")
        headers.append(("Authorization", f"Bearer {token}"))
        secrets.add(token)
    names = [name.lower() for name, _ in headers]
    for name in names:
        if names.count(name) > 1:
            raise wrong(f"the header {name} is given twice")
    return headers


def basic_auth(text: str, secrets: Secrets) -> tuple[str, str]:
    """User and password of ``--auth-env``."""
    user, colon, variable = text.partition(":")
    if not colon:
        raise wrong("--auth-env takes a user and the name of a variable: --auth-env alice:WALLET_PASSWORD")
    password = _variable("--auth-env", variable, "alice:WALLET_PASSWORD")
    secrets.add(password, basic((user, password)).split()[-1])
    return user, password


def _variable(option: str, name: str, example: str) -> str:
    """The value of that variable.

    :param option: where it was named. No message shows the name unless it looks like one: it may be the secret itself.
    """
    name = name.strip()
    if not _VARIABLE.fullmatch(name):
        raise wrong(f"{option} takes the name of a variable of the environment, and not its value: {example}")
    value = os.environ.get(name, "").strip()
    if not value:
        shown = f": {name}" if _CAPITALS.fullmatch(name) else ""
        raise wrong(f"{option} names a variable that the environment does not have, or an empty one{shown}; export it first")
    return in_locale(f"the value of the variable that {option} names", value)


def params_of(texts: Sequence[str]) -> Params:
    """The params that the arguments are: by position, or by name where they are ``name=value``."""
    positions: list[Any] = []
    names: dict[str, Any] = {}
    for text in texts:
        in_locale(f"the param {text!r:.60}", text)
        matched = _NAMED.fullmatch(text) if not _is_json(text) else None
        if matched is None:
            positions.append(_value(text, text))
            continue
        name, value = matched[1], matched[2]
        if name in names:
            raise wrong(f"the param {name} is given twice")
        names[name] = _value(value, text)
    if names and positions:
        raise wrong(f"give params by position or by name, not both: {next(iter(names))}=... stands beside one that has no name")
    return names or positions or UNSET


def _is_json(text: str) -> bool:
    try:
        read(text)
    except ValueError:
        return False
    return True


def _value(text: str, shown: str) -> Any:
    try:
        return read(text)
    except ValueError as problem:
        if text.lstrip()[:1] in ("{", "[", '"'):
            raise wrong(f"the param {shown!r:.60} begins as JSON does and is none: {problem}") from None
    return text


def params_of_text(text: str) -> Params:
    """The params of ``--params``: JSON, ``@FILE``, or ``-`` for standard input."""
    source = "standard input" if text == "-" else text[1:] if text.startswith("@") else "--params"
    if source != "--params":
        text = text_of("-" if text == "-" else source, "--params")
    in_locale("--params", text)
    try:
        params = read(text)
    except ValueError as problem:
        raise wrong(f"{source} holds no JSON: {problem}") from None
    if not isinstance(params, (list, dict)):
        raise wrong(f"{source} must hold a JSON array or object, got {text.strip()!r:.40}; write [{text.strip():.20}] to send it as the one param")
    return params


def text_of(path: str, option: str) -> str:
    """What the file holds, or standard input for ``-``."""
    try:
        body = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as problem:
        raise wrong(f"{option}: cannot read {path}: {problem.strerror or problem}") from None
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise wrong(f"{option}: {'standard input' if path == '-' else path} is no UTF-8") from None


def read_batch(path: str) -> tuple[list[Request], bool]:
    """The requests in a file, and whether they stand in an array; they may also stand one after the other, as JSON lines do."""
    source = "standard input" if path == "-" else path
    try:
        values = list(read_all(text_of(path, "--batch")))
    except ValueError as problem:
        raise wrong(f"{source}: {problem}") from None
    is_array = len(values) == 1 and isinstance(values[0][1], list)
    items = [(f"item {number}", item) for number, item in enumerate(values[0][1], 1)] if is_array else [(f"line {line}", item) for line, item in values]
    if not items:
        raise wrong(f'{source} holds no request; write one to a line, as {{"method": "sum", "params": [1, 2]}}')
    return [_request(item, f"{source}, {place}") for place, item in items], is_array


def _request(item: object, place: str) -> Request:
    if not isinstance(item, Mapping):
        raise wrong(f"{place}: a request is a JSON object with method and params")
    for name in item:
        if name not in MEMBERS:
            raise wrong(f"{place}: a request has no member {name!r:.40}{closest(name, MEMBERS)}")
    if "method" not in item:
        raise wrong(f"{place}: the request has no method")
    params = item.get("params", UNSET)
    if params is not UNSET and not isinstance(params, (list, dict)):
        raise wrong(f"{place}: params must be an array or an object")
    if isinstance(item.get("id"), float):
        raise wrong(f"{place}: id must be a whole number, a string, or null for a notification")
    try:
        return Request(item["method"], params, item.get("id", UNSET))
    except (TypeError, ValueError) as problem:
        raise wrong(f"{place}: {problem}") from None
