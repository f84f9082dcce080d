"""`spooler submit`: a job into the queue."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from spooler.cli import exits, options, output, session
from spooler.cli.jobs import result
from spooler.errors import PayloadInvalid
from spooler.model.json import JsonObject, unique

if TYPE_CHECKING:
    from spooler.model.status import Status
    from spooler.protocols import Submitter


def submit(
    device: Annotated[str, typer.Argument(metavar="DEVICE", help="The device's name.")],
    file: Annotated[
        str,
        typer.Argument(metavar="FILE", help="The payload, JSON, or the JSON itself; - is stdin."),
    ] = "-",
    *,
    config: options.Config = None,
    wait: options.Wait = False,
    timeout: options.Timeout = None,
) -> None:
    """Queue a job and print its id.

    With --wait the result is shown, on stderr, and the exit code says how the job ended.
    """
    limit = session.seconds(timeout, goes_with="--wait", given=wait)
    payload = read_payload(file)
    with session.submitter(config) as storage:
        queue(storage, device, payload, wait=wait, limit=limit)


def queue(
    storage: Submitter, device: str, payload: JsonObject, *, wait: bool, limit: float | None
) -> None:
    """Submit a job, print its id, and wait for its end where that is wanted."""
    job = storage.submit(device, payload)
    _tell(job)
    session.warn_of_absence(storage, device, "; the job waits until one does")
    if wait:
        last = wait_for(storage, device, job, limit)
        output.note(output.plain(f"{job}: {in_words(last)}"))
        if last.state != "done":
            raise typer.Exit(exits.Exit.NO)
        for line in result.lines(storage.result(device, job)):
            output.note(line)


def in_words(status: Status) -> str:
    """Return a status in one line."""
    state, reason = status.state.value, status.reason
    if not reason or reason.lower().startswith(state):
        return reason or state
    return f"{state}: {reason}"


def _tell(job: str) -> None:
    """Nobody knows the job but by its id: said on stderr where the answer cannot be written."""
    try:
        output.say(job)
    except output.OutputLost as error:
        raise output.OutputLost(f"the job is queued as {job}, but {error}") from None


def wait_for(storage: Submitter, device: str, job: str, timeout: float | None) -> Status:
    """Show how `job` goes on; its last status. Ends the command when the time is up before."""
    with output.ticking(f"{job}: queued") as tell:

        def show(status: Status) -> None:
            if not status.state.ended:  # which is for the caller to say
                tell(f"{job}: {in_words(status)}")

        try:
            last = session.follow(storage, device, job, timeout=timeout, tell=show)
        except KeyboardInterrupt:
            output.note(f"the job goes on without us; see: spooler status {job} --device {device}")
            raise
    if last is None:
        output.note(f"the job has not ended yet; see: spooler status {job} --device {device}")
        raise typer.Exit(exits.Exit.NOT_YET)
    return last


def read_payload(file: str) -> JsonObject:
    """The JSON object in `file` (- is stdin); PayloadInvalid says what is wrong with it."""
    where, content = _content(file)
    try:
        payload = json.loads(
            content,
            parse_constant=_no_number,
            parse_float=_finite,
            parse_int=_whole,
            object_pairs_hook=unique,
        )
    except UnicodeDecodeError:
        raise PayloadInvalid(f"{where} is not UTF-8 text; save it as UTF-8") from None
    except json.JSONDecodeError as error:
        raise PayloadInvalid(
            f"{where} is not JSON: {error.msg} (line {error.lineno}, column {error.colno})"
        ) from None
    except RecursionError:
        raise PayloadInvalid(f"{where} is nested too deeply") from None
    except ValueError as error:
        raise PayloadInvalid(f"{where} is not usable: {error}") from None
    if not isinstance(payload, dict):
        raise PayloadInvalid(f"{where} is JSON but not an object; a payload starts with {{")
    try:
        json.dumps(payload, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise PayloadInvalid(
            f"{where} has an unpaired surrogate (\\ud800 to \\udfff); write the whole character"
        ) from None
    return payload


def _content(file: str) -> tuple[str, bytes]:
    """Return what a payload is to be called, and its bytes."""
    if file.lstrip().startswith("{"):
        return "the payload", file.encode("utf-8", "surrogateescape")
    where = "the payload from stdin" if file == "-" else file
    if file == "-" and sys.stdin is None:
        raise PayloadInvalid("there is no stdin to read the payload from; name a file")
    if file == "-" and sys.stdin.isatty():
        output.note("type the payload, JSON, and end with Ctrl-D")
    try:
        return where, sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise PayloadInvalid(f"{where} cannot be read: {error.strerror}") from None


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large for a number")
    return number


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"a number of {len(text)} digits is too long; write it as text") from None
