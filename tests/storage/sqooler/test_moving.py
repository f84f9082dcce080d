"""The table of docs/moving-from-sqooler.md is true: the names are where it says."""

from __future__ import annotations

import importlib
import re
import warnings
from pathlib import Path

import pytest

TABLE = re.findall(
    r"^\| `(sqooler[\w.]*)`(?: \(`(\w+)`\))? \| `(spooler[\w.]*)` \|$",
    (Path(__file__).parents[3] / "docs" / "moving-from-sqooler.md").read_text(encoding="utf-8"),
    flags=re.M,
)
#: Not for a folder or MongoDB, or not for users.
LEFT_OUT = {"DropboxLoginInformation", "create_key_pair", "datetime_handler"}


def test_the_table_is_found() -> None:
    assert len(TABLE) == 6


@pytest.mark.interop
@pytest.mark.parametrize(("theirs", "name", "ours"), TABLE)
def test_names_are_where_the_table_says(theirs: str, name: str, ours: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source = importlib.import_module(theirs)
    public = (
        {name}
        if name
        else {
            key
            for key, value in vars(source).items()
            if getattr(value, "__module__", "") == theirs and not key.startswith("_")
        }
    )
    target = importlib.import_module(ours)
    missing = {key for key in public - LEFT_OUT if not hasattr(target, key)}
    assert not missing
