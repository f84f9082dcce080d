from dataclasses import FrozenInstanceError

import pytest

from spooler.observe.board import Activity, Board
from spooler.observe.events import EventName as E
from spooler.observe.events import Observer


@pytest.fixture
def board():
    return Board()


@pytest.fixture
def tell(board):
    return Observer(board).emit


def test_a_device_through_a_job(board, tell):
    tell(E.DEVICE_OPENED, device="q")
    assert board.snapshot().devices["q"].activity is Activity.IDLE
    tell(E.JOB_CLAIMED, device="q", job="a", attempt=1)
    tell(E.JOB_STARTED, device="q", job="a", attempt=1)
    tell(E.JOB_PROGRESS, device="q", job="a", text="half")
    running = board.snapshot().devices["q"]
    assert (running.activity, running.job, running.attempt) == (Activity.RUNNING, "a", 1)
    assert running.progress == "half"
    tell(E.JOB_FINISHED, device="q", job="a", attempt=1, seconds=1.0)
    idle = board.snapshot().devices["q"]
    assert (idle.activity, idle.job, idle.progress) == (Activity.IDLE, "", "")
    assert (idle.done, idle.failed, idle.cancelled) == (1, 0, 0)


@pytest.mark.parametrize(
    ("event", "counts"),
    [
        (E.JOB_FINISHED, (1, 0, 0)),
        (E.JOB_FAILED, (0, 1, 0)),
        (E.JOB_CANCELLED, (0, 0, 1)),
        (E.JOB_RELEASED, (0, 0, 0)),
        (E.JOB_LOST, (0, 0, 0)),
    ],
)
def test_each_end_is_counted_for_itself(board, tell, event, counts):
    tell(E.JOB_CLAIMED, device="q", job="a", attempt=1)
    tell(event, device="q", job="a", attempt=1)
    device = board.snapshot().devices["q"]
    assert (device.done, device.failed, device.cancelled) == counts
    assert device.activity is Activity.IDLE


def test_the_end_of_another_job_leaves_the_running_one_alone(board, tell):
    tell(E.JOB_CLAIMED, device="q", job="b", attempt=1)
    tell(E.JOB_FAILED, device="q", job="a", attempt=2)
    device = board.snapshot().devices["q"]
    assert (device.job, device.activity, device.failed) == ("b", Activity.RUNNING, 1)


def test_windows_and_unusable_devices(board, tell):
    tell(E.WINDOW_OPENED, device="q", kind="calibration")
    assert board.snapshot().devices["q"].activity is Activity.WINDOW
    assert board.snapshot().devices["q"].note == "calibration"
    tell(E.WINDOW_CLOSED, device="q", kind="calibration")
    assert board.snapshot().devices["q"].activity is Activity.IDLE
    tell(E.DEVICE_RESTED, device="q", error="no laser")
    assert board.snapshot().devices["q"].note == "no laser"
    assert not board.snapshot().healthy
    assert "resting: q" in board.snapshot().line()
    tell(E.DEVICE_OPENED, device="q")
    assert board.snapshot().healthy


def test_storage_and_reports(board, tell):
    tell(E.STORAGE_UNAVAILABLE, storage="lab", error="connection refused")
    tell(E.REPORT_DELIVERED, storage="lab", device="q", job="a", waiting=3)
    away = board.snapshot()
    assert not away.healthy
    assert list(away.away) == ["lab"]
    assert away.last_error == "connection refused"
    assert away.waiting == 3
    assert "unavailable: lab" in away.line()
    assert "3 reports waiting" in away.line()
    tell(E.STORAGE_RECOVERED, storage="lab", seconds=2.0)
    tell(E.REPORT_DELIVERED, storage="lab", device="q", job="a", waiting=0)
    assert board.snapshot().healthy
    assert board.snapshot().waiting == 0


def test_each_storage_and_each_queue_is_away_for_itself(board, tell):
    tell(E.STORAGE_UNAVAILABLE, storage="lab", error="refused")
    since = board.snapshot().away["lab"]
    tell(E.QUEUE_UNAVAILABLE, storage="frb", queue="fold", error="no permission")
    tell(E.STORAGE_UNAVAILABLE, storage="lab", error="refused again")
    assert board.snapshot().away["lab"] == since, "since it was first told of"
    assert "unavailable: frb:fold lab" in board.snapshot().line()
    tell(E.STORAGE_RECOVERED, storage="frb", seconds=1.0)
    tell(E.STORAGE_RECOVERED, storage="lab", seconds=1.0)
    assert list(board.snapshot().away) == ["frb:fold"]
    assert not board.snapshot().healthy
    tell(E.QUEUE_RECOVERED, storage="frb", queue="fold", seconds=1.0)
    assert board.snapshot().healthy


def test_the_reports_of_all_storages_are_counted_together(board, tell):
    tell(E.REPORT_DELAYED, storage="lab", device="q", job="a", waiting=2, reason="too large")
    tell(E.REPORT_DELIVERED, storage="frb", device="q", job="b", waiting=1)
    assert board.snapshot().waiting == 3
    assert board.snapshot().healthy, "a report that waits alone needs nobody to come"
    tell(E.REPORT_PARKED, storage="lab", device="q", job="a", waiting=0, reason="refused")
    assert board.snapshot().waiting == 1


def test_a_full_disk_of_our_own(board, tell):
    tell(E.DISK_FULL, error="less than 1 MiB is free")
    assert not board.snapshot().healthy
    assert "own disk full" in board.snapshot().line()
    tell(E.DISK_RECOVERED, seconds=1.0)
    assert board.snapshot().healthy


def test_a_snapshot_never_changes(board, tell):
    tell(E.DEVICE_OPENED, device="q")
    before = board.snapshot()
    tell(E.JOB_CLAIMED, device="q", job="a", attempt=1)
    assert before.devices["q"].activity is Activity.IDLE
    with pytest.raises(FrozenInstanceError):
        before.waiting = 5
    with pytest.raises(TypeError):
        before.devices["x"] = None


def test_the_daemon_begins_and_ends(board, tell):
    tell(E.DAEMON_STARTED, version="1")
    assert board.snapshot().started_at is not None
    tell(E.DAEMON_STOPPING, reason="SIGTERM")
    assert board.snapshot().line().startswith("stopping")


def test_no_event_breaks_the_board(board):
    for name in E:
        for fields in ({}, {"device": "q"}, {"device": 5, "waiting": "x", "attempt": None}):
            seen = []
            Observer(seen.append).emit(name, **fields)
            board(seen[0])
    assert board.snapshot().line()
