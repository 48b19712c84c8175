"""Who is told how far a bulk is: a callable, a bar on a terminal, or a line at the end."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from typing import IO, Any, Protocol, TypeAlias

from .._check import callable_with, is_async_callable
from ..events import logger
from ._items import BulkProgress

__all__ = ["ProgressLike", "Reporter", "as_reporter"]

ProgressLike: TypeAlias = "bool | Callable[[BulkProgress], object] | None"


class Reporter(Protocol):
    """Is told how far it is."""

    def update(self, progress: BulkProgress) -> None:
        """It goes on."""

    def stop(self, progress: BulkProgress, *, finished: bool) -> None:
        """It is over, or was stopped and may go on."""


def as_reporter(progress: ProgressLike) -> Reporter | None:
    """Read a ``progress=`` argument.

    :raises TypeError: for what is neither a bool nor a plain callable.
    :raises ModuleNotFoundError: where a bar is to be shown on a terminal, and rich is not installed.
    """
    if progress is None or progress is False:
        return None
    if progress is True:
        stream = sys.stderr
        return Bar(stream) if is_terminal(stream) else Line(stream)
    if isinstance(progress, type):
        raise TypeError(f"progress must be True or a callable, got the class {progress.__name__}; write progress={progress.__name__}()")
    callable_with("progress", progress, 1, "it gets a BulkProgress")
    if is_async_callable(progress) or inspect.isgeneratorfunction(progress) or inspect.isasyncgenfunction(progress):
        raise TypeError(f"progress must be a plain function, got {progress!r:.60}, which nobody would await; write def")
    return Callback(progress)


def is_terminal(stream: IO[str] | None) -> bool:
    """Whether a bar can be drawn there."""
    try:
        return stream is not None and stream.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")
    except Exception:
        # A stand-in for a stream that is closed, or has no such method.
        return False


class Callback:
    """Calls a function of the user's; what it raises is logged."""

    def __init__(self, function: Callable[[BulkProgress], object]) -> None:
        self._function = function

    def update(self, progress: BulkProgress) -> None:
        try:
            self._function(progress)
        except Exception:
            logger.exception("progress: %r raised", self._function)

    def stop(self, progress: BulkProgress, *, finished: bool) -> None:
        self.update(progress)


class Line:
    """Writes one line at the end, for a log file, or a terminal that can draw nothing."""

    def __init__(self, stream: IO[str] | None) -> None:
        self._stream = stream

    def update(self, progress: BulkProgress) -> None:
        """Nothing is written on the way."""

    def stop(self, progress: BulkProgress, *, finished: bool) -> None:
        if self._stream is None:
            return
        try:
            print(f"bulk{'' if finished else ' stopped'}: {summary(progress)}", file=self._stream, flush=True)
        except Exception:
            logger.exception("progress: the line could not be written")


def summary(progress: BulkProgress) -> str:
    """The numbers in a line."""
    of = "" if progress.total in (None, progress.done) else f" of {progress.total}"
    return (
        f"{progress.done}{of} done in {progress.elapsed:.1f} s ({progress.rate:.0f}/s), "
        f"{progress.succeeded} succeeded, {progress.failed} failed, {progress.retries} retries"
    )


class Bar:
    """Draws a bar by rich.

    :raises ModuleNotFoundError: where that is not installed.
    """

    def __init__(self, stream: IO[str]) -> None:
        try:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
        except ModuleNotFoundError as problem:
            raise ModuleNotFoundError('progress=True draws its bar by rich; install it with: pip install "rpcretry[progress]"', name=problem.name) from problem
        columns = (
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:.0f}/s"),
            TextColumn("{task.fields[retries]} retries", style="yellow"),
            TextColumn("{task.fields[failed]} failed", style="red"),
            TimeRemainingColumn(),
        )
        self._console = Console(file=stream)
        self._make: Callable[[], Any] = lambda: Progress(*columns, console=self._console, auto_refresh=False)
        self._bar: Any = None

    def update(self, progress: BulkProgress) -> None:
        try:
            if self._bar is None:
                self._bar = self._make()
                self._bar.add_task("", total=None, rate=0.0, retries=0, failed=0)
                self._bar.start()
                # Who leaves the loop and forgets the bulk keeps a terminal with a cursor.
                self._console.show_cursor(True)
            self._draw(progress)
        except Exception:
            logger.exception("progress: the bar could not be drawn")

    def _draw(self, progress: BulkProgress) -> None:
        bar = self._bar
        bar.update(bar.task_ids[0], total=progress.total, completed=progress.done, rate=progress.rate, retries=progress.retries, failed=progress.failed)
        bar.refresh()

    def stop(self, progress: BulkProgress, *, finished: bool) -> None:
        self.update(progress)
        self._leave()

    def _leave(self) -> None:
        bar, self._bar = self._bar, None
        if bar is not None:
            try:
                bar.stop()
            except Exception:
                logger.exception("progress: the bar could not be ended")

    def __del__(self) -> None:
        # While it is there, rich has print() write above it.
        if getattr(self, "_bar", None) is not None:
            self._leave()
