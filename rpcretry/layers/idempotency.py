"""Never twice by accident."""

from __future__ import annotations

from ..errors import Delivery
from ..messages import Request
from ..outcome import Attempt, Member, Outcome, Retry, Stop
from ..retry.layer import Layer
from ..retry.strategy import RetryStrategy

__all__ = ["Idempotency"]


class Idempotency(Layer):
    """Stops a retry that could make the server do something twice.

    A request that the server may have executed goes again only where the strategy declares its method
    idempotent, or where the strategy names the failure itself and declares nothing. A notification never
    does: nothing would tell that it was executed.

    With an idempotency key the server tells a repetition from a new request, so everything may go again, as long as it
    is the same body under the same key.

    :param strategy: whose declarations count.
    :param keyed: whether the call carries an idempotency key.
    :param declared: what is known of the method itself, and counts before what the strategy says: ``True`` where it may be executed
        twice, ``False`` where it may not; ``None`` where nothing is known.
    """

    def __init__(self, strategy: RetryStrategy, *, keyed: bool = False, declared: bool | None = None) -> None:
        self.strategy = strategy
        self.keyed = keyed
        self.declared = declared

    def judge(self, attempt: Attempt, member: Member, outcome: Outcome, verdict: Retry, now: float) -> Retry | Stop:
        # A code that the strategy names is the server's own word that it did not act.
        if outcome.delivery is not Delivery.MAYBE_EXECUTED or verdict.reason == "code":
            # That this try did nothing takes back nothing of one before it, which only its own key makes harmless.
            unsafe = member.is_notification or not self._may_repeat(member.request)
            return verdict._replace(whole=True) if self.keyed and unsafe and member.delivery is Delivery.MAYBE_EXECUTED else verdict
        if member.is_notification:
            return verdict._replace(whole=True) if self.keyed else Stop("a notification that may have been executed")
        if not self._may_repeat(member.request):
            return verdict._replace(whole=True) if self.keyed else Stop("may have been executed, and is not declared idempotent")
        return verdict

    def _may_repeat(self, request: Request | None) -> bool:
        if self.declared is not None:
            return self.declared
        return not self.strategy.is_guarded or self.strategy.is_idempotent(request)
