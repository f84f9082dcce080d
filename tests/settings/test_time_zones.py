"""A machine without a time zone database: small images have none."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

LOOK = """
import sys
{before}
from spooler.settings.model import WindowSettings as Window
try:
    print(Window(kind="maintenance", cron="0 3 * * *", duration=60, timezone="{name}").timezone)
except ValueError as error:
    print(error)
"""
#: What this Python says when nobody has installed the package.
_NO_PACKAGE = "sys.modules['tzdata'] = None"


@pytest.mark.parametrize(
    ("before", "name", "said"),
    [
        ("", "Europe/Berlin", "Europe/Berlin"),
        (_NO_PACKAGE, "UTC", "UTC"),
        (_NO_PACKAGE, "Europe/Berlin", "has no time zone database; install the package tzdata"),
        ("", "Europe/Bern", "expected the name of a time zone"),
    ],
)
def test_without_a_database(before: str, name: str, said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOOK.format(before=before, name=name)],
        env={**os.environ, "PYTHONTZPATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert said in done.stdout
    assert ("error" in done.stdout) == (said != name)
