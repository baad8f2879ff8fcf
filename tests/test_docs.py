from __future__ import annotations

import re
from pathlib import Path

import switchyard
from switchyard import events, projections, services
from switchyard.services.broker.rights.page import page as rights_page
from switchyard.services.cli.config.page import page
from switchyard.services.settings import Settings
from switchyard.services.settings.names import variable_fault

ROOT = Path(__file__).parents[1]


def test_the_settings_page_is_that_of_the_code() -> None:
    assert (ROOT / "docs" / "settings.md").read_text() == page(), "run make docs"


def test_the_table_of_rights_is_that_of_the_code() -> None:
    text = (ROOT / "docs" / "broker-rights.md").read_text()
    assert text == rights_page(text), "run make docs"


def test_every_file_that_a_page_links_to_is_there() -> None:
    for document in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_every_file_that_a_page_names_is_there() -> None:
    ours = r"`((?:services|events|projections|switchyard|tests|tools|benchmarks)/[\w/.]*)`"
    for document in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for named in re.findall(ours, document.read_text()):
            assert (ROOT / named).exists(), f"{document.name} names {named}"


def test_every_command_that_sends_json_says_so() -> None:
    for document in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        commands = re.findall(r"^curl(?:.*\\\n)*.*", document.read_text(), re.MULTILINE)
        silent = [one for one in commands if re.search(r" -d '?[{\[]", one) and "application/json" not in one]
        assert silent == [], f"{document.name}: a gateway answers these with 415"


def test_the_top_level_packages_are_ours() -> None:
    for package in (events, projections, services, switchyard):
        where = Path(str(package.__file__)).resolve().parents[1]
        assert where == ROOT, f"{package.__name__} comes from {where}, another distribution's"


def test_every_setting_is_read_somewhere() -> None:
    tables = ROOT / "services" / "settings"
    sources = [path for package in ("services", "projections") for path in (ROOT / package).rglob("*.py")]
    # The size of a stream is read where it is declared, by the stream's name.
    read = [path for path in sources if path.parent != tables or path.name == "stream_sizes.py"]
    text = "\n".join(path.read_text() for path in read)
    unread = [name for name in Settings.model_fields if not re.search(rf"\b{name}\b", text)]
    assert unread == []


def test_every_variable_that_is_named_is_a_setting_or_said_to_be_none() -> None:
    rooms = [ROOT / room for room in ("docs", "services", "switchyard", "examples", "benchmarks", "tools")]
    files = [file for room in rooms for file in room.rglob("*.*") if file.suffix in {".md", ".py", ".sh"}]
    files += [ROOT / name for name in ("README.md", "compose.yaml", "Dockerfile", "Makefile")]
    named = {
        name for file in files for name in re.findall(r"\bSWITCHYARD_[A-Z0-9_]*[A-Z0-9]\b", file.read_text())
    }
    assert len(named) > 100
    assert [fault for name in sorted(named) if (fault := variable_fault(name))] == []
