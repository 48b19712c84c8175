"""Never twice by accident."""

from __future__ import annotations

from ..codec import rejected
from ..errors import Delivery, JsonRpcError
from ..outcome import Attempt, Member, Outcome, Retry, Stop
from ..retry.layer import Layer
from ..retry.strategy import RetryStrategy

__all__ = ["Idempotency"]


class Idempotency(Layer):
    """Stops a retry that could make the server do something twice.

    A request that the server may have executed goes again only where the strategy declares its method
    idempotent, or where the strategy names the failure itself and declares nothing. A notification never
    does: nothing would tell that it was executed.

    :param strategy: whose declarations count.
    """

    def __init__(self, strategy: RetryStrategy) -> None:
        self.strategy = strategy

    def judge(self, attempt: Attempt, member: Member, outcome: Outcome, verdict: Retry, now: float) -> Retry | Stop:
        # A code that the strategy names is the server's own word that it did not act.
        if outcome.delivery is not Delivery.MAYBE_EXECUTED or verdict.reason == "code":
            return verdict
        # So is a 429, or a 503 with Retry-After, whatever error the server put into its body.
        error = outcome.error
        if isinstance(error, JsonRpcError) and rejected(error.status or 200, error.headers or {}) is Delivery.REJECTED:
            return verdict
        if member.is_notification:
            return Stop("a notification that may have been executed")
        if self.strategy.is_guarded and not self.strategy.is_idempotent(member.request):
            return Stop("may have been executed, and is not declared idempotent")
        return verdict
