"""`spooler demo`: the whole path, once, in a folder of its own. Nothing in it is pretended."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spooler.cli import exits, output, session
from spooler.cli.jobs import histogram, result

if TYPE_CHECKING:
    from spooler.model.result import Result
    from spooler.model.status import Status
    from spooler.protocols import Submitter

DEVICE = "singlequdit"
_ATOMS, _SHOTS, _ANGLES = 50, 500, 13
#: Seconds that one step may take on a slow machine.
_PATIENCE = 60.0

_SETTINGS = f"""\
state = "spooler-state"

[daemon]
poll_interval = "100ms"
grace = "5s"

[storage]
type = "sqooler-local"
path = "storage"

[signing]
key = "keys/backend.jwk"
required = true

[devices.{DEVICE}]
handler = "singlequdit"
timeout = "1m"
"""


def demo(
    *,
    keep: Annotated[
        Path | None,
        typer.Option("--keep", metavar="DIR", help="Use this new folder and leave it there."),
    ] = None,
) -> None:
    """Run the main job once, on an embedded storage.

    Makes a key, starts the daemon, submits jobs, shows and verifies their results.
    Everything happens in a temporary folder that is removed at the end.
    """
    with _folder(keep) as folder:
        config = _prepare(folder)
        from spooler.cli.demo.daemon import daemon

        with (
            daemon(config, folder / "spooler.log", patience=_PATIENCE) as alive,
            session.submitter(config, session.outside_environment()) as storage,
        ):
            good = _journey(storage, alive)
        output.say(f"5. the daemon has ended in order, {_left_over(folder)}")
        if keep is not None:
            output.say(f"everything is in {folder}; look around: cd {folder} && spooler devices")
    if not good:
        raise typer.Exit(exits.Exit.NO)


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="spooler-demo-") as name:
            yield Path(name)
        return
    if keep.exists() and (not keep.is_dir() or any(keep.iterdir())):
        output.note(f"spooler: {keep} already exists and is not empty; name a new folder")
        raise typer.Exit(exits.Exit.NOT_WRITTEN)
    try:
        keep.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        output.note(f"spooler: {keep} cannot be made: {error.strerror}")
        raise typer.Exit(exits.Exit.NOT_WRITTEN) from None
    yield keep.absolute()


def _prepare(folder: Path) -> Path:
    """Return a key and settings in `folder`; ConfigError when the device's packages are missing."""
    from spooler.devices.registry import load_handler
    from spooler.signing import keys

    load_handler(DEVICE, {})
    config = folder / "spooler.toml"
    config.write_text(_SETTINGS, encoding="utf-8")
    key = keys.generate()
    (folder / "keys").mkdir()
    keys.write_file(key, folder / "keys" / "backend.jwk")
    output.say(f"1. a folder with settings and a new key: {folder}, kid {key.kid}")
    return config


def _journey(storage: Submitter, alive: Callable[[], None]) -> bool:
    """Submit, wait, look, verify; whether everything came out as physics has it."""
    _until_announced(storage, alive)
    output.say(f"2. the daemon runs and has announced the device {DEVICE}")
    flop = storage.submit(DEVICE, _rabi())
    coin = storage.submit(DEVICE, _one_atom())
    wrong = storage.submit(DEVICE, _unknown_gate())
    output.say(f"3. three jobs are queued: {flop} {coin} {wrong}")
    states = {job: _ended(storage, job, alive) for job in (flop, coin, wrong)}
    good = states == {flop: "done", coin: "done", wrong: "error"}
    if states[flop] == "done":
        good &= _show_rabi(storage.result(DEVICE, flop))
    if states[coin] == "done":
        output.say("\n   one atom after a quarter turn: either state, half of the time")
        for line in result.lines(storage.result(DEVICE, coin)):
            output.say(f"   {line}")
    output.say(f"\n   a job with an unknown gate is refused: {_reason(storage, wrong)}\n")
    output.say("4. the signatures, checked with the announced public key")
    for job in (flop, coin):
        found = storage.verify(DEVICE, job)
        good &= found.ok
        output.say(output.plain(f"   {job} {'ok' if found.ok else 'NO'}: {found.detail}"))
    return good


def _until_announced(storage: Submitter, alive: Callable[[], None]) -> None:
    import time

    start = time.monotonic()
    with output.ticking("the daemon starts"):
        while not any(card.name == DEVICE for card in storage.devices()):
            if time.monotonic() - start > _PATIENCE:
                output.note(f"spooler: the daemon has announced nothing for {_PATIENCE:.0f} s")
                raise typer.Exit(exits.Exit.NOT_YET)
            alive()
            time.sleep(0.05)


def _ended(storage: Submitter, job: str, alive: Callable[[], None]) -> str:
    """Return the last state of `job`."""
    with output.ticking(f"{job} waits") as tell:

        def show(status: Status) -> None:
            tell(f"{job} {status.state} {status.reason}".rstrip())
            if not status.state.ended:
                alive()

        last = session.follow(storage, DEVICE, job, timeout=_PATIENCE, tell=show)
    if last is None:
        output.note(f"spooler: the job {job} has not ended within {_PATIENCE:.0f} s")
        raise typer.Exit(exits.Exit.NOT_YET)
    return last.state.value


def _reason(storage: Submitter, job: str) -> str:
    return output.plain(storage.status(DEVICE, job).reason)


def _experiment(instructions: list[Any], seed: int) -> dict[str, Any]:
    return {
        "instructions": [*instructions, ["measure", [0], []]],
        "num_wires": 1,
        "shots": _SHOTS,
        "wire_order": "interleaved",
        "seed": seed,
    }


def _angle(at: int) -> float:
    return 2 * math.pi * at / (_ANGLES - 1)


def _rabi() -> dict[str, Any]:
    """A Rabi flop: `_ATOMS` atoms turned by angles from 0 to 2 pi."""
    load = ["load", [0], [_ATOMS]]
    return {
        f"experiment_{at}": _experiment([load, ["rlx", [0], [_angle(at)]]], at)
        for at in range(_ANGLES)
    }


def _one_atom() -> dict[str, Any]:
    return {"experiment_0": _experiment([["rlx", [0], [math.pi / 2]]], 1)}


def _unknown_gate() -> dict[str, Any]:
    return {"experiment_0": _experiment([["teleport", [0], [1.0]]], 1)}


def _show_rabi(found: Result) -> bool:
    """Draw measured means beside N sin^2(angle / 2); whether all are within five sigma."""
    output.say(f"\n   a Rabi flop: {_ATOMS} atoms turned by an angle, {_SHOTS} shots each")
    good = True
    for at, (_, shots) in enumerate(result.experiments(found.data)):
        measured, share = histogram.mean(shots) or 0.0, math.sin(_angle(at) / 2) ** 2
        sigma = math.sqrt(_ATOMS * share * (1 - share) / _SHOTS)
        good &= abs(measured - _ATOMS * share) <= 5 * sigma + 1e-9
        drawn = histogram.bar(measured / _ATOMS, 40, blocks=result.draws_blocks())
        turn = f"{_angle(at) / math.pi:.2f} pi"
        output.say(f"   {turn} {drawn} {measured:6.2f}  theory {_ATOMS * share:6.2f}")
    return good


def _left_over(folder: Path) -> str:
    """Return how many reports the daemon has left undelivered."""
    waiting = len(list((folder / "spooler-state").glob("records/*/*/[!.]*.json")))
    return f"with {waiting} reports undelivered" if waiting else "with every report delivered"
