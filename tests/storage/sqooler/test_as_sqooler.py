"""What scripts written for sqooler's provider expect of it, beyond the verbs themselves."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from pymongo.errors import ServerSelectionTimeoutError

from spooler.errors import BackendUnavailable
from spooler.signing.sqooler_form import create_jwk_pair, create_key_pair
from spooler.storage.sqooler.client.core import StorageCore, validate_active
from spooler.storage.sqooler.client.documents import (
    DropboxLoginInformation,
    LocalLoginInformation,
    MongodbLoginInformation,
)
from spooler.storage.sqooler.client.local import LocalProviderExtended
from spooler.storage.sqooler.client.mongodb import MongodbProviderExtended

X = "a" * 24


class Shelf(StorageCore):
    """A lab's own storage: the five verbs, and nothing else."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.documents: dict[tuple[str, str], dict[str, Any]] = {}

    @validate_active
    def upload(self, content_dict: Mapping[str, Any], storage_path: str, job_id: str) -> None:
        self.documents[storage_path, job_id] = dict(content_dict)

    def get(self, storage_path: str, job_id: str) -> dict[str, Any]:
        try:
            return self.documents[storage_path, job_id]
        except KeyError:
            raise FileNotFoundError(job_id) from None

    def update(self, content_dict: Mapping[str, Any], storage_path: str, job_id: str) -> None:
        self.documents[storage_path, job_id] = dict(content_dict)

    def move(self, start_path: str, final_path: str, job_id: str) -> None:
        self.documents[final_path, job_id] = self.documents.pop((start_path, job_id))

    def delete(self, storage_path: str, job_id: str) -> None:
        del self.documents[storage_path, job_id]


def test_a_lab_may_bring_its_own_storage() -> None:
    shelf = Shelf("Cellar")
    assert shelf.name == "cellar"
    shelf.upload({"a": 1}, "p", X)
    shelf.move_file("p", "q", X)
    shelf.update_file({"a": 2}, "q", X)
    assert shelf.get_file_content("q", X) == {"a": 2}
    assert (shelf.exists("q", X), shelf.exists("p", X)) == (True, False)
    assert shelf.find("q", "kid", X) == X
    with pytest.raises(FileNotFoundError):
        shelf.find("p", "kid", X)
    shelf.delete_file("q", X)
    with pytest.raises(TypeError, match="get_file_queue"):
        shelf.ids("q")
    shelf.is_active = False
    with pytest.raises(ValueError, match="not active"):
        shelf.upload({}, "p", X)


@pytest.fixture
def login(tmp_path: Path) -> LocalLoginInformation:
    return LocalLoginInformation(base_path=str(tmp_path))


def test_an_older_name_that_a_lab_overrides_is_called(login: LocalLoginInformation) -> None:
    class Counting(LocalProviderExtended):
        reads = 0

        def get_file_content(self, storage_path: str, job_id: str) -> dict[str, Any]:
            Counting.reads += 1
            return super().get_file_content(storage_path, job_id)

    counting = Counting(login, "lab")
    counting.upload({"a": 1}, "p/p", X)
    assert counting.get_job("p/p", X) == {"a": 1}
    assert Counting.reads == 1

    class Deaf(Counting):
        def get(self, storage_path: str, job_id: str) -> dict[str, Any]:
            return {"never": "read"}

    assert Deaf(login, "lab").get_file_content("p/p", X) == {"never": "read"}
    assert Counting.reads == 1


def test_a_path_that_a_lab_sets_is_used(login: LocalLoginInformation, tmp_path: Path) -> None:
    class Elsewhere(LocalProviderExtended):
        queue_path = "jobs/waiting"

    provider = Elsewhere(login, "lab")
    job_id = provider.upload_job({"experiment_0": {}}, "dev", "u")
    assert json.loads((tmp_path / f"jobs/waiting/dev/{job_id}.json").read_text()) == {
        "experiment_0": {}
    }
    assert (provider.running_path, provider.pks_path) == ("jobs/running", "backends/public_keys")


def test_whose_a_public_key_is(login: LocalLoginInformation) -> None:
    provider, public = LocalProviderExtended(login, "lab"), create_jwk_pair("user1")[1]
    with pytest.raises(ValueError, match="there is no role 'guest'"):
        provider.upload_public_key(public, "user1", role="guest")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="display name"):
        provider.upload_public_key(public, "../user1", role="user")
    with pytest.raises(FileNotFoundError):
        provider.get_public_key_from_kid("user1")
    provider.upload_public_key(public, "user1", role="user")
    assert provider.get_public_key_from_kid("user1").x == public.x


def test_the_other_names() -> None:
    private, public = create_key_pair()
    public.verify(private.sign(b"text"), b"text")
    with pytest.raises(ValidationError, match="Dropbox storages are not supported; move the queue"):
        DropboxLoginInformation(app_key="a")


def _login(url: str, user: str = "", password: str = "") -> MongodbLoginInformation:
    return MongodbLoginInformation(
        mongodb_username=user, mongodb_password=password, mongodb_database_url=url
    )


def test_a_login_that_can_never_work_is_not_valid() -> None:
    with pytest.raises(ValidationError, match="must look like") as caught:
        MongodbProviderExtended(_login("mongodb://a:b:geheim@127.0.0.1/"), "lab")
    assert "geheim" not in str(caught.value)


def test_a_server_that_is_not_there_is_told_at_once() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and nobody listens
        port = bound.getsockname()[1]
    url = f"mongodb://127.0.0.1:{port}/?serverSelectionTimeoutMS=200&timeoutMS=200"
    with pytest.raises(ServerSelectionTimeoutError) as caught:
        MongodbProviderExtended(_login(url), "lab")
    assert isinstance(caught.value, BackendUnavailable)
    assert "cannot be reached" in str(caught.value)
