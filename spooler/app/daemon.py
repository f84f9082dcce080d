"""One daemon: its parts wired, served, reloaded."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from spooler import __version__
from spooler.app import parts
from spooler.app.feeds import Ground, OpenFeed, open_feed
from spooler.app.first_edition import take_over_outbox
from spooler.app.state_lock import StateLock
from spooler.clock import SystemClock
from spooler.daemon.claims.records import PARKED
from spooler.daemon.executor import Executor
from spooler.daemon.feeds.housekeeper import Duty
from spooler.daemon.pulse import Pulse
from spooler.daemon.room import Room
from spooler.daemon.schedule.drain import Drain, Policy, Serve, Tickets
from spooler.daemon.schedule.timers import Timers
from spooler.daemon.schedule.turns import Source
from spooler.daemon.schedule.wake import Ear
from spooler.daemon.shared import Shared
from spooler.daemon.supervisor import OK, STOPPED_EARLY, StoppedEarly, Supervisor, Watch
from spooler.daemon.worker import Standing, Stops, Worker
from spooler.durable import Disk, unavailable
from spooler.errors import BackendUnavailable, ConfigError
from spooler.observe.audit import AuditLog
from spooler.observe.board import Board
from spooler.observe.events import EventName, Observer
from spooler.observe.logger import get_logger
from spooler.observe.notify import ServiceManager
from spooler.settings import DeviceSettings, Settings
from spooler.storage.wrapped.metered import Metered

logger = get_logger("spooler.records")

#: Seconds that the service manager should grant beyond what a device may take to open.
_BEYOND_OPENING = 60.0
#: Seconds that the start waits for the devices that take longer to open than the first.
_FOR_THE_SLOWER = 5.0
#: Seconds between two status lines to the service manager, and two looks at our state folder.
_STATUS_EVERY, _LOOK_EVERY = 10.0, 1.0
#: A tick that is this many poll intervals late, and this many seconds beyond, is taken for lost.
_LATE, _SLACK = 2.0, 0.5


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
        self._status_at = float("-inf")
        #: The source file of each handler as it was when we began.
        self._sources_then = self._source_files()
        self._serving = False
        #: When the first device was open, or known to rest.
        self._first_at: float | None = None
        #: What of our state folder has to stay there, while we serve.
        self._kept: tuple[StateLock, AuditLog] | None = None
        self._owner = parts.this_process(settings.state)
        self._signer = parts.load_signer(settings)
        clock, disk = SystemClock(), Disk()
        room = Room(settings.state, disk, observer, clock)
        self._shared = Shared(
            clock, observer, parts.report_signer(self._signer), room, Pulse(clock)
        )
        self._timers = Timers(clock)
        tickets = Tickets(options.max_jobs)
        self.workers = {
            name: self._worker(name, device, tickets)
            for name, device in settings.enabled_devices().items()
        }
        self.feeds = [self._feed(name) for name in settings.feeds()]
        for name, worker in self.workers.items():
            worker.serve(list(self._sources(name)))

    def _worker(self, name: str, device: DeviceSettings, tickets: Tickets) -> Worker:
        runner, stops = parts.open_device(name, device, self.settings.state), Stops.new()
        executor = Executor(
            runner, self._shared, self.settings.state, lambda seconds: not stops.waits.wait(seconds)
        )
        rules = parts.device_rules(name, device, self.settings, signs=self._signs)
        worker = Worker(
            rules=rules,
            runner=runner,
            executor=executor,
            policy=self._policy(rules.poll_interval),
            tickets=tickets,
            shared=self._shared,
            stops=stops,
            news=self._announce,
        )
        worker.late = self._timers.revive
        return worker

    def _policy(self, poll_interval: float) -> Policy:
        if self._options.once:
            return Drain(self._shared.clock)
        return Serve(lambda: _LATE * poll_interval + _SLACK)

    def _announce(self) -> None:
        for each in self.feeds:
            each.bell.ring(Duty.ANNOUNCE)

    def _feed(self, name: str) -> OpenFeed:
        settings, clock = self.settings, self._shared.clock
        storage = settings.feeds()[name]
        backend = Metered(parts.open_storage(settings, storage, clock, self._signer), clock)
        opened = parts.report_opener(settings, self._signer)
        late, interval = self._timers.revive, self._shortest_interval
        ground = Ground(settings, self._owner, self._shared, opened, late, interval)
        return open_feed(name, ground, backend, self.workers)

    def _sources(self, device: str) -> list[Source]:
        """Return the queues of a device, in the order of the settings."""
        feeds = {each.feed.name: each for each in self.feeds}
        found = []
        for each in self.settings.queues_of(device):
            open_ = feeds[each.storage]
            queue = open_.queues[device]
            ear = Ear(open_.backend, queue, self._shared, self.workers[device].wake)
            found.append(Source(open_.feed, queue, ear, each.priority))
        return found

    @property
    def _signs(self) -> bool:
        return self._signer is not None

    def _source_files(self) -> dict[str, tuple[Path, bytes] | None]:
        devices = self.settings.enabled_devices()
        return {name: parts.source_file(device.handler) for name, device in devices.items()}

    def _edited(self) -> list[str]:
        """Return the handlers whose file has changed since we began: what runs is the old one."""
        return [
            f"devices.{name}.handler ({found[0].name} was edited)"
            for name, found in self._source_files().items()
            if found is not None and found != self._sources_then.get(name)
        ]

    # --- serving ----------------------------------------------------------------------------

    def serve(self, service: ServiceManager, reload: Callable[[], None]) -> int:
        """Open everything, serve, close everything; the exit code."""
        supervisor = self._supervisor(service, reload)
        with supervisor.listening(), ExitStack() as cleanup:
            try:
                self._begin(cleanup, service)
                code = supervisor.run(lambda: self._ready(service))
            except StoppedEarly:
                self._observer.emit(EventName.DAEMON_STOPPING, reason=STOPPED_EARLY)
                service.stopping()
                return OK
            if code == OK and self._options.once and (wrong := self._refusals()):
                raise wrong[0]
            return code

    def _begin(self, cleanup: ExitStack, service: ServiceManager) -> None:
        """Open everything; `cleanup` closes what is open."""
        state = self.settings.state
        lock = StateLock(state)
        cleanup.callback(lock.close)
        audit = AuditLog(state / "audit", str(self._owner), self._signer)
        cleanup.callback(audit.close)
        self._kept = lock, audit
        cleanup.callback(self._observer.subscribe(audit))
        for each in self.feeds:
            cleanup.callback(each.close)
            cleanup.callback(self._tell_of_calls, each)
        for worker in self.workers.values():
            cleanup.callback(worker.close)
        # What killed runs have left; nothing of it was published.
        shutil.rmtree(state / "scratch", ignore_errors=True)
        Disk().make_folder(state / "scratch")
        for each in self.feeds:
            each.open()
        tell_of_strangers(state, {each.feed.records.folder.name for each in self.feeds})
        self._take_over_the_first_edition()
        self._check_keys()
        for each in self.feeds:
            each.housekeeper.begin()
        self._schedule()
        longest = max(each.open_timeout for each in self.settings.enabled_devices().values())
        service.extend(longest + _BEYOND_OPENING)

    def _check_keys(self) -> None:
        """Leave alone what is announced with another key; KeyRefused where that is everything.

        A stranger's announcement stops one device at most, a wrong key in the settings the start.
        """
        refused = [error for each in self.feeds for error in each.housekeeper.check_keys()]
        if refused and len(refused) == sum(len(each.queues) for each in self.feeds):
            raise refused[0]

    def _take_over_the_first_edition(self) -> None:
        """An earlier edition knew one storage, which is the first by now if there are several."""
        outbox, opened = (
            self.settings.state / "outbox",
            parts.report_opener(self.settings, self._signer),
        )
        take_over_outbox(outbox, self.feeds[0].feed.records, opened)

    @property
    def undelivered(self) -> int:
        """Return how many reports the storages do not have (yet)."""
        return sum(each.feed.delivery.waiting for each in self.feeds)

    @property
    def left(self) -> int:
        """Return how many jobs wait that `once` could not have, and did not wait for."""
        return sum(worker.policy.left for worker in self.workers.values())

    @property
    def unanswered(self) -> bool:
        """Return whether `once` has ended without knowing what waits."""
        return any(worker.policy.unanswered for worker in self.workers.values())

    def _begun(self) -> bool:
        """Return whether the start is over: devices serve, and those that can be announced are.

        A device that takes long to open does not keep the others from it.
        """
        known = [
            name for name, worker in self.workers.items() if worker.standing is not Standing.UNKNOWN
        ]
        now = self._shared.clock.monotonic()
        if known and self._first_at is None:
            self._first_at = now
        if self._first_at is None:
            return False
        if len(known) < len(self.workers) and now - self._first_at < _FOR_THE_SLOWER:
            return False
        return all(
            each.housekeeper.is_announced(name)
            for each in self.feeds
            for name in known
            if name in each.queues
        )

    def _look(self) -> None:
        """See that there is something to serve, until we do, and that our state folder is there.

        Raises ConfigError when no device can be served as it is set up, and StateInUse when another
        daemon has begun in our place.
        """
        wrong = [] if self._serving else self._refusals()
        if len(wrong) == len(self.workers):
            raise wrong[0]
        self._look_at_state()

    def _refusals(self) -> list[ConfigError]:
        """What is wrong with devices that cannot be served as they are set up, by their names."""
        found = []
        for name, worker in self.workers.items():
            if (refusal := worker.refusal) is not None:
                told = str(refusal)
                found.append(ConfigError(told if name in told else f"device {name}: {told}"))
        return found

    def _look_at_state(self) -> None:
        """Make anew what somebody has removed of our state folder."""
        if self._kept is None:
            return
        lock, audit = self._kept
        try:
            found = [lock.restore(), *(each.estates.restore() for each in self.feeds)]
        except OSError as error:  # looked at again in a moment
            self._shared.room.missing(unavailable(error, self.settings.state))
            return
        except BackendUnavailable as error:
            self._shared.room.missing(error)
            return
        if not any([*found, audit.restore()]):
            return
        self._observer.emit(
            EventName.STATE_REMOVED,
            reason=f"the contents of {self.settings.state} were deleted while the daemon was "
            "running; lock, audit trail and records have been recreated. Exclude the folder from "
            "cleanup jobs",
        )

    def _supervisor(self, service: ServiceManager, reload: Callable[[], None]) -> Supervisor:
        return Supervisor(
            workers=list(self.workers.values()),
            housekeepers=[each.housekeeper for each in self.feeds],
            timers=self._timers,
            observer=self._observer,
            clock=self._shared.clock,
            watch=Watch(
                grace=lambda: self.settings.daemon.grace,
                reload=reload,
                beat=lambda: self._beat(service),
                every=min(service.watchdog / 3, _LOOK_EVERY) if service.watchdog else _LOOK_EVERY,
                stopping=service.stopping,
                look=self._look,
                begun=self._begun,
            ),
        )

    def _beat(self, service: ServiceManager) -> None:
        """Show what goes on, and life as long as the work goes on; called by the main thread."""
        pulse, now = self._shared.pulse, self._shared.clock.monotonic()
        if not pulse.asks_for_a_restart():
            service.alive()
        if now - self._status_at >= _STATUS_EVERY:
            self._status_at = now
            stuck = [f"stuck: {' '.join(names)}"] if (names := pulse.stuck()) else []
            service.status(", ".join([self._board.snapshot().line(), *stuck]))

    def _ready(self, service: ServiceManager) -> None:
        self._serving = True
        self._observer.emit(
            EventName.DAEMON_STARTED,
            version=__version__,
            devices=list(self.workers),
            storages={name: each.type for name, each in self.settings.feeds().items()},
        )
        service.ready()

    def _tell_of_calls(self, opened: OpenFeed) -> None:
        figures = opened.backend.meter.figures()
        calls = {verb: each.line() for verb, each in sorted(figures.items())}
        self._observer.emit(EventName.STORAGE_CALLS, storage=opened.feed.name, calls=calls)

    # --- timers -----------------------------------------------------------------------------

    def _schedule(self) -> None:
        daemon = self.settings.daemon
        for each in self.feeds:
            name, ring = each.feed.name, each.bell.ring
            announce, recover = partial(ring, Duty.ANNOUNCE), partial(ring, Duty.RECOVER)
            self._timers.every(f"announce-{name}", daemon.announce_interval, announce)
            self._timers.every(f"recover-{name}", daemon.recovery_interval, recover)
        for name, worker in self.workers.items():
            self._timers.every(f"poll-{name}", worker.rules.poll_interval, worker.wake)
            self._timers.at_windows(f"window-{name}", worker.rules.windows, worker.wake)

    def _shortest_interval(self) -> float:
        """Return the seconds between two ticks for the feeds, as a reload may have changed them."""
        return min(self.settings.daemon.announce_interval, self.settings.daemon.recovery_interval)

    def apply(self, settings: Settings) -> list[str]:
        """Take over what can change while we run; the names of what needs a restart."""
        later = needs_restart(self.settings, settings) + self._edited()
        for name, worker in self.workers.items():
            device = settings.devices.get(name)
            if device is not None:
                worker.rules = parts.device_rules(name, device, settings, signs=self._signs)
                worker.policy = self._policy(worker.rules.poll_interval)
        self.settings = settings
        self._schedule()
        return later


def tell_of_strangers(state: Path, storages: set[str]) -> None:
    """Warn about reports for a storage that the settings do not name: nobody delivers them."""
    for folder in sorted((state / "records").glob("*/*")):
        if folder.parent.name == PARKED or folder.name in storages:
            continue
        if count := sum(1 for _ in folder.glob("[!.]*.json")):
            logger.warning(
                "%s has %d undelivered reports for a storage that the settings do not name, or "
                "name by another address; see: spooler outbox list",
                os.fspath(folder),
                count,
            )


def needs_restart(old: Settings, new: Settings) -> list[str]:
    """Return the settings that differ and that a running daemon does not take over."""
    found = [
        key
        for key in ("state", "storage", "storages", "signing")
        if getattr(old, key) != getattr(new, key)
    ]
    found += [
        f"daemon.{key}"
        for key in ("lease", "max_payload")
        if getattr(old.daemon, key) != getattr(new.daemon, key)
    ]
    fixed = (
        *("handler", "options", "isolation", "grace", "max_output", "memory_limit"),
        *("recycle_after", "env", "inherit_env", "enabled", "queues"),
    )
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
