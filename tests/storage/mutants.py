"""The faults that are planted into the folder and the memory storage, one each.

Each is a way in which a storage could break its promises, and names the checks that notice it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from spooler.durable import Disk, OpenFile
from spooler.errors import LeaseLost
from spooler.model.claim import Claim, Owner
from spooler.model.job import Queue
from spooler.model.storage import Standing
from spooler.storage.kit.tokens import Tokens
from spooler.storage.kit.watched import Seen, Watched
from spooler.storage.memory import MemoryBackend
from spooler.storage.sqooler.folder import endings, queue
from spooler.storage.sqooler.folder.backend import FolderBackend
from spooler.storage.sqooler.folder.claims import FolderClaims
from spooler.storage.sqooler.folder.endings import FolderEndings
from spooler.storage.sqooler.folder.layout import ClaimName, Phase
from spooler.storage.sqooler.folder.notes import FolderHistory, FolderOwners, Past
from spooler.storage.sqooler.folder.queue import Waiting
from spooler.storage.sqooler.folder.reading import JobReader
from spooler.testing.bench import dead, leased, new_lease
from tests.storage.planted import Fault, Make
from tests.storage.sqooler.folder_checks import running_link

FOLDER: list[Fault] = []
MEMORY: list[Fault] = []


def fault(
    owner: Any, attribute: str, *checks: str, among: list[Fault] = FOLDER
) -> Callable[[Make], Make]:
    """List a fault: the decorated function makes the bad version out of the good one."""

    def listed(make: Make) -> Make:
        among.append(Fault(make.__name__, owner, attribute, make, checks))
        return make

    return listed


# --- claiming --------------------------------------------------------------------------------


@fault(Disk, "rename", "test_a_job_is_claimed_once")
def claims_by_copying(real: Any, base: Path) -> Any:
    """Takes a job by copying it: the queue keeps it, and everybody else gets it too."""

    def rename(self: Disk, source: Any, target: Any) -> None:
        if "/queued/" not in str(source):
            real(self, source, target)
            return
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        os.link(source, target)

    return rename


@fault(queue, "list_queue", "test_the_oldest_comes_first")
def youngest_first(real: Any, base: Path) -> Any:
    """Hands out the jobs in the wrong order."""

    def list_queue(folder: str, *strange: Callable[[str], None]) -> list[Waiting]:
        return [each._replace(modified_ns=-each.modified_ns) for each in real(folder, *strange)]

    return list_queue


@fault(queue, "list_queue", "test_a_later_job_does_not_overtake")
def forgets_new_jobs(real: Any, base: Path) -> Any:
    """Lists the queue once and never again."""
    known: dict[str, list[Waiting]] = {}

    def list_queue(folder: str, *strange: Callable[[str], None]) -> list[Waiting]:
        return known.setdefault(folder, real(folder, *strange))

    return list_queue


@fault(Tokens, "held", "test_a_repeat_with_the_same_token_finds_its_own")
def forgets_its_tokens(_: Any, base: Path) -> Any:
    """A repeated claim takes a second job."""
    return lambda self, token: None


@fault(JobReader, "waiting", "test_a_claim_carries_the_job")
def says_no_digest(real: Any, base: Path) -> Any:
    """Hands out a job without saying what was read."""
    return lambda *asked: replace(real(*asked), digest="")


@fault(FolderClaims, "runs_elsewhere", "test_a_stale_link_keeps_no_job_from_running")
def a_running_link_decides(_: Any, base: Path) -> Any:
    """Takes the picture of the running jobs for the state."""
    return lambda self, job_id, queue: running_link(base, job_id).exists()


# --- the lease -------------------------------------------------------------------------------


@fault(FolderClaims, "renew", "test_who_lost_the_lease_can_write_nothing")
def renews_without_looking(_: Any, base: Path) -> Any:
    """Extends a lease without asking whether it is still there."""
    return lambda self, claim, phase=None: replace(claim, started=claim.started or bool(phase))


@fault(ClaimName, "then", "test_started_is_remembered")
def forgets_the_start(real: Any, base: Path) -> Any:
    """Does not note that the handler has started."""

    def then(self: ClaimName, **changes: Any) -> ClaimName:
        if changes.get("phase") is Phase.STARTED:
            changes["phase"] = self.phase
        return real(self, **changes)

    return then


@fault(OpenFile, "settle", "test_the_job_is_durable_before_it_has_started")
def starts_on_sand(_: Any, base: Path) -> Any:
    """Starts a job that a power cut would empty."""
    return lambda self: None


@fault(ClaimName, "names", "test_who_lost_the_lease_can_write_nothing")
def no_fence(_: Any, base: Path) -> Any:
    """Takes any claim of the job for the one that was asked about."""
    return lambda self, claim: self.job_id == claim.job.id


@fault(Watched, "run_out", "test_a_renewed_lease_is_kept")
def everything_has_run_out(_: Any, base: Path) -> Any:
    """Takes over claims that are alive."""

    def run_out(self: Any, name: str, seen: Iterable[Seen[ClaimName]]) -> set[ClaimName]:
        return {each.key for each in seen}

    return run_out


@fault(Watched, "run_out", "test_an_expired_lease_is_taken_over_once")
def nothing_ever_runs_out(_: Any, base: Path) -> Any:
    """Never takes over anything whose holder may live."""
    return lambda self, name, seen: set()


@fault(FolderBackend, "reclaim", "test_spared_claims_are_left_alone")
def spares_nobody(real: Any, base: Path) -> Any:
    """Takes over claims whose reports wait here."""

    def reclaim(self: Any, name: Queue, lease: Any, judge: Any) -> Any:
        return real(
            self,
            name,
            lease,
            lambda claim: Standing.LEASED if judge(claim) is Standing.SPARED else judge(claim),
        )

    return reclaim


@fault(FolderBackend, "reclaim", "test_the_dead_are_taken_over_at_once")
def ignores_the_judge(real: Any, base: Path) -> Any:
    """Lets the lease decide, whatever is known of its holder."""
    return lambda self, name, lease, judge: real(self, name, lease, leased)


@fault(FolderOwners, "named", "test_a_judge_is_told_whose_claim_it_is")
def hides_the_owner(_: Any, base: Path) -> Any:
    """Asks a judge about nobody."""
    return lambda self, process: Owner("", 0, "")


# --- giving back -----------------------------------------------------------------------------


@fault(FolderHistory, "past", "test_an_attempt_that_counts_is_remembered")
def counts_no_attempts(_: Any, base: Path) -> Any:
    """Forgets how often a job was tried."""
    return lambda self, name, job_id: Past()


@fault(FolderHistory, "note", "test_which_attempts_have_started_is_remembered")
def forgets_which_have_started(real: Any, base: Path) -> Any:
    """Takes an attempt that touched the instrument for one that did not."""
    return lambda self, claim, ended, delay: real(
        self, claim, ended and replace(ended, started=False), delay
    )


@fault(FolderClaims, "give_back", "test_a_released_job_keeps_place_and_attempt")
def counts_refunded_attempts(real: Any, base: Path) -> Any:
    """Counts an attempt that never was one."""
    return lambda self, claim, reason, *, refund, delay, at: real(
        self, claim, reason, refund=False, delay=delay, at=at
    )


@fault(FolderHistory, "past", "test_a_delayed_job_waits")
def waits_for_nothing(real: Any, base: Path) -> Any:
    """Hands out a job that should wait."""
    return lambda self, *where: replace(real(self, *where), waits=False)


# --- the end ---------------------------------------------------------------------------------


@fault(Disk, "rename", "test_ack_publishes_and_ends")
def publishes_no_status(real: Any, base: Path) -> Any:
    """Leaves the status as it was."""

    def rename(self: Disk, source: Any, target: Any) -> None:
        if "/status/" not in str(target):
            real(self, source, target)

    return rename


@fault(endings, "report_beginning", "test_a_repeated_report_is_not_taken_for_a_late_one")
def ends_only_once(_: Any, base: Path) -> Any:
    """Takes a repeated report for a late one."""
    return lambda claim: b"never heard of it"


@fault(FolderClaims, "names", "test_a_report_with_an_older_handle_is_taken_by_another_view")
def wants_the_newest_handle(_: Any, base: Path) -> Any:
    """Looks for the claim only under the name that the report knows."""
    return lambda self, name: []


@fault(Disk, "open_file", "test_progress_of_who_stood_still_leaves_a_final_status")
def shows_by_rename(real: Any, base: Path) -> Any:
    """Puts progress at a place, whatever stands there by then."""
    return lambda disk, place, **how: _ByName(place) if how else real(disk, place)


class _ByName:
    """A status that is written by its name."""

    names = 1

    def __init__(self, place: str) -> None:
        self._place = place

    def __enter__(self) -> _ByName:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def rewrite(self, content: bytes) -> None:
        Disk(sync=False).publish(self._place, content, mark="late")


@fault(FolderClaims, "holds", "test_progress_that_comes_late_leaves_a_final_status_alone")
def shows_without_looking(_: Any, base: Path) -> Any:
    """Shows progress of a claim that may have ended."""
    return lambda self, claim: True


@fault(FolderEndings, "publish", "test_progress_of_who_stood_still_leaves_a_final_status")
def ends_in_place(real: Any, base: Path) -> Any:
    """Puts a final status into the very file that progress goes into."""

    def publish(self: FolderEndings, name: str, claim: ClaimName) -> None:
        (staged,) = (base / "status" / name).glob(f".{claim.job_id}.*.tmp")
        staged.with_name(f"{claim.job_id}.json").write_bytes(staged.read_bytes())
        staged.unlink()
        real(self, name, claim)

    return publish


# --- looking ---------------------------------------------------------------------------------


@fault(FolderBackend, "subscribe", "test_a_new_job_wakes")
def never_wakes(real: Any, base: Path) -> Any:
    """Watches and says nothing."""
    return lambda self, name, wake: real(self, name, lambda: None)


@fault(FolderBackend, "preview", "test_peek_and_preview_change_nothing")
def preview_writes(real: Any, base: Path) -> Any:
    """A dry run that is none."""

    def preview(self: FolderBackend, claim: Claim, signed: Any) -> Any:
        found = real(self, claim, signed)
        self.ack(claim, signed)
        return found

    return preview


# --- in memory -------------------------------------------------------------------------------


@fault(MemoryBackend, "ack", "test_who_lost_the_lease_can_write_nothing", among=MEMORY)
def memory_without_fence(real: Any, base: Path) -> Any:
    """Takes a late report in the name of who has taken over."""

    def ack(self: MemoryBackend, claim: Claim, signed: Any) -> None:
        try:
            real(self, claim, signed)
        except LeaseLost:
            new = self.reclaim(Queue(claim.job.queue, ""), new_lease(), dead)
            real(self, new, signed)

    return ack


@fault(MemoryBackend, "reclaim", "test_an_expired_lease_is_taken_over_once", among=MEMORY)
def memory_lets_expired_leases_be(_: Any, base: Path) -> Any:
    """Never takes over anything."""
    return lambda self, name, lease, judge: None


@fault(MemoryBackend, "reclaim", "test_the_dead_are_taken_over_at_once", among=MEMORY)
def memory_ignores_the_judge(real: Any, base: Path) -> Any:
    """Lets the lease decide, whatever is known of its holder."""
    return lambda self, name, lease, judge: real(self, name, lease, leased)
