"""Proof of death: who can lock what a process leaves behind knows that it is dead.

A claim names the estate of its owner: `<state>/records/<process>`. Busy, missing, or another
mount under the same path: then nothing is known, and the lease decides. Where the lock can be
had, the process is dead, and its legacy is cared for first: a report of that claim is delivered
in place; without one the claim is nobody's, now.

A path in a claim is foreign bytes. It counts only below the folders that are given as roots, or
where a daemon beside ours has its state; each step there is a real folder of our own user.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from spooler.daemon.claims.records import PARKED, Opened, Phase, Records
from spooler.durable import unavailable
from spooler.model.claim import Claim, Owner
from spooler.model.storage import Standing

#: Who may own the folder in which another daemon has its state.
_ROOT = 0


class Estates:
    """The estates of dead processes that are cared for here, as far as one storage goes."""

    def __init__(
        self,
        mine: Records,
        roots: tuple[Path, ...],
        opened: Opened,
        unreadable: Callable[[Path, str], None],
    ) -> None:
        """`roots` hold the state folders whose daemons may be cared for.

        So do the folders beside our own one, where a state folder there is called like ours.
        """
        self._mine = mine
        self._records = mine.folder.parent.parent
        self._roots = roots
        self._opened = opened
        self._unreadable = unreadable
        self._guard = threading.Lock()
        #: By the folder of the process.
        self._legacies: dict[Path, Records] = {}
        #: Files that cannot be used, by the folder of the process.
        self._doubtful: dict[Path, set[str]] = {}
        self._told: set[Path] = set()

    def __iter__(self) -> Iterator[Records]:
        """Our own records, and those that are cared for."""
        with self._guard:
            legacies = list(self._legacies.values())
        return iter((self._mine, *legacies))

    def tokens(self) -> set[str]:
        """Return the tokens of all claims that are written down in them."""
        return set().union(*(each.tokens() for each in self))

    def standing(self, claim: Claim) -> Standing:
        """Return what is known of the holder of somebody's claim."""
        estate = self._estate_of(claim.lease.owner)
        if estate is None or estate == self._mine.folder.parent:
            return Standing.LEASED
        legacy = self._adopted(estate)
        if legacy is None or claim.lease.token in self._doubtful.get(estate, ()):
            return Standing.LEASED
        record = legacy.get(claim.lease.token)
        if record is not None and record.phase is not Phase.HELD:
            return Standing.SPARED
        return Standing.DEAD if legacy.proves_death else Standing.LEASED

    def adopt_siblings(self) -> None:
        """Take up what earlier processes of this state folder have left.

        Raises BackendUnavailable when the folder cannot be read: it may hold a report.
        """
        try:
            found = sorted(self._records.iterdir())
        except FileNotFoundError:
            return
        except OSError as error:
            raise unavailable(error, self._records) from error
        for process in found:
            if process.name == PARKED or process == self._mine.folder.parent:
                continue
            if self._adopted(process, make=True) is None:
                self._tell_of_another_users(process)

    def restore(self) -> bool:
        """Write anew what was removed from our disk; whether anything was.

        Raises BackendUnavailable.
        """
        return any([each.restore() for each in self])

    def let_go(self) -> None:
        """Close the estates in which nothing is left to be done."""
        with self._guard:
            done = [folder for folder, each in self._legacies.items() if not len(each)]
            closing = [self._legacies.pop(folder) for folder in done]
        for each in closing:
            each.let_go()

    def close(self) -> None:
        """Let go of everything; what is not done is left to the next who comes."""
        with self._guard:
            closing, self._legacies = list(self._legacies.values()), {}
        for each in (*closing, self._mine):
            each.let_go()

    def abandon(self) -> None:
        """Unlock everything and leave it as it is, as the death of the process does."""
        for each in self:
            each.abandon()

    def _tell_of_another_users(self, process: Path) -> None:
        """Say once of records in our own state folder that somebody else has left there."""
        for folder in (process, process / self._mine.folder.name):
            try:
                owner = os.lstat(folder).st_uid
            except OSError:
                return
            if owner != os.geteuid() and folder not in self._told:
                self._told.add(folder)
                self._unreadable(
                    folder, "it belongs to another user; chown it to the user that runs spooler"
                )

    # --- one estate -------------------------------------------------------------------------

    def _adopted(self, process: Path, *, make: bool = False) -> Records | None:
        """Return the records of a dead process; None when it lives, or nothing can be known.

        In our own state folder a missing lock is made: a report may wait there.
        """
        folder = process / self._mine.folder.name
        with self._guard:
            known = self._legacies.get(process)
            if known is not None:
                return known
            legacy = Records(folder)
            try:
                if not _is_ours(folder) or not legacy.lock(make=make):
                    return None
                told, doubtful = self._doubtful.get(process, set()), set[str]()

                def unreadable(path: Path, why: str) -> None:
                    doubtful.add(path.stem)
                    if path.stem not in told:  # an estate is let go, and looked at again
                        self._unreadable(path, why)

                legacy.load(self._opened, unreadable)
            except OSError:
                legacy.let_go()
                return None
            self._doubtful[process] = doubtful
            self._legacies[process] = legacy
            return legacy

    def _estate_of(self, owner: Owner) -> Path | None:
        """Return the folder of a process as its claim names it, when that may be looked at."""
        text = owner.estate
        if not text.startswith("/") or "\0" in text or os.path.normpath(text) != text:
            return None
        estate = Path(text)
        if estate.name != owner.process or estate.parent.name != self._records.name:
            return None
        state, own = estate.parent.parent, self._records.parent
        if state.parent not in self._roots:
            # Else each daemon has a folder of its own: `a/state` and `b/state` are siblings too.
            if (state.name, state.parent.parent) != (own.name, own.parent.parent):
                return None
            if not _is_ours(state.parent, _ROOT):
                return None
        return estate if all(map(_is_ours, (state, estate.parent, estate))) else None


def _is_ours(folder: Path, *others: int) -> bool:
    """Return whether this is a folder of our own user, or one of the others, and no link to one."""
    try:
        found = os.lstat(folder)
    except (OSError, ValueError):
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid in {os.geteuid(), *others}
