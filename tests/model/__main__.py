"""`python -m tests.model`: two jobs, daemons that see each other's disks, and those that repeat."""

from __future__ import annotations

import sys

from tests.model.protocol import Rules
from tests.model.search import search


def main() -> int:
    broken = 0
    for rules in (Rules(), Rules(always=True, near=False)):
        found = search(rules)
        sys.stdout.write(f"{rules}\n{found}\n")
        broken += bool(found.broken)
    return broken


if __name__ == "__main__":
    sys.exit(main())
