from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from spooler.storage.sqooler.client.documents import LocalLoginInformation
from spooler.storage.sqooler.client.local import LocalCore
from spooler.storage.sqooler.client.names import (
    check_device,
    check_id,
    check_path,
    check_provider,
    is_id,
)

nasty = st.text(alphabet="./\\a0_- \x00\n\u00e9~", max_size=10)


@pytest.mark.parametrize("name", ["", "la b", "lab_1", "../lab", "lab\n", "l\u00e4b"])
def test_a_storage_has_a_plain_name(name: str) -> None:
    with pytest.raises(ValueError, match="letters and digits"):
        check_provider(name)
    with pytest.raises(ValueError, match="lower-case"):
        check_device(name)
    with pytest.raises(FileNotFoundError):  # nothing is found under it either
        check_device(name)
    assert check_provider("lab1") == check_device("lab1") == "lab1"


def test_the_name_of_a_storage_is_written_small() -> None:
    assert check_provider("Heidelberg") == "heidelberg"
    with pytest.raises(ValueError, match="lower-case"):
        check_device("Lab")


def test_a_device_must_be_named() -> None:
    with pytest.raises(ValueError, match="lower-case"):
        check_device(None)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "..",
        ".",
        "a/..",
        "../a",
        "a//b",
        "a/./b",
        "a\\b",
        "a b",
        "a/\x00",
        "a\n",
        "a" * 129,
    ],
)
def test_a_path_is_plain_segments(path: str) -> None:
    with pytest.raises(ValueError, match="is not usable"):
        check_path(path)


def test_slashes_at_the_ends_are_ignored() -> None:
    assert check_path("/jobs/queued/dev/") == check_path("jobs/queued/dev")
    assert check_path("jobs/queued/dev") == ("jobs", "queued", "dev")


@pytest.mark.parametrize("name", ["", ".", "..", ".a", "a/b", "a\x00", "a b", "a\n", "a" * 129])
def test_an_id_is_a_plain_file_name(name: str) -> None:
    assert not is_id(name)
    with pytest.raises(ValueError, match="is not usable"):
        check_id(name)


@given(path=nasty, name=nasty)
@example(path="../x", name="a")
@example(path="a", name="../../x")
@example(path="/etc", name="passwd")
@example(path="a/..", name="..")
@example(path="...", name="a..")
def test_no_name_leaves_the_base_folder(
    path: str, name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outer = tmp_path_factory.mktemp("outer")
    base = outer / "base"
    base.mkdir()
    (outer / "a.json").write_text('{"outside": true}')
    core = LocalCore(LocalLoginInformation(base_path=str(base)), "lab")
    for act in (
        lambda: core.upload({"a": 1}, path, name),
        lambda: core.update({"a": 2}, path, name),
        lambda: core.move(path, "safe", name),
        lambda: core.move("safe", path, name),
        lambda: core.get(path, name),
        lambda: core.delete(path, name),
    ):
        try:
            assert act() != {"outside": True}
        except (ValueError, FileNotFoundError, FileExistsError):
            continue
    _only_within(outer, base)


def _only_within(outer: Path, base: Path) -> None:
    assert sorted(entry.name for entry in outer.iterdir()) == ["a.json", "base"]
    assert (outer / "a.json").read_text() == '{"outside": true}'
    for file in base.rglob("*"):
        assert file.resolve().is_relative_to(base.resolve())
