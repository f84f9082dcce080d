"""What a device says of itself on a MongoDB server, and whose word it may replace."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from bson.objectid import ObjectId

from spooler.errors import KeyRefused
from spooler.model.device import DeviceCard
from spooler.signing.keys import PrivateKey, generate
from spooler.signing.sqooler_form import payload_of, public_jwk_of, sign_document, verify_document
from spooler.testing.bench import DEVICE, QUEUE
from spooler.testing.clock import ManualClock
from tests.servers.mongodb import MongoServer
from tests.storage.mongo_bench import KEY, Backends
from tests.storage.sqooler.mongo_commands import COMMANDS, names

CLOCK = ManualClock()
CARD = DeviceCard(DEVICE, version="1.2.3")


@pytest.fixture
def backends(mongodb_server: MongoServer, mongo_prefix: str) -> Iterator[Backends]:
    made = Backends(mongodb_server, mongo_prefix)
    yield made
    made.close()


def standing(backends: Backends, *documents: dict[str, Any]) -> None:
    backends["backends/configs"].insert_many([{"_id": ObjectId(), **each} for each in documents])


def only(backends: Backends) -> dict[str, Any]:
    (found,) = backends["backends/configs"].find()
    del found["_id"]
    said: dict[str, Any] = found
    return said


def signed(key: PrivateKey, **said: Any) -> dict[str, Any]:
    return sign_document({"display_name": DEVICE, **said}, key)


def test_many_announcements_are_one_document_and_two_commands_each(backends: Backends) -> None:
    one, other = backends(), backends()
    one.catalogue.announce(QUEUE, CARD, CLOCK.now())
    other.catalogue.announce(QUEUE, CARD, CLOCK.now())
    with COMMANDS.counting() as found:
        one.catalogue.announce(QUEUE, CARD, CLOCK.now())
    assert names(found) == ["find", "update"], "who stands there is looked at each time"
    document = only(backends)
    assert verify_document(document, public_jwk_of(KEY))
    assert payload_of(document)["version"] == "1.2.3"
    assert backends["backends/public_keys"].count_documents({"kid": KEY.kid}) == 1


def test_of_several_of_one_name_one_is_left(backends: Backends) -> None:
    """sqooler's clients take whichever they find."""
    old = {"display_name": DEVICE, "version": "0.0.1"}
    standing(backends, old, signed(KEY, version="0.0.2"), old, {"display_name": "another"})
    backends().catalogue.announce(QUEUE, CARD, CLOCK.now())
    found = list(backends["backends/configs"].find())
    assert len(found) == 2
    ours = next(each for each in found if "payload" in each)
    assert ours["payload"]["version"] == "1.2.3"


def test_another_key_is_refused_by_both_names(backends: Backends) -> None:
    theirs = generate("theirs")
    standing(backends, signed(theirs))
    for ask in (
        lambda b: b.catalogue.announce(QUEUE, CARD, CLOCK.now()),
        lambda b: b.catalogue.check_key_owner(QUEUE),
    ):
        with pytest.raises(KeyRefused) as caught:
            ask(backends())
        assert "'theirs'" in str(caught.value)
        assert "'lab'" in str(caught.value)
    with pytest.raises(KeyRefused, match="no key is configured"):
        backends(signer=None).catalogue.announce(QUEUE, CARD, CLOCK.now())
    assert only(backends)["header"]["kid"] == "theirs"
    assert backends["backends/public_keys"].count_documents({}) == 0


def test_a_former_key_of_ours_is_succeeded(backends: Backends) -> None:
    former = generate("former")
    standing(backends, signed(former))
    backends(former_keys=[former.public()]).catalogue.announce(QUEUE, CARD, CLOCK.now())
    assert only(backends)["header"]["kid"] == "lab"
    (succession,) = backends["spooler/keys"].find()
    assert succession["payload"]["former"][0]["kid"] == "former"


def test_a_kid_that_is_another_key_s_is_refused(backends: Backends) -> None:
    other = public_jwk_of(generate("lab")).model_dump(mode="json")
    backends["backends/public_keys"].insert_one(other)
    with pytest.raises(KeyRefused, match="kid of its own"):
        backends().catalogue.announce(QUEUE, CARD, CLOCK.now())
    assert backends["backends/configs"].count_documents({}) == 0


def test_a_key_and_a_configuration_as_sqooler_stores_them_stay_where_they_are(
    backends: Backends,
) -> None:
    """It stores the parts of a key as bytes, and gives both documents ids of its own."""
    key = public_jwk_of(KEY).model_dump()
    backends["backends/public_keys"].insert_one({"_id": ObjectId(), **key})
    standing(backends, signed(KEY))
    before = backends["backends/configs"].find_one()["_id"]
    backends().catalogue.announce(QUEUE, CARD, CLOCK.now())
    assert backends["backends/public_keys"].count_documents({}) == 1
    assert backends["backends/configs"].find_one()["_id"] == before
    assert isinstance(backends["backends/public_keys"].find_one()["x"], str)


@pytest.mark.parametrize(
    "foreign",
    [{"payload": 5}, {"header": "h", "payload": {"display_name": DEVICE}, "signature": 3}, {}],
    ids=["number", "no-signature", "nothing"],
)
def test_what_is_no_configuration_is_no_obstacle(
    backends: Backends, foreign: dict[str, Any]
) -> None:
    standing(backends, {"strange": b"\xff", "display_name": DEVICE, **foreign})
    backends().catalogue.announce(QUEUE, CARD, CLOCK.now())
    assert payload_of(only(backends))["version"] == "1.2.3"
