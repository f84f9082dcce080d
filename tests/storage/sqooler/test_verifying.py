"""Whose signature `verify` believes, whatever strangers write beside the documents of the lab."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from spooler.model.device import DeviceCard
from spooler.signing.keys import PrivateKey, generate
from spooler.signing.sqooler_form import public_jwk_of
from spooler.storage.sqooler.client.core import StorageCore
from spooler.storage.sqooler.client.documents import LocalLoginInformation
from spooler.storage.sqooler.client.local import LocalProviderExtended
from spooler.storage.sqooler.client.mongodb import MongodbProviderExtended
from spooler.storage.sqooler.mongodb.address import MongoAddress
from spooler.storage.sqooler.mongodb.submitter import MongoSubmitter
from spooler.storage.sqooler.rendering import Renderer
from spooler.storage.sqooler.submitter import SqoolerSubmitter
from tests.servers.mongodb import MongoServer

JOB, DEVICE = "0123456789abcdef01234567", "fridge"
LAB, STRANGER = generate("lab"), generate("stranger")


@pytest.fixture
def folder(tmp_path: Path) -> SqoolerSubmitter:
    login = LocalLoginInformation(base_path=str(tmp_path))
    return SqoolerSubmitter(LocalProviderExtended(login, "lab"))


@pytest.fixture
def mongodb(mongodb_server: MongoServer, mongo_prefix: str) -> Iterator[SqoolerSubmitter]:
    address = MongoAddress(uri=mongodb_server.uri, prefix=mongo_prefix)
    with MongodbProviderExtended(address, "lab") as provider:
        yield MongoSubmitter(provider)


@pytest.fixture(params=["folder", "mongodb"])
def lab(request: pytest.FixtureRequest) -> SqoolerSubmitter:
    submitter: SqoolerSubmitter = request.getfixturevalue(request.param)
    return submitter


def core(lab: SqoolerSubmitter) -> StorageCore:
    documents = lab.documents
    assert isinstance(documents, StorageCore)
    return documents


def sealed(document: dict[str, Any], key: PrivateKey | None) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(Renderer(key).sealed(document))
    return said


def put(lab: SqoolerSubmitter, path: str, name: str, document: dict[str, Any]) -> None:
    """Write a document about `name`; on a folder that is the name of its file too."""
    core(lab).upload(document, path, core(lab).id_for(name))


def publish(lab: SqoolerSubmitter, key: PrivateKey) -> None:
    put(lab, "backends/public_keys", key.kid, public_jwk_of(key).model_dump(mode="json"))


def card(key: PrivateKey | None, device: str = DEVICE) -> dict[str, Any]:
    announced = DeviceCard(device, version="1.0")
    config = Renderer(key).config(announced, datetime(2026, 1, 1, tzinfo=UTC))
    return sealed(config, key)


def result(lab: SqoolerSubmitter, key: PrivateKey | None) -> None:
    said = {"display_name": DEVICE, "job_id": JOB, "status": "DONE", "header": {}, "results": []}
    core(lab).upload(sealed(said, key), f"results/{DEVICE}", JOB)


def verdict(lab: SqoolerSubmitter) -> tuple[bool, str]:
    said = lab.verify(DEVICE, JOB)
    return said.ok, said.detail


def test_what_the_device_has_signed_is_verified(lab: SqoolerSubmitter) -> None:
    publish(lab, LAB)
    put(lab, "backends/configs", DEVICE, card(LAB))
    result(lab, LAB)
    assert verdict(lab) == (True, "signed by the key 'lab' of device 'fridge'")


def test_a_card_in_another_place_vouches_for_nothing(folder: SqoolerSubmitter) -> None:
    """On a folder the place says whose card it is: that one's owner looks after it."""
    for key in (STRANGER, LAB):
        publish(folder, key)
    put(folder, "backends/configs", "aaa", card(STRANGER))
    put(folder, "backends/configs", DEVICE, card(LAB))
    result(folder, STRANGER)
    ok, detail = verdict(folder)
    assert (ok, "device 'fridge' is not announced under the key 'stranger'" in detail) == (
        False,
        True,
    )
    assert [(each.name, each.properties["kid"]) for each in folder.devices()] == [(DEVICE, "lab")]
    core(folder).delete(f"results/{DEVICE}", JOB)
    result(folder, LAB)
    assert verdict(folder)[0]


def test_two_signed_cards_of_one_device_vouch_for_nothing(mongodb: SqoolerSubmitter) -> None:
    for key in (STRANGER, LAB):
        publish(mongodb, key)
        put(mongodb, "backends/configs", DEVICE, card(key))
    result(mongodb, STRANGER)
    ok, detail = verdict(mongodb)
    assert not ok
    assert "announced under 2 different keys ('lab', 'stranger')" in detail


def test_nor_do_two_keys_of_one_kid(mongodb: SqoolerSubmitter) -> None:
    for key in (generate("lab"), LAB):
        publish(mongodb, key)
        put(mongodb, "backends/configs", DEVICE, card(key))
        last = key
    result(mongodb, last)
    ok, detail = verdict(mongodb)
    assert not ok
    assert "announced under 2 different keys ('lab')" in detail


def test_a_crowd_of_cards_vouches_for_nothing(mongodb: SqoolerSubmitter) -> None:
    """Only so many are looked at, and the lab's own may not be among them."""
    publish(mongodb, STRANGER)
    for _ in range(30):
        put(mongodb, "backends/configs", DEVICE, card(STRANGER))
    result(mongodb, STRANGER)
    assert not verdict(mongodb)[0]


def test_an_unsigned_card_beside_the_signed_one_changes_nothing(mongodb: SqoolerSubmitter) -> None:
    publish(mongodb, LAB)
    publish(mongodb, STRANGER)
    put(mongodb, "backends/configs", DEVICE, card(None) | {"kid": "stranger"})
    put(mongodb, "backends/configs", DEVICE, card(LAB))
    result(mongodb, LAB)
    assert verdict(mongodb)[0]
    assert [(each.name, each.properties.get("kid")) for each in mongodb.devices()] == [
        (DEVICE, "lab")
    ]


def test_the_signed_card_counts_wherever_it_stands(mongodb: SqoolerSubmitter) -> None:
    put(mongodb, "backends/configs", DEVICE, card(LAB))
    put(mongodb, "backends/configs", DEVICE, card(None) | {"kid": "stranger"})
    assert [each.properties.get("kid") for each in mongodb.devices()] == ["lab"]


def test_a_card_with_a_wrong_signature_vouches_for_nothing(lab: SqoolerSubmitter) -> None:
    publish(lab, STRANGER)
    forged = card(LAB)
    forged["payload"]["kid"] = "stranger"
    put(lab, "backends/configs", DEVICE, forged)
    result(lab, STRANGER)
    assert not verdict(lab)[0]


def succession(former: PrivateKey, key: PrivateKey | None) -> dict[str, Any]:
    keys = [{"kid": former.kid, "x": former.public()["x"]}]
    return sealed({"device": DEVICE, "former": keys}, key)


@pytest.mark.parametrize(("by", "ok"), [(LAB, True), (STRANGER, False), (None, False)])
def test_the_announced_key_says_which_were_before_it(
    lab: SqoolerSubmitter, by: PrivateKey | None, ok: bool
) -> None:
    former = generate("before")
    publish(lab, LAB)
    put(lab, "backends/configs", DEVICE, card(LAB))
    put(lab, "spooler/keys", DEVICE, succession(former, by))
    result(lab, former)
    assert verdict(lab)[0] is ok


def test_a_succession_of_another_device_says_nothing_of_this_one(folder: SqoolerSubmitter) -> None:
    former = generate("before")
    publish(folder, LAB)
    put(folder, "backends/configs", DEVICE, card(LAB))
    keys = [{"kid": former.kid, "x": former.public()["x"]}]
    put(folder, "spooler/keys", DEVICE, sealed({"device": "another", "former": keys}, LAB))
    result(folder, former)
    assert not verdict(folder)[0]


@pytest.mark.parametrize("former", [5, [5], [{}], {"kid": "before"}, None])
def test_a_succession_without_form_is_none(lab: SqoolerSubmitter, former: object) -> None:
    publish(lab, LAB)
    put(lab, "backends/configs", DEVICE, card(LAB))
    put(lab, "spooler/keys", DEVICE, sealed({"device": DEVICE, "former": former}, LAB))
    result(lab, generate("before"))
    assert not verdict(lab)[0]


@pytest.mark.parametrize("x", ["", "AAAA", "not base64!", 5, None])
def test_a_former_key_that_is_none_has_signed_nothing(lab: SqoolerSubmitter, x: object) -> None:
    publish(lab, LAB)
    put(lab, "backends/configs", DEVICE, card(LAB))
    said = sealed({"device": DEVICE, "former": [{"kid": "before", "x": x}]}, LAB)
    put(lab, "spooler/keys", DEVICE, said)
    result(lab, generate("before"))
    assert not verdict(lab)[0]
