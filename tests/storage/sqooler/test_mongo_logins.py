"""X.509 and mongodb+srv as a lab has them: real certificates, a real name server, a real login."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pymongo.errors import ConfigurationError, OperationFailure

from spooler.clock import SystemClock
from spooler.errors import BackendUnavailable, ConfigError
from spooler.storage import open_submitter
from spooler.storage.settings import SqoolerMongodbSettings
from spooler.storage.sqooler.client.documents import MongodbLoginInformation
from spooler.storage.sqooler.client.mongodb import MongodbProviderExtended
from spooler.storage.sqooler.mongodb.address import MongoAddress
from spooler.storage.sqooler.mongodb.client import LoginRefused, open_client
from tests.servers.mongodb import MongoServer
from tests.servers.names import HOST, NameServer, cluster
from tests.servers.secured import PASSWORD, Secured, secured
from tests.storage.sqooler.mongo_login import log_in


@pytest.fixture(scope="module")
def lab(mongodb_server: MongoServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    if not mongodb_server.owned:
        pytest.skip("needs a server of its own")
    with secured(tmp_path_factory.mktemp("secured")) as made:
        yield made


def settings(lab: Secured, **more: object) -> SqoolerMongodbSettings:
    """[storage] of somebody with the lab's authority."""
    said = {"type": "sqooler-mongodb", "tls_ca_file": lab.authority, "operation_timeout": 3}
    return SqoolerMongodbSettings.model_validate({**said, **more})


def who(address: MongoAddress) -> list[dict[str, str]]:
    """Who the server takes us for."""
    with open_client(address) as client:
        said = client.admin.command("connectionStatus")
    found: list[dict[str, str]] = said["authInfo"]["authenticatedUsers"]
    return found


# --- X.509 -----------------------------------------------------------------------------------


def x509(lab: Secured, name: str, **more: object) -> MongoAddress:
    return MongoAddress.of_settings(
        settings(
            lab,
            uri=lab.server.uri,
            tls=True,
            auth_mechanism="MONGODB-X509",
            tls_certificate_file=lab.file(f"{name}.pem"),
            **more,
        )
    )


def test_a_certificate_is_a_login(lab: Secured) -> None:
    """The server knows us by the name in the certificate, and lets us write."""
    address = x509(lab, "client")
    assert who(address) == [{"user": "CN=client", "db": "$external"}]
    log_in(address)
    with MongodbProviderExtended(address, "lab") as provider:
        provider.upload({"a": 1}, "jobs/running", "a" * 24)
        assert provider.get("jobs/running", "a" * 24) == {"a": 1}
        provider.delete("jobs/running", "a" * 24)


def test_the_name_in_the_certificate_may_be_said(lab: Secured) -> None:
    log_in(x509(lab, "client", user="CN=client"))
    with pytest.raises(LoginRefused, match=r"client\.pem as 'CN=boss'"):
        log_in(x509(lab, "client", user="CN=boss"))


def test_a_certificate_that_is_no_user(lab: Secured) -> None:
    """The server talks to it, and does not let it in; the sentence is about the certificate."""
    address = x509(lab, "guest")
    with pytest.raises(LoginRefused) as caught:
        log_in(address)
    said = str(caught.value)
    assert "refuses the login" in said
    assert "guest.pem" in said, "which certificate"
    assert "$external" in said, "where the user has to be made"
    assert "password" not in said, "there is none in this login"


def test_a_certificate_of_another_authority(lab: Secured) -> None:
    with pytest.raises(BackendUnavailable, match=r"tls options"):
        log_in(x509(lab, "stranger"))


def test_a_certificate_and_a_password(lab: Secured) -> None:
    """Where the server asks for both: one for the connection, one for the login."""
    both = settings(
        lab,
        uri=lab.server.uri,
        tls=True,
        user="boss",
        password=PASSWORD,
        tls_certificate_file=lab.file("guest.pem"),
    )
    assert who(MongoAddress.of_settings(both)) == [{"user": "boss", "db": "admin"}]


def test_x509_without_a_certificate_is_said_before_anybody_is_asked(lab: Secured) -> None:
    address = MongoAddress.of_settings(
        settings(lab, uri=lab.server.uri, tls=True, auth_mechanism="MONGODB-X509")
    )
    with pytest.raises(ConfigError, match="tls_certificate_file"):
        open_client(address).close()


# --- mongodb+srv -----------------------------------------------------------------------------


def test_user_password_host_is_all_that_it_takes(lab: Secured) -> None:
    """As Atlas is named: the port comes from the name server, TLS is on without being said."""
    address = MongoAddress.of_settings(settings(lab, host=HOST, user="boss", password=PASSWORD))
    with NameServer(cluster(lab.port)) as names, names.asked():
        assert who(address) == [{"user": "boss", "db": "admin"}]
        log_in(address)
    assert (f"_mongodb._tcp.{HOST}.", "SRV") in names.questions


def test_a_submitter_by_srv(lab: Secured) -> None:
    with NameServer(cluster(lab.port)) as names, names.asked():
        submitter = open_submitter(
            settings(lab, host=HOST, user="boss", password=PASSWORD), SystemClock()
        )
        assert submitter.devices() == []
        submitter.close()


def test_the_name_server_s_own_options_count(lab: Secured) -> None:
    """A cluster says in a TXT record where its users are; ours is said where nothing else is."""
    records = cluster(lab.port, "authSource=admin&replicaSet=secantus")
    uri = f"mongodb+srv://{HOST}/"
    address = MongoAddress.of_settings(settings(lab, uri=uri, user="boss", password=PASSWORD))
    with NameServer(records) as names, names.asked(), open_client(address) as client:
        assert client.admin.command("ping")["ok"] == 1
        assert client.options.replica_set_name == "secantus"


def test_x509_by_srv(lab: Secured) -> None:
    address = MongoAddress.of_settings(
        settings(
            lab,
            host=HOST,
            auth_mechanism="MONGODB-X509",
            tls_certificate_file=lab.file("client.pem"),
        )
    )
    with NameServer(cluster(lab.port)) as names, names.asked():
        assert who(address) == [{"user": "CN=client", "db": "$external"}]


def test_a_wrong_password_by_srv_names_the_host_and_no_secret(lab: Secured) -> None:
    address = MongoAddress.of_settings(settings(lab, host=HOST, user="boss", password="wr0ng"))  # noqa: S106 - it is none
    with (
        NameServer(cluster(lab.port)) as names,
        names.asked(),
        pytest.raises(LoginRefused) as caught,
    ):
        log_in(address)
    assert str(caught.value).startswith(
        f"MongoDB at {HOST} refuses the login of the user 'boss'; check name, password"
    )
    assert "wr0ng" not in str(caught.value)


def test_a_name_without_a_cluster_behind_it(lab: Secured) -> None:
    address = MongoAddress.of_settings(settings(lab, host=HOST, user="boss", password=PASSWORD))
    with (
        NameServer({}) as names,
        names.asked(),
        pytest.raises(BackendUnavailable, match=f"MongoDB at {HOST} cannot be reached"),
    ):
        log_in(address)


def test_a_cluster_that_leads_elsewhere_is_not_followed(lab: Secured) -> None:
    """A name server that is lied to must not lead a password to another host."""
    records = {(f"_mongodb._tcp.{HOST}.", "SRV"): f"0 0 {lab.port} evil.example."}
    address = MongoAddress.of_settings(settings(lab, host=HOST, user="boss", password=PASSWORD))
    with (
        NameServer(records) as names,
        names.asked(),
        pytest.raises(ConfigError, match="Invalid SRV host"),
    ):
        log_in(address)


def test_sqoolers_login_information_by_srv(lab: Secured, monkeypatch: pytest.MonkeyPatch) -> None:
    """As sqooler's scripts have it: escaped name and password, a host, the system's authorities."""
    from urllib.parse import quote_plus

    monkeypatch.setenv("SSL_CERT_FILE", lab.authority)
    login = MongodbLoginInformation(
        mongodb_username="boss", mongodb_password=quote_plus(PASSWORD), mongodb_database_url=HOST
    )
    with (
        NameServer(cluster(lab.port)) as names,
        names.asked(),
        MongodbProviderExtended(login, "lab") as provider,
    ):
        assert provider.get_backends() == []


def test_sqoolers_users_are_told_of_a_wrong_login_at_once(
    lab: Secured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the driver tells them, in our words: programs that catch its errors go on to do so."""
    monkeypatch.setenv("SSL_CERT_FILE", lab.authority)
    said = {"username": "boss", "password": "wr0ng", "database_url": HOST}
    login = MongodbLoginInformation(**{f"mongodb_{key}": text for key, text in said.items()})
    with (
        NameServer(cluster(lab.port)) as names,
        names.asked(),
        pytest.raises(OperationFailure) as caught,
    ):
        MongodbProviderExtended(login, "lab")
    assert isinstance(caught.value, LoginRefused)
    assert caught.value.code == 18
    assert str(caught.value).startswith(f"MongoDB at {HOST} refuses the login of the user 'boss'")
    assert "wr0ng" not in str(caught.value) + repr(caught.value)
    with NameServer({}) as names, names.asked(), pytest.raises(ConfigurationError) as caught:
        MongodbProviderExtended(login, "lab")
    assert isinstance(caught.value, BackendUnavailable)
