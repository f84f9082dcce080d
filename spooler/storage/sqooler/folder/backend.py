"""The daemon's view of a folder in the format of sqooler's local storage."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from spooler.durable import demand_writable, unavailable
from spooler.errors import BackendUnavailable, LeaseLost, Scope
from spooler.model.claim import Claim, Lease
from spooler.model.job import Job, Queue
from spooler.model.result import SignedReport
from spooler.model.storage import Standing, Traits, Write
from spooler.protocols import Clock, Judge, Signer
from spooler.storage.kit.notices import Notices
from spooler.storage.kit.payloads import incomplete
from spooler.storage.kit.per_queue import PerQueue
from spooler.storage.kit.tokens import Tokens
from spooler.storage.kit.watched import Seen, Watched
from spooler.storage.sqooler.folder.catalogue import FolderCatalogue
from spooler.storage.sqooler.folder.claims import FolderClaims
from spooler.storage.sqooler.folder.endings import FolderEndings
from spooler.storage.sqooler.folder.layout import COMMITTED, ClaimName, Layout, Phase
from spooler.storage.sqooler.folder.notes import FolderHistory, FolderOwners, Past
from spooler.storage.sqooler.folder.presence import FolderPresence
from spooler.storage.sqooler.folder.queue import FolderQueue, Not, Waiting, list_queue
from spooler.storage.sqooler.folder.reading import UPLOAD_PAUSE, JobReader, Settling
from spooler.storage.sqooler.folder.watch import FolderWatch
from spooler.storage.sqooler.rendering import Renderer


class FolderBackend:
    """A sqooler folder as the daemon sees it."""

    traits = Traits()

    def __init__(
        self,
        base: Path,
        clock: Clock,
        *,
        signer: Signer | None = None,
        former_keys: Sequence[dict[str, str]] = (),
        sync: bool = True,
        max_payload: int = 4 * 1024 * 1024,
        upload_pause: float = UPLOAD_PAUSE,
    ) -> None:
        self.address = f"sqooler-local:{os.path.realpath(base)}"
        self._clock = clock
        self._layout = layout = Layout(base)
        self._presence = FolderPresence(layout, sync=sync)
        self._disk = disk = self._presence.disk
        self._notices, self._settling = Notices(), Settling(clock, upload_pause)
        self._reader = JobReader(disk, max_payload)
        self._owners = FolderOwners(layout, disk, clock)
        self._history = FolderHistory(layout, disk, clock)
        self._claims = FolderClaims(layout, disk, self._reader, self._history, self._notices)
        self._tokens: Tokens[Claim] = Tokens()
        renderer = Renderer(signer)
        self._endings = FolderEndings(
            layout, disk, clock, self._claims, renderer, notices=self._notices
        )
        self.catalogue = FolderCatalogue(layout, disk, self._presence, renderer, former_keys)
        self._queues = PerQueue(
            lambda name: FolderQueue(
                disk, layout.queues[name].queued, clock.monotonic, partial(self._strange, name)
            )
        )
        self._watched: Watched[ClaimName] = Watched(clock.monotonic)
        self._lock = threading.Lock()
        self._watches: list[FolderWatch] = []

    # --- claiming ---------------------------------------------------------------------------

    def claim(self, queue: Queue, lease: Lease) -> Claim | None:
        def find() -> Claim | None:
            self._presence.mark()
            self._owners.introduce(lease.owner)
            return self._queues[queue.name].first(partial(self._take, queue.name, lease))

        return self._wanted(queue, lease, find)

    def reclaim(self, queue: Queue, lease: Lease, judge: Judge) -> Claim | None:
        return self._wanted(queue, lease, lambda: self._overdue(queue.name, lease, judge))

    def _wanted(self, queue: Queue, lease: Lease, find: Callable[[], Claim | None]) -> Claim | None:
        """Find a claim, or what an earlier call with the same token has found."""
        claim = self._tokens.held(lease.token)
        if claim is not None:
            return claim
        with self._presence.asked(Scope.QUEUE), self._tokens.asking(lease.token) as doubtful:
            claim = self._claims.recall(queue.name, lease) if doubtful else None
            claim = claim or find()
            if claim is None:
                self._presence.demand()  # a folder that is away looks like one without jobs
            else:
                self._tokens.hold(lease.token, claim)
        return claim

    def _take(self, queue: str, lease: Lease, waiting: Waiting) -> Claim | Not:
        """Make a claim of a waiting file, unless it has to wait or is still being written."""
        found = self._readable(queue, waiting)
        if isinstance(found, Not):
            return found
        job, past = found
        place = f"{self._layout.queues[queue].queued}/{job.id}.json"
        if job.defect and not self._settling.broken(
            place, waiting.size, waiting.modified_ns, incomplete=incomplete(job.defect)
        ):
            return Not.YET
        self._settling.forget(place)
        return self._claims.take(job, past, lease)

    def _readable(self, queue: str, waiting: Waiting) -> tuple[Job, Past] | Not:
        """Read a waiting file whose delay is over; what cannot be read waits, and is told once."""
        modified_ns, job_id, size = waiting
        place = f"{self._layout.queues[queue].queued}/{job_id}.json"
        try:
            past = self._history.past(queue, job_id)
            if past.waits:
                return Not.YET
            return self._reader.waiting(queue, job_id, place, size, modified_ns), past
        except FileNotFoundError:
            return Not.HERE
        except OSError as error:
            trouble = unavailable(error, error.filename or place, Scope.JOB)
            if trouble.scope is Scope.STORAGE:
                raise
            self._notices.warn_once(place, f"{trouble}; the job waits until it can be read")
            return Not.YET

    def _overdue(self, queue: str, lease: Lease, judge: Judge) -> Claim | None:
        """Take over the first claim whose time is up, and complete the ends that are decided."""
        names = self._claims.names(queue)
        seen = (Seen(name, name.beat, name.ttl / 1000) for name in names)
        over = self._watched.run_out(queue, seen)
        for name in names:
            standing = judge(self._judged(queue, name))
            if standing is Standing.DEAD or (standing is Standing.LEASED and name in over):
                claim = self._care_for(queue, name, lease)
                if claim is not None:
                    return claim
        return None

    def _judged(self, queue: str, name: ClaimName) -> Claim:
        """Make what a judge needs to know of a claim, without looking into its file."""
        holder = Lease(name.token, self._owners.named(name.process), name.ttl / 1000)
        started = name.phase is Phase.STARTED
        return Claim(Job(name.job_id, queue), holder, name.attempt, name.text, started=started)

    def _care_for(self, queue: str, name: ClaimName, lease: Lease) -> Claim | None:
        """Take a claim over, or complete its end; a trouble with this one stops no other."""
        try:
            with self._presence.asked(Scope.JOB):
                if name.phase in COMMITTED:
                    self._endings.publish(queue, name)
                    return None
                self._owners.introduce(lease.owner)
                claim = self._claims.take_over(queue, name, lease)
                if claim is not None:
                    self._endings.unstage(queue, name.job_id, name.token)
                return claim
        except BackendUnavailable as error:
            if error.scope is Scope.STORAGE:
                raise
            self._notices.warn_once(name.job_id, f"job {name.job_id} waits for recovery: {error}")
            return None

    # --- writing about a claim --------------------------------------------------------------

    def start(self, claim: Claim, seconds: float) -> Claim:
        del seconds  # a lease has no end that a renewal could not move
        with self._about(claim):
            return self._claims.start(claim)

    def renew(self, claim: Claim) -> Claim:
        with self._about(claim):
            return self._claims.renew(claim)

    def show(self, claim: Claim, text: str) -> None:
        with self._about(claim):
            self._endings.show(claim, text)

    def ack(self, claim: Claim, signed: SignedReport) -> None:
        with self._about(claim):
            self._endings.end(claim, signed)
        self._forget(claim)

    def release(self, claim: Claim, reason: str, *, refund: bool, delay: float = 0.0) -> None:
        with self._about(claim):
            now = self._clock.now()
            self._claims.give_back(claim, reason, refund=refund, delay=delay, at=now)
        self._forget(claim)
        self._queues[claim.job.queue].forget()

    @contextmanager
    def _about(self, claim: Claim) -> Iterator[None]:
        """Ask about one job: its trouble reaches no further, and a lost claim is forgotten."""
        self._presence.seen = True  # there is a claim, so the folder has been used
        try:
            with self._presence.asked(Scope.JOB):
                yield
        except LeaseLost:
            self._forget(claim)
            raise

    def _forget(self, claim: Claim) -> None:
        self._tokens.drop(claim.lease.token)
        self._claims.forget(claim)

    # --- looking ----------------------------------------------------------------------------

    def depth(self, queue: Queue) -> int:
        return len(self._waiting(queue))

    def peek(self, queue: Queue) -> Iterator[Job]:
        for each in sorted(self._waiting(queue)):
            with self._presence.asked(Scope.QUEUE):
                found = self._readable(queue.name, each)
                withdrawn = self._claims.withdrawn(queue.name, each.job_id)
            if not isinstance(found, Not):
                yield replace(found[0], withdrawn=withdrawn)

    def _strange(self, queue: str, name: str) -> None:
        place = f"{self._layout.queues[queue].queued}/{name}"
        self._notices.warn_once(
            place,
            f"ignoring {place}: not the name of a job file; rename it to ID.json, with letters, "
            "digits, - and _ in the ID",
        )

    def _waiting(self, queue: Queue) -> list[Waiting]:
        with self._presence.asked(Scope.QUEUE):
            self._presence.demand()
            return list_queue(self._disk, self._layout.queues[queue.name].queued)

    def preview(self, claim: Claim, signed: SignedReport) -> tuple[Write, ...]:
        base, file = f"{self._layout.base}/", f"{claim.job.id}.json"
        return tuple(
            Write(f"{folder.removeprefix(base)}/{file}", json.loads(content))
            for folder, content in self._endings.documents(claim, signed)
        )

    def subscribe(self, queue: Queue, wake: Callable[[], None]) -> FolderWatch:
        with self._presence.asked(Scope.QUEUE):
            watch = FolderWatch(self._layout.queues[queue.name].queued, self._disk, wake)
        with self._lock:
            self._watches = [*(each for each in self._watches if not each.closed), watch]
        return watch

    def ping(self) -> None:
        with self._presence.asked(Scope.STORAGE):
            self._presence.demand()
            demand_writable(self._layout.base)

    def close(self) -> None:
        with self._lock:
            watches, self._watches = self._watches, []
        for each in watches:
            each.close()
        # A storage that is away at the end keeps a small file of ours, and the exit code is 0.
        with suppress(BackendUnavailable), self._presence.asked(Scope.STORAGE):
            self._owners.forget()
