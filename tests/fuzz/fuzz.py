"""Mutated bodies through the codec, and mutated HTTP answers through the backends: ``tox -e fuzz``.

Ends with 1 where anything crashed, or where the time was over before all was done. ``docs/fuzzing.rst`` says what counts as a crash.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import multiprocessing
import os
import platform
import random
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

from codec_stage import guided, large, mutations
from fuzz_stage import Stage, Stop
from http_stage import BACKENDS, Run
from request_side import sent_and_read_back

__all__ = ["main", "told"]

GUIDED = 0.1
NICE = 10
DISTRIBUTIONS = ("rpcretry", "pydantic_core", "requests", "urllib3", "aiohttp", "hypothesis", "atheris")


def http(kind: str, count: int, seed: int, stop: Stop) -> Stage:
    """Answers through a backend."""
    return Run(kind, count, seed, stop)()


def written(count: int, seed: int, stop: Stop) -> Stage:
    """Requests that Hypothesis makes, written and read back."""
    stage = Stage("requests written and read back (Hypothesis)", count)
    began = time.monotonic()
    try:
        sent_and_read_back(count, seed)
        stage.done = count
    except AssertionError as problem:
        stage.crashed(f"{problem}", "; ".join(getattr(problem, "__notes__", ())) or repr(problem))
    stage.seconds = time.monotonic() - began
    return stage


def plan(bodies: int, answers: int, seed: int, only: str | None, jobs: int) -> list[tuple[Callable[..., Stage], tuple[Any, ...]]]:
    """The stages: what to run, and what with. Each gets a process of its own."""
    stages: list[tuple[Callable[..., Stage], tuple[Any, ...]]] = []
    if only != "codec":
        stages += [(http, (kind, answers, seed)) for kind in BACKENDS]
    if only != "http":
        led = int(bodies * GUIDED) if _has_atheris() else 0
        each = -(-(bodies - led) // jobs)
        stages += [(mutations, (min(each, bodies - led - part * each), seed * 1000 + part)) for part in range(jobs)]
        stages += [(guided, (led, seed))] if led else []
        stages += [(large, ()), (written, (max(1, bodies // 500), seed))]
    return stages


def _has_atheris() -> bool:
    try:
        importlib.metadata.version("atheris")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _politely() -> None:
    if hasattr(os, "nice"):
        os.nice(max(0, NICE - os.nice(0)))


def run(stages: Sequence[tuple[Callable[..., Stage], tuple[Any, ...]]], stop: Stop, jobs: int) -> list[Stage]:
    """Run them, *jobs* at a time."""
    # Each thread would have a heap of its own otherwise, and the growth of those is not that of what is held.
    os.environ["MALLOC_ARENA_MAX"] = "1"
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_politely, max_tasks_per_child=1) as pool:
        futures = [(made, pool.submit(made, *given, stop=stop)) for made, given in stages]
        return [_stage(made.__name__, future) for made, future in futures]


def _stage(name: str, future: Future[Stage]) -> Stage:
    try:
        stage = future.result()
    except Exception as problem:
        # The fuzzer's own mistake, or a process that died.
        stage = Stage(name, 1)
        stage.crashed(f"{type(problem).__name__}: {problem}", "".join(traceback.format_exception(problem))[-2000:])
    print("\n".join(stage.lines()), flush=True)
    return stage


def told(stages: Sequence[Stage], seed: int, seconds: float) -> str:
    """The report."""
    versions = ", ".join(f"{name} {_version(name)}" for name in DISTRIBUTIONS)
    bodies = sum(stage.done for stage in stages if stage.name.startswith(("codec, mutated", "codec, guided")))
    answers = ", ".join(f"{stage.done:,} HTTP answers through {stage.name.rpartition(' ')[2]}" for stage in stages if stage.name.startswith("HTTP"))
    crashes = sum(stage.again.total() for stage in stages)
    lines = [f"rpcretry fuzzing, seed {seed}, {seconds:.0f} s", f"Python {platform.python_version()}, {versions}", ""]
    for stage in stages:
        lines += [*stage.lines(), ""]
    verdict = "nothing was wrong" if all(stage.is_good for stage in stages) else "FAILED"
    parts = [part for part in (f"{bodies:,} bodies through the codec" if bodies else "", answers) if part]
    return "\n".join([*lines, f"{', '.join(parts)}; crashes: {crashes}; {verdict}"])


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; returns its exit code."""
    parser = argparse.ArgumentParser(description="Fuzz the codec and the HTTP backends; ends with 1 where anything crashes.")
    parser.add_argument("--bodies", type=int, default=1_000_000, help="mutated bodies through the codec")
    parser.add_argument("--answers", type=int, default=20_000, help="mutated HTTP answers through each backend")
    parser.add_argument("--seed", type=int, help="what a run said; another one each time where it is not given")
    parser.add_argument("--seconds", type=float, default=600.0, help="when to break off, which counts as a failure")
    parser.add_argument("--only", choices=("codec", "http"), help="one of the two")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at once")
    parser.add_argument("--report", type=Path, help="a file to write the report to as well")
    chosen = parser.parse_args(arguments)
    seed = random.randrange(10**6) if chosen.seed is None else chosen.seed
    print(f"seed {seed}", flush=True)
    began = time.monotonic()
    stages = run(plan(chosen.bodies, chosen.answers, seed, chosen.only, chosen.jobs), Stop(chosen.seconds), chosen.jobs)
    report = told(stages, seed, time.monotonic() - began)
    print(f"\n{report}")
    if chosen.report is not None:
        chosen.report.parent.mkdir(parents=True, exist_ok=True)
        chosen.report.write_text(report + "\n")
    return 0 if all(stage.is_good for stage in stages) else 1


if __name__ == "__main__":
    sys.exit(main())
