"""What is left where the note of who waits for whom was lost: looked for by the slow sweep, and ended.

Jobs whose parts were never submitted have them submitted. Parts of jobs that have ended are cancelled. A job
that did not hear of the end of its parts is found among all blocked jobs, in the sweep itself.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Final

from switchyard.events.job import Job
from switchyard.events.values import FINAL
from switchyard.events.vocabulary.ids import JobId
from switchyard.projections.reader import ReadModel
from switchyard.services.keeper.fan_out.parts import Parts
from switchyard.services.keeper.fan_out.put_off import FullError, PutOff

ROWS: Final = 5_000
"""Jobs that one sweep looks at for parts that go on after the end of their job."""
ENDED: Final = frozenset(status.value for status in FINAL)


class Orphans:
    """Finds parts without a job, and jobs without their parts.

    Args:
        parts: submits and cancels them.
        put_off: knows of those that wait for room.
        one: lets the sweep go on with the others where one job cannot be repaired.
        count: counts what was repaired.
    """

    def __init__(
        self,
        parts: Parts,
        put_off: PutOff,
        one: Callable[[JobId], AbstractContextManager[None]],
        count: Callable[..., None],
    ) -> None:
        self._parts = parts
        self._put_off = put_off
        self._one = one
        self._count = count
        self._after = ""

    async def unsubmitted(self, job: Job, read_model: ReadModel, before: datetime) -> None:
        """Submit the parts of a blocked job where it has waited for some that there are not."""
        if not job.parted_by or job.id in self._put_off or job.changed_at is None or job.changed_at > before:
            return
        if len(read_model.states([part.id for part in job.parts])) == len(job.parts):
            return
        with self._one(job.id):
            try:
                if await self._parts.again(job):
                    self._count("parts_not_submitted", job=job.id)
            except FullError:
                return  # it is not forgotten, but waits for room

    async def abandoned(self, read_model: ReadModel, before: datetime) -> None:
        """Cancel the parts that go on of jobs that have ended; of some jobs, and of others the next time."""
        found, self._after = read_model.parted(self._after, ROWS)
        for job in found:
            if job.status not in FINAL or job.changed_at is None or job.changed_at > before:
                continue
            states = read_model.states([part.id for part in job.parts])
            if all(state in ENDED for state in states.values()):
                continue
            with self._one(job.id):
                await self._parts.on_end(job.id)
                self._count("part_without_job", job=job.id)
