"""Comments on slides and sheets, of which both have an older and a newer kind (threads)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from switchyard.services.documents.model import runs
from switchyard.services.documents.model.pieces import Piece
from switchyard.services.documents.office.package import Element, Package
from switchyard.services.documents.office.sheets.places import place

MAX_COMMENTS: Final = 10_000
COMMENTS: Final = {"cm", "comment", "threadedComment", "reply"}
TEXTS: Final = {"text", "txBody"}


def of_slide(package: Package, part: str) -> Iterator[Piece]:
    """The comments on a slide as quotes."""
    authors = {
        author.get("id", ""): author.get("name", "")
        for kind in ("commentAuthors", "authors")
        for of_all in package.related(package.main_part(), kind)
        for author in _named(package.parse(of_all), {"cmAuthor", "author"})
    }
    for comments in package.related(part, "comments"):
        for comment in _named(package.parse(comments), COMMENTS):
            yield from _quote(authors.get(comment.get("authorId", ""), ""), _text(comment))


def of_sheet(package: Package, part: str) -> Iterator[tuple[int, int, list[Piece]]]:
    """The comments on a sheet as quotes, with the row and column of each."""
    people = {
        person.get("id", ""): person.get("displayName", "")
        for of_all in package.related(package.main_part(), "person")
        for person in _named(package.parse(of_all), {"person"})
    }
    threads = [
        comment
        for comments in package.related(part, "threadedComment")
        for comment in _named(package.parse(comments), COMMENTS)
    ]
    places = {comment.get("ref", "") for comment in threads}
    for comments in package.related(part, "comments"):
        root = package.parse(comments)
        authors = ["".join(author.itertext()) for author in _named(root, {"author"})]
        for comment in _named(root, COMMENTS):
            at = comment.get("authorId", "")
            author = authors[int(at)] if at.isdecimal() and len(at) < 6 and int(at) < len(authors) else ""
            if comment.get("ref", "") not in places:  # else it repeats the thread for older programs
                yield from _on_cell(comment, author)
    for comment in threads:
        yield from _on_cell(comment, people.get(comment.get("personId", ""), ""))


def _on_cell(comment: Element, author: str) -> Iterator[tuple[int, int, list[Piece]]]:
    reference = comment.get("ref", "")
    row, column = place(reference) or (0, 0)
    if quoted := list(_quote(author, _text(comment), reference)):
        yield row, column, quoted


def _named(root: Element | None, names: set[str]) -> Iterator[Element]:
    found = 0
    for element in root.iter("{*}*") if root is not None else ():
        if element.tag.rpartition("}")[2] in names and found < MAX_COMMENTS:
            found += 1
            yield element


def _text(comment: Element) -> str:
    held = (child for child in comment if str(child.tag).rpartition("}")[2] in TEXTS)
    return " ".join(" ".join("".join(child.itertext()).split()) for child in held)


def _quote(author: str, text: str, on: str = "") -> Iterator[Piece]:
    if text:
        heading = " ".join(
            part for part in ("Comment", f"by {author}" if author else "", f"on {on}" if on else "") if part
        )
        yield Piece("quote", runs.render([runs.Run(f"{heading}: {text}")]))
