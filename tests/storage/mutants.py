"""Planted faults: ways in which a storage could break its promises, one each.

Each is a context manager that breaks the folder backend (or the memory backend) while it is
open. The contract suite must notice every one.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from spooler.durable import Disk
from spooler.storage.memory import MemoryBackend
from spooler.storage.sqooler.folder.backend import FolderBackend
from spooler.storage.sqooler.folder.claims import FolderClaims, Past
from spooler.storage.sqooler.folder.endings import FolderEndings
from spooler.storage.sqooler.folder.layout import ClaimName, Phase
from spooler.storage.sqooler.folder.queue import FolderQueue
from spooler.storage.sqooler.folder.watch import FolderWatch

Mutant = Callable[[], Any]


@contextmanager
def _patched(owner: Any, name: str, value: Any) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, value)
        yield


def claims_by_copying() -> Any:
    """Takes a job by copying it: the queue keeps it, and everybody else gets it too."""

    def rename(self: Disk, source: Any, target: Any) -> None:
        if "/queued/" in str(source):
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            if not Path(target).exists():
                os.link(source, target)
            return
        real(self, source, target)

    real = Disk.rename
    return _patched(Disk, "rename", rename)


def youngest_first() -> Any:
    """Hands out the jobs in the wrong order."""
    real = FolderQueue.take

    def take(self: FolderQueue) -> Any:
        self._waiting = deque(sorted(self._waiting, reverse=True))
        return real(self)

    return _patched(FolderQueue, "take", take)


def forgets_new_jobs() -> Any:
    """Lists the queue once and never again."""
    real = FolderQueue.refresh

    def refresh(self: FolderQueue) -> None:
        if self._listed_at == float("-inf"):
            real(self)

    return _patched(FolderQueue, "refresh", refresh)


def renews_without_looking() -> Any:
    """Extends a lease without asking whether it is still there."""

    def renew(self: FolderClaims, claim: Any, ttl: float, *, started: bool) -> Any:
        return replace(claim, started=claim.started or started)

    return _patched(FolderClaims, "renew", renew)


def forgets_the_start() -> Any:
    """Does not note that the handler has started."""
    real = ClaimName.renewed

    def renewed(self: ClaimName, ttl: float, *, started: bool) -> ClaimName:
        return real(self, ttl, started=False)

    return _patched(ClaimName, "renewed", renewed)


def no_fence() -> Any:
    """Publishes whatever it is given, by whomever."""

    def commit(self: FolderEndings, claim: Any, signed: Any) -> ClaimName:
        self._stage(claim, signed)
        found = [n for n in self._claims._names(claim.job.device) if n.job_id == claim.job.id]
        name = found[0] if found else ClaimName.parse(claim.handle)
        assert name is not None
        return name._replace(token=claim.token, phase=Phase.COMMITTED_DONE)

    return _patched(FolderEndings, "commit", commit)


def everything_has_expired() -> Any:
    """Takes over claims that are alive."""
    return _patched(
        FolderClaims,
        "expired",
        lambda self, device, owner, spare: [
            name for name in self._names(device) if name.process != owner.process
        ],
    )


def nothing_ever_expires() -> Any:
    """Never takes over anything."""
    return _patched(FolderClaims, "expired", lambda *_: [])


def spares_nobody() -> Any:
    """Takes over claims whose reports wait in our outbox."""
    real = FolderClaims.expired
    return _patched(
        FolderClaims, "expired", lambda self, device, owner, spare: real(self, device, owner, ())
    )


def counts_no_attempts() -> Any:
    """Forgets how often a job was tried."""
    return _patched(FolderClaims, "past", lambda *_: Past())


def counts_refunded_attempts() -> Any:
    """Counts an attempt that never was one."""
    real = FolderClaims.give_back
    return _patched(
        FolderClaims,
        "give_back",
        lambda self, claim, reason, *, refund, delay: real(
            self, claim, reason, refund=False, delay=delay
        ),
    )


def waits_for_nothing() -> Any:
    """Hands out a job that should wait."""
    real = FolderClaims.past
    return _patched(
        FolderClaims, "past", lambda self, *where: replace(real(self, *where), waits=False)
    )


def publishes_no_status() -> Any:
    """Leaves the status as it was."""
    real = FolderEndings._reveal
    return _patched(
        FolderEndings,
        "_reveal",
        lambda self, place, token: None if "/status/" in place else real(self, place, token),
    )


def never_wakes() -> Any:
    """Watches and says nothing."""
    real = FolderWatch.__init__
    return _patched(
        FolderWatch,
        "__init__",
        lambda self, folder, disk, wake: real(self, folder, disk, lambda: None),
    )


def preview_writes() -> Any:
    """A dry run that is none."""
    real = FolderBackend.preview

    def preview(self: FolderBackend, claim: Any, signed: Any) -> Any:
        self.ack(claim, signed)
        return real(self, claim, signed)

    return _patched(FolderBackend, "preview", preview)


def forgets_its_tokens() -> Any:
    """A repeated claim takes a second job."""
    real = FolderBackend.claim

    def claim(self: FolderBackend, *asked: Any) -> Any:
        self._held.clear()
        return real(self, *asked)

    return _patched(FolderBackend, "claim", claim)


def ack_only_once() -> Any:
    """Takes a repeated report for a late one."""
    from spooler.errors import LeaseLost

    def refuse(self: FolderEndings, claim: Any) -> None:
        raise LeaseLost("never heard of it")

    return _patched(FolderEndings, "_demand_ended_by", refuse)


def ack_wants_the_newest_handle() -> Any:
    """Looks for the claim only under the name that the report knows."""
    return _patched(FolderClaims, "find", lambda self, claim: None)


FOLDER = (
    claims_by_copying,
    youngest_first,
    forgets_new_jobs,
    renews_without_looking,
    forgets_the_start,
    no_fence,
    everything_has_expired,
    nothing_ever_expires,
    spares_nobody,
    counts_no_attempts,
    counts_refunded_attempts,
    waits_for_nothing,
    publishes_no_status,
    never_wakes,
    preview_writes,
    forgets_its_tokens,
    ack_only_once,
    ack_wants_the_newest_handle,
)


def memory_without_fence() -> Any:
    """Takes the word of anyone about a job."""

    def held(self: MemoryBackend, claim: Any) -> Any:
        entry = self._storage.entries[claim.job.device, claim.job.id]
        return entry, entry.claim or claim

    return _patched(MemoryBackend, "_held", held)


def memory_lets_expired_leases_be() -> Any:
    """Never takes over anything."""
    return _patched(MemoryBackend, "reclaim", lambda *_, **__: None)


MEMORY = (memory_without_fence, memory_lets_expired_leases_be)
