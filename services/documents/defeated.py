"""What is made of a page, slide, sheet or table on which a reader fails: its bare text, and a warning."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from switchyard.services.documents.errors import DocumentError
from switchyard.services.documents.model.blocks import Block
from switchyard.services.documents.model.document import Page
from switchyard.services.documents.write import markdown

XML_ERR_NO_MEMORY: Final = 2  # libxml2's number, in the syntax error that lxml makes of it
MAX_TEXT: Final = 10_000_000  # characters of what stands for a page


def passed_on(error: Exception) -> bool:
    """Whether an error is not one of reading: a refusal, the disk's or memory's."""
    if isinstance(error, (DocumentError, MemoryError)):
        return True
    return (isinstance(error, OSError) and error.errno is not None) or is_out_of_memory(error)


def is_out_of_memory(error: Exception) -> bool:
    """Whether the XML parser had no memory left."""
    return getattr(error, "code", None) == XML_ERR_NO_MEMORY


def page(lines: Iterable[str], what: str, error: Exception | str) -> Page:
    """A page of its bare lines.

    Args:
        lines: as the file has them.
        what: which page it is, such as "page 3".
        error: what its reader failed with, or the name of that.
    """
    texts = bare(lines)
    blocks = tuple(Block("paragraph", markdown.unlike_blocks(markdown.inline(each)), each) for each in texts)
    return Page.of(blocks, warnings=(warning(what, error, has_text=bool(texts)),))


def bare(lines: Iterable[str]) -> list[str]:
    """The lines that say something, as far as they are not too much."""
    found: list[str] = []
    length = 0
    for line in lines:
        if text := line.replace("\0", "").strip():
            found.append(text)
            length += len(text)
        if length > MAX_TEXT:
            break
    return found


def warning(what: str, error: Exception | str, *, has_text: bool = True) -> str:
    """What is said of a part that has its bare text, or none."""
    name = error if isinstance(error, str) else type(error).__name__
    left = "its bare text stands in its place" if has_text else "none of its text could be read"
    return f"the converter failed on {what}, and {left} ({name})"


def texts_of(root: Any) -> list[str]:
    """The text of each paragraph of a part of an Office document, of whichever namespace."""
    found: list[str] = []
    for element in root.iter():
        if isinstance(element.tag, str) and element.tag.rpartition("}")[2] in {"p", "si", "row"}:
            leaves = (at for at in element.iter() if isinstance(at.tag, str))
            found.append(" ".join(at.text for at in leaves if at.text and _says(at)))
    return found


def _says(element: Any) -> bool:
    return element.tag.rpartition("}")[2] in {"t", "v"}
