"""What a handler is given beside its payload."""

from __future__ import annotations

import asyncio
import mimetypes
import os
import re
import stat
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final

from switchyard._worker.given.spawning import Join, Part, Policy, Spawns, SyncPart, parts_of
from switchyard._worker.given.surroundings import Artifact, Facts, InputFile, Surroundings, SyncSurroundings
from switchyard._worker.handler_errors import Cancelled, Fatal, named
from switchyard.events import outcome
from switchyard.events.encoding.json_written import type_named
from switchyard.events.encoding.preview import preview_of

ARTIFACT_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,100}")
MEDIA_TYPE: Final = re.compile(
    r"[A-Za-z0-9!#$&^_.+-]{1,100}/[A-Za-z0-9!#$&^_.+-]{1,100}( *;[\x20-\x7e]{0,200})?"
)
MAX_FILE_ID_CHARS: Final = 255
INVALID_CALL: Final = "invalid_call"
FORKED: Final = "forked"


class _Context:
    """What both kinds of handlers have."""

    def __init__(self, facts: Facts, scratch: Surroundings | SyncSurroundings) -> None:
        self._facts = facts
        self._where = scratch
        self._inputs = 0
        self._ended = False
        self._pid = os.getpid()
        self.late = 0
        """How many calls came after the attempt's end and were dropped."""
        self.saved: dict[str, dict[str, Any]] = {}
        self.spawns = Spawns(joins=facts.parts is not None, depth=facts.depth)
        self.usage: dict[str, float] = {}
        """What the attempt used, by unit ("pages": 3); a handler fills it in."""

    @property
    def job_id(self) -> str:
        """The job's id."""
        return self._facts.job_id

    @property
    def tenant(self) -> str:
        """Whose job it is."""
        return self._facts.tenant

    @property
    def attempt(self) -> int:
        """The attempt's number, counted from 1."""
        return self._facts.attempt

    @property
    def worker(self) -> str:
        """The id of the worker that runs it."""
        return self._facts.worker

    @property
    def feedback(self) -> Any:
        """What a reviewer said of the last proposal; None where there was none."""
        return self._facts.feedback

    @property
    def scratch(self) -> Path:
        """An empty directory of this attempt's own, removed when it ends."""
        return self._where.scratch

    @property
    def joins(self) -> bool:
        """Whether the job has ended in parts before, and this attempt joins them."""
        return self._facts.parts is not None

    def join(self, policy: Policy = "all") -> Join:
        """End the attempt in the parts that it has spawned: to be returned in the place of a result.

        Args:
            policy: with `all` the job is dead as soon as a part has not succeeded; with `collect` it is
                joined once all have ended, however they did.

        Raises:
            Fatal: code `no_parts` or `invalid_part`.
        """
        self._check()
        with named():
            return self.spawns.join(policy)

    def _spawn(self, kind: str, payload: Mapping[str, Any], *more: Any) -> str:
        self._check()
        with named():
            return self.spawns.add(kind, payload, *more)

    def end(self) -> None:
        """Take nothing more from a handler that runs beyond its attempt."""
        self._ended = True

    def _check(self) -> None:
        if os.getpid() != self._pid:
            raise Fatal("a process that the handler forked cannot use its context", code=FORKED)
        if self._ended:
            self.late += 1
            raise Cancelled

    def progress(
        self, fraction: float, stage: str = "", message: str = "", *, eta_s: float | None = None
    ) -> None:
        """Report progress: `fraction` of 0 to 1. Never blocks; only the latest report counts.

        Raises:
            Fatal: code `invalid_progress`, a parameter is of another type.
        """
        self._check()
        with named():
            report = outcome.progress_of(fraction, stage, message, eta_s)
        self._where.progress(**report)

    def log(self, line: str) -> None:
        """Report a line of output. Never blocks; all lines are sent, in order.

        Raises:
            Fatal: code `invalid_log`, it is no string.
        """
        self._check()
        with named():
            line = outcome.line_of(line)
        self._where.log(line)

    def preview(self, data: bytes | bytearray | memoryview, media_type: str) -> None:
        """Show what there is so far: an image. Never blocks.

        At most four a second are taken, and the others dropped. One of more than 256 KiB is made smaller
        where the worker has Pillow, else dropped, as is what is no image of its type.

        Args:
            data: the bytes of the image.
            media_type: `image/png`, `image/jpeg`, `image/webp` or `image/gif`.

        Raises:
            Fatal: code `invalid_preview`, a parameter is something else.
        """
        self._check()
        with named():
            shown = preview_of(bytes(data) if isinstance(data, bytearray | memoryview) else data, media_type)
        self._where.preview(*shown)

    def _target(self, file_id: str, to: Path | str | None) -> Path:
        if not isinstance(file_id, str):
            raise Fatal(f"file_id: expected a string, not {type_named(file_id)}", code=INVALID_CALL)
        if not 1 <= len(file_id) <= MAX_FILE_ID_CHARS or not file_id.isprintable():
            raise Fatal(f"there is no file {file_id[:64]!r}", code="file_not_found")
        if not isinstance(to, str | Path | None):
            raise Fatal(f"to: expected a path, not {type_named(to)}", code=INVALID_CALL)
        self._inputs += 1
        # A file's id comes from outside and names no path.
        return self.scratch / f"input-{self._inputs}" if to is None else Path(to)

    def _kept(self, reference: dict[str, Any]) -> Artifact:
        self.saved[reference["name"]] = reference
        return Artifact(**reference)


class Context(_Context):
    """The context of an `async` handler; cancellation arrives as `asyncio.CancelledError`."""

    def __init__(self, surroundings: Surroundings) -> None:
        super().__init__(surroundings.facts, surroundings)
        self._surroundings = surroundings

    async def fetch(self, file_id: str, to: Path | str | None = None) -> InputFile:
        """An input file on this machine, in `scratch` unless `to` says where.

        Raises:
            Fatal: code `file_not_found`.
        """
        self._check()
        path = self._target(file_id, to)
        return InputFile(path=path, **await self._surroundings.fetch(file_id, path))

    async def save(
        self, name: str, data: Path | bytes | str | AsyncIterator[bytes], *, media_type: str | None = None
    ) -> Artifact:
        """Store an artifact of this attempt.

        Args:
            name: 1 to 100 of A-Z a-z 0-9 . _ -; the same name replaces it.
            data: its bytes or text, or where they are.
            media_type: as in `Content-Type`; guessed from the name if there is none.

        Raises:
            Fatal: code `artifact_name`, or `invalid_call` where another parameter cannot be used.
        """
        self._check()
        media_type = _type(name, media_type)
        body = data if isinstance(data, AsyncIterable | bytes) else await asyncio.to_thread(_body, data)
        return self._kept(await self._surroundings.save(name, body, media_type=media_type))

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
            Fatal: code `invalid_part`, `too_many_parts` (1,000), `too_deep` (8 levels), or `parted_before`
                where the attempt joins parts.
        """
        return self._spawn(kind, payload, name, requires, prefers)

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts that this attempt joins, as they were spawned; none where it joins none."""
        return tuple(Part(each, self._surroundings.outcome) for each in parts_of(self._facts.parts or ()))


class SyncContext(_Context):
    """The context of a plain handler; when the attempt is to stop, its calls raise `Cancelled`."""

    def __init__(self, surroundings: SyncSurroundings) -> None:
        super().__init__(surroundings.facts, surroundings)
        self._surroundings = surroundings

    @property
    def cancelled(self) -> bool:
        """Whether the attempt is to stop; a handler that reports nothing for long asks now and then."""
        return self._ended or self._surroundings.cancelled

    def _check(self) -> None:
        super()._check()
        if self.cancelled:
            raise Cancelled

    def fetch(self, file_id: str, to: Path | str | None = None) -> InputFile:
        """As `Context.fetch`."""
        self._check()
        path = self._target(file_id, to)
        return InputFile(path=path, **self._surroundings.fetch(file_id, path))

    def save(self, name: str, data: Path | bytes | str, *, media_type: str | None = None) -> Artifact:
        """As `Context.save`."""
        self._check()
        media_type = _type(name, media_type)
        return self._kept(self._surroundings.save(name, _body(data), media_type=media_type))

    def spawn(
        self,
        kind: str,
        payload: Mapping[str, Any],
        *,
        name: str | None = None,
        requires: Mapping[str, Any] | None = None,
        prefers: Mapping[str, Any] | None = None,
    ) -> str:
        """As `Context.spawn`."""
        return self._spawn(kind, payload, name, requires, prefers)

    @property
    def parts(self) -> tuple[SyncPart, ...]:
        """As `Context.parts`."""
        return tuple(SyncPart(each, self._surroundings.outcome) for each in parts_of(self._facts.parts or ()))


def _type(name: str, given: str | None) -> str:
    if not isinstance(name, str) or not ARTIFACT_NAME.fullmatch(name):
        rule = "name: expected 1 to 100 of A-Z a-z 0-9 . _ -"
        raise Fatal(f"{rule}, not {type_named(name)}", code="artifact_name")
    if given is not None and not (isinstance(given, str) and MEDIA_TYPE.fullmatch(given)):
        rule = "media_type: expected words as in `text/plain`"
        raise Fatal(f"{rule}, not {type_named(given)}", code=INVALID_CALL)
    return given or mimetypes.guess_type(name)[0] or "application/octet-stream"


def _body(data: Any) -> Path | bytes:
    """What is to be stored, as bytes or where they are."""
    match data:
        case Path():
            if not stat.S_ISREG(data.stat().st_mode):  # a pipe gives nothing, a device has no end
                raise Fatal("data: expected the path of a regular file", code=INVALID_CALL)
            return data
        case bytes():
            return data
        case bytearray() | memoryview():
            return bytes(data)
        case str():
            try:
                return data.encode()
            except UnicodeEncodeError:
                rule = "data: expected text of whole Unicode characters"
                raise Fatal(rule, code=INVALID_CALL) from None
        case _:
            rule = "data: expected bytes, text or a path"
            raise Fatal(f"{rule}, not {type_named(data)}", code=INVALID_CALL)
