"""The parts of an Office Open XML file, and how they refer to each other (ECMA-376 part 2)."""

from __future__ import annotations

import posixpath
import zipfile
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

from lxml import etree

from switchyard.services.documents.errors import FatalError
from switchyard.services.documents.model.album import MAX_BYTES, Album, TooLargeError

Element = Any  # lxml's own; its stubs are not ours to ship
RELATIONSHIPS: Final = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"
ALTERNATE: Final = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"
PACKAGE: Final = "{http://schemas.openxmlformats.org/package/2006/relationships}"
SAYING: Final = frozenset({
    "t", "blip", "imagedata", "chart", "relIds", "textpath", "control", "sym", "fldChar", "instrText",
    "footnoteReference", "endnoteReference", "commentReference", "br", "tab", "noBreakHyphen", "cr",
})  # fmt: skip
# ISO/IEC 29500 strict names the same elements by other namespaces.
BLOCK_BYTES = 1024 * 1024
STRICT: Final = b"http://purl.oclc.org/ooxml/"
TRANSITIONAL: Final = {
    b"http://purl.oclc.org/ooxml/officeDocument/relationships": (
        b"http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    ),
    b"http://purl.oclc.org/ooxml/officeDocument/math": (
        b"http://schemas.openxmlformats.org/officeDocument/2006/math"
    ),
    b"http://purl.oclc.org/ooxml/wordprocessingml/main": (
        b"http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    ),
    b"http://purl.oclc.org/ooxml/drawingml/": b"http://schemas.openxmlformats.org/drawingml/2006/",
    b"http://purl.oclc.org/ooxml/presentationml/main": (
        b"http://schemas.openxmlformats.org/presentationml/2006/main"
    ),
    b"http://purl.oclc.org/ooxml/spreadsheetml/main": (
        b"http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    ),
}


@dataclass(frozen=True, slots=True)
class Relation:
    """What a part refers to: another part by its name, or an address outside."""

    kind: str
    target: str
    external: bool


class Package:
    """An open Office document; parts are parsed when they are asked for."""

    def __init__(self, path: Path | IO[bytes], album: Album | None = None) -> None:
        self.album = album
        self._archive = zipfile.ZipFile(path)
        self._names = set(self._archive.namelist())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._archive.close()

    def main_part(self) -> str:
        """The part that the file is about.

        Raises:
            FatalError: code `corrupt_file`.
        """
        found = next(self.related("", "officeDocument"), None)
        if found is None:
            raise FatalError("corrupt_file", "the document does not say which of its parts is the main one")
        return found

    def related(self, part: str, kind: str) -> Iterator[str]:
        """The parts of a kind ("styles", "footnotes", ...) that a part refers to."""
        for relation in self.relations(part).values():
            if relation.kind == kind and not relation.external and relation.target in self._names:
                yield relation.target

    def relations(self, part: str) -> dict[str, Relation]:
        """What a part refers to, by the ids it uses for that."""
        directory, name = posixpath.split(part)
        root = self.parse(posixpath.join(directory, "_rels", f"{name}.rels"))
        if root is None:
            return {}
        found = {}
        for one in root.iter(f"{PACKAGE}Relationship"):
            target = one.get("Target", "")
            external = one.get("TargetMode") == "External"
            if not external:
                target = posixpath.normpath(posixpath.join("/", directory, target)).lstrip("/")
            kind = one.get("Type", "").rpartition("/")[2]
            found[one.get("Id", "")] = Relation(kind, target, external)
        return found

    def parse(self, part: str) -> Element | None:
        """The root of a part, or None where there is no such part."""
        if part not in self._names:
            return None
        root = etree.fromstring(transitional(self._archive.read(part)), _parser())
        if root.getroottree().docinfo.internalDTD is not None:  # whatever its name is
            raise FatalError(
                "unsafe_file", f"{part} declares a document type, which Office documents must not"
            )
        return root

    def content(self, part: str) -> bytes:
        """A part as it is; nothing where there is no such part, or it is too large."""
        if part not in self._names or self._archive.getinfo(part).file_size > MAX_BYTES:
            return b""
        return self._archive.read(part)

    def opened(self, part: str) -> IO[bytes]:
        """A part that is there, to be read."""
        return self._archive.open(part)

    def mentions(self, part: str, word: bytes) -> bool:
        """Whether some bytes are in a part."""
        with self._archive.open(part) as file:
            tail = b""
            while chunk := file.read(BLOCK_BYTES):
                if word in tail + chunk:
                    return True
                tail = chunk[-len(word) :]
        return False

    def picture(self, part: str) -> str:
        """The name under which an image within the document is saved; without an album, the part's own."""
        if self.album is None:
            return posixpath.basename(part)
        if part not in self._names:
            return ""

        def data() -> bytes:
            if self._archive.getinfo(part).file_size > MAX_BYTES:
                raise TooLargeError
            return self._archive.read(part)

        return self.album.once(part.encode(), data)

    def children(self, part: str, parent: str) -> Iterator[Element]:
        """The elements within `parent`, each released when the next is asked for.

        A document in strict namespaces is read as a whole, any other piece by piece.
        """
        with self._archive.open(part) as file:
            strict = STRICT in file.read(BLOCK_BYTES)
        if strict:
            root = self.parse(part)
            found = root.find(f".//{parent}") if root is not None else None
            yield from found if found is not None else ()
            return
        with self._archive.open(part) as file:
            held = None
            for event, element in etree.iterparse(
                file, events=("start", "end"), resolve_entities=False, no_network=True, remove_comments=True
            ):
                if event == "start":
                    if held is None and element.tag == parent:
                        held = element
                elif held is not None and element.getparent() is held:
                    yield element
                    held.remove(element)

    def named(self, part: str, names: Container[str], *, without: str) -> Iterator[Element]:
        """The elements of some names (without their namespaces) in a part, but for those within another.

        Nothing is kept of what has been passed, however large the part is.
        """
        if part not in self._names:
            return
        with self._archive.open(part) as file:
            inside = 0
            for event, element in etree.iterparse(
                file, events=("start", "end"), resolve_entities=False, no_network=True, remove_comments=True
            ):
                name = element.tag.rpartition("}")[2]
                if name == without:
                    inside += 1 if event == "start" else -1
                if event == "end":
                    if not inside and name in names:
                        yield element
                    element.clear()
                    if element.getparent() is not None and name == "row":
                        element.getparent().remove(element)


def _parser() -> Any:
    return etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, remove_comments=True)


def transitional(data: bytes) -> bytes:
    """XML with the namespaces that most documents use."""
    if STRICT in data:
        for strict, other in TRANSITIONAL.items():
            data = data.replace(strict, other)
    return data


def says(element: Element) -> bool:
    """Whether there is anything in an element that readers take in."""
    return any(
        isinstance(at.tag, str) and at.tag.rpartition("}")[2] in SAYING and "chartex" not in at.tag
        for at in element.iterdescendants()
    )


def chosen(element: Iterable[Element]) -> Iterator[Element]:
    """The children of an element; of alternatives (ECMA-376 part 3) the first that says something.

    A newer program's kind of content says nothing here, and then what it gives older ones does.
    """
    for child in element:
        if child.tag == f"{ALTERNATE}AlternateContent":
            choices = [*child.iterchildren(f"{ALTERNATE}Choice"), *child.iterchildren(f"{ALTERNATE}Fallback")]
            choice = next((each for each in choices if says(each)), None)
            if choice is not None:
                yield from chosen(choice)
        else:
            yield child
