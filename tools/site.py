"""Builds the site of docs/: `make site`, or `python -m tools.site [FOLDER]`.

The pages are plain Markdown that reads on GitHub, with links to files outside of docs/. So they are laid out
once more in a folder of the tool's own: README.md as the first page, and each file that a page links to as a
page with its text. Then zensical builds them, and a link or an anchor that leads nowhere is an error.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
CONFIG: Final = ROOT / "tools" / "site.toml"
PROGRAM: Final = Path(sys.executable).with_name("zensical")
DECISIONS: Final = "Decisions"
LINK: Final = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)")
FENCE: Final = re.compile(r"^( *```\w+) .*$", re.MULTILINE)
"""The rest says what a test makes of the block."""
PICTURES: Final = {".svg", ".png"}
NAMES: Final = {"README.md": "index.md", "CHANGELOG.md": "changelog.md"}
LANGUAGES: Final = {
    ".py": "python",
    ".sh": "sh",
    ".yaml": "yaml",
    ".json": "json",
    ".html": "html",
    ".toml": "toml",
}


class SiteError(Exception):
    """The site was not built; the message says why."""


def pages() -> list[Path]:
    """Every page that was written, README.md and CHANGELOG.md among them."""
    return [*(ROOT / name for name in NAMES), *sorted((ROOT / "docs").rglob("*.md"))]


def place(file: Path) -> str:
    """Where a file of the repository stands in the site, relative to its pages."""
    if file.is_relative_to(ROOT / "docs"):
        return str(file.relative_to(ROOT / "docs"))
    name = str(file.relative_to(ROOT))
    return NAMES.get(name, f"source/{name}.md")


def in_navigation() -> Iterator[str]:
    """The pages of the navigation, as they are written in its file."""

    def below(part: Any) -> Iterator[str]:
        if isinstance(part, str):
            yield part
        for one in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
            yield from below(one)

    yield from below(tomllib.loads(CONFIG.read_text())["project"]["nav"])


def lay_out(target: Path) -> Path:
    """Write the pages and the file that says how they are built; where that is.

    Raises:
        SiteError: a page links to a file that is not there.
    """
    shutil.rmtree(target, ignore_errors=True)
    linked: set[Path] = set()
    for page in pages():
        _write(target / "pages" / place(page), _moved(page, linked))
    for picture in (ROOT / "docs").rglob("*"):
        if picture.suffix in PICTURES:
            copy = target / "pages" / place(picture)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(picture, copy)
    for file in sorted(linked):
        _write(target / "pages" / place(file), _shown(file))
    decisions = [f"decisions/{page.name}" for page in sorted((ROOT / "docs/decisions").glob("*.md"))]
    decisions.sort(key=lambda name: name != "decisions/README.md")
    entry = ",\n    ".join(f'"{name}"' for name in decisions)
    text = CONFIG.read_text().replace(
        '"changelog.md"] },\n', f'"changelog.md"] }},\n  {{ "{DECISIONS}" = [\n    {entry},\n  ] }},\n'
    )
    text = text.replace("[project]\n", '[project]\ndocs_dir = "pages"\nsite_dir = "site"\n', 1)
    return _write(target / "zensical.toml", text)


def _moved(page: Path, linked: set[Path]) -> str:
    here = (ROOT / "docs" / place(page)).parent

    def link(found: re.Match[str]) -> str:
        file = (page.parent / found[1]).resolve()
        if not file.exists():
            raise SiteError(f"{page.relative_to(ROOT)} links to {found[1]}, which is not there")
        if file not in all_pages and file.suffix not in PICTURES:
            linked.add(file)
        return os.path.relpath(ROOT / "docs" / place(file), here)

    all_pages = set(pages())
    text = FENCE.sub(r"\1", page.read_text())
    return LINK.sub(
        link, text.replace("```mermaid\n", "```text\n")
    )  # its program would come from another host


def _shown(file: Path) -> str:
    """A page that shows a file of the repository, or what is in a folder."""
    title = f"# {file.relative_to(ROOT)}\n\n"
    if file.is_dir():
        names = sorted(one.name for one in file.iterdir() if not one.name.startswith(("_", ".")))
        return title + "\n".join(f"- `{name}`" for name in names) + "\n"
    text = file.read_text()
    fence = "`" * (3 + max((len(found) for found in re.findall("`{3,}", text)), default=0))
    return f"{title}{fence}{LANGUAGES.get(file.suffix, 'text')}\n{text}\n{fence}\n"


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def build(target: Path) -> Path:
    """Build the site in a folder of its own; where its first page is.

    Raises:
        SiteError: a link leads nowhere, or zensical is not installed or fails.
    """
    if not PROGRAM.exists():
        raise SiteError("zensical is not installed: make setup")
    config = lay_out(target)
    done = subprocess.run(
        [PROGRAM, "build", "--strict", "--clean", "--config-file", config],
        env=os.environ | {"NO_COLOR": "1"}, cwd=target, capture_output=True, text=True, check=False,
    )  # fmt: skip
    first = target / "site" / "index.html"
    if done.returncode or not first.exists():
        said = done.stdout + done.stderr.partition("Traceback")[0]
        raise SiteError("the site is not whole:\n" + re.sub(r"\x1b\[[0-9;]*m", "", said))
    return first


def main() -> int:
    """Build it; the exit code."""
    target = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else ROOT / ".tools" / "site"
    try:
        print(build(target))
    except SiteError as error:
        print(f"site: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
