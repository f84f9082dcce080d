from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from spooler.durable import Disk
from spooler.errors import KeyRefused
from spooler.signing.sqooler_form import is_signed, verify_document
from spooler.storage.sqooler.client.core import NotADocument
from spooler.storage.sqooler.client.documents import (
    JWK,
    BackendConfigSchemaIn,
    LocalLoginInformation,
    ResultDict,
    StatusMsgDict,
    create_jwk_pair,
    get_init_results,
)
from spooler.storage.sqooler.client.local import LocalProvider, LocalProviderExtended
from spooler.storage.sqooler.client.mongodb import MongodbProviderExtended
from spooler.storage.sqooler.client.provider import StorageProvider
from spooler.storage.sqooler.mongodb.address import MongoAddress

PRIVATE, PUBLIC = create_jwk_pair("lab-1")
OTHER = create_jwk_pair("lab-2")[0]
NAMESAKE, NAMESAKE_PUBLIC = create_jwk_pair("lab-1")
UNKNOWN = "0" * 24
NOON = datetime.datetime(2026, 11, 22, 12, 0, 0, 700_000, datetime.UTC)


class StoppedClock:
    def __init__(self) -> None:
        self.at = NOON

    def now(self) -> datetime.datetime:
        return self.at

    def monotonic(self) -> float:
        return 0.0


def config_of(name: str = "dev", *, sign: bool = True, **more: Any) -> BackendConfigSchemaIn:
    return BackendConfigSchemaIn.model_validate(
        {
            "description": "d",
            "version": "0.1.0",
            "display_name": name,
            "cold_atom_type": "spin",
            "gates": [{"name": "rlx", "parameters": ["omega"]}],
            "max_experiments": 3,
            "max_shots": 10,
            "simulator": True,
            "supported_instructions": ["load", "rlx"],
            "num_wires": 2,
            "wire_order": "interleaved",
            "num_species": 1,
            "sign": sign,
            **more,
        }
    )


Opener = Callable[..., StorageProvider]


@pytest.fixture(params=["local", "mongodb"])
def provider_at(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """Opens providers of one storage: every test here is about each kind of storage."""
    opened: list[StorageProvider] = []

    def local(**options: Any) -> StorageProvider:
        login = LocalLoginInformation(base_path=str(tmp_path))
        return LocalProviderExtended(login, "lab", disk=Disk(sync=False), **options)

    def mongodb(**options: Any) -> StorageProvider:
        server = request.getfixturevalue("mongodb_server")
        address = MongoAddress(uri=server.uri, prefix=request.getfixturevalue("mongo_prefix"))
        opened.append(MongodbProviderExtended(address, "lab", **options))
        return opened[-1]

    yield {"local": local, "mongodb": mongodb}[request.param]
    for each in opened:
        each.close()


def grow_old(provider: StorageProvider, path: str, order: list[str]) -> None:
    """Have the documents at `path` be of the age that `order` says, the oldest first."""
    if isinstance(provider, LocalProviderExtended):
        for age, name in enumerate(order):
            os.utime(Path(provider.base_path, path, f"{name}.json"), ns=(age, age))
        return
    for name in order:
        content = provider.get(path, name)
        provider.delete(path, name)
        provider.upload(content, path, name)


def config_id(provider: StorageProvider) -> str:
    return provider.find("backends/configs", "display_name", "dev")


@pytest.fixture
def provider(provider_at: Opener) -> StorageProvider:
    return provider_at(clock=StoppedClock())


@pytest.fixture
def signing(provider: StorageProvider) -> StorageProvider:
    provider.upload_config(config_of(), "dev", PRIVATE)
    provider.upload_public_key(PUBLIC, "dev")
    return provider


def result_of(job_id: str, memory: str = "1 2") -> ResultDict:
    return ResultDict.model_validate(
        {
            "display_name": "dev",
            "backend_version": "0.1.0",
            "job_id": job_id,
            "status": "DONE",
            "results": [{"header": {}, "shots": 1, "success": True, "data": {"memory": [memory]}}],
        }
    )


def status_of(job_id: str, status: str = "DONE") -> StatusMsgDict:
    return StatusMsgDict.model_validate(
        {"job_id": job_id, "status": status, "detail": "Got it.; Ran.", "error_message": "None"}
    )


def taken(provider: StorageProvider, key: JWK = PRIVATE) -> str:
    job_id = provider.upload_job({"experiment_0": {}}, "dev", "u")
    provider.upload_status("dev", "u", job_id)
    assert provider.get_next_job_in_queue("dev", key).job_id == job_id
    return job_id


# --- names and places ------------------------------------------------------------------------


def test_a_provider_has_a_name() -> None:
    login = LocalLoginInformation(base_path="/nowhere")
    assert LocalProvider(login).name == "default"
    assert LocalProvider(login).is_active
    assert LocalProvider(login).base_path == "/nowhere"
    assert LocalProvider(login).operational_within == 300.0
    assert LocalProviderExtended(login, "Heidelberg").name == "heidelberg"
    with pytest.raises(ValueError, match="letters and digits"):
        LocalProviderExtended(login, "My Lab")


def test_places(provider: StorageProvider) -> None:
    places = {
        "configs": "backends/configs",
        "results": "results/dev",
        "status": "status/dev",
        "running": "jobs/running",
        "queue": "jobs/queued/dev",
        "deleted": "jobs/deleted",
        "finished": "jobs/finished/dev",
        "pks": "backends/public_keys",
    }
    for name, place in places.items():
        assert provider.get_attribute_path(name, "dev", UNKNOWN, "u") == place  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no place called"):
        provider.get_attribute_path("job", "dev")
    with pytest.raises(ValueError, match="display name"):
        provider.get_attribute_path("queue")
    with pytest.raises(ValueError, match="display name"):
        provider.get_attribute_path("results", "../../etc")


def test_ids(provider: StorageProvider) -> None:
    provider.upload_config(config_of(sign=False), "dev")
    assert provider.get_attribute_id("configs", UNKNOWN, "dev") == config_id(provider)
    for name in ("job", "results", "status"):
        assert provider.get_attribute_id(name, UNKNOWN) == UNKNOWN  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no document called"):
        provider.get_attribute_id("pks", UNKNOWN)  # type: ignore[arg-type]
    made = {provider.create_job_id("dev", "u") for _ in range(20)}
    assert len(made) == 20
    assert all(len(each) == 24 and int(each, 16) >= 0 for each in made)


def test_a_provider_that_is_not_active_refuses(provider_at: Opener) -> None:
    provider = provider_at(is_active=False)
    acts: list[Callable[[], object]] = [
        provider.get_backends,
        lambda: provider.get_config("dev"),
        lambda: provider.upload_job({}, "dev", "u"),
        lambda: provider.get_status("dev", "u", UNKNOWN),
        lambda: provider.get_result("dev", "u", UNKNOWN),
        lambda: provider.get_file_queue("jobs/queued/dev"),
        lambda: provider.get_next_job_in_queue("dev"),
        lambda: provider.upload_config(config_of(), "dev", PRIVATE),
        lambda: provider.update_in_database(result_of(UNKNOWN), status_of(UNKNOWN), UNKNOWN, "dev"),
    ]
    for act in acts:
        with pytest.raises(ValueError, match="not active"):
            act()


# --- configurations --------------------------------------------------------------------------


def test_a_configuration_is_stored_and_found(provider: StorageProvider) -> None:
    given = config_of("other", sign=False)
    with pytest.warns(UserWarning, match="says it is of 'other'; it is stored as that of 'dev'"):
        provider.upload_config(given, "dev")
    assert given.display_name == "other", "the caller's document is not touched"
    assert provider.get_config("dev") == config_of(sign=False)
    assert provider.get_backends() == ["dev"]
    given = config_of("dev", sign=False)
    with pytest.raises(FileExistsError, match="configuration already"):
        provider.upload_config(given, "dev")
    assert provider._delete_config("dev")
    for act in (provider.get_config, provider._delete_config, provider.get_backend_dict):
        with pytest.raises(FileNotFoundError):
            act("dev")
    with pytest.raises(FileNotFoundError):
        provider.update_config(given, "dev")


def test_a_signed_configuration(signing: StorageProvider) -> None:
    stored = signing.get("backends/configs", config_id(signing))
    assert is_signed(stored)
    assert verify_document(stored, PUBLIC)
    assert signing.get_config("dev").kid == "lab-1"
    signing.update_config(config_of(version="0.2.0"), "dev", PRIVATE)
    assert signing.get_config("dev").version == "0.2.0"
    assert verify_document(signing.get("backends/configs", config_id(signing)), PUBLIC)


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (None, "signed by the key 'lab-1'; give that key"),
        (OTHER, "signed by the key 'lab-1', not by this key 'lab-2'"),
        (NAMESAKE, "another key is called 'lab-1' too"),
    ],
)
@pytest.mark.parametrize("sign", [True, False])
def test_a_signed_configuration_is_replaced_by_its_key_only(
    signing: StorageProvider, key: JWK | None, reason: str, sign: bool
) -> None:
    before = signing.get("backends/configs", config_id(signing))
    for refusal in (KeyRefused, ValueError):
        with pytest.raises(refusal, match=reason):
            signing.update_config(config_of(version="6.6.6", sign=sign), "dev", key)
    with pytest.raises(ValueError, match=reason):
        signing.timestamp_queue("dev", key)
    assert signing.get("backends/configs", config_id(signing)) == before


def test_what_is_signed_stays_signed(signing: StorageProvider) -> None:
    signing.update_config(config_of(sign=False), "dev", PRIVATE)
    assert verify_document(signing.get("backends/configs", config_id(signing)), PUBLIC)


def test_a_changed_configuration_is_noticed(signing: StorageProvider) -> None:
    stored = signing.get("backends/configs", config_id(signing))
    stored["payload"]["version"] = "6.6.6"
    signing.update(stored, "backends/configs", config_id(signing))
    with pytest.raises(KeyRefused, match="changed after it was signed"):
        signing.update_config(config_of(), "dev", PRIVATE)


def test_signing_needs_a_key(provider: StorageProvider) -> None:
    with pytest.raises(ValueError, match="give the private key"):
        provider.upload_config(config_of(), "dev")
    provider.upload_config(config_of(sign=False), "dev")
    with pytest.raises(ValueError, match="give the private key"):
        provider.update_config(config_of(sign=True), "dev")
    with pytest.raises(ValueError, match="not a private key"):
        provider.update_config(config_of(sign=True), "dev", PUBLIC)
    assert not provider.get_config("dev").sign


def test_a_damaged_configuration_is_one_sentence(
    provider: StorageProvider, caplog: pytest.LogCaptureFixture
) -> None:
    provider.upload_config(config_of(sign=False), "dev")
    half = {"description": "d", "display_name": "half"}
    provider.upload(half, "backends/configs", provider.id_for("half"))
    provider.upload({"description": "d"}, "backends/configs", provider.id_for("nameless"))
    with pytest.raises(NotADocument, match="configuration of 'half' cannot be read: version"):
        provider.get_config("half")
    assert provider.get_backends() == ["dev", "half"]
    assert "is left out" in caplog.text


# --- what Qiskit asks ------------------------------------------------------------------------


def test_the_views_for_qiskit(provider: StorageProvider) -> None:
    provider.upload_config(config_of(sign=False, pending_jobs=4, status_msg="busy"), "dev")
    view = provider.get_backend_dict("dev")
    assert (view.backend_name, view.n_qubits, view.backend_version, view.basis_gates) == (
        "lab_dev_simulator",
        2,
        "0.1.0",
        ["rlx"],
    )
    status = provider.get_backend_status("dev")
    assert status.model_dump() == {
        "backend_name": "lab_dev_simulator",
        "backend_version": "0.1.0",
        "operational": False,
        "pending_jobs": 4,
        "status_msg": "busy",
    }
    assert provider.long_backend_name("dev", False) == "lab_dev_hardware"


@pytest.mark.parametrize(("age", "operational"), [(0, True), (59, True), (60, False)])
def test_a_device_is_up_while_it_looks_at_its_queue(
    provider_at: Opener, age: int, operational: bool
) -> None:
    clock = StoppedClock()
    provider = provider_at(clock=clock, operational_within=60.0)
    provider.upload_config(config_of(), "dev", PRIVATE)
    provider.timestamp_queue("dev", PRIVATE)
    assert provider.get_config("dev").last_queue_check == NOON.replace(microsecond=0)
    clock.at = NOON.replace(microsecond=0) + datetime.timedelta(seconds=age)
    assert provider.get_backend_status("dev").operational is operational


# --- public keys -----------------------------------------------------------------------------


def test_a_public_key_is_published_once_and_may_be_repeated(
    signing: StorageProvider,
) -> None:
    signing.upload_public_key(PUBLIC, "dev")
    assert signing.get_public_key("dev") == signing.get_public_key_from_kid("lab-1") == PUBLIC
    key_id = signing.find("backends/public_keys", "kid", "lab-1")
    assert signing.get("backends/public_keys", key_id)["d"] is None
    assert signing._delete_public_key("lab-1")
    for act in (
        lambda: signing.get_public_key("dev"),
        lambda: signing.get_public_key_from_kid("lab-1"),
        lambda: signing._delete_public_key("lab-1"),
    ):
        with pytest.raises(FileNotFoundError):
            act()


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (PRIVATE, "is private"),
        (PRIVATE.model_copy(update={"key_ops": "verify"}), "is private"),
        (create_jwk_pair("lab-2")[1], "announced with the key 'lab-1', not 'lab-2'"),
        (NAMESAKE_PUBLIC, "belongs to another key"),
    ],
)
def test_another_public_key_is_refused(signing: StorageProvider, key: JWK, reason: str) -> None:
    for refusal in (KeyRefused, ValueError):
        with pytest.raises(refusal, match=reason):
            signing.upload_public_key(key, "dev")
    assert signing.get_public_key("dev") == PUBLIC
    assert len(signing.ids("backends/public_keys")) == 1


def test_a_user_may_publish_a_key_too(provider: StorageProvider) -> None:
    key = create_jwk_pair("user5")[1]
    with pytest.raises(FileNotFoundError):
        provider.upload_public_key(key, "five", role="backend")
    provider.upload_public_key(key, "five", role="user")
    assert provider.get_public_key_from_kid("user5") == key


def test_a_device_without_a_key_has_none(provider: StorageProvider) -> None:
    provider.upload_config(config_of(sign=False), "dev")
    with pytest.raises(FileNotFoundError, match="without a key"):
        provider.get_public_key("dev")


# --- jobs ------------------------------------------------------------------------------------


def test_the_oldest_job_comes_first(signing: StorageProvider) -> None:
    jobs = [signing.upload_job({"n": n}, "dev", "u") for n in range(5)]
    order = [jobs[2], jobs[4], jobs[0], jobs[1], jobs[3]]
    grow_old(signing, "jobs/queued/dev", order)
    assert signing.get_file_queue("jobs/queued/dev") == order
    for job_id in order:
        job = signing.get_next_job_in_queue("dev", PRIVATE)
        assert (job.job_id, job.job_json_path) == (job_id, "jobs/running")
        assert signing.get_job(job.job_json_path, job_id) == {"n": jobs.index(job_id)}
        assert signing.get_job_content(job.job_json_path, job_id)
    assert signing.get_next_job_in_queue("dev", PRIVATE).model_dump() == {
        "job_id": "None",
        "job_json_path": "None",
    }


def test_a_look_at_the_queue_is_noted(signing: StorageProvider) -> None:
    assert signing.get_config("dev").last_queue_check is None
    signing.get_next_job_in_queue("dev", PRIVATE)
    assert signing.get_config("dev").last_queue_check == NOON.replace(microsecond=0)
    with pytest.raises(FileNotFoundError):
        signing.get_next_job_in_queue("unknown")


def test_a_job_whose_id_is_running_already_waits(signing: StorageProvider) -> None:
    first = taken(signing)
    signing.upload({"again": 1}, "jobs/queued/dev", first)
    second = signing.upload_job({"n": 2}, "dev", "u")
    grow_old(signing, "jobs/queued/dev", [first, second])
    assert signing.get_next_job_in_queue("dev", PRIVATE).job_id == second
    assert signing.get("jobs/running", first) == {"experiment_0": {}}
    assert signing.get("jobs/queued/dev", first) == {"again": 1}


# --- status and result -----------------------------------------------------------------------


@pytest.mark.parametrize("job_id", [UNKNOWN, "jdsfssdfs", "../../backends/configs/dev", "", "."])
def test_an_unknown_job_is_an_answer(signing: StorageProvider, job_id: str) -> None:
    status = signing.get_status("dev", "u", job_id)
    assert (status.job_id, status.status) == (job_id, "ERROR")
    result = signing.get_result("dev", "u", job_id)
    assert (result.job_id, result.status, result.success) == (job_id, "ERROR", False)
    assert (result.display_name, result.backend_version, result.results) == ("dev", "", [])


def test_an_unknown_device_is_not_an_answer(provider: StorageProvider) -> None:
    for name in ("dev", "dev_2", "Dev"):
        assert provider.get_status(name, "u", UNKNOWN).status == "ERROR"
        assert provider.get_result(name, "u", UNKNOWN).status == "ERROR"
        for act in (provider.get_config, provider.get_backend_dict, provider.get_backend_status):
            with pytest.raises(FileNotFoundError):
                act(name)
        with pytest.raises(FileNotFoundError):
            provider.upload_status(name, "u", UNKNOWN)
    for act in (provider.get_status, provider.get_result):
        with pytest.raises(ValueError, match="display name"):
            act("../dev", "u", UNKNOWN)
    assert not provider.exists("status/dev", UNKNOWN), "a mistyped name makes no job"


@pytest.mark.parametrize(
    ("sign", "key", "signed"),
    [(True, PRIVATE, True), (True, None, False), (False, PRIVATE, False), (False, None, False)],
)
def test_the_first_status(
    provider: StorageProvider, sign: bool, key: JWK | None, signed: bool
) -> None:
    provider.upload_config(config_of(sign=sign), "dev", PRIVATE)
    status = provider.upload_status("dev", "u", UNKNOWN, key)
    assert status.model_dump() == {
        "job_id": UNKNOWN,
        "status": "INITIALIZING",
        "detail": "Got your json.",
        "error_message": "None",
    }
    assert provider.get_status("dev", "u", UNKNOWN) == status
    assert is_signed(provider.get("status/dev", UNKNOWN)) is signed
    with pytest.raises(FileExistsError):
        provider.upload_status("dev", "u", UNKNOWN)
    assert provider._delete_status("dev", "u", UNKNOWN)
    with pytest.raises(FileNotFoundError):
        provider._delete_status("dev", "u", UNKNOWN)


def test_a_result_may_be_written_twice_but_not_changed(signing: StorageProvider) -> None:
    given = get_init_results()
    assert signing.upload_result(given, "dev", UNKNOWN, PRIVATE)
    assert given.job_id == "", "the caller's document is not touched"
    assert signing.upload_result(given, "dev", UNKNOWN, PRIVATE)
    with pytest.raises(FileExistsError, match="another result already"):
        signing.upload_result(result_of(UNKNOWN), "dev", UNKNOWN, PRIVATE)
    result = signing.get_result("dev", "u", UNKNOWN)
    assert (result.job_id, result.backend_name) == (UNKNOWN, "lab_dev_simulator")
    assert signing._delete_result("dev", UNKNOWN)
    with pytest.raises(FileNotFoundError):
        signing._delete_result("dev", UNKNOWN)


def test_a_result_is_verified_with_the_announced_key(signing: StorageProvider) -> None:
    with pytest.raises(FileNotFoundError):
        signing.verify_result("dev", UNKNOWN)
    signing.upload_result(result_of(UNKNOWN), "dev", UNKNOWN, PRIVATE)
    assert signing.verify_result("dev", UNKNOWN)
    for number, key in enumerate((OTHER, NAMESAKE), 1):
        signing.upload_result(result_of(f"{number}" * 24), "dev", f"{number}" * 24, key)
        assert not signing.verify_result("dev", f"{number}" * 24)
    signing.upload(result_of("a" * 24).model_dump(), "results/dev", "a" * 24)
    assert not signing.verify_result("dev", "a" * 24)
    with pytest.raises(ValueError, match="must be signed"):
        signing.upload_result(result_of("b" * 24), "dev", "b" * 24)


def test_a_result_that_is_no_json_is_refused(provider: StorageProvider) -> None:
    for sign, name in ((True, "dev"), (False, "plain")):
        provider.upload_config(config_of(name, sign=sign), name, PRIVATE)
        result = result_of(UNKNOWN).model_copy(update={"header": {"a": float("nan")}})
        with pytest.raises(ValueError, match="JSON"):
            provider.upload_result(result, name, UNKNOWN, PRIVATE)
        assert provider.ids(f"results/{name}") == []


def test_damaged_status_and_result_are_one_sentence(signing: StorageProvider) -> None:
    signing.upload({"job_id": UNKNOWN, "status": "RUNNING"}, "status/dev", UNKNOWN)
    signing.upload({"job_id": UNKNOWN}, "results/dev", UNKNOWN)
    with pytest.raises(NotADocument, match="status of the job") as caught:
        signing.get_status("dev", "u", UNKNOWN)
    assert "\n" not in str(caught.value)
    with pytest.raises(NotADocument, match="result of the job"):
        signing.get_result("dev", "u", UNKNOWN)


# --- the end of a job ------------------------------------------------------------------------


def where(provider: StorageProvider, job_id: str) -> set[str]:
    paths = ("jobs/queued/dev", "jobs/running", "jobs/finished/dev", "jobs/deleted")
    return {path for path in paths if provider.exists(path, job_id)}


def test_a_job_that_is_done(signing: StorageProvider) -> None:
    job_id = taken(signing)
    for _ in range(3):
        signing.update_in_database(result_of(job_id), status_of(job_id), job_id, "dev", PRIVATE)
        assert where(signing, job_id) == {"jobs/finished/dev"}
        assert signing.get_status("dev", "u", job_id) == status_of(job_id)
        assert verify_document(signing.get("status/dev", job_id), PUBLIC)
        assert signing.verify_result("dev", job_id)


def test_a_job_that_failed(signing: StorageProvider) -> None:
    job_id = taken(signing)
    for _ in range(3):
        signing.update_in_database(None, status_of(job_id, "ERROR"), job_id, "dev", PRIVATE)
        assert where(signing, job_id) == {"jobs/deleted"}
        assert signing.get_status("dev", "u", job_id).status == "ERROR"
        assert signing.ids("results/dev") == []


def test_a_job_that_has_ended_does_not_end_otherwise(signing: StorageProvider) -> None:
    done, failed = taken(signing), taken(signing)
    signing.update_in_database(result_of(done), status_of(done), done, "dev", PRIVATE)
    signing.update_in_database(None, status_of(failed, "ERROR"), failed, "dev", PRIVATE)
    with pytest.raises(FileExistsError, match="already ended"):
        signing.update_in_database(None, status_of(done, "ERROR"), done, "dev", PRIVATE)
    with pytest.raises(FileExistsError, match="already ended"):
        signing.update_in_database(result_of(failed), status_of(failed), failed, "dev", PRIVATE)
    with pytest.raises(FileExistsError, match="another result"):
        signing.update_in_database(result_of(done, "9"), status_of(done), done, "dev", PRIVATE)
    assert signing.get_status("dev", "u", done).status == "DONE"
    assert signing.get_status("dev", "u", failed).status == "ERROR"
    assert signing.ids("results/dev") == [done]


def test_done_needs_a_result(signing: StorageProvider) -> None:
    job_id = taken(signing)
    with pytest.raises(ValueError, match="give its result"):
        signing.update_in_database(None, status_of(job_id), job_id, "dev", PRIVATE)
    assert where(signing, job_id) == {"jobs/running"}
    assert signing.get_status("dev", "u", job_id).status == "INITIALIZING"


def test_a_missing_status_is_written(
    signing: StorageProvider, caplog: pytest.LogCaptureFixture
) -> None:
    status = status_of(UNKNOWN, "INITIALIZING")
    signing.update_in_database(result_of(UNKNOWN), status, UNKNOWN, "dev", PRIVATE)
    assert signing.get_status("dev", "u", UNKNOWN) == status
    assert "was missing" in caplog.text
    assert where(signing, UNKNOWN) == set()


@pytest.mark.parametrize("state", ["DONE", "ERROR"])
def test_of_a_job_that_is_not_running_nothing_is_written(
    signing: StorageProvider, state: str
) -> None:
    status = status_of(UNKNOWN).model_copy(update={"status": state})
    with pytest.raises(FileNotFoundError, match="jobs/running"):
        signing.update_in_database(result_of(UNKNOWN), status, UNKNOWN, "dev", PRIVATE)
    assert not signing.exists("results/dev", UNKNOWN)
    assert not signing.exists("status/dev", UNKNOWN)


class Killed(BaseException):
    pass


class Stopping:
    """Kills the worker right before, or right after, its n-th write."""

    def __init__(self, provider: StorageProvider, stop_at: int, *, before: bool) -> None:
        self.left, self.before = stop_at, before
        self.verbs = {
            name: self.wrapped(getattr(provider, name))
            for name in ("_create", "_replace", "_move", "_remove")
        }

    def wrapped(self, verb: Callable[..., object]) -> Callable[..., object]:
        def step(*args: object) -> object:
            self.left -= 1
            if self.before and self.left < 0:
                raise Killed
            answer = verb(*args)
            if self.left < 0:
                raise Killed
            return answer

        return step


@pytest.mark.parametrize("status", ["DONE", "ERROR"])
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("stop_at", range(5))
def test_stopped_anywhere_the_same_call_completes_it(
    signing: StorageProvider,
    monkeypatch: pytest.MonkeyPatch,
    status: str,
    before: bool,
    stop_at: int,
) -> None:
    for known in (True, False):
        job_id = taken(signing)
        if not known:
            signing._delete_status("dev", "u", job_id)
        done = status == "DONE"
        ending = (result_of(job_id) if done else None, status_of(job_id, status))
        with monkeypatch.context() as patch:
            for name, verb in Stopping(signing, stop_at, before=before).verbs.items():
                patch.setattr(signing, name, verb)
            with contextlib.suppress(Killed):
                signing.update_in_database(*ending, job_id, "dev", PRIVATE)
        final = {"jobs/finished/dev" if done else "jobs/deleted"}
        seen = signing.get_status("dev", "u", job_id).status
        assert where(signing, job_id) == {"jobs/running"} or (
            where(signing, job_id) == final and seen == status
        )
        if done and known and seen == "DONE":
            assert signing.exists("results/dev", job_id)
        signing.update_in_database(*ending, job_id, "dev", PRIVATE)
        assert where(signing, job_id) == final
        assert signing.get_status("dev", "u", job_id).status == status


def test_a_move_that_copied_but_did_not_delete_is_completed(
    signing: StorageProvider,
) -> None:
    """What a storage without a move in one step leaves behind."""
    job_id = taken(signing)
    signing.upload(signing.get("jobs/running", job_id), "jobs/finished/dev", job_id)
    signing.update_in_database(result_of(job_id), status_of(job_id), job_id, "dev", PRIVATE)
    assert where(signing, job_id) == {"jobs/finished/dev"}
