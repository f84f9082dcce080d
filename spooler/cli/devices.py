"""`spooler devices`: who is there."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from spooler.cli import options, output, session

if TYPE_CHECKING:
    from spooler.model.device import DeviceCard


def devices(*, config: options.Config = None, as_json: options.AsJson = False) -> None:
    """List the announced devices, and when each was last seen."""
    with session.submitter(config) as storage:
        cards = sorted(storage.devices(), key=lambda card: card.name)
    if as_json:
        output.as_json([_document(card) for card in cards])
    elif cards:
        now = datetime.now(UTC)
        head = ("device", "version", "kind", "waiting", "last seen", "description")
        output.rows(head, [_line(card, now) for card in cards])
    else:
        output.note("no device is announced yet; start one with: spooler run")


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
    text = "; ".join(part for part in (card.description, card.note) if part)
    kind = "simulator" if card.simulator else "hardware"
    return card.name, card.version, kind, waiting, _age(card.last_seen, now), text


#: Seconds that the clocks of two machines may differ without a word.
_CLOCKS_DIFFER = 60.0


def _age(seen: datetime | None, now: datetime) -> str:
    """`seen` as a person says it."""
    if seen is None:
        return "never"
    past = (now - seen).total_seconds()
    if past < -_CLOCKS_DIFFER:
        return "in the future"
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if past >= 2 * length:
            return f"{past / length:.0f} {unit} ago"
    return f"{max(past, 0):.0f} s ago"
