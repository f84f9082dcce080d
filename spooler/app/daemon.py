"""One daemon: its parts wired, served, reloaded."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial

from spooler import __version__
from spooler.app import parts
from spooler.clock import SystemClock
from spooler.daemon.announcer import Announcer
from spooler.daemon.claims.leases import LeaseKeeper
from spooler.daemon.claims.recovery import Recovery
from spooler.daemon.executor import Executor
from spooler.daemon.housekeeper import Bell, Housekeeper
from spooler.daemon.outage import Outage
from spooler.daemon.reports.delivery import Delivery
from spooler.daemon.reports.outbox import Outbox
from spooler.daemon.room import Room
from spooler.daemon.schedule.timers import Timers
from spooler.daemon.supervisor import Supervisor
from spooler.daemon.tickets import Tickets
from spooler.daemon.worker import Worker
from spooler.durable import Disk
from spooler.errors import BackendUnavailable, ConfigError
from spooler.observe.audit import AuditLog
from spooler.observe.board import Board
from spooler.observe.events import EventName, Observer
from spooler.observe.notify import ServiceManager
from spooler.settings import DeviceSettings, Settings
from spooler.storage.liveness import this_process

#: Seconds that the service manager should grant for opening one device.
_OPENING = 120.0
#: Seconds between two status lines to the service manager.
_STATUS_EVERY = 10.0


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How `spooler run` was asked to run."""

    once: bool = False
    max_jobs: int | None = None
    dry_run: bool = False


class Daemon:
    """All parts of one daemon, wired. `serve` runs it to its end."""

    def __init__(
        self, settings: Settings, options: RunOptions, observer: Observer, board: Board
    ) -> None:
        self.settings = settings
        self._board = board
        parts.make_handlers_importable(settings)
        self._options = options
        self._observer = observer
        self._clock = SystemClock()
        self._owner = this_process()
        self._signer = parts.load_signer(settings)
        self._sign = parts.report_signer(self._signer)
        self._backend = parts.open_storage(settings, self._clock, self._signer)
        self._keeper = LeaseKeeper(self._backend, self._clock, settings.daemon.lease)
        self._outbox = Outbox(settings.state / "outbox", sync=self._durable())
        self._bell = Bell()
        deliver = partial(self._bell.ring, "deliver")
        self._outage = Outage(observer, self._clock, ended=deliver)
        self._disk = Disk(sync=self._durable())
        self._room = Room(settings.state, self._disk, observer, self._clock)
        self._delivery = Delivery(
            backend=self._backend,
            outbox=self._outbox,
            keeper=self._keeper,
            observer=observer,
            outage=self._outage,
            clock=self._clock,
            room=self._room,
            soon=deliver,
        )
        self._timers = Timers(self._clock)
        tickets = Tickets(options.max_jobs)
        self.workers = [
            self._worker(name, device, tickets)
            for name, device in settings.enabled_devices().items()
        ]
        self._housekeeper = self._housekeeping()

    def _durable(self) -> bool:
        return bool(getattr(self.settings.storage, "fsync", True))

    def _worker(self, name: str, device: DeviceSettings, tickets: Tickets) -> Worker:
        runner, hurry = parts.open_device(name, device, self.settings.state), threading.Event()
        executor = Executor(
            backend=self._backend,
            runner=runner,
            keeper=self._keeper,
            delivery=self._delivery,
            sign=self._sign,
            observer=self._observer,
            outage=self._outage,
            room=self._room,
            clock=self._clock,
            state=self.settings.state,
            disk=self._disk,
            patience=lambda seconds: not hurry.wait(seconds),
        )
        return Worker(
            rules=parts.device_rules(name, device, self.settings),
            backend=self._backend,
            runner=runner,
            executor=executor,
            owner=self._owner,
            ttl=self.settings.daemon.lease,
            clock=self._clock,
            observer=self._observer,
            tickets=tickets,
            hurry=hurry,
            once=self._options.once,
            outage=self._outage,
            room=self._room,
            keeps_up=self._delivery.keeps_up,
            late=self._timers.revive,
            news=partial(self._bell.ring, "announce"),
        )

    def _housekeeping(self) -> Housekeeper:
        closing = threading.Event()
        recovery = Recovery(
            backend=self._backend,
            owner=self._owner,
            keeper=self._keeper,
            delivery=self._delivery,
            sign=self._sign,
            observer=self._observer,
            clock=self._clock,
            outage=self._outage,
            patience=lambda seconds: not closing.wait(seconds),
        )
        announcer = Announcer(
            self._backend, self.workers, self._clock, self._observer, self._outage
        )
        return Housekeeper(
            delivery=self._delivery,
            recovery=recovery,
            announcer=announcer,
            workers=self.workers,
            outage=self._outage,
            bell=self._bell,
            stopping=closing,
            clock=self._clock,
            interval=lambda: min(
                self.settings.daemon.announce_interval, self.settings.daemon.recovery_interval
            ),
            late=self._timers.revive,
        )

    def serve(self, service: ServiceManager, reload: Callable[[], None]) -> int:
        """Open everything, serve, close everything; the exit code."""
        with ExitStack() as cleanup:
            cleanup.callback(os.close, parts.lock_state(self.settings.state))
            audit = AuditLog(
                self.settings.state / "audit",
                str(self._owner),
                self._signer,
                sync=self._durable(),
            )
            cleanup.callback(audit.close)
            cleanup.callback(self._observer.subscribe(audit))
            cleanup.callback(self._backend.close)
            for worker in self.workers:
                cleanup.callback(worker.close)
            # What killed runs have left; nothing of it was published.
            shutil.rmtree(self.settings.state / "scratch", ignore_errors=True)
            self._disk.make_folder(self.settings.state / "scratch")
            for worker in self.workers:  # before any hardware is touched
                self._demand_ours(worker.rules.name)
            for worker in self.workers:
                service.extend(_OPENING)
                self._open(worker)
            self._housekeeper.begin()
            self._schedule()
            supervisor = self._supervisor(service, reload)
            return supervisor.run(lambda: self._ready(service))

    @property
    def undelivered(self) -> int:
        """How many reports the storage does not have (yet)."""
        return self._delivery.waiting

    @property
    def left(self) -> int:
        """How many jobs wait that `once` could not have, and did not wait for."""
        return sum(worker.left for worker in self.workers)

    def _open(self, worker: Worker) -> None:
        """Bring a handler up; what is wrong with it is said with its device's name."""
        try:
            worker.open()
        except ConfigError as error:
            name = worker.rules.name
            told = str(error)
            raise ConfigError(told if name in told else f"device {name}: {told}") from error

    def _demand_ours(self, device: str) -> None:
        """Refuse another key's device at once; a storage that is away is asked again later."""
        with suppress(BackendUnavailable):
            self._backend.demand_ours(device)

    def _supervisor(self, service: ServiceManager, reload: Callable[[], None]) -> Supervisor:
        return Supervisor(
            workers=self.workers,
            keeper=self._keeper,
            housekeeper=self._housekeeper,
            delivery=self._delivery,
            timers=self._timers,
            observer=self._observer,
            clock=self._clock,
            grace=lambda: self.settings.daemon.grace,
            reload=reload,
            stopping=service.stopping,
            beat=lambda: self._beat(service),
            beat_every=service.watchdog / 3 if service.watchdog else _STATUS_EVERY,
        )

    def _beat(self, service: ServiceManager) -> None:
        """Show life and what goes on; called by the main thread, which does nothing else."""
        service.alive()
        service.status(self._board.snapshot().line())

    def _ready(self, service: ServiceManager) -> None:
        self._observer.emit(
            EventName.DAEMON_STARTED,
            version=__version__,
            devices=[worker.rules.name for worker in self.workers],
            storage=self.settings.storage.type,
        )
        service.ready()

    def _schedule(self) -> None:
        daemon = self.settings.daemon
        self._timers.every(
            "announce", daemon.announce_interval, partial(self._bell.ring, "announce")
        )
        self._timers.every("recover", daemon.recovery_interval, partial(self._bell.ring, "recover"))
        for worker in self.workers:
            name = worker.rules.name
            self._timers.every(f"poll-{name}", worker.rules.poll_interval, worker.wake)
            self._timers.at_windows(f"window-{name}", worker.rules.windows, worker.wake)

    def apply(self, settings: Settings) -> list[str]:
        """Take over what can change while we run; the names of what needs a restart."""
        later = needs_restart(self.settings, settings)
        for worker in self.workers:
            device = settings.devices.get(worker.rules.name)
            if device is not None:
                worker.rules = parts.device_rules(worker.rules.name, device, settings)
        self.settings = settings
        self._schedule()
        return later


def needs_restart(old: Settings, new: Settings) -> list[str]:
    """The settings that differ and that a running daemon does not take over."""
    found = [
        key for key in ("state", "storage", "signing") if getattr(old, key) != getattr(new, key)
    ]
    found += [
        f"daemon.{key}"
        for key in ("lease", "max_payload")
        if getattr(old.daemon, key) != getattr(new.daemon, key)
    ]
    fixed = ("handler", "options", "isolation", "grace", "max_output", "memory_limit", "enabled")
    for name in sorted(old.devices.keys() | new.devices.keys()):
        before, after = old.devices.get(name), new.devices.get(name)
        if before is None or after is None:
            found.append(f"devices.{name}")
        else:
            found += [
                f"devices.{name}.{key}"
                for key in fixed
                if getattr(before, key) != getattr(after, key)
            ]
    return found
