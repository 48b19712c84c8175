"""What the commands take, where it is more than a few options or where two commands take the same."""

from __future__ import annotations

import dataclasses
import enum
import functools
import inspect
import itertools
import math
import re
from collections.abc import Callable
from typing import Annotated, Any, TypeAlias, TypeVar, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from .._check import closest
from . import UNUSABLE
from ._ends import CommandError, ending

__all__ = ["BearerEnv", "CallCommand", "Command", "Group", "HeaderEnv", "Headers", "Invocation", "Library", "Taken", "taking"]

G = TypeVar("G")

_NUMBER = re.compile(r"-(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?", re.ASCII)
BEHIND = "-- before params that begin with a hyphen"


def seconds(option: str, without: str) -> Callable[[object], float]:
    """What reads the seconds of *option*.

    :param without: what counts where the option is left out.
    """

    def read(given: object) -> float:
        text = str(given)
        try:
            found = float(text)
        except ValueError:
            unit = re.fullmatch(r"([\d.]+)\s*[a-z]+", text.strip(), re.IGNORECASE)
            hint = f"; write {unit[1]}, without a unit" if unit else ""
            raise CommandError(f"{option} takes a number of seconds, got {text!r:.40}{hint}", UNUSABLE) from None
        if not 0 < found < math.inf:
            raise CommandError(f"{option} takes seconds, more than 0, got {found:g}; leave it out for {without}", UNUSABLE)
        return found

    return read


class Library(enum.StrEnum):
    """What ``--backend`` of a call takes."""

    requests = "requests"
    aiohttp = "aiohttp"


Headers: TypeAlias = Annotated[list[str] | None, typer.Option("--header", "-H", metavar="'NAME: VALUE'", help="An HTTP header; may be repeated.")]
HeaderEnv: TypeAlias = Annotated[list[str] | None, typer.Option(metavar="NAME=VAR", help="A header whose value is in the environment variable VAR.")]
BearerEnv: TypeAlias = Annotated[str | None, typer.Option(metavar="VAR", help="Authorization: Bearer, with the token in VAR.")]
Taken: TypeAlias = Annotated[Library | None, typer.Option(help="The HTTP library; the first that is installed without it.")]


@dataclasses.dataclass(frozen=True)
class Invocation:
    """What ``rpcretry call`` was asked for, as it stands on the command line. The fields are its arguments and options."""

    url: Annotated[str, typer.Argument(metavar="URL", help="The endpoint; env:NAME takes it from the environment variable NAME.", show_default=False)]
    method: Annotated[str | None, typer.Argument(metavar="METHOD", help="The method's name; none with --batch.", show_default=False)] = None
    params: Annotated[list[str] | None, typer.Argument(metavar="PARAM", help="JSON, or a word that is none: a string. Or name=value.", show_default=False)] = (
        None
    )
    params_text: Annotated[str | None, typer.Option("--params", metavar="JSON", help="All params as one array or object; @FILE, or - for stdin.")] = None
    batch: Annotated[str | None, typer.Option(metavar="FILE", help="Send the requests in FILE as a batch; - for stdin.")] = None
    notify: Annotated[bool, typer.Option("--notify", help="Send a notification, which has no answer.")] = False
    header: Headers = None
    header_env: HeaderEnv = None
    bearer_env: BearerEnv = None
    auth_env: Annotated[str | None, typer.Option(metavar="USER:VAR", help="Basic authentication, with the password in VAR.")] = None
    timeout: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", parser=seconds("--timeout", "30 s"), help="The limit of each attempt; 30 without it.", show_default=False),
    ] = None
    deadline: Annotated[
        float | None, typer.Option(metavar="SECONDS", parser=seconds("--deadline", "no limit"), help="The limit of the whole call, waits and all.")
    ] = None
    retry: Annotated[bool, typer.Option("--retry", help="Retry what is likely to pass: connections, timeouts, busy servers.")] = False
    backoff: Annotated[str | None, typer.Option(metavar="SPEC", help="The delays between attempts; see rpcretry backoff --help. Retries.")] = None
    on: Annotated[str | None, typer.Option(metavar="LIST", help="Retry these, and nothing else: 2001,-32099..-32000,http:503,TimeoutError")] = None
    idempotent: Annotated[bool, typer.Option("--idempotent", help="The methods may be executed twice: retry what may have been, too.")] = False
    max_batch_size: Annotated[int | None, typer.Option(metavar="INT", min=1, help="Send a larger batch in parts.")] = None
    backend: Taken = None
    insecure: Annotated[bool, typer.Option("--insecure", help="Trust any certificate.")] = False
    cacert: Annotated[str | None, typer.Option(metavar="FILE", help="Trust the certificates in FILE.")] = None
    raw: Annotated[bool, typer.Option("--raw", help="Print the whole response object; of a batch, all of them.")] = False
    compact: Annotated[bool, typer.Option("--compact", "-c", help="Print the result in one line.")] = False
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show each attempt on standard error.")] = False


def taking(group: Callable[..., G]) -> Callable[[Callable[[G], None]], Callable[..., None]]:
    """Have a command take the fields of *group* as its parameters, and be called with one of it."""
    # Typer reads types from the parameters, and evaluates none in another module than the command's.
    types = get_type_hints(group, include_extras=True)
    signature = inspect.signature(group)
    parameters = [parameter.replace(annotation=types[name]) for name, parameter in signature.parameters.items()]

    def decorate(function: Callable[[G], None]) -> Callable[..., None]:
        @functools.wraps(function)
        def command(**given: Any) -> None:
            function(group(**given))

        vars(command).update(__signature__=signature.replace(parameters=parameters, return_annotation=None))
        command.__annotations__ = types
        return command

    return decorate


class Group(TyperGroup):
    """The commands. However one of them ends, even while it reads its arguments or prints its help, it ends as the others do."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        with ending("the output broke off"):
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        with ending("the output broke off"):
            return super().invoke(ctx)


class Command(TyperCommand):
    """A command whose help shows an argument by its name, without Python's type beside it."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        for param in self.params:
            if param.param_type_name == "argument":
                vars(param).update(display_type_rich=lambda ctx: None)
        super().format_options(ctx, formatter)


class CallCommand(Command):
    """A command whose arguments may be negative numbers, which look like options."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing:
            self._refuse_unknown(ctx, args)
        return super().parse_args(ctx, args)

    def _refuse_unknown(self, ctx: Any, words: list[str]) -> None:
        """Refuse what looks like an option before ``--`` and is none. The parser would take it for an argument, and of several short options in one
        word those that it knows for options."""
        options: dict[str, Any] = {name: param for param in self.get_params(ctx) for name in param.opts if name.startswith("-")}
        rest = iter(words)
        arguments = 0
        for word in itertools.takewhile(lambda word: word != "--", rest):
            name, equals, _ = word.partition("=")
            if word == "-" or not word.startswith("-"):
                arguments += 1
            elif _NUMBER.fullmatch(word):
                if arguments < 2:
                    raise CommandError(f"{word} stands where {'METHOD' if arguments else 'URL'} does; write {BEHIND}", UNUSABLE)
                arguments += 1
            elif word.startswith("--"):
                if name not in options:
                    near = closest(name, [option for option in options if option.startswith("--")])
                    hint = f"{near} Write" if near.startswith("; did you mean") else "; write"
                    raise CommandError(f"no such option: {name:.40}{hint} {BEHIND}", UNUSABLE)
                if not equals and not options[name].is_flag:
                    next(rest, None)
            elif self._ends_open(word, options):
                next(rest, None)

    @staticmethod
    def _ends_open(word: str, options: dict[str, Any]) -> bool:
        """Whether the value of the last of these short options is the next word."""
        for place, letter in enumerate(word[1:], 2):
            option = options.get(f"-{letter}")
            if option is None:
                # What stands behind the letter may be a password, as other programs take one.
                what = f"{word!r:.40} begins with a hyphen and is no number" if word[1].isdigit() else f"no such option: -{letter}"
                raise CommandError(f"{what}; write {BEHIND}", UNUSABLE)
            if not option.is_flag:
                return place == len(word)
        return False
