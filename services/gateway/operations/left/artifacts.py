"""What a job has left: its artifacts, with the size of images, and all of them as one archive."""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from switchyard.events.encoding.damage import refuse_damaged
from switchyard.events.encoding.preview import TYPES
from switchyard.events.errors import ConflictError, NotFoundError, RejectedError
from switchyard.events.job import Job
from switchyard.events.outcome import Reference
from switchyard.events.values import FINAL, Status
from switchyard.services.concurrency import each
from switchyard.services.files import FileInfo, Files
from switchyard.services.files.info import CHUNK_BYTES

AT_ONCE: Final = 8
SIZES: Final = 10_000
IMAGE: Final = "image/"

Size = tuple[int, int]


class NoResultLeftError(RejectedError):
    """What the job has left went with its history."""

    status = 410
    code = "archived"


class Artifact(NamedTuple):
    """One file of a job.

    Args:
        reference: as its event names it.
        info: the file; None where it is there no longer.
        size: width and height in pixels; None where it is no image that is known.
        metadata: what the result says of it.
    """

    reference: Reference
    info: FileInfo | None
    size: Size | None = None
    metadata: Mapping[str, Any] | None = None


class Artifacts:
    """Looks up the artifacts of jobs.

    Args:
        files: where they are stored.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self._sizes: OrderedDict[str, Size | None] = OrderedDict()

    def named(self, job: Job) -> list[Reference]:
        """The artifacts of a job that has succeeded, or of the result that waits for a reviewer.

        Raises:
            NoResultLeftError: it is archived.
            ConflictError: it is damaged.
        """
        if job.status is Status.ARCHIVED:
            raise NoResultLeftError(f"job {job.id} was archived without its artifacts")
        if job.damage is not None and job.status is not Status.SUCCEEDED:
            raise refuse_damaged(job)
        named = job.review.artifacts if job.review is not None else job.artifacts
        return [found for one in named if (found := _reference(one)) is not None]

    def ended(self, job: Job) -> list[Reference]:
        """As `named`, of a job that will have no others.

        Raises:
            ConflictError: it has not ended, or without a result.
        """
        named = self.named(job)
        if job.status in (Status.SUCCEEDED, Status.REVIEW):
            return named
        if job.status in FINAL:
            raise ConflictError(f"job {job.id} has no artifacts, it is {job.status.value}", code="no_result")
        raise ConflictError(
            f"job {job.id} has no artifacts yet: it is {job.status.value}", code="not_finished"
        )

    async def described(self, job: Job, page: Sequence[Reference]) -> list[Artifact]:
        """Artifacts with what is known of each.

        Raises:
            UnavailableError: the broker does not answer.
        """
        said = _said(job.review.result if job.review is not None else job.result)

        async def look(reference: Reference) -> Artifact:
            info = await self.info(job, reference)
            size = None if info is None else await self._size(info)
            return Artifact(reference, info, size, said.get(reference.name))

        return await each(look, page, at_once=AT_ONCE)

    async def info(self, job: Job, reference: Reference) -> FileInfo | None:
        """The file of an artifact; None where it was deleted, has expired, or has other bytes by now.

        Raises:
            UnavailableError: the broker does not answer.
        """
        try:
            info = await self._files.info(job.tenant, reference.file)
        except NotFoundError:
            return None
        return info if info.sha256 == reference.sha256 else None

    async def _size(self, info: FileInfo) -> Size | None:
        """The pixels of an image, from its first bytes."""
        if not info.type.startswith(IMAGE):
            return None
        if info.sha256 not in self._sizes:
            head = b"".join([block async for block in self._files.read(info, 0, CHUNK_BYTES)])
            self._sizes[info.sha256] = size_of(head)
            if len(self._sizes) > SIZES:
                self._sizes.popitem(last=False)
        self._sizes.move_to_end(info.sha256)
        return self._sizes[info.sha256]


def _reference(named: Any) -> Reference | None:
    """A reference of an event; None where somebody else has written what is none."""
    try:
        return msgspec.convert(named, Reference)
    except msgspec.ValidationError:
        return None


def size_of(head: bytes) -> Size | None:
    """Width and height of an image, whatever type it is said to be of; None where they are not known."""
    for read in TYPES.values():
        try:
            width, height = read(head)
        except (ValueError, IndexError, struct.error):
            continue
        if width > 0 and height > 0:
            return width, height
    return None


def _said(result: Any) -> dict[str, Mapping[str, Any]]:
    """What a result says of its artifacts by name.

    It is `{"artifacts": {name: {...}}}`, or `{"outputs": [{"artifact": name, ...}]}`.
    """
    if not isinstance(result, Mapping):
        return {}
    by_name, outputs = result.get("artifacts"), result.get("outputs")
    said: dict[str, Mapping[str, Any]] = {}
    for one in outputs if isinstance(outputs, list) else ():
        if isinstance(one, Mapping) and isinstance(one.get("artifact"), str):
            said[one["artifact"]] = {key: value for key, value in one.items() if key != "artifact"}
    if isinstance(by_name, Mapping):
        said |= {str(name): one for name, one in by_name.items() if isinstance(one, Mapping)}
    return said
