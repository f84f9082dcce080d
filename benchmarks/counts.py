"""Counts: the system calls per job that touch the storage and the state, by strace.

Exact, whatever else the machine does: two runs of different length, and their difference per
job, so that start and end cancel out.
"""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from benchmarks.peers import (
    REFERENCE,
    REFERENCE_DURABLE,
    SPOOLER,
    SPOOLER_DURABLE,
    SQOOLER,
    Peer,
)
from benchmarks.place import Place, fresh
from benchmarks.running import run_to_end
from benchmarks.sizes import Sizes

PEERS = (SPOOLER_DURABLE, REFERENCE_DURABLE, SPOOLER, REFERENCE, SQOOLER)
FSYNCS, RENAMES, OPENS = "fsyncs", "renames", "opens for writing"
LINKS, DELETIONS, READS, LOOKS = "links", "deletions", "opens for reading", "looks (stat)"
BYTES, WRITES = "bytes written", "writes"
#: What changes the folder, the same for all who do the same; looks and reads are not compared.
CHANGES = (FSYNCS, RENAMES, OPENS, WRITES, LINKS, DELETIONS)
#: In the order of the report.
KINDS = (FSYNCS, RENAMES, OPENS, WRITES, LINKS, DELETIONS, READS, LOOKS, BYTES)

_CALLS = {
    "fsync": FSYNCS,
    "fdatasync": FSYNCS,
    "rename": RENAMES,
    "renameat": RENAMES,
    "renameat2": RENAMES,
    "link": LINKS,
    "linkat": LINKS,
    "unlink": DELETIONS,
    "unlinkat": DELETIONS,
    "stat": LOOKS,
    "lstat": LOOKS,
    "newfstatat": LOOKS,
    "statx": LOOKS,
    "access": LOOKS,
    "faccessat2": LOOKS,
    "open": READS,
    "openat": READS,
    "write": BYTES,
}
_LENGTH = re.compile(r'"(?:\.\.\.)?, (\d+)')


def available() -> bool:
    """Whether strace is installed."""
    return shutil.which("strace") is not None


def measure(
    sizes: Sizes, work: Path, tell: Callable[[str], None], peers: Sequence[Peer] = PEERS
) -> dict[str, dict[str, float]]:
    """Calls per job, by peer and kind."""
    found = {}
    few, many = sizes.traced
    for peer in peers:
        tell(f"{few} and {many} jobs under strace: {peer.label}")
        fewer, more = _trace(peer, few, work), _trace(peer, many, work)
        found[peer.name] = {kind: (more[kind] - fewer[kind]) / (many - few) for kind in KINDS}
    return found


def _trace(peer: Peer, jobs: int, work: Path) -> Counter[str]:
    with fresh(Place, work) as place:
        place.fill(jobs)
        traces = place.folder / "traces"
        traces.mkdir()
        calls = ",".join(f"?{call}" for call in _CALLS)
        tracer = ("strace", "-ff", "-qq", "-y", "-s0", "-e", f"trace={calls}", "-o", f"{traces}/of")
        run_to_end(peer.drain(place, jobs), place, tracer=(*tracer, "--"))
        place.demand_done(jobs, signed=peer.signed)
        return count(_lines(traces), _roots(place))


def _roots(place: Place) -> tuple[str, str]:
    return f"{place.storage.resolve()}/", f"{place.state.resolve()}/"


def _lines(folder: Path) -> Iterator[str]:
    for path in folder.iterdir():
        yield from path.read_text(encoding="utf-8", errors="replace").splitlines()


def count(lines: Iterable[str], roots: Sequence[str]) -> Counter[str]:
    """What strace's lines tell of files below `roots`, by kind."""
    found: Counter[str] = Counter()
    for line in lines:
        kind = _CALLS.get(line.partition("(")[0])
        if kind is None or not any(root in line for root in roots):
            continue
        if kind is READS:
            kind = _kind_of_open(line)
        elif kind is LOOKS and '""' in line:
            continue  # fstat: at an open file, not for one
        if kind is BYTES:
            found[WRITES] += 1
            length = _LENGTH.search(line)
            found[BYTES] += int(length[1]) if length else 0
        elif kind is not None:
            found[kind] += 1
    return found


def _kind_of_open(line: str) -> str | None:
    if "O_DIRECTORY" in line:
        return None  # a folder: opened for its fsync, which is counted, or to be listed
    return OPENS if re.search(r"O_WRONLY|O_RDWR", line) else READS


def differences(one: dict[str, float], other: dict[str, float]) -> list[str]:
    """The kinds of changes of which one does more per job than the other."""
    return [kind for kind in CHANGES if round(one[kind], 1) != round(other[kind], 1)]
