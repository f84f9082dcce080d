"""The claims of a folder storage: made, extended, taken over, given back by one rename each."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from spooler.durable import Disk, exists, read, unavailable
from spooler.errors import LeaseLost
from spooler.model.claim import Attempt, Claim, Owner
from spooler.model.job import Job
from spooler.protocols import Clock
from spooler.storage.kit.payloads import Decoded, decode, too_large
from spooler.storage.sqooler.folder.documents import document
from spooler.storage.sqooler.folder.layout import (
    JOB_ID,
    MOST_ATTEMPTS,
    ClaimName,
    Layout,
    Phase,
    milliseconds,
)
from spooler.storage.sqooler.folder.owners import FolderOwners


@dataclass(frozen=True, slots=True)
class Past:
    """Attempts that ended without a report, and whether the job still waits after the last."""

    attempts: tuple[Attempt, ...] = ()
    waits: bool = False


_NO_PAST = Past()


class FolderClaims:
    """Who holds which job."""

    def __init__(
        self, layout: Layout, disk: Disk, clock: Clock, owners: FolderOwners, max_payload: int
    ) -> None:
        self._layout = layout
        self._disk = disk
        self._owners = owners
        self._clock = clock
        self._max_payload = max_payload
        self._lock = threading.Lock()
        #: By device: when an unchanged claim name was first seen, by our monotonic clock.
        self._seen: dict[str, dict[str, float]] = {}

    # --- taking -----------------------------------------------------------------------------

    def take(self, job: Job, past: Past, owner: Owner, ttl: float, token: str) -> Claim | None:
        """Move a waiting job file to a claim of ours; None when somebody was faster."""
        history = past.attempts
        attempt = 1 + max((each.number for each in history), default=0)
        name = ClaimName(job.id, attempt, owner.process, token, Phase.CLAIMED, 0, milliseconds(ttl))
        queue, claims = self._layout.queue(job.device), self._layout.claims(job.device)
        place = f"{claims}/{name}"
        try:
            self._disk.rename(f"{queue}/{job.id}.json", place)
        except FileNotFoundError:
            return None
        # Not synced: a claim that a power cut undoes is a job that waits again. The start is.
        self._disk.link(place, self._layout.running(job.id))
        cancelled = exists(self._layout.cancel(job.device, job.id))
        return Claim(job, owner, attempt, token, str(name), cancelled=cancelled, history=history)

    def past(self, device: str, job_id: str) -> Past:
        """What is known of earlier attempts at a job."""
        place = self._layout.history(device, job_id)
        if not exists(place):
            return _NO_PAST
        try:
            return self._read_past(document(place))
        except (ValueError, KeyError, TypeError, OverflowError):
            return _NO_PAST  # the job has ended meanwhile, or not of our writing: ours are whole

    def _read_past(self, content: dict[str, Any]) -> Past:
        attempts = tuple(
            Attempt(
                int(each["number"]),
                each["owner"],
                datetime.fromisoformat(each["at"]),
                each["ended"],
            )
            for each in content["attempts"]
        )
        if any(not 0 < each.number < MOST_ATTEMPTS for each in attempts):
            raise ValueError("no attempt has such a number")
        waited = (self._clock.now() - datetime.fromisoformat(content["since"])).total_seconds()
        # A wall clock that was set back cannot hold a job for longer than it was meant to wait.
        return Past(attempts, waits=0 <= waited < content["delay"])

    def recall(self, device: str, owner: Owner, token: str) -> Claim | None:
        """The claim that a call with this token has made before its answer was lost."""
        for name in self._names(device):
            if name.process == owner.process and name.token == token:
                return self._claim(device, name, owner)
        return None

    # --- holding ----------------------------------------------------------------------------

    def renew(self, claim: Claim, ttl: float, *, started: bool) -> Claim:
        """Rename the claim to its next name, which every observer sees as a sign of life."""
        folder = self._layout.claims(claim.job.device)
        started_by_now = started or claim.started
        try:
            after = self._rename(folder, self._name(claim), ttl, started=started_by_now)
        except FileNotFoundError:
            # Taken from us; or renamed by an earlier call that failed after its rename.
            name = self.find(claim)
            if name is None or name.phase.committed:
                raise self._lost(claim) from None
            after = self._rename(folder, name, ttl, started=started_by_now)
        if started:
            self._disk.settle(folder, self._layout.queue(claim.job.device))
        return replace(
            claim,
            handle=str(after),
            started=claim.started or started,
            cancelled=exists(self._layout.cancel(claim.job.device, claim.job.id)),
        )

    def _rename(self, folder: str, name: ClaimName, ttl: float, *, started: bool) -> ClaimName:
        after = name.renewed(ttl, started=started)
        self._disk.rename(f"{folder}/{name}", f"{folder}/{after}")
        return after

    def present(self, claim: Claim) -> ClaimName | None:
        """The present name of a claim: the one it says, or else the one with its token."""
        name = ClaimName.parse(claim.handle)
        if name is not None and exists(f"{self._layout.claims(claim.job.device)}/{name}"):
            return name
        return self.find(claim)

    def find(self, claim: Claim) -> ClaimName | None:
        """The present name of a claim, by its token; None when it is gone."""
        for name in self._names(claim.job.device):
            if (name.job_id, name.attempt, name.token) == (
                claim.job.id,
                claim.attempt,
                claim.token,
            ):
                return name
        return None

    def give_back(self, claim: Claim, reason: str, *, refund: bool, delay: float) -> None:
        """Move the job file back to its queue; its age, and so its place, is unchanged."""
        name = self.present(claim)
        if name is None or name.phase.committed:
            raise self._lost(claim)
        if not refund or delay:
            self._note(claim, reason, refund=refund, delay=delay)
        device, job_id = claim.job.device, claim.job.id
        self._disk.remove(self._layout.running(job_id))
        claims, queue = self._layout.claims(device), self._layout.queue(device)
        try:
            self._disk.rename(f"{claims}/{name}", f"{queue}/{job_id}.json")
        except FileNotFoundError:
            raise self._lost(claim) from None
        self._disk.settle(queue, claims)

    def _note(self, claim: Claim, reason: str, *, refund: bool, delay: float) -> None:
        """Write the history, before the job goes back.

        Attempts are keyed by number: a note written twice, or by a loser of a race, counts once.
        """
        now = self._clock.now()
        attempts = {
            past.number: past for past in self.past(claim.job.device, claim.job.id).attempts
        }
        if not refund:
            attempts[claim.attempt] = Attempt(claim.attempt, str(claim.owner), now, reason)
        content = {
            "attempts": [
                {
                    "number": past.number,
                    "owner": past.owner,
                    "at": past.at.isoformat(),
                    "ended": past.ended,
                }
                for past in attempts.values()
            ],
            "since": now.isoformat(),
            "delay": delay,
        }
        place = self._layout.history(claim.job.device, claim.job.id)
        self._disk.publish(place, json.dumps(content).encode(), mark=claim.token)

    # --- taking over ------------------------------------------------------------------------

    def expired(self, device: str, owner: Owner, spare: Collection[str]) -> list[ClaimName]:
        """The claims whose lease ran out: unchanged for their lease time while we looked."""
        now = self._clock.monotonic()
        names = self._names(device)
        with self._lock:
            before = self._seen.get(device, {})
            seen = {str(name): before.get(str(name), now) for name in names}
            self._seen[device] = seen
        return [
            name
            for name in names
            if name.token not in spare
            and (now - seen[str(name)] >= name.ttl / 1000 or self._owners.dead(name.process, owner))
        ]

    def take_over(
        self, device: str, name: ClaimName, owner: Owner, ttl: float, token: str
    ) -> Claim | None:
        """Make somebody's claim ours; None when somebody was faster."""
        mine = name._replace(
            process=owner.process, token=token, beat=name.beat + 1, ttl=milliseconds(ttl)
        )
        folder = self._layout.claims(device)
        try:
            self._disk.rename(f"{folder}/{name}", f"{folder}/{mine}")
        except FileNotFoundError:
            return None
        self._disk.settle(folder)
        return self._claim(device, mine, owner)

    def _claim(self, device: str, name: ClaimName, owner: Owner) -> Claim:
        """The claim behind a name that is ours."""
        place = Path(self._layout.claims(device), str(name))
        found = place.lstat()
        decoded = self._decoded(name.job_id, place, found)
        submitted = datetime.fromtimestamp(found.st_mtime, UTC)
        return Claim(
            Job(name.job_id, device, decoded.payload, decoded.defect, submitted),
            owner,
            name.attempt,
            name.token,
            str(name),
            started=name.phase is Phase.STARTED,
            cancelled=exists(self._layout.cancel(device, name.job_id)),
            history=self.past(device, name.job_id).attempts,
        )

    def _decoded(self, job_id: str, place: Path, found: os.stat_result) -> Decoded:
        """What is in a claim's file. Its submitter owns it, and may have done anything to it."""
        try:
            small = found.st_size <= self._max_payload
            content = read(place, limit=self._max_payload) if small else b""
        except PermissionError as error:
            return Decoded(defect=str(unavailable(error, f"job {job_id}")))
        return self.decode(job_id, content, max(found.st_size, len(content)))

    def decode(self, job_id: str, content: bytes, size: int) -> Decoded:
        """The payload of a job file, or what is wrong with it."""
        if not JOB_ID.match(job_id):
            return Decoded(
                defect=f"the job id {job_id!r} is not 24 hex digits; "
                "submit through upload_job, which makes such an id"
            )
        return too_large(size, self._max_payload) if size > self._max_payload else decode(content)

    def _names(self, device: str) -> list[ClaimName]:
        folder = self._layout.claims(device)
        if not exists(folder):
            return []
        with os.scandir(folder) as entries:
            files = [each.name for each in entries if each.is_file(follow_symlinks=False)]
        return [name for name in map(ClaimName.parse, files) if name is not None]

    def _name(self, claim: Claim) -> ClaimName:
        name = ClaimName.parse(claim.handle)
        if name is None:
            raise self._lost(claim)
        return name

    def _lost(self, claim: Claim) -> LeaseLost:
        return LeaseLost(
            f"job {claim.job.id} is no longer held by {claim.owner} (attempt {claim.attempt})"
        )
