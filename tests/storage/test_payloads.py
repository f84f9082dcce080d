"""From the bytes of a job to its payload, whatever program has saved them."""

from __future__ import annotations

import codecs

import pytest

from spooler.storage.kit.payloads import decode, incomplete

TEXT = '{"shots": 3, "note": "\u00b5"}'
PAYLOAD = {"shots": 3, "note": "\u00b5"}


def test_a_byte_order_mark_is_no_part_of_it() -> None:
    assert decode(codecs.BOM_UTF8 + TEXT.encode()).payload == PAYLOAD
    assert decode(TEXT.encode("utf-8-sig")).payload == PAYLOAD


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_wide_encodings_are_named(encoding: str) -> None:
    found = decode(TEXT.encode(encoding))
    assert found.payload is None
    assert not incomplete(found.defect), "no more bytes can mend it"
    if encoding != "utf-16-be":
        assert (
            found.defect == "the job is UTF-16 or UTF-32 text; save it as UTF-8 and send it again"
        )


def test_another_encoding_is_named() -> None:
    found = decode(TEXT.encode("latin-1"))
    assert "not UTF-8 text" in found.defect


@pytest.mark.parametrize("cut", range(1, len(TEXT.encode())))
@pytest.mark.parametrize("fill", [b"", b"\0" * 40], ids=["growing", "made at its length"])
def test_what_is_still_being_written_is_incomplete(cut: int, fill: bytes) -> None:
    """And no other encoding: more of it may be about to come."""
    assert incomplete(decode(TEXT.encode()[:cut] + fill).defect)
