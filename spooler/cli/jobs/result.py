"""`spooler result`: what came out."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spooler.cli import exits, options, output, session
from spooler.cli.jobs import histogram

if TYPE_CHECKING:
    from spooler.model.result import Result
    from spooler.model.status import Status

#: From so many experiments on, each gets one line in place of a histogram.
_MANY = 4


def result(
    job: options.Job,
    *,
    config: options.Config = None,
    device: options.Device = None,
    experiment: Annotated[
        int | None, typer.Option("--experiment", "-e", metavar="N", min=0, help="Only this one.")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Show the result of a job: a histogram of its shots, or JSON."""
    with session.submitter(config) as storage:
        where, status = session.locate(storage, job, device)
        must_be_done(job, status)
        found = storage.result(where, job)
    if as_json:
        files = [asdict(each) for each in found.artifacts]
        output.as_json({"job": job, "device": where, "data": found.data, "artifacts": files})
        return
    for line in lines(found, experiment):
        output.say(line)


def must_be_done(job: str, status: Status) -> None:
    """End the command where a job has no result (yet), and say why."""
    if status.state == "done":
        return
    if status.state.ended:
        output.note(
            output.plain(f"{job} has no result; it ended as {status.state}: {status.reason}")
        )
        raise typer.Exit(exits.Exit.NO)
    output.note(f"{job} is {status.state}; wait for it with: spooler status {job} --watch")
    raise typer.Exit(exits.Exit.NOT_YET)


def lines(found: Result, only: int | None = None) -> Iterator[str]:
    """The result for a terminal."""
    every = list(experiments(found.data))
    if not every:
        yield output.json_text(found.data)
    elif only is not None and only >= len(every):
        raise typer.BadParameter(f"there are {len(every)} experiments, counted from 0")
    elif only is not None:
        yield from _histogram(*every[only])
    elif len(every) >= _MANY:
        yield from _overview(every)
    else:
        for name, shots in every:
            yield from _histogram(name, shots)
    for artifact in found.artifacts:
        yield output.plain(f"file {artifact.path} ({artifact.size} bytes, {artifact.sha256})")


def experiments(data: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Name and shots of each experiment; nothing where the data has another shape."""
    results = data.get("results")
    for at, one in enumerate(results if isinstance(results, Sequence) else ()):
        header = one.get("header") if isinstance(one, Mapping) else None
        shots = one.get("data") if isinstance(one, Mapping) else None
        memory = shots.get("memory") if isinstance(shots, Mapping) else None
        if isinstance(memory, Sequence) and not isinstance(memory, str):
            name = header.get("name") if isinstance(header, Mapping) else None
            yield str(name or f"experiment_{at}"), [str(shot) for shot in memory]


def _histogram(name: str, shots: list[str]) -> Iterator[str]:
    mean = histogram.mean(shots)
    about = f"{len(shots)} shots" + ("" if mean is None else f", mean {mean:.4g}")
    yield output.plain(f"{name} ({about})")
    counts = [(output.plain(outcome), count) for outcome, count in histogram.counted(shots)]
    yield from histogram.bars(counts, width=_width(), blocks=draws_blocks())


def _overview(experiments: list[tuple[str, list[str]]]) -> Iterator[str]:
    """One line for each experiment, its mean as a bar where outcomes are numbers."""
    means = [histogram.mean(shots) for _, shots in experiments]
    largest = max((mean for mean in means if mean is not None), default=0.0) or 1.0
    label = max(len(name) for name, _ in experiments)
    for (name, shots), mean in zip(experiments, means, strict=True):
        if mean is None:
            outcome, count = max(
                histogram.counted(shots), key=lambda pair: pair[1], default=("", 0)
            )
            text = f"most often {outcome} ({count} of {len(shots)} shots)"
        else:
            drawn = histogram.bar(mean / largest, _width(), blocks=draws_blocks())
            text = f"{drawn} mean {mean:.4g}"
        yield output.plain(f"{name:<{label}} {text}")
    yield "one histogram: --experiment 0"


def draws_blocks() -> bool:
    """Return whether stdout can show block characters."""
    try:
        "█▏".encode(sys.stdout.encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        return False
    return True


def _width() -> int:
    return max(10, min(50, shutil.get_terminal_size().columns - 36))
