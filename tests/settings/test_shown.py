import json
import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from spooler.settings import from_tree, load, shown
from spooler.settings.secrets import hidden, is_secret

CONFIG = Path(__file__).parents[2] / "config"
EVERYTHING = re.compile(r"^#(?=[\[a-z])", re.MULTILINE)
RENEW = "renew it with: spooler config %s > config/%s"


@pytest.mark.parametrize(
    ("name", "text", "command"),
    [
        ("example.toml", shown.example(), "example"),
        ("minimal.toml", shown.minimal(), "example --minimal"),
        ("spooler.schema.json", shown.schema(), "schema"),
    ],
)
def test_the_files_in_config_are_current(name, text, command):
    assert (CONFIG / name).read_text() == text, RENEW % (command, name)


@pytest.mark.parametrize("name", ["example.toml", "minimal.toml"])
def test_the_files_in_config_load(name):
    settings = load(CONFIG / name, {})
    assert list(settings.enabled_devices()) == ["singlequdit"]


def switched_on(kind):
    """The example with everything on, and of the storages the one of this type."""
    blocks = EVERYTHING.sub("", shown.example()).split("\n\n")
    kept = [one for one in blocks if "\n[storage]" not in one or f'"{kind}"' in one]
    kept = [one for one in kept if "\n[storages." not in one]
    # Of two keys that exclude each other, one.
    text = "\n\n".join(kept).replace('credential = "backend.jwk"\n', "")
    return text.replace('host = "cluster0.abc.mongodb.net"\n', "")


@pytest.mark.parametrize("kind", ["sqooler-local", "sqooler-mongodb", "sqlite"])
def test_the_example_loads_with_everything_switched_on(kind):
    settings = from_tree(tomllib.loads(switched_on(kind)), CONFIG / "x.toml", {})
    assert settings.storage.type == kind
    device = settings.devices["singlequdit"]
    assert device.windows[0].duration == 1800.0
    assert device.memory_limit == 2 * 2**30


def test_the_example_shows_every_option():
    text = EVERYTHING.sub("", shown.example())
    shown_keys = {line.split(" = ")[0] for line in text.splitlines() if " = " in line}
    schema = json.loads(shown.schema())
    for model in schema["$defs"].values():
        for key in set(model.get("properties", {})) - {"windows"}:
            assert key in shown_keys or f" {key} = " in text, f"the example lacks {key}"


def test_the_example_holds_the_defaults():
    example = load(CONFIG / "example.toml", {})
    minimal = load(CONFIG / "minimal.toml", {})
    assert example.model_dump(exclude={"file"}) == minimal.model_dump(exclude={"file"})


def test_editors_are_told_every_key_and_that_there_are_no_others():
    schema = json.loads(shown.schema())
    for model in [schema, *schema["$defs"].values()]:
        if model.get("type") == "object":
            assert model["additionalProperties"] is False
            assert all(
                "description" in one or "$ref" in one for one in model["properties"].values()
            )
    assert set(schema["properties"]) == {
        *("state", "daemon", "storage", "storages", "signing", "log", "devices"),
    }
    assert set(schema["$defs"]["SigningSettings"]["properties"]) == {
        *("key", "credential", "required"),
    }


def _tree(**device):
    return {
        "storage": {"type": "memory"},
        "devices": {"a": {"handler": "echo"} | device},
    }


def test_secrets_are_hidden():
    options = {"password": "s3cret", "nested": {"api_token": "s3cret"}, "port": 3}
    settings = from_tree(_tree(options=options), CONFIG / "x", {"PRIVATE_JWK_STR": "s3cret"})
    for text in (shown.as_toml(settings), json.dumps(shown.as_document(settings))):
        assert "s3cret" not in text
        assert "port" in text
    assert "PRIVATE_JWK_STR" in shown.as_toml(settings)


@pytest.mark.parametrize(
    "options",
    [
        {"argv": ["run", "--token", "s3cret", "--password=s3cret", "-p", "s3cret"]},
        {"argv": ["run", "https://u:s3cret@h/", "token:s3cret", "--api-key", "s3cret"]},
        {"env": {"LEVEL": "s3cret"}, "nested": [{"API_KEY": "s3cret", "db_pass": "s3cret"}]},
        {"server": "postgres://u:s3cret@h/db", "deep": {"er": [["x://s3cret@h"]]}},
    ],
)
def test_a_secret_is_hidden_wherever_it_stands(options):
    settings = from_tree(_tree(options=options | {"port": 1234}), CONFIG / "x", {})
    for text in (shown.as_toml(settings), json.dumps(shown.as_document(settings))):
        assert "s3cret" not in text
        assert "1234" in text


def test_what_is_no_secret_is_shown():
    options = {"argv": ["measure", "--power", "3", "-v", "http://h/x"], "author": "Mia", "key": "c"}
    assert hidden(options) == options


def test_a_database_login_is_hidden_and_may_come_from_outside():
    tree = _tree() | {
        "storage": {"type": "sqooler-mongodb", "uri": "mongodb://u:s3cret@h/", "user": "mia"}
    }
    settings = from_tree(tree, CONFIG / "x", {"SPOOLER_STORAGE__PASSWORD": "0s3cret"})
    assert settings.storage.password.get_secret_value() == "0s3cret"
    for text in (
        shown.as_toml(settings),
        json.dumps(shown.as_document(settings)),
        repr(settings),
        str(settings.model_dump()),
    ):
        assert "s3cret" not in text
        assert "mia" in text


_plain = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_names = _plain.filter(lambda name: not is_secret(name))
_options = st.recursive(
    st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | _plain,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(_names, _options, max_size=4))
def test_what_is_shown_reads_back_as_the_same_settings(options):
    assume(hidden(options) == options)
    settings = from_tree(_tree(options=options, timeout="90s"), CONFIG / "x", {})
    again = from_tree(tomllib.loads(shown.as_toml(settings)), CONFIG / "x", {})
    assert again == settings
