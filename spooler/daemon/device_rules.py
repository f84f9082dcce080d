"""What the daemon knows about one device: settings that may change while it runs."""

from __future__ import annotations

from dataclasses import dataclass

from spooler.daemon.schedule.windows import Window
from spooler.errors import ConfigError
from spooler.model.device import DeviceCard, Rerun


@dataclass(frozen=True, slots=True)
class DeviceRules:
    """The rules for one device; a reload replaces the whole value. Times in seconds."""

    name: str
    timeout: float = 600.0
    rerun: Rerun = Rerun.IF_NOT_STARTED
    max_attempts: int = 3
    poll_interval: float = 1.0
    windows: tuple[Window, ...] = ()
    #: Whether it takes no jobs after a calibration that failed, until one succeeds.
    rests_uncalibrated: bool = False
    description: str | None = None
    simulator: bool | None = None
    #: Whether there is a key that its results are signed with.
    signs: bool = True

    def demand_key(self, card: DeviceCard) -> None:
        """Raise ConfigError for a handler that asks for signed results, which nobody can sign."""
        if card.properties.get("sign") is True and not self.signs:
            raise ConfigError(
                f"device {self.name} asks for signed results (sign = True), but no signing "
                "key is configured; set key in [signing], or PRIVATE_JWK_STR in the environment or "
                "in .env beside the settings, or take sign = True away"
            )

    def dressed(self, card: DeviceCard) -> DeviceCard:
        """Return the handler's card with what the settings say in place of it."""
        return DeviceCard(
            self.name,
            card.version,
            self.description if self.description is not None else card.description,
            self.simulator if self.simulator is not None else card.simulator,
            card.properties,
        )
