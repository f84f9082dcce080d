"""The device `command`: any program that reads a payload and writes a result, in any language.

The program gets the payload (one JSON object) on its standard input and writes one JSON object,
the result's data, to its standard output. What it writes to standard error goes to the log. Any
exit code but 0 fails the job; the last line of standard error is the reason.
"""

from __future__ import annotations

import errno
import os
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from spooler.devices.encoding import NotJson, decode, encode
from spooler.devices.forms import demand_distinct_keys
from spooler.devices.output import OutputLog
from spooler.devices.runners.sessions import End, end_of
from spooler.devices.sentences import one_line, without_paths
from spooler.devices.spec import MIB
from spooler.model.json import Json
from spooler.protocols import JobContext

_SLICE = 0.05
_READ = 64 * 1024
#: Bytes of unusable output that the reason quotes.
_SHOWN = 40


class Command:
    """Runs `argv` for each job: a program and its arguments, never a shell line.

    `timeout`: seconds for one run, beside the device's own. `env`: variables set in addition to
    the device's. `cwd`: the folder to run in, by default that of the daemon; a program with a
    relative path is looked for there. `grace`: seconds between SIGTERM and SIGKILL. `max_output`:
    bytes the program may write to standard output.
    """

    params = dict[str, Any]

    def __init__(
        self,
        argv: Sequence[str],
        *,
        timeout: float | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        version: str = "1.0.0",
        grace: float = 2.0,
        max_output: int = 16 * MIB,
    ) -> None:
        if not _is_list(argv) or not argv or not _are_texts(argv):
            raise ValueError("argv must be a list of texts: the program and its arguments")
        if env is not None and not (_is_table(env) and _are_texts(env.values())):
            raise ValueError('env must be a table of texts, as in { VOLTAGE = "3" }')
        if cwd is not None and not _are_texts([cwd]):
            raise ValueError(f"cwd must be a text, the path of a folder, got {cwd!r}")
        if timeout is not None and not (_is_number(timeout) and timeout > 0):
            raise ValueError(f"timeout must be a positive number of seconds, got {timeout!r}")
        if not (_is_number(grace) and grace >= 0):
            raise ValueError(f"grace must be a number of seconds, got {grace!r}")
        if not (_is_number(max_output) and max_output >= 1):
            raise ValueError(f"max_output must be a number of bytes, got {max_output!r}")
        self._argv = list(argv)
        self._timeout = timeout
        # As from a shell. In a handler's own process nothing of the daemon's is left by now; a
        # thread has the daemon's environment, and what belongs to the daemon is taken out here.
        self._env = {**_without_the_daemons(os.environ), **(env or {})}
        self._cwd = cwd
        self._version = version
        self._grace = grace
        self._max_output = max_output

    def card(self) -> dict[str, Json]:
        """Version, and which program it is."""
        return {"version": self._version, "description": f"Runs {Path(self._argv[0]).name}."}

    def open(self) -> None:
        if self._cwd is not None and not Path(self._cwd).is_dir():
            raise ValueError(f"folder {self._cwd} not found; correct the option cwd")
        self._find()

    def dry_run(self, params: dict[str, Any], context: JobContext) -> None:
        """Whether the program is there; it is not started."""
        del params, context
        self._find()

    def run(self, params: dict[str, Any], context: JobContext) -> dict[str, Any]:
        program = _Program(self._start(), encode(params), self._max_output, context)
        deadline = time.monotonic() + (self._timeout or float("inf"))
        try:
            end = program.wait(deadline, context)
        finally:
            program.finish(self._grace)
        if program.too_much:
            raise ValueError(f"the program wrote more than {self._max_output} bytes")
        if end is None and not context.stop.is_set():
            raise ValueError(f"the program did not end within {self._timeout:g} s")
        if end is None:
            raise ValueError("the program was asked to stop")
        return _answer(end, bytes(program.written), program.log.last_line)

    def close(self) -> None:
        """No program is left between runs."""

    def _find(self) -> None:
        """Raise ValueError when the program is not there, or not to be executed."""
        program = self._argv[0]
        if "/" not in program:
            if shutil.which(program, path=self._env.get("PATH")) is None:
                raise ValueError(
                    f"program {program} not found on the PATH; correct the option argv, where"
                    " a file is written with its folder, as in ./measure.sh"
                )
            return
        file = Path(self._cwd or ".", program)
        if not file.is_file():
            where = "" if file.is_absolute() else " in the daemon's working folder"
            raise ValueError(f"program {program} not found{where}; correct the option argv")
        if not os.access(file, os.X_OK):
            raise ValueError(f"{program} may not be executed; allow it with chmod +x {program}")

    def _start(self) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(  # noqa: S603 - the program that the settings name
                self._argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=self._cwd,
                env=self._env,
                bufsize=0,
                # Its own group, to be ended alone; still this session, to be ended with us.
                process_group=0,
            )
        except OSError as error:
            name = Path(self._argv[0]).name
            raise ValueError(f"{name} could not be started: {_unstarted(error)}") from error


def _unstarted(error: OSError) -> str:
    """Return what kept a program from starting; the system's words for two cases mislead."""
    if error.errno == errno.ENOEXEC:
        return (
            "not an executable program; the first line of a script must name its interpreter, as "
            "in #!/bin/sh"
        )
    if error.errno == errno.ENOENT:
        return (
            "the file or the interpreter that its first line names is not there"
            " (a script's lines must not end in carriage returns)"
        )
    return error.strerror or type(error).__name__


def _without_the_daemons(environ: Mapping[str, str]) -> dict[str, str]:
    ours = ("SPOOLER_", "PRIVATE_JWK_STR", "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "WATCHDOG_")
    return {name: text for name, text in environ.items() if not name.startswith(ours)}


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple)


def _is_table(value: object) -> bool:
    return isinstance(value, Mapping)


def _are_texts(items: Iterable[object]) -> bool:
    return all(isinstance(item, str) for item in items)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


class _Program:
    """A running program and its three pipes."""

    def __init__(
        self, popen: subprocess.Popen[bytes], payload: bytes, limit: int, context: JobContext
    ) -> None:
        self.written = bytearray()
        self.log = OutputLog(context.logger.info)
        self.too_much = False
        self._popen = popen
        self._unsent = memoryview(payload)
        self._limit = limit
        self._selector = selectors.DefaultSelector()
        self._add(popen.stdin, selectors.EVENT_WRITE, self._write)
        self._add(popen.stdout, selectors.EVENT_READ, self._read)
        self._add(popen.stderr, selectors.EVENT_READ, self._read_log)

    def wait(self, deadline: float, context: JobContext) -> End | None:
        """How the program ended; None when it ran out of time, wrote too much or must stop."""
        while not context.stop.is_set() and time.monotonic() < deadline and not self.too_much:
            ended = end_of(self._popen.pid)
            busy = self._exchange(0 if ended else _SLICE)
            # Descendants may keep the pipes: what the program itself wrote is there by now.
            if ended is not None and not busy:
                return ended
        return None

    def finish(self, grace: float) -> None:
        """End what still runs of the program's group, reap it, close the pipes."""
        deadline = time.monotonic() + grace
        if end_of(self._popen.pid) is None:
            self._signal(signal.SIGTERM)
            while end_of(self._popen.pid) is None and time.monotonic() < deadline:
                self._exchange(0.01)
        self._signal(signal.SIGKILL)
        self._popen.wait()
        self.log.finish()
        self._selector.close()
        for pipe in (self._popen.stdin, self._popen.stdout, self._popen.stderr):
            if pipe is not None:
                pipe.close()

    def _signal(self, signum: int) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._popen.pid, signum)

    def _add(self, pipe: IO[bytes] | None, event: int, react: Any) -> None:
        if pipe is not None:
            os.set_blocking(pipe.fileno(), False)
            self._selector.register(pipe, event, react)

    def _exchange(self, seconds: float) -> bool:
        """Move what can be moved; whether anything was."""
        if not self._selector.get_map():
            time.sleep(min(seconds, 0.005))  # all pipes are closed: only the end is missing
            return False
        events = self._selector.select(seconds)
        for key, _ in events:
            key.data(key.fileobj)
        return bool(events)

    def _write(self, pipe: IO[bytes]) -> None:
        try:
            while self._unsent:
                self._unsent = self._unsent[os.write(pipe.fileno(), self._unsent) :]
        except BlockingIOError:
            return
        except OSError:
            pass  # a program need not read its input
        self._drop(pipe)

    def _read(self, pipe: IO[bytes]) -> None:
        data = os.read(pipe.fileno(), _READ)
        self.written += data
        self.too_much = len(self.written) > self._limit
        if not data:
            self._drop(pipe)

    def _read_log(self, pipe: IO[bytes]) -> None:
        data = os.read(pipe.fileno(), _READ)
        self.log.feed(data, time.monotonic())
        if not data:
            self._drop(pipe)

    def _drop(self, pipe: IO[bytes]) -> None:
        self._selector.unregister(pipe)
        pipe.close()


def _answer(end: End, written: bytes, last_line: str) -> dict[str, Any]:
    if end != End():
        words = f"exit code {end.code}" if not end.signum else str(end)
        said = without_paths(one_line(last_line, 300))
        raise ValueError(f"the program failed ({words}){': ' if said else ''}{said}")
    if not written.strip():
        raise ValueError("the program wrote no result to its standard output")
    try:
        value = decode(written)
        demand_distinct_keys(written)
    except NotJson as error:
        begin = ascii(written[:_SHOWN].decode("utf-8", "backslashreplace"))
        raise ValueError(
            f"the program's standard output {error}; it starts with {begin}; write everything"
            " except the result to standard error"
        ) from None
    if not isinstance(value, dict):
        raise ValueError("the program's standard output is JSON but not an object")  # noqa: TRY004 - a job's failure
    return value
