"""Where the jobs live, as it is written in the settings: one model per type of storage.

A new storage adds its model here and its place in `open_backend`. Everything is chosen by the
key `type`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, ValidationInfo

STRICT = ConfigDict(frozen=True, extra="forbid", validate_default=True)


def _from_folder(path: Path, info: ValidationInfo) -> Path:
    """Relative paths start at the folder of the settings file, never at the working folder."""
    path = path.expanduser()
    folder = (info.context or {}).get("folder")
    return path if folder is None else Path(folder) / path


FolderPath = Annotated[Path, AfterValidator(_from_folder)]

#: What sqooler allows as the name of a storage.
StorageName = Annotated[str, Field(pattern=r"^[a-z0-9]+$", max_length=64)]
Flag = Annotated[bool, Field(strict=True)]


class SqoolerLocalSettings(BaseModel):
    """A folder in the format of sqooler's local storage."""

    model_config = STRICT

    type: Literal["sqooler-local"] = Field(description="which storage this is")
    path: FolderPath = Field(description="the folder; relative paths start at the settings file")
    name: StorageName = Field(default="local", description="the storage's name in device names")
    fsync: Flag = Field(
        default=True,
        description="survive a power cut; without it only a killed process is survived",
    )


class MemorySettings(BaseModel):
    """A storage that lives as long as the process: for trying things out."""

    model_config = STRICT

    type: Literal["memory"] = Field(description="which storage this is")
    name: StorageName = Field(default="memory", description="the storage's name in device names")


StorageSettings: TypeAlias = Annotated[SqoolerLocalSettings | MemorySettings, Discriminator("type")]
