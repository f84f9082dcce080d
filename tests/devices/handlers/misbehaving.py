"""A handler that does whatever a payload asks for, the worst included."""

from __future__ import annotations

import ctypes
import logging
import logging.config
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from spooler.model.artifact import Artifact
from spooler.model.result import Result
from spooler.protocols import JobContext

HANG = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(15, lambda *a: 0)\nwhile 1: time.sleep(9)",
]


def _square(value: int) -> int:
    return value * value


class Model(BaseModel):
    counts: list[int]


class Zoo:
    params = dict[str, Any]

    def __init__(self, diary: str = "", trouble: str = "") -> None:
        self.diary = diary
        self.trouble = trouble
        self.runs = 0
        self.last: Any = None
        if trouble == "construct":
            raise RuntimeError("no such board")

    def note(self, word: str) -> None:
        if self.diary:
            with Path(self.diary).open("a") as stream:
                stream.write(word + "\n")

    def card(self) -> dict[str, Any]:
        if self.trouble == "card":
            return {"verzion": "1"}
        return {"version": "2.3.4", "properties": {"pid": os.getpid()}}

    def open(self) -> None:
        self.note("open")
        if self.trouble == "open":
            raise OSError(5, "Input/output error", "/dev/serial/by-id/laser")
        if self.trouble == "open-crash":
            os._exit(7)
        if self.trouble == "open-hang":
            time.sleep(600)

    def close(self) -> None:
        self.note("close")

    def run(self, params: dict[str, Any], context: JobContext) -> Any:
        self.runs += 1
        return getattr(self, f"do_{params['do']}")(context, **params.get("with", {}))

    # --- good ---

    def do_nothing(self, context: JobContext) -> Any:
        return {}

    def do_answer(self, context: JobContext) -> Any:
        return {"pid": os.getpid(), "runs": self.runs, "thread": threading.current_thread().name}

    def do_model(self, context: JobContext) -> Any:
        return Model(counts=[1, 2])

    def do_numpy(self, context: JobContext) -> Any:
        return {"mean": np.float64(0.5), "n": np.int64(3), "counts": np.arange(3)}

    def do_result(self, context: JobContext) -> Any:
        (context.scratch / "sub").mkdir()
        file = context.scratch / "sub" / "trace.txt"
        file.write_text("12345")
        context.publish(file)
        return Result({"x": 1})

    def do_publish_early(self, context: JobContext) -> Any:
        with (context.scratch / "open.txt").open("w") as file:
            file.write("12345")  # it is in a buffer, and not in the file
            context.publish(context.scratch / "open.txt")
        (context.scratch / "gone.txt").write_text("1")
        context.publish(context.scratch / "gone.txt")
        (context.scratch / "gone.txt").unlink()
        (context.scratch / "own.txt").write_text("abc")
        return Result({}, (Artifact("own.txt", 1, "0" * 64),))

    def do_progress(self, context: JobContext) -> Any:
        context.progress("first\nwords")
        return {}

    def do_context(self, context: JobContext) -> Any:
        seen = {
            "fresh": self.last is not context,
            "stopped": context.stop.is_set(),
            "files": sorted(p.name for p in context.scratch.iterdir()),
            "job": context.job_id,
            "attempt": context.attempt,
            "remaining": context.remaining(),
        }
        if self.last is not None:
            self.last.progress("from the dead")
        self.last = context
        return seen

    def do_print(self, context: JobContext) -> Any:
        print("on stdout")
        print("on stderr", file=sys.stderr)
        context.logger.info("in the log")
        return {}

    def do_environment(self, context: JobContext) -> Any:
        return dict(os.environ)

    def do_log(self, context: JobContext) -> Any:
        context.logger.warning("before")
        logging.getLogger("fridge").warning("of another logger")
        logging.config.dictConfig({"version": 1, "root": {"level": "CRITICAL", "handlers": []}})
        try:
            _ = 1 / 0
        except ZeroDivisionError:
            context.logger.exception("after %d set-up", 1)
        logging.disable(logging.CRITICAL)
        context.logger.info("with everything disabled")
        return {}

    def do_flood_log(self, context: JobContext) -> Any:
        for number in range(20_000):
            context.logger.info("record %d %s", number, "x" * 50)
        return {}

    def do_log_later(self, context: JobContext) -> Any:
        def work() -> None:
            time.sleep(0.2)
            context.logger.info("from a thread that was left behind")

        threading.Thread(target=work).start()
        return {}

    def do_background(self, context: JobContext, done: str) -> Any:
        def work() -> None:
            for _ in range(5000):
                print("x" * 99)
            Path(done).touch()

        threading.Thread(target=work).start()
        return {}

    # --- cooperative ---

    def do_wait(self, context: JobContext) -> Any:
        context.progress("waiting")
        context.stop.wait(60)
        return {"stopped": context.stop.is_set()}

    def do_gate(self, context: JobContext, gate: str) -> Any:
        context.progress("at gate")
        return {"read": Path(gate).read_text()}

    # --- accidents ---

    def do_value_error(self, context: JobContext) -> Any:
        raise ValueError("the detuning is\ntoo large" + "!" * 1000)

    def do_type_error(self, context: JobContext) -> Any:
        raise TypeError("cannot read /home/lab/secret/laser.cfg")

    def do_bad_str(self, context: JobContext) -> Any:
        class BadError(Exception):
            def __str__(self) -> str:
                raise RuntimeError("no text")

        raise BadError

    def do_exit(self, context: JobContext) -> Any:
        sys.exit(3)

    def do_interrupt(self, context: JobContext) -> Any:
        raise KeyboardInterrupt

    def do_recursion(self, context: JobContext) -> Any:
        return self.do_recursion(context)

    def do_memory(self, context: JobContext) -> Any:
        return {"size": len(bytearray(8 * 1024**3))}

    # --- results that are none ---

    def do_none(self, context: JobContext) -> Any:
        return None

    def do_list(self, context: JobContext) -> Any:
        return [1]

    def do_nan(self, context: JobContext) -> Any:
        return {"fit": {"width": [1.0, float("nan")]}}

    def do_nan_array(self, context: JobContext) -> Any:
        return {"fit": np.array([np.inf])}

    def do_nan_word(self, context: JobContext) -> Any:
        return {"text": "NaN and Infinity are words"}

    def do_object(self, context: JobContext) -> Any:
        return {"camera": {"handle": object()}}

    def do_surrogate(self, context: JobContext) -> Any:
        return {"text": "\ud800"}

    def do_deep(self, context: JobContext, levels: int = 100_000) -> Any:
        deep: list[Any] = []
        for _ in range(levels):
            deep = [deep]
        return {"deep": deep}

    def do_huge(self, context: JobContext) -> Any:
        return {"text": "x" * 5_000_000}

    # --- the end of the process ---

    def do_os_exit(self, context: JobContext) -> Any:
        os._exit(3)

    def do_segfault(self, context: JobContext) -> Any:
        ctypes.string_at(0)

    def do_kill(self, context: JobContext) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)

    def do_close_pipes(self, context: JobContext) -> Any:
        os.closerange(3, 4096)  # whatever the numbers of the sockets are
        time.sleep(60)

    def do_close_requests(self, context: JobContext) -> Any:
        os.close(int(sys.argv[2]))  # only where the next job would come from
        time.sleep(60)

    def do_garbage(self, context: JobContext) -> Any:
        for number in range(3, 4096):  # wherever the sockets are
            try:
                os.write(number, b"\xff" * 64)
            except OSError:
                continue
        time.sleep(60)

    # --- what does not want to end ---

    def do_stubborn(self, context: JobContext) -> Any:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        context.progress("stubborn")
        while True:
            pass

    def do_deaf(self, context: JobContext) -> Any:
        context.progress("deaf")
        time.sleep(600)

    def do_holds_gil(self, context: JobContext) -> Any:
        context.progress("holding")
        ctypes.PyDLL(None).sleep(600)

    def do_grandchild(self, context: JobContext, group: int | None = None) -> Any:
        process = subprocess.Popen(HANG, process_group=group)
        context.progress(f"pid {process.pid}")
        time.sleep(600)

    def do_orphan(self, context: JobContext) -> Any:
        """Dies and leaves a fork behind that holds all descriptors."""
        pid = os.fork()
        if pid == 0:
            time.sleep(600)
        context.progress(f"pid {pid}")
        os._exit(9)

    def do_fork(self, context: JobContext, leave: str, thread: bool = False) -> Any:
        """A helper beside the measurement, which leaves as `leave` says; its exit code."""
        if thread:
            codes: list[int] = []
            side = threading.Thread(target=lambda: codes.append(self._forked(context, "kill")))
            side.start()
            side.join()
            return {"code": codes[0]}
        code = self._forked(context, leave)
        return {"code": code, "pid": os.getpid()}

    def _forked(self, context: JobContext, leave: str) -> Any:
        pid = os.fork()
        if pid == 0:
            context.progress("from the fork")
            if leave == "exit":
                sys.exit(5)
            if leave == "raise":
                raise RuntimeError("in the fork")
            if leave == "kill":
                time.sleep(600)
            return {"measured": "by the fork"}
        if leave == "kill":
            time.sleep(0.1)
            os.kill(pid, signal.SIGTERM)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def do_pool(self, context: JobContext) -> Any:
        with multiprocessing.get_context("fork").Pool(2) as pool:
            return {"squares": pool.map(_square, [1, 2, 3])}

    def do_chatter(self, context: JobContext, megabytes: int = 200) -> Any:
        line = ("x" * 99 + "\n") * 10_000
        for _ in range(megabytes):
            sys.stdout.write(line)
        print("the last words")
        return {}
