"""Says in one storage which devices there are, under which key, and that they are alive."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from spooler.daemon.feeds.feed import Feed
from spooler.daemon.shared import Shared
from spooler.errors import BackendUnavailable, KeyRefused
from spooler.model.device import NEVER, DeviceCard
from spooler.model.job import Queue
from spooler.observe.events import EventName

_DUTY = "announce"


@dataclass(frozen=True, slots=True)
class Announced:
    """A queue, and the card of the device that serves it as it is now; None while none is known."""

    queue: Queue
    card: Callable[[], DeviceCard | None]


class Announcer:
    """Announces the devices that serve queues of one storage."""

    def __init__(self, feed: Feed, announced: Sequence[Announced], shared: Shared) -> None:
        self._feed = feed
        self._announced = announced
        self._shared = shared
        #: The devices that have been announced, or could not be.
        self.tried: frozenset[str] = frozenset()

    def announce(self) -> None:
        """Announce each device; one that cannot be keeps no other from it.

        One that was not open yet is left as it is announced: its handler's card is not known.
        A queue that somebody has announced with another key meanwhile is closed until that is gone.
        """
        feed, catalogue = self._feed, self._feed.backend.catalogue
        if catalogue is None:
            return
        for each in self._announced:
            queue, card = each.queue, each.card()
            if feed.outage.lasts:
                return
            if card is None:
                continue
            about = {"device": queue.device, "storage": feed.name}
            try:
                card = replace(card, pending=feed.backend.depth(queue))
                catalogue.announce(queue, card, card.last_seen or NEVER)
            except BackendUnavailable as error:
                feed.outage.noticed(error, queue.name, by=_DUTY, device=queue.device)
                self._failed(about, error)
            except KeyRefused as error:
                feed.outage.close(error, queue.name, by=_DUTY)
                self._failed(about, error)
            else:
                feed.outage.over(queue.name, by=_DUTY)
                self._shared.observer.emit(EventName.DEVICE_ANNOUNCED, **about)
            self.tried |= {queue.device}

    def _failed(self, about: dict[str, str], error: Exception) -> None:
        fields = {**about, "error": str(error)}
        self._shared.observer.emit(EventName.ANNOUNCEMENT_FAILED, **fields)
