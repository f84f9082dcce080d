"""The same on a MongoDB server: databases of its own, and the commands that change it."""

from __future__ import annotations

import os
import uuid
from dataclasses import replace
from typing import Any, ClassVar

from bson.objectid import ObjectId
from pymongo import MongoClient

from spooler.protocols import Submitter
from spooler.storage.sqooler.mongodb.layout import Abilities, Phase
from tests.faults.commands import trace
from tests.faults.points import TracedOs
from tests.faults.world import DEVICE, At, World

#: Where the server is; said once, by who starts this process.
URI: list[str] = []


class MongoWorld(World):
    """Jobs on a server. A copy has the same databases: what is in them of jobs is removed."""

    marks: ClassVar[dict[str, str]] = {
        **World.marks,
        "claimed": rf"^findAndModify jobs/spooler\.{DEVICE} \$replaceWith",
        "started": rf"^findAndModify jobs/spooler\.{DEVICE} started ttl until$",
        "committed": rf"^update jobs/spooler\.{DEVICE} .*jws",
    }

    def __init__(self, kind: str, like: MongoWorld | None = None) -> None:
        self.kind = kind
        self.prefix = like.prefix if like else f"k{uuid.uuid4().hex[:10]}_"
        self._submitters: dict[int, Submitter] = {}
        self._copied = like is not None
        self._client: MongoClient[dict[str, Any]] = like._client if like else MongoClient(URI[0])
        super().__init__(like)

    def close(self) -> None:
        for each in self._submitters.values():
            each.close()
        if self._copied:
            self._empty()
        else:
            for name in ("backends", "jobs", "results", "spooler", "status"):
                self._client.drop_database(self.prefix + name)
            self._client.close()
        super().close()

    def _empty(self) -> None:
        for place in self._job_places():
            self[place].delete_many({})

    @staticmethod
    def _job_places() -> list[str]:
        own = [f"jobs/{name}.{DEVICE}" for name in ("queued", "finished", "spooler")]
        others = [f"{name}/{DEVICE}" for name in ("status", "results")]
        return [*own, "jobs/deleted", *others, f"spooler/replaced.{DEVICE}"]

    def __getitem__(self, place: str) -> Any:
        database, _, name = place.partition("/")
        return self._client[self.prefix + database][name]

    def _copy(self, like: World) -> None:
        self._empty()

    def _announced(self) -> None:
        self["backends/configs"].insert_one({"display_name": DEVICE})

    # --- settings ---------------------------------------------------------------------------

    def storage_settings(self) -> dict[str, Any]:
        return {"type": "sqooler-mongodb", "uri": URI[0], "prefix": self.prefix}

    def submitter(self) -> Submitter:
        """One for each process: a forked one must not use its parent's connections."""
        if os.getpid() not in self._submitters:
            self._submitters = {os.getpid(): super().submitter()}
        return self._submitters[os.getpid()]

    def quicken(self) -> None:
        super().quicken()
        if self.kind == "old":
            real = Abilities.of
            Abilities.of = lambda hello: replace(  # type: ignore[method-assign, assignment]
                real(hello), together=False
            )

    def trace(self, at: At, *, looks: bool) -> TracedOs:
        files = super().trace(at, looks=looks)
        trace(self.prefix, at, files)
        return files

    # --- looking ----------------------------------------------------------------------------

    def _entry(self) -> dict[str, Any]:
        found = self[f"jobs/spooler.{DEVICE}"].find_one({"_id": ObjectId(self.job)})
        return found or {}

    def published_jws(self) -> str:
        return str(self._entry().get("jws", ""))

    def documents_broken(self) -> list[str]:
        status = self[f"status/{DEVICE}"].find_one({"_id": ObjectId(self.job)}) or {}
        said = status.get("payload", status).get("status")
        result = self[f"results/{DEVICE}"].find_one({"_id": ObjectId(self.job)})
        if said == "DONE":
            if result is None:
                return ["there is no result for a job that is DONE"]
            if not self.submitter().verify(DEVICE, self.job).ok:
                return ["the signature of the result is wrong"]
        elif said not in {"INITIALIZING", "ERROR"}:
            return [f"the status is {said}"]
        return []

    def places(self) -> list[str]:
        """Where the body lies. While an end is being published it may lie in two places."""
        finals = {f"finished/{DEVICE}": f"jobs/finished.{DEVICE}", "deleted": "jobs/deleted"}
        wanted = {"_id": ObjectId(self.job)}
        last = [f"jobs/{name}" for name, at in finals.items() if self[at].find_one(wanted)]
        queued = self[f"jobs/queued.{DEVICE}"].find_one(wanted) is not None
        if queued and not (last and self._entry().get("phase") == Phase.COMMITTED):
            last.append(f"jobs/queued/{DEVICE}")
        return last

    def _left_in_storage(self) -> list[str]:
        found = [f"storage/{self._entry().get('phase')}"]
        found = [] if found == ["storage/ended"] else found
        for place in (f"jobs/queued.{DEVICE}", f"spooler/replaced.{DEVICE}"):
            found += [f"storage/{place}/{each['_id']}" for each in self[place].find({})]
        return found
