"""The aims of issues 2, 3 and 7, each with what was found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.drain import Rounds, Run
from benchmarks.figures import Spread, quantile, ratio
from benchmarks.found import Found
from benchmarks.mongo_peers import BARE
from benchmarks.mongo_peers import SPOOLER as ON_MONGODB
from benchmarks.peers import PLAIN, REFERENCE, SPOOLER, SQOOLER
from benchmarks.sizes import Sizes
from benchmarks.way import FOLDER, MONGODB, MOST_FILES, MOST_MOVES

SHORT_TIMES, LONG_TIMES, PART = 10.0, 40.0, 0.6
MONGO_PART = 0.7
PICKUP_MS, IDLE_PERCENT = 5.0, 0.5
#: What counts as no growth: a page here and there, and never a hundred bytes per job.
GROWTH_MIB = 0.5


@dataclass(frozen=True, slots=True)
class Aim:
    """What was aimed at, what was found, and whether that is it; None when not measured."""

    text: str
    measured: str
    met: bool | None

    @property
    def verdict(self) -> str:
        """For people."""
        return "not measured" if self.met is None else "met" if self.met else "**NOT met**"


def aims(found: Found, sizes: Sizes) -> Iterator[Aim]:
    """All of them, in the order of the issues."""
    short = f"drain of {sizes.jobs:,}, fsync off"
    long = f"drain of {sizes.long_queue:,}, fsync off"
    yield _drain(found.short, f"{short}: {SHORT_TIMES:g} x sqooler", SQOOLER.name, SHORT_TIMES)
    yield from _parts(found.short, short)
    waiting = f"{long}: {LONG_TIMES:g} x sqooler"
    yield _drain(found.long, f"{waiting} while {sizes.long_queue:,} wait", SQOOLER.name, LONG_TIMES)
    yield _drain(found.long, f"{waiting} over the whole drain", "half", LONG_TIMES)
    yield from _parts(found.long, long)
    yield from _pickup(found)
    yield from _idle(found)
    yield _memory(found)
    yield from _way(found)
    yield from _mongo(found)


def _way(found: Found) -> Iterator[Aim]:
    for storage in (FOLDER, MONGODB):
        text = f"way of a job, {storage}: at most {MOST_FILES} files, {MOST_MOVES} moves"
        if found.way is None or storage not in found.way:
            yield Aim(text, "", None)
            continue
        files, _, moves = found.way[storage].figures
        met = files <= MOST_FILES and moves <= MOST_MOVES
        yield Aim(text, f"{files} files, {moves} moves", met)


def _mongo(found: Found) -> Iterator[Aim]:
    aim = f"{MONGO_PART:.0%} of a bare loop"
    if found.mongo is None:
        yield Aim(f"MongoDB: {aim}", "", None)
        return
    for drains in found.mongo:
        for added, rounds in drains.rounds.items():
            text = f"{drains.server}: {1000 * added:g} ms added: {aim}"
            spread = ratio(rounds, ON_MONGODB.name, BARE.name, lambda run: run.rate)
            yield Aim(text, spread_text(spread, "{:.0%}".format), spread.median >= MONGO_PART)


def _parts(rounds: Rounds | None, which: str) -> Iterator[Aim]:
    for peer, said in ((REFERENCE, "that signs as well"), (PLAIN, "that does not sign")):
        text = f"{which}: {PART:.0%} of a reference {said}"
        yield _drain(rounds, text, peer.name, PART, "{:.0%}".format)


def _drain(
    rounds: Rounds | None,
    text: str,
    to: str,
    least: float,
    form: Callable[[float], str] = "{:.1f} x".format,
) -> Aim:
    if rounds is None or not {SPOOLER.name, to} <= rounds[0].keys():
        return Aim(text, "", None)
    spread = ratio(rounds, SPOOLER.name, to, _rate)
    return Aim(text, spread_text(spread, form), spread.median >= least)


def _rate(run: Run) -> float:
    return run.rate


def spread_text(spread: Spread, form: Callable[[float], str]) -> str:
    """The median, and the range of the rounds when there are several."""
    low, high = form(spread.low), form(spread.high)
    return form(spread.median) if low == high else f"{form(spread.median)} ({low} to {high})"


def _pickup(found: Found) -> Iterator[Aim]:
    text = f"pickup on an idle daemon: p50 under {PICKUP_MS:g} ms"
    if found.pickup is None:
        yield Aim(text, "", None)
        return
    median = 1000 * quantile(found.pickup["spooler"].claimed, 0.5)
    yield Aim(text, f"{median:.2f} ms", median < PICKUP_MS)


def _idle(found: Found) -> Iterator[Aim]:
    cpu = f"idle CPU under {IDLE_PERCENT:g} %"
    writes = "idle writes: at most one per announce interval"
    if found.idle is None:
        yield Aim(cpu, "", None)
        yield Aim(writes, "", None)
        return
    idle = found.idle["spooler"]
    yield Aim(cpu, f"{idle.percent:.2f} %", idle.percent < IDLE_PERCENT)
    said = f"{len(idle.written)} in {idle.seconds:.0f} s, {idle.announcements} allowed"
    yield Aim(writes, said, len(idle.written) <= idle.announcements)


def _memory(found: Found) -> Aim:
    text = "resident memory must not grow with the jobs done"
    if found.memory is None:
        return Aim(text, "", None)
    counts = sorted(found.memory)
    first, last = found.memory[counts[1]], found.memory[counts[-1]]
    own, children = (
        (getattr(last, part) - getattr(first, part)) / 2**20 for part in ("own", "children")
    )
    said = (
        f"{own:+.2f} MiB daemon, {children:+.2f} MiB child, "
        f"from {counts[1]:,} to {counts[-1]:,} jobs"
    )
    return Aim(text, said, max(own, children) <= GROWTH_MIB)
