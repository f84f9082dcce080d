"""`spooler devices`: who is there."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from spooler.cli import exits, options, output, session
from spooler.errors import UnknownDevice

if TYPE_CHECKING:
    from spooler.model.device import DeviceCard


def devices(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[DEVICE]...", help="Only these devices.", show_default=False),
    ] = None,
    *,
    config: options.Config = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Exit with 1 if a device is unhealthy.", show_default=False),
    ] = False,
    max_age: Annotated[
        str, typer.Option("--max-age", metavar="TIME", help="Healthy: seen within this time.")
    ] = "5m",
    max_waiting: Annotated[
        int | None,
        typer.Option("--max-waiting", metavar="N", min=0, help="Healthy: at most N jobs waiting."),
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """List the announced devices, and when each was last seen.

    With --check for a monitor: each device says what is wrong with it, if anything is.
    """
    limits = Limits(session.parsed(max_age, "--max-age"), max_waiting)
    with session.submitter(config) as storage:
        cards = sorted(storage.devices(count=True), key=lambda card: card.name)
    cards = _chosen(cards, names or [])
    now = datetime.now(UTC)
    problems = {card.name: limits.problem(card, now) if check else "" for card in cards}
    if as_json:
        found = {card.name: {"problem": problems[card.name]} if check else {} for card in cards}
        output.as_json([_document(card) | found[card.name] for card in cards])
    elif cards:
        head: tuple[str, ...] = ("device", "version", "kind", "waiting", "last seen", "description")
        lines = [_line(card, now) for card in cards]
        if check:
            head = ("check", *head)
            lines = [(problems[line[0]] or "ok", *line) for line in lines]
        output.rows(head, lines)
    else:
        output.note("no device is announced yet; start one with: spooler run")
    if check and (not cards or any(problems.values())):
        raise typer.Exit(exits.Exit.NO)


@dataclass(frozen=True, slots=True)
class Limits:
    """When a device is well: seconds since it was seen, and jobs that wait, at most."""

    age: float
    waiting: int | None = None

    def problem(self, card: DeviceCard, now: datetime) -> str:
        """Return what is wrong with a device; "" when nothing is."""
        if card.last_seen is None:
            return "offline"
        past = (now - card.last_seen).total_seconds()
        if not -output.CLOCKS_DIFFER <= past <= self.age:
            return "offline"
        if self.waiting is not None and (card.pending is None or card.pending > self.waiting):
            return "too many waiting"
        return ""


def _chosen(cards: list[DeviceCard], names: list[str]) -> list[DeviceCard]:
    known = {card.name for card in cards}
    for name in names:
        if name not in known:
            listed = ", ".join(sorted(known)) or "none"
            raise UnknownDevice(f"device {name!r} is not announced; announced devices: {listed}")
    return [card for card in cards if not names or card.name in names]


def _document(card: DeviceCard) -> dict[str, object]:
    return {
        "name": card.name,
        "version": card.version,
        "description": card.description,
        "simulator": card.simulator,
        "pending": card.pending,
        "note": card.note,
        "last_seen": card.last_seen.isoformat() if card.last_seen else None,
        "properties": card.properties,
    }


def _line(card: DeviceCard, now: datetime) -> tuple[str, ...]:
    waiting = "?" if card.pending is None else str(card.pending)
    text = "; ".join(part.rstrip(".") for part in (card.description, card.note) if part)
    kind = "simulator" if card.simulator else "hardware"
    return card.name, card.version, kind, waiting, output.age(card.last_seen, now), text
