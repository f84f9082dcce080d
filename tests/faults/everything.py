"""What everything here is tried on. The next storage joins by its entry."""

from __future__ import annotations

from tests.faults.on_mongodb import MONGODB
from tests.faults.storages import FOLDER, MEMORY, SQLITE

STORAGES = (MEMORY, FOLDER, SQLITE, MONGODB)
