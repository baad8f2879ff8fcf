"""Which package may import which: services -> projections -> events, and switchyard -> events."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "events": set[str](),
    "projections": {"events"},
    "switchyard": {"events"},
    "services": {"events", "projections", "switchyard"},
}


def imported(path: Path) -> Iterator[str]:
    """The top-level packages that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where they lead"
            yield str(node.module).partition(".")[0]


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_go_one_way(package: str) -> None:
    allowed = MAY_IMPORT[package] | {package}
    found = {
        (path.relative_to(ROOT).as_posix(), name)
        for path in (ROOT / package).rglob("*.py")
        for name in imported(path)
        if name in MAY_IMPORT and name not in allowed
    }
    assert found == set()


def test_examples_import_only_what_users_may() -> None:
    for path in (ROOT / "examples").glob("*.py"):
        assert set(imported(path)) & set(MAY_IMPORT) <= {"switchyard"}, path
