"""Running headers and footers are left out, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.connectors.documents import converted
from tests.connectors.pdf_files import pages_of, texts_of

Placed = tuple[float, float, str]


def markdown_of(tmp_path: Path, pages: list[list[Placed]]) -> str:
    """The Markdown of pages with texts at these places, points from the lower left."""
    path = tmp_path / "pages.pdf"
    path.write_bytes(pages_of([texts_of(texts) for texts in pages]))
    return converted(path)


def body(number: int) -> list[Placed]:
    words = ("first", "second", "third", "fourth", "fifth", "sixth")
    return [(72, 600, f"The {words[number]} page has a text of its own."), (72, 400, "See page 12.")]


def test_headers_and_page_numbers_of_many_pages_are_left_out(tmp_path: Path) -> None:
    pages = [
        [(72, 760, "Annual report"), *body(number), (290, 30, f"Page {number + 1} of 6")]
        for number in range(6)
    ]
    made = markdown_of(tmp_path, pages)
    assert "Annual report" not in made
    assert "of 6" not in made
    assert made.count("See page 12.") == 6
    assert "The sixth page has a text of its own." in made


def test_headers_that_differ_on_left_and_right_pages_are_left_out(tmp_path: Path) -> None:
    pages = [
        [(72 if number % 2 else 400, 760, "Chapter One" if number % 2 else "The Book"), *body(number)]
        for number in range(6)
    ]
    made = markdown_of(tmp_path, pages)
    assert "Chapter One" not in made
    assert "The Book" not in made


def test_what_stands_at_the_edge_of_two_pages_alone_is_kept(tmp_path: Path) -> None:
    pages = [[(72, 760, "To whom it may concern"), *body(number)] for number in range(2)]
    assert markdown_of(tmp_path, pages).count("To whom it may concern") == 2


def test_what_is_at_the_edge_and_differs_from_page_to_page_is_kept(tmp_path: Path) -> None:
    names = ("Ada", "Grace", "Edsger", "Barbara", "Donald", "Alan")
    pages = [[(72, 760, f"Chapter about {names[number]}"), *body(number)] for number in range(6)]
    made = markdown_of(tmp_path, pages)
    assert all(f"Chapter about {name}" in made for name in names)


def test_the_header_of_a_chapter_in_a_long_document_is_left_out(tmp_path: Path) -> None:
    def header(number: int) -> list[Placed]:
        return [(72, 760, "On bridges")] if 41 <= number <= 49 and number % 2 else []

    pages = [
        [*header(number), (72, 600, f"Text of its own, {chr(97 + number % 26)}.")] for number in range(120)
    ]
    made = markdown_of(tmp_path, pages)
    assert "On bridges" not in made
    assert made.count("Text of its own") == 120


@pytest.mark.parametrize("said", ["{}", "- {} -", "Page {}", "{} / 2", "Seite {} von 2"])
def test_the_number_of_a_page_is_left_out_however_few_there_are(tmp_path: Path, said: str) -> None:
    pages = [[*body(number), (300, 90, said.format(number + 1))] for number in range(2)]
    assert markdown_of(tmp_path, pages) == markdown_of(tmp_path, [body(0), body(1)])


@pytest.mark.parametrize(
    "kept",
    [
        pytest.param((300, 90, "7"), id="not its number"),
        pytest.param((300, 300, "1"), id="not at the edge"),
        pytest.param((72, 388, "1"), id="directly below text"),
        pytest.param((300, 90, "1 apple"), id="more than a number"),
    ],
)
def test_other_numbers_are_kept(tmp_path: Path, kept: Placed) -> None:
    made = markdown_of(tmp_path, [[*body(0), kept]])
    assert kept[2] in made.removeprefix("The first page has a text of its own.").replace("12.", "")
