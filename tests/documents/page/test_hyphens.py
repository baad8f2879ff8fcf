"""Hyphens at the ends of lines: which go, and which are the word's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from switchyard.services.documents.page.hyphens import joint, unbroken
from tests.documents.corpus import converted
from tests.documents.pdf_files import page_of, pages_of, texts_of


def lines_of(*lines: str, top: int = 700) -> list[tuple[float, float, str]]:
    return [(72, top - 12 * number, line) for number, line in enumerate(lines)]


def markdown_of(tmp_path: Path, *lines: str) -> str:
    path = tmp_path / "page.pdf"
    path.write_bytes(page_of(texts_of(lines_of(*lines))))
    return converted(path)


@pytest.mark.parametrize(
    ("lines", "word"),
    [
        pytest.param(["The word excep-", "tional has no hyphen."], "exceptional", id="none known"),
        pytest.param(
            ["A well-known case: this one is well-", "known as well."], "is well-known as", id="with it"
        ),
        pytest.param(["The workload is the work-", "load of a machine."], "workload of", id="without it"),
        pytest.param(["Memory is mapped, and memory-", "mapped it stays."], "memory-mapped", id="both"),
        pytest.param(["One is in the stances in-", "stances take."], "instances", id="short"),
        pytest.param(
            ["Both pre-", "and post-processing are known."], "pre- and post-processing", id="linked"
        ),
        pytest.param(["Der Vor-", "und der Nachname."], "Vor- und der", id="linked in German"),
        pytest.param(["It was the Anglo-", "Saxon way."], "Anglo-Saxon", id="capital"),
    ],
)
def test_a_hyphen_at_the_end_of_a_line(tmp_path: Path, lines: list[str], word: str) -> None:
    assert word in markdown_of(tmp_path, *lines)


def test_words_of_other_pages_decide_as_well(tmp_path: Path) -> None:
    path = tmp_path / "pages.pdf"
    first = lines_of("This is about tests that run end-", "to-end, as they should.")
    path.write_bytes(pages_of([texts_of(first), texts_of(lines_of("An end-to-end test is long."))]))
    assert "run end-to-end, as" in converted(path)


def test_a_hyphen_in_a_cell_belongs_to_what_stands_below_it(tmp_path: Path) -> None:
    xs, ys = (70, 180, 290), (720, 700, 670)
    rules = "".join(f"{xs[0]} {y} m {xs[-1]} {y} l S\n" for y in ys)
    rules += "".join(f"{x} {ys[0]} m {x} {ys[-1]} l S\n" for x in xs)
    texts = [
        (75, 706, "Kind"),
        (185, 706, "In short"),
        (75, 688, "performance-"),
        (185, 688, "where it is excep-"),
    ]
    below = [(75, 676, "critical"), (185, 676, "tional")]
    plain = lines_of("The performance is critical here.", top=600)
    path = tmp_path / "table.pdf"
    path.write_bytes(page_of(rules + texts_of([*texts, *below, *plain])))
    assert "| performance-critical | where it is exceptional |" in converted(path)


def test_a_hyphen_that_nothing_follows_stays_a_plain_one(tmp_path: Path) -> None:
    made = markdown_of(tmp_path, "Memory is mapped. It is memory-", "", "", "mapped")
    assert made == "Memory is mapped. It is memory-\n\nmapped\n"
    assert unbroken(["memory\u2011"]) == "memory-"


def test_the_joint_of_two_lines() -> None:
    assert joint("two", "words") == (0, " ")
    assert joint("excep-", "tion") == (1, "")
    assert joint("memory\u2011", "mapped") == (1, "-")
    assert joint("a dash -", "and more") == (0, " ")
