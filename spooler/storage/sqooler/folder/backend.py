"""The daemon's view of a folder in the format of sqooler's local storage."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from spooler.durable import Disk, demand_writable, exists, read, unavailable
from spooler.errors import BackendUnavailable, LeaseLost
from spooler.model.claim import Claim, Owner
from spooler.model.device import DeviceCard
from spooler.model.job import Job
from spooler.model.result import SignedReport
from spooler.model.state import State
from spooler.model.storage import Traits, Write
from spooler.protocols import Clock, Signer
from spooler.storage.sqooler.folder.announcing import FolderAnnouncing
from spooler.storage.sqooler.folder.claims import FolderClaims
from spooler.storage.sqooler.folder.endings import FolderEndings
from spooler.storage.sqooler.folder.layout import Layout
from spooler.storage.sqooler.folder.owners import FolderOwners
from spooler.storage.sqooler.folder.presence import FolderPresence
from spooler.storage.sqooler.folder.queue import FolderQueue, list_queue
from spooler.storage.sqooler.folder.reading import DeviceQueue, FolderReader
from spooler.storage.sqooler.folder.watch import FolderWatch
from spooler.storage.sqooler.rendering import Renderer


class _Translated:
    """Turns errors of the operating system into the loop's, around every verb."""

    def __init__(self, base: Path, presence: FolderPresence) -> None:
        self._base = base
        self._presence = presence

    def __enter__(self) -> None:
        return

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        # What is missing proves nothing while the folder itself is missing.
        if isinstance(error, (LeaseLost, FileNotFoundError)):
            self._presence.demand()
        if isinstance(error, OSError):
            raise unavailable(error, error.filename or self._base) from error


class FolderBackend:
    """A sqooler folder as the daemon sees it."""

    traits = Traits(renewable=True, fenced=True, ordered=True, push=True)

    def __init__(
        self,
        base: Path,
        clock: Clock,
        *,
        signer: Signer | None = None,
        former_keys: Sequence[dict[str, str]] = (),
        sync: bool = True,
        max_payload: int = 4 * 1024 * 1024,
    ) -> None:
        self._layout = Layout(base)
        self._presence = FolderPresence(self._layout)
        self._translated = _Translated(base, self._presence)
        self._disk = Disk(sync=sync, guard=self._presence.demand)
        self._clock = clock
        self._max_payload = max_payload
        renderer = Renderer(signer)
        self._renderer = renderer
        self._owners = FolderOwners(self._layout, self._disk)
        self._claims = FolderClaims(self._layout, self._disk, clock, self._owners, max_payload)
        self._endings = FolderEndings(self._layout, self._disk, clock, self._claims, renderer)
        self._announcing = FolderAnnouncing(self._layout, self._disk, renderer, former_keys)
        self._reader = FolderReader(self._layout, clock, self._claims, max_payload)
        self._queues: dict[str, DeviceQueue] = {}
        self._queues_lock = threading.Lock()
        self._watches: list[FolderWatch] = []
        #: Tokens of claims whose call did not come to an end, so that a repeat finds its own.
        self._doubtful: set[str] = set()
        self._held: dict[str, Claim] = {}

    # --- the device -------------------------------------------------------------------------

    def announce(self, card: DeviceCard, at: datetime) -> None:
        with self._translated:
            self._presence.mark(self._disk)
            self._presence.demand()
            self._announcing.announce(card, at)

    def demand_ours(self, device: str) -> None:
        with self._translated:
            self._announcing.approve(device)

    def depth(self, device: str) -> int:
        with self._translated:
            return len(list_queue(self._layout.queue(device)))

    def ping(self) -> None:
        with self._translated:
            demand_writable(self._layout.base)

    def subscribe(self, device: str, wake: Callable[[], None]) -> FolderWatch:
        with self._translated:
            watch = FolderWatch(self._layout.queue(device), self._disk, wake)
        self._watches = [each for each in self._watches if not each.closed]
        self._watches.append(watch)
        return watch

    # --- claiming ---------------------------------------------------------------------------

    def claim(self, device: str, owner: Owner, ttl: float, token: str) -> Claim | None:
        held = self._held.get(token)
        if held is not None:
            return held
        state = self._queue(device)
        with state.lock, self._translated:
            claim = self._claims.recall(device, owner, token) if token in self._doubtful else None
            if claim is None:
                self._presence.mark(self._disk)
                self._owners.introduce(owner)
                self._doubtful.add(token)
                claim = self._oldest(state, device, owner, ttl, token)
            self._doubtful.discard(token)
        if claim is not None:
            self._held[token] = claim
        return claim

    def _oldest(
        self, state: DeviceQueue, device: str, owner: Owner, ttl: float, token: str
    ) -> Claim | None:
        """Go through the known queue; when all of it has gone to others, look once more."""
        queue = state.queue
        for _ in range(2):
            queue.refresh()
            seen = 0
            while (waiting := queue.take()) is not None:
                seen += 1
                job = self._reader.read(state, device, waiting)
                if job is None:
                    continue
                past = self._claims.past(device, job.id)
                if past.waits:
                    queue.defer(waiting)
                    continue
                claim = self._claims.take(job, past, owner, ttl, token)
                if claim is not None:
                    queue.restore()
                    return claim
            if not seen or queue.deferring:
                break
        return None

    def _queue(self, device: str) -> DeviceQueue:
        with self._queues_lock:
            if device not in self._queues:
                folder = self._layout.queue(device)
                self._queues[device] = DeviceQueue(FolderQueue(folder, self._clock.monotonic))
            return self._queues[device]

    def reclaim(
        self, device: str, owner: Owner, ttl: float, token: str, *, spare: Collection[str] = ()
    ) -> Claim | None:
        with self._translated:
            claim = self._claims.recall(device, owner, token) if token in self._doubtful else None
            self._doubtful.add(token)
            claim = claim or self._expired(device, owner, ttl, token, spare)
            self._doubtful.discard(token)
        if claim is not None:
            self._held[token] = claim
        return claim

    def _expired(
        self, device: str, owner: Owner, ttl: float, token: str, spare: Collection[str]
    ) -> Claim | None:
        """Complete what is decided, and take over the first claim that is not."""
        for name in self._claims.expired(device, owner, spare):
            if name.phase.committed:
                self._endings.publish(device, name)
                continue
            self._owners.introduce(owner)
            claim = self._claims.take_over(device, name, owner, ttl, token)
            if claim is not None:
                self._endings.unstage(device, name.job_id, name.token)
                return claim
        return None

    # --- writing about a claim --------------------------------------------------------------

    def renew(
        self, claim: Claim, ttl: float, *, started: bool = False, progress: str = ""
    ) -> Claim:
        self._presence.expect()
        with self._translated:
            try:
                renewed = self._claims.renew(claim, ttl, started=started)
            except LeaseLost:
                self._presence.demand()
                self._held.pop(claim.token, None)
                raise
            if progress:
                self._show(claim, progress)
        self._held[claim.token] = renewed
        return renewed

    def _show(self, claim: Claim, progress: str) -> None:
        """Put the progress into the status, where there is one: the first is the client's."""
        place = self._layout.status(claim.job.device, claim.job.id)
        if exists(place):
            content = self._renderer.status(claim.job.id, State.RUNNING, progress)
            self._disk.publish(place, content, mark=f"{claim.token}.progress")

    def ack(self, claim: Claim, signed: SignedReport) -> None:
        self._presence.expect()
        with self._translated:
            try:
                committed = self._endings.commit(claim, signed)
            except LeaseLost:
                self._presence.demand()
                self._held.pop(claim.token, None)
                raise
            if committed is not None:
                self._endings.publish(claim.job.device, committed)
        self._held.pop(claim.token, None)

    def release(self, claim: Claim, reason: str, *, refund: bool, delay: float = 0.0) -> None:
        self._presence.expect()
        with self._translated:
            self._claims.give_back(claim, reason, refund=refund, delay=delay)
        self._held.pop(claim.token, None)
        state = self._queue(claim.job.device)
        with state.lock:
            state.queue.forget()

    # --- looking ----------------------------------------------------------------------------

    def peek(self, device: str) -> Iterator[Job]:
        with self._translated:
            waiting = sorted(list_queue(self._layout.queue(device)))
        for each in waiting:
            place = f"{self._layout.queue(device)}/{each.job_id}.json"
            with self._translated:
                try:
                    small = each.size <= self._max_payload
                    content = read(place, limit=self._max_payload) if small else b""
                except FileNotFoundError:
                    continue  # claimed by a daemon meanwhile
                decoded = self._claims.decode(each.job_id, content, max(each.size, len(content)))
            submitted = datetime.fromtimestamp(each.modified_ns / 1e9, UTC)
            yield Job(each.job_id, device, decoded.payload, decoded.defect, submitted)

    def preview(self, claim: Claim, signed: SignedReport) -> tuple[Write, ...]:
        base = f"{self._layout.base}/"
        return tuple(
            Write(place.removeprefix(base), json.loads(content))
            for place, content in self._endings.documents(claim, signed)
        )

    def close(self) -> None:
        while self._watches:
            self._watches.pop().close()
        # A storage that is away at the end keeps a small file of ours, and the exit code is 0.
        with suppress(BackendUnavailable), self._translated:
            self._owners.forget()
