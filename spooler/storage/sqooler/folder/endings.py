"""How a job of a folder storage ends: stage the documents, commit by one rename, publish.

Staged documents lie beside their places under names that readers skip. The commit is the rename
of the claim to a committed name: before it nothing of this attempt is visible, after it anybody
can complete the publication, and no other attempt can begin. Each step of the publication is a
rename whose source is gone when it has been done, so it may be repeated by anyone, at any time.
"""

from __future__ import annotations

from spooler.durable import Disk, exists, staged
from spooler.errors import LeaseLost, Postponed
from spooler.model.claim import Claim
from spooler.model.result import SignedReport
from spooler.model.state import State
from spooler.protocols import Clock
from spooler.storage.sqooler.folder.claims import FolderClaims
from spooler.storage.sqooler.folder.documents import document
from spooler.storage.sqooler.folder.layout import ClaimName, Layout, Phase, folder_of
from spooler.storage.sqooler.rendering import Renderer, report_document

#: sqooler's client uploads the job first and its first status second, and the second upload
#: fails when there is a status already. So long (in seconds, from the upload of the job) the end
#: of a job is postponed until that first status is there.
FIRST_STATUS_WITHIN = 2.0


class FolderEndings:
    """Writes results, statuses and reports."""

    def __init__(
        self, layout: Layout, disk: Disk, clock: Clock, claims: FolderClaims, renderer: Renderer
    ) -> None:
        self._layout = layout
        self._disk = disk
        self._clock = clock
        self._claims = claims
        self._renderer = renderer

    def documents(self, claim: Claim, signed: SignedReport) -> list[tuple[str, bytes]]:
        """What the end of this job writes: places and contents."""
        report, device, job_id = signed.report, claim.job.device, claim.job.id
        found = [
            (self._layout.report(device, job_id), report_document(claim, signed)),
            (self._layout.status(device, job_id), self._renderer.final_status(report)),
        ]
        if report.status.state is State.DONE:
            result = self._layout.result(device, job_id), self._renderer.result(report)
            found.insert(0, result)
        return found

    def commit(self, claim: Claim, signed: SignedReport) -> ClaimName | None:
        """Stage and commit; None when this very report has been committed and published before."""
        name = self._claims.present(claim)
        if name is None:
            self._demand_ended_by(claim)
            return None
        if name.phase.committed:
            return name
        self._let_the_client_be_first(claim)
        self._stage(claim, signed)
        done = signed.report.status.state is State.DONE
        phase = Phase.COMMITTED_DONE if done else Phase.COMMITTED_ERROR
        committed = name._replace(phase=phase, beat=name.beat + 1)
        folder = self._layout.claims(claim.job.device)
        try:
            self._disk.rename(f"{folder}/{name}", f"{folder}/{committed}")
        except FileNotFoundError:
            self.unstage(claim.job.device, claim.job.id, claim.token)
            raise LeaseLost(f"job {claim.job.id} was taken over by another attempt") from None
        self._disk.settle(folder)
        return committed

    def _stage(self, claim: Claim, signed: SignedReport) -> None:
        places = []
        for final, content in self.documents(claim, signed):
            place = staged(final, claim.token)
            self._disk.stage(place, content)
            places.append(folder_of(place))
        self._keep_replaced(claim)
        self._disk.settle(*places)

    def _keep_replaced(self, claim: Claim) -> None:
        """Keep what stands where our result will go: nobody's measurement is overwritten.

        Under a second name, and unread: others may have put anything there, of any size.
        """
        device, job_id = claim.job.device, claim.job.id
        result = self._layout.result(device, job_id)
        kept = self._layout.replaced(device, job_id, claim.token)
        if not exists(result) or exists(kept):
            return
        if self._disk.link(result, kept):
            self._disk.settle(folder_of(kept))
        else:
            self._disk.put_aside(result)

    def unstage(self, device: str, job_id: str, token: str) -> None:
        """Remove what the claim with `token` has staged and can never commit."""
        for place in (self._layout.result, self._layout.report, self._layout.status):
            self._disk.remove(staged(place(device, job_id), token))

    def _let_the_client_be_first(self, claim: Claim) -> None:
        """Raise Postponed while a client may still be between its two uploads."""
        submitted = claim.job.submitted_at
        if submitted is None or exists(self._layout.status(claim.job.device, claim.job.id)):
            return
        age = (self._clock.now() - submitted).total_seconds()
        if 0 <= age < FIRST_STATUS_WITHIN:
            raise Postponed(f"job {claim.job.id} has no first status yet; its client writes it")

    def _demand_ended_by(self, claim: Claim) -> None:
        """Raise LeaseLost unless the report in the storage is the one of this claim."""
        place = self._layout.report(claim.job.device, claim.job.id)
        content = document(place)
        if (content.get("attempt"), content.get("token")) != (claim.attempt, claim.token):
            raise LeaseLost(f"job {claim.job.id} was taken over by another attempt")

    def publish(self, device: str, name: ClaimName) -> None:
        """Complete a committed end: result, report, status, then the job file to its last place."""
        token = name.token
        layout, disk, job_id = self._layout, self._disk, name.job_id
        done = name.phase is Phase.COMMITTED_DONE
        places = [layout.report(device, job_id), layout.status(device, job_id)]
        if done:
            places.insert(0, layout.result(device, job_id))
        for place in places:
            self._reveal(place, token)
        for leftover in (layout.history(device, job_id), layout.cancel(device, job_id)):
            if exists(leftover):  # they hardly ever are, and asking is cheaper than failing
                disk.remove(leftover)
        disk.settle(*map(folder_of, places))
        disk.remove(layout.running(job_id))
        final = layout.ended(device, job_id, done=done)
        try:
            disk.rename(f"{layout.claims(device)}/{name}", final)
        except FileNotFoundError:
            return  # somebody else has completed it
        # Not synced: a power cut that undoes this leaves a committed claim, which is completed.

    def _reveal(self, place: str, token: str) -> None:
        try:
            self._disk.rename(staged(place, token), place)
        except FileNotFoundError:
            return  # done before a crash, or by somebody else
