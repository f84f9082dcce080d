"""Every option of spooler, typed, and where it comes from."""

from spooler.settings.load import find, from_tree, load
from spooler.settings.model import (
    DaemonSettings,
    DeviceSettings,
    LogSettings,
    Settings,
    SigningSettings,
    WindowSettings,
)

__all__ = [
    "DaemonSettings",
    "DeviceSettings",
    "LogSettings",
    "Settings",
    "SigningSettings",
    "WindowSettings",
    "find",
    "from_tree",
    "load",
]
