import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from spooler import cli, errors
from spooler.cli import commands, exits, session

HEAVY = ("numpy", "scipy", "pymongo", "apscheduler", "jwcrypto", "rich", "structlog", "watchdog")
needs_dev_full = pytest.mark.skipif(
    not Path("/dev/full").exists(), reason="this system has no /dev/full"
)


def _all(kind):
    return [kind, *(one for each in kind.__subclasses__() for one in _all(each))]


def test_help_is_quick_because_nothing_heavy_is_imported():
    program = (
        "import sys, json; from spooler.cli import main; main(['--help']);"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert set(HEAVY).isdisjoint(json.loads(done.stderr))


def test_the_daemon_imports_neither_numpy_nor_a_database_driver():
    program = "import sys, spooler.app; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert {"numpy", "scipy", "pymongo"}.isdisjoint(done.stdout.decode().split())


def test_help_names_every_exit_code_and_cuts_no_sentence_short(said):
    text = said("--help").out
    for code in exits.Exit:
        assert re.search(rf"^ +{int(code)}  {re.escape(exits.MEANING[code])}$", text, re.MULTILINE)
    commands_part = text[text.index("Commands:") : text.index("Exit codes:")]
    assert "..." not in commands_part


def test_every_error_of_spooler_has_its_exit_code():
    for kind in _all(errors.SpoolerError):
        if kind is errors.SpoolerError or not kind.__module__.startswith("spooler.errors"):
            continue
        error = kind("x")
        expected = exits.Exit.INTERNAL if kind is errors.Bug else None
        assert (exits.of(error) is exits.Exit.INTERNAL) == (expected is not None), kind


@pytest.mark.parametrize(
    "arguments",
    [["foo"], ["run", "--onc"], ["status"], ["run", "--max-jobs", "0"], ["run", "--max-jobs", "x"],
     ["status", "x", "--timeout", "soon"], ["keys", "x"], ["new-device", "Big Laser"], []],
)  # fmt: skip
def test_a_command_written_wrong_is_exit_code_2(said, arguments):
    done = said(*arguments)
    assert done.code == 2
    assert done.out == ""
    assert done.err.strip()


def test_errors_become_one_sentence_and_a_code(said, tmp_path):
    done = said("devices", "--config", tmp_path / "no.toml")
    assert (done.code, done.out) == (78, "")
    assert done.err == f"spooler: there is no settings file {tmp_path / 'no.toml'}\n"


@pytest.mark.parametrize(
    "accident", [ZeroDivisionError("x"), errors.Bug("x"), RecursionError(), OSError(5, "x")]
)
def test_a_bug_becomes_one_sentence_and_a_file(said, monkeypatch, accident, tmp_path):
    def broken(*_):
        raise accident

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(session, "settings", broken)
    done = said("config", "show")
    assert done.code == 70
    (details,) = tmp_path.iterdir()
    name = type(accident).__name__
    assert done.err == (
        f"spooler: internal error ({name}); please report it, the details are in {details}\n"
    )
    assert "Traceback" in details.read_text()
    assert details.stat().st_mode & 0o077 == 0


def test_a_working_folder_that_was_removed(said, tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    done = said("check")
    assert done.code == 78
    assert "has been removed" in done.err


def test_interrupted_from_the_keyboard(said, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(session, "settings", interrupted)
    assert said("config", "show").code == 130


@pytest.mark.acceptance
def test_a_reader_that_has_gone_is_no_error():
    line = f"{sys.executable} -m spooler config schema | true; exit ${{PIPESTATUS[0]}}"
    root = Path(cli.__file__).parents[2]
    done = subprocess.run(["bash", "-c", line], capture_output=True, cwd=root, check=False)
    assert done.stderr == b""
    assert done.returncode == 0


@pytest.mark.acceptance
@needs_dev_full
def test_an_answer_that_cannot_be_written_is_no_bug(process):
    with Path("/dev/full").open("w") as full:
        child = process("config", "schema", stdout=full)
        _, err = child.communicate(timeout=30)
    assert child.returncode == 73
    assert err == (
        "spooler: the answer cannot be written: No space left on device;"
        " make room, or send it elsewhere\n"
    )


@pytest.mark.acceptance
@needs_dev_full
def test_a_job_whose_id_cannot_be_written_is_not_kept_from_its_submitter(lab, process):
    lab.drain()
    (lab.folder / "job.json").write_text("{}")
    errors = {}
    for command in (["devices"], ["submit", "echo", "job.json"], ["run", "--dry-run"]):
        with Path("/dev/full").open("w") as full:
            child = process(*command, stdout=full, cwd=lab.folder)
            _, errors[command[0]] = child.communicate(timeout=30)
        assert child.returncode == 73, errors
    (job,) = (lab.folder / "storage/jobs/queued/echo").iterdir()
    assert f"the job is queued as {job.stem}, but the answer cannot" in errors["submit"]


@pytest.mark.acceptance
@needs_dev_full
def test_notes_that_nobody_hears_fail_nothing(lab, process):
    with Path("/dev/full").open("w") as full:
        for command in (["devices"], ["run", "--dry-run"]):
            child = process(*command, stderr=full, cwd=lab.folder)
            child.communicate(timeout=30)
            assert child.returncode == 0


@pytest.mark.acceptance
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_an_answer_that_the_terminal_has_no_letters_for(lab, said, process, encoding):
    lab.drain()
    (lab.folder / "job.json").write_text('{"a": "\u2603 \u00b5"}', encoding="utf-8")
    job = said("submit", "echo", "job.json").out.strip()
    lab.drain()
    for options in (["--json"], []):
        environ = {"PYTHONIOENCODING": encoding}
        child = process("result", job, *options, cwd=lab.folder, env=environ, encoding=encoding)
        out, err = child.communicate(timeout=30)
        assert (child.returncode, err) == (0, "")
        answer = json.loads(out)
        assert (answer["data"] if options else answer) == {"echo": {"a": "\u2603 \u00b5"}}
    environ = {"PYTHONIOENCODING": encoding}
    child = process("status", "\u2603", cwd=lab.folder, env=environ, encoding=encoding)
    assert (child.communicate(timeout=30)[0], child.returncode) == ("", 67)


@pytest.mark.acceptance
def test_closed_standard_streams_are_given_to_no_file(lab, said):
    lab.drain()
    (lab.folder / "job.json").write_text("{}")
    job = said("submit", "echo", "job.json").out.strip()
    line = f"{sys.executable} -m spooler run --once <&- >&- 2>&-"
    root = str(Path(cli.__file__).parents[2])
    done = subprocess.run(
        ["bash", "-c", line], cwd=lab.folder, env={**os.environ, "PYTHONPATH": root}, check=False
    )
    assert done.returncode == 0
    assert "state    done" in said("status", job).out
    assert said("audit", "verify").out.startswith("whole")


@pytest.mark.acceptance
def test_ctrl_c_while_reading_stdin(lab, process):
    child = process("submit", "echo", "-", stdin=subprocess.PIPE, cwd=lab.folder)
    _until_it_waits_for_stdin(child)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=30)
    assert child.returncode == 130
    assert "Traceback" not in err


def _until_it_waits_for_stdin(child):
    """The kernel says when a process sleeps in a read of a pipe."""
    for _ in range(100_000):
        if "pipe_read" in Path(f"/proc/{child.pid}/wchan").read_text():
            return
    pytest.skip("this kernel does not tell what a process waits for")


def test_each_command_has_help(said):
    for name in commands._COMMANDS:
        done = said(name, "--help")
        assert done.code == 0
        assert f"Usage: spooler {name}" in done.out


def test_the_version(said):
    assert re.fullmatch(r"spooler \d+\.\d+\.\d+\n", said("--version").out)
