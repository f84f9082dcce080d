"""Tells once that a storage, or one of its queues, is away, and once that it is back."""

from __future__ import annotations

import threading
from collections.abc import Callable

from spooler.errors import BackendUnavailable, KeyRefused, Scope
from spooler.observe.events import EventName, Observer
from spooler.protocols import Clock

#: What is away when it is not one queue alone.
_ALL = ""


class Outage:
    """One storage, as all threads of one daemon find it. Safe to use from any thread.

    Trouble with one job is none: it waits alone, and nobody else is kept waiting.
    """

    def __init__(
        self,
        observer: Observer,
        clock: Clock,
        *,
        ended: Callable[[], None] = lambda: None,
        **about: object,
    ) -> None:
        """`ended` is called when the storage is back; `about` goes with each event."""
        self._ended = ended
        self._ended_at = float("-inf")
        #: What all its events say: which storage it is.
        self.about = about
        self._observer = observer
        self._clock = clock
        self._lock = threading.Lock()
        self._since: dict[str, float] = {}
        #: By queue: whose trouble with it lasts.
        self._whose: dict[str, set[str]] = {}
        #: Queues of which nothing may be claimed, by the duty that found it out.
        self._closed: dict[str, str] = {}

    @property
    def lasts(self) -> bool:
        """Return whether the storage was away when somebody last asked it."""
        return _ALL in self._since

    def over_for(self, seconds: float) -> bool:
        """Whether no outage of the storage lasts, and none was over less than `seconds` ago."""
        return not self.lasts and self._clock.monotonic() - self._ended_at >= seconds

    def noticed(
        self, error: BackendUnavailable, queue: str = _ALL, *, by: str = "", **fields: object
    ) -> None:
        """What was asked was not done; `fields` say what that was about.

        A queue can be in trouble for one duty and not for another; `by` names the duty.
        """
        if error.scope is Scope.JOB:
            return
        what = _ALL if error.scope is Scope.STORAGE else queue
        with self._lock:
            if what:
                self._whose.setdefault(what, set()).add(by)
            if what in self._since:
                return
            self._since[what] = self._clock.monotonic()
        event = EventName.QUEUE_UNAVAILABLE if what else EventName.STORAGE_UNAVAILABLE
        named = {"queue": what} if what else {}
        self._observer.emit(event, error=str(error), **self.about, **named, **fields)

    def close(self, error: KeyRefused, queue: str, *, by: str) -> None:
        """A queue is somebody else's now: nothing is claimed there until that duty is `over`."""
        self._closed[queue] = by
        self.noticed(BackendUnavailable(str(error), scope=Scope.QUEUE), queue, by=by)

    def closes(self, queue: str) -> bool:
        """Whether nothing may be claimed of a queue, though the storage would give jobs away."""
        return self.lasts or queue in self._closed

    def over(self, queue: str = _ALL, *, by: str = "", **fields: object) -> None:
        """What was asked of the storage, and of `queue` where one is named, has been done.

        A queue has recovered when no duty has trouble with it any more.
        """
        if not self._since:  # the usual case costs no lock
            return
        for what in {_ALL, queue}:
            with self._lock:
                if self._closed.get(what) == by:
                    del self._closed[what]
                self._whose.get(what, set()).discard(by)
                since = None if self._whose.get(what) else self._since.pop(what, None)
                if since is not None and not what:
                    self._ended_at = self._clock.monotonic()
            if since is None:
                continue
            event = EventName.QUEUE_RECOVERED if what else EventName.STORAGE_RECOVERED
            named = {"queue": what} if what else {}
            seconds = round(self._clock.monotonic() - since, 1)
            self._observer.emit(event, seconds=seconds, **self.about, **named, **fields)
            if not what:
                self._ended()
