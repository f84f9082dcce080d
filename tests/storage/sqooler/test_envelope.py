"""What a handler returns, laid out in sqooler's form: sqooler reads it, and it comes back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooler.model.artifact import Artifact
from spooler.model.json import JsonObject
from spooler.model.result import Report, Result
from spooler.model.state import State
from spooler.model.status import Status
from spooler.storage.sqooler.envelope import put_in, take_out
from spooler.storage.sqooler.rendering import Renderer
from spooler.testing.outside_checks import RETURNED
from tests.storage.sqooler import upstream

FILE = Artifact("a.txt", 1, "0" * 64)
VALUES = st.sampled_from([None, 1, [], {}, [1], {"data": {}, "artifacts": []}, {"data": 1}])
NAMES = st.sampled_from(["artifacts", "results", "spooler", "stored", "data", "mean"])
GATES = [{"name": "rlx", "wires": [0], "params": [0.1]}]


def document(data: JsonObject) -> dict[str, Any]:
    status = Status(State.DONE)
    result = Result(data, (FILE,))
    report = Report("a" * 24, "q", "q", "1.0.0", 1, "me", status, result)
    said: dict[str, Any] = json.loads(Renderer(None).result(report))
    return said


@given(st.dictionaries(NAMES, VALUES | st.dictionaries(NAMES, VALUES)), st.booleans())
def test_it_comes_back_as_it_was(data: dict[str, Any], with_file: bool) -> None:
    files = [FILE] if with_file else []
    header, results = put_in(data, files)
    assert take_out(header, results) == (data, files)


@pytest.mark.interop
@pytest.mark.parametrize("data", RETURNED)
def test_sqoolers_client_can_read_it(data: JsonObject) -> None:
    upstream.schemes.ResultDict(**document(data))


@pytest.mark.interop
@pytest.mark.parametrize(
    "change",
    [
        {"shots": None}, {"shots": True}, {"success": "maybe"}, {"header": []}, {"data": None},
        {"data": {"memory": [1]}}, {"data": {"memory": ["1"], "instructions": [1]}},
        {"data": {"memory": ["1"], "instructions": [{**GATES[0], "wires": ["x"]}]}},
        {"data": {"memory": ["1"], "instructions": [{**GATES[0], "params": [None]}]}},
    ],
)  # fmt: skip
def test_experiments_that_sqooler_cannot_read_go_into_the_envelope(change: JsonObject) -> None:
    good = {"header": {}, "shots": 1, "success": True, "data": {"memory": ["1"]}}
    good["data"]["instructions"] = GATES  # type: ignore[index]
    said = document({"results": [good]})
    assert said["results"] == [good]
    assert said["header"].keys() == {"artifacts"}
    said = document({"results": [{**good, **change}]})
    assert said["results"] == []
    upstream.schemes.ResultDict(**said)
