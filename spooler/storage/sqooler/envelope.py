"""Where a handler's data stands in a result document, and how it comes back unchanged.

sqooler's form has two places: `results`, a list of experiment results, and `header` for all else.
spooler itself uses the key `artifacts` of the header for published files, and `stored` for data
that lies beside the documents. Data that would meet one of these, or that sqooler's client could
not read in `results`, goes into an envelope: the header's key `spooler` then has the whole of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from spooler.model.artifact import Artifact
from spooler.model.json import Json

ARTIFACTS, STORED, ENVELOPE = "artifacts", "stored", "spooler"
_OURS = {ARTIFACTS, STORED, ENVELOPE}


class Parts(NamedTuple):
    """The two places of a document that depend on what the handler returned."""

    header: dict[str, Json]
    results: Json


def put_in(data: Mapping[str, Json], artifacts: Sequence[Artifact]) -> Parts:
    """Lay data and files out over the two places."""
    files: list[Json] = [asdict(each) for each in artifacts]
    if not _OURS.isdisjoint(data) or ("results" in data and not _experiments(data["results"])):
        return Parts({ENVELOPE: {"data": dict(data), ARTIFACTS: files}}, [])
    header = {key: value for key, value in data.items() if key != "results"}
    if files:
        header[ARTIFACTS] = files
    return Parts(header, data.get("results", []))


def take_out(header: Mapping[str, Any], results: Any) -> tuple[dict[str, Json], list[Artifact]]:
    """Return data and files as they were; TypeError or ValueError where somebody else wrote."""
    inside = header.get(ENVELOPE)
    if isinstance(inside, Mapping) and inside.keys() == {"data", ARTIFACTS} and len(header) == 1:
        return dict(inside["data"]), [Artifact(**each) for each in inside[ARTIFACTS]]
    data = dict(header)
    files = [Artifact(**each) for each in data.pop(ARTIFACTS, [])]
    return ({**data, "results": results} if results else data), files


def _experiments(results: Json) -> bool:
    """Return True for a list that sqooler's client can read as experiment results."""
    return isinstance(results, list) and bool(results) and all(map(_experiment, results))


def _experiment(one: Any) -> bool:
    if not isinstance(one, dict) or not isinstance(one.get("header"), dict):
        return False
    data = one.get("data")
    return (
        _whole(one.get("shots"))
        and isinstance(one.get("success"), bool)
        and isinstance(data, dict)
        and _texts(data.get("memory"))
        and _gates(data.get("instructions"))
    )


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and set(map(type, value)) <= {str}


def _gates(value: Any) -> bool:
    if value is None:
        return True
    return isinstance(value, list) and all(
        isinstance(gate, dict)
        and isinstance(gate.get("name"), str)
        and isinstance(gate.get("wires"), list)
        and all(map(_whole, gate["wires"]))
        and isinstance(gate.get("params"), list)
        and set(map(type, gate["params"])) <= {int, float}
        for gate in value
    )
