"""`spooler check` against a server with TLS and users: for each mistake the way out of it."""

from __future__ import annotations

import json

import pytest

from tests.servers.mongodb import mongodb_server
from tests.servers.names import HOST, NameServer, cluster
from tests.servers.secured import PASSWORD, secured

__all__ = ["mongodb_server"]

DATABASES = ("jobs", "status", "results", "backends", "spooler")


@pytest.fixture(scope="module")
def cloud(mongodb_server, tmp_path_factory):
    """A user `worker` with the rights that the documents name, and two with less."""
    if not mongodb_server.owned:
        pytest.skip("needs a server of its own")
    with secured(tmp_path_factory.mktemp("cloud")) as made, made.administrator() as client:
        for name, role, databases in (
            ("worker", "readWrite", DATABASES),
            ("forgotten", "readWrite", DATABASES[:-1]),
            ("reader", "read", DATABASES),
        ):
            roles = [{"role": role, "db": each} for each in databases]
            client.admin.command("createUser", name, pwd=PASSWORD, roles=roles)
        yield made


@pytest.fixture
def checked(lab, said, cloud, monkeypatch):
    """What `spooler check` says of a [storage] with these lines."""

    def checked(place, password=PASSWORD):
        if password is not None:
            monkeypatch.setenv("SPOOLER_STORAGE__PASSWORD", password)
        text = place.format(uri=cloud.server.uri, port=cloud.port, ca=json.dumps(cloud.authority))
        lines = f"{text}\nconnect_timeout = 1\noperation_timeout = 2\n"
        settings = f'[storage]\ntype = "sqooler-mongodb"\n{lines}[devices.echo]\nhandler = "echo"\n'
        (lab.folder / "spooler.toml").write_text(settings)
        done = said("check", "--json")
        assert PASSWORD not in done.out + done.err
        if done.code == 78:
            return False, done.err
        (item,) = [each for each in json.loads(done.out)["checks"] if each["name"] == "storage"]
        assert done.code == (0 if item["ok"] else 1)
        return item["ok"], item["detail"]

    return checked


def test_the_rights_that_the_documents_name_are_enough(checked, cloud):
    ok, detail = checked('uri = "{uri}"\nuser = "worker"\ntls = true\ntls_ca_file = {ca}')
    assert (ok, detail) == (True, "sqooler-mongodb answers; 0 waiting for echo")
    with cloud.administrator() as client:
        assert set(DATABASES).isdisjoint(client.list_database_names()), "a check makes nothing"


def test_three_lines_and_a_password(checked, cloud):
    """Host, user, and the lab's own authority, which a cluster in a cloud does not need."""
    with NameServer(cluster(cloud.port)) as names, names.asked():
        assert checked(f'host = "{HOST}"\nuser = "worker"\ntls_ca_file = {{ca}}')[0]


TLS = "\ntls = true\ntls_ca_file = {ca}"
MISTAKES = {
    "password": (f'uri = "{{uri}}"\nuser = "worker"{TLS}', "wr0ng", "login of the user 'worker'"),
    "user": (f'uri = "{{uri}}"\nuser = "warker"{TLS}', PASSWORD, "login of the user 'warker'"),
    "no-password": (f'uri = "{{uri}}"\nuser = "worker"{TLS}', None, "SPOOLER_STORAGE__PASSWORD"),
    "no-user": (f'uri = "{{uri}}"{TLS}', PASSWORD, "name the user"),
    "no-login": (f'uri = "{{uri}}"{TLS}', None, "asks for a login"),
    "reads-only": (f'uri = "{{uri}}"\nuser = "reader"{TLS}', PASSWORD, "the role readWrite"),
    "no-right-to-ours": (
        *(f'uri = "{{uri}}"\nuser = "forgotten"{TLS}', PASSWORD),
        "readWrite on the databases jobs, status, results, backends, spooler",
    ),
    "no-tls": ('uri = "{uri}"\nuser = "worker"', PASSWORD, "requires TLS"),
    "no-authority": ('uri = "{uri}"\nuser = "worker"\ntls = true', PASSWORD, "tls options"),
    "no-file": ('uri = "{uri}"\ntls_ca_file = "nowhere.pem"', None, "nowhere.pem"),
    "port": ('uri = "mongodb://127.0.0.1:1/"', None, "Connection refused"),
    "no-uri": ('uri = "http://127.0.0.1/"', None, "must look like mongodb://HOST:27017/"),
    "host-with-port": ('host = "c0.abc.net:27017"', None, "give the name alone"),
    "host-is-a-uri": ('host = "mongodb+srv://c0.abc.net/"', None, "give it as uri"),
    "unescaped": ('uri = "mongodb://u:s3cr/e+t@%41@127.0.0.1:{port}/"', None, "%-escapes"),
    "misspelt": ('uri = "{uri}&tsl=true"', None, "Unknown option: tsl"),
    "two": (
        'uri = "{uri}"\nhost = "c0.abc.net"',
        None,
        "has neither or both of 'uri' and 'host'; give exactly one",
    ),
    "none": ('user = "worker"', None, "has neither or both of 'uri' and 'host'; give exactly one"),
    "key": ('uri = "{uri}"\npasswort = "x"', None, "did you mean 'password'"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_each_mistake_has_a_way_out(checked, name):
    place, password, way_out = MISTAKES[name]
    ok, detail = checked(place, password)
    assert not ok
    assert way_out in detail
    assert "\n" not in detail.strip()


def test_a_name_that_stands_for_no_cluster(checked):
    with NameServer({}) as names, names.asked():
        ok, detail = checked(f'host = "{HOST}"\nuser = "worker"')
    assert not ok
    assert f"MongoDB at {HOST} cannot be reached" in detail
    assert "uri = mongodb://HOST:27017/" in detail
