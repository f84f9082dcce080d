from __future__ import annotations

import sys
import time

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
    assert any("warming up" in line for line in it.lines)


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
        ("print('[1]')", "the program's standard output is JSON, but no object"),
        ("print('{} {}')", "the program's standard output is not JSON: trailing characters"),
        ("print('{\"a\": NaN}')", "the program's standard output is not JSON"),
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


def test_what_cannot_be_started(bench: MakeBench) -> None:
    with pytest.raises(DeviceUnusable, match="there is no program no-such-program that can be"):
        bench("command", isolation="thread", options={"argv": ["no-such-program"]})
    with pytest.raises(DeviceUnusable, match=r"there is no program \./nothing"):
        bench("command", isolation="thread", options={"argv": ["./nothing"]})
    with pytest.raises(DeviceUnusable, match="there is no folder /nowhere; correct the option cwd"):
        bench("command", isolation="thread", options={"argv": ["true"], "cwd": "/nowhere"})
    for wrong in ("ls -l", [], [1]):
        with pytest.raises(ConfigError, match="argv must be a list of strings"):
            bench("command", isolation="thread", options={"argv": wrong})


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
