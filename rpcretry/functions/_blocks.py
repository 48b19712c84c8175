"""Blocks of code that are tried again."""

from __future__ import annotations

from contextvars import Token
from types import TracebackType
from typing import Any

from ..context import enter, leave
from ..drivers._sync import pause
from ..outcome import Attempt, Stop, Wait
from ..retry.engine import Step
from ._call import FunctionCall

__all__ = ["Block", "Blocks", "BlocksCore"]


class Block:
    """One attempt of a block, to be entered: ``with attempt: ...``. An exception inside of it asks for the next one.

    :ivar number: 1 for the first attempt.
    :ivar max_attempts: how many there are at the most; ``None`` without a known limit.
    """

    __slots__ = ("_call", "_running", "_token", "max_attempts", "number", "step")

    def __init__(self, call: FunctionCall, attempt: Attempt) -> None:
        self._call = call
        self._running: list[Any] | None = None
        self._token: Token[Any] | None = None
        self.step: Step | None = None
        self.number = attempt.number
        self.max_attempts = attempt.max_attempts

    @property
    def last_exception(self) -> Exception | None:
        """The failure of the attempt before; ``None`` in the first."""
        # Not kept here: the traceback of the next failure would hold this object, and with it the frames of that one.
        outcome = self._call.members[0].outcome if self._call.members else None
        return outcome.error if outcome is not None else None

    def __enter__(self) -> Block:
        if self._token is not None:
            raise RuntimeError("an attempt can be entered once; let the loop give the next one")
        if self.step is not None:
            raise RuntimeError("the loop that gave this attempt is gone; write `for attempt in retrying(...): with attempt: ...`")
        self._running, self._token = enter(self._call, self._call.clock)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> bool:
        try:
            return self._ended(error)
        finally:
            if self._running is not None and self._token is not None:
                self._running.clear()
                leave(self._token)

    def _ended(self, error: BaseException | None) -> bool:
        call = self._call
        now = call.clock()
        if self.step is not None:
            # The loop is gone, and with it whoever would give the next attempt.
            return False
        if error is None:
            self.step = call.received(None, now)
        elif isinstance(error, Exception):
            self.step = call.failed(error, now)
        else:
            call.abandon(now)
            self.step = Stop("abandoned")
        if not isinstance(self.step, Stop):
            return True
        problem = call.take().error
        if problem is None or problem is error:
            # As if nobody had caught it: raised here, its traceback would hold this frame, which holds it.
            return False
        try:
            raise problem
        finally:
            del problem

    def __repr__(self) -> str:
        return f"<attempt {self.number} of {self._call.operation}>"


class BlocksCore:
    """The attempts of a loop: everything but waiting."""

    def __init__(self, call: FunctionCall) -> None:
        self.call = call
        self._begun = False
        self._block: Block | None = None

    def advance(self) -> Step:
        """The step after the last block, or the first."""
        block, self._block = self._block, None
        now = self.call.clock()
        if block is None:
            if self._begun:
                return Stop("over")
            self._begun = True
            return self.call.start(now)
        if block.step is None:
            self.call.abandon(now)
            raise RuntimeError("the attempt was not entered; write `with attempt:` around the block")
        return block.step

    def given(self, step: Step) -> Block | None:
        """The block to hand out, ``None`` when the last one succeeded."""
        if isinstance(step, Attempt):
            self._block = Block(self.call, step)
            return self._block
        self.call.result()
        return None

    def __del__(self) -> None:
        # A loop that was left with an attempt to enter, or to come: the failure before must not stay.
        block = self._block
        if block is not None and not isinstance(block.step, Stop):
            self.call.abandon(self.call.clock())
            block.step = Stop("abandoned")


class Blocks(BlocksCore):
    """The attempts of ``for attempt in retrying(...)``."""

    def __iter__(self) -> Blocks:
        return self

    def __next__(self) -> Block:
        call, step = self.call, self.advance()
        try:
            while type(step) is Wait:
                step = pause(call, step, call)
        except BaseException:
            call.abandon(call.clock())
            raise
        block = self.given(step)
        if block is None:
            raise StopIteration
        return block
