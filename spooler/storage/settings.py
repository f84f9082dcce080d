"""Where the jobs live, as it is written in the settings: one model per type of storage.

A new storage adds its model here and its place in `open_backend`. Everything is chosen by the
key `type`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    SecretStr,
    ValidationInfo,
    model_validator,
)

from spooler.storage.units import Duration

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

    type: Literal["sqooler-local"] = Field(description="kind of storage")
    path: FolderPath = Field(description="the folder; relative paths start at the settings file")
    name: StorageName = Field(
        default="local", description="name of the storage, part of full device names"
    )
    fsync: Flag = Field(
        default=True,
        description="if false, a power cut may lose recent writes",
    )
    upload_pause: Duration = Field(
        default=30.0,
        ge=0.1,
        description="seconds that an upload may pause; after them, an incomplete job fails",
    )


class SqoolerMongodbSettings(BaseModel):
    """A MongoDB server in the format of sqooler's MongoDB storage."""

    model_config = STRICT

    type: Literal["sqooler-mongodb"] = Field(description="kind of storage")
    uri: SecretStr | None = Field(
        default=None,
        examples=["mongodb://localhost:27017/?replicaSet=rs0"],
        description="connection URI of the server, without the password (see `password`)",
    )
    host: str | None = Field(
        default=None,
        examples=["cluster0.abc.mongodb.net"],
        description="alternative to `uri`, as in sqooler: stands for mongodb+srv://HOST/",
    )
    user: str | None = Field(
        default=None, examples=["spooler"], description="user name, without %-escapes"
    )
    password: SecretStr | None = Field(
        default=None,
        examples=["..."],
        description="better in SPOOLER_STORAGE__PASSWORD, or a credential spooler.storage.password",
    )
    auth_mechanism: Literal["SCRAM-SHA-256", "SCRAM-SHA-1", "MONGODB-X509"] | None = Field(
        default=None,
        examples=["SCRAM-SHA-256"],
        description="authentication mechanism; default: negotiated with the server",
    )
    auth_source: str | None = Field(
        default=None, examples=["admin"], description="database in which the user is defined"
    )
    tls: Flag | None = Field(
        default=None,
        examples=[True],
        description="encrypt the connection; default: what the URI says, and always for a `host`",
    )
    tls_ca_file: FolderPath | None = Field(
        default=None,
        examples=["tls/ca.pem"],
        description="CA file for the server certificate; default: system CAs",
    )
    tls_certificate_file: FolderPath | None = Field(
        default=None,
        examples=["tls/spooler.pem"],
        description="PEM file with the client certificate and its key, if the server requires one",
    )
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{0,32}$")] = Field(
        default="",
        description="prefix of all database names, for labs that share a server; sqooler has none",
    )
    name: StorageName = Field(
        default="mongodb", description="name of the storage, part of full device names"
    )
    connect_timeout: Duration = Field(
        default=5.0, ge=0.1, description="seconds that connecting to one server may take"
    )
    operation_timeout: Duration = Field(
        default=10.0,
        ge=0.1,
        description="seconds for one request, including the search for a server",
    )

    @model_validator(mode="after")
    def _one_server(self) -> SqoolerMongodbSettings:
        if (self.uri is None) == (self.host is None):
            raise ValueError("has neither or both of 'uri' and 'host'; give exactly one")
        return self


class SqliteSettings(BaseModel):
    """A database file on this machine, for daemons and submitters of one host."""

    model_config = STRICT

    type: Literal["sqlite"] = Field(description="kind of storage")
    path: FolderPath = Field(
        examples=["spooler.db"],
        description="the database file, on a local disk; relative paths start at the settings file",
    )
    name: StorageName = Field(
        default="sqlite", description="name of the storage, part of full device names"
    )
    fsync: Flag = Field(default=True, description="if false, a power cut may lose recent writes")


class MemorySettings(BaseModel):
    """A storage that lives as long as the process: for trying things out."""

    model_config = STRICT

    type: Literal["memory"] = Field(description="kind of storage")
    name: StorageName = Field(
        default="memory", description="name of the storage, part of full device names"
    )


StorageSettings: TypeAlias = Annotated[
    SqoolerLocalSettings | SqoolerMongodbSettings | SqliteSettings | MemorySettings,
    Discriminator("type"),
]

#: The models by the `type` that chooses them.
STORAGES: dict[str, type[BaseModel]] = {
    get_args(model.model_fields["type"].annotation)[0]: model
    for model in get_args(get_args(StorageSettings)[0])
}
