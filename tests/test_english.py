"""The project writes plain English: some words that once stood everywhere have better ones."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]
FOLDERS: Final = (
    "benchmarks", "docs", "events", "examples", "projections", "services", "switchyard", "tests", "tools",
)  # fmt: skip
KINDS: Final = {".css", ".html", ".js", ".md", ".py", ".sh", ".sql"}
SOME: Final = 500  # files, at the least: a search that finds nothing proves nothing
ODD: Final = (
    # A name such as `is_told` counts as well, so the ends of words are those of letters.
    (
        r"(?<![a-z])(tells?|told|telling)(?![a-z])",
        "writes, reports, detects, declares, distinguishes, asks",
    ),
    (r"(?<![a-z])mend(s|ed|ing)?(?![a-z])", "fixes, repairs, restores"),
    (r"(?<![a-z])anew(?![a-z])", "again, or a verb such as restarts, rebuilds, replaces"),
    (r"\b(stand(s|ing)?|stood)\s+still\b", "is stuck, makes no progress"),
    (r"\bgoes\s+by\b", "follows, uses, is decided by"),
    (r"\bcounts\s+more\s+than\b", "takes precedence over"),
    (r"\bmay\s+be\s+given\s+often\b", "is repeatable"),
    # The small word within a sentence is right. With a capital it begins one, and so it does after a name.
    (r"\bOf [a-z0-9`]|(?m:^ +\w+: of [a-z`])", "begin with the subject, as in `url: that of the gateway`"),
)
"""What is looked for, in any case, and what says it better."""
RIGHT: Final = {
    # Log events, as they were called.
    "CHANGELOG.md": ("worker_begun_anew", "lane_not_mended", "job_not_mended", "`mended`"),
    "tests/documents/pdf/test_pdf_text.py": ("Of bridges",),  # a heading
}
"""What may stay, by the file that has it."""


def texts() -> Iterator[tuple[str, str]]:
    """What is read: every page and all code with its comments, messages and names, by path."""
    for name in ("README.md", "CHANGELOG.md", "Makefile"):
        yield name, (ROOT / name).read_text()
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in KINDS and path.is_file() and path != Path(__file__):
                yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8", errors="replace")


def odd(path: str, text: str) -> Iterator[str]:
    """The odd phrases of a text, each with its place and what says it better."""
    for right in RIGHT.get(path, ()):
        text = text.replace(right, "")
    small = text.lower()
    for pattern, better in ODD:
        # Only the last one looks at capitals.
        for found in re.finditer(pattern, text if "Of" in pattern else small):
            line = text.count("\n", 0, found.start()) + 1
            yield f'{path}:{line}: "{found[0]}": better {better}'


@pytest.mark.parametrize(
    "text",
    [
        "It tells so.", "def is_told(", "the log `lane_not_mended`", "made anew", "The feed stands\nstill.",
        "What it goes by", "# Of these, one is left.", "A cell counts more than a row.",
        "--to may be given often", "    url: of the gateway.",
    ],
)  # fmt: skip
def test_odd_phrases_are_found(text: str) -> None:
    assert len(list(odd("a.md", text))) == 1


@pytest.mark.parametrize("text", ["recommended, amended", "one of these", "It stands.", "extolled", "retell"])
def test_plain_phrases_are_not(text: str) -> None:
    assert not list(odd("a.md", text))


def test_no_page_message_comment_or_name_has_an_odd_phrase() -> None:
    read = dict(texts())
    assert len(read) > SOME
    found = [line for path, text in read.items() for line in odd(path, text)]
    assert not found, "\n" + "\n".join(found)
