"""PYTHONOPTIMIZE=2, as small images set it, takes no word from anybody."""

from __future__ import annotations

import pytest

WORDS = [
    ["--help"],
    ["run", "--help"],
    ["submit", "--help"],
    ["keys", "--help"],
    ["keys", "rotate", "--help"],
    ["outbox", "--help"],
    ["audit", "verify", "--help"],
    ["config", "example"],
    ["config", "schema"],
]


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_every_text_is_word_for_word_the_same(process, words, tmp_path):
    said = []
    for level in ("0", "2"):
        child = process(*words, cwd=tmp_path, env={"PYTHONOPTIMIZE": level})
        out, err = child.communicate(timeout=60)
        assert child.returncode == 0, err
        said.append(out)
    assert said[0] == said[1]
    assert len(said[0]) > 200
