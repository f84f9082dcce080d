"""What may be the path of a published file."""

from __future__ import annotations

import pytest

from spooler.devices.runners.hosting import outcome_of
from spooler.model.artifact import Artifact
from spooler.model.state import State

OUTSIDE = ["../other/job.h5", "a/../../b", "..", "/etc/passwd", "", "a\0b", "."]


@pytest.mark.parametrize("path", OUTSIDE)
def test_a_path_that_leads_elsewhere_is_none(path: str) -> None:
    with pytest.raises(
        ValueError, match="not a valid path for a published file; it must be relative"
    ):
        Artifact(path, 1, "ab")


@pytest.mark.parametrize("path", ["a.h5", "traces/one.h5", "..a", "a..b/c"])
def test_names_and_folders(path: str) -> None:
    assert Artifact(path, 1, "ab").path == path


@pytest.mark.parametrize("path", OUTSIDE)
def test_a_handler_s_process_cannot_name_one(path: str) -> None:
    """The daemon moves what is named there: it would be another job's file, or the lab's."""
    outcome = outcome_of({"kind": "done", "artifacts": [(path, 1, "ab")]}, b"{}")
    assert outcome.state is State.ERROR
    assert "not a valid path for a published file" in outcome.reason
    assert outcome.result is None
