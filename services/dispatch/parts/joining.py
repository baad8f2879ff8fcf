"""What a worker reads of the parts of a job: how they ended, and which of a time before stand again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import orjson

from switchyard.events.errors import InvalidError, NotFoundError
from switchyard.events.job import Job
from switchyard.events.values import FINAL, RESULT_ARTIFACT, Part, Status
from switchyard.events.vocabulary.ids import JobId
from switchyard.events.vocabulary.refusals import RefusalCode
from switchyard.services.concurrency import each
from switchyard.services.event_store import EventStore
from switchyard.services.files import DamagedFileError, Files
from switchyard.services.files.named import with_names
from switchyard.services.intake.parts import PLAN_BYTES, PlannedPart, decode_plan

AT_ONCE: Final = 16
GONE: Final = "result_gone"
"""The code of the error of a part that has succeeded, and whose result nobody has any more."""


class Parts:
    """Reads them.

    Args:
        store: the log.
        files: where large results are.
    """

    def __init__(self, store: EventStore, files: Files) -> None:
        self._store = store
        self._files = files

    async def plan(self, tenant: str, file_id: str) -> list[PlannedPart]:
        """What the parts of a job are to do, from the file that says so.

        Raises:
            InvalidError: it is none.
            NotFoundError: there is no such file any more.
            UnavailableError: the broker does not answer.
        """
        info = await self._files.info(tenant, file_id)
        if info.size_bytes > PLAN_BYTES:
            message = f"parts: {info.size_bytes} bytes of at most {PLAN_BYTES}"
            raise InvalidError(message, code=RefusalCode.INVALID_PART, field="parts")
        try:
            return decode_plan(b"".join([block async for block in self._files.read(info)]))
        except DamagedFileError as error:
            raise NotFoundError(f"the plan of the parts cannot be read: {error}") from None

    async def kept(self, job: Job, plan: Sequence[PlannedPart]) -> dict[str, JobId]:
        """Parts of the time before a redrive that have done what the plan wants already: their ids by name.

        Raises:
            UnavailableError: the broker does not answer.
        """
        before = {part.name: part for part in job.parts}
        same = [(one, before[one.name]) for one in plan if one.name in before]

        async def is_done(pair: tuple[PlannedPart, Part]) -> bool:
            planned, part = pair
            found = await self._store.load(part.id)
            is_whole = found.damage is None and found.parent == job.id
            return is_whole and found.status is Status.SUCCEEDED and found.request_hash == planned.digest()

        done = await each(is_done, same, at_once=AT_ONCE)
        return {part.name: part.id for (_, part), is_one in zip(same, done, strict=True) if is_one}

    async def outcome(self, job: Job, part_id: JobId, *, inline: bool = True) -> dict[str, Any]:
        """How a part of a job ended.

        Args:
            job: the one that joins it.
            part_id: which.
            inline: whether a result that is a file is read.

        Returns:
            `{"status", "result", "artifacts", "error"}`, the last one `{"code", "message"}` or None.

        Raises:
            NotFoundError: the job has no such part.
            UnavailableError: the broker does not answer.
        """
        if all(part.id != part_id for part in job.parts):
            raise NotFoundError(f"job {job.id} has no part {part_id}", field="part")
        part = await self._store.load(part_id)
        part = await with_names(self._files, part)
        status = part.archived_as or part.status
        error = None if part.error is None else {"code": part.error.code, "message": part.error.message}
        result, artifacts = part.result, list(part.artifacts)
        large = next((one for one in artifacts if one.get("name") == RESULT_ARTIFACT), None)
        if part.status is Status.ARCHIVED or part.damage is not None:
            error = error or _gone(f"part {part_id} was archived, erased or damaged")
        elif status is Status.SUCCEEDED and result is None and large is not None and inline:
            try:
                info = await self._files.info(job.tenant, str(large["file"]))
                result = orjson.loads(b"".join([block async for block in self._files.read(info)]))
            except (NotFoundError, DamagedFileError, orjson.JSONDecodeError):
                error = _gone(f"the file of the result of part {part_id} is not there any more")
        elif status in FINAL and status is not Status.SUCCEEDED and error is None:
            error = {"code": part.reason or status.value, "message": f"part {part_id} is {status.value}"}
        return {"status": status.value, "result": result, "artifacts": artifacts, "error": error}


def _gone(message: str) -> dict[str, Any]:
    return {"code": GONE, "message": message}
