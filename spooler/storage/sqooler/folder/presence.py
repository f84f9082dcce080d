"""Whether the folder is there, and how far a trouble with it reaches.

A disk that is not mounted looks like an empty folder. The first daemon leaves a marker, before its
first claim. Once this process has seen it, or holds a claim that was made here by an earlier one,
a folder without it is a storage that is away: nothing is made in its place, and nothing is
concluded from what is missing in it.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from spooler.durable import Disk, demand_writable, exists, unavailable
from spooler.errors import BackendUnavailable, LeaseLost, Scope
from spooler.storage.sqooler.folder.layout import Layout


class FolderPresence:
    """Knows whether the storage's folder has been seen, and whether it is there.

    `disk` makes no folder in the place of one that is away, and follows no link below it.
    """

    def __init__(self, layout: Layout, *, sync: bool) -> None:
        self._layout = layout
        self.disk = Disk(sync=sync, guard=self.demand).beneath(layout.base)
        self._lock = threading.Lock()
        #: Whether the folder has been used: from then on it must be there.
        self.seen = False

    def mark(self) -> None:
        """Leave the marker where there is none yet, before anything else is written."""
        if self.seen:
            return
        with self._lock:
            if not exists(self._layout.marker):
                # Two daemons may begin at once.
                mark = uuid.uuid4().hex[:12]
                self.disk.publish(self._layout.marker, b'{"storage": "sqooler folder"}', mark=mark)
            self.seen = True

    def demand(self) -> None:
        """Raise BackendUnavailable when the folder that we have used is not there."""
        if self.seen and not exists(self._layout.marker):
            demand_writable(self._layout.base)
            raise BackendUnavailable(
                f"{self._layout.base}: the storage folder is missing or empty: it has no "
                "spooler/storage.json (not mounted?); nothing is lost meanwhile"
            )

    @contextmanager
    def asked(self, scope: Scope) -> Iterator[None]:
        """Turn errors of the operating system into the daemon's, around a verb of that scope."""
        try:
            with self.disk.visited():
                yield
        except LeaseLost:
            self.demand()  # what is missing proves nothing while the folder itself is missing
            raise
        except OSError as error:
            raise self.trouble(error, scope) from error

    def trouble(self, error: OSError, scope: Scope) -> BackendUnavailable:
        """Return the daemon's error for one of the operating system, in a verb of that scope."""
        self.demand()
        return unavailable(error, error.filename or self._layout.base, scope)
