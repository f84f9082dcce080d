import pytest

from spooler.errors import ConfigError
from spooler.settings import load

STORAGE = '[storage]\ntype = "sqooler-local"\npath = "jobs"\n'
MONGODB = '[storage]\ntype = "sqooler-mongodb"\n'


def complaints(tmp_path, text):
    file = tmp_path / "spooler.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(file, {})
    return str(caught.value).removeprefix(f"{file}: ")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[daemon]\npol_interval = 1\n",
            "[daemon] has no key 'pol_interval'; did you mean 'poll_interval'?",
        ),
        ("[daemom]\nlease = 1\n", "there is no key or section 'daemom'; did you mean 'daemon'?"),
        ("[daemon]\nlease = true\n", "[daemon] lease: expected a number of seconds or"),
        ("[daemon]\nlease = 0.5\n", "[daemon] lease: expected at least 1, and got 0.5"),
        ("[daemon]\nannounce_interval = 400\n", "[daemon] announce_interval: expected at most 240"),
        (
            '[devices.q]\nhandler = "x"\n[devices.q.windows]\nkind = "calibration"\n',
            "[devices.q] windows: expected a table of its own for each, [[devices.q.windows]]",
        ),
        ('[log]\nlevel = "loud"\n', "[log] level: expected one of 'debug', 'info', 'warning'"),
        ("log = 3\n", "'log': expected a section with keys"),
        ('[devices."q 1"]\nhandler = "x"\n', "the name 'q 1' must begin with a letter or digit"),
        (
            '[devices.q]\nhandler = "x"\nqueues = ["frb"]\n',
            "[devices.q] queues: there is not a storage 'frb'; known are storage",
        ),
        (
            '[devices.a]\nhandler = "x"\nqueues = ["storage:q"]\n[devices.q]\nhandler = "x"\n',
            "[devices.q] serves storage:q, and so does [devices.a]; give each device queues",
        ),
        (
            '[storages.b]\ntype = "memory"\n',
            "there are both [storage] and [storages.NAME]; keep [storage] for one storage",
        ),
        ("[devices.q]\n", "[devices.q] lacks the key 'handler'"),
        (
            '[devices.q]\nhandler = "x"\nmax_attempts = "3"\n',
            "[devices.q] max_attempts: expected a whole number, and got '3'",
        ),
        (
            '[devices.q]\nhandler = "x"\nenabled = 1\n',
            "[devices.q] enabled: expected true or false, and got 1",
        ),
        (
            '[devices.q]\nhandler = "x"\nrerun = "sometimes"\n',
            "[devices.q] rerun: expected one of 'never', 'if-not-started' or 'always'",
        ),
        (
            '[devices.q]\nhandler = "x"\nisolation = "thread"\nmemory_limit = "1 GiB"\n',
            "[devices.q] has a 'memory_limit', which needs isolation = \"process\"",
        ),
        (
            '[devices.q]\nhandler = "x"\n[[devices.q.windows]]\nkind = "calibration"\n'
            'cron = "0 25 * * *"\nduration = "1h"\n',
            "[devices.q.windows, number 1] cron: '0 25 * * *' is not a cron expression: its hour",
        ),
        (
            '[devices.q]\nhandler = "x"\n[[devices.q.windows]]\nkind = "calibration"\n'
            'cron = "0 5 * * *"\nduration = "1h"\ntimezone = "Mars/Base"\n',
            "[devices.q.windows, number 1] timezone: expected the name of a time zone",
        ),
        (
            '[signing]\nkey = "a"\ncredential = "b"\n',
            "[signing] has both 'key' and 'credential'; keep one of them",
        ),
    ],
)
def test_each_mistake_gets_its_place_and_the_way_out(tmp_path, text, said):
    top_level, sections = (text, "") if not text.startswith("[") else ("", text)
    assert complaints(tmp_path, top_level + STORAGE + sections).startswith(said)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('state = "x"\n', "there is no [storage] section"),
        (
            "[storage]\n",
            "[storage] type: expected one of 'sqooler-local', 'sqooler-mongodb', 'sqlite', "
            "'memory'",
        ),
        (
            '[storage]\ntype = "mongo"\n',
            "[storage] type: expected one of 'sqooler-local', 'sqooler-mongodb', 'sqlite', "
            "'memory', and got 'mongo'",
        ),
        ('[storage]\ntype = "sqooler-local"\n', "[storage] lacks the key 'path'"),
        (
            STORAGE + 'nam = "x"\n',
            "[storage] has no key 'nam'; did you mean 'name'?",
        ),
        (MONGODB, "[storage] has neither or both of 'uri' and 'host'; give exactly one"),
        (
            MONGODB + 'uri = "mongodb://h/"\nhost = "h"\n',
            "[storage] has neither or both of 'uri' and 'host'; give exactly one",
        ),
        (
            MONGODB + 'host = "h"\npassword = 5\n',
            "[storage] password: expected a text in quotes",
        ),
        (MONGODB + 'host = "h"\nprefix = "a.b"\n', "[storage] prefix: expected a name"),
        (
            MONGODB + 'host = "h"\noperation_timeout = 0\n',
            "[storage] operation_timeout: expected at least 0.1, and got 0",
        ),
        (
            STORAGE + 'name = "../x"\n',
            "[storage] name: expected small letters and digits only, and got '../x'",
        ),
    ],
)
def test_mistakes_about_the_storage(tmp_path, text, said):
    assert complaints(tmp_path, text).startswith(said)


def test_all_mistakes_come_at_once_one_a_line(tmp_path):
    text = "[daemon]\nlease = 'x'\ngrace = 'y'\n[log]\nlevl = 'info'\n"
    head, *lines = complaints(tmp_path, STORAGE + text).splitlines()
    assert "has 3 problems:" in head
    assert len(lines) == 3


def test_what_was_written_is_not_repeated_at_length(tmp_path):
    said = complaints(tmp_path, STORAGE + f'[log]\nlevel = "{"x" * 5000}"\n')
    assert len(said) < 200


def test_the_name_that_only_spooler_fills_in_is_unknown(tmp_path):
    assert complaints(tmp_path, "file = 'x'\n" + STORAGE) == "there is no key or section 'file'"


def test_a_key_of_another_type_of_storage_is_told_from_an_unknown_one(tmp_path):
    assert complaints(tmp_path, f'{STORAGE}password = "geheim"\n') == (
        "[storage] of type 'sqooler-local' has no key 'password'; 'sqooler-mongodb' has"
    )
    assert "did you mean 'fsync'?" in complaints(tmp_path, f"{STORAGE}fsinc = false\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            '[devices.q]\nhandler = "x"\n[devices.q]\nhandler = "y"\n',
            "is not valid TOML: [devices.q] appears twice (at line 6, column 11)",
        ),
        (
            '[log]\nlevel = "info"\nlevel = "info"\n',
            "is not valid TOML: a key appears twice (at line 6, column 15)",
        ),
    ],
)
def test_what_is_there_twice_is_named_as_it_is_written(tmp_path, text, said):
    assert complaints(tmp_path, STORAGE + text).endswith(said)
