"""A backend whose calls are timed and counted, in one place for every storage."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import ParamSpec, TypeVar

from spooler.errors import SpoolerError
from spooler.model.claim import Claim, Lease
from spooler.model.device import DeviceCard
from spooler.model.job import Job, Queue
from spooler.model.result import SignedReport
from spooler.model.storage import Write
from spooler.protocols import Backend, Catalogue, Clock, Judge, Subscription

Asked = ParamSpec("Asked")
Answer = TypeVar("Answer")


@dataclass(slots=True)
class Figures:
    """What one verb has cost: calls, those that ended in an error, seconds in all and at most."""

    calls: int = 0
    errors: int = 0
    seconds: float = 0.0
    longest: float = 0.0

    def line(self) -> str:
        """Return the figures in a few words, for a log."""
        failed = f", {self.errors} failed" if self.errors else ""
        mean = self.seconds / self.calls if self.calls else 0.0
        return f"{self.calls}x {mean * 1e3:.2f} ms (at most {self.longest * 1e3:.1f} ms){failed}"


class Meter:
    """Times calls. Safe in any thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._figures: dict[str, Figures] = {}

    def figures(self) -> Mapping[str, Figures]:
        """Return what each verb has cost by now."""
        with self._lock:
            return dict(self._figures)

    def timed(
        self, verb: str, call: Callable[Asked, Answer], *args: Asked.args, **kwargs: Asked.kwargs
    ) -> Answer:
        """Return what `call` returns, and note what it has cost."""
        began, failed = self._clock.monotonic(), False
        try:
            return call(*args, **kwargs)
        except SpoolerError:
            failed = True
            raise
        finally:
            seconds = self._clock.monotonic() - began
            with self._lock:
                noted = self._figures.setdefault(verb, Figures())
                noted.calls += 1
                noted.errors += failed
                noted.seconds += seconds
                noted.longest = max(noted.longest, seconds)


class _MeteredCatalogue:
    def __init__(self, inner: Catalogue, meter: Meter) -> None:
        self._inner = inner
        self._timed = meter.timed

    def announce(self, queue: Queue, card: DeviceCard, at: datetime) -> None:
        self._timed("announce", self._inner.announce, queue, card, at)

    def check_key_owner(self, queue: Queue) -> None:
        self._timed("check_key_owner", self._inner.check_key_owner, queue)

    def inspect(self, queue: Queue) -> str:
        return self._timed("inspect", self._inner.inspect, queue)


class Metered:
    """A backend, every call of which is timed and counted."""

    def __init__(self, inner: Backend, clock: Clock) -> None:
        self._inner = inner
        self.meter = Meter(clock)
        self._timed = self.meter.timed
        self.address = inner.address
        self.traits = inner.traits
        inside = inner.catalogue
        self.catalogue = None if inside is None else _MeteredCatalogue(inside, self.meter)

    def claim(self, queue: Queue, lease: Lease) -> Claim | None:
        return self._timed("claim", self._inner.claim, queue, lease)

    def start(self, claim: Claim, seconds: float) -> Claim:
        return self._timed("start", self._inner.start, claim, seconds)

    def renew(self, claim: Claim) -> Claim:
        return self._timed("renew", self._inner.renew, claim)

    def show(self, claim: Claim, text: str) -> None:
        self._timed("show", self._inner.show, claim, text)

    def ack(self, claim: Claim, signed: SignedReport) -> None:
        self._timed("ack", self._inner.ack, claim, signed)

    def release(self, claim: Claim, reason: str, *, refund: bool, delay: float = 0.0) -> None:
        self._timed("release", self._inner.release, claim, reason, refund=refund, delay=delay)

    def reclaim(self, queue: Queue, lease: Lease, judge: Judge) -> Claim | None:
        return self._timed("reclaim", self._inner.reclaim, queue, lease, judge)

    def depth(self, queue: Queue) -> int:
        return self._timed("depth", self._inner.depth, queue)

    def peek(self, queue: Queue) -> Iterator[Job]:
        return self._timed("peek", self._inner.peek, queue)

    def preview(self, claim: Claim, signed: SignedReport) -> tuple[Write, ...]:
        return self._timed("preview", self._inner.preview, claim, signed)

    def subscribe(self, queue: Queue, wake: Callable[[], None]) -> Subscription | None:
        return self._timed("subscribe", self._inner.subscribe, queue, wake)

    def ping(self) -> None:
        self._timed("ping", self._inner.ping)

    def close(self) -> None:
        self._inner.close()
