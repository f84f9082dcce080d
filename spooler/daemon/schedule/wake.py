"""What tells a worker of new jobs in one queue: the storage's push, and mistrust of its silence."""

from __future__ import annotations

from collections.abc import Callable

from spooler.daemon.shared import Shared
from spooler.errors import BackendUnavailable, PushUnavailable
from spooler.model.claim import Claim
from spooler.model.job import Queue
from spooler.observe.events import EventName
from spooler.protocols import Backend, Subscription

#: A job older than this (seconds) that no push has told of shows that the push is silent.
_PUSH_WITHIN = 2.0


class Ear:
    """Listens to one queue; used by its worker's thread, but for the push itself."""

    def __init__(
        self, backend: Backend, queue: Queue, shared: Shared, wake: Callable[[], None]
    ) -> None:
        self._backend = backend
        self._queue = queue
        self._shared = shared
        self._wake = wake
        self._subscription: Subscription | None = None
        self._deaf = False
        # What waits from before the first look was never pushed to us.
        self._pushed = True

    def listen(self) -> None:
        """Subscribe where that is possible and has not been done. Raises BackendUnavailable."""
        if self._subscription is not None or self._deaf:
            return
        try:
            self._subscription = self._backend.subscribe(self._queue, self._push)
        except PushUnavailable as error:
            self._deaf = True
            self._tell(f"{error}; polling")
        else:
            self._deaf = self._subscription is None

    def _push(self) -> None:
        self._pushed = True
        self._wake()

    def looking(self) -> bool:
        """The queue is looked at now: whether a push has asked for it."""
        pushed, self._pushed = self._pushed, False
        return pushed

    def drained(self) -> None:
        """A queue that has just been worked on says nothing about the push."""
        self._pushed = True

    def mistrust(self, claim: Claim, *, pushed: bool) -> None:
        """Subscribe anew when the push said nothing of a job that has waited for a while."""
        submitted = claim.job.submitted_at
        if pushed or self._subscription is None or submitted is None:
            return
        if claim.attempt > 1 or claim.job.defect:
            return  # told of before, and made to wait since
        if (self._shared.clock.now() - submitted).total_seconds() > _PUSH_WITHIN:
            self._tell(None)
            self.close()
            self._pushed = True

    def _tell(self, reason: str | None) -> None:
        fields = {"device": self._queue.device, "queue": self._queue.name, "reason": reason}
        self._shared.observer.emit(EventName.PUSH_LOST, **fields)

    def close(self) -> None:
        """Listen no more; harmless to repeat."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            try:
                subscription.close()
            except BackendUnavailable:
                return
