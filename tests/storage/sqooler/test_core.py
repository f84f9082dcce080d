"""The verbs of a storage, as every kind of storage has them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spooler.durable import Disk
from spooler.signing.keys import generate
from spooler.signing.sqooler_form import private_jwk_of, public_jwk_of
from spooler.storage.sqooler.client.core import NotADocument, StorageCore
from spooler.storage.sqooler.client.documents import LocalLoginInformation
from spooler.storage.sqooler.client.local import LocalCore
from spooler.storage.sqooler.client.mongodb import MongodbCore
from spooler.storage.sqooler.mongodb.address import MongoAddress

X, Y = "a" * 24, "b" * 24
Opener = Callable[..., StorageCore]


@pytest.fixture(params=["local", "mongodb"])
def core_at(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    opened: list[StorageCore] = []

    def local(**options: Any) -> StorageCore:
        login = LocalLoginInformation(base_path=str(tmp_path))
        return LocalCore(login, "lab", disk=Disk(sync=False), **options)

    def mongodb(**options: Any) -> StorageCore:
        server = request.getfixturevalue("mongodb_server")
        address = MongoAddress(uri=server.uri, prefix=request.getfixturevalue("mongo_prefix"))
        opened.append(MongodbCore(address, "lab", **options))
        return opened[-1]

    yield {"local": local, "mongodb": mongodb}[request.param]
    for each in opened:
        each.close()


@pytest.fixture
def core(core_at: Opener) -> StorageCore:
    return core_at()


#: Text and keys that every storage takes: no NUL in keys, no dots or dollars that MongoDB reads.
_keys = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters=".$\0"), max_size=6
).filter(lambda key: key != "_id")
_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys, inner, max_size=3),
    max_leaves=12,
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.dictionaries(_keys, _values, max_size=4))
def test_a_document_comes_back_as_it_was(core: StorageCore, content: dict[str, Any]) -> None:
    for path in ("a/b", "c/d"):
        if core.exists(path, X):
            core.delete(path, X)
    core.upload(content, "a/b", X)
    assert json.dumps(core.get("a/b", X)) == json.dumps(content)
    core.update({"new": content}, "a/b", X)
    core.move("a/b", "c/d", X)
    assert json.dumps(core.get("c/d", X)) == json.dumps({"new": content})
    core.delete("c/d", X)
    assert core.ids("c/d") == []


PRIVATE = private_jwk_of(generate("lab")).model_dump(mode="json")


@pytest.mark.parametrize(
    "document",
    [
        PRIVATE,
        {"payload": PRIVATE, "header": {}, "signature": "x"},
        {"keys": [{"kty": "OKP"}, PRIVATE]},
        {"a": [[{"b": PRIVATE}]]},
        {"kty": "oct", "k": "secret"},
    ],
)
def test_a_private_key_is_handed_to_nobody(core: StorageCore, document: dict[str, Any]) -> None:
    core.upload(document, "p/q", X)
    with pytest.raises(NotADocument, match="contains a private key") as refused:
        core.get("p/q", X)
    assert PRIVATE["d"] not in str(refused.value)


def test_what_only_resembles_a_private_key(core: StorageCore) -> None:
    public = public_jwk_of(generate("lab")).model_dump(mode="json")
    documents = [public, {"keys": [public]}, {"d": 3, "results": [{"k": 2}]}]
    for number, document in enumerate(documents):
        core.upload(document, "p/q", f"{number:024x}")
        assert core.get("p/q", f"{number:024x}") == document


def test_upload_does_not_overwrite(core: StorageCore) -> None:
    core.upload({"a": 1}, "p/q", X)
    with pytest.raises(FileExistsError, match=f"p/q/{X}: there is a document already"):
        core.upload({"a": 2}, "p/q", X)
    assert core.get("p/q", X) == {"a": 1}


def test_update_does_not_create(core: StorageCore) -> None:
    with pytest.raises(FileNotFoundError, match=f"p/q/{X}: there is no such document"):
        core.update({"a": 1}, "p/q", X)
    assert core.ids("p/q") == []


def test_update_replaces_as_a_whole(core: StorageCore) -> None:
    core.upload({"a": 1, "b": 2}, "p/q", X)
    core.update({"b": 3}, "p/q", X)
    assert core.get("p/q", X) == {"b": 3}


def test_the_callers_document_is_not_touched(core: StorageCore) -> None:
    content = {"a": 1}
    core.upload(content, "p/q", X)
    core.update(content, "p/q", X)
    assert content == {"a": 1}


def test_move_takes_away_and_does_not_overwrite(core: StorageCore) -> None:
    core.upload({"a": 1}, "p/p", X)
    core.upload({"a": 2}, "q/q", X)
    with pytest.raises(FileExistsError, match=f"q/q/{X}: there is a document already"):
        core.move("p/p", "q/q", X)
    assert (core.get("p/p", X), core.get("q/q", X)) == ({"a": 1}, {"a": 2})
    core.move("p/p", "deep/new/path", X)
    assert not core.exists("p/p", X)
    assert core.exists("deep/new/path", X)
    with pytest.raises(FileNotFoundError, match=f"p/p/{X}: there is no such document"):
        core.move("p/p", "elsewhere/x", X)


def test_a_document_that_is_moved_to_where_it_is_stays(core: StorageCore) -> None:
    core.upload({"a": 1}, "p/q", X)
    with pytest.raises(FileExistsError):
        core.move("p/q", "p/q", X)
    assert core.get("p/q", X) == {"a": 1}
    with pytest.raises(FileNotFoundError):
        core.move("p/q", "p/q", Y)


def test_what_is_not_there(core: StorageCore) -> None:
    for act in (core.get, core.delete):
        with pytest.raises(FileNotFoundError, match=f"p/q/{X}: there is no such document"):
            act("p/q", X)
    assert core.ids("p/q") == []
    assert core.branches("p") == []
    with pytest.raises(FileNotFoundError, match="nothing about 'x'"):
        core.find("p/q", "kid", "x")


def test_what_lies_below_a_path(core: StorageCore) -> None:
    for path in ("p/q/one", "p/q/two", "p/r", "other/s"):
        core.upload({}, path, X)
    assert core.branches("p") == ["q", "r"]
    assert core.branches("p/q") == ["one", "two"]


def test_the_older_names(core: StorageCore) -> None:
    core.upload({"a": 1}, "p/p", X)
    core.update_file({"a": 2}, "p/p", X)
    core.move_file("p/p", "q/q", X)
    assert core.get_file_content("q/q", X) == {"a": 2}
    core.delete_file("q/q", X)
    assert not core.exists("q/q", X)


def test_a_storage_that_is_not_active_refuses_everything(core_at: Opener) -> None:
    core = core_at(is_active=False)
    acts: list[Callable[[], object]] = [
        lambda: core.upload({}, "p/q", X),
        lambda: core.get("p/q", X),
        lambda: core.update({}, "p/q", X),
        lambda: core.move("p/q", "q/q", X),
        lambda: core.delete("p/q", X),
        lambda: core.ids("p/q"),
        lambda: core.exists("p/q", X),
        lambda: core.branches("p"),
        lambda: core.find("p/q", "kid", "x"),
    ]
    for act in acts:
        with pytest.raises(ValueError, match="not active"):
            act()
    assert core_at().ids("p/q") == []


def _nested(depth: int) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for _ in range(depth):
        document = {"a": document}
    return document


@pytest.mark.parametrize("value", [float("nan"), object(), b"x", {1, 2}, _nested(100_000)])
def test_what_is_no_json_is_not_written(core: StorageCore, value: object) -> None:
    with pytest.raises(ValueError, match=r"cannot be (written|stored)") as caught:
        core.upload({"a": value}, "p/q", X)
    assert "\n" not in str(caught.value)
    assert core.ids("p/q") == []


def test_closing_twice_is_harmless(core: StorageCore) -> None:
    core.close()
    core.close()
