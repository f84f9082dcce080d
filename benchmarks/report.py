"""The report, in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.aims import GROWTH_MIB, aims, spread_text
from benchmarks.conditions import NO_JOURNAL
from benchmarks.counts import BYTES, KINDS, differences
from benchmarks.drain import Case, Rounds, Run, long_cases, short_cases
from benchmarks.figures import over_rounds, quantile, ratio
from benchmarks.found import Found
from benchmarks.mongo_report import mongodb
from benchmarks.peers import (
    ALL,
    PLAIN,
    PLAIN_DURABLE,
    REFERENCE,
    REFERENCE_DURABLE,
    SPOOLER,
    SPOOLER_DURABLE,
    SQOOLER,
)
from benchmarks.place import MEMORY
from benchmarks.sizes import FULL, Sizes
from benchmarks.sqlite_place import SqlitePlace
from benchmarks.tables import NONE, table
from benchmarks.way_report import way


def report(found: Found, sizes: Sizes, machine: dict[str, str], words: Sequence[str]) -> str:
    """All of docs/benchmarks.md; `words` are the arguments that it was made with."""
    command = " ".join([".venv-dev/bin/python -m benchmarks", *words])
    parts = [
        "# Benchmarks",
        f"Written by `{command}` (`make bench` makes all of it); do not edit by hand. "
        "Ratios are what to read: they are taken between peers within a round, and the median "
        "over the rounds is given, with the smallest and the largest in brackets. Rates depend "
        "on the machine and its disk, and stand there only to show where the ratios come from.",
        *_notices(found, sizes, machine),
        "## Aims",
        table(
            ("aim", "measured", "verdict"),
            ((aim.text, aim.measured or NONE, aim.verdict) for aim in aims(found, sizes)),
        ),
        *_drains(found, sizes),
        *_pickup(found),
        *_idle(found),
        *_memory(found),
        *_counts(found),
        *(way(found.way) if found.way else ()),
        *mongodb(found, sizes),
        *_conditions(found, machine),
    ]
    return "\n\n".join(parts) + "\n"


def _notices(found: Found, sizes: Sizes, machine: dict[str, str]) -> Iterator[str]:
    if sizes != FULL:
        yield (
            "**A quick run: fewer jobs, rounds and samples than the aims ask for. "
            "These figures are not to be quoted.**"
        )
    if NO_JOURNAL in machine["system"]:
        yield (
            "**This ext4 has no journal: creating a file takes up to twenty times longer for "
            "minutes after others were deleted (the kernel passes over inodes that were freed "
            "lately), and that hides what the peers do. Measure on another disk (--folder).**"
        )
    for name, reason in found.failed.items():
        yield f"**Not measured: {name}: {reason}**"


# --- drain --------------------------------------------------------------------------------------


def _drains(found: Found, sizes: Sizes) -> Iterator[str]:
    if found.short is not None:
        yield f"## Drain of {sizes.jobs:,} queued jobs"
        yield (
            "No-op jobs, already queued, each with its first status; isolation by process unless "
            "it says thread. Every peer is a process of its own on a fresh, identical folder; "
            f"{sizes.rounds} rounds, the order of the peers turns. Time: from the first result "
            "document to the last. CPU: user and system time of the whole process with its "
            "children, less that of the same command on an empty queue. Reference: a loop in "
            "Python that does the same file operations one after the other (see the counts; the "
            "audit trail's lines are among them, their hashes not), and nothing else; "
            '"of the reference" compares at equal fsync. Fsync off: the storage does not sync its '
            "files (`fsync = false`), and the state folder, that the daemon syncs in any case, "
            f"lies in memory ({MEMORY}), where that costs nothing; so does the reference's. "
            "The least: the job to "
            "running, result and status signed, written beside and renamed, the job to finished: "
            "no lease, no record, no report, so whoever dies in between loses the job. Nothing "
            "that signs and never shows half a file is faster in one Python process. On SQLite: "
            "the same daemon, its jobs in one database file; no reference does the same."
        )
        yield _drain_table(found.short, short_cases(sizes))
    if found.long is not None:
        yield f"## Drain of {sizes.long_queue:,} queued jobs"
        yield (
            f"As above, {sizes.long_rounds} rounds. sqooler lists all waiting jobs for each job, "
            "so its time for a whole drain grows with the square of the queue: it is measured "
            f"over the first {sizes.long_first} jobs while {sizes.long_queue:,} wait, and while "
            f"half of that wait, which is its mean over the whole drain. `x sqooler` is against "
            "the first of the two. Left out for the time it takes: thread and unsigned reference "
            "with fsync, and SQLite."
        )
        yield _drain_table(found.long, long_cases(sizes))


def _drain_table(rounds: Rounds, cases: Sequence[Case]) -> str:
    head = (
        "peer",
        "x sqooler",
        "of the reference",
        "of the reference without signatures",
        "jobs/s",
        "CPU ms/job",
        "CPU, in parts of sqooler's",
    )
    return table(head, [_drain_row(rounds, case) for case in cases if case.name in rounds[0]])


def _drain_row(rounds: Rounds, case: Case) -> tuple[str, ...]:
    signing, plain = (REFERENCE_DURABLE, PLAIN_DURABLE) if case.peer.fsync else (REFERENCE, PLAIN)
    return (
        case.label,
        _ratio(rounds, case.name, SQOOLER.name, "{:.1f}"),
        *(
            NONE if case.peer.place is SqlitePlace else _ratio(rounds, case.name, to.name, "{:.0%}")
            for to in (signing, plain)
        ),
        f"{over_rounds(rounds, case.name, _rate).median:,.0f}",
        f"{1000 * over_rounds(rounds, case.name, _cpu).median:.2f}",
        _ratio_of_cpu(rounds, case.name),
    )


def _rate(run: Run) -> float:
    return run.rate


def _cpu(run: Run) -> float:
    return run.cpu


def _ratio(rounds: Rounds, of: str, to: str, form: str) -> str:
    if to not in rounds[0] or of == to:
        return NONE
    return spread_text(ratio(rounds, of, to, _rate), form.format)


def _ratio_of_cpu(rounds: Rounds, of: str) -> str:
    if of == SQOOLER.name or not all(each.get(SQOOLER.name, Run(0, 0)).cpu for each in rounds):
        return NONE
    return spread_text(ratio(rounds, of, SQOOLER.name, _cpu), "{:.2f}".format)


# --- the daemon ---------------------------------------------------------------------------------


def _pickup(found: Found) -> Iterator[str]:
    if found.pickup is None:
        return
    count = len(found.pickup["spooler"].claimed)
    yield "## Pickup latency"
    yield (
        f"{count} jobs, one at a time after random gaps, on an idle daemon with its default "
        "settings (spooler: fsync on; sqooler: T_WAIT_MAIN=0.2, one device). From the rename of "
        "the job file into the queue until it has left the queue, and until it is among the "
        "finished ones; milliseconds, with the wake-up of the harness (inotify) in them."
    )
    rows = []
    for name, latencies in found.pickup.items():
        for what in ("claimed", "finished"):
            values = [1000 * each for each in getattr(latencies, what)]
            figures = [*(quantile(values, part) for part in (0.5, 0.9, 0.99)), max(values)]
            rows.append((f"{name}: {what}", *(f"{each:.2f}" for each in figures)))
    yield table(("ms", "p50", "p90", "p99", "max"), rows)
    ours, theirs = (quantile(each.claimed, 0.5) for each in found.pickup.values())
    yield f"At the median sqooler takes {theirs / ours:.2g} x as long until the claim."


def _idle(found: Found) -> Iterator[str]:
    if found.idle is None:
        return
    yield "## Idle"
    yield (
        "A daemon that has done one job, with its default settings; CPU of the process and its "
        "children, in per cent of one core. Files written: each whose content was written "
        "anywhere in the storage or the state folder (inotify)."
    )
    yield table(
        ("daemon", "watched", "CPU", "files written", "per minute", "memory (child)"),
        (
            (
                name,
                f"{idle.seconds:.0f} s",
                f"{idle.percent:.2f} %",
                str(len(idle.written)),
                f"{60 * len(idle.written) / idle.seconds:.1f}",
                f"{_mib(idle.memory.own)} ({_mib(idle.memory.children)})",
            )
            for name, idle in found.idle.items()
        ),
    )


def _memory(found: Found) -> Iterator[str]:
    if found.memory is None:
        return
    yield "## Resident memory"
    yield (
        "One daemon, batches of jobs one after the other, all alike; looked at when each is done. "
        f"Growth of up to {GROWTH_MIB:g} MiB between the first batch and the last counts as none."
    )
    yield table(
        ("jobs done", "daemon", "child"),
        (
            (f"{count:,}", _mib(memory.own), _mib(memory.children))
            for count, memory in sorted(found.memory.items())
        ),
    )


def _mib(size: int) -> str:
    return f"{size / 2**20:.2f} MiB"


def _counts(found: Found) -> Iterator[str]:
    if found.counts is None:
        return
    labels = {peer.name: peer.label for peer in ALL}
    yield "## Counts per job"
    yield (
        "System calls that touch the storage or the state folder, by strace, from two runs of "
        "different length: exact, and the same on any machine. Failed looks and deletions count; "
        "opening a folder for its fsync does not."
    )
    yield table(
        ("per job", *(labels[name] for name in found.counts)),
        ((kind, *(_count(each[kind], kind) for each in found.counts.values())) for kind in KINDS),
    )
    yield from _likeness(found.counts)


def _likeness(counts: dict[str, dict[str, float]]) -> Iterator[str]:
    """Whether the reference does what spooler does: it is written by hand, and can grow old."""
    for ours, theirs in ((SPOOLER_DURABLE, REFERENCE_DURABLE), (SPOOLER, REFERENCE)):
        if not {ours.name, theirs.name} <= counts.keys():
            continue
        other = differences(counts[ours.name], counts[theirs.name])
        if other:
            yield (
                f"**{theirs.label} does not do what {ours.label} does: they differ in "
                f"{', '.join(other)}. Bring benchmarks/run_reference.py up to date.**"
            )
        else:
            yield f"{theirs.label}: the same changes per job as {ours.label}."


def _count(value: float, kind: str) -> str:
    return f"{value:,.0f}" if kind == BYTES else f"{value:.2f}".rstrip("0").rstrip(".")


def _conditions(found: Found, machine: dict[str, str]) -> Iterator[str]:
    yield "## Conditions"
    yield "\n".join(f"- {name}: {text}" for name, text in machine.items())
    yield (
        "Before and after each measurement: the load of the last minute (the peers' own included), "
        "100 times 4 KiB + fsync in ms, and how much of the machine others had (steal)."
    )
    rows = []
    for name, phase in found.phases.items():
        moments = (phase.before, phase.after)
        rows.append(
            (
                name,
                f"{phase.seconds:.0f} s",
                " / ".join(f"{each.load:.2f}" for each in moments),
                " / ".join(f"{each.fsync_median:.2f}" for each in moments),
                " / ".join(f"{each.fsync_p99:.2f}" for each in moments),
                f"{phase.before.stolen_until(phase.after):.1f} %",
            )
        )
    yield table(("measurement", "took", "load", "fsync p50", "fsync p99", "steal"), rows)
