"""Wake-ups by a change stream: one thread per watched queue, which comes back after an outage."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from bson.objectid import ObjectId
from pymongo.change_stream import ChangeStream
from pymongo.errors import OperationFailure, PyMongoError

from spooler.storage.sqooler.mongodb.layout import Documents, Raw

#: The longest that one question to the server waits for news, and so the longest to close.
_AWAIT_MS = 1000
_PAUSES = (0.1, 0.5, 1.0, 2.0, 5.0)
#: What a server says when it no longer has what came after the last news we know.
_HISTORY_LOST = {136, 222, 260, 280, 286}
#: So long (seconds) a listed job may go without its news before the stream counts as silent.
_NEWS_WITHIN = 2.0
_REMEMBERED = 1000

_ARRIVALS: list[dict[str, Any]] = [
    {"$match": {"operationType": {"$in": ["insert", "replace"]}}},
    {"$project": {"documentKey": 1}},
]


class MongoWatch:
    """Calls `wake` for each job that arrives in a queue."""

    def __init__(
        self,
        queue: Raw,
        device: str,
        wake: Callable[[], None],
        monotonic: Callable[[], float],
    ) -> None:
        self._queue: Documents = queue.with_options(codec_options=queue.database.codec_options)
        self._wake = wake
        self._monotonic = monotonic
        self._stopping = threading.Event()
        self._silent = threading.Event()
        self._open = threading.Event()
        self._after: Any = None
        #: Jobs whose arrival the stream has told, the newest of them.
        self._told: deque[ObjectId] = deque(maxlen=_REMEMBERED)
        #: Jobs that a listing has shown and the stream has not told yet: since when.
        self._untold: dict[ObjectId, float] = {}
        self._known: set[ObjectId] | None = None
        #: Whether something may have come while there was no stream.
        self._behind = False
        self._thread = threading.Thread(target=self._run, name=f"watch-{device}", daemon=True)
        self._thread.start()
        # So that nothing that comes after this call goes by unseen. A server that is away
        # delays nobody: the stream is opened when it is back, and `wake` called then.
        if not self._open.wait(_AWAIT_MS / 1000):
            self._behind = True

    def close(self) -> None:
        self._stopping.set()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout=5.0)

    @property
    def closed(self) -> bool:
        """Return whether nobody wants it any more."""
        return self._stopping.is_set()

    def expect(self, listed: set[ObjectId]) -> None:
        """Compare the news with what a listing shows; begin anew when some never came."""
        now = self._monotonic()
        known, self._known = self._known, listed
        if known is None or not self._open.is_set():
            self._untold = {}
            return
        told = set(tuple(self._told))  # the thread goes on meanwhile
        since = {each: self._untold.get(each, now) for each in listed - known - told}
        since |= {each: at for each, at in self._untold.items() if each not in told}
        if any(now - at > _NEWS_WITHIN for at in since.values()):
            self._silent.set()
            since = {}
        self._untold = dict(list(since.items())[-_REMEMBERED:])

    # --- the thread -------------------------------------------------------------------------

    def _run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            try:
                with self._stream() as stream:
                    self._open.set()
                    if self._behind:
                        self._wake()  # something may have come before
                    while self._listen(stream):
                        failures = 0
            except OperationFailure as error:
                if error.code in _HISTORY_LOST:
                    self._after = None
            except PyMongoError:
                pass  # an outage: the poll goes on, and tells of it
            self._open.clear()
            self._behind = True
            if self._silent.is_set():
                self._silent.clear()
                continue
            self._stopping.wait(_PAUSES[min(failures, len(_PAUSES) - 1)])
            failures += 1

    def _stream(self) -> ChangeStream[Any]:
        return self._queue.watch(_ARRIVALS, resume_after=self._after, max_await_time_ms=_AWAIT_MS)

    def _listen(self, stream: ChangeStream[Any]) -> bool:
        """Wait a little for news; whether to go on."""
        change = stream.try_next()
        self._after = stream.resume_token or self._after
        if change is not None:
            self._told.append(change["documentKey"]["_id"])
            self._wake()
        return stream.alive and not self._stopping.is_set() and not self._silent.is_set()
