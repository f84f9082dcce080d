"""The claims of a folder storage: made, extended, taken over, given back by one rename each.

A claim's name changes under its holder: one thread renews while another starts, shows or ends.
So a name that somebody knows is a hint; the claim is found by its token under any newer one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import TypeAlias, TypeVar

from spooler.durable import Disk, exists
from spooler.errors import BackendUnavailable, JobGone, LeaseLost, Scope
from spooler.model.claim import Attempt, Claim, Lease
from spooler.model.job import Job
from spooler.storage.kit.notices import Notices
from spooler.storage.sqooler.folder.layout import COMMITTED, ClaimName, Layout, Phase
from spooler.storage.sqooler.folder.notes import FolderHistory, Past, claim_names
from spooler.storage.sqooler.folder.queue import Not
from spooler.storage.sqooler.folder.reading import JobReader

Found = TypeVar("Found")
#: What stays the same of a claim under all of its names: job, attempt, token.
_Key: TypeAlias = tuple[str, int, str]

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
        #: Our own threads change names one after the other; the last name of each claim of ours.
        self._lock = threading.Lock()
        self._newest: dict[_Key, ClaimName] = {}

    # --- taking -----------------------------------------------------------------------------

    def take(self, job: Job, past: Past, lease: Lease) -> Claim | Not:
        """Move a waiting job file to a claim of ours, unless a job of that id runs elsewhere."""
        if self.runs_elsewhere(job.id, job.queue):
            return Not.YET
        attempt = 1 + max((each.number for each in past.attempts), default=0)
        name = ClaimName.first(job.id, attempt, lease)
        places, file = self._layout.queues[job.queue], f"{job.id}.json"
        place = f"{places.claims}/{name.text}"
        try:
            self._disk.rename(f"{places.queued}/{file}", place)
        except FileNotFoundError:
            return Not.HERE
        # Not synced: a claim that a power cut undoes is a job that waits again. The start is.
        with suppress(OSError):
            self._disk.link(place, f"{self._layout.running}/{file}")
        cancelled = self.withdrawn(job.queue, job.id)
        claim = Claim(job, lease, attempt, name.text, cancelled=cancelled, history=past.attempts)
        with self._lock:
            self._newest[_key(claim)] = name
        return claim

    def runs_elsewhere(self, job_id: str, queue: str) -> bool:
        """Whether a job of that id is claimed, in any queue: sqooler shows all in one folder.

        One that waits in `queue` for a claim in another is told of once. A link that no claim
        stands behind was left by a power cut or an operator: it is put aside.
        """
        link = f"{self._layout.running}/{job_id}.json"
        if not exists(link):
            return False
        for _ in range(2):  # a listing may miss a file that is renamed meanwhile
            names = claim_names(self._disk, self._layout)
            others = {where for where, name in names if name.job_id == job_id}
            if not others <= {queue}:
                where = ", ".join(sorted(others))
                text = f"job {job_id} waits: a job of that id is claimed in another queue: {where}"
                self._notices.warn_once(link, text)
            if others:
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
            self._disk.remove(f"{self._layout.running}/{job_id}.json")

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
                file = self._by_name(claim, lambda place, _: self._disk.open_file(place))
            with file:
                file.settle()
        started = self.renew(claim, Phase.STARTED)
        places = self._layout.queues[claim.job.queue]
        self._disk.settle(places.claims, places.queued)
        return started

    def renew(self, claim: Claim, phase: Phase | None = None) -> Claim:
        """Give a sign of life, and look whether the submitter has withdrawn the job."""
        name = self.advance(claim, phase)
        cancelled = self.withdrawn(claim.job.queue, claim.job.id)
        started = claim.started or name.phase is Phase.STARTED
        return replace(claim, handle=name.text, started=started, cancelled=cancelled)

    def advance(self, claim: Claim, phase: Phase | None) -> ClaimName:
        """Rename a claim to its next name, which every observer sees as a sign of life."""

        def rename(place: str, name: ClaimName) -> ClaimName:
            after = name.then(phase=phase or name.phase)
            folder = self._layout.queues[claim.job.queue].claims
            self._disk.rename(place, f"{folder}/{after.text}")
            self._newest[_key(claim)] = after
            return after

        with self._lock:
            return self._by_name(claim, rename)

    def forget(self, claim: Claim) -> None:
        """The claim is not ours any more; harmless to repeat."""
        with self._lock:
            self._newest.pop(_key(claim), None)

    def give_back(
        self, claim: Claim, reason: str, *, refund: bool, delay: float, at: datetime
    ) -> None:
        """Move the job file back to its queue; its age, and so its place, is unchanged."""
        name = self.present(claim)
        if name is None or name.phase in COMMITTED:
            raise self.lost(claim)
        if not refund or delay:
            started = claim.started or name.phase is Phase.STARTED
            ended = Attempt(claim.attempt, str(claim.lease.owner), at, reason, started=started)
            self._history.note(claim, None if refund else ended, delay)
        places = self._layout.queues[claim.job.queue]
        self.show_no_more(claim.job.id)
        back = f"{places.queued}/{claim.job.id}.json"
        with self._lock:
            self._by_name(claim, lambda place, _: self._disk.rename(place, back))
        self._disk.settle(places.queued, places.claims)

    def present(self, claim: Claim) -> ClaimName | None:
        """Return the present name of a claim; None when it is gone."""
        folder = self._layout.queues[claim.job.queue].claims
        with self._lock:
            for name in self._hints(claim):
                if exists(f"{folder}/{name.text}"):
                    return name
            return self._find(claim)

    def holds(self, claim: Claim) -> bool:
        """Return whether the claim is still ours, and its end not decided."""
        name = self.present(claim)
        return name is not None and name.phase not in COMMITTED

    def _by_name(self, claim: Claim, step: Callable[[str, ClaimName], Found]) -> Found:
        """Do a step with the file of a claim, wherever it lies by now; LeaseLost when it is gone.

        Among our own threads the lock keeps the name; a process that was taken for dead may still
        change it in between.
        """
        folder = self._layout.queues[claim.job.queue].claims
        for hint in (*self._hints(claim), *[None] * _LOOKS):
            name = hint or self._find(claim)
            if name is None or name.phase in COMMITTED:
                raise self.lost(claim)
            try:
                return step(f"{folder}/{name.text}", name)
            except FileNotFoundError:
                continue
        raise BackendUnavailable(
            f"job {claim.job.id}: the name of its claim changes all the time", scope=Scope.JOB
        )

    def _hints(self, claim: Claim) -> list[ClaimName]:
        """Return the newest name that we know of a claim."""
        if (known := self._newest.get(_key(claim))) is not None:
            return [known]
        name = ClaimName.parse(claim.handle)
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
        places = self._layout.queues[queue]
        if (
            exists(f"{places.queued}/{job_id}.json")
            or exists(f"{places.reports}/{job_id}.json")
            or any(name.job_id == job_id for name in self.names(queue))
        ):
            return LeaseLost(
                f"job {job_id} is no longer held by {claim.lease.owner} (attempt {claim.attempt})"
            )
        return JobGone(f"job {job_id} was deleted from the folder")

    # --- taking over ------------------------------------------------------------------------

    def take_over(self, queue: str, name: ClaimName, lease: Lease) -> Claim | None:
        """Make somebody's claim ours; None when somebody was faster."""
        mine, folder = name.held_by(lease), self._layout.queues[queue].claims
        try:
            self._disk.rename(f"{folder}/{name.text}", f"{folder}/{mine.text}")
            self._disk.settle(folder)
            return self._claim(queue, mine, lease)
        except FileNotFoundError:
            return None

    def names(self, queue: str) -> list[ClaimName]:
        """Return the names of all claims of a queue."""
        with self._disk.entries(self._layout.queues[queue].claims) as entries:
            files = [each.name for each in entries if each.is_file(follow_symlinks=False)]
        return [name for name in map(ClaimName.parse, files) if name is not None]

    def _claim(self, queue: str, name: ClaimName, lease: Lease) -> Claim:
        """Read the claim behind a name that is ours."""
        place = f"{self._layout.queues[queue].claims}/{name.text}"
        return Claim(
            self._reader.claimed(queue, name.job_id, place),
            lease,
            name.attempt,
            name.text,
            started=name.phase is Phase.STARTED,
            cancelled=self.withdrawn(queue, name.job_id),
            history=self._history.past(queue, name.job_id).attempts,
        )

    def withdrawn(self, queue: str, job_id: str) -> bool:
        """Return whether the submitter of a job has withdrawn it."""
        return exists(f"{self._layout.queues[queue].cancels}/{job_id}.json")


def _key(claim: Claim) -> _Key:
    return claim.job.id, claim.attempt, claim.lease.token
