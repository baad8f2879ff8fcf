"""The files and commands of a page, to be run as they stand there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

DOCS: Final = Path(__file__).parents[2] / "docs"
_BLOCK: Final = re.compile(
    r"(?:[Ss]ave\s+this\s+(?:\w+\s+\w+\s+)?as\s+`(?P<name>[^`]+)`[^`]*?:\n\n)?```(?P<language>\w*)\n(?P<text>.*?)```",
    re.DOTALL,
)


class Block(NamedTuple):
    """A code block; `name` is the file that it is saved as, if it is one."""

    language: str
    name: str
    text: str

    def here(self, places: Mapping[str, str]) -> str:
        """The text with what is another one in a test: paths, hosts, ports.

        Raises:
            AssertionError: the text has none of what is to be replaced.
        """
        text = self.text
        for there, ours in places.items():
            assert there in text, f"{there!r} is not in {self.name or text!r}"
            text = text.replace(there, ours)
        return text


def blocks(page: str) -> list[Block]:
    """All blocks of `docs/<page>.md`, in their order."""
    text = (DOCS / f"{page}.md").read_text()
    return [Block(found["language"], found["name"] or "", found["text"]) for found in _BLOCK.finditer(text)]


def file(page: str, name: str) -> Block:
    """The block that is saved under a name."""
    (found,) = [block for block in blocks(page) if block.name == name]
    return found


def command(page: str, begins: str) -> Block:
    """The block of commands that one begins."""
    (found,) = [block for block in blocks(page) if block.language == "sh" and begins in block.text]
    return found
