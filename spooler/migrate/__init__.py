"""Copies or moves a storage to another place: `migrate` does it, `open_side` opens one end."""

from __future__ import annotations

from spooler.migrate.migration import Progress, Summary, migrate, open_side

__all__ = ["Progress", "Summary", "migrate", "open_side"]
