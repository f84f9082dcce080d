"""Nothing that a stranger has written steers a terminal, whichever command shows it."""

from __future__ import annotations

import json

import pytest

from spooler.cli import main, output

#: A colour, a bell, an 8-bit control code, a turned line, a carriage return.
EVIL = "a\x1b[31m\x07\x9b31m\u202eb\rc"


def steers(text: str) -> bool:
    return any(not char.isprintable() for char in text.replace("\n", ""))


@pytest.mark.parametrize(
    "show", [output.say, output.note, lambda text: output.rows(["name"], [[text]])]
)
def test_text_is_shown_and_not_obeyed(show, capsys):
    show(EVIL)
    said = capsys.readouterr()
    assert "31m" in said.out + said.err
    assert not steers(said.out + said.err)


def test_json_stays_the_same_value(capsys):
    output.as_json({EVIL: [EVIL, "µ ü"]})
    text = capsys.readouterr().out
    assert not steers(text)
    assert "µ ü" in text
    assert json.loads(text) == {EVIL: [EVIL, "µ ü"]}


@pytest.mark.parametrize(
    "words", [["status", EVIL], [f"--{EVIL}"], [EVIL], ["result", "x", "--device", EVIL]]
)
def test_words_of_the_command_itself(words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spooler.toml").write_text(
        '[storage]\ntype = "sqooler-local"\npath = "storage"\n[devices.echo]\nhandler = "echo"\n'
    )
    assert main(words) in {2, 67}
    said = capsys.readouterr()
    assert said.err
    assert not steers(said.out + said.err)
