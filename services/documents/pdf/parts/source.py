"""The pages of a document that were read in parts, elsewhere, as if they had been read here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from switchyard.services.documents.errors import FatalError
from switchyard.services.documents.model.album import TooLargeError
from switchyard.services.documents.pdf.page_model import PageText, ReadPage
from switchyard.services.documents.pdf.parts.file import PartError, PartFile
from switchyard.services.documents.pdf.reader import NOT_READ
from switchyard.services.documents.pdf.surroundings import sampled


class Parts:
    """The pages of a document in several files.

    Args:
        total: how many there are.
        files: in any order; they have no page twice.
        missing: why pages of no file were left out, by their numbers from 0.
        read_by: by what they have to be read.

    Raises:
        PartError: they are no parts of one document, or a page is nowhere.
    """

    def __init__(
        self, total: int, files: Sequence[PartFile], missing: Mapping[int, str], read_by: Mapping[str, str]
    ) -> None:
        self.total = total
        self.warnings: tuple[str, ...] = ()
        self.mismatches: tuple[str, ...] = ()
        self._missing = missing
        self._files: dict[int, PartFile] = {}
        self._pictures: dict[bytes, PartFile] = {}
        for file in sorted(files, key=lambda file: file.head.first):
            head = file.head
            if head.total != total or head.read_by != read_by:
                raise PartError(
                    f"pages of {head.total} that were read by {head.read_by} belong to another document than "
                    f"one of {total} read by {dict(read_by)}"
                )
            for number in range(head.first, head.first + head.count):
                if self._files.setdefault(number, file) is not file:
                    raise PartError(f"page {number + 1} is there twice")
            if head.first == 0:
                self.warnings, self.mismatches = head.warnings, head.mismatches
            for key in file.pictures():
                self._pictures.setdefault(key, file)
        for number in range(total):
            if number not in self._files and number not in missing:
                raise PartError(f"page {number + 1} is missing")

    def sample(self) -> dict[int, PageText]:
        """The texts of the pages by which the others are put together."""
        pages = (self._page(number) for number in sampled(self.total))
        return {page.number: page.text for page in pages if not page.left_out}

    def pages(self) -> Iterator[ReadPage]:
        """All pages, in their order.

        Raises:
            FatalError: code `ocr_failed`, the OCR program failed on each page that it was to read.
        """
        why, was_read = "", False
        for number in range(self.total):
            page = self._page(number)
            was_read = was_read or page.scan is not None
            if page.left_out.startswith(NOT_READ):
                why = page.left_out.removeprefix(NOT_READ)
            yield page
        if why and not was_read:
            raise FatalError("ocr_failed", why)

    def picture(self, key: bytes) -> bytes:
        """The data of a picture.

        Raises:
            TooLargeError: it is too large, or there are too many.
            ValueError: it is damaged.
        """
        if key not in self._pictures:
            raise TooLargeError
        outcome, data = self._pictures[key].picture(key)
        match outcome:
            case "kept":
                return data
            case "damaged":
                raise ValueError("the picture is damaged")
            case "too_large":
                raise TooLargeError

    def _page(self, number: int) -> ReadPage:
        file = self._files.get(number)
        return file.page(number) if file is not None else ReadPage(number, left_out=self._missing[number])
