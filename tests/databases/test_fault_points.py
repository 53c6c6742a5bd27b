"""Every named step of the work on databases is one at which a test kills the server."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.backups import test_faults as of_backups
from tests.backups import test_installation as of_the_installation
from tests.databases import test_faults as of_databases
from tests.sealing import test_resealing as of_a_new_key

SUITES = (of_databases, of_backups, of_the_installation, of_a_new_key)
CODE = Path(__file__).resolve().parents[2] / "mcp_server"
PLACES = (
    "services/databases",
    "services/backups",
    "services/branches.py",
    "services/branch_copies.py",
    "services/promotions",
    "adapters/backup_files",
)


def test_the_server_is_killed_at_every_named_step_of_databases_and_of_no_other() -> None:
    killed = {step for suite in SUITES for step in steps_of_tests(suite)}
    assert sorted(steps_of_code()) == sorted(killed)


def steps_of_code() -> set[str]:
    files = [file for place in PLACES for file in modules(CODE / place)]
    assert files
    return {step for file in files for step in steps_of_module(file)}


def modules(place: Path) -> list[Path]:
    return [place] if place.is_file() else sorted(place.rglob("*.py"))


def steps_of_module(file: Path) -> Iterator[str]:
    """What is passed to `step`, `_step` and `faults.at`; a name that is no literal would escape this test."""
    for node in ast.walk(ast.parse(file.read_text())):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        named = node.func.attr in ("step", "_step")
        if not named and not (node.func.attr == "at" and ast.unparse(node.func.value) == "faults"):
            continue
        (name,) = node.args
        assert isinstance(name, ast.Constant), f"{file.name}:{node.lineno} names its step by an expression"
        yield str(name.value)


def steps_of_tests(module: ModuleType) -> Iterator[str]:
    """The values of the parameter `step`."""
    for test in vars(module).values():
        for mark in getattr(test, "pytestmark", ()):
            if mark.name == "parametrize":
                yield from values(mark.args[0], mark.args[1])


def values(names: str | tuple[str, ...], rows: list[Any]) -> Iterator[str]:
    columns = [names] if isinstance(names, str) else list(names)
    if "step" not in columns:
        return
    for row in rows:
        cells = getattr(row, "values", row)
        yield cells if isinstance(cells, str) else cells[columns.index("step")]
