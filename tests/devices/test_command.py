from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from spooler.errors import ConfigError, DeviceUnusable, RunStopped
from spooler.model.json import Json
from spooler.model.result import Outcome, Result
from spooler.model.run import StopReason
from spooler.model.state import State

from .conftest import Bench, Control, MakeBench, wait_gone


def program(bench: MakeBench, code: str, isolation: str = "process", **options: Json) -> Bench:
    argv = [sys.executable, "-c", code]
    return bench("command", isolation=isolation, options={"argv": argv, **options})


def reason(outcome: Outcome) -> str:
    assert outcome.state is State.ERROR
    return outcome.reason


ECHO = "import json, sys; print(json.dumps({'got': json.load(sys.stdin)}))"


@pytest.mark.parametrize("isolation", ["process", "thread"])
def test_payload_in_result_out(bench: MakeBench, isolation: str) -> None:
    it = program(bench, ECHO, isolation)
    payload: Json = {"text": "ü" * 200_000, "x": [1.5, None]}
    assert it.run(payload) == Outcome(State.DONE, "", Result({"got": payload}))
    assert it.run({}).result == Result({"got": {}})


def test_standard_error_goes_to_the_log(bench: MakeBench) -> None:
    it = program(bench, "import sys; print('warming up', file=sys.stderr); print('{}')")
    assert it.run({}).state is State.DONE
    assert any("warming up" in each.getMessage() for each in it.records)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import sys; sys.exit(4)", "the program failed (exit code 4)"),
        (
            "import sys; sys.exit('one\\nno beam in /opt/lab/beam.cfg')",
            "the program failed (exit code 1): no beam in beam.cfg",
        ),
        ("import os; os.kill(os.getpid(), 11)", "the program failed (ended with SIGSEGV)"),
        ("print('hello')", "the program's standard output is not JSON: expected value at line 1"),
        ("print('[1]')", "the program's standard output is JSON but not an object"),
        ("print('{} {}')", "the program's standard output is not JSON: trailing characters"),
        ("print('{\"a\": NaN}')", "the program's standard output is not JSON"),
        (
            'print(\'{"n": {"a": 1, "a": 2}}\')',
            'the program\'s standard output n has two keys that are both "a"',
        ),
        ("pass", "the program wrote no result to its standard output"),
        ("print('x' * 2_000_000)", "the program wrote more than 1000000 bytes"),
    ],
)
def test_failures_are_explained(bench: MakeBench, code: str, said: str) -> None:
    it = program(bench, code, "thread", max_output=1_000_000)
    assert reason(it.run({})).startswith(said)


def test_a_program_need_not_read_its_input(bench: MakeBench) -> None:
    it = program(bench, "print('{}')", "thread")
    assert it.run({"x": "y" * 1_000_000}).state is State.DONE


def test_its_own_timeout(bench: MakeBench) -> None:
    it = program(bench, "import time; time.sleep(60)", "thread", timeout=0.2)
    assert reason(it.run({})) == "the program did not end within 0.2 s"


def test_a_stop_ends_the_program_and_the_handler_lives_on(bench: MakeBench) -> None:
    code = "import time, sys; sys.stdin.read(); time.sleep(60)"
    it = program(bench, code, grace=0.1)
    began = time.monotonic()
    with pytest.raises(RunStopped, match="timeout"):
        it.run({}, timeout=0.5)
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("isolation", ["process", "thread"])
def test_a_deaf_program_and_its_children_are_killed(
    bench: MakeBench, isolation: str, tmp_path: object
) -> None:
    pids = f"{tmp_path}/pids"
    code = (
        "import os, signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"open({pids!r}, 'w').write(f'{{os.getpid()}} {{p.pid}}')\n"
        "time.sleep(60)"
    )
    argv = [sys.executable, "-c", code]
    it = bench("command", isolation=isolation, options={"argv": argv, "grace": 0.2}, grace=10.0)
    with pytest.raises(RunStopped):
        it.run({}, Control(), timeout=1.5)
    with open(pids) as stream:  # noqa: PTH123 - a path in a string
        for pid in stream.read().split():
            assert wait_gone(int(pid))


def test_background_children_do_not_keep_a_finished_program(bench: MakeBench) -> None:
    code = (
        "import subprocess, sys\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print('{}')"
    )
    it = program(bench, code)
    began = time.monotonic()
    assert it.run({}).state is State.DONE
    assert time.monotonic() - began < 20


def test_environment_and_folder(bench: MakeBench, tmp_path: object) -> None:
    code = "import json, os; print(json.dumps({'v': os.environ['LAB'], 'cwd': os.getcwd()}))"
    it = program(bench, code, "thread", env={"LAB": "7"}, cwd=str(tmp_path))
    assert it.run({}).result == Result({"v": "7", "cwd": str(tmp_path)})


def test_what_is_not_there_rests_the_device(bench: MakeBench) -> None:
    with pytest.raises(DeviceUnusable, match="program no-such-program not found on the PATH"):
        bench("command", isolation="thread", options={"argv": ["no-such-program"]})
    with pytest.raises(
        DeviceUnusable, match=r"program \./nothing not found in the daemon's working"
    ):
        bench("command", isolation="thread", options={"argv": ["./nothing"]})
    with pytest.raises(DeviceUnusable, match="folder /nowhere not found; correct the option cwd"):
        bench("command", isolation="thread", options={"argv": ["true"], "cwd": "/nowhere"})


def script(folder: Path, text: str, mode: int = 0o755) -> None:
    (folder / "measure.sh").write_bytes(text.encode())
    (folder / "measure.sh").chmod(mode)


@pytest.mark.parametrize("given", ["working folder", "cwd"])
def test_a_program_is_found_beside(
    bench: MakeBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    script(tmp_path, "#!/bin/sh\necho '{\"volts\": 3}'\n")
    options: dict[str, Json] = {"argv": ["./measure.sh"]}
    if given == "cwd":
        options["cwd"] = str(tmp_path)
    else:
        monkeypatch.chdir(tmp_path)
    it = bench("command", isolation="thread", options=options)
    assert it.run({}).result == Result({"volts": 3})


def test_a_file_without_the_right_to_be_executed_says_so(bench: MakeBench, tmp_path: Path) -> None:
    script(tmp_path, "#!/bin/sh\n", mode=0o644)
    options = {"argv": ["./measure.sh"], "cwd": str(tmp_path)}
    with pytest.raises(DeviceUnusable, match=r"chmod \+x \./measure\.sh"):
        bench("command", isolation="thread", options=options)


def test_a_missing_program_is_told_in_words_and_without_a_traceback(
    bench: MakeBench, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(DeviceUnusable, match=r"cannot be opened: program \./nowhere"):
        bench("command", isolation="thread", options={"argv": ["./nowhere.sh"]})
    assert "program ./nowhere.sh not found" in caplog.text
    assert "Traceback" not in caplog.text


def test_a_dry_run_looks_for_the_program_and_starts_nothing(
    bench: MakeBench, tmp_path: Path
) -> None:
    script(tmp_path, "#!/bin/sh\ntouch started\n")
    options = {"argv": ["./measure.sh"], "cwd": str(tmp_path)}
    it = bench("command", isolation="thread", options=options, opened=False)
    assert it.runner.dry_run(it.request({}), Control()).state is State.DONE
    assert not (tmp_path / "started").exists()
    (tmp_path / "measure.sh").unlink()
    assert "not found" in reason(it.runner.dry_run(it.request({}), Control()))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("echo '{}'\n", "the first line of a script must name its interpreter, as in #!/bin/sh"),
        ("#!/no/such/shell\n", "the interpreter that its first line names is not there"),
        ("#!/bin/sh\r\n", "must not end in carriage returns"),
    ],
)
def test_scripts_that_the_system_cannot_start(
    bench: MakeBench, tmp_path: Path, text: str, said: str
) -> None:
    script(tmp_path, text)
    options = {"argv": ["./measure.sh"], "cwd": str(tmp_path)}
    assert said in reason(bench("command", isolation="thread", options=options).run({}))


def test_what_is_no_json_is_quoted(bench: MakeBench) -> None:
    it = program(bench, "print('\x1b[1mstarting up'); print('{}')", "thread")
    assert r"it starts with '\x1b[1mstarting up\n{}\n'" in reason(it.run({}))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        *(({"argv": wrong}, "argv must be a list of texts") for wrong in ("ls -l", [], [1], {})),
        ({"env": {"VOLTS": 3}}, "env must be a table of texts"),
        ({"env": "VOLTS=3"}, "env must be a table of texts"),
        ({"timeout": "2s"}, "timeout must be a positive number of seconds, got '2s'"),
        ({"timeout": 0}, "timeout must be a positive number"),
        ({"grace": "2s"}, "grace must be a number of seconds"),
        ({"grace": -1}, "grace must be a number of seconds"),
        ({"max_output": "2 MiB"}, "max_output must be a number of bytes"),
        ({"cwd": 5}, "cwd must be a text"),
    ],
)
def test_options_of_the_wrong_kind(bench: MakeBench, options: dict[str, Json], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        bench("command", isolation="thread", options={"argv": ["true"], **options})


def test_no_shell_is_involved(bench: MakeBench) -> None:
    code = "import json, sys; print(json.dumps({'argv': sys.argv[1:]}))"
    argv = [sys.executable, "-c", code, "$HOME; echo *"]
    it = bench("command", isolation="thread", options={"argv": argv})
    assert it.run({}).result == Result({"argv": ["$HOME; echo *"]})


def test_a_stop_from_outside(bench: MakeBench) -> None:
    it = program(bench, "import time; time.sleep(60)", grace=5.0)
    with pytest.raises(RunStopped, match="cancelled"):
        it.run({}, _StopsLater(StopReason.CANCELLED))
    assert it.runner.open()


class _StopsLater(Control):
    looks = 0

    @property
    def stop_reason(self) -> StopReason | None:  # type: ignore[override]
        self.looks += 1
        return self._reason if self.looks > 5 else None

    @stop_reason.setter
    def stop_reason(self, value: StopReason | None) -> None: ...
