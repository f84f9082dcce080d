"""A real MongoDB server for tests: a process of its own, one for each pytest worker.

`SPOOLER_TEST_MONGODB_URI` names another server instead; then it is used as it is, and tests
that need to kill it are skipped. Import the fixtures into a conftest:

    from tests.servers.mongodb import bare_mongodb, mongo_prefix, mongodb_server

`mongodb_server` is the server, `mongo_prefix` a text that goes before the names of all databases
of one test, `bare_mongodb` the server with sqooler's own database names, for one test at a time.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymongo
import pytest
from pymongo.errors import PyMongoError

VARIABLE = "SPOOLER_TEST_MONGODB_URI"
#: The databases that sqooler uses, and ours beside them.
DATABASES = ("backends", "jobs", "results", "spooler", "status")
_BOOT, _STOP = 60.0, 2.0
#: The server ends with the worker that started it, however that ends.
_TIED = "import ctypes,os,sys; ctypes.CDLL(None).prctl(1, 9); os.execv(sys.argv[1], sys.argv[1:])"


class MongoServer:
    """A server at `uri`. `owned` says whether it may be killed; where not, such tests skip.

    One of our own has its data below `folder`.
    """

    def __init__(self, uri: str | None = None, *options: str, folder: Path | None = None) -> None:
        self.owned = uri is None
        self.uri = uri or ""
        self.options = options
        self.folder = Path()
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._client: pymongo.MongoClient[dict[str, Any]] | None = None
        if self.owned:
            self.folder = Path(tempfile.mkdtemp(prefix="spooler-test-mongodb-", dir=folder))

    # --- the process -----------------------------------------------------------------------

    def start(self) -> None:
        """Start the server, at the port it had before, and return when it answers."""
        self._demand_owned()
        if self._process is not None and self._process.poll() is None:
            return
        for _ in range(5):
            self._port = self._port or _free_port()
            self.uri = (
                f"mongodb://127.0.0.1:{self._port}/?directConnection=true&heartbeatFrequencyMS=500"
            )
            self._launch()
            if self._answers():
                return
            self._end(signal.SIGKILL)
            self._port = 0  # somebody else may have taken it
        log = (self.folder / "log").read_text(errors="replace")[-2000:]
        raise RuntimeError(f"the MongoDB server for the tests does not start:\n{log}")

    def kill(self) -> None:
        """End the server at once, as a crash would; `start` brings it back with its data."""
        self._demand_owned()
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Kill and start."""
        self.kill()
        self.start()

    @contextlib.contextmanager
    def stop_cont(self) -> Iterator[None]:
        """A server that is there and does not answer, until the end of the block."""
        self._demand_owned()
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)  # a busy machine may take its time
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def revive(self) -> None:
        """Bring it back where a test has killed it; take away what a test has planted."""
        if self.owned:
            self.start()
        with contextlib.suppress(PyMongoError):
            self.client.admin.command("configureFailPoint", "failCommand", mode="off")

    def close(self) -> None:
        """End it for good, and remove its data."""
        if self._client is not None:
            self._client.close()
        if self.owned:
            self._end(signal.SIGTERM)
            shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def port(self) -> int:
        """The port of a server that is ours; tests that need it are skipped with another."""
        self._demand_owned()
        return self._port

    # --- what tests do with it -------------------------------------------------------------

    @property
    def client(self) -> pymongo.MongoClient[dict[str, Any]]:
        """A plain client of the test itself."""
        if self._client is None:
            self._client = pymongo.MongoClient(
                self.uri, serverSelectionTimeoutMS=10_000, tz_aware=True
            )
        return self._client

    @contextlib.contextmanager
    def failpoint(self, *commands: str, times: int | str = 1, **data: Any) -> Iterator[None]:
        """Have these commands fail, `times` times or "alwaysOn".

        `data` is what the server's `failCommand` takes: errorCode=91, closeConnection=True,
        blockConnection=True and blockTimeMS=700, writeConcernError={...}, errorLabels=[...].
        """
        mode = times if isinstance(times, str) else {"times": times}
        try:
            self.client.admin.command(
                "configureFailPoint",
                "failCommand",
                mode=mode,
                data={"failCommands": list(commands), **data},
            )
        except PyMongoError as error:
            pytest.skip(f"this server has no fail points: {error}")
        try:
            yield
        finally:
            with contextlib.suppress(PyMongoError):
                self.client.admin.command("configureFailPoint", "failCommand", mode="off")

    def drop(self, prefix: str) -> None:
        """Drop every database whose name starts with `prefix`."""
        for name in self.client.list_database_names():
            if name.startswith(prefix):
                self.client.drop_database(name)

    # --- inside ----------------------------------------------------------------------------

    def _demand_owned(self) -> None:
        if not self.owned:
            pytest.skip(f"the server of {VARIABLE} is not ours to stop")

    def _launch(self) -> None:
        program = Path(sys.executable).with_name("secantusd-py")
        command = [sys.executable, "-c", _TIED, str(program), "--host", "127.0.0.1"]
        command += ["--port", str(self._port), "--storage-path", str(self.folder / "data")]
        command += ["--sync-on-commit", "--enable-test-commands", "--cache-size", "512M"]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *self.options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
            )

    def _answers(self) -> bool:
        """Wait until the port takes connections; False when the process ended instead."""
        assert self._process is not None
        deadline = time.monotonic() + _BOOT
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self._port), timeout=1).close()
            except OSError:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(0.05)
                continue
            return True
        return False

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(signal.SIGCONT)
        self._process.send_signal(how)
        try:
            self._process.wait(_STOP)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(_STOP)
        self._process = None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# --- fixtures ------------------------------------------------------------------------------

#: The one server of this worker: several conftests may import the fixture.
_shared: dict[str, MongoServer] = {}
_holders: list[int] = []
_lock = threading.Lock()


@pytest.fixture(scope="session")
def mongodb_server() -> Iterator[MongoServer]:
    """The server of this pytest worker; started when it is first needed."""
    with _lock:
        if "server" not in _shared:
            _shared["server"] = _opened()
        _holders.append(1)
    yield _shared["server"]
    with _lock:
        _holders.pop()
        if not _holders:
            _shared.pop("server").close()


def _opened() -> MongoServer:
    uri = os.environ.get(VARIABLE)
    if uri:
        return MongoServer(uri)
    if not Path(sys.executable).with_name("secantusd-py").exists():
        reason = (
            "there is no MongoDB server for the tests; install SecantusDB (make test does), "
            f"or name a server in {VARIABLE}"
        )
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    server = MongoServer()
    try:
        server.start()
    except BaseException:
        server.close()
        raise
    return server


@pytest.fixture
def mongo_prefix(mongodb_server: MongoServer) -> Iterator[str]:
    """What goes before the names of this test's databases; they are dropped at its end."""
    mongodb_server.revive()
    prefix = f"t{uuid.uuid4().hex[:10]}_"
    yield prefix
    mongodb_server.revive()
    mongodb_server.drop(prefix)


@pytest.fixture
def bare_mongodb(mongodb_server: MongoServer) -> Iterator[MongoServer]:
    """The server with none of sqooler's databases on it, for this test alone."""
    mongodb_server.revive()
    with _alone(mongodb_server):
        there = set(DATABASES).intersection(mongodb_server.client.list_database_names())
        if there and not mongodb_server.owned:
            pytest.fail(
                f"the server of {VARIABLE} holds the databases {', '.join(sorted(there))}, which "
                "the tests would drop; name a server for tests only, or drop them yourself"
            )
        _drop_bare(mongodb_server)
        yield mongodb_server
        mongodb_server.revive()
        _drop_bare(mongodb_server)


def _drop_bare(server: MongoServer) -> None:
    for name in DATABASES:
        server.client.drop_database(name)


@contextlib.contextmanager
def _alone(server: MongoServer) -> Iterator[None]:
    """One worker at a time on one server; ours belongs to one worker anyway."""
    if server.owned:
        yield
        return
    name = hashlib.sha256(server.uri.encode()).hexdigest()[:16]
    path = Path(tempfile.gettempdir()) / f"spooler-test-mongodb-{os.getuid()}-{name}.lock"
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
