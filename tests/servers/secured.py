"""A server as labs have them in a cloud: encrypted, and with users.

`boss` may everything and logs in with a password; the certificate `client` is a user too, the
certificate `guest` is one of the same authority that nobody has made a user.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pymongo

from tests.servers.certificates import certificate
from tests.servers.mongodb import MongoServer

PASSWORD = "s3cr/e+t@%41"  # noqa: S105 - of throw-away servers


@dataclass(frozen=True)
class Secured:
    """The server, and the folder with the certificates."""

    server: MongoServer
    folder: Path

    @property
    def port(self) -> int:
        return self.server.port

    @property
    def authority(self) -> str:
        return str(self.folder / "lab-ca.crt")

    def file(self, name: str) -> str:
        return str(self.folder / name)

    @contextmanager
    def administrator(self) -> Iterator[pymongo.MongoClient[dict[str, Any]]]:
        with pymongo.MongoClient(
            self.server.uri,
            username="boss",
            password=PASSWORD,
            tls=True,
            tlsCAFile=self.authority,
            tlsCertificateKeyFile=self.file("client.pem"),
            tz_aware=True,
        ) as client:
            yield client


@contextmanager
def secured(folder: Path, *, certificates_asked: bool = False) -> Iterator[Secured]:
    """Start one; with `certificates_asked` it talks to nobody without a certificate."""
    lab = certificate(folder, "lab-ca", None)
    for name in ("server", "client", "guest"):
        certificate(folder, name, lab)
    certificate(folder, "stranger", certificate(folder, "other-ca", None))
    server = MongoServer()
    try:
        server.start()
        server.client.admin.command("createUser", "boss", pwd=PASSWORD, roles=["root"])
        server.client["$external"].command(
            "createUser",
            "CN=client",
            mechanisms=["MONGODB-X509"],
            roles=[{"role": "root", "db": "admin"}],
        )
        server.kill()
        server.options = (
            *("--auth", "--tls-cert-file", str(folder / "server.crt")),
            *("--tls-key-file", str(folder / "server.key")),
            *("--tls-ca-file", str(folder / "lab-ca.crt")),
            *(("--tls-require-client-cert",) if certificates_asked else ()),
        )
        server.start()
        yield Secured(server, folder)
    finally:
        server.close()
