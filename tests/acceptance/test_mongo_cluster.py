"""A lab in a cloud: found by name, encrypted, with users. Real daemons and the real sqooler."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest

from tests.acceptance.lab import RABI, kept, until
from tests.acceptance.mongo_lab import MongoLab, ended, submit
from tests.servers.mongodb import MongoServer
from tests.servers.names import HOST, NameServer, cluster
from tests.servers.secured import PASSWORD, Secured, secured
from tests.storage.sqooler import upstream

pytestmark = [pytest.mark.interop, pytest.mark.acceptance]


@pytest.fixture(scope="module")
def cloud(
    mongodb_server: MongoServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Secured]:
    if not mongodb_server.owned:
        pytest.skip("needs a server of its own")
    with secured(tmp_path_factory.mktemp("cloud")) as made:
        yield made


@pytest.fixture
def names(cloud: Secured) -> Iterator[NameServer]:
    with NameServer(cluster(cloud.port)) as made, made.asked():
        yield made


@pytest.fixture
def lab(cloud: Secured, names: NameServer, tmp_path: Path) -> Iterator[MongoLab]:
    """Three lines of its settings say where the queue is; the fourth belongs to our authority."""
    made = MongoLab(tmp_path, cloud.server)
    made.place = f'host = "{HOST}"\nuser = "boss"\ntls_ca_file = {json.dumps(cloud.authority)}'
    made.environment = names.environment(tmp_path / "site")
    yield made
    made.close()
    with cloud.administrator() as client:
        for database in ("backends", "jobs", "results", "spooler", "status"):
            client.drop_database(database)


@pytest.fixture
def client(lab: MongoLab, cloud: Secured, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """sqooler's client as it is: name, password and host, and the system's authorities."""
    monkeypatch.setenv("SSL_CERT_FILE", cloud.authority)
    login = upstream.schemes.MongodbLoginInformation(
        mongodb_username="boss",
        mongodb_password=quote_plus(PASSWORD),
        mongodb_database_url=HOST,
    )
    made = upstream.MongodbProviderExtended(login, "lab")
    yield made
    made.client.close()


@pytest.mark.parametrize("by", ["environment", "credential"])
def test_submit_read_verify(lab: MongoLab, client: Any, tmp_path: Path, by: str) -> None:
    if by == "environment":
        lab.environment["SPOOLER_STORAGE__PASSWORD"] = PASSWORD
    else:
        (tmp_path / "credentials").mkdir()
        (tmp_path / "credentials" / "spooler.storage.password").write_text(f"{PASSWORD}\n")
        lab.environment["CREDENTIALS_DIRECTORY"] = str(tmp_path / "credentials")
    daemon = lab.run(lab.configure())
    job_id = submit(client, "singlequdit", RABI)
    assert ended(client, "singlequdit", job_id).status == "DONE"
    assert client.get_result("singlequdit", "alice", job_id).success
    assert client.verify_result("singlequdit", job_id)
    assert daemon.stop() == 0
    assert PASSWORD not in daemon.text()
    assert not daemon.events("storage.unavailable")


def test_a_login_that_is_revoked_while_a_job_runs(
    lab: MongoLab, cloud: Secured, client: Any
) -> None:
    """The run is finished and its result kept; when the login is given back it is delivered."""
    lab.place = lab.place.replace('"boss"', '"worker"')
    lab.environment["SPOOLER_STORAGE__PASSWORD"] = PASSWORD
    with cloud.administrator() as boss:
        boss.admin.command("createUser", "worker", pwd=PASSWORD, roles=["root"])
        daemon = lab.run(lab.counting())
        job_id = submit(client, "counter", {"seconds": 1.5, "value": 7})
        until(lab.book, "the run")
        boss.admin.command("dropUser", "worker")
        # Its open connections end: MongoDB asks again who we are at each new one.
        cloud.server.restart()
        state = lab.folder / "spooler-state"
        until(lambda: kept(state), "the report")
        told = daemon.wait_for("storage.unavailable")["error"]
        assert "refuses the login of the user 'worker'" in told
        waiting = submit(client, "counter", {})
        assert client.get_status("counter", "alice", job_id).status == "INITIALIZING"
        assert daemon.process.poll() is None
        boss.admin.command("createUser", "worker", pwd=PASSWORD, roles=["root"])
        assert ended(client, "counter", job_id).status == "DONE"
        assert ended(client, "counter", waiting).status == "DONE"
        assert boss["results"]["counter"].count_documents({}) == 2
    assert len(lab.book()) == 2
    until(lambda: not kept(state), "an empty outbox")
    assert daemon.stop() == 0
    assert PASSWORD not in daemon.text()
    assert "Traceback" not in daemon.text()
