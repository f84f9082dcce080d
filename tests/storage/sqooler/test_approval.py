"""Whose a device is, said by the configuration that stands announced."""

from __future__ import annotations

import pytest

from spooler.errors import KeyRefused
from spooler.signing.keys import PrivateKey
from spooler.signing.sqooler_form import sign_document
from spooler.storage.sqooler.approval import demand_ours

SEED, OTHER = b"s" * 32, b"o" * 32
STANDING = sign_document({"kid": "lab"}, PrivateKey(SEED, "lab"))


def test_the_key_that_announced_it_and_its_successor_are_taken() -> None:
    demand_ours(STANDING, "fridge", PrivateKey(SEED, "lab"), [])
    demand_ours(STANDING, "fridge", PrivateKey(OTHER, "new"), [PrivateKey(SEED, "lab").public()])


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(PrivateKey(OTHER, "new"), id="another key"),
        pytest.param(PrivateKey(SEED, "renamed"), id="the same key under another name"),
    ],
)
def test_any_other_is_refused(key: PrivateKey) -> None:
    with pytest.raises(KeyRefused, match="announced under the key 'lab', and this is the key"):
        demand_ours(STANDING, "fridge", key, [])


def test_a_configuration_that_was_edited_is_called_so() -> None:
    edited = {**STANDING, "payload": {"kid": "lab", "max_shots": 10**9}}
    with pytest.raises(KeyRefused, match="not as the key 'lab' has signed it: it was edited"):
        demand_ours(edited, "fridge", PrivateKey(SEED, "lab"), [])
    with pytest.raises(KeyRefused, match="or another key has that name"):
        demand_ours(STANDING, "fridge", PrivateKey(OTHER, "lab"), [])
