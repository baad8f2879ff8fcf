"""The text of a document that was converted: read from its files piece by piece, whatever its length."""

from __future__ import annotations

import codecs
import re
from collections.abc import AsyncIterator
from typing import Any, Final, NamedTuple

import orjson

from switchyard.events.errors import NotFoundError
from switchyard.events.job import Job
from switchyard.events.values import RESULT_ARTIFACT
from switchyard.services.files import DamagedFileError, FileInfo, Files
from switchyard.services.gateway.doors.ilios.refusals import RefusedError

RESULT_BYTES: Final = 32 * 1024**2
"""The most that a result may have: it lists images and warnings beside a short text."""
MARK: Final = re.compile(r"^<!-- page [0-9]{1,6} -->$", re.MULTILINE)
"""What the converter writes between pages; text of a document that looks so is escaped there."""
LINE: Final = "---"
MARK_CHARS: Final = 40
BLOCK_CHARS: Final = 64 * 1024


class Made(NamedTuple):
    """What a conversion has made.

    Args:
        text: the Markdown, where it stands in the result.
        file: else the file that it stands in.
        pages: how many there were.
        engine: which one has made it.
        warnings: what was left out or doubtful.
    """

    text: str | None
    file: FileInfo | None
    pages: int
    engine: str
    warnings: list[str]


async def made_by(files: Files, job: Job) -> Made:
    """The result of a job that has succeeded.

    Raises:
        RefusedError: it is gone (410), or is none of a conversion (500).
        UnavailableError: the broker does not answer.
    """
    try:
        result = job.result if job.result is not None else await _result(files, job)
        text, named = result["markdown"], result["artifact"]
        file = None if named is None else await files.info(job.tenant, named["file"])
        pages, engine = int(result["pages"]), str(result["engine"])
        warnings = [str(one) for one in result["warnings"]]
    except (NotFoundError, DamagedFileError):
        raise gone() from None
    except (KeyError, TypeError, ValueError):
        message = f"the result of job {job.id} is not that of a conversion"
        raise RefusedError("Document cannot be read", status=500, code="internal", details=message) from None
    return Made(text, file, pages, engine, warnings)


def gone() -> RefusedError:
    """A document whose text was erased, or has expired."""
    return RefusedError("Document is gone", status=410, code="gone", beside={"status": "archived"})


async def _result(files: Files, job: Job) -> dict[str, Any]:
    """A result that stands in a file."""
    named = [one["file"] for one in job.artifacts if one["name"] == RESULT_ARTIFACT]
    if not named:
        raise NotFoundError("the job has left no result")
    info = await files.info(job.tenant, named[0])
    if info.size_bytes > RESULT_BYTES:
        raise ValueError("it is too large")
    found: dict[str, Any] = orjson.loads(b"".join([part async for part in files.read(info)]))
    return found


async def text_of(files: Files, made: Made) -> AsyncIterator[str]:
    """The Markdown in pieces, its pages joined by a line `---`.

    Raises:
        NotFoundError: the file is gone meanwhile.
        DamagedFileError: it is not what was stored.
        UnavailableError: the broker does not answer.
    """
    if made.file is None:
        text = MARK.sub(LINE, made.text or "")
        for start in range(0, len(text), BLOCK_CHARS):
            yield text[start : start + BLOCK_CHARS]
        return
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    rest, is_start = "", True
    async for block in files.read(made.file):
        piece = rest + decoder.decode(block)
        # A mark that is cut, or whose line may go on, waits for what follows.
        cut = piece.rfind("\n") + 1
        if len(piece) - cut > MARK_CHARS:
            cut = len(piece)
        ready, rest = piece[:cut], piece[cut:]
        if ready:
            yield _joined(ready, is_start=is_start)
            is_start = ready.endswith("\n")
    rest += decoder.decode(b"", final=True)
    if rest:
        yield _joined(rest, is_start=is_start)


def _joined(piece: str, *, is_start: bool) -> str:
    """A piece with its marks replaced; its first line counts only if it begins one."""
    if is_start:
        return MARK.sub(LINE, piece)
    first, newline, others = piece.partition("\n")
    return first + newline + MARK.sub(LINE, others)
