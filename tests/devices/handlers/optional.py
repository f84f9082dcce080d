"""A handler with all optional methods, and a strict model."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from spooler.protocols import JobContext


class Wanted(BaseModel):
    x: int


class Full:
    params = Wanted

    def open(self) -> None: ...

    def close(self) -> None: ...

    def run(self, params: Wanted, context: JobContext) -> Any:
        return {"x": params.x}

    def dry_run(self, params: Wanted, context: JobContext) -> Any:
        return {"would": params.x}

    def calibrate(self, context: JobContext) -> None:
        context.progress("calibrating")
        (context.scratch / "fit.txt").write_text("1")


class Uncalibrated(Full):
    """Says so, and raises nothing."""

    def calibrate(self, context: JobContext) -> bool:  # type: ignore[override]
        return False
