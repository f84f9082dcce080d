"""Starts the threads, waits for a signal or a dead thread, stops in order, says how it went."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from spooler import forks
from spooler.daemon.feeds.housekeeper import Housekeeper
from spooler.daemon.schedule.timers import Timers
from spooler.daemon.worker import Worker
from spooler.errors import ConfigError, SpoolerError, StateInUse
from spooler.observe.events import EventName, Observer
from spooler.observe.logger import get_logger
from spooler.protocols import Clock

logger = get_logger("spooler")

#: Exit codes of the daemon (sysexits.h where there is one).
OK, DEAD_THREAD, NOT_DELIVERED = 0, 70, 75

#: Seconds that an interrupted run may take to be stopped by force and reported, beyond its own
#: device's grace periods.
_AFTER_INTERRUPT = 30.0
#: Seconds that what has to wait for a moment may take at the end: reports, the announcement of
#: devices that have worked off their queues before it was made.
_FOR_THE_DELAYED = 5.0
#: Seconds between two looks whether the start is over.
_BEGINNING = 0.05
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True, slots=True)
class Watch:
    """What the main thread does while it waits: show life, and read the settings again.

    `beat` is called every `every` seconds at least, `stopping` once when the end begins. `look`
    comes before `beat`, and raises where this daemon must not go on. `begun` says whether the
    start is over.
    """

    grace: Callable[[], float]
    reload: Callable[[], None]
    beat: Callable[[], None] = lambda: None
    every: float | None = None
    stopping: Callable[[], object] = lambda: None
    look: Callable[[], None] = lambda: None
    begun: Callable[[], bool] = lambda: True


def _forget_signals() -> None:
    """In a fork, as a handler in a thread may make one: it ends when it is told to."""
    for number in (*_STOP_SIGNALS, signal.SIGHUP):
        heard_by = getattr(signal.getsignal(number), "__self__", None)
        if isinstance(heard_by, Supervisor):
            signal.signal(number, signal.SIG_DFL)


#: Why a daemon ends that has been told so before its start was over.
STOPPED_EARLY = "stopped during startup"


class StoppedEarly(BaseException):
    """A stop signal has come before the daemon served; raised in the main thread, at any point."""


class Supervisor:
    """Runs one daemon to its end."""

    def __init__(
        self,
        *,
        workers: Sequence[Worker],
        housekeepers: Sequence[Housekeeper],
        timers: Timers,
        observer: Observer,
        clock: Clock,
        watch: Watch,
    ) -> None:
        self._workers = workers
        self._housekeepers = housekeepers
        self._timers = timers
        self._observer = observer
        self._clock = clock
        self._watching = watch
        self._news = threading.Event()
        self._serves = self._begun = False
        self._stop_requests = 0
        self._reload_requests = 0
        self._failure: BaseException | None = None
        self._threads: list[threading.Thread] = []
        self._worker_threads: list[threading.Thread] = []

    # --- asked from outside -----------------------------------------------------------------

    def stop(self) -> None:
        """Stop as SIGTERM does; a second call hurries."""
        self._stop_requests += 1
        self._news.set()

    def _signalled(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self._reload_requests += 1
            self._news.set()
            return
        early = not self._serves and not self._stop_requests
        self.stop()
        if early:
            raise StoppedEarly

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen to signals where we may: only the main thread can.

        Until `run` begins the first stop signal raises StoppedEarly.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        forks.in_forks(_forget_signals)
        before = {
            number: signal.signal(number, self._signalled)
            for number in (*_STOP_SIGNALS, signal.SIGHUP)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    # --- the life of the daemon -------------------------------------------------------------

    def run(self, ready: Callable[[], None]) -> int:
        """Serve until stopped, or until no worker has anything left to do; the exit code.

        `ready` is called when the start is over. Raises ConfigError where `look` did.
        """
        self._serves = True
        self._start()
        self._watch(ready)
        self._observer.emit(EventName.DAEMON_STOPPING, reason=self._why())
        self._watching.stopping()
        self._wind_down()
        if isinstance(self._failure, ConfigError):
            raise self._failure
        return OK if self._failure is None else DEAD_THREAD

    def _start(self) -> None:
        for housekeeper in self._housekeepers:
            feed = housekeeper.feed
            self._thread(f"leases-{feed.name}", feed.leases.run)
            self._thread(f"feed-{feed.name}", housekeeper.run)
        self._timers.start()
        for worker in self._workers:
            self._worker_threads.append(self._thread(f"worker-{worker.rules.name}", worker.run))

    def _thread(self, name: str, body: Callable[[], None]) -> threading.Thread:
        def guarded() -> None:
            try:
                body()
            except BaseException as failure:
                self._failure = self._failure or failure
                logger.critical("thread %s died: %s", name, failure, exc_info=failure)
            finally:
                self._news.set()

        thread = threading.Thread(target=guarded, name=name, daemon=True)
        thread.start()
        self._threads.append(thread)
        return thread

    def _watch(self, ready: Callable[[], None]) -> None:
        """Wait for a reason to stop; reload and show life meanwhile."""
        patience = self._clock.monotonic() + _FOR_THE_DELAYED
        while True:
            self._news.wait(self._watching.every if self._begun else _BEGINNING)
            self._news.clear()
            if self._stop_requests or self._failure is not None:
                return
            at_work = any(thread.is_alive() for thread in self._worker_threads)
            if not self._may_go_on():
                return
            over = not at_work and self._clock.monotonic() > patience
            if not self._begun and (self._watching.begun() or over):
                self._begun = True
                ready()
            if not at_work and self._begun:
                return
            if at_work:
                patience = self._clock.monotonic() + _FOR_THE_DELAYED
            self._tend()

    def _tend(self) -> None:
        """Read the settings again where that was asked for; show life once the start is over."""
        if self._reload_requests:
            self._reload_requests = 0
            self._watching.reload()
        if self._begun:
            self._watching.beat()

    def _may_go_on(self) -> bool:
        """Look whether anything forbids this daemon to go on, which is its failure then."""
        try:
            self._watching.look()
        except SpoolerError as error:
            self._failure = error
            if not isinstance(error, ConfigError):  # which whoever has called us says
                logger.critical("%s", error)
            return False
        return True

    def _why(self) -> str:
        if isinstance(self._failure, StateInUse):
            return str(self._failure)
        if self._failure is not None:
            return f"a thread died: {self._failure}"
        if self._stop_requests:
            return "asked to stop" if self._begun else STOPPED_EARLY
        if any(worker.policy.unanswered for worker in self._workers):
            return "a storage did not answer"
        left = sum(worker.policy.left for worker in self._workers)
        jobs = "job" if left == 1 else "jobs"
        return f"{left} queued {jobs} cannot run now" if left else "nothing left to do"

    # --- the end ----------------------------------------------------------------------------

    def _wind_down(self) -> None:
        """Claims first, then runs, then reports, then the leases that they needed."""
        self._timers.close()
        for worker in self._workers:
            worker.stop()
        patient = self._failure is None
        if patient and not self._wait_for_workers(self._watching.grace(), hurried_by_signal=True):
            patient = False
        if not patient:
            for worker in self._workers:
                worker.interrupt()
            self._wait_for_workers(_AFTER_INTERRUPT, hurried_by_signal=False)
        self._close_feeds()
        for thread in self._threads:
            if thread not in self._worker_threads:
                thread.join(timeout=5.0)

    def _close_feeds(self) -> None:
        for housekeeper in self._housekeepers:
            housekeeper.close()
        for housekeeper in self._housekeepers:
            feed = housekeeper.feed
            feed.returns.try_all()
            feed.delivery.retry_for(_FOR_THE_DELAYED)
            feed.leases.close()

    def _wait_for_workers(self, seconds: float, *, hurried_by_signal: bool) -> bool:
        """Return whether all workers have ended within `seconds`, or before a second signal."""
        deadline = self._clock.monotonic() + seconds
        while any(thread.is_alive() for thread in self._worker_threads):
            left = deadline - self._clock.monotonic()
            if left <= 0 or (hurried_by_signal and self._stop_requests > 1):
                return False
            self._watching.beat()
            self._news.wait(min(left, 1.0))
            self._news.clear()
        return True
