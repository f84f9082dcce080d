"""The docstrings of what people read, also where Python was told to forget them (-OO)."""

from __future__ import annotations

import ast
import inspect
import textwrap
from typing import Any


def restore(*things: Any) -> None:
    """Give functions and classes their docstrings back, as their source has them."""
    for thing in things:
        if thing.__doc__ is None and (text := _in_source(thing)) is not None:
            thing.__doc__ = text


def _in_source(thing: Any) -> str | None:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(thing)))
    except (OSError, TypeError):  # there is byte code alone, or C
        return None
    found = tree.body[0]
    if isinstance(found, ast.FunctionDef | ast.ClassDef):
        return ast.get_docstring(found)
    return None
