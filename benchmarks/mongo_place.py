"""The MongoDB server of the measurements, and one run on it: settings, key, queue; its proof."""

from __future__ import annotations

import importlib.metadata
import os
import re
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pymongo
from bson.objectid import ObjectId
from pymongo.uri_parser import parse_uri

from benchmarks.figures import quantile
from benchmarks.place import DEVICE, JOB, MEMORY, BenchmarkError, Workplace, first_status
from benchmarks.wire import Wire
from tests.servers.mongodb import DATABASES, VARIABLE, MongoServer

_PINGS = 100
#: Options of a URI that would lead the driver past the wire, or have it greet more often.
_NOT_PASSED_ON = {"directconnection", "replicaset", "heartbeatfrequencyms"}
_URI = re.compile(r"mongodb://(?P<user>[^/?]*@)?[^/?]*(?P<database>/[^?]*)?(?:\?(?P<options>.*))?")


class Server:
    """One server, which the peers reach over a wire and the harness directly."""

    def __init__(self, uri: str, name: str) -> None:
        self.uri = uri
        self.name = name
        said: dict[str, Any] = parse_uri(uri) if uri.startswith("mongodb://") else {}
        if len(said.get("nodelist", ())) != 1 or said["options"].get("tls"):
            raise BenchmarkError(
                f"{VARIABLE} must name one server, without TLS: mongodb://HOST:PORT/"
            )
        self.host, self.port = said["nodelist"][0]
        self.client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(uri)

    def wire(self, delay: float, *, standalone: bool = False) -> Wire:
        """A way to it that takes `delay` seconds longer in each direction."""
        return Wire(self.host, self.port or 27017, delay=delay, standalone=standalone)

    def over(self, wire: Wire) -> str:
        """Its URI by that way."""
        parts = _URI.fullmatch(self.uri)
        assert parts is not None
        options = [
            each
            for each in (parts["options"] or "").split("&")
            if each and each.partition("=")[0].lower() not in _NOT_PASSED_ON
        ]
        said = "&".join(["directConnection=true", *options])
        user, database = parts["user"] or "", parts["database"] or "/"
        return f"mongodb://{user}127.0.0.1:{wire.port}{database}?{said}"

    def clear(self) -> None:
        """Drop sqooler's databases and ours: sqooler can use no others."""
        for name in DATABASES:
            self.client.drop_database(name)

    def demand_free(self) -> None:
        """Raise BenchmarkError when something lies where the jobs are to be."""
        there = set(DATABASES).intersection(self.client.list_database_names())
        if there:
            raise BenchmarkError(
                f"the server of {VARIABLE} holds the databases {', '.join(sorted(there))}, which "
                "would be dropped; name a server for tests, or drop them yourself"
            )

    def round_trip(self, delay: float | None) -> float:
        """Seconds that a ping takes over a wire; None is no wire. The median of many."""
        if delay is None:
            return _ping(self.uri)
        with self.wire(delay) as wire:
            return _ping(self.over(wire))


def _ping(uri: str) -> float:
    times = []
    with pymongo.MongoClient[dict[str, Any]](uri) as client:
        for _ in range(_PINGS):
            since = time.perf_counter()
            client.admin.command("ping")
            times.append(time.perf_counter() - since)
    return quantile(times[1:], 0.5)


@contextmanager
def opened_server(folder: Path) -> Iterator[Server]:
    """The server that SPOOLER_TEST_MONGODB_URI names, or a SecantusDB of our own in `folder`."""
    uri = os.environ.get(VARIABLE)
    if not uri and not Path(sys.executable).with_name("secantusd-py").exists():
        raise BenchmarkError(f"SecantusDB is not installed; name a MongoDB server in {VARIABLE}")
    process = MongoServer(uri, folder=folder)
    try:
        if process.owned:
            process.start()
        server = Server(process.uri, _name(process))
        server.demand_free()
        try:
            yield server
        finally:
            server.clear()
            server.client.close()
    finally:
        process.close()


def own_server() -> bool:
    """Whether the server is one that we start."""
    return not os.environ.get(VARIABLE)


def _name(process: MongoServer) -> str:
    if not process.owned:
        return f"MongoDB {process.client.server_info()['version']} of {VARIABLE}"
    place = "in memory" if MEMORY in process.folder.parents else "on disk"
    return f"SecantusDB {importlib.metadata.version('SecantusDB')} {place}"


class MongoPlace(Workplace):
    """A run on a server that holds nothing yet. `uri` is the peers' way to it."""

    def __init__(self, work: Path, server: Server, uri: str) -> None:
        super().__init__(Path(tempfile.mkdtemp(prefix="run-", dir=work)))
        self.uri = uri
        self._server = server
        server.clear()

    def collection(self, database: str, name: str) -> Any:
        """As the harness sees it: not over the wire."""
        return self._server.client[database][name]

    def settings(
        self,
        *,
        isolation: str = "process",
        name: str = "daemon",
        handler: str = "echo",
        book: Path | None = None,
        announce_interval: float = 60.0,
    ) -> Path:
        """Write spooler's settings; everything that is not said here is its default."""
        file = self.folder / f"{name}.toml"
        options = f'options = {{book = "{book}"}}\n' if book is not None else ""
        file.write_text(
            f'state = "{name}-state"\n'
            f"[daemon]\nannounce_interval = {announce_interval}\n"
            '[log]\nlevel = "warning"\n'
            f'[storage]\ntype = "sqooler-mongodb"\nuri = "{self.uri}"\nname = "bench"\n'
            '[signing]\nkey = "key.jwk"\n'
            f'[devices.{DEVICE}]\nhandler = "{handler}"\nisolation = "{isolation}"\n{options}',
            encoding="utf-8",
        )
        return file

    # --- the submitter's side ---------------------------------------------------------------

    def submit(self, count: int = 1) -> list[str]:
        """Put jobs into the queue at once, after their first statuses; their ids."""
        ids = self.prepare(count)
        self.queue(ids)
        return ids

    def prepare(self, count: int = 1) -> list[str]:
        """Jobs that are all but submitted: their first statuses are there."""
        ids = [uuid.uuid4().hex[:24] for _ in range(count)]
        statuses = [{**first_status(each), "_id": ObjectId(each)} for each in ids]
        self.collection("status", DEVICE).insert_many(statuses)
        return ids

    def queue(self, ids: list[str]) -> None:
        """Put prepared jobs into the queue, in one command."""
        jobs = [{**JOB, "_id": ObjectId(each)} for each in ids]
        self.collection("jobs", f"queued.{DEVICE}").insert_many(jobs)

    def is_finished(self, job_id: str) -> bool:
        """Whether the job is at its last place."""
        finished = self.collection("jobs", f"finished.{DEVICE}")
        return bool(finished.count_documents({"_id": ObjectId(job_id)}))

    # --- what came out ----------------------------------------------------------------------

    def demand_done(self, count: int, *, moved: bool = True) -> None:
        """Raise BenchmarkError unless `count` jobs are done, with statuses and results that hold.

        `moved`: they lie among the finished ones. Signatures are verified with sqooler's own
        code: of the first, the middle and the last.
        """
        results = list(self.collection("results", DEVICE).find())
        left = self.collection("jobs", f"queued.{DEVICE}").count_documents({})
        finished = self.collection("jobs", f"finished.{DEVICE}").count_documents({})
        there = (len(results), *((left, finished) if moved else ()))
        if there != (count, *((0, count) if moved else ())):
            raise BenchmarkError(
                f"{count} jobs were to be done, and there are {len(results)} results, {left} "
                f"waiting and {finished} finished jobs; see {self.log}"
            )
        statuses = {each["_id"]: each for each in self.collection("status", DEVICE).find()}
        for result in results:
            number = result.pop("_id")
            self.demand_told(result, statuses[number], str(number))
        for result in (results[0], results[len(results) // 2], results[-1]):
            if not self.signed(result):
                raise BenchmarkError(f"the signature of a result does not hold; see {self.log}")
