"""The site of docs/, built as `make site` builds it: links lead somewhere, and it loads nothing."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tools.site import PROGRAM, SiteError, build, in_navigation, pages, place

LOADS = {"audio", "embed", "iframe", "img", "object", "script", "source", "track", "video"}
"""Elements that load what they name by themselves; a link does where its `rel` says so."""
LINKS_THAT_LOAD = {"icon", "stylesheet", "preload", "prefetch", "modulepreload", "preconnect", "dns-prefetch"}

needs_zensical = pytest.mark.skipif(
    not PROGRAM.exists(), reason="zensical is missing: make setup installs it"
)


class Loaded(HTMLParser):
    """What a page loads, and its classes."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.classes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = {name: value or "" for name, value in attrs}
        self.classes |= set(said.get("class", "").split())
        loads = tag in LOADS or (tag == "link" and bool(set(said.get("rel", "").split()) & LINKS_THAT_LOAD))
        if loads:
            self.addresses += [said[name] for name in ("src", "href", "data", "srcset") if name in said]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the site."""
    return build(tmp_path_factory.mktemp("site")).parent


def test_every_page_stands_in_the_navigation_once() -> None:
    named = list(in_navigation())
    written = [place(page) for page in pages() if not place(page).startswith("decisions/")]
    assert sorted(named) == sorted(written), "tools/site.toml"


@needs_zensical
def test_every_page_is_in_the_site_and_every_link_leads_somewhere(site: Path) -> None:
    for page in pages():
        made = site / place(page).replace("README.md", "index.md").replace(".md", ".html")
        assert made.exists(), f"{page.name} is not in the site"
    assert (site / "pictures" / "path.svg").exists()


@needs_zensical
def test_the_site_loads_nothing_from_another_host(site: Path) -> None:
    for page in site.rglob("*.html"):
        loaded = Loaded()
        loaded.feed(page.read_text())
        assert [found for found in loaded.addresses if re.match(r"(\w+:)?//", found)] == [], page.name
        assert "mermaid" not in loaded.classes, f"{page.name}: the program that draws it is another host's"
    for sheet in site.rglob("*.css"):
        assert re.findall(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", sheet.read_text()) == [], sheet.name


@needs_zensical
@pytest.mark.parametrize(
    "link", ["nowhere.md", "docs/one.md#nothing-is-called-so", "docs/nowhere.md", "docs/one.md#one"]
)
def test_a_link_that_leads_nowhere_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, link: str
) -> None:
    texts = {
        "README.md": f"# First\n\n[link]({link})\n",
        "CHANGELOG.md": "# Changes\n",
        "docs/one.md": "# One\n",
    }
    for name, text in (texts | {"docs/decisions/README.md": "# Why\n"}).items():
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_text(text)
    monkeypatch.setattr("tools.site.ROOT", tmp_path / "tree")
    if link.endswith("#one"):
        assert build(tmp_path / "site").exists()
    else:
        with pytest.raises(SiteError, match=r"not there|anchor does not exist"):
            build(tmp_path / "site")
