"""The tasks that wait for one that is done: they are released at once, not only when a keeper comes by."""

from __future__ import annotations

from typing import Final

from switchyard.events.commands import Unblock
from switchyard.events.errors import ConflictError, LimitError, NotFoundError
from switchyard.events.values import Status
from switchyard.events.vocabulary.ids import JobId
from switchyard.services import clock
from switchyard.services.gateway.doors.octopoid.desk import Desk
from switchyard.services.gateway.doors.octopoid.kept.sorts import BLOCKED_BY
from switchyard.services.gateway.doors.octopoid.moves import act
from switchyard.services.gateway.doors.octopoid.tasks import SORT, job_id_of, task_named

AT_ONCE: Final = 100
"""Most that one request releases; a keeper releases the others."""


async def release(desk: Desk, task_id: str) -> None:
    """Release those that wait for a task and for nothing else; what cannot be is left to the keeper.

    Raises:
        UnavailableError: the broker does not answer.
    """
    shelf = await desk.documents.shelf(desk.tenant, SORT)
    rows = [row for row in shelf.groups.get((BLOCKED_BY, task_id), {}).values() if not row.facts["deleted"]]
    released = 0
    for row in rows:
        job = desk.read_model.job(JobId(job_id_of(desk.tenant, row.facts["id"], row.facts["nonce"])))
        if job is not None and job.status is not Status.BLOCKED:
            continue  # that it waits no more is for good
        try:
            released += await _released(desk, row.facts["id"])
        except (NotFoundError, ConflictError, LimitError):
            continue  # it was deleted or moved meanwhile, or its lane has no room
        if released == AT_ONCE:
            return


async def _released(desk: Desk, task_id: str) -> bool:
    task = await task_named(desk, task_id)
    if task.job.status is not Status.BLOCKED or task.job.damage is not None:
        return False
    for parent in task.job.depends_on:
        last = await desk.store.last_of_leader(parent)
        if last is None:
            return False
        job = await desk.store.load(parent, at_least=last.seq)
        ended_as = job.archived_as if job.status is Status.ARCHIVED else job.status
        if ended_as is not Status.SUCCEEDED:
            return False
    await act(desk, task, Unblock(now=clock.now()), desk.caller.actor)
    return True
