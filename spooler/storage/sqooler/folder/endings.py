"""How a job of a folder storage is answered: progress, and the end.

The end: stage the documents, commit by one rename, publish.

Staged documents lie beside their places under names that readers skip. The commit is the rename
of the claim to a committed name: before it nothing of this attempt is visible, after it anybody
can complete the publication, and no other attempt can begin. Each step of the publication is a
rename whose source is gone when it has been done, so it may be repeated by anyone, at any time.

So a final status is always a file of its own. Progress goes into the file that stood there before
the claim was looked at: however long this process stands still before it writes, what it writes
into has no name any more once the job has ended.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from spooler.durable import Disk, beside, exists
from spooler.errors import BackendUnavailable, LeaseLost, Scope
from spooler.model.claim import Claim
from spooler.model.result import SignedReport
from spooler.model.state import State
from spooler.protocols import Clock
from spooler.storage.kit.notices import Notices
from spooler.storage.sqooler.folder.claims import FolderClaims
from spooler.storage.sqooler.folder.layout import COMMITTED, ClaimName, Layout, Phase
from spooler.storage.sqooler.rendering import Renderer, report_beginning, report_document

#: sqooler's client uploads the job first and its first status second, and the second upload
#: fails when there is a status already. So long (in seconds, from the upload of the job) the end
#: of a job waits until that first status is there, and is asked for again after ...
FIRST_STATUS_WITHIN = 2.0
_AGAIN_AFTER = 0.02


class FolderEndings:
    """Writes results, statuses and reports."""

    def __init__(
        self,
        layout: Layout,
        disk: Disk,
        clock: Clock,
        claims: FolderClaims,
        renderer: Renderer,
        *,
        notices: Notices,
    ) -> None:
        self._layout = layout
        self._disk = disk
        self._clock = clock
        self._claims = claims
        self._renderer = renderer
        self._notices = notices
        #: The tokens of the claims that are being ended, and when that changes.
        self._ending: set[str] = set()
        self._changed = threading.Condition()

    def documents(self, claim: Claim, signed: SignedReport) -> list[tuple[str, bytes]]:
        """Return what the end of this job writes: into which folders, and which contents."""
        report, places = signed.report, self._layout.queues[claim.job.queue]
        found = [
            (places.reports, report_document(claim, signed)),
            (places.status, self._renderer.final_status(report)),
        ]
        if report.status.state is State.DONE:
            found.insert(0, (places.results, self._renderer.result(report)))
        return found

    def show(self, claim: Claim, text: str) -> None:
        """Show progress where there is a status already: the first is the client's."""
        place = f"{self._layout.queues[claim.job.queue].status}/{claim.job.id}.json"
        try:
            status = self._disk.open_file(place, writing=True)
        except FileNotFoundError:
            return
        except PermissionError:
            self._notices.warn_once(
                "progress",
                f"{place} cannot be written, so progress is not shown; give the user that runs "
                "spooler access to the files below status/",
            )
            return
        with status:
            # A second name may be somebody's other file.
            if self._claims.holds(claim) and status.names == 1:
                status.rewrite(self._renderer.status(claim.job.id, State.RUNNING, text))

    def end(self, claim: Claim, signed: SignedReport) -> None:
        """Commit a report and publish it, one thread at a time: both would stage the same files."""
        with self._turn(claim.lease.token):
            committed = self.commit(claim, signed)
            if committed is not None:
                self.publish(claim.job.queue, committed)

    @contextmanager
    def _turn(self, token: str) -> Iterator[None]:
        """Wait until no other thread ends the claim with `token`."""
        with self._changed:
            while token in self._ending:
                self._changed.wait()
            self._ending.add(token)
        try:
            yield
        finally:
            with self._changed:
                self._ending.discard(token)
                self._changed.notify_all()

    def commit(self, claim: Claim, signed: SignedReport) -> ClaimName | None:
        """Stage and commit; None when this very report has been committed and published before."""
        name = self._claims.present(claim)
        if name is None:
            self._demand_ended_by(claim)
            return None
        if name.phase in COMMITTED:
            return name
        self._let_the_client_be_first(claim)
        self._stage(claim, signed)
        done = signed.report.status.state is State.DONE
        phase = Phase.COMMITTED_DONE if done else Phase.COMMITTED_ERROR
        try:
            name = self._claims.advance(claim, phase)
        except LeaseLost:
            if self._claims.present(claim) is None:
                self.unstage(claim.job.queue, claim.job.id, claim.lease.token)
            raise
        self._disk.settle(self._layout.queues[claim.job.queue].claims)
        return name

    def _stage(self, claim: Claim, signed: SignedReport) -> None:
        documents = self.documents(claim, signed)
        self._disk.stage_each(documents, f"{claim.job.id}.json", claim.lease.token)
        self._keep_replaced(claim)
        self._disk.settle(*(folder for folder, _ in documents))

    def _keep_replaced(self, claim: Claim) -> None:
        """Keep what stands where our result will go: nobody's measurement is overwritten.

        Under a second name, and unread: others may have put anything there, of any size.
        """
        places, job_id = self._layout.queues[claim.job.queue], claim.job.id
        result = f"{places.results}/{job_id}.json"
        kept = f"{places.replaced}/{job_id}.{claim.lease.token}.json"
        if not exists(result) or exists(kept):
            return
        if self._disk.link(result, kept):
            self._disk.settle(places.replaced)
        else:
            self._disk.put_aside(result)

    def unstage(self, queue: str, job_id: str, token: str) -> None:
        """Remove what the claim with `token` has staged and can never commit.

        What cannot be removed harms nobody: readers do not see it.
        """
        places, file = self._layout.queues[queue], beside(f"{job_id}.json", token)
        for folder in (places.results, places.reports, places.status):
            with suppress(OSError):
                self._disk.remove(f"{folder}/{file}")

    def _let_the_client_be_first(self, claim: Claim) -> None:
        """Have the report wait while a client may still be between its two uploads."""
        submitted, folder = claim.job.submitted_at, self._layout.queues[claim.job.queue].status
        if submitted is None or exists(f"{folder}/{claim.job.id}.json"):
            return
        age = (self._clock.now() - submitted).total_seconds()
        if 0 <= age < FIRST_STATUS_WITHIN:
            raise BackendUnavailable(
                f"job {claim.job.id} has no first status yet; its client writes it",
                scope=Scope.JOB,
                retry_after=_AGAIN_AFTER,
            )

    def _demand_ended_by(self, claim: Claim) -> None:
        """Raise LeaseLost unless the report in the storage is the one of this claim."""
        folder, mine = self._layout.queues[claim.job.queue].reports, report_beginning(claim)
        try:
            said = self._disk.read(f"{folder}/{claim.job.id}.json", limit=len(mine))
            if said.startswith(mine + b","):
                return
        except FileNotFoundError:
            pass
        raise self._claims.lost(claim)

    def publish(self, queue: str, name: ClaimName) -> None:
        """Complete a committed end: result, report, status, then the job file to its last place."""
        places, disk, file = self._layout.queues[queue], self._disk, f"{name.job_id}.json"
        folders, last = [places.reports, places.status], self._layout.deleted
        if name.phase is Phase.COMMITTED_DONE:
            folders, last = [places.results, *folders], places.finished
        disk.reveal_each(folders, file, name.token)
        for leftover in (f"{places.history}/{file}", f"{places.cancels}/{file}"):
            if exists(leftover):  # they hardly ever are, and asking is cheaper than failing
                disk.remove(leftover)
        disk.settle(*folders)
        self._claims.show_no_more(name.job_id)
        try:
            disk.rename(f"{places.claims}/{name.text}", f"{last}/{file}")
        except FileNotFoundError:
            return  # somebody else has completed it
        # Not synced: a power cut that undoes this leaves a committed claim, which is completed.
