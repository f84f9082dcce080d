"""What only a process can do: die, be killed, and take its children with it."""

from __future__ import annotations

import os
import select
import signal
import time
from pathlib import Path

import pytest

from spooler.devices.runners.lock import device_lock
from spooler.devices.runners.process import ProcessRunner
from spooler.errors import ConfigError, DeviceUnusable, RunStopped
from spooler.model.result import Outcome
from spooler.model.run import StopReason
from spooler.model.state import State

from .conftest import Bench, Control, MakeBench, wait_gone


def pid_of(it: Bench) -> int:
    assert isinstance(it.runner, ProcessRunner)
    assert it.runner.pid is not None
    return it.runner.pid


def pid_said(control: Control) -> int:
    return int(control.said[0].removeprefix("pid "))


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("os_exit", "the handler process ended by itself with exit code 3"),
        ("segfault", "the handler process ended with SIGSEGV"),
        ("kill", "the handler process ended with SIGKILL (by the system, when memory ran out?)"),
        ("close_pipes", "the handler process cut its connection"),
        ("close_requests", "the handler process cut its connection"),
        ("garbage", "the handler process cut its connection"),
    ],
)
def test_the_death_of_the_process_fails_the_job_and_the_next_one_runs(
    bench: MakeBench, tmp_path: Path, what: str, reason: str
) -> None:
    diary = tmp_path / "diary"
    it = bench(options={"diary": str(diary)})
    pid = pid_of(it)
    assert it.do(what) == Outcome(State.ERROR, reason, died=True)
    assert wait_gone(pid)
    answer = it.do("answer").result
    assert answer is not None
    assert answer.data["runs"] == 1
    assert diary.read_text().split()[-1] == "open"


def test_a_process_that_died_between_runs_costs_no_job(bench: MakeBench) -> None:
    it = bench()
    pid = pid_of(it)
    os.kill(pid, signal.SIGKILL)
    assert wait_gone(pid)
    assert it.do("nothing").state is State.DONE


def test_a_lock_that_somebody_removes_is_taken_anew_before_the_next_run(
    bench: MakeBench, tmp_path: Path
) -> None:
    """Else the handler of another daemon could be opened beside ours."""
    lock = tmp_path / "state" / "bench.lock"
    it = bench(lock=str(lock))
    pid = pid_of(it)
    assert it.do("nothing").state is State.DONE
    assert pid_of(it) == pid
    lock.unlink()
    lock.touch()
    assert it.do("nothing").state is State.DONE
    assert pid_of(it) != pid
    with pytest.raises(DeviceUnusable), device_lock(str(lock), "bench", 0.0):
        raise AssertionError("somebody else has the device")


@pytest.mark.parametrize("what", ["stubborn", "deaf", "holds_gil"])
@pytest.mark.parametrize("reason", [StopReason.TIMEOUT, StopReason.LEASE_LOST])
def test_what_does_not_end_is_ended(bench: MakeBench, what: str, reason: StopReason) -> None:
    it = bench()
    pid = pid_of(it)
    word = {"stubborn": "stubborn", "deaf": "deaf", "holds_gil": "holding"}[what]
    stop = reason is not StopReason.TIMEOUT
    control = Control(reason, stop_at=word) if stop else Control()
    began = time.monotonic()
    with pytest.raises(RunStopped) as stopped:
        it.do(what, control, timeout=60.0 if stop else 0.3)
    assert stopped.value.reason == reason
    assert time.monotonic() - began < 20
    assert wait_gone(pid)
    assert it.do("nothing").state is State.DONE


def test_sigterm_lets_the_handler_close(bench: MakeBench, tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    it = bench(options={"diary": str(diary)}, grace=1.0)
    # A deaf handler is asked first, which takes the grace; then SIGTERM ends its sleep.
    with pytest.raises(RunStopped):
        it.do("deaf", Control(StopReason.SHUTDOWN, stop_at="deaf"))
    assert diary.read_text().split() == ["open", "close"]


def test_a_handler_gets_what_programs_need_and_what_its_device_says(
    bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = ("PRIVATE_JWK_STR", "SPOOLER_STORAGE__NAME", "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET")
    for name in (*ours, "AWS_SECRET_ACCESS_KEY", "FRIDGE"):
        monkeypatch.setenv(name, "of the daemon")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    answer = bench(env={"FRIDGE": "/dev/ttyUSB0"}).do("environment").result
    assert answer is not None
    assert "of the daemon" not in answer.data.values()
    assert answer.data["FRIDGE"] == "/dev/ttyUSB0"
    assert answer.data["LC_ALL"] == "C.UTF-8"
    assert answer.data["PATH"] == os.environ["PATH"]


@pytest.mark.parametrize("group", [None, 0])
def test_grandchildren_die_with_the_handler(bench: MakeBench, group: int | None) -> None:
    it = bench()
    control = Control()
    with pytest.raises(RunStopped, match="timeout"):
        it.run({"do": "grandchild", "with": {"group": group}}, control, timeout=2.0)
    assert wait_gone(pid_said(control))


def test_a_fork_that_outlives_the_handler_hides_nothing(bench: MakeBench) -> None:
    it = bench()
    control = Control()
    assert "exit code 9" in it.do("orphan", control).reason
    assert wait_gone(pid_said(control))


@pytest.mark.parametrize(
    ("leave", "code"), [("return", 0), ("exit", 5), ("raise", 1), ("kill", -signal.SIGTERM)]
)
def test_a_fork_answers_nothing_and_ends_where_the_handler_ends(
    bench: MakeBench, leave: str, code: int
) -> None:
    it = bench()
    control = Control()
    answer = it.run({"do": "fork", "with": {"leave": leave}}, control).result
    assert answer is not None
    assert answer.data == {"code": code, "pid": pid_of(it)}
    assert control.said == [], "a fork has no voice"
    after = it.do("answer").result
    assert after is not None
    assert after.data["pid"] == pid_of(it)
    assert after.data["runs"] == 2


def test_a_fork_of_a_thread_ends_when_it_is_told_to(bench: MakeBench) -> None:
    payload = {"do": "fork", "with": {"leave": "kill", "thread": True}}
    answer = bench().run(payload).result
    assert answer is not None
    assert answer.data == {"code": -signal.SIGTERM}


def test_a_pool_of_forks_works_and_ends(bench: MakeBench) -> None:
    answer = bench().do("pool").result
    assert answer is not None
    assert answer.data == {"squares": [1, 4, 9]}


def test_output_comes_line_by_line(bench: MakeBench) -> None:
    it = bench()
    it.do("print")
    assert sorted(it.lines) == ["on stderr", "on stdout"]


def test_records_arrive_as_the_handler_made_them(bench: MakeBench) -> None:
    """Whatever the handler's own set-up of logging switches off."""
    it = bench()
    it.do("log")
    said = [(each.levelname, each.name, each.getMessage()) for each in it.records]
    assert said == [
        ("WARNING", "spooler.devices.bench", "before"),
        ("WARNING", "fridge", "of another logger"),
        ("ERROR", "spooler.devices.bench", "after 1 set-up"),
        ("INFO", "spooler.devices.bench", "with everything disabled"),
    ]
    assert "ZeroDivisionError" in it.records[2].exception  # type: ignore[attr-defined]


def test_records_without_end_are_counted(bench: MakeBench) -> None:
    it = bench()
    it.do("flood_log")
    missing = [each for each in it.records if "dropped" in each.getMessage()]
    count = sum(int(each.getMessage().split()[0]) for each in missing)
    assert len(it.records) - len(missing) + count == 20_000
    assert count > 5_000


def test_records_between_runs_arrive_and_block_nobody(bench: MakeBench, tmp_path: Path) -> None:
    it = bench()
    it.do("log_later")
    until = time.monotonic() + 10.0
    while not it.records and time.monotonic() < until:
        it.runner.drain_output()
        time.sleep(0.01)
    assert it.records[0].getMessage() == "from a thread that was left behind"
    assert it.do("nothing").state is State.DONE


def test_a_crash_in_a_library_leaves_its_trace(bench: MakeBench) -> None:
    it = bench()
    assert "SIGSEGV" in it.do("segfault").reason
    assert any("do_segfault" in line for line in it.lines)


def test_tracebacks_go_to_the_log_with_full_paths(bench: MakeBench) -> None:
    it = bench()
    it.do("type_error")
    (record,) = it.records
    assert record.levelname == "ERROR"
    text = record.exception  # type: ignore[attr-defined]
    assert "Traceback (most recent call last)" in text
    assert "/home/lab/secret/laser.cfg" in text


def test_output_without_end_neither_blocks_nor_fills_the_log(bench: MakeBench) -> None:
    it = bench()
    assert it.run({"do": "chatter", "with": {"megabytes": 200}}).state is State.DONE
    size = sum(len(line) + 1 for line in it.lines)
    assert size < 100_000
    assert it.lines[-1] == "the last words"
    left_out = sum(int(line.split()[1]) for line in it.lines if line.endswith("left out ..."))
    # All is accounted for: what was passed on, what was left out, and the lines that say so.
    notes = sum(len(line) + 1 for line in it.lines if line.endswith("left out ..."))
    assert abs(200_000_000 + len("the last words\n") - (size - notes) - left_out) <= 2


def test_a_memory_limit_makes_an_ordinary_error(bench: MakeBench) -> None:
    it = bench(memory_limit=6 * 1024**3)
    pid = pid_of(it)
    assert it.do("memory").reason.startswith("MemoryError")
    assert it.do("nothing").state is State.DONE
    assert wait_gone(pid), "what it hoards went with the process"


def test_a_process_is_made_anew_after_so_many_jobs(bench: MakeBench, tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    it = bench(recycle_after=2, options={"diary": str(diary)})
    answers = [it.do("answer").result for _ in range(5)]
    assert [each and each.data["runs"] for each in answers] == [1, 2, 1, 2, 1]
    assert diary.read_text().split() == ["open", "close", "open", "close", "open"]


def test_a_handler_that_dies_while_opening(bench: MakeBench) -> None:
    with pytest.raises(DeviceUnusable, match="ended by itself with exit code 7 before it was open"):
        bench(options={"trouble": "open-crash"})


def test_a_handler_that_cannot_be_brought_up_again_rests_the_device(
    bench: MakeBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "code"
    folder.mkdir()
    source = Path(__file__).parent / "handlers" / "misbehaving.py"
    (folder / "edited.py").write_text(source.read_text())
    monkeypatch.syspath_prepend(str(folder))
    it = bench("edited:Zoo")
    it.do("os_exit")
    (folder / "edited.py").write_text("def broken(:")
    with pytest.raises(DeviceUnusable, match=r"cannot be imported: SyntaxError: .*edited.py, line"):
        it.do("nothing")
    (folder / "edited.py").write_text(source.read_text())
    assert it.do("nothing").state is State.DONE


def test_a_restart_can_be_stopped(bench: MakeBench) -> None:
    it = bench(options={"trouble": "open-hang"}, opened=False, start_timeout=60.0)

    class Impatient(Control):
        looks = 0

        @property
        def stop_reason(self) -> StopReason | None:  # type: ignore[override]
            self.looks += 1
            return StopReason.SHUTDOWN if self.looks > 3 else None

        @stop_reason.setter
        def stop_reason(self, value: StopReason | None) -> None: ...

    began = time.monotonic()
    with pytest.raises(RunStopped, match="shutdown"):
        it.do("nothing", Impatient())
    assert time.monotonic() - began < 30


def test_an_answer_that_came_before_the_stop_counts(bench: MakeBench, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    it = bench()

    class Late(Control):
        """Wants the run ended at the first progress, but looks only when the answer is there."""

        def progress(self, text: str) -> None:
            gate.write_text("go")
            assert isinstance(it.runner, ProcessRunner)
            assert it.runner._process is not None
            assert select.select([it.runner._process._answers], [], [], 10)[0]
            super().progress(text)

    outcome = it.run(
        {"do": "gate", "with": {"gate": str(gate)}}, Late(StopReason.CANCELLED, stop_at="at gate")
    )
    assert outcome.state is State.DONE


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_to_the_whole_group_are_for_the_daemon(bench: MakeBench, signum: int) -> None:
    """Ctrl-C, and a service manager that stops or reloads: idle and in the middle of a run."""
    it = bench()
    pid = pid_of(it)

    class Signalling(Control):
        def progress(self, text: str) -> None:
            os.kill(pid, signum)

    os.kill(pid, signum)
    with pytest.raises(RunStopped, match="timeout"):
        it.do("wait", Signalling(), timeout=0.5)
    result = it.do("answer").result
    assert result is not None
    assert result.data["pid"] == pid


def test_threads_of_the_handler_can_print_between_runs(bench: MakeBench, tmp_path: Path) -> None:
    done = tmp_path / "done"
    it = bench(grace=10.0)
    assert isinstance(it.runner, ProcessRunner)
    it.run({"do": "background", "with": {"done": str(done)}})
    deadline = time.monotonic() + 20
    while not done.exists():
        assert time.monotonic() < deadline
        it.runner.drain_output()


def test_options_must_be_json(bench: MakeBench) -> None:
    with pytest.raises(ConfigError, match="device bench: an option a is not a finite number"):
        bench("echo", options={"a": float("nan")})


def test_many_runs_leave_no_descriptors(bench: MakeBench) -> None:
    it = bench()
    it.do("nothing")

    def count() -> tuple[int, int]:
        return (
            len(list(Path("/proc/self/fd").iterdir())),
            len(list(Path(f"/proc/{pid_of(it)}/fd").iterdir())),
        )

    before = count()
    for _ in range(2000):
        assert it.do("nothing").state is State.DONE
    # Of our own process the other tests have a few that come and go.
    grown = [after - early for early, after in zip(before, count(), strict=True)]
    assert max(grown) < 50, grown


def test_crashes_leave_no_descriptors(bench: MakeBench) -> None:
    it = bench("echo")
    own = Path("/proc/self/fd")
    before = len(list(own.iterdir()))
    crashes = 6
    for _ in range(crashes):
        pid = pid_of(it)
        os.kill(pid, signal.SIGKILL)
        assert wait_gone(pid)
        assert it.run({}).state is State.DONE
    assert len(list(own.iterdir())) < before + crashes, "one for each crash, or more"


def test_large_payloads_and_results_pass(bench: MakeBench) -> None:
    it = bench("echo")
    payload = {"text": "ab" * 5_000_000}
    result = it.run(payload).result
    assert result is not None
    assert result.data == {"echo": payload}
