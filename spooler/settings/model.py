"""Every option of spooler, typed. Descriptions here are what `spooler config schema` shows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema

from spooler.errors import ConfigError, KeyElsewhere
from spooler.model.device import Rerun
from spooler.settings.cron import checked
from spooler.settings.units import Duration, Size
from spooler.storage.settings import FolderPath, StorageSettings

_STRICT = ConfigDict(frozen=True, extra="forbid", validate_default=True)

Flag = Annotated[bool, Field(strict=True)]
Count = Annotated[int, Field(strict=True, ge=1, le=1000)]
DeviceName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=64)]
FeedName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=64)]


def _a_handlers(name: str) -> str:
    if name in _DAEMONS or name.startswith("SPOOLER_"):
        raise ValueError(f"{name} belongs to the daemon, and no handler gets it")
    return name


#: Where systemd keeps the credentials of each service that runs; only root can look.
SERVICES = Path("/run/credentials")

_DAEMONS = frozenset({"PRIVATE_JWK_STR", "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET"})
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$"), AfterValidator(_a_handlers)]
#: What the storage is called that the section [storage] names.
SHORT_FORM = "storage"

#: A sqooler client calls a device offline when it was not announced for 300 s.
_OFFLINE_AFTER = 240.0


def _timezone(name: str) -> str:
    try:
        if name != "UTC":  # known even where the system has no time zone database
            ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        if not available_timezones():
            raise ValueError(
                f"{name!r} cannot be looked up: this machine has no time zone database; install "
                "the package tzdata (apt install tzdata, pip install tzdata)"
            ) from None
        raise ValueError(
            f'expected the name of a time zone such as "UTC" or "Europe/Berlin", and got {name!r}'
        ) from None
    return name


class DaemonSettings(BaseModel):
    """How the daemon behaves towards all devices."""

    model_config = _STRICT

    poll_interval: Duration = Field(
        default=1.0, ge=0.01, description="seconds between two looks at an empty queue"
    )
    lease: Duration = Field(
        default=30.0, ge=1.0, description="seconds after which a silent daemon's job is taken over"
    )
    grace: Duration = Field(
        default=30.0, description="seconds that running jobs may take to end at shutdown"
    )
    announce_interval: Duration = Field(
        default=10.0,
        ge=1.0,
        le=_OFFLINE_AFTER,
        description="seconds between two announcements of a device",
    )
    recovery_interval: Duration = Field(
        default=10.0, ge=0.1, description="seconds between two looks for jobs of dead daemons"
    )
    max_payload: Size = Field(default=4 * 2**20, description="maximum size of a job in bytes")


class SigningSettings(BaseModel):
    """Which key signs the results. Without `key` and `credential` nothing is signed."""

    model_config = _STRICT

    key: FolderPath | None = Field(
        default=None,
        examples=["keys/backend.jwk"],
        description="file with the private JWK; make one: spooler keys generate keys/backend.jwk",
    )
    credential: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")] | None = Field(
        default=None,
        examples=["backend.jwk"],
        description="in place of a key file: the systemd credential that holds the private JWK",
    )
    required: Flag = Field(default=False, description="refuse to run without a key")
    #: PRIVATE_JWK_STR, as sqooler users have it: urlsafe base64 of the JWK. Environment only.
    private_jwk: SkipJsonSchema[SecretStr | None] = None
    #: The file `.env` beside the settings, where that holds a PRIVATE_JWK_STR.
    dotenv: SkipJsonSchema[Path | None] = None
    #: $CREDENTIALS_DIRECTORY.
    credentials_folder: SkipJsonSchema[Path | None] = None

    @model_validator(mode="after")
    def _one_source(self) -> SigningSettings:
        if self.key is not None and self.credential is not None:
            raise ValueError("has both 'key' and 'credential'; keep one of them")
        return self

    def source(self) -> Path | SecretStr | None:
        """The key file, or the text of PRIVATE_JWK_STR, or None when nothing is to be signed.

        A credential goes before the environment, the environment before a key file, and that
        before `.env`.
        Raises ConfigError when a key is required or a credential named, and there is none.
        """
        if self.credential is not None:
            return self._folder_of(self.credential) / self.credential
        if self.private_jwk is not None:
            return self.private_jwk
        if self.key is None and self.dotenv is not None:
            return self.dotenv
        if self.key is None and self.required:
            raise ConfigError(
                "[signing] says required = true and names no key; make one with"
                " 'spooler keys generate keys/backend.jwk' and set key = \"keys/backend.jwk\""
            )
        return self.key

    def _folder_of(self, credential: str) -> Path:
        """Where the credentials are: of this process, or for root of the one service that runs."""
        if self.credentials_folder is not None:
            return self.credentials_folder
        found = [each.parent for each in SERVICES.glob(f"*/{credential}")]
        if len(found) == 1:
            return found[0]
        raise KeyElsewhere(
            f"the signing key is the systemd credential {credential!r}, and there are no"
            " credentials here; start spooler as a service with"
            f" LoadCredential={credential}:/path/of/the/key; for a command beside the service, set"
            " CREDENTIALS_DIRECTORY to the folder of the key, or be root while the service runs"
        )


class LogSettings(BaseModel):
    """What is logged, and how it looks."""

    model_config = _STRICT

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="the least important level that is logged"
    )
    format: Literal["auto", "console", "json"] = Field(
        default="auto", description="auto: readable on a terminal, JSON lines otherwise"
    )


class WindowSettings(BaseModel):
    """A time in which a device takes no jobs."""

    model_config = _STRICT

    kind: Literal["maintenance", "calibration"] = Field(
        description="maintenance: only rest; calibration: the handler's calibrate() runs"
    )
    cron: Annotated[str, AfterValidator(checked)] = Field(
        description="when it starts: minute hour day month weekday (0, 7 or sun: Sunday)"
    )
    duration: Duration = Field(gt=0, description="seconds it lasts; the most calibration may take")
    note: str = Field(default="", description="what users are shown meanwhile")
    timezone: Annotated[str, AfterValidator(_timezone)] = Field(
        default="UTC", description="time zone of cron"
    )


class QueueSettings(BaseModel):
    """A queue that a device serves."""

    model_config = _STRICT

    queue: Annotated[str, Field(min_length=1, max_length=400)] = Field(
        description='name of a storage, or "storage:queue" where it is not called like the device'
    )
    priority: Annotated[int, Field(strict=True, ge=-100, le=100)] = Field(
        default=0, description="larger goes first; equals take turns"
    )

    @property
    def storage(self) -> str:
        """The name of the storage."""
        return self.queue.partition(":")[0]

    def name(self, device: str) -> str:
        """Return what the queue of this device is called in the storage."""
        return self.queue.partition(":")[2] or device


def _queue(value: object) -> object:
    """A queue may be given as a text alone."""
    return {"queue": value} if isinstance(value, str) else value


class DeviceSettings(BaseModel):
    """One device and the handler that drives it."""

    model_config = _STRICT

    handler: Annotated[str, Field(min_length=1)] = Field(
        description='name of a handler (see "spooler check"), or "module:Name"'
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="keyword arguments of the handler"
    )
    enabled: Flag = Field(default=True, description="false: neither announced nor served")
    isolation: Literal["process", "thread"] = Field(
        default="process",
        description="process: a hung handler can be killed; thread: it cannot",
    )
    open_timeout: Duration = Field(
        default=60.0, gt=0, description="seconds that connecting to the instrument may take"
    )
    timeout: Duration = Field(default=600.0, gt=0, description="seconds that one job may run")
    grace: Duration = Field(
        default=5.0, description="seconds between asking a job to stop and stopping it by force"
    )
    rerun: Rerun = Field(
        default=Rerun.IF_NOT_STARTED,
        description="re-run a job after its daemon died: never, if-not-started, always",
    )
    max_attempts: Count = Field(default=3, description="attempts after which a job is given up")
    max_output: Size = Field(default=16 * 2**20, description="bytes that one result may have")
    memory_limit: Size | None = Field(
        default=None,
        examples=["2 GiB"],
        description="bytes of memory of the handler's process; without it: no limit",
    )
    env: dict[Variable, SecretStr] = Field(
        default_factory=dict,
        examples=[{"FRIDGE_PORT": "/dev/ttyUSB0"}],
        description="environment variables for the handler, besides PATH, LANG and the like",
    )
    inherit_env: tuple[Variable, ...] = Field(
        default=(),
        examples=[["VISA_HOME"]],
        description="environment variables of the daemon to pass on, by name",
    )
    recycle_after: Count | None = Field(
        default=None,
        examples=[1000],
        description="restart the handler's process after so many jobs; default: never",
    )
    description: str | None = Field(
        default=None,
        examples=["the simulator in room 2.014"],
        description="overrides the handler's description",
    )
    simulator: Flag | None = Field(
        default=None,
        examples=[True],
        description="overrides the handler's simulator flag",
    )
    queues: tuple[Annotated[QueueSettings, BeforeValidator(_queue)], ...] = Field(
        default=(),
        examples=[["storage", {"queue": "storage:other", "priority": 1}]],
        description="served in turn: storage, or storage:queue; default: its own name everywhere",
    )
    windows: tuple[WindowSettings, ...] = Field(
        default=(), description="times in which the device takes no jobs"
    )
    on_failed_calibration: Literal["rest", "go-on"] = Field(
        default="go-on",
        description="after a calibrate() that failed: rest until one succeeds, or go-on with jobs",
    )

    @model_validator(mode="after")
    def _limits_need_a_process(self) -> DeviceSettings:
        if self.memory_limit is not None and self.isolation == "thread":
            raise ValueError("has a 'memory_limit', which needs isolation = \"process\"")
        if (self.env or self.inherit_env) and self.isolation == "thread":
            raise ValueError("has an 'env' or 'inherit_env', which need isolation = \"process\"")
        if self.recycle_after is not None and self.isolation == "thread":
            raise ValueError("has a 'recycle_after', which needs isolation = \"process\"")
        return self


class Settings(BaseModel):
    """All settings of one daemon."""

    model_config = _STRICT

    state: FolderPath = Field(
        default=Path("spooler-state"),
        description="folder for what only this daemon has; relative to the settings file",
    )
    daemon: DaemonSettings = Field(default_factory=DaemonSettings)
    storage: StorageSettings | None = Field(
        default=None, description="where the jobs live, when that is one place"
    )
    storages: dict[FeedName, StorageSettings] = Field(
        default_factory=dict, description="where the jobs live, by name, when there are several"
    )
    signing: SigningSettings = Field(default_factory=SigningSettings)
    log: LogSettings = Field(default_factory=LogSettings)
    devices: dict[DeviceName, DeviceSettings] = Field(
        default_factory=dict, description="the devices, by name: letters, digits, - and _"
    )
    #: The file that these settings come from.
    file: SkipJsonSchema[Path | None] = None

    @model_validator(mode="after")
    def _known_queues(self) -> Settings:
        if self.storage is not None and self.storages:
            raise ValueError(
                "there are both [storage] and [storages.NAME]; keep [storage] for one storage, or"
                " give each a name"
            )
        if self.storage is None and not self.storages:
            raise ValueError(
                "there is no [storage] section; say where the jobs live, for instance"
                ' type = "sqooler-local" and path = "./storage"'
            )
        taken: dict[tuple[str, str], str] = {}
        for device, settings in self.devices.items():
            for each in settings.queues:
                if each.storage not in self.feeds():
                    known = ", ".join(self.feeds())
                    raise ValueError(
                        f"[devices.{device}] queues: there is not a storage {each.storage!r};"
                        f" known are {known}"
                    )
            for queue in self.queues_of(device):
                where = queue.storage, queue.name(device)
                if where in taken:
                    raise ValueError(
                        f"[devices.{device}] serves {where[0]}:{where[1]}, and so does"
                        f" [devices.{taken[where]}]; give each device queues of its own"
                    )
                taken[where] = device
        return self

    def feeds(self) -> dict[str, StorageSettings]:
        """Return the storages by name; the one of the short form is called "storage"."""
        return self.storages if self.storage is None else {SHORT_FORM: self.storage}

    def queues_of(self, device: str) -> tuple[QueueSettings, ...]:
        """Return the queues that a device serves, in the order of the settings."""
        given = self.devices[device].queues
        return given or tuple(QueueSettings(queue=name) for name in self.feeds())

    def enabled_devices(self) -> dict[str, DeviceSettings]:
        """Return the devices that are served, by name."""
        return {name: device for name, device in self.devices.items() if device.enabled}
