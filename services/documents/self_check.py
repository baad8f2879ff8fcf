"""The letters that came out of a page beside those that it has: a warning where they are far apart."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any, Final

from switchyard.services.documents.model.blocks import Block
from switchyard.services.documents.office.package import chosen

LEAST, MOST = 0.9, 1.1  # of the letters
SLACK: Final = 20  # letters by which a short page may differ
MIN_LETTERS: Final = 8  # of a page of which nothing came out
MADE: Final = frozenset(
    {"oMath", "chart", "relIds", "numPr", "fldSimple", "instrText", "control"}
)  # of which more comes out
FURNITURE: Final = frozenset({"dt", "ftr", "hdr", "sldNum", "sldImg"})
SIGNS: Final = bytes(code for code in range(128) if not chr(code).isalnum())
NOT_SHOWN: Final = frozenset({"moveFrom", "rt", "delText"})
# In any namespace: what hides what is in it or beside it, or has text that is no text of a run.
ODD: Final = tuple(
    f"{{*}}{name}" for name in ("AlternateContent", "textpath", "vanish", "ph", *sorted(NOT_SHOWN))
)
ODD_OR_MADE: Final = (*ODD, *(f"{{*}}{name}" for name in sorted(MADE)))


def letters(text: str) -> int:
    """How many letters and digits there are."""
    if text.isascii():
        return len(text.encode().translate(None, SIGNS))
    return sum(map(str.isalnum, text))


def warning(
    what: str,
    has: int,
    blocks: Iterable[Block],
    of: str,
    *,
    without: Container[str] = (),
    more: bool = False,
    repeated: int | None = None,
) -> tuple[str, ...]:
    """What is said of a page whose letters are lost or doubled; nothing of any other.

    Args:
        what: which page it is, such as "page 3".
        has: how many letters it has.
        blocks: what came out.
        of: where its letters are.
        without: kinds of blocks that have other letters.
        more: whether more may come out than there is, such as formulas.
        repeated: how many letters cells that span several have, for each further place; without, as many as
            cells that are alike have.
    """
    least = most = 0
    for block in blocks:
        if block.kind == "image" or block.kind in without:
            continue
        found = letters(block.text)
        if block.kind == "item":
            found += letters(block.markdown.lstrip().partition(" ")[0])
        least += found
        most += found - (_repeated(block.text) if block.kind == "table" and repeated is None else 0)
    least, most = least - (repeated or 0), most - (repeated or 0)
    lost, doubled = has - least, most - has
    is_lost = lost > has * (1 - LEAST) and (lost >= SLACK or (not least and has >= MIN_LETTERS))
    is_doubled = not more and doubled > has * (MOST - 1) and doubled >= SLACK
    if not is_lost and not is_doubled:
        return ()
    return (f"{what}: {least if is_lost else most} letters came out, and {of} has {has}",)


def _repeated(table: str) -> int:
    """The letters of cells like the one to the left or above: one that spans several is in each of them."""
    found = 0
    above: list[str] = []
    for row in table.split("\n"):
        cells = row.split("\t")
        for at, cell in enumerate(cells):
            if (at and cells[at - 1] == cell) or (at < len(above) and above[at] == cell):
                found += letters(cell)
        above = cells
    return found


class XmlLetters:
    """Counts the letters of the XML of an Office document.

    Args:
        more: whether there is what more comes out of than it has letters, such as formulas.
    """

    def __init__(self) -> None:
        self.count = 0
        self.more = False

    def add(self, element: Any) -> None:
        """Take in an element and all below it, as far as it is shown."""
        waiting = [element]
        while waiting:
            at = waiting.pop()
            if not isinstance(at.tag, str):
                continue
            if next(at.iter(*(ODD if self.more else ODD_OR_MADE)), None) is None:
                self.count += letters("".join([text.text or "" for text in at.iter("{*}t")]))
                continue
            name = at.tag.rpartition("}")[2]
            if name == "AlternateContent":
                waiting += chosen([at])
                continue
            if name in NOT_SHOWN or _is_hidden(at, name):
                continue
            if name == "t":
                self.count += letters(at.text or "")
                continue
            if name == "textpath":
                self.count += letters(at.get("string") or "")
            self.more = self.more or name in MADE
            waiting += at


def _is_hidden(element: Any, name: str) -> bool:
    """Whether a run is not to be seen, or a shape is a date, a footer or a number."""
    if name == "r":
        return any(str(at.tag).endswith("main}vanish") for look in element[:1] for at in look)
    if name == "sp":
        return any(
            at.get("type") in FURNITURE
            for at in element.iter("{http://schemas.openxmlformats.org/presentationml/2006/main}ph")
        )
    return False
