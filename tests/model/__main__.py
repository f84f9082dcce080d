"""`python -m tests.model`: two jobs, and daemons that repeat: what takes too long for each test."""

from __future__ import annotations

import sys

from tests.model.protocol import Job, Rules, World
from tests.model.search import search


def main() -> int:
    broken = 0
    one, two = World(jobs=(Job(),)), World()
    for rules, start in (
        (Rules(moments=True, always=True), one),
        (Rules(), two),
        (Rules(always=True, near=False), two),
    ):
        found = search(rules, start)
        sys.stdout.write(f"{rules}\n{found}\n")
        broken += bool(found.broken)
    return broken


if __name__ == "__main__":
    sys.exit(main())
