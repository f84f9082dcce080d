from pathlib import Path

import pytest

from spooler.errors import ConfigError, KeyElsewhere
from spooler.model.device import Rerun
from spooler.settings import find, load, model

STORAGE = '[storage]\ntype = "sqooler-local"\npath = "jobs"\n'


@pytest.fixture
def write(tmp_path):
    def write(text):
        file = tmp_path / "spooler.toml"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return file

    return write


def refused(file, environ=None):
    with pytest.raises(ConfigError) as caught:
        load(file, environ or {})
    return str(caught.value)


def test_defaults_and_paths_that_start_at_the_file(write, tmp_path):
    settings = load(write(STORAGE + '[devices.q]\nhandler = "echo"\n'), {})
    assert settings.storage.path == tmp_path / "jobs"
    assert settings.state == tmp_path / "spooler-state"
    assert settings.daemon.poll_interval == 1.0
    assert settings.daemon.max_payload == 4 * 2**20
    assert settings.devices["q"].rerun is Rerun.IF_NOT_STARTED
    assert settings.devices["q"].timeout == 600.0
    assert settings.file == tmp_path / "spooler.toml"


def test_absolute_paths_stay(write, tmp_path):
    settings = load(write(f'state = "{tmp_path}/x"\n' + STORAGE), {})
    assert settings.state == tmp_path / "x"


def test_settings_never_change(write):
    settings = load(write(STORAGE), {})
    with pytest.raises(ValueError, match="frozen"):
        settings.daemon.lease = 1.0


def test_switched_off_devices_are_not_served(write):
    text = STORAGE + '[devices.a]\nhandler = "x"\n[devices.b]\nhandler = "x"\nenabled = false\n'
    assert list(load(write(text), {}).enabled_devices()) == ["a"]


# --- layers ------------------------------------------------------------------------------------


def test_environment_goes_before_the_file_and_credentials_before_both(write, tmp_path):
    file = write(STORAGE + '[daemon]\nlease = "10s"\ngrace = "10s"\npoll_interval = "10s"\n')
    (tmp_path / "spooler.daemon.poll_interval").write_text("30s\n")
    environ = {
        "SPOOLER_DAEMON__GRACE": "20s",
        "SPOOLER_DAEMON__POLL_INTERVAL": "20s",
        "CREDENTIALS_DIRECTORY": str(tmp_path),
    }
    daemon = load(file, environ).daemon
    assert (daemon.lease, daemon.grace, daemon.poll_interval) == (10, 20, 30)


def test_texts_of_the_environment_become_what_the_option_takes(write):
    environ = {
        "SPOOLER_STORAGE__NAME": "123",
        "SPOOLER_STORAGE__FSYNC": "no",
        "SPOOLER_DEVICES__A__HANDLER": "echo",
        "SPOOLER_DEVICES__A__MAX_ATTEMPTS": "5",
        "SPOOLER_DEVICES__A__OPTIONS": "{ port = 3, host = 'x' }",
        "SPOOLER_DEVICES__A__OPTIONS__RATE": "2.5",
        "SPOOLER_DEVICES__A__OPTIONS__TITLE": "two words",
        "SPOOLER_DEVICES__A__MEMORY_LIMIT": "1 GiB",
    }
    settings = load(write(STORAGE), environ)
    device = settings.devices["a"]
    assert settings.storage.name == "123"
    assert settings.storage.fsync is False
    assert device.max_attempts == 5
    assert device.options == {"port": 3, "host": "x", "rate": 2.5, "title": "two words"}
    assert device.memory_limit == 2**30


def test_a_wrong_variable_is_named(write):
    file = write(STORAGE)
    said = refused(file, {"SPOOLER_DAEMON__POL_INTERVAL": "1"})
    assert "variable SPOOLER_DAEMON__POL_INTERVAL" in said
    assert "did you mean 'poll_interval'?" in said
    said = refused(file, {"SPOOLER_DAEMON_POLL_INTERVAL": "1"})
    assert "did you mean SPOOLER_DAEMON__POLL_INTERVAL?" in said
    assert "goes deeper" in refused(file, {"SPOOLER_STORAGE__PATH__X": "1"})


def test_variables_of_a_container_platform_are_left_alone(write):
    environ = {"SPOOLER_SERVICE_HOST": "10.0.0.1", "SPOOLER_PORT_80_TCP": "tcp://10.0.0.1:80"}
    assert load(write(STORAGE), environ).storage.name == "local"


def test_a_device_of_the_file_can_be_switched_off_from_outside(write):
    file = write(STORAGE + '[devices.a]\nhandler = "x"\n')
    assert not load(file, {"SPOOLER_DEVICES__A__ENABLED": "false"}).enabled_devices()


# --- the signing key -----------------------------------------------------------------------------


def test_a_key_file_starts_at_the_settings(write, tmp_path):
    signing = load(write(STORAGE + '[signing]\nkey = "keys/a.jwk"\n'), {}).signing
    assert signing.source() == tmp_path / "keys/a.jwk"


def test_the_variable_of_sqooler_goes_before_a_key_file_and_is_hidden(write):
    file = write(STORAGE + '[signing]\nkey = "a.jwk"\n')
    settings = load(file, {"PRIVATE_JWK_STR": "c2VjcmV0"})
    assert settings.signing.source().get_secret_value() == "c2VjcmV0"
    assert "c2VjcmV0" not in repr(settings) + str(settings.model_dump())


def test_a_credential_is_found_where_systemd_puts_it(write, tmp_path):
    file = write(STORAGE + '[signing]\ncredential = "backend.jwk"\n')
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path), "PRIVATE_JWK_STR": "x"}
    assert load(file, environ).signing.source() == tmp_path / "backend.jwk"


def test_a_credential_outside_a_service_is_an_error_only_where_the_key_is_needed(write):
    signing = load(write(STORAGE + '[signing]\ncredential = "backend.jwk"\n'), {}).signing
    with pytest.raises(ConfigError, match=r"LoadCredential=backend\.jwk:"):
        signing.source()


def test_a_required_key_that_is_not_named(write):
    signing = load(write(STORAGE + "[signing]\nrequired = true\n"), {}).signing
    with pytest.raises(ConfigError, match="spooler keys generate"):
        signing.source()
    assert load(write(STORAGE), {}).signing.source() is None


def test_a_private_key_does_not_belong_into_the_file(write):
    said = refused(write(STORAGE + '[signing]\nprivate_jwk = "c2VjcmV0"\n'))
    assert "[signing] has no key 'private_jwk'" in said
    assert "c2VjcmV0" not in said


# --- files that are not what they should be ---------------------------------------------------


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is empty; perhaps it was being written"),
        (b"# nothing but a comment\n", "is empty"),
        (b"[storage\n", r"not valid TOML: .*line 1"),
        (b'[storage]\ntype = "sqool', r"not valid TOML: .*line 2, where the file ends"),
        (b"a = [\n1,\n", r"not valid TOML: .*line 2, where the file ends"),
        (b"[storage]\n# \xe9\n", r"line 2: not UTF-8"),
        (b"a = 1\na = 2\n", r"not valid TOML: .*line 2"),
        (b"\x00\x01\x02", "not valid TOML"),
        (b"a = " + b"[" * 20_000, "nested too deeply"),
        (b"a = " + b"9" * 5_000, "thousands of digits"),
        (b"#" * (2**20 + 1), "larger than 1 MiB"),
    ],
)
def test_half_written_and_foreign_files_get_one_sentence(write, content, complaint):
    import re

    said = refused(write(content))
    assert re.search(complaint, said)
    assert "\n" not in said.strip()


def test_every_truncation_of_a_file_is_read_or_refused_in_words(write):
    whole = (Path(__file__).parents[2] / "config" / "minimal.toml").read_bytes()
    for end in range(len(whole)):
        try:
            load(write(whole[:end]), {})
        except ConfigError as error:
            assert str(error)


def test_files_that_cannot_be_read(tmp_path):
    assert "there is no settings file" in refused(tmp_path / "nowhere.toml")
    assert "Is a directory" in refused(tmp_path)


def test_a_byte_order_mark_does_not_matter(write):
    assert load(write(b"\xef\xbb\xbf" + STORAGE.encode()), {})


# --- finding the file ------------------------------------------------------------------------


def test_the_file_is_looked_for(tmp_path, write):
    with pytest.raises(ConfigError, match="spooler init"):
        find({}, folder=tmp_path)
    file = write(STORAGE)
    assert find({}, folder=tmp_path) == file
    assert find({"SPOOLER_CONFIG": "/elsewhere.toml"}, folder=tmp_path) == Path("/elsewhere.toml")


def test_root_finds_the_credential_of_the_one_service_that_runs(write, tmp_path, monkeypatch):
    signing = load(write(STORAGE + '[signing]\ncredential = "backend.jwk"\n'), {}).signing
    monkeypatch.setattr(model, "SERVICES", tmp_path / "run")
    with pytest.raises(KeyElsewhere, match="CREDENTIALS_DIRECTORY to the folder of the key"):
        signing.source()
    for unit in ("spooler.service", "other.service"):
        (tmp_path / "run" / unit).mkdir(parents=True)
    key = tmp_path / "run" / "spooler.service" / "backend.jwk"
    key.touch()
    assert signing.source() == key
    (tmp_path / "run" / "other.service" / "backend.jwk").touch()
    with pytest.raises(KeyElsewhere):  # which of them is meant, nobody can tell
        signing.source()
