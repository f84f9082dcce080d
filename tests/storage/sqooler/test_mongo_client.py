"""How a server is named, reached and logged into; what is said when that fails."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote_plus

import pymongo
import pytest
from pymongo import ReadPreference
from pymongo.errors import NotPrimaryError, OperationFailure

from spooler.errors import BackendUnavailable, ConfigError
from spooler.storage.settings import SqoolerMongodbSettings
from spooler.storage.sqooler.client.documents import MongodbLoginInformation
from spooler.storage.sqooler.client.mongodb import (
    MongodbCore,
    MongodbProvider,
    MongodbProviderExtended,
)
from spooler.storage.sqooler.mongodb.address import MongoAddress
from spooler.storage.sqooler.mongodb.client import (
    LoginRefused,
    open_client,
    translated,
    unavailable,
)
from tests.servers.certificates import certificate
from tests.servers.mongodb import MongoServer
from tests.storage.sqooler.mongo_login import log_in

X = "a" * 24
SECRET = "s3cr/e+t@%41"  # noqa: S105 - of throw-away servers


# --- names -----------------------------------------------------------------------------------


def test_sqoolers_login_stands_for_an_srv_uri() -> None:
    said = ("lab%40home", "p%2Fw", "c0.abc.net")
    login = MongodbLoginInformation(
        mongodb_username=said[0], mongodb_password=said[1], mongodb_database_url=said[2]
    )
    address = MongoAddress.of_login(login)
    assert (address.user, address.password) == ("lab@home", "p/w")
    assert address.full_uri() == "mongodb+srv://c0.abc.net/"
    assert address.shown == "c0.abc.net"


def test_a_whole_uri_is_taken_as_it_is() -> None:
    login = MongodbLoginInformation(
        mongodb_username="", mongodb_password="", mongodb_database_url="mongodb://h:1/?tls=true"
    )
    with open_client(MongoAddress.of_login(login)) as client:
        assert client.options.pool_options._ssl_context is not None
        assert client.options.write_concern.document == {"w": "majority", "j": True}
        assert client.options.retry_writes
        assert client.options.timeout == 10.0
        assert client.options.server_selection_timeout == 10.0
        assert client.options.pool_options.connect_timeout == 5.0
        assert client.codec_options.tz_aware


def test_times_in_the_uri_go_before_ours() -> None:
    uri = "mongodb://h:1/?serverselectiontimeoutms=700&timeoutMS=800&w=0&tz_aware=false"
    with open_client(MongoAddress(uri=uri)) as client:
        assert client.options.server_selection_timeout == 0.7
        assert client.options.timeout == 0.8
        assert client.options.write_concern.document == {"w": "majority", "j": True}, "not that"


def test_the_settings_say_all_of_it() -> None:
    settings = SqoolerMongodbSettings.model_validate(
        {
            "type": "sqooler-mongodb",
            "host": "h",
            "user": "u",
            "password": SECRET,
            "auth_mechanism": "SCRAM-SHA-256",
            "auth_source": "labs",
            "prefix": "lab2_",
            "connect_timeout": "2s",
            "operation_timeout": 3,
        }
    )
    address = MongoAddress.of_settings(settings)
    assert address == MongoAddress(
        host="h",
        user="u",
        password=SECRET,
        auth_mechanism="SCRAM-SHA-256",
        auth_source="labs",
        prefix="lab2_",
        connect_timeout=2.0,
        operation_timeout=3.0,
    )


@pytest.mark.parametrize(
    "address",
    [
        MongoAddress(),
        MongoAddress(uri="http://h/"),
        MongoAddress(host="h/../x"),
        MongoAddress(uri=f"mongodb://u:{SECRET}@h:99999/"),
        MongoAddress(uri=f"mongodb://u:{SECRET}@h/"),
        MongoAddress(uri="mongodb://"),
        MongoAddress(uri="mongodb://h/?tls=true&tlsInsecure=x"),
        MongoAddress(uri="mongodb://h/", tls_ca_file="/nowhere/ca.pem"),
        MongoAddress(uri="mongodb://h/", tls=False, tls_ca_file="/nowhere/ca.pem"),
        MongoAddress(uri="mongodb://h/", auth_mechanism="MONGODB-X509", password=SECRET),
        MongoAddress(uri="mongodb://h/", auth_mechanism="NONSENSE"),
        MongoAddress(uri="mongodb://h/?tsl=true"),
    ],
)
def test_what_can_never_be_a_server_is_one_sentence(address: MongoAddress) -> None:
    with pytest.raises(ConfigError) as caught:
        open_client(address).close()
    said = str(caught.value)
    assert "\n" not in said
    for part in ("s3cr", "%41"):
        assert part not in said
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    "uri",
    [
        "mongodb://u:pw@h1:1,h2:2/db?x=y",
        "mongodb://u:p/w?x@h1:1,h2:2/db",
        "mongodb+srv://u:p@w@h1:1,h2:2",
    ],
)
def test_only_the_host_is_shown(uri: str) -> None:
    address = MongoAddress(uri=uri, password=SECRET)
    assert address.shown == "h1:1,h2:2"
    assert "p" not in address.shown
    assert SECRET not in repr(address)
    assert uri not in repr(address)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        (MongoAddress(host="Cluster0.abc.mongodb.net"), "mongodb://cluster0.abc.mongodb.net/"),
        (MongoAddress(uri=f"mongodb://u:{SECRET}@b:27017,a:1/x?tls=true"), "mongodb://a:1,b/"),
        (MongoAddress(uri="mongodb://a:1,B", password=SECRET, prefix="x_"), "mongodb://a:1,b/x_"),
    ],
)
def test_an_address_is_the_same_for_everybody(address: MongoAddress, public: str) -> None:
    assert address.public == public


def test_a_name_that_nobody_knows_is_an_outage() -> None:
    """Names come back: at the start of a lab's day its network may be slower than we are."""
    address = MongoAddress(host="no-such-host.invalid", connect_timeout=0.5, operation_timeout=0.5)
    with pytest.raises(BackendUnavailable, match=r"no-such-host\.invalid cannot be reached"):
        log_in(address)


@pytest.mark.parametrize("prefix", ["a.b", "a b", "x" * 33, "$"])
def test_a_prefix_that_no_database_can_have(prefix: str) -> None:
    with pytest.raises(ValueError, match="prefix"):
        MongodbCore(MongoAddress(uri="mongodb://h/", prefix=prefix), "lab")


def test_sqoolers_names(bare_mongodb: MongoServer) -> None:
    login = MongodbLoginInformation(
        mongodb_username="", mongodb_password="", mongodb_database_url=bare_mongodb.uri
    )
    with MongodbProvider(login) as provider:
        assert (provider.name, provider.is_active) == ("default", True)
        provider.upload({}, "jobs/running", X)
    assert bare_mongodb.client["jobs"]["running"].count_documents({}) == 1
    with MongodbProviderExtended(login, "lab", prefix="x_") as provider:
        assert provider.ids("jobs/running") == []
    with MongodbProviderExtended(login, "lab", False) as provider, pytest.raises(ValueError):
        provider.ids("jobs/running")


def test_a_server_that_is_not_there(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    address = MongoAddress(
        uri="mongodb://127.0.0.1:1/", user="u", password=SECRET, operation_timeout=0.2
    )
    with (
        open_client(address) as client,
        pytest.raises(BackendUnavailable) as caught,
        translated(address),
    ):
        client.admin.command("ping")
    said = str(caught.value)
    assert said.startswith("MongoDB at 127.0.0.1:1 cannot be reached (")
    assert "Connection refused" in said
    assert "Topology" not in said
    assert "s3cr" not in said + caplog.text


def test_a_lost_primary_is_told_whatever_error_carries_it() -> None:
    """The driver raises one of two errors for the same answer, as its monitor has it."""
    said = {"ok": 0, "errmsg": "shutting down", "code": 91}
    address = MongoAddress(uri="mongodb://localhost")
    for error in (NotPrimaryError("shutting down", said), OperationFailure("x", 91, said)):
        assert "has no primary" in str(unavailable(error, address))


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (MongoAddress(host="h", password=SECRET), SECRET),
        (MongoAddress(uri=f"mongodb://u:{SECRET}@h/"), SECRET),
        (MongoAddress(uri=f"mongodb://u:{quote_plus(SECRET)}@h/"), SECRET),
        (MongoAddress(uri=f"mongodb://u:{quote_plus(SECRET)}@h/"), quote_plus(SECRET)),
    ],
)
def test_a_driver_that_repeats_the_password_is_not_repeated(
    address: MongoAddress, text: str
) -> None:
    said = str(unavailable(OperationFailure(f"no user with {text} here", 2), address))
    assert text not in said
    assert said.startswith("MongoDB at h refuses: details withheld")


# --- login -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded(mongodb_server: MongoServer) -> Iterator[MongoServer]:
    """A server with users: `boss` may everything, `guest` may read."""
    if not mongodb_server.owned:
        pytest.skip("needs a server of its own")
    server = MongoServer()
    try:
        server.start()
        for name, roles in (("boss", ["root"]), ("guest", [{"role": "read", "db": "jobs"}])):
            server.client.admin.command("createUser", name, pwd=SECRET, roles=roles)
        server.kill()
        server.options = ("--auth",)
        server.start()
        yield server
    finally:
        server.close()


def test_a_login_that_is_right(guarded: MongoServer) -> None:
    log_in(MongoAddress(uri=guarded.uri, user="boss", password=SECRET))
    log_in(
        MongoAddress(uri=guarded.uri, user="boss", password=SECRET, auth_mechanism="SCRAM-SHA-256")
    )


@pytest.mark.parametrize(("user", "password"), [("boss", "wr0ng"), ("nobody", "wr0ng")])
def test_a_login_that_is_wrong(guarded: MongoServer, user: str, password: str) -> None:
    address = MongoAddress(uri=guarded.uri, user=user, password=password)
    with pytest.raises(LoginRefused, match=f"refuses the login of the user '{user}'"):
        log_in(address)
    with MongodbCore(address, "lab") as core, pytest.raises(LoginRefused) as caught:
        core.ids("p/q")
    assert isinstance(caught.value, BackendUnavailable), "rights can come back while it runs"
    assert "wr0ng" not in str(caught.value)


def test_no_login_at_all(guarded: MongoServer) -> None:
    with pytest.raises(LoginRefused):
        log_in(MongoAddress(uri=guarded.uri))


def test_a_user_who_may_only_read(guarded: MongoServer) -> None:
    address = MongoAddress(uri=guarded.uri, user="guest", password=SECRET)
    with MongodbCore(address, "lab") as core:
        assert core.ids("jobs/running") == []
        with pytest.raises(
            LoginRefused, match="grant spooler's user the role readWrite on the databases jobs,"
        ):
            core.upload({}, "jobs/running", X)


def test_a_login_that_is_taken_away_while_it_runs(guarded: MongoServer) -> None:
    boss = MongoAddress(uri=guarded.uri, user="boss", password=SECRET)
    with open_client(boss) as admin:
        admin.admin.command("createUser", "temp", pwd=SECRET, roles=["root"])
        with MongodbCore(
            MongoAddress(uri=guarded.uri, user="temp", password=SECRET), "lab"
        ) as core:
            core.upload({}, "jobs/running", X)
            admin.admin.command("dropUser", "temp")
            admin.drop_database("jobs")
            guarded.restart()
            with pytest.raises(LoginRefused, match="refuses the login"):
                core.ids("jobs/running")
            admin.admin.command("createUser", "temp", pwd=SECRET, roles=["root"])
            assert core.ids("jobs/running") == []


# --- TLS -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def encrypted(
    mongodb_server: MongoServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[MongoServer, Path]]:
    if not mongodb_server.owned:
        pytest.skip("needs a server of its own")
    folder = tmp_path_factory.mktemp("tls")
    lab = certificate(folder, "lab-ca", None)
    certificate(folder, "server", lab)
    certificate(folder, "client", lab)
    certificate(folder, "other-ca", None)
    server = MongoServer(
        None,
        *("--tls-cert-file", str(folder / "server.crt")),
        *("--tls-key-file", str(folder / "server.key")),
        *("--tls-ca-file", str(folder / "lab-ca.crt"), "--tls-require-client-cert"),
    )
    try:
        server.start()
        yield server, folder
    finally:
        server.close()


def test_an_encrypted_connection_with_our_own_certificate(
    encrypted: tuple[MongoServer, Path],
) -> None:
    server, folder = encrypted
    log_in(
        MongoAddress(
            uri=server.uri,
            tls_ca_file=str(folder / "lab-ca.crt"),
            tls_certificate_file=str(folder / "client.pem"),
        )
    )


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (
            {"tls_ca_file": "other-ca.crt", "tls_certificate_file": "client.pem"},
            "CERTIFICATE_VERIFY_FAILED.*tls options",
        ),
        ({"tls_ca_file": "lab-ca.crt"}, "check the tls options"),
        ({}, "cannot be reached|broken"),
    ],
)
def test_a_certificate_that_does_not_fit(
    encrypted: tuple[MongoServer, Path], files: dict[str, str], reason: str
) -> None:
    server, folder = encrypted
    places = {name: str(folder / file) for name, file in files.items()}
    address = MongoAddress(uri=server.uri, connect_timeout=0.6, operation_timeout=1.0, **places)  # type: ignore[arg-type]
    with pytest.raises(BackendUnavailable, match=reason) as caught:
        log_in(address)
    assert len(str(caught.value)) < 400


def test_pymongo_is_what_it_was() -> None:
    """What is read of the driver's insides here is there."""
    assert hasattr(pymongo.errors, "_OperationCancelled")


@pytest.mark.parametrize(
    ("uri", "tls"),
    [
        ("mongodb://u:{}@db.lab:27017/", None),
        ("mongodb://u:{}@localhost:27017,db.lab:27017/?replicaSet=r", None),
        ("mongodb://u:{}@127.evil.example:27017/", None),
        ("mongodb://u:{}@127.0.0.1.evil.example/", None),
        ("mongodb://u:{}@[::2]:27017/", None),
    ],
)
def test_a_password_does_not_cross_a_network_in_clear(uri: str, tls: bool | None) -> None:
    address = MongoAddress(uri=uri.format("pw123456"), tls=tls)
    with pytest.raises(ConfigError, match="unencrypted; set tls = true") as refused:
        open_client(address)
    assert "pw123456" not in str(refused.value)


@pytest.mark.parametrize(
    ("uri", "tls"),
    [
        ("mongodb://u:pw123456@db.lab:27017/", False),
        ("mongodb://u:pw123456@db.lab:27017/", True),
        ("mongodb://u:pw123456@db.lab:27017/?tls=true", None),
        ("mongodb://u:pw123456@db.lab:27017/?tls=false", None),
        ("mongodb://u:pw123456@127.0.0.1:27017,[::1]:27018/", None),
        ("mongodb://u:pw123456@localhost/", None),
        ("mongodb://db.lab:27017/", None),
    ],
)
def test_what_was_chosen_or_stays_on_this_machine_is_taken(uri: str, tls: bool | None) -> None:
    open_client(MongoAddress(uri=uri, tls=tls)).close()


@pytest.mark.parametrize(
    "said",
    [
        "readPreference=secondary",
        "readPreference=nearest&maxStalenessSeconds=120&readPreferenceTags=dc:ny&readPreferenceTags=",
        "readpreference=secondary;readConcernLevel=available",
    ],
)
def test_what_decides_is_read_from_the_primary_whatever_the_uri_says(said: str) -> None:
    client = open_client(MongoAddress(uri=f"mongodb://localhost/?{said}&appName=x"))
    assert client.read_preference == ReadPreference.PRIMARY
    assert client.read_concern.level is None
    client.close()
    open_client(MongoAddress(uri=f"mongodb://localhost/?{said}")).close()
