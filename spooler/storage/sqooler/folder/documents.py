"""Documents of ours in a folder that others write too: what is none counts as absent."""

from __future__ import annotations

import json
from typing import Any

from spooler.durable import Place, read


def document(place: Place) -> dict[str, Any]:
    """The JSON object at a place; empty when there is none, or something else."""
    try:
        found = json.loads(read(place))
    except (FileNotFoundError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
