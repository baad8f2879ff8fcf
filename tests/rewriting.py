"""Has each process of pytest-xdist rewrite the assertions of other test files first.

All of them import all test files in the same order, and in a new checkout each would rewrite every file at
the same time as the others. Each begins with a share of its own instead, and finds the rest in the cache.
"""

from __future__ import annotations

import contextlib
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Import this process's share, where all tests are run; what fails is reported when it is collected."""
    process = getattr(session.config, "workerinput", None)
    if process is None or [Path(each).name for each in session.config.args] != ["tests"]:
        return
    number, count = int(process["workerid"].removeprefix("gw")), process["workercount"]
    for path in sorted((ROOT / "tests").rglob("test_*.py"))[number::count]:
        with contextlib.suppress(Exception, pytest.skip.Exception):
            import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
