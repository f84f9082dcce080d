"""Tells the service manager how we are: systemd's datagrams over $NOTIFY_SOCKET (sd_notify(3)).

Outside a service nothing happens. Nothing here raises or waits: a service manager that does not
listen is no reason to stop a measurement.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping


class ServiceManager:
    """The way to the service manager that started this process, if one did."""

    def __init__(self, address: str = "", *, watchdog: float | None = None) -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        #: Seconds within which `alive` has to be called again and again, or None.
        self.watchdog = watchdog

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> ServiceManager:
        """Return the one that `environ` tells of."""
        micros, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
        meant = micros.isdecimal() and pid in {"", str(os.getpid())}
        address = environ.get("NOTIFY_SOCKET", "")
        seconds = int(micros) / 1e6 if meant else 0.0
        return cls(address if address[:1] in {"/", "@"} else "", watchdog=seconds or None)

    def ready(self, status: str = "") -> bool:
        """The daemon serves (again, after `reloading`)."""
        return self._send("READY=1", *_status(status))

    def status(self, text: str) -> bool:
        """One line that `systemctl status` shows."""
        return self._send(*_status(text))

    def reloading(self) -> bool:
        """The settings are being read again; `ready` ends it."""
        return self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, status: str = "") -> bool:
        """The daemon has begun to end."""
        return self._send("STOPPING=1", *_status(status))

    def alive(self) -> bool:
        """The daemon still works; due more often than every `watchdog` seconds."""
        return self._send("WATCHDOG=1")

    def extend(self, seconds: float) -> bool:
        """Starting or stopping takes up to `seconds` more; be patient."""
        return self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def _send(self, *lines: str) -> bool:
        """Return whether the message went out; never raises, never waits."""
        if not self._address or not lines:
            return False
        with contextlib.suppress(OSError, ValueError):
            message = "\n".join(lines).encode("utf-8", "replace")
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as way:
                way.settimeout(0.0)
                way.connect(self._address)
                return way.send(message) == len(message)
        return False


def _status(text: str) -> list[str]:
    one_line = " ".join(text.split())
    return [f"STATUS={one_line}"] if one_line else []
