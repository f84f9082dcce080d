"""A folder storage and its bench, for the tests that go into its files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from spooler.testing.bench import Bench
from tests.storage.folder_bench import folder_bench


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tmp_path / "storage"


@pytest.fixture
def bench(base: Path) -> Iterator[Bench]:
    yield from folder_bench(base)
