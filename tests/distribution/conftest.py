"""What was built, and environments that it is installed into: each once."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.distribution.environments import ROOT, Environment
from tools.release import build

Make = Callable[..., Environment]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist of this tree, built twice and found to be the same."""
    target = tmp_path_factory.mktemp("built")
    build(ROOT, target, dt.date(2026, 1, 1))
    return target


@pytest.fixture(scope="session")
def make(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Makes a new environment with the named extras."""

    def new(*extras: str) -> Environment:
        folder = tmp_path_factory.mktemp("-".join(["env", *extras]))
        return Environment(folder, next(built.glob("*.whl")), *extras)

    return new


@pytest.fixture(scope="session")
def bare(make: Make) -> Environment:
    return make()


@pytest.fixture(scope="session")
def worker(make: Make) -> Environment:
    return make("worker")


@pytest.fixture(scope="session")
def server(make: Make) -> Environment:
    return make("server")
