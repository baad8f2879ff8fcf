"""Pages that were read, in a file: a head, then what each page is, behind the pictures that it shows.

Everything in it has its length and its checksum before it, so that a page is found without the others, and a
file that was cut off or changed is refused. A file of another version is refused, too: all parts of a
document are read and put together by workers of one version.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from os import SEEK_CUR
from pathlib import Path
from typing import IO, Final, NamedTuple, Self

import msgspec

from switchyard.services.documents.pdf.kept_pictures import KeptPictures, Outcome
from switchyard.services.documents.pdf.page_model import ReadPage
from switchyard.services.documents.pdf.parts.packing import PackError
from switchyard.services.documents.pdf.parts.pages import packed, unpacked

MAGIC: Final = b"SWYPAGES"
VERSION: Final = 2
MAX_HEAD: Final = 1024 * 1024
MAX_FRAME: Final = 256 * 1024 * 1024
HEAD, PAGE, PICTURE, END = b"h", b"p", b"i", b"e"
START: Final = struct.Struct("<8sH")
FRAME: Final = struct.Struct("<cIII")  # what it is, the page or how many, its bytes, their checksum
OUTCOMES: Final[tuple[Outcome, ...]] = ("kept", "too_large", "damaged")
KEY_BYTES: Final = 32


class PartError(ValueError):
    """A file is none of pages that were read, or is damaged, or of another version."""


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the pages in a file are of.

    Args:
        total: how many pages the document has.
        first: the first page, from 0.
        count: how many are there.
        read_by: by what they were read: the options that change what a page says.
        warnings: what is said of the document, where its first page is there.
        mismatches: what is said of its name and type.
    """

    total: int
    first: int
    count: int
    read_by: dict[str, str]
    warnings: tuple[str, ...] = ()
    mismatches: tuple[str, ...] = ()


class _Frame(NamedTuple):
    kind: bytes
    number: int
    size: int
    checksum: int


class PartWriter:
    """Writes such a file, a page at a time.

    Args:
        path: where.
        head: what it is about.
        kept: the data of the pictures, which goes over into the file; None where none are saved.
    """

    def __init__(self, path: Path, head: Head, kept: KeptPictures | None) -> None:
        self._path = path
        self._head = head
        self._kept = kept
        self._known: set[bytes] = set()
        self._next = head.first

    def __enter__(self) -> Self:
        """Open it."""
        self._file = self._path.open("wb")
        self._file.write(START.pack(MAGIC, VERSION))
        self._frame(HEAD, 0, msgspec.msgpack.encode(self._head))
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Close it; as a whole one, if all went well."""
        with self._file:
            if kind is None:
                self._frame(END, self._next - self._head.first, b"")

    def add(self, page: ReadPage) -> None:
        """Write the next page."""
        if page.number != self._next:
            raise PartError(f"page {page.number} comes where page {self._next} belongs")
        self._next += 1
        for picture in page.shown:
            if picture.key and picture.key not in self._known and self._kept is not None:
                self._known.add(picture.key)
                outcome = self._kept.outcome(picture.key)
                data = self._kept.load(picture.key) if outcome == "kept" else b""
                self._frame(PICTURE, OUTCOMES.index(outcome), picture.key + data)
        try:
            self._frame(PAGE, page.number, packed(page))
        except PackError:
            left_out = ReadPage(page.number, left_out="is too large and was left out")
            self._frame(PAGE, page.number, packed(left_out))

    def _frame(self, kind: bytes, number: int, data: bytes) -> None:
        self._file.write(FRAME.pack(kind, number, len(data), zlib.crc32(data)))
        self._file.write(data)


class PartFile:
    """A file of pages that were read.

    Args:
        path: where it lies.

    Raises:
        PartError: it is no such file, or not a whole one.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._places: dict[int, int] = {}  # of pages
        self._pictures: dict[bytes, int] = {}
        with path.open("rb") as file:
            self.head = _head(file)
            frame = self._frame(file)
            while frame.kind != END:
                frame = self._frame(file)
            wanted = range(self.head.first, self.head.first + self.head.count)
            if list(self._places) != list(wanted) or frame.number != len(wanted) or file.read(1):
                raise PartError("a file of pages has not the pages that it should have")

    def page(self, number: int) -> ReadPage:
        """A page by its number, from 0."""
        try:
            page = unpacked(self._data(self._places[number], PAGE)[1])
        except PackError as error:
            raise PartError(f"page {number + 1} cannot be read: {error}") from error
        if page.number != number:
            raise PartError(f"page {number + 1} says that it is page {page.number + 1}")
        return page

    def pictures(self) -> Iterator[bytes]:
        """The keys of the pictures."""
        return iter(self._pictures)

    def picture(self, key: bytes) -> tuple[Outcome, bytes]:
        """What is known of a picture, and its data."""
        number, data = self._data(self._pictures[key], PICTURE)
        if not number < len(OUTCOMES):
            raise PartError(f"there is no outcome {number} of a picture")
        return OUTCOMES[number], data[KEY_BYTES:]

    def _frame(self, file: IO[bytes]) -> _Frame:
        """Take in what comes next."""
        place = file.seek(0, SEEK_CUR)
        frame = _frame(file)
        if frame.kind == PAGE:
            self._places[frame.number] = place
        elif frame.kind == PICTURE:
            self._pictures[_exactly(file, KEY_BYTES)] = place
        elif frame.kind != END:
            raise PartError(f"a file of pages has no {frame.kind!r}")
        file.seek(place + FRAME.size + frame.size)
        return frame

    def _data(self, place: int, kind: bytes) -> tuple[int, bytes]:
        with self._path.open("rb") as file:
            file.seek(place)
            frame = _frame(file)
            if frame.kind != kind:
                raise PartError("a file of pages was changed")
            return frame.number, _content(file, frame)


def _head(file: IO[bytes]) -> Head:
    magic, version = START.unpack(_exactly(file, START.size))
    if magic != MAGIC:
        raise PartError("this is no file of pages")
    if version != VERSION:
        age = "newer" if version > VERSION else "older"
        raise PartError(f"the pages were read by a version of form {version}, {age} than {VERSION}")
    frame = _frame(file)
    if frame.kind != HEAD or frame.size > MAX_HEAD:
        raise PartError("a file of pages has no head")
    try:
        head = msgspec.msgpack.decode(_content(file, frame), type=Head)
    except msgspec.MsgspecError as error:
        raise PartError(f"the head of a file of pages is damaged ({error})") from error
    if head.first < 0 or head.count <= 0 or head.first + head.count > head.total:
        raise PartError(f"{head.count} pages from {head.first} on are no part of {head.total}")
    return head


def _frame(file: IO[bytes]) -> _Frame:
    frame = _Frame(*FRAME.unpack(_exactly(file, FRAME.size)))
    if frame.size > MAX_FRAME:
        raise PartError(f"{frame.size} bytes of a page are too many")
    return frame


def _content(file: IO[bytes], frame: _Frame) -> bytes:
    data = _exactly(file, frame.size)
    if zlib.crc32(data) != frame.checksum:
        raise PartError("a file of pages is damaged")
    return data


def _exactly(file: IO[bytes], size: int) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise PartError("a file of pages is cut off")
    return data
