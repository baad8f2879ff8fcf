"""A conversion as Mistral's OCR answers it: written page by page, with images as they are read."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any, Final

import msgspec
import orjson

from switchyard.events.errors import NotFoundError
from switchyard.events.job import Job
from switchyard.events.values import RESULT_ARTIFACT
from switchyard.services.files import FileInfo, Files
from switchyard.services.intake.ocr.marks import pieces
from switchyard.services.intake.ocr.request import Shown

RESULT_BYTES: Final = 32 * 1024**2
"""The most that a result may have: it lists images and warnings beside a short text."""
BLOCK_CHARS: Final = 64 * 1024


class NoAnswerError(Exception):
    """A job has succeeded, and what it has left is none of a conversion, or is gone.

    Args:
        code: a word for programs.
        message: a sentence for people.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class _Size(msgspec.Struct, frozen=True):
    width: int
    height: int
    dpi: int = 72


class _Image(msgspec.Struct, frozen=True):
    name: str
    file: str
    type: str = "image/png"
    page: int | None = None
    box: tuple[float, float, float, float] | None = None
    width: int | None = None
    height: int | None = None


class _File(msgspec.Struct, frozen=True):
    file: str


class _Result(msgspec.Struct, frozen=True):
    """What is read of a conversion's result."""

    pages: int
    markdown: str | None = None
    artifact: _File | None = None
    images: list[_Image] = []
    page_sizes: list[_Size | None] = []


class Answer:
    """The answer of one job; `blocks` writes it.

    Args:
        files: where what it has left is stored.
        job: one that has succeeded.
        shown: what of it is answered.
        result: what it has left.
        text: the file of its Markdown; None where that stands in the result.
    """

    def __init__(self, files: Files, job: Job, shown: Shown, result: _Result, text: FileInfo | None) -> None:
        self._files = files
        self._job = job
        self._shown = shown
        self._result = result
        self._text = text
        self._images = _images(result, shown)

    @classmethod
    async def of(cls, files: Files, job: Job, shown: Shown) -> Answer:
        """The answer of a job.

        Raises:
            NoAnswerError: there is none.
            UnavailableError: the broker does not answer.
        """
        text = None
        try:
            said = job.result if job.result is not None else await _stored(files, job)
            result = msgspec.convert(said, _Result)
            if result.artifact is not None:
                text = await files.info(job.tenant, result.artifact.file)
            elif result.markdown is None:
                raise NoAnswerError("no_answer", "the result has no text")
        except NotFoundError as error:
            raise NoAnswerError("result_gone", f"the result is gone: {error}") from None
        except (msgspec.ValidationError, ValueError) as error:
            raise NoAnswerError("no_answer", f"the result is none of a conversion: {error}") from None
        return cls(files, job, shown, result, text)

    async def blocks(self) -> AsyncGenerator[bytes, None]:
        """The body of the answer, in pieces.

        Raises:
            NotFoundError: a file is gone meanwhile.
            DamagedFileError: it is not what was stored.
            UnavailableError: the broker does not answer.
        """
        shown, total = self._shown, self._result.pages
        yield b'{"pages":['
        answered, is_open, following = 0, -1, 0
        async with contextlib.aclosing(pieces(self._markdown())) as parts:
            async for part in parts:
                if part.page >= total or not shown.has_page(part.page):
                    continue
                if part.page != is_open:
                    if is_open >= 0:
                        async for block in self._end(is_open):
                            yield block
                    for index in self._between(following, part.page):
                        async for block in self._empty(index, is_first=not answered):
                            yield block
                        answered += 1
                    yield (b"" if not answered else b",") + self._head(part.page)
                    answered, is_open, following = answered + 1, part.page, part.page + 1
                for start in range(0, len(part.text), BLOCK_CHARS):
                    yield orjson.dumps(part.text[start : start + BLOCK_CHARS])[1:-1]
        if is_open >= 0:
            async for block in self._end(is_open):
                yield block
        for index in self._between(following, total):
            async for block in self._empty(index, is_first=not answered):
                yield block
            answered += 1
        usage = {"pages_processed": total, "doc_size_bytes": self._size()}
        behind = {"model": shown.model, "usage_info": usage, "document_annotation": None}
        yield b"]," + orjson.dumps(behind)[1:]

    def _between(self, start: int, end: int) -> list[int]:
        """Pages without text, which are answered too."""
        return [index for index in range(start, end) if self._shown.has_page(index)]

    async def _empty(self, index: int, *, is_first: bool) -> AsyncIterator[bytes]:
        yield (b"" if is_first else b",") + self._head(index)
        async for block in self._end(index):
            yield block

    def _head(self, index: int) -> bytes:
        return b'{"index":%d,"markdown":"' % index

    async def _end(self, index: int) -> AsyncIterator[bytes]:
        size = self._dimensions(index)
        yield b'","images":['
        for number, image in enumerate(self._images.get(index, ())):
            yield (b"," if number else b"") + orjson.dumps(_placed(image, size))[:-1]
            yield b',"image_base64":"data:%s;base64,' % image.type.encode()
            async for block in self._base64(image):
                yield block
            yield b'"}'
        shown = None if size is None else {"dpi": size.dpi, "height": size.height, "width": size.width}
        yield b"]," + orjson.dumps({"dimensions": shown})[1:]

    async def _base64(self, image: _Image) -> AsyncIterator[bytes]:
        info = await self._files.info(self._job.tenant, image.file)
        rest = b""
        async with contextlib.aclosing(self._files.read(info)) as blocks:
            async for block in blocks:
                data = rest + block
                whole = len(data) - len(data) % 3
                rest = data[whole:]
                yield base64.b64encode(data[:whole])
        yield base64.b64encode(rest)

    def _dimensions(self, index: int) -> _Size | None:
        sizes = self._result.page_sizes
        return sizes[index] if index < len(sizes) else None

    async def _markdown(self) -> AsyncIterator[bytes]:
        if self._text is None:
            yield (self._result.markdown or "").encode()
            return
        async with contextlib.aclosing(self._files.read(self._text)) as blocks:
            async for block in blocks:
                yield block

    def _size(self) -> int | None:
        """How many bytes the document has, where its engine has counted them."""
        size_bytes = self._job.usage.get("bytes")
        return None if size_bytes is None else int(size_bytes)


def _images(result: _Result, shown: Shown) -> Mapping[int, list[_Image]]:
    """The images that are answered, by page; those that name none stand on the first."""
    found: dict[int, list[_Image]] = {}
    left = len(result.images) if shown.image_limit is None else shown.image_limit
    first = 0 if shown.pages is None else min(start for start, _ in shown.pages)
    for image in result.images if shown.images else ():
        index = first if image.page is None else image.page - 1
        small = min(image.width or 0, image.height or 0) < shown.image_min_size
        if left <= 0 or small or not shown.has_page(index):
            continue
        left -= 1
        found.setdefault(index, []).append(image)
    return found


def _placed(image: _Image, size: _Size | None) -> dict[str, Any]:
    corners = ("top_left_x", "top_left_y", "bottom_right_x", "bottom_right_y")
    places: list[int | None] = [None] * 4
    if image.box is not None and size is not None:
        sides = (size.width, size.height) * 2
        places = [round(at * side) for at, side in zip(image.box, sides, strict=True)]
    return {"id": image.name, **dict(zip(corners, places, strict=True)), "image_annotation": None}


async def _stored(files: Files, job: Job) -> Any:
    """A result that stands in a file."""
    named = [one["file"] for one in job.artifacts if one.get("name") == RESULT_ARTIFACT]
    if not named:
        raise NotFoundError("the job has left no result")
    info = await files.info(job.tenant, named[0])
    if info.size_bytes > RESULT_BYTES:
        raise ValueError("it is too large")
    async with contextlib.aclosing(files.read(info)) as blocks:
        return orjson.loads(b"".join([block async for block in blocks]))
