"""A storage in this process's memory: for tests and trials, held to the same contract."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from spooler.errors import LeaseLost, NotCancellable, UnknownDevice, UnknownJob
from spooler.model.claim import Attempt, Claim, Lease
from spooler.model.device import DeviceCard, seen
from spooler.model.job import Job, Queue
from spooler.model.json import JsonObject
from spooler.model.result import Result, SignedReport
from spooler.model.state import ENDING, Event, State, step
from spooler.model.status import Status
from spooler.model.storage import Standing, Traits, Verification, Write
from spooler.protocols import Backend, Clock, Judge, Submitter
from spooler.storage.kit.opening import Opening
from spooler.storage.settings import MemorySettings


@dataclass
class _Entry:
    """One job and everything known about it."""

    job: Job
    state: State = State.QUEUED
    claim: Claim | None = None
    expires: float = 0.0
    eligible: float = 0.0
    cancelled: bool = False
    progress: str = ""
    history: tuple[Attempt, ...] = ()
    signed: SignedReport | None = None
    acked_token: str = ""


@dataclass
class MemoryStorage:
    """What several memory backends and submitters share."""

    name: str = "memory"
    lock: threading.RLock = field(default_factory=threading.RLock)
    entries: dict[tuple[str, str], _Entry] = field(default_factory=dict)
    cards: dict[str, DeviceCard] = field(default_factory=dict)
    wakers: dict[str, list[Callable[[], None]]] = field(default_factory=dict)


class _Waking:
    """A subscription of one callback."""

    def __init__(self, storage: MemoryStorage, queue: str, wake: Callable[[], None]) -> None:
        self._storage, self._queue, self._wake = storage, queue, wake
        with storage.lock:
            storage.wakers.setdefault(queue, []).append(wake)

    def close(self) -> None:
        with self._storage.lock:
            wakers = self._storage.wakers.get(self._queue, [])
            if self._wake in wakers:
                wakers.remove(self._wake)


class MemoryCatalogue:
    """The announced devices; a memory storage knows no keys."""

    def __init__(self, storage: MemoryStorage) -> None:
        self._storage = storage

    def announce(self, queue: Queue, card: DeviceCard, at: datetime) -> None:
        with self._storage.lock:
            self._storage.cards[queue.name] = replace(card, name=queue.name, last_seen=seen(at))

    def inspect(self, queue: Queue) -> str:
        del queue  # its server, or its file, says what is wrong when it is asked
        return ""

    def check_key_owner(self, queue: Queue) -> None:
        return


class MemoryBackend:
    """The daemon's view. `traits` may promise less than the storage keeps, for tests."""

    def __init__(self, storage: MemoryStorage, clock: Clock, traits: Traits | None = None) -> None:
        self._storage = storage
        self._clock = clock
        self.traits = traits or Traits()
        self.catalogue = MemoryCatalogue(storage)

    @property
    def address(self) -> str:
        return f"memory:{self._storage.name}"

    def claim(self, queue: Queue, lease: Lease) -> Claim | None:
        with self._storage.lock:
            for entry in self._of(queue):
                if entry.claim is not None and entry.claim.lease.token == lease.token:
                    return entry.claim
            for entry in self._of(queue):
                if entry.state is State.QUEUED and entry.eligible <= self._clock.monotonic():
                    return self._take(entry, lease)
        return None

    def _take(self, entry: _Entry, lease: Lease) -> Claim:
        entry.state = step(entry.state, Event.CLAIM)
        attempt = 1 + max((past.number for past in entry.history), default=0)
        entry.claim = Claim(
            entry.job, lease, attempt, cancelled=entry.cancelled, history=entry.history
        )
        entry.expires = self._clock.monotonic() + lease.ttl
        return entry.claim

    def start(self, claim: Claim, seconds: float) -> Claim:
        del seconds  # a lease has no end that a renewal could not move
        return self._renewed(claim, started=True)

    def renew(self, claim: Claim) -> Claim:
        return self._renewed(claim, started=False)

    def _renewed(self, claim: Claim, *, started: bool) -> Claim:
        with self._storage.lock:
            entry, held = self._held(claim)
            entry.state = step(entry.state, Event.RENEW)
            entry.expires = self._clock.monotonic() + claim.lease.ttl
            entry.claim = replace(held, started=held.started or started, cancelled=entry.cancelled)
            return entry.claim

    def show(self, claim: Claim, text: str) -> None:
        with self._storage.lock:
            try:
                entry, _ = self._held(claim)
            except LeaseLost:
                return
            entry.progress = text

    def ack(self, claim: Claim, signed: SignedReport) -> None:
        with self._storage.lock:
            entry = self._storage.entries.get((claim.job.queue, claim.job.id))
            if entry is not None and entry.acked_token == claim.lease.token:
                return
            entry, _ = self._held(claim)
            final = signed.report.status.state
            entry.state = step(entry.state, ENDING[final])
            entry.signed = signed
            entry.acked_token = claim.lease.token
            entry.claim = None

    def release(self, claim: Claim, reason: str, *, refund: bool, delay: float = 0.0) -> None:
        with self._storage.lock:
            entry, held = self._held(claim)
            entry.state = step(entry.state, Event.RELEASE)
            if not refund:
                now, owner = self._clock.now(), str(held.owner)
                ended = Attempt(held.attempt, owner, now, reason, started=held.started)
                entry.history = (*entry.history, ended)
            entry.eligible = self._clock.monotonic() + delay
            entry.claim = None
        self.wake(claim.job.queue)

    def reclaim(self, queue: Queue, lease: Lease, judge: Judge) -> Claim | None:
        with self._storage.lock:
            for entry in self._of(queue):
                held = entry.claim
                if held is not None and held.token == lease.token:
                    return held
            for entry in self._of(queue):
                held = entry.claim
                if held is None:
                    continue
                standing = judge(held)
                ran_out = entry.expires <= self._clock.monotonic()
                if standing is Standing.DEAD or (standing is Standing.LEASED and ran_out):
                    entry.state = step(entry.state, Event.RECLAIM)
                    entry.expires = self._clock.monotonic() + lease.ttl
                    entry.claim = replace(held, lease=lease, cancelled=entry.cancelled)
                    return entry.claim
        return None

    def depth(self, queue: Queue) -> int:
        with self._storage.lock:
            return sum(entry.state is State.QUEUED for entry in self._of(queue))

    def ping(self) -> None:
        return

    def subscribe(self, queue: Queue, wake: Callable[[], None]) -> _Waking:
        return _Waking(self._storage, queue.name, wake)

    def wake(self, queue: str) -> None:
        """Call everyone who waits for jobs of `queue`."""
        with self._storage.lock:
            wakers = tuple(self._storage.wakers.get(queue, ()))
        for each in wakers:
            each()

    def peek(self, queue: Queue) -> Iterator[Job]:
        with self._storage.lock:
            waiting = [
                replace(entry.job, withdrawn=entry.cancelled)
                for entry in self._of(queue)
                if entry.state is State.QUEUED
            ]
        yield from waiting

    def preview(self, claim: Claim, signed: SignedReport) -> tuple[Write, ...]:
        status = signed.report.status
        content = {"state": status.state, "reason": status.reason, "jws": signed.jws}
        return (Write(f"memory/{claim.job.queue}/{claim.job.id}", content),)

    def close(self) -> None:
        return

    def _of(self, queue: Queue) -> list[_Entry]:
        return [entry for (name, _), entry in self._storage.entries.items() if name == queue.name]

    def _held(self, claim: Claim) -> tuple[_Entry, Claim]:
        entry = self._storage.entries.get((claim.job.queue, claim.job.id))
        held = entry.claim if entry is not None else None
        if (
            entry is None
            or held is None
            or (held.attempt, held.token) != (claim.attempt, claim.lease.token)
        ):
            raise LeaseLost(f"job {claim.job.id} is no longer held by {claim.lease.owner}")
        return entry, held


class MemorySubmitter:
    """The submitter's view."""

    def __init__(self, storage: MemoryStorage, clock: Clock) -> None:
        self._storage = storage
        self._clock = clock

    def submit(self, device: str, payload: JsonObject, *, job_id: str = "") -> str:
        """Queue a job; `job_id` may be given here, so that tests can bring any."""
        job_id = job_id or uuid.uuid4().hex[:24]
        with self._storage.lock:
            if device not in self._storage.cards:
                raise UnknownDevice(f"device {device!r} is not announced")
            job = Job(job_id, device, payload, submitted_at=self._clock.now())
            self._storage.entries[device, job_id] = _Entry(job)
        MemoryBackend(self._storage, self._clock).wake(device)
        return job_id

    def status(self, device: str, job_id: str) -> Status:
        with self._storage.lock:
            entry = self._entry(device, job_id)
            if entry.signed is not None:
                return entry.signed.report.status
            return Status(entry.state, entry.progress)

    def result(self, device: str, job_id: str) -> Result:
        with self._storage.lock:
            signed = self._entry(device, job_id).signed
        if signed is None or signed.report.result is None:
            raise UnknownJob(f"job {job_id} has no result (yet)")
        return signed.report.result

    def verify(self, device: str, job_id: str) -> Verification:
        self.result(device, job_id)
        return Verification(ok=False, detail="the memory storage publishes no key to verify with")

    def cancel(self, device: str, job_id: str) -> bool:
        with self._storage.lock:
            entry = self._entry(device, job_id)
            if entry.state.ended:
                raise NotCancellable(f"job {job_id} has already ended: {entry.state}")
            entry.cancelled = True
            return entry.state is State.QUEUED

    def request(self, device: str, job_id: str) -> JsonObject:
        with self._storage.lock:
            payload = self._entry(device, job_id).job.payload
        if not isinstance(payload, Mapping):
            raise UnknownJob(f"the request of job {job_id} is not a JSON object")
        return payload

    def devices(self, *, count: bool = False) -> list[DeviceCard]:
        with self._storage.lock:
            cards, entries = list(self._storage.cards.values()), self._storage.entries.items()
            if not count:
                return cards
            waiting = Counter(key[0] for key, each in entries if each.state is State.QUEUED)
            return [replace(card, pending=waiting[card.name]) for card in cards]

    def close(self) -> None:
        return

    def _entry(self, device: str, job_id: str) -> _Entry:
        try:
            return self._storage.entries[device, job_id]
        except KeyError:
            raise UnknownJob(f"job {job_id!r} not found on device {device!r}") from None


#: The memory storages of this process, by name.
_STORAGES: dict[str, MemoryStorage] = {}


def memory_storage(name: str) -> MemoryStorage:
    """Return the memory storage of that name in this process."""
    return _STORAGES.setdefault(name, MemoryStorage(name))


def open_backend(settings: MemorySettings, opening: Opening) -> Backend:
    """Return the daemon's view of a storage of this process."""
    return MemoryBackend(memory_storage(settings.name), opening.clock)


def open_submitter(settings: MemorySettings, clock: Clock) -> Submitter:
    """Return the submitter's view of a storage of this process."""
    return MemorySubmitter(memory_storage(settings.name), clock)


def carries(queue: str) -> str:
    """Say that any name will do."""
    del queue
    return ""
