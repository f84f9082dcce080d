"""Whether a device that stands announced is ours to announce."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from spooler.errors import KeyRefused
from spooler.protocols import Signer
from spooler.signing.sqooler_form import is_signed, verify_document


def demand_ours(
    standing: Any, device: str, signer: Signer | None, former_keys: Sequence[dict[str, str]]
) -> None:
    """Raise KeyRefused when a configuration is signed with a key that is not ours."""
    if not isinstance(standing, dict) or not is_signed(standing):
        return
    header = standing["header"]
    theirs = str(header.get("kid") if isinstance(header, Mapping) else None)
    if signer is None:
        raise KeyRefused(
            f"device {device!r} is announced under the key {theirs!r} and no key is configured "
            "here; set [signing] key, or use another device name"
        )
    ours = (signer.public(), *former_keys)
    if any(_signed_by(standing, key) for key in ours):
        return
    if theirs in {key["kid"] for key in ours}:
        raise KeyRefused(
            f"the configuration of device {device!r} is not as the key {theirs!r} has signed it: "
            "it was edited, or another key has that name; look at it, and remove it to have the "
            "device announced anew"
        )
    raise KeyRefused(
        f"device {device!r} is announced under the key {theirs!r}, and this is the key "
        f"{signer.kid!r}; use the key that announced it, rotate with"
        " `spooler keys rotate`, which keeps the old key, or use another device name"
    )


def same_public_key(standing: Any, document: Mapping[str, Any]) -> bool:
    """Return whether what is published is this key; what is no document at all may be replaced."""
    return not isinstance(standing, dict) or _bare(standing.get("x")) == _bare(document["x"])


def _signed_by(document: dict[str, Any], public: dict[str, str]) -> bool:
    # The same key under another name would leave its earlier results without one that verifies.
    if document["header"].get("kid") != public["kid"]:
        return False
    key = {"x": public["x"], "key_ops": "verify", "kid": public["kid"]}
    return verify_document(document, key)


def _bare(value: object) -> str:
    return str(value).rstrip("=")
