"""Who the processes in the names of claims are: one small file for each that has ever claimed."""

from __future__ import annotations

import json
import threading
from pathlib import Path

from spooler.durable import Disk
from spooler.model.claim import Owner
from spooler.storage.liveness import certainly_dead
from spooler.storage.sqooler.folder.documents import document
from spooler.storage.sqooler.folder.layout import Layout

#: More than any process number of Linux.
_NO_PID = 2**31


class FolderOwners:
    """The files below `spooler/owners`."""

    def __init__(self, layout: Layout, disk: Disk) -> None:
        self._layout = layout
        self._disk = disk
        self._lock = threading.Lock()
        self._introduced: set[str] = set()
        self._known: dict[str, Owner] = {}

    def introduce(self, owner: Owner) -> None:
        """Write down who the process in our claim names is, before the first claim."""
        with self._lock:
            if owner.process in self._introduced:
                return
            content = {"host": owner.host, "pid": owner.pid, "process": owner.process}
            place = self._layout.owner(owner.process)
            self._disk.publish(place, json.dumps(content).encode(), mark=owner.process[-8:])
            self._introduced.add(owner.process)
        self._forget_the_dead(owner)

    def dead(self, process: str, me: Owner) -> bool:
        """Whether the process in a claim's name is certainly dead."""
        owner = self._owner(process)
        return owner is not None and certainly_dead(owner, me)

    def forget(self) -> None:
        """Remove what was written down about us, unless claims of ours remain."""
        with self._lock:
            for process in self._introduced:
                if not self._holds(process):
                    self._disk.remove(self._layout.owner(process))
            self._introduced.clear()

    def _forget_the_dead(self, me: Owner) -> None:
        """Remove what killed processes of this host have written down, once nothing needs it."""
        for place in Path(self._layout.owner(me.process)).parent.glob("*.json"):
            if self.dead(place.stem, me) and not self._holds(place.stem):
                self._disk.remove(place)

    def _holds(self, process: str) -> bool:
        """Whether there are claims of that process."""
        return any(Path(self._layout.all_claims()).glob(f"*/*.{process}.*"))

    def _owner(self, process: str) -> Owner | None:
        """Who a process in a claim name is; None when that is not (any more) known."""
        owner = self._known.get(process)
        if owner is None:
            said = document(self._layout.owner(process))
            host, pid, name = (said.get(key) for key in ("host", "pid", "process"))
            if not (isinstance(host, str) and isinstance(pid, int) and name == process):
                return None  # then the lease decides
            if not 0 < pid < _NO_PID:
                return None
            owner = Owner(host, pid, process)
            self._known[process] = owner
        return owner
