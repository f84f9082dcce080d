import threading
from datetime import UTC, datetime

import pytest

from spooler.observe.events import EventName, Observer


class StoppedClock:
    def now(self):
        return datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    def monotonic(self):
        return 0.0


def test_every_subscriber_is_told_in_order_with_the_time():
    seen = []
    observer = Observer(lambda one: seen.append((1, one)), clock=StoppedClock())
    observer.subscribe(lambda one: seen.append((2, one)))
    observer.emit(EventName.JOB_STARTED, device="echo", job="a", attempt=1, reason=None)
    assert [who for who, _ in seen] == [1, 2]
    observation = seen[0][1]
    assert observation.name is EventName.JOB_STARTED
    assert observation.at == StoppedClock().now()
    assert dict(observation.fields) == {"device": "echo", "job": "a", "attempt": 1}


def test_a_subscriber_that_raises_is_logged_and_stops_nobody(caplog):
    seen = []

    def broken(_):
        raise RuntimeError("the dashboard is down")

    observer = Observer(broken, seen.append)
    observer.emit(EventName.JOB_FINISHED)
    assert len(seen) == 1
    (record,) = caplog.records
    assert "job.finished" in record.getMessage()
    assert "the dashboard is down" in str(record.exc_info)


def test_ending_a_subscription():
    seen = []
    observer = Observer()
    end = observer.subscribe(seen.append)
    observer.emit(EventName.PUSH_LOST)
    end()
    end()
    observer.emit(EventName.PUSH_LOST)
    assert len(seen) == 1


def test_what_was_told_cannot_be_changed():
    seen = []
    Observer(seen.append).emit(EventName.LOG, message="x")
    with pytest.raises(TypeError):
        seen[0].fields["message"] = "y"


def test_events_from_many_threads_all_arrive():
    seen = []
    observer = Observer(seen.append)
    threads = [
        threading.Thread(target=lambda: [observer.emit(EventName.JOB_CLAIMED) for _ in range(200)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 800


def test_event_names_are_stable():
    """Dashboards are built on these: add to the list, never rename."""
    promised = {
        "job.claimed", "job.started", "job.progress", "job.finished", "job.failed",
        "job.cancelled", "job.released", "job.requeued", "job.lost",
        "report.delivered", "report.delayed", "report.parked",
        "disk.full", "disk.recovered",
        "storage.unavailable", "storage.recovered", "queue.unavailable", "queue.recovered",
        "device.opened", "device.closed", "device.rested", "device.announced",
        "device.calibrated", "calibration.failed", "window.opened", "window.closed",
        "push.lost", "announcement.failed", "storage.calls",
        "daemon.started", "daemon.reloaded", "daemon.restart_needed", "daemon.reload_refused",
        "daemon.stopping", "daemon.stopped", "log",
    }  # fmt: skip
    assert promised <= {name.value for name in EventName}
