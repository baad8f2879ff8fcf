"""A long PDF in parts: one attempt reads its length, others its pages, and one makes the document of them.

A part is a job of this kind whose payload says which pages to read. It stores them in a file, which the last
attempt fetches. The pages of a part that failed for good are marked, and the others stand.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import Any, Final, Literal, Protocol, runtime_checkable

from switchyard.services.connectors.convert.engines.protocol import Isolated, Request
from switchyard.services.connectors.convert.payload import ConvertPayload
from switchyard.services.connectors.protocol import Attempt, FatalError, Outcome
from switchyard.services.documents.ocr.machine.tesseract import installed
from switchyard.services.documents.trail import CRASHED, ended_at

KIND: Final = "convert"
MEDIA_TYPE: Final = "application/vnd.switchyard.pages"
MAX_PARTS: Final = 1_000
MAX_CRASHES: Final = 3  # of one document, each of another page
CRASH: Final = "reader_crashed"
NOT_THE_PAGES: Final = frozenset({
    "ocr_unavailable", "ocr_language_missing", "not_in_parts", "invalid_payload", "unsupported_format",
    "encrypted_file", "too_many_pages",
})  # fmt: skip
"""Codes of a part with which the whole document ends."""


class Ended(Protocol):
    """How a part ended."""

    @property
    def status(self) -> str:
        """`succeeded`, or something else."""

    @property
    def result(self) -> Any:
        """What it came to."""

    @property
    def artifacts(self) -> tuple[dict[str, Any], ...]:
        """What it stored."""

    @property
    def error(self) -> dict[str, Any] | None:
        """Its code and message, where it failed."""


class Part(Protocol):
    """A part that has ended."""

    @property
    def name(self) -> str:
        """As `named` has it."""

    async def outcome(self) -> Ended:
        """How it ended."""


@runtime_checkable
class Spawning(Protocol):
    """An attempt that may end in parts."""

    @property
    def joins(self) -> bool:
        """Whether it joins parts."""

    @property
    def parts(self) -> Sequence[Part]:
        """Those that it joins."""

    async def spawn(
        self, kind: str, payload: Mapping[str, Any], *, name: str | None = None,
        requires: Mapping[str, Any] | None = None,
    ) -> str:  # fmt: skip
        """Note a part."""

    def join(self, policy: Literal["all", "collect"] = "all") -> Outcome:
        """What to return to end in parts."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """What the parts of a document came to.

    Args:
        total: how many pages it has.
        files: with the pages that were read.
        missing: why others are left out, by their numbers from 0.
    """

    total: int
    files: list[str]
    missing: dict[str, str]


def split_over(attempt: Attempt, payload: ConvertPayload, *, pages: int, over: int) -> int | None:
    """More than how many pages are split; None for whatever is not.

    Args:
        attempt: that of the document.
        payload: what it asks for.
        pages: the most of a part, by the settings.
        over: more than how many pages are split, by the settings; 0 for none.
    """
    if (
        not isinstance(attempt, Spawning) or payload.sizes
    ):  # who joins has not the file, whose sizes are asked
        return None
    match payload.parts:
        case False:
            return None
        case True:
            return pages
        case None:
            return over or None
        case number:
            return number


async def planned(attempt: Spawning, payload: ConvertPayload, total: int, *, pages: int) -> Outcome:
    """End an attempt in the parts of its document.

    Args:
        attempt: that of the document.
        payload: what it asks for.
        total: how many pages the document has.
        pages: the most of a part, where the payload does not say.
    """
    most = pages if payload.parts is None or isinstance(payload.parts, bool) else payload.parts
    count = ceil(total / max(most, ceil(total / MAX_PARTS)))
    cuts = [total * number // count for number in range(count + 1)]
    same = {"file", "ocr", "languages", "images", "comments", "max_pages"}
    for first, end in pairwise(cuts):
        part = {"first": first, "count": end - first, "total": total}
        await attempt.spawn(
            KIND,
            payload.model_dump(mode="json", include=same, exclude_none=True)
            | {"engine": "local", "part": part},
            name=named(first, end - first),
            requires=_requires(payload),
        )
    return attempt.join("collect")


def _requires(payload: ConvertPayload) -> dict[str, Any]:
    """What a worker must have that reads a page as this one would."""
    wanted: dict[str, Any] = {"convert.engines": {"$has": "local"}}
    if payload.ocr != "never" and (found := installed()) is not None:
        known = [language for language in payload.languages if language in found.languages]
        wanted["convert.ocr_version"] = found.version
        if known:
            wanted["convert.ocr_languages"] = {"$all": known}
    return wanted


def named(first: int, count: int) -> str:
    """The name of a part by its pages."""
    return f"{first}-{count}"


async def gathered(request: Request, parts: Sequence[Part]) -> Gathered:
    """Fetch what the parts of a document have read.

    Raises:
        FatalError: a part shows that the document cannot be converted, or no part could be read.
    """
    attempt = request.attempt
    files: list[str] = []
    missing: dict[str, str] = {}
    total = 0
    failed: FatalError | None = None
    for at, part in enumerate(parts):
        first, count = map(int, part.name.split("-"))
        total = max(total, first + count)
        ended = await part.outcome()
        if ended.status == "succeeded" and ended.artifacts:
            path = attempt.scratch / f"part-{at}.bin"
            await attempt.fetch(ended.artifacts[0]["file"], path)
            files.append(str(path))
        else:
            error = ended.error or {"code": ended.status, "message": f"its part was {ended.status}"}
            failed = FatalError(error["code"], error["message"])
            if failed.code in NOT_THE_PAGES:
                raise failed
            why = f"could not be read and was left out ({failed.code})"
            missing |= {str(number): why for number in range(first, first + count)}
        request.progress((at + 1) / len(parts) / 2, "join", f"page {first + count} of {total} was read")
    if failed is not None and not files:
        raise failed
    return Gathered(total, files, missing)


async def read(
    call: Isolated,
    function: str,
    arguments: dict[str, Any],
    on_progress: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    """Call what reads a document; again without a page that makes the process crash.

    Raises:
        FatalError: as what reads it says, or the crash where it is no page's, or too many crash it.
    """
    skip: dict[str, str] = {}
    crash: FatalError | None = None
    while True:
        try:
            return await call(function, arguments | {"skip": skip}, on_progress)
        except FatalError as error:
            if error.code != CRASH:
                raise crash or error from None
            page = await asyncio.to_thread(ended_at, Path(arguments["directory"]))
            if page is None or str(page) in skip or len(skip) == MAX_CRASHES:
                raise
            crash = error
            skip[str(page)] = CRASHED
