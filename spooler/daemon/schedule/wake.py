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
        #: Whether a push has asked for the next look. What waits from before the first one was
        #: never pushed to us, and a queue that has just been worked on says nothing about it.
        self.pushed = True

    def look(self) -> bool:
        """The queue is looked at now: whether a push has asked for it.

        Subscribes first where that has not been done. Raises BackendUnavailable.
        """
        if self._subscription is None and not self._deaf:
            self._subscribe()
        pushed, self.pushed = self.pushed, False
        return pushed

    def _subscribe(self) -> None:
        try:
            self._subscription = self._backend.subscribe(self._queue, self._push)
        except PushUnavailable as error:
            self._deaf = True
            self._tell(f"{error}; polling")
        else:
            self._deaf = self._subscription is None

    def _push(self) -> None:
        self.pushed = True
        self._wake()

    def mistrust(self, claim: Claim) -> None:
        """Subscribe anew when the push said nothing of this job, which has waited for a while."""
        submitted = claim.job.submitted_at
        if self._subscription is None or submitted is None:
            return
        if claim.attempt > 1 or claim.job.defect:
            return  # told of before, and made to wait since
        if (self._shared.clock.now() - submitted).total_seconds() > _PUSH_WITHIN:
            self._tell(None)
            self.close()
            self.pushed = True

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
