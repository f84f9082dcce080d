"""The thread that shows, delivers, gives back, recovers and announces."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from spooler.daemon.feeds.housekeeper import Duty
from spooler.errors import BackendUnavailable, KeyRefused, Scope
from spooler.model.device import DeviceCard
from spooler.model.job import Queue
from spooler.model.state import State
from spooler.observe.events import EventName
from spooler.testing.bench import DEVICE, QUEUE
from tests.daemon.parts import Looks, Parts


def test_timers_that_have_fallen_silent_are_made_up_for(parts: Parts) -> None:
    """The wall clock was set back, and every worker is busy: somebody has to notice."""
    for _ in range(10):
        parts.clock.advance(10.0)
        parts.desk.bell.ring(Duty.RECOVER)
        parts.desk.housekeeper.round()
    assert parts.late == [], "as long as they tick"
    for _ in range(10):
        parts.clock.advance(10.0)
        parts.desk.bell.ring(Duty.DELIVER)
        parts.desk.housekeeper.round()
    assert 3 <= len(parts.late) <= 4


def test_progress_is_shown_once_a_second_at_most(parts: Parts) -> None:
    job_id = parts.submit()
    held = parts.hold()
    shown: list[str] = []
    parts.backend.before["show"] = lambda _, text: shown.append(text)
    for number in range(10):
        parts.leases.show(held, f"shot {number} of 10")
        pause = parts.desk.housekeeper.round()
        assert pause <= 1.0 or not held.progress, "it comes back for what waits"
        parts.clock.advance(0.25)
    assert shown == ["shot 0 of 10", "shot 4 of 10", "shot 8 of 10"]
    parts.clock.advance(1.0)
    parts.desk.housekeeper.round()
    assert parts.submitter.status(DEVICE, job_id).reason == "shot 9 of 10", "the last one counts"
    asked = parts.backend.calls.count("show")
    parts.clock.advance(10.0)
    parts.desk.housekeeper.round()
    assert parts.backend.calls.count("show") == asked, "what was shown is not shown again"


def test_each_run_is_shown_for_itself(parts: Parts) -> None:
    jobs = [parts.submit(), parts.submit()]
    for number in range(2):
        parts.leases.show(parts.hold(), f"run {number}")
    parts.desk.housekeeper.round()
    assert [parts.submitter.status(DEVICE, job).reason for job in jobs] == ["run 0", "run 1"]


def test_progress_that_cannot_be_shown_stops_nothing(parts: Parts) -> None:
    parts.submit()
    parts.leases.show(parts.hold(), "half")
    parts.backend.refused = {"show"}
    parts.desk.bell.ring(Duty.ANNOUNCE)
    parts.desk.housekeeper.round()
    assert EventName.DEVICE_ANNOUNCED in parts.events()
    assert EventName.STORAGE_UNAVAILABLE not in parts.events(), "it is best effort"


def test_a_storage_that_is_away_is_asked_by_ping_alone_and_seldom(parts: Parts) -> None:
    parts.backend.away = True
    parts.outage.noticed(BackendUnavailable("away"))
    for _ in range(600):
        for duty in Duty:
            parts.desk.bell.ring(duty)
        parts.desk.housekeeper.round()
        parts.clock.advance(1.0)
    assert set(parts.backend.calls) == {"ping"}
    assert 600 / 45 - 1 <= len(parts.backend.calls) <= 600 / 15 + 10, "the pauses grow to 30 s"
    parts.backend.away = False
    parts.clock.advance(60.0)
    parts.desk.housekeeper.round()
    assert parts.events().count(EventName.STORAGE_RECOVERED) == 1
    assert parts.woken == 1, "its device looks at once"
    parts.desk.housekeeper.round()
    assert EventName.DEVICE_ANNOUNCED in parts.events(), "and it is announced anew"


def test_a_storage_that_answers_and_takes_nothing_is_asked_seldom_too(parts: Parts) -> None:
    """A full disk: ping finds the folder, and the report does not fit."""
    parts.submit()
    held = parts.hold()
    parts.backend.refused = {"ack"}
    parts.finish(held.claim)
    end = parts.clock.monotonic() + 600.0
    while parts.clock.monotonic() < end:
        parts.clock.advance(max(0.001, parts.desk.housekeeper.round()))
    assert 600 / 45 - 1 <= parts.backend.calls.count("ping") <= 600 / 15 + 10
    assert parts.events().count(EventName.STORAGE_UNAVAILABLE) <= 600 / 15 + 10, "no flood"
    parts.backend.refused = set()
    for _ in range(2):
        parts.clock.advance(45.0)
        parts.desk.housekeeper.round()
    assert EventName.REPORT_DELIVERED in parts.events()
    parts.clock.advance(60.0)
    parts.desk.housekeeper.round()
    parts.outage.noticed(BackendUnavailable("away"))
    parts.desk.housekeeper.round()
    assert not parts.outage.lasts, "after it has worked for a while, it is asked at once again"


def test_a_storage_that_says_when_is_asked_then(parts: Parts) -> None:
    def later(*_: object) -> None:
        raise BackendUnavailable("busy", retry_after=120.0)

    parts.backend.before["ping"] = later
    parts.outage.noticed(BackendUnavailable("busy"))
    assert parts.desk.housekeeper.round() == pytest.approx(120.0)
    parts.clock.advance(119.0)
    parts.desk.housekeeper.round()
    assert parts.backend.calls == ["ping"]
    parts.clock.advance(1.0)
    parts.desk.housekeeper.round()
    assert parts.backend.calls == ["ping", "ping"]


def test_a_queue_that_somebody_else_has_announced_is_closed_until_that_is_gone(
    parts: Parts,
) -> None:
    """The daemon goes on with its other queues and storages."""

    class Announced:
        theirs = True

        def announce(self, queue: Queue, card: DeviceCard, at: datetime) -> None:
            if self.theirs:
                raise KeyRefused(f"{queue.name} belongs to another key")

        def check_key_owner(self, queue: Queue) -> None:
            return

    catalogue = Announced()
    parts.backend.inner.catalogue = catalogue  # type: ignore[assignment]
    job = parts.submit()
    for _ in range(3):
        parts.desk.bell.ring(Duty.ANNOUNCE)
        parts.desk.housekeeper.round()
        parts.worker(Looks(parts.clock, 2, lambda: None)).run()
    assert parts.runner.requests == []
    (told,) = parts.told(EventName.QUEUE_UNAVAILABLE)
    assert "belongs to another key" in told["error"]
    catalogue.theirs = False
    parts.desk.bell.ring(Duty.ANNOUNCE)
    parts.desk.housekeeper.round()
    parts.worker(Looks(parts.clock, 2, lambda: None)).run()
    assert parts.state_of(job) is State.DONE
    assert len(parts.told(EventName.QUEUE_RECOVERED)) == 1


def test_another_keys_device_is_closed_before_anything_is_touched(parts: Parts) -> None:
    class Guarded:
        def announce(self, queue: Queue, card: DeviceCard, at: datetime) -> None:
            return

        def check_key_owner(self, queue: Queue) -> None:
            raise KeyRefused(f"{queue.name} belongs to another key")

    parts.backend.inner.catalogue = Guarded()  # type: ignore[assignment]
    job = parts.submit()
    (refused,) = parts.desk.housekeeper.check_keys()
    assert "belongs to another key" in str(refused)
    parts.worker(Looks(parts.clock, 2, lambda: None)).run()
    assert parts.state_of(job) is State.QUEUED


def test_a_storage_without_a_catalogue_is_served_like_any_other(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    parts.backend.inner.catalogue = None  # type: ignore[assignment]
    parts.desk.housekeeper.check_keys()
    parts.desk.housekeeper.begin()
    assert EventName.DEVICE_ANNOUNCED not in parts.events()
    assert EventName.ANNOUNCEMENT_FAILED not in parts.events()
    assert "reclaim" in parts.backend.calls


def test_a_queue_in_trouble_for_one_duty_is_not_told_of_at_each_other(parts: Parts) -> None:
    """Claims fail, while recovery and announcements work: it has not recovered in between."""
    trouble = BackendUnavailable("its folder is a file", scope=Scope.QUEUE)
    for _ in range(10):
        parts.outage.noticed(trouble, QUEUE.name, device=DEVICE)
        parts.desk.bell.ring(Duty.RECOVER)
        parts.desk.bell.ring(Duty.ANNOUNCE)
        parts.desk.housekeeper.round()
        parts.clock.advance(10.0)
    assert parts.events().count(EventName.QUEUE_UNAVAILABLE) == 1
    assert EventName.QUEUE_RECOVERED not in parts.events()
    parts.outage.over(QUEUE.name)
    assert parts.events().count(EventName.QUEUE_RECOVERED) == 1
