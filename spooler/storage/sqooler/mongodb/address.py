"""Where a MongoDB server is and how to log in there; nothing is imported that could connect."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import parse_qsl, unquote_plus

from spooler.errors import ConfigError
from spooler.storage.settings import SqoolerMongodbSettings
from spooler.storage.sqooler.client.documents import MongodbLoginInformation

_SCHEME = re.compile(r"mongodb(\+srv)?://")
#: A name that stands for a cluster has no port, and is no list.
_NO_CLUSTER = re.compile(r"[^A-Za-z0-9._-]")
#: Options of a URI that let another member than the primary answer, or an older state be read.
_READS = re.compile(
    r"(readPreference|readPreferenceTags|maxStalenessSeconds|readConcernLevel)=", re.I
)
_NO_HOST = re.compile(r"[^A-Za-z0-9.:,_\[\]-]")


@dataclass(frozen=True, slots=True, kw_only=True)
class MongoAddress:
    """Where a server is and how to log in there. Times in seconds.

    Either a whole `uri`, or `host` alone, which stands for `mongodb+srv://host`. `user` and
    `password` go before those in the URI and are taken as they are, without %-escapes.
    `prefix` goes before the name of each database, so that several labs share one server.
    """

    uri: str = field(default="", repr=False)
    host: str = ""
    user: str = ""
    password: str = field(default="", repr=False)
    auth_mechanism: str = ""
    auth_source: str = ""
    tls: bool | None = None
    tls_ca_file: str = ""
    tls_certificate_file: str = ""
    connect_timeout: float = 5.0
    operation_timeout: float = 10.0
    prefix: str = ""

    @classmethod
    def of_login(cls, login: MongodbLoginInformation, prefix: str = "") -> MongoAddress:
        """Return what sqooler's users have: name and password as they would stand in a URI."""
        url = login.mongodb_database_url.strip()
        whole = _SCHEME.match(url) is not None
        return cls(
            uri=url if whole else "",
            host="" if whole else url,
            user=unquote_plus(login.mongodb_username),
            password=unquote_plus(login.mongodb_password),
            prefix=prefix,
        )

    @classmethod
    def of_settings(cls, settings: SqoolerMongodbSettings) -> MongoAddress:
        """Return what the section [storage] says."""
        uri, password = settings.uri, settings.password
        return cls(
            uri="" if uri is None else uri.get_secret_value(),
            host=settings.host or "",
            user=settings.user or "",
            password="" if password is None else password.get_secret_value(),
            auth_mechanism=settings.auth_mechanism or "",
            auth_source=settings.auth_source or "",
            tls=settings.tls,
            tls_ca_file=_file(settings.tls_ca_file),
            tls_certificate_file=_file(settings.tls_certificate_file),
            connect_timeout=settings.connect_timeout,
            operation_timeout=settings.operation_timeout,
            prefix=settings.prefix,
        )

    @property
    def shown(self) -> str:
        """The host, for people."""
        # After the last @, wherever it is: a password that was not escaped is not shown either.
        rest = _SCHEME.sub("", self.uri or self.host).rpartition("@")[2]
        return _NO_HOST.sub("", re.split(r"[/?]", rest)[0]) or "(no host)"

    @property
    def public(self) -> str:
        """Which storage this is: the same for everybody who names the same hosts and prefix."""
        hosts = {each.lower().removesuffix(":27017") for each in self.shown.split(",")}
        return f"mongodb://{','.join(sorted(hosts))}/{self.prefix}"

    @property
    def anonymous(self) -> bool:
        """Return whether nothing says who logs in."""
        return not self.user and not self.by_certificate and "@" not in self.uri

    @property
    def _lacks_password(self) -> bool:
        """Return whether a name is all that there is of a login that takes a password."""
        elsewhere = "@" in self.uri or "authmechanism" in self._options()
        return bool(self.user) and not (self.password or self.by_certificate or elsewhere)

    @property
    def by_certificate(self) -> bool:
        """Return whether the login is the certificate (X.509), and no password."""
        said = self.auth_mechanism or self._options().get("authmechanism", "")
        return said == "MONGODB-X509"

    @property
    def certificate(self) -> str:
        """The file with our own certificate; empty when there is none."""
        return self.tls_certificate_file or self._options().get("tlscertificatekeyfile", "")

    def _options(self) -> dict[str, str]:
        """Return what the URI says behind its question mark, the names in small letters."""
        return {name.lower(): text for name, text in parse_qsl(self.uri.partition("?")[2])}

    def secrets(self) -> list[str]:
        """Return what must not be shown."""
        in_uri = _SCHEME.sub("", self.uri).rpartition("@")[0].partition(":")[2]
        return [each for each in (self.password, in_uri, unquote_plus(in_uri)) if each]

    def _demand_privacy(self) -> None:
        """Raise ConfigError where a password would cross a network for everybody to read."""
        options = self._options()
        encrypted = options.get("tls", options.get("ssl", "")).lower()
        chosen = self.tls is not None or encrypted == "false"
        if chosen or encrypted == "true" or self.uri.startswith("mongodb+srv:"):
            return
        hosts = self.shown.split(",")
        if not all(map(_HOST.match, hosts)):
            return  # the driver says what is wrong with it
        if self.by_certificate or self.anonymous or all(map(_here, hosts)):
            return
        raise ConfigError(
            f"the password for MongoDB at {self.shown} would be sent unencrypted; set tls = true, "
            "or tls = false to allow it on a trusted network"
        )

    def full_uri(self) -> str:
        """Return the URI to connect to; ConfigError when there is none, or half a login for it."""
        if self._lacks_password:
            raise ConfigError(
                f"the MongoDB user {self.user!r} has no password; give it in the environment as "
                "SPOOLER_STORAGE__PASSWORD or as a systemd credential spooler.storage.password"
            )
        if self.password and self.anonymous:
            raise ConfigError("there is a password for MongoDB and no user; name the user")
        if self.by_certificate and not self.certificate:
            raise ConfigError(
                "MONGODB-X509 logs in by a certificate and none is named; name the PEM file with "
                "it and its key in tls_certificate_file"
            )
        if self.uri:
            if not _SCHEME.match(self.uri):
                raise ConfigError(
                    "the MongoDB address is not a URI: it must look like mongodb://HOST:27017/ or "
                    "mongodb+srv://HOST/"
                )
            self._demand_privacy()
            return _without_reads(self.uri)
        if _SCHEME.match(self.host):
            raise ConfigError(
                "the MongoDB host is a whole URI; give it as uri, or the name alone as host"
            )
        if not self.host or _NO_CLUSTER.search(self.host):
            raise ConfigError(
                f"the MongoDB host {self.shown!r} is not usable; give the name alone, as in "
                "cluster0.abc.mongodb.net, or where there is no such name a whole uri, as in "
                "mongodb://HOST:27017/"
            )
        return f"mongodb+srv://{self.host}/"


_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(:\d+)?\Z")


def _here(host: str) -> bool:
    """Whether a host is this machine, perhaps by a socket file: then nothing crosses a network."""
    name = host.rpartition(":")[0] if re.search(r":\d+\Z", host) else host
    name = name.strip("[]").lower()
    if name == "localhost" or name.startswith("%2f") or name.endswith(".sock"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False  # the name of another machine, and be it 127.example.org


def _without_reads(uri: str) -> str:
    """Return the URI without what it says on how to read: that is ours to say, see `connect`."""
    before, mark, options = uri.partition("?")
    kept = [each for each in re.split("[&;]", options) if not _READS.match(each)]
    return f"{before}{mark}{'&'.join(kept)}" if kept else before


def _file(path: Path | None) -> str:
    return "" if path is None else str(path)
