"""Connectors of your own: classes that run kinds of jobs on back ends; `docs/connectors.md` shows how.

A connector is given an `Attempt` and returns an `Outcome` or raises one of three errors:

    ConnectorError
    ├── RetryableError   the attempt failed; another may succeed            -> failed, or dead when spent
    │   └── BackendLostError  the back end is gone, or knows nothing of work that was left to it  -> lost
    ├── FatalError       no attempt can succeed (bad input)                 -> dead
    └── BusyError        not now: the back end is full or going away        -> released, counts as nothing

Any other exception is recorded as a retryable `internal` failure. Cancellation arrives as
`asyncio.CancelledError`; a connector lets it propagate only after the work has really stopped.

A `BackendConnector` may leave the work to its back end with `Attempt.delegate`. From then on a cancellation
ends the watching alone, and nobody who watches has to live: see there.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Protocol, TypeVar, runtime_checkable

import pydantic

from switchyard._worker.given.errors import (
    BackendLostError,
    BusyError,
    ConnectorError,
    FatalError,
    RetryableError,
    traceback_of,
)
from switchyard._worker.given.spawning import Join, Part, PartOutcome, Policy
from switchyard.events.errors import InvalidError
from switchyard.events.subjects import NAME
from switchyard.events.values import Backend

__all__ = [
    "GROUP", "Attempt", "Backend", "BackendConnector", "BackendLostError", "BusyError", "Connector",
    "ConnectorError", "ConnectorType", "FatalError", "Join", "Outcome", "Part", "PartOutcome",
    "RetryableError", "Section", "traceback_of",
]  # fmt: skip

GROUP: Final = "switchyard.connectors"
"""The entry points of connectors of other distributions; each is named as its kind."""


@contextlib.contextmanager
def as_fatal() -> Iterator[None]:
    """A value that is refused by name is the connector's fault, and no other attempt helps."""
    try:
        yield
    except InvalidError as error:
        raise FatalError(error.code, error.message) from None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an attempt produced.

    Args:
        result: any JSON value; over 64 KiB it is stored as an artifact by the worker.
        artifacts: references returned by `Attempt.save`, in the order they are to be listed.
        usage: what the attempt used, by unit ("pages": 3).
        checks: those of a proposal, which waits for a reviewer; None for a result that needs none.
        join: the parts that the attempt ended in, as `Attempt.join` has it; there is no result then.
    """

    result: Any = None
    artifacts: tuple[dict[str, Any], ...] = ()
    usage: dict[str, float] = field(default_factory=dict)
    checks: dict[str, bool] | None = None
    join: Join | None = None


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
        """Show what there is so far: an image. Never blocks.

        At most four a second are taken, and the others dropped. One of more than 256 KiB is made smaller
        where the worker has Pillow, else dropped, as is what is no image of its type.

        Raises:
            FatalError: code `invalid_preview`, it is no bytes, or the type is none of `image/png`,
                `image/jpeg`, `image/webp` and `image/gif`.
        """

    def previews_dropped(self, why: str, count: int) -> None:
        """Take notice of previews that were dropped on their way here."""

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

    @property
    def joins(self) -> bool:
        """Whether the job has ended in parts before, and this attempt joins them."""

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts that this attempt joins, as they were spawned; none where it joins none."""

    @property
    def depth(self) -> int:
        """How many jobs are above this one, each a part of the next."""

    async def spawn(
        self,
        kind: str,
        payload: Mapping[str, Any],
        *,
        name: str | None = None,
        requires: Mapping[str, Any] | None = None,
        prefers: Mapping[str, Any] | None = None,
    ) -> str:
        """Note a part: a job of its own, which is submitted once the attempt has ended with `join`.

        Args:
            kind: that of the job.
            payload: the job's.
            name: 1 to 64 of a-z 0-9 _ . -, unlike any other of this job; by default its number, from 0.
            requires: what a worker must have.
            prefers: what ranks the workers that fit.

        Returns:
            Its name.

        Raises:
            FatalError: code `invalid_part`, `too_many_parts` (1,000), `too_deep` (8 levels), or
                `parted_before` where the attempt joins parts.
        """

    def join(self, policy: Policy = "all", *, usage: Mapping[str, float] | None = None) -> Outcome:
        """What to return from `run` to end the attempt in the parts that it has spawned.

        Args:
            policy: with `all` the job is dead as soon as a part has not succeeded; with `collect` it is
                joined once all have ended, however they did.
            usage: what this attempt used, by unit.

        Raises:
            FatalError: code `no_parts` or `invalid_part`.
        """

    async def delegate(self, remote_id: str = "", *, lease_s: float | None = None) -> None:
        """Leave the attempt to the connector's back end, which carries it on whoever dies.

        It is the back end's when this returns. Call it before the work is sent there, with an id that is
        chosen for this attempt, such as `f"{job_id}.{number}"`: work that is sent again under its id is the
        same work. Where the back end chooses the id, call it again as soon as that is known.

        Args:
            remote_id: what the back end calls the work, at most 200 printable characters without blanks;
                noted once, and never changed.
            lease_s: seconds from one sign of life to the next; four leases of a worker at least, and that or
                a minute by default.

        Raises:
            FatalError: code `no_back_end`, the connector is no `BackendConnector`; `invalid_remote_id`.
            RetryableError: the lease is gone, the job is to stop, or it has another id there. What was
                started is to be stopped.
        """

    def seen(self) -> None:
        """The back end was seen at work, as by each report of progress, so the lease goes on. Never blocks.

        Where it is not called, the attempt is lost when its lease ends.
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
        """How many attempts it runs at once; None for as many as its worker has slots.

        One whose back end is away may say 0 until it is back, and has `changed` called with each change.
        """

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


@runtime_checkable
class BackendConnector(Connector, Protocol):
    """One whose back end may carry attempts on by itself: it accepts work, and is asked about it later.

    After `Attempt.delegate` the worker, or another one with an instance for the same back end where this one
    is gone, has `attach` called for whatever is there. Both `run` and `attach` end with the outcome, which is
    recorded once, whoever else reports it. Cancellation then means to watch no more, and stops nothing.
    """

    @property
    def backend(self) -> Backend:
        """Its kind and id, the same in every worker that sees this back end."""

    async def attach(self, attempt: Attempt, remote_id: str) -> Outcome:
        """Watch work that is at the back end, to its end.

        Args:
            attempt: the same attempt.
            remote_id: what the back end calls the work; "" where that was never learned.

        Raises:
            BackendLostError: the back end does not know it.
        """

    async def stop(self, attempt: Attempt, remote_id: str) -> None:
        """Stop the work: the job is cancelled, or the attempt's time is over. Return when it has stopped."""


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
