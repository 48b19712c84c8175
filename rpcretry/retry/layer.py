"""The contract of a layer: something that decides, and does no I/O."""

from __future__ import annotations

from collections.abc import Sequence

from ..outcome import Attempt, Member, Outcome, Retry, Stop, Wait

__all__ = ["Layer"]


class Layer:
    """Decides whether an attempt goes out, and whether a member goes again. Override what is needed.

    Layers are admitted from the outermost to the innermost, and judged, settled and abandoned from the
    innermost to the outermost. A layer sleeps never, reads no clock and opens nothing: it is told *now*,
    seconds on the engine's monotonic clock. One layer may serve many calls, threads and clients at once; state
    needs a lock of the layer's own, which is not held while a wake is called.
    """

    def admit(self, attempt: Attempt, now: float) -> Wait | None:
        """Let *attempt* out (``None``), or say what it waits for; it is asked again after the wait.

        To queue: ``wake = attempt.park()``, keep ``wake`` for later, and return ``Wait(math.inf, "queue")``.

        :raises Refused: to refuse it. The call then fails with that; whatever was taken for it must be given back.
        """
        return None

    def judge(self, attempt: Attempt, member: Member, outcome: Outcome, verdict: Retry, now: float) -> Retry | Stop:
        """Lengthen the delay in *verdict*, or stop. A shorter delay is ignored."""
        return verdict

    def settle(self, attempt: Attempt, outcomes: Sequence[Outcome], now: float) -> None:
        """The exchange of an admitted attempt has ended: release what admit took.

        Called once for each, whatever was decided; ``member.verdict`` of ``attempt.members`` is final.
        """

    def abandon(self, attempt: Attempt, now: float) -> None:
        """Instead of settle, where the attempt was cancelled, or refused by a layer further in.

        Also for an attempt that this layer has waiting, and then perhaps twice; and where an interrupt (Ctrl-C) hit
        settle, or came just after it. Not where this layer itself raised. Count nothing.
        """
