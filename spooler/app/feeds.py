"""The feeds of a daemon: for each storage what claims, keeps, delivers, recovers and announces."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from spooler.app import parts
from spooler.daemon.claims.estates import Estates
from spooler.daemon.claims.leases import Leases
from spooler.daemon.claims.records import Opened, Records
from spooler.daemon.claims.recovery import Recovery, Served
from spooler.daemon.claims.returns import Returns
from spooler.daemon.feeds.announcer import Announced, Announcer
from spooler.daemon.feeds.feed import Feed
from spooler.daemon.feeds.housekeeper import Bell, Duty, Housekeeper, Punctual
from spooler.daemon.feeds.outage import Outage
from spooler.daemon.reports.delivery import Delivery
from spooler.daemon.shared import Shared
from spooler.daemon.worker import Standing, Worker
from spooler.model.claim import Owner
from spooler.model.device import DeviceCard
from spooler.model.job import Queue, key_of
from spooler.observe.logger import get_logger
from spooler.settings import Settings
from spooler.storage.wrapped.metered import Metered

logger = get_logger("spooler.records")


@dataclass(frozen=True, slots=True)
class Ground:
    """What the feeds of one daemon stand on."""

    settings: Settings
    owner: Owner
    shared: Shared
    opened: Opened
    #: Called when timers have fallen silent: when none has come for some of `interval`, which is
    #: the shortest of the settings in force.
    late: Callable[[], None]
    interval: Callable[[], float]


@dataclass(frozen=True, slots=True)
class OpenFeed:
    """One feed, wired: its backend, its queues by device, and who keeps house in it."""

    feed: Feed
    backend: Metered
    queues: Mapping[str, Queue]
    estates: Estates
    recovery: Recovery
    housekeeper: Housekeeper
    bell: Bell

    def open(self) -> None:
        """Take the folder of our own records, and what earlier processes have left.

        Raises BackendUnavailable, of our own disk.
        """
        self.feed.records.open()
        self.recovery.adopt()

    def close(self) -> None:
        """Let go of the storage and of the records; harmless to repeat."""
        self.backend.close()
        self.estates.close()


def open_feed(
    name: str, ground: Ground, backend: Metered, workers: Mapping[str, Worker]
) -> OpenFeed:
    """Wire one storage; nothing is asked of it yet. Raises ConfigError for unusable queues."""
    settings, shared = ground.settings, ground.shared
    queues = parts.queues(settings, name)
    bell, stopping = Bell(), threading.Event()
    deliver = partial(bell.ring, Duty.DELIVER)
    outage = Outage(shared.observer, shared.clock, ended=deliver, storage=name)
    records = Records(Path(ground.owner.estate) / key_of(backend.address))
    estates = Estates(records, parts.roots(settings.state), ground.opened, tell_of_unreadable)
    show = partial(bell.ring, Duty.SHOW)
    leases = Leases(backend, shared.clock, settings.daemon.lease, show)
    delivery = Delivery(
        backend=backend,
        records=records,
        estates=estates,
        leases=leases,
        outage=outage,
        shared=shared,
        wake=deliver,
    )
    returns = Returns(backend, estates, leases, shared.clock, deliver)
    feed = Feed(name, backend, ground.owner, outage, records, leases, delivery, returns)
    recovery = Recovery(feed, estates, shared, lambda seconds: not stopping.wait(seconds))
    housekeeper = Housekeeper(
        feed=feed,
        served=tuple(_served(queue, workers[device]) for device, queue in queues.items()),
        recovery=recovery,
        announcer=Announcer(
            feed,
            [Announced(queue, partial(_card, workers[device])) for device, queue in queues.items()],
            shared,
        ),
        bell=bell,
        punctual=Punctual(shared.clock, ground.interval, ground.late),
        stopping=stopping,
        clock=shared.clock,
    )
    return OpenFeed(feed, backend, queues, estates, recovery, housekeeper, bell)


def _served(queue: Queue, worker: Worker) -> Served:
    return Served(queue, lambda: worker.rules, lambda: worker.version, worker.wake)


def _card(worker: Worker) -> DeviceCard | None:
    return None if worker.standing is Standing.UNKNOWN else worker.card


def tell_of_unreadable(path: Path, why: str) -> None:
    """Say once that a record cannot be used; it stays where it is."""
    logger.warning("%s is not used: %s; see: spooler outbox list", os.fspath(path), why)
