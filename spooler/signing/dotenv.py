"""The file `.env`, where sqooler's users may keep their key: read without any library."""

from __future__ import annotations

#: How the file is called.
DOTENV = ".env"


def in_dotenv(content: bytes) -> str | None:
    """The PRIVATE_JWK_STR of a `.env` file, read as python-decouple reads it; None without one."""
    found = None
    for line in content.decode("utf-8", "replace").splitlines():
        name, equals, text = line.strip().partition("=")
        if equals and name.strip() == "PRIVATE_JWK_STR":
            found = text.strip()
    if found and len(found) > 1 and found[0] == found[-1] and found[0] in "'\"":
        found = found[1:-1]
    return found or None
