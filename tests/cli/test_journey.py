"""Commands and the daemon together, on a real folder, with a real process where one is needed."""

import json
import os
import signal
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

pytestmark = pytest.mark.acceptance


def submit(lab, said, device, payload="{}"):
    (lab.folder / "job.json").write_text(payload)
    done = said("submit", device, "job.json")
    assert done.code == 0, done.err
    return done.out.strip()


@pytest.fixture
def announced(lab, said):
    """The lab after the daemon has once been there."""
    lab.drain()
    assert said("devices").out.count("s ago") == 2
    return lab


def test_before_the_daemon_was_ever_there(lab, said):
    done = said("devices")
    assert (done.code, done.out) == (0, "")
    assert "spooler run" in done.err
    assert json.loads(said("devices", "--json").out) == []
    assert said("status", "a" * 24).code == 67
    (lab.folder / "job.json").write_text("{}")
    done = said("submit", "echo", "job.json")
    assert done.code == 67
    assert "echo" in done.err


def test_a_job_from_submit_to_verify(announced, said):
    job = submit(announced, said, "echo", '{"a": 1}')
    assert json.loads(said("status", job, "--json").out)["state"] == "queued"
    for command in ("result", "verify"):
        waits = said(command, job)
        assert (waits.code, waits.out) == (75, "")
    announced.drain()
    status = said("status", job)
    assert status.code == 0
    assert "state    done" in status.out
    assert said("status", job, "--watch").code == 0
    assert json.loads(said("result", job).out) == {"echo": {"a": 1}}
    assert json.loads(said("result", job, "--json").out)["data"] == {"echo": {"a": 1}}
    verified = said("verify", job)
    assert verified.code == 0
    assert verified.out.startswith("verified:")
    assert said("cancel", job).code == 1


def test_a_device_that_asks_for_signatures_does_not_run_without_a_key(lab, said, process):
    (lab.folder / "signing_lab.py").write_text(
        "class Signing:\n"
        "    params = dict\n"
        "    def card(self): return {'properties': {'sign': True}}\n"
        "    def open(self): pass\n"
        "    def run(self, params, context): return {}\n"
        "    def close(self): pass\n"
    )
    device = '[devices.signing]\nhandler = "signing_lab:Signing"\nisolation = "thread"\n'
    settings = lab.folder / "spooler.toml"
    settings.write_text(lab.settings.replace('[signing]\nkey = "backend.jwk"\n', "") + device)
    child = process("run", "--once", cwd=lab.folder)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 78
    assert "device signing asks for signed results" in err


def test_a_result_that_was_changed_is_not_verified(announced, said):
    job = submit(announced, said, "echo", '{"value": 12345}')
    announced.drain()
    (file,) = (announced.folder / "storage/results").rglob(f"{job}.json")
    file.write_text(file.read_text().replace("12345", "54321"))
    done = said("verify", job, "--json")
    assert done.code == 1
    assert json.loads(done.out)["ok"] is False
    assert said("verify", job).out.startswith("NOT verified:")


def test_a_job_that_fails_says_why(announced, said):
    job = submit(announced, said, "broken")
    announced.drain()
    assert "the laser is off" in said("status", job).out
    assert said("status", job).code == 0
    assert said("status", job, "--watch").code == 1
    for command in ("result", "verify"):
        done = said(command, job)
        assert done.code == 1
        assert "the laser is off" in done.err


def test_a_clock_that_is_ahead_is_not_just_seen(announced, said):
    place = announced.folder / "storage/backends/configs/echo.json"
    year = str(datetime.now(UTC).year)
    place.write_text(place.read_text().replace(f'"{year}-', '"2999-'))
    assert "in the future" in said("devices").out


def test_a_job_is_cancelled_before_it_runs(announced, said):
    job = submit(announced, said, "echo")
    done = said("cancel", job)
    assert done.code == 0
    assert "withdrawn" in done.out
    announced.drain()
    assert said("result", job).code != 0
    assert "cancel" in said("status", job).out + said("result", job).err


def test_waiting_ends_when_the_time_is_up_and_the_id_is_not_lost(announced, said):
    (announced.folder / "job.json").write_text("{}")
    done = said("submit", "echo", "job.json", "--wait", "--timeout", "200ms")
    assert done.code == 75
    job = done.out.strip()
    assert f"spooler status {job}" in done.err
    assert said("status", job, "--watch", "--timeout", "100ms").code == 75


def test_waiting_sees_the_end(announced, process):
    daemon = process("run", cwd=announced.folder, stderr=subprocess.DEVNULL)
    for device, code in (("echo", 0), ("broken", 1)):
        done = process("submit", device, "-", "--wait", stdin=subprocess.PIPE, cwd=announced.folder)
        out, err = done.communicate("{}", timeout=60)
        assert done.returncode == code, err
        assert len(out.strip()) == 24
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(30) == 0


def test_run_with_settings_that_cannot_be_used(lab, process):
    (lab.folder / "spooler.toml").write_text("[storage\n")
    child = process("run", cwd=lab.folder)
    out, err = child.communicate(timeout=30)
    assert (child.returncode, out) == (78, "")
    assert err.count("\n") == 1
    assert "not valid TOML" in err


def test_run_logs_json_when_nobody_watches(announced):
    lines = [json.loads(line) for line in announced.drain().splitlines()]
    events = [line["event"] for line in lines]
    assert "daemon.started" in events
    assert events[-1] == "daemon.stopped"
    assert all({"timestamp", "level", "event"} <= line.keys() for line in lines)


# --- the demo ------------------------------------------------------------------------------------


def _run_demo(process, tmp_path, *arguments, **options):
    env = {"TMPDIR": str(tmp_path / "tmp")} | options.pop("env", {})
    (tmp_path / "tmp").mkdir(exist_ok=True)
    return process("demo", *arguments, cwd=tmp_path, env=env, **options)


def test_the_demo_is_real_and_leaves_nothing_behind(process, tmp_path):
    lab = tmp_path / "the-labs-own-storage"
    env = {"SPOOLER_STORAGE__PATH": str(lab), "PRIVATE_JWK_STR": "not for the demo"}
    child = _run_demo(process, tmp_path, env=env)
    out, err = child.communicate(timeout=100)
    assert child.returncode == 0, out + err
    assert out.count(" ok: ") == 2
    assert "unknown gate" in out
    assert "█" * 40 in out
    assert list((tmp_path / "tmp").iterdir()) == []
    assert not lab.exists()
    assert _daemons_of(tmp_path) == []


def test_the_demo_can_be_kept_and_looked_at(process, tmp_path, said):
    child = _run_demo(process, tmp_path, "--keep", tmp_path / "kept")
    out, err = child.communicate(timeout=100)
    assert child.returncode == 0, out + err
    assert said("devices", "--config", tmp_path / "kept/spooler.toml").code == 0
    again = _run_demo(process, tmp_path, "--keep", tmp_path / "kept")
    _, err = again.communicate(timeout=30)
    assert again.returncode == 73
    assert "not empty" in err


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_demo_leaves_nothing_behind(process, tmp_path, ending):
    # A file that is being imported just then is left open, and Python would tell of it here.
    env = {"PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "error,ignore::ResourceWarning"}
    child = _run_demo(process, tmp_path, env=env)
    assert child.stdout.readline().startswith("1. ")
    _until_there_is_a_daemon(tmp_path)
    child.send_signal(ending)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "Traceback" not in err
    assert list((tmp_path / "tmp").iterdir()) == []
    assert _daemons_of(tmp_path) == []


def test_a_daemon_that_ends_by_itself_ends_the_demo(tmp_path, capsys):
    import typer

    from spooler.cli.demo.daemon import daemon

    (tmp_path / "spooler.toml").write_text("[storage\n")
    with (
        pytest.raises(typer.Exit) as caught,
        daemon(tmp_path / "spooler.toml", tmp_path / "log", patience=30) as check,
    ):
        while True:
            check()
    assert caught.value.exit_code == 78
    assert "not valid TOML" in capsys.readouterr().err


def _until_there_is_a_daemon(folder):
    deadline = time.monotonic() + 30
    while not _daemons_of(folder):
        assert time.monotonic() < deadline


def _daemons_of(folder):
    """Processes whose command line names `folder`."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdecimal() and int(process.name) != os.getpid():
            try:
                command = (process / "cmdline").read_bytes()
            except OSError:
                continue
            if str(folder).encode() in command:
                found.append(command)
    return found


def test_a_dry_run_says_which_queues_are_empty(lab, said):
    lab.drain()
    done = said("run", "--dry-run")
    assert (done.code, done.out) == (0, "")
    assert done.err.splitlines() == [
        "echo: no job is queued",
        "broken: no job is queued",
    ]
    (lab.folder / "job.json").write_text("{}")
    for _ in range(2):
        assert said("submit", "echo", "job.json").code == 0
    done = said("run", "--dry-run", "--max-jobs", "1")
    assert len(done.out.splitlines()) == 1
    assert "no job is queued" not in done.err, "what was not looked at is not called empty"
    assert said("run", "--dry-run").err == "broken: no job is queued\n"


def test_a_job_for_a_lab_whose_daemon_never_ran_says_what_to_start(lab, said):
    (lab.folder / "job.json").write_text("{}")
    done = said("submit", "echo", "job.json")
    assert done.code == 67
    assert done.err == (
        "spooler: device 'echo' is not announced; start its daemon first: spooler run\n"
    )
