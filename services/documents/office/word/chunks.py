"""Documents of other formats that a Word document puts in (ECMA-376 part 1, 17.17.2)."""

from __future__ import annotations

import io
import posixpath
import zipfile
from typing import Final

from switchyard.services.documents import rtf
from switchyard.services.documents.errors import FatalError
from switchyard.services.documents.html import reader as html
from switchyard.services.documents.html.encoding import decode
from switchyard.services.documents.model import pieces, runs
from switchyard.services.documents.model.pieces import Piece
from switchyard.services.documents.office import archive
from switchyard.services.documents.office.package import Package
from switchyard.services.documents.sniff import NAMES, by_content

MAX_DEPTH: Final = 4
MAX_CHUNKS: Final = 1_000  # of a document


class Chunks:
    """Reads what one document puts in.

    Args:
        depth: how many others the document itself is put into.
    """

    def __init__(self, package: Package, depth: int) -> None:
        self._package = package
        self._depth = depth
        self._read = 0

    def read(self, part: str) -> tuple[list[Piece], list[str]]:
        """What a part holds, and warnings, one where it cannot be read."""
        name = posixpath.basename(part)
        source = self._package.content(part)
        self._read += 1
        if not source.strip() or self._read > MAX_CHUNKS or self._depth == MAX_DEPTH:
            return [], [f"{name}, which is put into the document, is empty, missing or one too many"]
        found = by_content(source[:4096])
        match found:
            case "html":
                return list(html.read_pieces(source, self._package.album)), []
            case "rtf":
                made, warnings = rtf.read_pieces(source)
                return made, list(warnings)
            case "text":
                lines = decode(source).splitlines()
                return [piece for line in lines for piece in pieces.paragraph(_line(line))], []
            case "zip":
                return self._document(source, name)
            case _:
                return [], [f"{name}, which is put into the document, is {NAMES[found]} and was left out"]

    def _document(self, source: bytes, name: str) -> tuple[list[Piece], list[str]]:
        from switchyard.services.documents.office.word.read import DocxReader  # noqa: PLC0415 - which reads what it is part of

        try:
            with zipfile.ZipFile(io.BytesIO(source)) as packed:
                archive.check(packed)
            with Package(io.BytesIO(source), self._package.album) as package:
                reader = DocxReader(package, self._depth + 1)
                return list(reader.read()), reader.warnings
        except (FatalError, zipfile.BadZipFile):
            return [], [f"{name}, which is put into the document, cannot be read and was left out"]


def _line(text: str) -> str:
    return runs.render([runs.Run(text)])
