"""Connectors of your own: classes that run kinds of jobs on back ends; `docs/connectors.md` shows how.

A connector is given an `Attempt` and returns an `Outcome` or raises one of three errors:

    ConnectorError
    ├── RetryableError   the attempt failed; another may succeed            -> failed, or dead when spent
    ├── FatalError       no attempt can succeed (bad input)                 -> dead
    └── BusyError        not now: the back end is full or going away        -> released, counts as nothing

Any other exception is recorded as a retryable `internal` failure. Cancellation arrives as
`asyncio.CancelledError`; a connector lets it propagate only after the work has really stopped.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Protocol, TypeVar

import pydantic

from switchyard._worker.traceback import formatted
from switchyard.events.subjects import NAME

__all__ = [
    "GROUP", "Attempt", "BusyError", "Connector", "ConnectorError", "ConnectorType", "FatalError", "Outcome",
    "RetryableError", "Section", "traceback_of",
]  # fmt: skip

GROUP: Final = "switchyard.connectors"
"""The entry points of connectors of other distributions; each is named as its kind."""


class ConnectorError(Exception):
    """A failure with a stable `code` for programs and a message for people."""

    traceback: str = ""
    """Where it came about, if that was in another process."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class RetryableError(ConnectorError):
    """Another attempt may succeed."""


class FatalError(ConnectorError):
    """No attempt can succeed; the job is dead at once."""


class BusyError(ConnectorError):
    """The back end cannot take the work now; the job goes back to its lane and nothing is counted."""


def traceback_of(error: BaseException) -> str:
    """Where an attempt failed; nothing for what a connector of ours says on purpose, which is no mistake."""
    if isinstance(error, ConnectorError):
        return formatted(error, always=False) if error.traceback or error.__cause__ is not None else ""
    return formatted(error)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an attempt produced.

    Args:
        result: any JSON value; over 64 KiB it is stored as an artifact by the worker.
        artifacts: references returned by `Attempt.save`, in the order they are to be listed.
        usage: what the attempt used, by unit ("pages": 3).
        checks: those of a proposal, which waits for a reviewer; None for a result that needs none.
    """

    result: Any = None
    artifacts: tuple[dict[str, Any], ...] = ()
    usage: dict[str, float] = field(default_factory=dict)
    checks: dict[str, bool] | None = None


class Attempt(Protocol):
    """One lease of one job, as a connector sees it."""

    @property
    def job_id(self) -> str:
        """The job's id."""

    @property
    def tenant(self) -> str:
        """Whose job it is."""

    @property
    def number(self) -> int:
        """The attempt's number, counted from 1."""

    @property
    def worker(self) -> str:
        """The id of the worker that holds the lease."""

    @property
    def feedback(self) -> Any:
        """What a reviewer said of the last proposal; None where there was none."""

    @property
    def payload(self) -> dict[str, Any]:
        """The job's payload, already validated against the kind's payload model."""

    @property
    def scratch(self) -> Path:
        """An empty directory of this attempt's own, removed when it ends."""

    @property
    def grace_s(self) -> float:
        """Seconds between a request to stop and being killed."""

    def progress(
        self, fraction: float, *, stage: str = "", message: str = "", eta_s: float | None = None
    ) -> None:
        """Report progress: `fraction` of 0 to 1. Never blocks; reports may be conflated."""

    def log(self, line: str) -> None:
        """Report one line of output. Never blocks; lines are not conflated, and too many are left out."""

    def left_out(self, lines: int) -> None:
        """Take notice of lines of output that were too many to be reported."""

    def preview(self, data: bytes, media_type: str) -> None:
        """Show what there is so far. Never blocks; more than 256 KiB, or than four a second, is dropped.

        Raises:
            FatalError: code `invalid_preview`, it is no bytes or no media type.
        """

    async def fetch(self, file_id: str, to: Path) -> dict[str, Any]:
        """Stream the job's input file to `to`.

        Returns:
            `{"id", "name", "type", "size_bytes", "sha256"}`.

        Raises:
            FatalError: code `file_not_found`.
        """

    async def save(
        self, name: str, data: Path | bytes | AsyncIterator[bytes], *, media_type: str
    ) -> dict[str, Any]:
        """Store an artifact of this attempt.

        Args:
            name: `[A-Za-z0-9._-]{1,100}`, unique within the attempt.
            data: its bytes, or where they are.
            media_type: as in `Content-Type`.

        Returns:
            `{"file", "name", "type", "size_bytes", "sha256"}`; `file` is the id to download it by.
        """


class Connector(Protocol):
    """An instance: the code that runs one kind on one back end. A worker may have several of a kind."""

    @property
    def id(self) -> str:
        """Its name, which no other connector of its worker has; as a rule that of its kind."""

    @property
    def kind(self) -> str:
        """The kind of the jobs that it runs."""

    @property
    def slots(self) -> int | None:
        """How many attempts it runs at once; None for as many as its worker has slots."""

    @property
    def payload_model(self) -> type[pydantic.BaseModel]:
        """What a payload of its kind must look like."""

    def capabilities(self) -> dict[str, Any]:
        """What this connector adds to its worker's capabilities, found out on this machine."""

    def watch(self, changed: Callable[[], None]) -> None:
        """Call `changed`, on the event loop, whenever `capabilities` has another answer than before."""

    async def run(self, attempt: Attempt) -> Outcome:
        """Run one attempt to its end."""

    async def close(self) -> None:
        """Release what the connector holds: connections, child processes."""


class Section(pydantic.BaseModel):
    """The settings of one instance; a kind that has more settings derives its own.

    Args:
        kind: which connector it is.
        id: unlike any other of its worker; the kind by default.
        slots: attempts at once; None for as many as the worker has slots.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    kind: Annotated[str, pydantic.Field(pattern=f"^{NAME.pattern}$")]
    id: Annotated[str, pydantic.Field(pattern=f"^{NAME.pattern}$")]
    slots: Annotated[int, pydantic.Field(ge=1)] | None = None


AnySection = TypeVar("AnySection", bound=Section, contravariant=True)  # noqa: PLC0105 - as a name it reads


class ConnectorType(Protocol[AnySection]):
    """What makes the instances of a kind; an entry point of the group `switchyard.connectors` names one."""

    kind: str
    section_model: type[Section]

    def make(self, section: AnySection, /) -> Connector:
        """An instance; it opens nothing before its first attempt."""
