"""Answers of the OCR, read in a child process: pages in their order, and what became of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from switchyard.services.connectors.convert.engines.pages import MadePage, made, referring, write
from switchyard.services.connectors.convert.engines.protocol import BAD
from switchyard.services.connectors.protocol import RetryableError
from switchyard.services.documents.model.album import Album
from switchyard.services.documents.model.blocks import Box

MOST_PAGES: Final = 10_000
"""What a document may have that does not say how many it has."""


class Read(NamedTuple):
    """What an answer has.

    Args:
        pages: by their number in the document, from 0.
        total: how many pages there should be.
        warnings: what is missing or was left out.
        usage: pages and bytes that are billed.
    """

    pages: dict[int, dict[str, Any]]
    total: int
    warnings: list[str]
    usage: dict[str, int]


def check(arguments: dict[str, Any], _report: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Whether an answer can be used: its `usage`, and `pages`, the number of them.

    Args:
        arguments: `path`, `first`, `pages` of a part (None where it is not known how many), `size_bytes`.

    Raises:
        RetryableError: code `bad_answer`.
    """
    read = _read(arguments)
    return {"usage": read.usage, "pages": read.total}


def collect(arguments: dict[str, Any], _report: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Write the document of some answers, and return what is said of it.

    Args:
        arguments: `parts`, each as `check` takes it; `directory`, `format`, `images` (whether they are
            saved), `page_breaks` and `warnings`.

    Raises:
        FatalError: code `output_too_large`.
    """
    directory = Path(arguments["directory"])
    album = Album(directory) if arguments["images"] else None
    warnings: list[str] = list(arguments["warnings"])
    counts: list[int] = []
    sizes: list[dict[str, int] | None] = []

    def pages() -> Iterator[MadePage]:
        for part in arguments["parts"]:
            read = _read(part)
            warnings.extend(read.warnings)
            counts.append(read.total)
            for index in range(part["first"], part["first"] + read.total):
                markdown = ""
                sizes.append(_size((read.pages.get(index) or {}).get("dimensions")))
                if (page := read.pages.get(index)) is not None:
                    markdown = _markdown(page, index + 1, album, warnings)
                yield MadePage(index + 1, markdown)

    write(directory, pages(), page_breaks=arguments["page_breaks"])
    total = sum(counts)
    said = made(arguments["format"], total, warnings, album, ocr_pages=total)
    return {**said, "page_sizes": sizes if any(sizes) else []}


def _read(part: dict[str, Any]) -> Read:
    try:
        said = orjson.loads(Path(part["path"]).read_bytes())
    except orjson.JSONDecodeError as error:
        raise RetryableError(BAD, "the answer is no JSON") from error
    if not isinstance(said, dict) or not isinstance(said.get("pages"), list):
        text = said.get("message") if isinstance(said, dict) else None
        raise RetryableError(
            BAD, f"the answer has no pages{f': {text[:300]}' if isinstance(text, str) else ''}"
        )
    first, expected = part["first"], part["pages"]
    listed: list[tuple[int, dict[str, Any]]] = []
    for page in said["pages"]:
        index = page.get("index") if isinstance(page, dict) else None
        if type(index) is not int or not isinstance(page.get("markdown"), str):
            raise RetryableError(BAD, "the answer has a page without index or markdown")
        listed.append((index, page))
    if not listed:
        raise RetryableError(BAD, "the answer has no pages")
    start = _start([index for index, _ in listed], expected)
    count = expected if expected is not None else max(index for index, _ in listed) - start + 1
    if count <= 0 or (expected is None and count > MOST_PAGES):
        raise RetryableError(BAD, "the answer has a page of a number that no page has")
    pages: dict[int, dict[str, Any]] = {}
    warnings: list[str] = []
    for index, page in listed:
        number = first + index - start
        if not 0 <= index - start < count:
            warnings.append(f"the engine has answered a page {number + 1} that the document does not have")
        elif number in pages:
            if page["markdown"] != pages[number]["markdown"]:
                pages[number]["markdown"] += f"\n\n{page['markdown']}"
                pages[number]["images"] = [*_images(pages[number]), *_images(page)]
            warnings.append(f"page {number + 1}: the engine has answered it twice")
        else:
            pages[number] = page
    missing = [number + 1 for number in range(first, first + count) if number not in pages]
    if len(missing) == count:
        raise RetryableError(BAD, "the answer has none of the pages that were asked for")
    warnings += [f"page {number}: the engine has not answered it" for number in missing]
    return Read(pages, count, warnings, _usage(said.get("usage_info"), count, part["size_bytes"]))


def _start(indexes: list[int], expected: int | None) -> int:
    """What the first page is counted as: 0, or 1 where that alone gives as many as there are."""
    known = len(set(indexes)) if expected is None else expected
    return 1 if set(indexes) == set(range(1, known + 1)) else 0


def _usage(said: Any, pages: int, size_bytes: int) -> dict[str, int]:
    """What is billed, as the engine says it, else by what was sent."""
    found = said if isinstance(said, dict) else {}
    billed, size = found.get("pages_processed"), found.get("doc_size_bytes")
    return {
        "pages": billed if type(billed) is int and 0 <= billed < 2**31 else pages,
        "bytes": size if type(size) is int and 0 <= size < 2**53 else size_bytes,
    }


def _images(page: dict[str, Any]) -> list[dict[str, Any]]:
    found = page.get("images")
    return [image for image in found if isinstance(image, dict)] if isinstance(found, list) else []


def _markdown(page: dict[str, Any], number: int, album: Album | None, warnings: list[str]) -> str:
    """The text of a page, which refers to its images by the names that they are saved under."""
    names: dict[str, str] = {}
    for image in _images(page):
        name, data = image.get("id"), image.get("image_base64")
        if not isinstance(name, str):
            continue
        names[name] = ""
        if album is not None and isinstance(data, str):
            album.page = number
            before = len(album.images)
            address = data if data.startswith("data:") else f"data:image/x;base64,{data}"
            names[name] = album.add_data(address)
            if len(album.images) > before:
                album.images[-1]["box"] = _box(image, page.get("dimensions"))
        elif album is not None:
            warnings.append(f"page {number}: the engine has not sent the image {name[:100]}")
    used: set[str] = set()

    def name_of(reference: str) -> str | None:
        used.add(reference)
        return names.get(reference)

    text = referring(page["markdown"], name_of)
    unused = [f"![]({saved})" for name, saved in names.items() if saved and name not in used]
    return "\n\n".join([text, *unused]) if unused else text


def _size(said: Any) -> dict[str, int] | None:
    found: dict[str, int] = {}
    for name in ("width", "height", "dpi"):
        value = said.get(name) if isinstance(said, dict) else None
        if type(value) is not int or not 0 < value < 10**6:
            return None
        found[name] = value
    return found


def _box(image: dict[str, Any], size: Any) -> Box | None:
    corners: list[Any] = [
        image.get(name) for name in ("top_left_x", "top_left_y", "bottom_right_x", "bottom_right_y")
    ]
    sides: list[Any] = [size.get(name) for name in ("width", "height")] if isinstance(size, dict) else []
    if len(sides) != 2 or not all(
        type(one) in (int, float) and 0 <= one < 10**6 for one in (*corners, *sides)
    ):
        return None
    width, height = sides
    if not width or not height:
        return None
    left, top, right, bottom = (
        round(min(1.0, at / side), 4) for at, side in zip(corners, (width, height) * 2, strict=True)
    )
    return (left, top, right, bottom)
