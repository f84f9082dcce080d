from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.lab import Lab
from tests.servers.mongodb import bare_mongodb, mongodb_server

__all__ = ["bare_mongodb", "mongodb_server"]


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path)
    yield made
    made.close()
