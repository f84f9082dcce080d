"""A real daemon, real signals, real handlers in real processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.acceptance.lab import RABI, Lab, tree_digest, until

pytestmark = pytest.mark.acceptance


def test_two_daemons_run_a_thousand_jobs_once_each(lab: Lab) -> None:
    ids = [lab.submit({"value": number}) for number in range(1000)]
    quiet = '[log]\nlevel = "warning"\n'
    processes = [
        lab.run(lab.counting(name=name, extra=quiet), "--once", ready=False)
        for name in ("one", "two")
    ]
    assert [process.end(100) for process in processes] == [0, 0]
    executed = Counter(line.split()[0] for line in lab.book())
    assert executed == dict.fromkeys(ids, 1)
    for job_id in ids:
        assert lab.ended("counter", job_id)["status"] == "DONE"
    assert len(list((lab.storage / "jobs" / "finished" / "counter").iterdir())) == 1000
    for empty in ("jobs/queued/counter", "jobs/running", "spooler/claims/counter"):
        assert list((lab.storage / empty).iterdir()) == []


def test_a_handler_may_raise_or_exit_and_the_loop_lives_on(lab: Lab) -> None:
    process = lab.run(lab.counting())
    bad = lab.submit({"raise": True})
    assert "the laser tripped" in lab.ended("counter", bad)["error_message"]
    gone = lab.submit({"exit": True})
    assert lab.ended("counter", gone)["status"] == "ERROR"
    good = lab.submit({"value": 5})
    assert lab.ended("counter", good)["status"] == "DONE"
    for job_id in (bad, gone, good):
        assert lab.status_document("counter", job_id)["job_id"] == job_id  # type: ignore[index]
    assert process.stop() == 0


def test_the_service_manager_is_patient_as_long_as_the_device(lab: Lab, tmp_path: Path) -> None:
    """systemd ends a start after 90 s unless it is asked for more; a laser may warm up longer."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60.0)
        lab.environment["NOTIFY_SOCKET"] = str(tmp_path / "notify")
        process = lab.run(lab.counting(extra='open_timeout = "30m"'))
        said = []
        while "READY=1" not in (last := manager.recv(4096).decode()):
            said.append(last)
        assert process.stop() == 0
    granted = [int(each.partition("=")[2]) / 1e6 for each in said if each.startswith("EXTEND")]
    assert max(granted) >= 30 * 60


@pytest.mark.parametrize(("isolation", "dumpable"), [("thread", 0), ("process", 1)])
def test_the_daemon_that_holds_the_key_cannot_be_dumped(
    lab: Lab, isolation: str, dumpable: int
) -> None:
    """Nor looked into by its handlers' processes, which run as the same user."""
    process = lab.run(lab.counting(extra=f'isolation = "{isolation}"'))
    job_id = lab.submit({"dumpable": True})
    assert lab.ended("counter", job_id)["status"] == "DONE"
    result = json.loads((lab.storage / "results" / "counter" / f"{job_id}.json").read_text())
    assert f'"dumpable": {dumpable}' in json.dumps(result)
    assert process.stop() == 0


def test_sigterm_lets_a_run_finish(lab: Lab) -> None:
    process = lab.run(lab.counting())
    job_id = lab.submit({"seconds": 1.0})
    until(lambda: lab.book("run"), "the run")
    waiting = lab.submit({"value": 2})
    assert process.stop() == 0
    assert lab.ended("counter", job_id)["status"] == "DONE"
    assert lab.queue("counter", waiting).exists(), "no new claim after SIGTERM"
    assert lab.book("close"), "the instrument was left safe"


def test_sigterm_ends_a_daemon_that_does_not_serve_yet(lab: Lab) -> None:
    """The first of two devices is open by then, and is left safe; the second hangs."""
    config = lab.counting(opening=0.0, daemon="grace = 1.0")
    second = '[devices.slow]\nhandler = "lab_counting:Counting"\ngrace = 1.0\noptions = '
    second += f'{{book = "{lab.folder / "slow"}", opening = 600.0}}\n'
    config.write_text(config.read_text(encoding="utf-8") + second, encoding="utf-8")
    process = lab.run(config, ready=False)
    until((lab.folder / "slow").exists, "the second device")
    process.wait_for("device.opened")
    assert process.stop() == 0, process.text()
    assert lab.book("close") == [""], "the instrument that was open was left safe"
    assert [each["reason"] for each in process.events("daemon.stopping")] == [
        "stopped during startup"
    ]
    assert process.events("daemon.stopped")
    assert "Traceback" not in process.text()


_SECOND = '[devices.second]\nhandler = "{handler}"\ngrace = 1.0\n{extra}\noptions = {{{options}}}\n'


def _two(lab: Lab, handler: str, extra: str = "", **options: object) -> Path:
    """Settings of `counter`, and of a second device whose handler is another."""
    given = ", ".join(f"{key} = {json.dumps(value)}" for key, value in options.items())
    second = _SECOND.format(handler=handler, extra=extra, options=given)
    return lab.counting(extra=second)


@pytest.mark.parametrize("isolation", ["process", "thread"])
def test_a_device_that_hangs_while_it_opens_keeps_no_other_waiting(
    lab: Lab, isolation: str
) -> None:
    book = str(lab.folder / "slow")
    config = _two(
        lab, "lab_counting:Counting", f'isolation = "{isolation}"', book=book, opening=600.0
    )
    process = lab.run(config, ready=False)
    job_id = lab.submit({"value": 3})
    assert lab.ended("counter", job_id)["status"] == "DONE"
    process.wait_for("daemon.started", 30.0)
    configs = (lab.storage / "backends" / "configs").glob("*.json")
    assert [each.stem for each in configs] == ["counter"]
    assert process.stop() == 0, "a device that opens is not waited for"
    assert lab.book("close") == [""]
    assert "Traceback" not in process.text()


def test_a_handler_that_is_wrong_rests_its_device_alone(lab: Lab) -> None:
    process = lab.run(_two(lab, "lab_counting:Countess", book=str(lab.folder / "second")))
    assert lab.ended("counter", lab.submit({"value": 3}))["status"] == "DONE"
    rested = process.wait_for("device.rested")
    assert rested["device"] == "second"
    assert "lab_counting has no Countess" in rested["error"]
    waiting = lab.submit({}, device="second")
    source = (lab.folder / "lab_counting.py").read_text(encoding="utf-8")
    mended = source.replace("class Counting", "class Countess")
    (lab.folder / "lab_counting.py").write_text(mended, encoding="utf-8")
    assert lab.ended("second", waiting)["status"] == "DONE", "it is tried again"
    assert process.stop() == 0


def test_where_every_handler_is_wrong_the_start_is_refused(lab: Lab) -> None:
    config = _two(lab, "lab_counting:Countess")
    config.write_text(config.read_text().replace("lab_counting:Counting", "lab_counting:Count"))
    process = lab.run(config, ready=False)
    assert process.end() == 78
    assert "lab_counting has no Count; did you mean Counting" in process.text()
    assert not process.events("daemon.started")
    assert "Traceback" not in process.text()


def test_once_does_not_pass_over_a_handler_that_is_wrong(lab: Lab) -> None:
    config, job_id = _two(lab, "lab_counting:Countess"), lab.submit({"value": 3})
    process = lab.run(config, "--once", ready=False)
    assert process.end() == 78
    assert lab.ended("counter", job_id)["status"] == "DONE"
    assert "lab_counting has no Countess" in process.text()


@pytest.mark.parametrize(
    ("rerun", "back_in_queue"), [("always", True), ("if-not-started", False), ("never", False)]
)
def test_sigterm_with_a_long_run_goes_by_the_policy(
    lab: Lab, rerun: str, *, back_in_queue: bool
) -> None:
    config = lab.counting(
        extra=f'rerun = "{rerun}"\ngrace = 0.5',
        daemon="poll_interval = 0.2\ngrace = 0.3",
        cooperative=False,
    )
    process = lab.run(config)
    job_id = lab.submit({"seconds": 60})
    until(lambda: lab.book("run"), "the run")
    assert process.stop() == 0
    assert lab.queue("counter", job_id).exists() == back_in_queue
    if not back_in_queue:
        assert "stopped" in lab.ended("counter", job_id)["error_message"]


def test_a_second_sigterm_hurries(lab: Lab) -> None:
    config = lab.counting(extra="grace = 0.5", daemon="grace = 50.0")
    process = lab.run(config)
    lab.submit({"seconds": 60})
    until(lambda: lab.book("run"), "the run")
    process.signal(signal.SIGTERM)
    process.wait_for("daemon.stopping")
    begin = time.monotonic()
    process.signal(signal.SIGTERM)
    assert process.end() == 0
    assert time.monotonic() - begin < 40


def test_a_run_that_takes_too_long_is_stopped(lab: Lab) -> None:
    lab.run(lab.counting(extra="timeout = 0.5\ngrace = 0.3", cooperative=False))
    job_id = lab.submit({"seconds": 600})
    assert "0.5 s" in lab.ended("counter", job_id)["error_message"]
    assert lab.ended("counter", lab.submit({}))["status"] == "DONE"


@pytest.mark.parametrize(
    ("rerun", "status", "runs"), [("always", "DONE", 2), ("if-not-started", "ERROR", 1)]
)
def test_sigkill_while_a_job_runs(lab: Lab, rerun: str, status: str, runs: int) -> None:
    """What a predecessor on this host left is settled at once, not after its lease."""
    config = lab.counting(
        extra=f'rerun = "{rerun}"',
        daemon="poll_interval = 0.2\nlease = 3600\nrecovery_interval = 0.2",
    )
    first = lab.run(config)
    job_id = lab.submit({"seconds": 3 if rerun == "always" else 60})
    until(lambda: lab.book("run"), "the run")
    first.signal(signal.SIGKILL)
    first.end()
    lab.run(config)
    assert lab.ended("counter", job_id)["status"] == status
    assert len(lab.book("run")) == runs


def test_cancel_while_it_runs(lab: Lab) -> None:
    from spooler.app import open_submitter
    from spooler.errors import NotCancellable
    from spooler.model.state import State
    from spooler.settings import load

    config = lab.counting(daemon="lease = 1.0", extra="grace = 0.5")
    lab.run(config)
    submitter = open_submitter(load(config, {}))
    job_id = lab.submit({"seconds": 60})
    until(lambda: lab.book("run"), "the run")
    assert submitter.cancel("counter", job_id) is False
    assert lab.ended("counter", job_id)["error_message"].startswith("Cancelled: ")
    assert submitter.status("counter", job_id).state is State.CANCELLED
    with pytest.raises(NotCancellable):
        submitter.cancel("counter", job_id)


def test_the_dry_run_changes_nothing(lab: Lab) -> None:
    config = lab.configure()
    lab.run(config).stop()
    lab.submit(RABI, "singlequdit")
    broken = lab.submit({"experiment_0": "nonsense"}, "singlequdit")
    before = tree_digest(lab.storage), tree_digest(lab.folder / "spooler-state")
    process = lab.run(config, "--dry-run", ready=False)
    assert process.end() == 0, process.text()
    assert (tree_digest(lab.storage), tree_digest(lab.folder / "spooler-state")) == before
    shown = lab.stdout.read_text()
    assert '"state": "done"' in shown
    assert broken in shown
    assert '"signature"' in shown


def test_the_dry_run_touches_no_hardware(lab: Lab) -> None:
    config = lab.counting()
    lab.submit({"value": 1})
    process = lab.run(config, "--dry-run", ready=False)
    assert process.end() == 0, process.text()
    assert lab.book("") == []


def test_sighup_takes_over_what_it_can(lab: Lab) -> None:
    process = lab.run(lab.counting(extra="timeout = 600"))
    lab.counting(extra="timeout = 0.5\ngrace = 0.2", cooperative=False)
    process.signal(signal.SIGHUP)
    told = process.wait_for("daemon.restart_needed")
    assert "devices.counter.options" in told["reason"], "a change that needs a restart is named"
    job_id = lab.submit({"seconds": 30})
    assert "0.5 s" in lab.ended("counter", job_id)["error_message"]


def test_sighup_says_that_an_edited_handler_is_not_the_one_that_runs(lab: Lab) -> None:
    process = lab.run(lab.counting())
    process.signal(signal.SIGHUP)
    process.wait_for("daemon.reloaded")
    assert not process.events("daemon.restart_needed"), "nothing has changed"
    source = lab.folder / "lab_counting.py"
    source.write_text(source.read_text(encoding="utf-8") + "\n# edited\n", encoding="utf-8")
    process.signal(signal.SIGHUP)
    told = process.wait_for("daemon.restart_needed")
    assert told["reason"] == "devices.counter.handler (lab_counting.py was edited)"


def test_sighup_with_broken_settings_keeps_the_old_ones(lab: Lab) -> None:
    config = lab.counting()
    process = lab.run(config)
    config.write_text('[storage\ntype = "sqooler-local"')
    process.signal(signal.SIGHUP)
    process.wait_for("daemon.reload_refused")
    assert lab.ended("counter", lab.submit({}))["status"] == "DONE"
    assert process.stop() == 0


def test_max_jobs(lab: Lab) -> None:
    config = lab.counting()
    for _ in range(5):
        lab.submit({})
    process = lab.run(config, "--max-jobs", "3", ready=False)
    assert process.end() == 0
    assert len(lab.book("run")) == 3


def test_two_daemons_on_one_state_folder(lab: Lab) -> None:
    config = lab.counting()
    lab.run(config)
    second = lab.run(config, ready=False)
    assert second.end() == 75, "it may be a predecessor that is about to end: try again"
    assert "another spooler uses the state folder" in second.text()


def test_a_maintenance_window_keeps_the_queue_waiting(lab: Lab) -> None:
    window = (
        '[[devices.counter.windows]]\nkind = "maintenance"\ncron = "* * * * *"\nduration = "2m"'
    )
    process = lab.run(lab.counting(extra=window + '\nnote = "the cryostat is warm"'))
    job_id = lab.submit({})
    process.wait_for("window.opened")
    card = lab.storage / "backends" / "configs" / "counter.json"
    told = lambda: json.loads(card.read_text())["payload"]["status_msg"]  # noqa: E731
    until(lambda: told() == "the cryostat is warm", "the note that users see")
    lab.counting()  # the window is taken out of the settings
    assert lab.book("run") == []
    process.signal(signal.SIGHUP)
    assert lab.ended("counter", job_id)["status"] == "DONE"
    until(lambda: told() is None, "the end of the note")


def test_a_calibration_window_calibrates_once(lab: Lab) -> None:
    window = (
        '[[devices.counter.windows]]\nkind = "calibration"\ncron = "* * * * *"\nduration = "1m"'
    )
    lab.run(lab.counting(extra=window))
    assert lab.ended("counter", lab.submit({}))["status"] == "DONE"
    assert lab.ended("counter", lab.submit({}))["status"] == "DONE"
    assert 1 <= len(lab.book("calibrate")) <= 2  # two, when the minute ends in between


def test_no_process_of_a_handler_is_left(lab: Lab) -> None:
    process = lab.run(lab.counting())
    lab.ended("counter", lab.submit({}))
    children = _children(process.process.pid)
    assert children
    process.signal(signal.SIGKILL)
    process.end()
    until(lambda: not any(_alive(pid) for pid in children), "the end of the handler's process")


def _children(pid: int) -> list[int]:
    threads = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(each) for thread in threads for each in thread.read_text("ascii").split()]


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with Path(f"/proc/{pid}/stat").open(encoding="ascii") as stat:
        return stat.read().rpartition(")")[2].split()[0] != "Z"


def test_the_storage_goes_away_and_comes_back_while_a_job_runs(lab: Lab) -> None:
    """As an NFS server that is restarted: the run goes on, and its result arrives."""
    process = lab.run(lab.counting(daemon="poll_interval = 0.2\nlease = 1.0"))
    job_id = lab.submit({"seconds": 1.5, "value": 8})
    until(lambda: lab.book("run"), "the run")
    away = lab.folder / "away"
    lab.storage.rename(away)
    process.wait_for("storage.unavailable")
    time.sleep(3.0)  # longer than the run and its lease
    away.rename(lab.storage)
    assert lab.ended("counter", job_id)["status"] == "DONE"
    assert len(lab.book("run")) == 1
    assert lab.ended("counter", lab.submit({}))["status"] == "DONE"
    assert process.stop() == 0


def test_an_end_with_reports_left_is_told(lab: Lab) -> None:
    """Who asked for one job must not take it for delivered."""
    config = lab.counting()
    job_id = lab.submit({"seconds": 1.0, "value": 8})
    process = lab.run(config, "--max-jobs", "1", ready=False)
    until(lambda: lab.book("run"), "the run")
    away = lab.folder / "away"
    lab.storage.rename(away)
    assert process.end() == 75
    assert process.events("daemon.stopped")[0]["waiting"] == 1
    away.rename(lab.storage)
    assert lab.run(config, "--once", ready=False).end() == 0
    assert lab.ended("counter", job_id)["status"] == "DONE"
    assert len(lab.book("run")) == 1


def test_max_jobs_with_several_devices(lab: Lab) -> None:
    others = "".join(f'[devices.idle{n}]\nhandler = "echo"\n' for n in range(3))
    config = lab.counting(extra=others)
    lab.submit({})
    process = lab.run(config, "--max-jobs", "1", ready=False)
    assert process.end() == 0
    assert len(lab.book("run")) == 1


def test_a_new_daemon_waits_for_the_handler_of_a_killed_one(lab: Lab) -> None:
    """Two handlers at one instrument would be worse than none."""
    config = lab.counting(extra="grace = 2.0")
    first = lab.run(config)
    lab.submit({"busy": 1.5})
    until(lambda: lab.book("run"), "the run")
    first.signal(signal.SIGKILL)
    first.end()
    lab.run(config)
    lines = lab.book("")
    second_open = [at for at, line in enumerate(lines) if line == "open"][1]
    assert any(line.startswith(("done", "close")) for line in lines[:second_open]), lines
