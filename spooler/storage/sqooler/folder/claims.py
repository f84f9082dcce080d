"""The claims of a folder storage: made, extended, taken over, given back by one rename each.

A claim's name changes under its holder: one thread renews while another starts, shows or ends.
So a name that somebody knows is a hint; the claim is found by its token under any newer one.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from spooler.durable import Disk, OpenFile, exists
from spooler.errors import BackendUnavailable, JobGone, LeaseLost, Scope
from spooler.model.claim import Attempt, Claim, Lease
from spooler.model.job import Job
from spooler.storage.kit.notices import Notices
from spooler.storage.sqooler.folder.history import FolderHistory, Past
from spooler.storage.sqooler.folder.layout import ClaimName, Layout, Phase
from spooler.storage.sqooler.folder.reading import JobReader

Found = TypeVar("Found")

#: How often a name is looked for that somebody changes at the same time.
_LOOKS = 5


class FolderClaims:
    """Who holds which job."""

    def __init__(
        self,
        layout: Layout,
        disk: Disk,
        reader: JobReader,
        history: FolderHistory,
        notices: Notices,
    ) -> None:
        self._layout = layout
        self._disk = disk
        self._reader = reader
        self._history = history
        self._notices = notices
        #: Our own threads change names one after the other; by token, the last name each.
        self._lock = threading.Lock()
        self._newest: dict[str, ClaimName] = {}

    # --- taking -----------------------------------------------------------------------------

    def take(self, job: Job, past: Past, lease: Lease) -> Claim | None:
        """Move a waiting job file to a claim of ours; None when somebody was faster."""
        attempt = 1 + max((each.number for each in past.attempts), default=0)
        name = ClaimName.first(job.id, attempt, lease)
        place = self._layout.claim(job.queue, name)
        try:
            self._disk.rename(self._layout.waiting(job.queue, job.id), place)
        except FileNotFoundError:
            return None
        # Not synced: a claim that a power cut undoes is a job that waits again. The start is.
        with suppress(OSError):
            self._disk.link(place, self._layout.running(job.id))
        cancelled = self._cancelled(job.queue, job.id)
        return Claim(job, lease, attempt, str(name), cancelled=cancelled, history=past.attempts)

    def runs_elsewhere(self, job_id: str) -> bool:
        """Whether a job of that id is claimed, in any queue: sqooler shows all in one folder.

        A link that no claim stands behind was left by a power cut or an operator: it is put aside.
        """
        link = self._layout.running(job_id)
        if not exists(link):
            return False
        for _ in range(2):  # a listing may miss a file that is renamed meanwhile
            names = Path(self._layout.claims("")).glob(f"*/{job_id}.*")
            if any(ClaimName.parse(each.name) for each in names):
                return True
        with suppress(OSError):
            self._disk.put_aside(link)
            self._notices.warn_once(
                link, f"{link} showed a job that nobody runs; it was put aside, and the job runs"
            )
        return False

    def show_no_more(self, job_id: str) -> None:
        """Take the job off the running ones; what is only shown keeps nothing from its end."""
        with suppress(OSError):
            self._disk.remove(self._layout.running(job_id))

    def recall(self, queue: str, lease: Lease) -> Claim | None:
        """Return the claim that a call with this lease has made before its answer was lost."""
        for name in self.names(queue):
            if (name.process, name.token) == (lease.owner.process, lease.token):
                return self._claim(queue, name, lease)
        return None

    # --- holding ----------------------------------------------------------------------------

    def start(self, claim: Claim) -> Claim:
        """Make the job durable, then say in the claim's name that it has started."""
        if self._disk.sync:
            with self._lock:
                file = self._by_name(claim, lambda place, _: OpenFile(place))
            with file:
                file.settle()
        started = self.renew(claim, Phase.STARTED)
        folder = self._layout.claims(claim.job.queue)
        self._disk.settle(folder, self._layout.queue(claim.job.queue))
        return started

    def renew(self, claim: Claim, phase: Phase | None = None) -> Claim:
        """Give a sign of life, and look whether the submitter has withdrawn the job."""
        name = self.advance(claim, phase)
        cancelled = self._cancelled(claim.job.queue, claim.job.id)
        started = claim.started or name.phase is Phase.STARTED
        return replace(claim, handle=str(name), started=started, cancelled=cancelled)

    def advance(self, claim: Claim, phase: Phase | None) -> ClaimName:
        """Rename a claim to its next name, which every observer sees as a sign of life."""

        def rename(place: str, name: ClaimName) -> ClaimName:
            after = name.then(phase=phase or name.phase)
            self._disk.rename(place, self._layout.claim(claim.job.queue, after))
            self._newest[claim.lease.token] = after
            return after

        with self._lock:
            return self._by_name(claim, rename)

    def forget(self, token: str) -> None:
        """The claim is not ours any more; harmless to repeat."""
        with self._lock:
            self._newest.pop(token, None)

    def give_back(
        self, claim: Claim, reason: str, *, refund: bool, delay: float, at: datetime
    ) -> None:
        """Move the job file back to its queue; its age, and so its place, is unchanged."""
        name = self.present(claim)
        if name is None or name.phase.committed:
            raise self.lost(claim)
        if not refund or delay:
            started = claim.started or name.phase is Phase.STARTED
            ended = Attempt(claim.attempt, str(claim.lease.owner), at, reason, started=started)
            self._history.note(claim, None if refund else ended, delay)
        queue, job_id = claim.job.queue, claim.job.id
        self.show_no_more(job_id)
        back = self._layout.waiting(queue, job_id)
        with self._lock:
            self._by_name(claim, lambda place, _: self._disk.rename(place, back))
        self._disk.settle(self._layout.queue(queue), self._layout.claims(queue))

    def present(self, claim: Claim) -> ClaimName | None:
        """Return the present name of a claim; None when it is gone."""
        with self._lock:
            for name in self._hints(claim):
                if exists(self._layout.claim(claim.job.queue, name)):
                    return name
            return self._find(claim)

    def holds(self, claim: Claim) -> bool:
        """Whether the claim is still ours, and its end not decided."""
        name = self.present(claim)
        return name is not None and not name.phase.committed

    def _by_name(self, claim: Claim, step: Callable[[str, ClaimName], Found]) -> Found:
        """Do a step with the file of a claim, wherever it lies by now; LeaseLost when it is gone.

        Among our own threads the lock keeps the name; a process that was taken for dead may still
        change it in between.
        """
        for hint in (*self._hints(claim), *[None] * _LOOKS):
            name = hint or self._find(claim)
            if name is None or name.phase.committed:
                raise self.lost(claim)
            try:
                return step(self._layout.claim(claim.job.queue, name), name)
            except FileNotFoundError:
                continue
        raise BackendUnavailable(
            f"job {claim.job.id}: the name of its claim changes all the time", scope=Scope.JOB
        )

    def _hints(self, claim: Claim) -> list[ClaimName]:
        """Return the newest name that we know of a claim."""
        name = self._newest.get(claim.lease.token) or ClaimName.parse(claim.handle)
        return [name] if name is not None and name.names(claim) else []

    def _find(self, claim: Claim) -> ClaimName | None:
        """Look for a claim by its token."""
        for _ in range(2):  # a listing may miss a file that is renamed meanwhile
            for name in self.names(claim.job.queue):
                if name.names(claim):
                    return name
        return None

    def lost(self, claim: Claim) -> LeaseLost:
        """Return the error for a claim that is not there: it was taken over, or deleted."""
        queue, job_id = claim.job.queue, claim.job.id
        if (
            exists(self._layout.waiting(queue, job_id))
            or exists(self._layout.report(queue, job_id))
            or any(name.job_id == job_id for name in self.names(queue))
        ):
            return LeaseLost(
                f"job {job_id} is no longer held by {claim.lease.owner} (attempt {claim.attempt})"
            )
        return JobGone(f"job {job_id} was deleted from the folder")

    # --- taking over ------------------------------------------------------------------------

    def take_over(self, queue: str, name: ClaimName, lease: Lease) -> Claim | None:
        """Make somebody's claim ours; None when somebody was faster."""
        mine = name.held_by(lease)
        try:
            self._disk.rename(self._layout.claim(queue, name), self._layout.claim(queue, mine))
            self._disk.settle(self._layout.claims(queue))
            return self._claim(queue, mine, lease)
        except FileNotFoundError:
            return None

    def names(self, queue: str) -> list[ClaimName]:
        """Return the names of all claims of a queue."""
        folder = self._layout.claims(queue)
        if not exists(folder):
            return []
        with os.scandir(folder) as entries:
            files = [each.name for each in entries if each.is_file(follow_symlinks=False)]
        return [name for name in map(ClaimName.parse, files) if name is not None]

    def _claim(self, queue: str, name: ClaimName, lease: Lease) -> Claim:
        """Read the claim behind a name that is ours."""
        return Claim(
            self._reader.claimed(queue, name.job_id, self._layout.claim(queue, name)),
            lease,
            name.attempt,
            str(name),
            started=name.phase is Phase.STARTED,
            cancelled=self._cancelled(queue, name.job_id),
            history=self._history.past(queue, name.job_id).attempts,
        )

    def _cancelled(self, queue: str, job_id: str) -> bool:
        return exists(self._layout.cancel(queue, job_id))
