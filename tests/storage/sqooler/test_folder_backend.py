"""A sqooler folder keeps the contract of a storage."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from spooler.testing.backend_contract import BackendContract
from spooler.testing.bench import Bench
from tests.storage.folder_bench import folder_bench


class TestFolder(BackendContract):
    @pytest.fixture(params=[True, False], ids=["fsync", "no-fsync"])
    def bench(self, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Bench]:
        yield from folder_bench(tmp_path / "storage", sync=request.param)
