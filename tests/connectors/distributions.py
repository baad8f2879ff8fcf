"""Distributions that offer connectors, put where they are found as installed ones."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from switchyard.services.connectors import registry

EXAMPLES = Path(__file__).parents[2] / "examples"


def install(
    monkeypatch: pytest.MonkeyPatch, folder: Path, name: str, points: dict[str, str], *, source: str = ""
) -> None:
    """A distribution with entry points.

    Args:
        monkeypatch: takes it away again.
        folder: that of this distribution alone.
        name: that of the distribution.
        points: what each connector's name points to.
        source: that of its module `NAME_connector`; the example's, where nothing is given.
    """
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"{kind} = {value}" for kind, value in points.items()]
    (info / "entry_points.txt").write_text("\n".join(["[switchyard.connectors]", *lines, ""]))
    module = f"{name}_connector"
    if source:
        (folder / f"{module}.py").write_text(source)
    else:
        shutil.copy(EXAMPLES / "program_connector.py", folder / f"{module}.py")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, module, raising=False)
    registry._offers.cache_clear()
