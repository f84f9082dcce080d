"""A lab whose jobs live on a MongoDB server, and what sqooler's users do there."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from tests.acceptance.lab import Lab, until
from tests.servers.mongodb import MongoServer


class MongoLab(Lab):
    """A lab whose jobs live on a server."""

    def __init__(self, folder: Path, server: MongoServer) -> None:
        super().__init__(folder)
        self.server = server
        #: What stands in [storage] beside its type.
        self.place = f"uri = {json.dumps(server.uri)}"

    def configure(self, *asked: Any, **more: Any) -> Path:
        config = super().configure(*asked, **more)
        local = 'type = "sqooler-local"\npath = "storage"\nupload_pause = "2s"\n'
        text = config.read_text(encoding="utf-8")
        assert local in text
        place = f'type = "sqooler-mongodb"\n{self.place}\n'
        config.write_text(text.replace(local, place), encoding="utf-8")
        return config


def submit(client: Any, device: str, job: dict[str, Any]) -> str:
    """As qlued does it: the job first, its first status second."""
    job_id: str = client.upload_job(copy.deepcopy(job), device, "alice")
    client.upload_status(device, "alice", job_id)
    return job_id


def ended(client: Any, device: str, job_id: str) -> Any:
    def look() -> Any:
        status = client.get_status(device, "alice", job_id)
        return status if status.status in {"DONE", "ERROR"} else None

    return until(look, f"the end of job {job_id}")
