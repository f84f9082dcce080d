import io
import json

import pytest

from spooler.cli.jobs.submit import read_payload
from spooler.errors import PayloadInvalid


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", r"is not JSON: .* \(line 1, column 1\)"),
        (b'{"a": 1', r"is not JSON: .*line 1"),
        (b'{\n"a": x}', r"line 2, column 6"),
        (b"[1]", "not an object"),
        (b'{"a": NaN}', "NaN is not a JSON number"),
        (b'{"a": -Infinity}', "-Infinity is not a JSON number"),
        (b'{"a": 1, "a": 2}', "the name 'a' appears twice"),
        (b'{"a": "\xff"}', "not UTF-8"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b'{"a": ' + b"9" * 5_000 + b"}", "a number of 5000 digits is too long"),
        (b'{"a": "\\ud800"}', "unpaired surrogate"),
        (b'{"\\udfff": 1}', "unpaired surrogate"),
    ],
)
def test_a_payload_that_is_none_is_refused_before_it_is_queued(tmp_path, content, complaint):
    file = tmp_path / "job.json"
    file.write_bytes(content)
    with pytest.raises(PayloadInvalid, match=complaint):
        read_payload(str(file))


def test_a_payload_from_a_file_and_from_stdin(tmp_path, monkeypatch):
    file = tmp_path / "job.json"
    file.write_text('{"a": [1, 2.5, null, "\u00b5"]}')
    expected = {"a": [1, 2.5, None, "\u00b5"]}
    assert read_payload(str(file)) == expected
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(file.read_bytes())))
    assert read_payload("-") == expected


def test_a_payload_file_that_cannot_be_read(tmp_path):
    with pytest.raises(PayloadInvalid, match="cannot be read: No such file"):
        read_payload(str(tmp_path / "job.json"))
    with pytest.raises(PayloadInvalid, match="cannot be read: Is a directory"):
        read_payload(str(tmp_path))


def test_a_time_limit_without_what_it_limits(lab, said):
    for command in (["submit", "echo", "job.json"], ["status", "a" * 24]):
        done = said(*command, "--timeout", "5s")
        assert done.code == 2
        assert "'--timeout': it goes with --wa" in done.err
        wrong = said(*command, "--wait" if command[0] == "submit" else "--watch", "--timeout", "x")
        assert "'--timeout'" in wrong.err


def test_the_exit_code_of_a_bad_payload(lab, said):
    (lab.folder / "job.json").write_text(json.dumps([1]))
    done = said("submit", "echo", "job.json")
    assert (done.code, done.out) == (65, "")
