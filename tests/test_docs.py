from __future__ import annotations

import re
from pathlib import Path

import switchyard
from switchyard import events, projections, services
from switchyard.services.cli.settings_page import page
from switchyard.services.settings import Settings

ROOT = Path(__file__).parents[1]


def test_the_settings_page_is_that_of_the_code() -> None:
    assert (ROOT / "docs" / "settings.md").read_text() == page(), "run make docs"


def test_every_file_that_a_page_links_to_is_there() -> None:
    for document in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_every_file_that_a_page_names_is_there() -> None:
    ours = r"`((?:services|events|projections|switchyard|tests|tools|benchmarks)/[\w/.]*)`"
    for document in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for named in re.findall(ours, document.read_text()):
            assert (ROOT / named).exists(), f"{document.name} names {named}"


def test_the_top_level_packages_are_ours() -> None:
    for package in (events, projections, services, switchyard):
        where = Path(str(package.__file__)).resolve().parents[1]
        assert where == ROOT, f"{package.__name__} comes from {where}, another distribution's"


def test_every_setting_is_read_somewhere() -> None:
    sources = [path for package in ("services", "projections") for path in (ROOT / package).rglob("*.py")]
    text = "\n".join(path.read_text() for path in sources if path.name != "settings.py")
    unread = [name for name in Settings.model_fields if not re.search(rf"\b{name}\b", text)]
    assert unread == []
