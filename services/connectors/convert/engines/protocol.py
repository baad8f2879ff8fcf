"""What an engine is, and the two ways in which one fails that are not the document's.

ConnectorError        of the document, or of the attempt: another engine is not asked
AwayError             the engine does not answer, or not as it should: another one may
HeldError             it asks to be left alone for a while: another one may
UnsuitedError         it does not read such documents: another one may
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, runtime_checkable

from switchyard.services.connectors.convert.payload import ConvertPayload
from switchyard.services.connectors.protocol import Attempt

BAD: Final = "bad_answer"
"""The code of an answer that is none; here, because what reads answers needs more than a gateway has."""
MODELS: Final = "engine_without_models"
"""The code of a docling-serve that has no models."""
REFUSED: Final = "document_refused"
"""The code of a document that an engine has looked at and does not convert."""


class AwayError(Exception):
    """An engine does not answer, or not as it should.

    Args:
        why: for people; without keys and addresses.
        asked: whether it may have begun.
        for_long: whether the next call fails alike, as with a key that it does not take.
    """

    def __init__(self, why: str, *, asked: bool = True, for_long: bool = False) -> None:
        super().__init__(why)
        self.why = why
        self.kind = why.partition(": ")[0]
        """What may be said to everybody: without words of the engine, which may be about the document."""
        self.asked = asked
        self.for_long = for_long


class HeldError(Exception):
    """An engine wants no calls for a while.

    Args:
        why: for people.
        seconds: how long.
    """

    def __init__(self, why: str, seconds: float) -> None:
        super().__init__(why)
        self.why = why
        self.seconds = seconds


class UnsuitedError(Exception):
    """An engine does not do this with such a document; the message says so.

    Args:
        code: what the job ends with where no other engine does.
        why: for people.
    """

    def __init__(self, code: str, why: str) -> None:
        super().__init__(why)
        self.code = code
        self.why = why


class Isolated(Protocol):
    """Calls a function in a child process, as `run_isolated`."""

    def __call__(
        self, function: str, arguments: dict[str, Any],
        on_progress: Callable[[dict[str, Any]], None] = ...,
    ) -> Awaitable[dict[str, Any]]:  # fmt: skip
        """What it returns."""


@dataclass(slots=True)
class Request:
    """A document to convert.

    Args:
        attempt: whose it is.
        payload: how.
        source: where it lies.
        name: that of the file.
        media_type: as its submitter says it.
        formats: those of the payload, each once.
        isolated: runs what may crash.
        in_batch: whether it takes the batch API of its engine, where that has one.
        attached: what the engine calls work that was left to it, and is to be watched now; None for new work.
        answered: called once an engine has taken work that it carries on by itself.
        split_over: a PDF of more pages is not converted here, but in parts; None for whatever length.
    """

    attempt: Attempt
    payload: ConvertPayload
    source: Path
    name: str
    media_type: str
    formats: list[str]
    isolated: Isolated
    in_batch: bool = False
    attached: str | None = None
    answered: Callable[[], None] = lambda: None
    split_over: int | None = None
    _fraction: float = 0.0

    def progress(self, fraction: float, stage: str, message: str) -> None:
        """Report progress, which never falls though another engine begins."""
        self._fraction = max(self._fraction, min(1.0, fraction))
        self.attempt.progress(self._fraction, stage=stage, message=message)

    def directory(self, engine: str) -> Path:
        """A place for what an engine makes."""
        path = self.attempt.scratch / engine
        path.mkdir(exist_ok=True)
        return path


class Made(NamedTuple):
    """What an engine has made.

    Args:
        directory: where its files lie: those of `documents.write.outputs.NAMES`, and the images.
        said: `pages`, `ocr_pages`, `running_lines`, `confidence`, `format`, `images` and `warnings`.
        usage: what it cost, by unit.
    """

    directory: Path
    said: dict[str, Any]
    usage: dict[str, int | float]


@runtime_checkable
class LeavesWork(Protocol):
    """An engine that carries work on by itself."""

    async def stop(self, attempt: Attempt, remote_id: str) -> None:
        """Stop work of a document there; "" where it was never learned what that is called.

        Raises:
            RetryableError: it cannot be stopped now.
        """


class Engine(Protocol):
    """Converts documents."""

    @property
    def name(self) -> str:
        """As payloads and settings call it."""

    async def convert(self, request: Request) -> Made:
        """Convert one.

        Raises:
            ConnectorError, AwayError, HeldError, UnsuitedError: see above.
        """

    async def close(self) -> None:
        """Release what it holds."""
