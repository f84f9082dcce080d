"""The part of the report about MongoDB, in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.aims import spread_text
from benchmarks.figures import over_rounds, quantile, ratio
from benchmarks.found import Found
from benchmarks.mongo_drain import Drains, Rounds
from benchmarks.mongo_peers import ALL, BARE, SEARCHING, SQOOLER
from benchmarks.sizes import Sizes
from benchmarks.tables import NONE, table
from benchmarks.wire import Run


def mongodb(found: Found, sizes: Sizes) -> Iterator[str]:
    """All of it; nothing for what was not measured."""
    if found.mongo is not None:
        yield from _drains(found.mongo, sizes)
    if found.mongo_daemons is not None:
        yield from _daemons(found.mongo_daemons, sizes)
    if found.mongo_pickup is not None:
        yield from _pickup(found)


def _drains(found: Sequence[Drains], sizes: Sizes) -> Iterator[str]:
    yield f"## MongoDB: drain of {sizes.mongo_jobs:,} queued jobs"
    if len(found) > 1:
        yield (
            "**SecantusDB is the server of the tests, written in Python: its rates are not those "
            "of a mongod.** findAndModify and $limit use no index there and walk over all that "
            "lies in the collection, also where the id is given, hence the short queue. It is "
            "measured twice. On disk it is made to sync each single write, of which a bulkWrite "
            "of spooler holds six, so that spooler waits for the disk eight times per job and "
            "the bare loop three times; a mongod waits once per command, which is three times "
            "for both. In memory nobody waits for a disk."
        )
    yield (
        "No-op jobs, each with its first status; every peer is a process of its own on emptied "
        f"databases; {sizes.mongo_rounds} rounds, the order of the peers turns. All peers reach "
        "the server through one and the same kind of proxy, also where nothing is added. Time "
        "and commands: from the command that brings the first result to the one that brings the "
        "last. Commands are read off the proxy, exactly; greetings, heartbeats, logins and "
        "goodbyes of the driver are left out, and so is the change stream's question for news, "
        "which comes once a second however many jobs there are. In the server: from a command to "
        "its answer at the server's end of the proxy, all commands of a job together. The bare "
        "loop has three commands per job one after the other (find_one_and_update, insert, "
        "replace), signs the same result and status, and moves no job to another place. "
        "spooler's storage without its daemon sends the commands that spooler sends and runs "
        "nothing. Both ask for a majority and the journal, sqooler for a majority."
    )
    for drains in found:
        for added, rounds in drains.rounds.items():
            yield f"### {drains.server}: {1000 * added:g} ms added to each round trip"
            took = (1000 * drains.pings[each] for each in (added, None))
            yield "A ping takes {:.2f} ms through the proxy, {:.2f} ms straight.".format(*took)
            yield _drain_table(rounds)
        yield from _commands(drains)


def _drain_table(rounds: Rounds) -> str:
    head = ("peer", "x sqooler", "of the bare loop", "of the searching loop", "jobs/s")
    rows = []
    for peer in (each for each in ALL if each.name in rounds[0]):
        jobs = sum(each[peer.name].jobs for each in rounds)
        took = 1000 * sum(each[peer.name].seconds for each in rounds) / jobs
        waited = 1000 * sum(each[peer.name].waited for each in rounds) / jobs
        rows.append(
            (
                peer.label,
                _ratio(rounds, peer.name, SQOOLER.name, "{:.1f}"),
                _ratio(rounds, peer.name, BARE.name, "{:.0%}"),
                _ratio(rounds, peer.name, SEARCHING.name, "{:.0%}"),
                f"{over_rounds(rounds, peer.name, lambda run: run.rate).median:.1f}",
                f"{took:.1f}",
                f"{waited:.1f}",
                f"{over_rounds(rounds, peer.name, lambda run: run.each).median:.2f}",
            )
        )
    return table((*head, "ms/job", "of it in the server", "commands/job"), rows)


def _ratio(rounds: Rounds, of: str, to: str, form: str) -> str:
    if to not in rounds[0] or of == to:
        return NONE
    return spread_text(ratio(rounds, of, to, lambda run: run.rate), form.format)


def _commands(drains: Drains) -> Iterator[str]:
    added, rounds = next(iter(drains.rounds.items()))
    peers = [each for each in ALL if each.name in rounds[0]]
    names = sorted({name for each in rounds for run in each.values() for name in run.commands})
    yield f"### {drains.server}: commands per job, and what each takes in the server"
    yield f"Over all rounds with {1000 * added:g} ms added."
    yield table(
        ("command", *(peer.label for peer in peers)),
        (
            (name, *(_command([each[peer.name] for each in rounds], name) for peer in peers))
            for name in names
        ),
    )


def _command(runs: Sequence[Run], name: str) -> str:
    tallies = [run.commands[name] for run in runs if name in run.commands]
    times = sum(each.times for each in tallies)
    if not times:
        return NONE
    took = 1000 * sum(each.waited for each in tallies) / times
    return f"{times / sum(run.jobs for run in runs):.2f} x {took:.2f} ms"


def _daemons(found: dict[float, Rounds], sizes: Sizes) -> Iterator[str]:
    yield "## MongoDB: several daemons on one queue"
    yield (
        f"Daemons that wait, each with a process for its handler, get {sizes.mongo_jobs} no-op "
        f"jobs at once; {sizes.daemon_rounds} rounds, the order turns. Each job ran once: every "
        "handler keeps a book, and the run fails where a job stands in it twice or not at all. "
        "On one machine they share its cores with the server."
    )
    rows = []
    for added, rounds in found.items():
        for count in map(str, sizes.daemons):
            rows.append(
                (
                    f"{1000 * added:g} ms",
                    count,
                    _ratio(rounds, count, str(sizes.daemons[0]), "{:.2f}"),
                    f"{over_rounds(rounds, count, lambda run: run.rate).median:.1f}",
                    f"{over_rounds(rounds, count, lambda run: run.each).median:.2f}",
                )
            )
    first = f"x {sizes.daemons[0]} daemon"
    yield table(("added", "daemons", first, "jobs/s", "commands/job"), rows)


def _pickup(found: Found) -> Iterator[str]:
    assert found.mongo_pickup is not None
    yield "## MongoDB: pickup latency"
    count = len(next(iter(found.mongo_pickup.values())).claimed)
    yield (
        f"{count} jobs, one at a time after random gaps, on an idle daemon with its default "
        "settings, nothing added to the round trip. From the sending of the job until the server "
        "has acknowledged it (in the queue), until the answer to the first command that names the "
        "job (claimed), and until the answer to the one that writes its last status (finished). "
        "spooler polls alone where the server has no change streams: for that row the server was "
        "made to look like one that is no replica set."
    )
    rows: list[Sequence[str]] = []
    for name, latencies in found.mongo_pickup.items():
        for label, values in (
            ("in the queue", latencies.submitted),
            ("claimed", latencies.claimed),
            ("finished", latencies.finished),
        ):
            figures = [*(quantile(values, part) for part in (0.5, 0.9, 0.99)), max(values)]
            rows.append((f"{name}: {label}", *(f"{1000 * each:.2f}" for each in figures)))
    yield table(("ms", "p50", "p90", "p99", "max"), rows)
