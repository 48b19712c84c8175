"""The commands, and what each takes. What a command does is in a module of its name, imported when it runs."""

from __future__ import annotations

import enum
import random
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from .. import __version__
from . import UNUSABLE
from ._ends import CommandError, ending
from ._options import BearerEnv, CallCommand, Command, Group, HeaderEnv, Headers, Invocation, Library, Taken, seconds, taking

__all__ = ["app"]

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    # Rich would draw boxes into pipes, and reflow the examples.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


class BackendChoice(enum.StrEnum):
    """What ``--backend`` of the demo takes."""

    requests = "requests"
    aiohttp = "aiohttp"
    both = "both"


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"rpcretry {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")] = False,
) -> None:
    """A JSON-RPC 2.0 client that keeps working on bad days.

    \b
    Examples:
      rpcretry call http://localhost:8545 eth_blockNumber
      rpcretry call URL sum 1 2 --retry -v
      rpcretry backoff exponential:base=0.1,attempts=5,jitter=full
      rpcretry demo                  watch calls survive a bad server
      rpcretry demo --seed 7         the same delays each time
      rpcretry simulate outage.toml  policies in an outage
      rpcretry COMMAND --help        what a command takes
      rpcretry --install-completion  have the shell complete all that
    """


@app.command(cls=CallCommand, context_settings={"ignore_unknown_options": True}, short_help="Call a method, or send a batch.")
@taking(Invocation)
def call(asked: Invocation) -> None:
    """Call a method. The result goes to standard output as JSON, all else to standard error.

    A PARAM is JSON: 1, true, null, '"1"', '{"a": [1, 2]}'. A word that is no JSON is a string. With name=value all
    params go by name; the value is JSON or a string, too. Without --retry, --backoff or --on nothing is retried.

    \b
    A batch is a JSON array, or objects one after the other, a line each:
      {"method": "sum", "params": [1, 2]}
      {"method": "tick", "id": null}      a notification
    What is printed has the same form, for each that has an answer:
      {"id": 1, "result": 3}

    Secrets belong in the environment: other users see the arguments of a process. --header-env, --bearer-env,
    --auth-env and env:NAME as URL take them from there. Nothing of them is shown.

    \b
    Exit codes:
      0    a result; of a batch, a result for every request
      1    a JSON-RPC error; of a batch, for any request
      2    wrong usage, or a library is not installed
      3    no answer: no connection, a timeout, the deadline, an HTTP error
      4    an answer that is no JSON-RPC answer
      5    the result could not be written
      70   a mistake of rpcretry itself, with its traceback
      130  interrupted: the process ends of SIGINT, which shells show so
      141  the reader of the output has left

    \b
    Examples:
      rpcretry call http://localhost:8545 eth_getBalance 0x52...2c latest
      rpcretry call URL get_user id=7 fields='["name"]' | jq .name
      rpcretry call URL get_user id=7 --retry --idempotent --deadline 10 -v
      rpcretry call URL reserve 12A --on 2001 --backoff periodic:attempts=5
      rpcretry call env:NODE_URL status --bearer-env NODE_TOKEN
      rpcretry call URL --batch requests.jsonl > answers.jsonl
    """
    with ending("the call broke off"):
        library = _library(asked.backend)
        from .call import run

        code = run(asked, library)
    raise typer.Exit(code)


@app.command(cls=Command, short_help="Show the delays of a backoff, one for each retry.")
def backoff(
    spec: Annotated[str, typer.Argument(metavar="SPEC", help="The kind of backoff and its parameters.", show_default=False)],
    limit: Annotated[int, typer.Option(metavar="INT", min=1, max=1_000, help="Show no more retries than that.")] = 20,
    seed: Annotated[int, typer.Option(metavar="INT", help="Seed of the samples of a backoff with jitter.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON.")] = False,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw them into a .png or .svg file, too.")] = None,
) -> None:
    """Show the delays that a backoff gives, one for each retry.

    \b
    SPEC is KIND or KIND:NAME=VALUE,NAME=VALUE...
      exponential   base=1, factor=2
      periodic      interval=1
      linear        base=1, increment=1
      fibonacci     multiplier=1
      decorrelated  base=0.1, max_value=20
      immediate
    All of them take
      attempts      how many retries after the first try: 3 without it;
                    inf for no limit
      max_value     the longest delay in seconds
      jitter        none, full, equal, decorrelated, a proportion such as 0.2,
                    or +0.5: up to 0.5 s more

    With jitter the least, the mean and the most of 1,000 samples are shown, of fewer where there are more than 200 retries.

    \b
    Exit codes:
      0    shown
      2    wrong usage, or a library is not installed
      5    the picture or the table could not be written
      70   a mistake of rpcretry itself, with its traceback
      130  interrupted
      141  the reader of the output has left

    \b
    Examples:
      rpcretry backoff exponential:base=0.1,factor=2,attempts=5,jitter=full
      rpcretry backoff fibonacci:attempts=inf,max_value=60 --limit 12
      rpcretry backoff periodic:interval=2,jitter=0.1 --json
      rpcretry backoff exponential:attempts=8,jitter=equal --plot delays.svg
    """
    with ending("the table broke off"):
        from .backoff import show

        show(spec, limit, seed, as_json=as_json, plot=plot)


@app.command(cls=Command, short_help="Make calls to a server that misbehaves on purpose.")
def demo(
    seed: Annotated[
        int | None, typer.Option(metavar="INT", help="Seed of all jitter; the same seed gives the same delays. Drawn and shown if not given.")
    ] = None,
    backend: Annotated[BackendChoice, typer.Option(help="Which HTTP library makes the calls.")] = BackendChoice.both,
) -> None:
    """Make calls to a server that misbehaves on purpose, and show each attempt.

    The server runs in this process, on a free port of 127.0.0.1. It takes a few seconds.

    \b
    Exit codes:
      0    every call ended as its scenario says
      1    one did not, and the differences are listed; or there is no server
      2    wrong usage, or a library is not installed
      5    the output could not be written
      70   a mistake of rpcretry itself, with its traceback
      130  interrupted
      141  the reader of the output has left

    \b
    Examples:
      rpcretry demo
      rpcretry demo --seed 7 --backend aiohttp
      rpcretry demo | tee demo.txt   plain lines, no colour
    """
    backends = ["requests", "aiohttp"] if backend is BackendChoice.both else [backend.value]
    with ending("the demo broke off"):
        succeeded = _demo(backends, random.SystemRandom().randrange(1_000_000) if seed is None else seed)
    raise typer.Exit(0 if succeeded else 1)


@app.command(cls=Command, short_help="Write a typed interface from an OpenRPC document.")
def openrpc(
    source: Annotated[str, typer.Argument(metavar="URL_OR_FILE", help="The document, or an endpoint that has rpc.discover; - for stdin.", show_default=False)],
    output: Annotated[str, typer.Option("--output", "-o", metavar="FILE", help="The module to write; - for stdout.")] = "-",
    class_name: Annotated[str | None, typer.Option(metavar="NAME", help="The name of the interface; the document's title without it.")] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Write over a file that is there.")] = False,
    fetch: Annotated[bool, typer.Option("--fetch", help="Get the document from the URL, also where its path does not end in .json.")] = False,
    header: Headers = None,
    header_env: HeaderEnv = None,
    bearer_env: BearerEnv = None,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", min=0.001, max=86_400, help="The limit of the answer.")] = 30,
    line_length: Annotated[int, typer.Option(metavar="INT", min=40, max=1000, help="Where lines are broken.")] = 88,
    backend: Taken = None,
) -> None:
    """Write a typed interface, with pydantic models, from an OpenRPC document.

    A URL whose path ends in .json is that of a document, which is fetched. Of any other the method rpc.discover is called.

    \b
    Exit codes:
      0    the module is written
      1    rpc.discover answered with a JSON-RPC error
      2    wrong usage, or a library is not installed
      3    no answer: no connection, a timeout, an HTTP error
      4    no OpenRPC document, or one that nothing can be made of
      5    the module could not be written
      70   a mistake of rpcretry itself, with its traceback
      130  interrupted
      141  the reader of the output has left

    \b
    Examples:
      rpcretry openrpc openrpc.json -o wallet.py
      rpcretry openrpc http://localhost:8545 -o node.py --class-name Node
      rpcretry openrpc https://example.org/openrpc.json --bearer-env TOKEN
    """
    with ending("the command broke off"):
        from .openrpc import Invocation, is_url, run

        run(
            Invocation(
                source=source,
                output=output,
                library=_library(backend) if is_url(source) else "",
                class_name=class_name,
                line_length=line_length,
                force=force,
                fetch=fetch,
                headers=header or (),
                header_env=header_env or (),
                bearer_env=bearer_env,
                timeout=timeout,
            )
        )


@app.command(cls=Command, short_help="Compare retry policies in a simulated outage.")
def simulate(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The scenarios and the policies, in TOML.", show_default=False)],
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw them into a .png or .svg file, too.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all numbers as JSON in place of the tables.")] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the same JSON into a file.")] = None,
    seed: Annotated[int, typer.Option(metavar="INT", help="Seed of all that is random.")] = 0,
    scenario: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Run this scenario and no other; may be repeated.")] = None,
    policy: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Run this policy and no other; may be repeated.")] = None,
    clients: Annotated[int | None, typer.Option(metavar="INT", min=1, help="So many clients, and a server to match.")] = None,
    duration: Annotated[float | None, typer.Option(metavar="SECONDS", parser=seconds("--duration", "what the file says"), help="So many seconds.")] = None,
) -> None:
    """Run retry policies through an outage, in virtual time, and show what each makes of it.

    FILE says who calls a server, what goes wrong with it, and which settings are compared. The calls go by the code that
    retries real ones. It may also say what is expected, for use in CI. examples/outage.toml has all of it explained.

    \b
    Exit codes:
      0    shown, and all is as the file expects
      1    something is not as the file expects
      2    wrong usage, a file that is not usable, or a library is not
           installed
      5    the table, the JSON or the picture could not be written
      70   a mistake of rpcretry itself, with its traceback
      130  interrupted; what was finished is shown
      141  the reader of the output has left

    \b
    Examples:
      rpcretry simulate outage.toml
      rpcretry simulate outage.toml --plot storm.png -o storm.json
      rpcretry simulate outage.toml --scenario outage --policy full
      rpcretry simulate outage.toml --clients 100000
      rpcretry simulate outage.toml --json | jq .expectations
    """
    with ending("the simulation broke off"):
        from .simulate import Asked, run

        run(
            Asked(
                file,
                seed=seed,
                scenarios=scenario or (),
                policies=policy or (),
                clients=clients,
                duration=duration,
                plot=plot,
                output=output,
                as_json=as_json,
            )
        )


def _demo(backends: list[str], seed: int) -> bool:
    _require(backends, "the demo")
    from .demo import CannotListenError, run
    from .report import make_report

    try:
        return run(backends, seed, make_report())
    except CannotListenError as problem:
        raise CommandError(f"the demo cannot listen on 127.0.0.1: {problem}", 1) from None


def _library(chosen: Library | None) -> str:
    """The HTTP library for a call."""
    if chosen is None:
        chosen = next((library for library in Library if _can_import(library.value)), None)
    if chosen is None:
        raise CommandError('a call needs requests or aiohttp; install with: pip install "rpcretry[requests]"', UNUSABLE)
    _require([chosen.value], "the call")
    return chosen.value


def _require(libraries: list[str], what: str) -> None:
    """Refuse to go on where an HTTP library is missing, saying how to mend that."""
    missing = [name for name in libraries if not _can_import(name)]
    if missing:
        present = [name for name in libraries if name not in missing]
        hint = f" (or run it with: --backend {present[0]})" if present else ""
        names, extras = " and ".join(missing), ",".join(sorted(missing))
        raise CommandError(f'{what} needs {names}; install with: pip install "rpcretry[{extras}]"{hint}', UNUSABLE)


def _can_import(name: str) -> bool:
    try:
        import_module(name)
    except ImportError:
        return False
    return True
