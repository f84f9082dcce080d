"""The house keeps its rules: places, words, and a picture that is true."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from spooler.model.state import TRANSITIONS, Event, State
from spooler.observe.events import EventName

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "spooler"
MODULES = sorted(PACKAGE.rglob("*.py"))

#: Names that say nothing about what is inside.
EMPTY_WORDS = {"utils", "util", "common", "helpers", "helper", "manager", "base", "misc"}
#: Installing a distribution of the name `spooler`, whatever stands around it.
INSTALL = re.compile(r"(pip3?|pipx|uv tool|uv) (install|add)\b[^\n]*[\s\"'`]spooler(?![\w./-])")
#: Where anything may be caught, and why: what strangers wrote runs there.
BROAD = {
    "cli/__init__.py": "a bug becomes one sentence and exit code 70",
    "daemon/supervisor.py": "a dead thread ends the process",
    "devices/runners/hosting.py": "handlers raise whatever they like",
    "devices/runners/thread.py": "carried from the handler's thread to the worker's",
    "devices/runners/process.py": "a child that did not come up is ended, and the error goes on",
    "devices/runners/records.py": "a record that cannot be sent is lost, by logging's own rule",
    "devices/encoding.py": "how a handler's value looks in words is its code too",
    "devices/registry.py": "importing a handler runs its author's code",
    "devices/sentences.py": "an exception's own text is the handler's code too",
    "forks.py": "whatever leaves the handler in a fork ends the fork there",
    "observe/lines.py": "what a line cannot be made of costs that line, by logging's own rule",
    "observe/events.py": "subscribers must not break the loop",
    "storage/sqooler/mongodb/claims/ending.py": "what was taken off a list is put back on it",
    "testing/bench.py": "carried from a thread to the test",
}
#: The only modules that change files by themselves; all others go through durable.py.
WRITERS = {"durable.py"}
#: Who may import the standard library's `logging`; all others take a structlog logger.
STANDARD_LOGGING = {
    "observe/logger.py": "makes the loggers",
    "observe/log.py": "sets up where lines go",
    "observe/lines.py": "is where they go: a handler of that library",
    "protocols.py": "a handler is handed a standard logger",
    "devices/context.py": "hands it out",
    "devices/output.py": "logs in its place what a handler prints",
    "devices/runners/": "the handler's own process",
}
READS_ENVIRONMENT = re.compile(r"os\.environ|getenv")


def trees() -> Iterator[tuple[str, ast.Module]]:
    for path in MODULES:
        yield str(path.relative_to(PACKAGE)), ast.parse(path.read_text(encoding="utf-8"))


def test_modules_are_named_after_what_they_do() -> None:
    assert [path for path in MODULES if path.stem in EMPTY_WORDS] == []


def test_every_module_and_public_class_says_what_it_is() -> None:
    silent = []
    for name, tree in trees():
        if not ast.get_docstring(tree):
            silent.append(name)
        silent += [
            f"{name}:{node.name}"
            for node in tree.body
            if isinstance(node, ast.ClassDef)
            and not node.name.startswith("_")
            and not ast.get_docstring(node)
        ]
    assert silent == []


def test_everything_is_caught_only_at_the_edges() -> None:
    found = set()
    for name, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.ExceptHandler):
                caught = ast.unparse(node.type) if node.type else "everything"
                if re.search(r"\b(Exception|BaseException)\b|everything", caught):
                    found.add(name)
    assert found <= BROAD.keys(), "catching everything hides errors; see BROAD"


def test_only_the_top_reads_the_environment() -> None:
    """Rule 17: nothing below app and the command line reads the environment."""
    readers = {
        str(path.relative_to(PACKAGE))
        for path in MODULES
        if READS_ENVIRONMENT.search(path.read_text(encoding="utf-8"))
    }
    allowed = ("app/", "cli/", "__main__.py")
    # A handler's child process inherits what the daemon was started with, by intent.
    outside = {name for name in readers if not name.startswith((*allowed, "devices/"))}
    assert outside == set()


def test_structlog_is_the_one_way_to_log() -> None:
    found = {
        name
        for name, tree in trees()
        for node in ast.walk(tree)
        if (isinstance(node, ast.Import) and any(one.name == "logging" for one in node.names))
        or (isinstance(node, ast.ImportFrom) and node.module == "logging")
    }
    allowed = tuple(STANDARD_LOGGING)
    assert {name for name in found if not name.startswith(allowed)} == set()
    unused = {one for one in allowed if not any(name.startswith(one) for name in found)}
    assert unused == set(), "nobody there imports it: take it off the list"


def test_file_changes_go_through_durable() -> None:
    """So that the tests can stop the process between any two of them."""
    changing = re.compile(
        r"os\.(rename|replace|unlink|remove|link|mkdir|makedirs|rmdir|fsync|truncate)\(|\.write_(text|bytes)\("
        r"|(?<!disk)\.(unlink|rename|touch|symlink_to)\("
    )
    found = {
        str(path.relative_to(PACKAGE))
        for path in MODULES
        if path.parts[len(PACKAGE.parts)] in {"storage", "daemon", "signing", "app"}
        and changing.search(path.read_text(encoding="utf-8"))
    }
    assert found <= WRITERS


def test_what_others_wrote_is_read_with_a_limit() -> None:
    """A sparse file costs its maker nothing, and would cost us all memory."""
    unlimited = [
        f"{name}:{node.lineno}"
        for name, tree in trees()
        if name.startswith("storage/")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and _reads_all(node)
    ]
    assert unlimited == []


def _reads_all(call: ast.Call) -> bool:
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    if name in {"read_bytes", "read_text"}:
        return True
    limited = any(each.arg == "limit" for each in call.keywords)
    sized = any(re.search(r"\b[A-Z]{3,}\b", ast.unparse(each)) for each in call.args)
    return name == "read" and not limited and not sized


def test_tests_exchange_nothing_private() -> None:
    """A test that patches what a class keeps to itself fails when that is rewritten, or worse."""
    patched = [
        f"{path}: {name}"
        for folder in ("tests", "benchmarks")
        for path in sorted((PACKAGE.parent / folder).rglob("*.py"))
        for name in _patched(ast.parse(path.read_text(encoding="utf-8")))
        if name.startswith("_")
    ]
    assert patched == []


def _patched(tree: ast.Module) -> Iterator[str]:
    """The attributes that are set from outside: by a patch, or on something that is not self."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(attr="setattr"), args=[_, ast.Constant(str(name)), _]):
                yield name
            case ast.Assign(targets=[ast.Attribute(value=ast.Name(id=owner), attr=name)]):
                if owner != "self":
                    yield name


def test_nothing_is_left_undone() -> None:
    words = re.compile(r"\b(TODO|FIXME|XXX|NotImplementedError)\b")
    assert [p for p in MODULES if words.search(p.read_text(encoding="utf-8"))] == []


def test_the_state_picture_equals_the_table() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    (picture,) = re.findall(r"```mermaid\nstateDiagram-v2\n(.*?)```", text, flags=re.S)
    arrows = {
        (State(source), Event(event)): State(target)
        for source, target, event in re.findall(r"(\w+) --> (\w+): (\w+)", picture)
    }
    assert arrows == TRANSITIONS
    ends = set(re.findall(r"(\w+) --> \[\*\]", picture))
    assert ends == {state.value for state in State if state.ended}
    assert not [state for state, _ in TRANSITIONS if state.ended], "no arrow leaves an end"


def test_every_event_is_emitted_somewhere() -> None:
    source = "\n".join(
        path.read_text(encoding="utf-8")
        for path in MODULES
        if path.parts[len(PACKAGE.parts)] != "observe"
    )
    by_libraries = {EventName.LOG}
    silent = [one.name for one in EventName if f"EventName.{one.name}" not in source]
    assert silent == [one.name for one in by_libraries]


def test_what_is_declared_is_imported() -> None:
    """Each dependency of pyproject.toml, under the name of its module.

    tzdata holds no code: zoneinfo reads it where the system has no time zone database.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {re.split(r"[<>=!~\[ ]", one)[0].replace("-", "_") for one in project["dependencies"]}
    imported = set()
    for _, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                imported |= {one.name.partition(".")[0] for one in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.partition(".")[0])
    assert wanted - imported == {"tzdata"}


def test_starting_is_quick() -> None:
    """`spooler --help` loads neither numpy nor a database driver."""
    code = (
        "import sys, spooler.cli, spooler.app; "
        "print([m for m in ('numpy', 'scipy', 'pymongo', 'sqooler') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "name",
    [
        "architecture.md",
        "reliability.md",
        "benchmarks.md",
        "mongodb.md",
        "moving-from-sqooler.md",
        "sqlite.md",
        "write-a-storage.md",
    ],
)
def test_documents_are_there_and_their_links_lead_somewhere(name: str) -> None:
    path = ROOT / "docs" / name
    for target in re.findall(r"\]\((?!http)([^)#]+)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), f"{name} links to {target}"


def test_nobody_is_told_to_install_a_strangers_program() -> None:
    """The distribution is lab-spooler: `spooler` on PyPI is something else."""
    kinds = {".md", ".py", ".toml", ".service", ".txt", ".json", ".yml"}
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    told = [
        name
        for name in tracked.stdout.splitlines()
        if Path(name).suffix in kinds
        and INSTALL.search((ROOT / name).read_text(encoding="utf-8", errors="replace"))
    ]
    assert told == []
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["name"] == "lab-spooler"
