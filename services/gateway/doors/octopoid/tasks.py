"""A task: its document, the job that it is, and what of both a client sees."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import orjson

from switchyard.events.encoding.damage import refuse_damaged
from switchyard.events.errors import ConflictError, InvalidError, NotFoundError
from switchyard.events.job import Job
from switchyard.events.values import Status
from switchyard.events.vocabulary.ids import JobId
from switchyard.services.gateway.doors.octopoid.answers import TaskAnswer
from switchyard.services.gateway.doors.octopoid.desk import Desk, is_system, parties_of, short, shown
from switchyard.services.ids import id_for_key
from switchyard.services.records.entries.documents import Document

SORT: Final = "task"
KIND: Final = "agent"
INCOMING: Final = "incoming"
CLAIMED: Final = "claimed"
DONE: Final = "done"
FAILED: Final = "failed"
PROVISIONAL: Final = "provisional"
CONTINUATION: Final = "needs_continuation"
BUILT_IN: Final = frozenset({INCOMING, CLAIMED, DONE, FAILED})
PRIORITIES: Final = {"P0": 95, "P1": 75, "P2": 50, "P3": 25}
ANY: Final = "*"
WAITS: Final = frozenset({Status.SCHEDULED, Status.BLOCKED, Status.QUEUED, Status.RETRYING})
RUNS: Final = frozenset({Status.RUNNING, Status.CANCELLING})

# Fields as Octopoid's clients know them, with what they are where nobody has said.
FIELDS: Final[dict[str, Any]] = {
    "file_path": None, "title": None, "complexity": None, "role": None, "type": None, "branch": None,
    "project_id": None, "auto_accept": False, "hooks": None, "flow": "default", "flow_overrides": None,
    "content": None, "metadata": None, "breakdown_depth": None, "has_plan": False, "plan_id": None,
    "pr_number": None, "pr_url": None, "checks": None, "check_results": None, "needs_rebase": False,
    "last_rebase_attempt_at": None, "staging_url": None, "needs_breakdown": False, "review_round": 0,
    "execution_notes": None, "needs_intervention": False, "commits_count": 0, "turns_used": None,
    "submitted_at": None, "completed_at": None,
}  # fmt: skip
ATTEMPTS: Final = "attempt_count"
REJECTIONS: Final = "rejection_count"


class Task(NamedTuple):
    """A task as it stands."""

    document: Document
    revision: int
    job: Job

    @property
    def id(self) -> str:
        """Its id, which the client chose."""
        return str(self.document["id"])

    @property
    def flow(self) -> str:
        """The flow whose queues it goes through."""
        return str(self.document["fields"].get("flow") or "default")

    @property
    def parked(self) -> str:
        """The queue in which a task waits whose work waits for a decision."""
        place = self.document.get("place") or {}
        if place.get("attempt") == self.job.attempt:
            return str(place["queue"])
        result = None if self.job.review is None else self.job.review.result
        named = result.get("queue") if isinstance(result, dict) else None
        return named if isinstance(named, str) else PROVISIONAL

    @property
    def queue(self) -> str:
        """Where it stands, by the state of its job; one whose log cannot be read is waited for by nobody."""
        job = self.job
        if job.damage is not None and not job.damage.newer and job.status is not Status.SUCCEEDED:
            return FAILED
        if job.status in WAITS or (job.status in RUNS and is_system(job.worker)):
            return str(self.document["queue"]) if self.is_new else INCOMING
        if job.status in RUNS:
            return CLAIMED
        if job.status is Status.REVIEW:
            held = job.review is not None and job.review.reviewer is not None
            return CLAIMED if held and self.parked != PROVISIONAL else self.parked
        ended_as = job.archived_as if job.status is Status.ARCHIVED else job.status
        return DONE if ended_as is Status.SUCCEEDED else FAILED

    @property
    def is_new(self) -> bool:
        """Whether it has yet to go where it was created, if that is not `incoming`."""
        taken = 1 if self.job.status in RUNS and is_system(self.job.worker) else 0
        return self.document["queue"] != INCOMING and self.job.attempt == taken and not self.job.rejections

    def count(self, name: str) -> int:
        """How often it was put back (`attempt_count`) or rejected (`rejection_count`).

        A count is noted before the move that it is for: one whose move never came about does not count.
        """
        counts = self.document.get("counts")
        if counts is not None:
            return int(counts[name]) - int(counts["for"] == [name, self.job.seq])
        # As versions before this one counted.
        if name == REJECTIONS:
            known = self.job.feedback.get(name) if isinstance(self.job.feedback, dict) else None
            return known if isinstance(known, int) else self.job.rejections
        status = self.job.status
        return max(0, self.job.attempt - (status in RUNS or status in (Status.REVIEW, Status.SUCCEEDED)))

    @property
    def is_apart(self) -> bool:
        """Whether it stands in a queue by what its document says alone, because it waits for others."""
        return self.is_new and self.job.status in WAITS

    @property
    def feedback(self) -> Any:
        """What the last rejection said."""
        return self.document.get("feedback") if self.job.feedback is None else self.job.feedback

    @property
    def named(self) -> str | None:
        """Whom somebody wrote down as its holder, though nobody holds it, until it moves."""
        name, seq = self.document.get("named") or (None, 0)
        return name if seq == self.job.seq else None

    @property
    def priority(self) -> str:
        """The one that it has, or is to have as soon as it waits in `incoming`."""
        return self.document.get("priority") or priority_name(self.job.own_priority)

    @property
    def blocked_by(self) -> str | None:
        """The tasks that it waits for, while it does."""
        return self.document["blocked_by"] if self.job.status is Status.BLOCKED else None


def job_id_of(tenant: str, task_id: str, nonce: str) -> str:
    """The job that a task is. A task that was deleted and created again has another nonce."""
    return id_for_key(tenant, job_key(task_id, nonce))


def job_key(task_id: str, nonce: str) -> str:
    """The idempotency key of a task's job; a client's key has no such characters."""
    return f"octopoid\0{task_id}\0{nonce}"


def priority_of(name: Any) -> int:
    """The priority of a name.

    Raises:
        InvalidError: there is no such name.
    """
    if not isinstance(name, str) or name not in PRIORITIES:
        raise InvalidError("priority: one of P0, P1, P2, P3 was expected", field="priority")
    return PRIORITIES[name]


def priority_name(priority: int) -> str:
    """The name of the nearest priority."""
    return min(PRIORITIES, key=lambda name: abs(PRIORITIES[name] - priority))


async def task_named(desk: Desk, task_id: str) -> Task:
    """A task of the caller's scope, as it stands now.

    Raises:
        NotFoundError: there is none.
        UnavailableError: the broker does not answer.
    """
    tenant = desk.tenant
    found = await desk.documents.find(tenant, SORT, task_id)
    if found.document is not None and not found.document["deleted"]:
        job_id = job_id_of(tenant, task_id, found.document["nonce"])
        last = await desk.store.last_of_leader(JobId(job_id))
        if last is not None:
            job = await desk.store.load(JobId(job_id), at_least=last.seq)
            return Task(found.document, found.revision, job)
    raise NotFoundError("Task not found", field="id")


async def task_to_change(desk: Desk, task_id: str, verb: str) -> Task:
    """A task of the caller's scope, if anything can be done with it.

    Raises:
        ConflictError: code `damaged`; the log of its job cannot be read.
        NewerVersionError: a newer version of the program wrote the log of its job.
    """
    task = await task_named(desk, task_id)
    if task.job.damage is not None:
        error = refuse_damaged(task.job)
        if isinstance(error, ConflictError):
            raise ConflictError(f"Failed to {verb} task: {error}", code=error.code, allowed=error.allowed)
        raise error
    return task


def task_view(desk: Desk, task: Task) -> TaskAnswer:
    """The task as clients see it."""
    job, document = task.job, task.document
    queue = task.queue
    runs = job.status in RUNS and queue == CLAIMED
    worker: str | None
    worker, expires_at = (job.worker, job.lease.expires_at) if runs and job.lease else (None, None)
    if job.status is Status.REVIEW and job.review is not None:
        worker, expires_at = job.review.reviewer, job.review.expires_at
    orchestrator, agent = parties_of(worker)
    given = document["fields"]
    fields: dict[str, Any] = {name: _plain(given.get(name, unsaid)) for name, unsaid in FIELDS.items()}
    if job.damage is not None:
        fields["needs_intervention"] = 1
    claimed_at = job.started_at if runs else job.changed_at if worker else None
    changed_at = max(document["updated_at"], shown(job.changed_at) or "")
    ended_at = job.ended_at if queue == DONE else None
    shown_fields = fields | {
        "id": task.id,
        "title": fields["title"] or task.id,
        "queue": queue,
        "priority": task.priority,
        "scope": desk.scope,
        "blocked_by": task.blocked_by,
        "claimed_by": agent or task.named,
        "orchestrator_id": orchestrator,
        "claimed_at": short(shown(claimed_at)),
        "lease_expires_at": shown(expires_at),
        ATTEMPTS: task.count(ATTEMPTS),
        REJECTIONS: task.count(REJECTIONS),
        "feedback": task.feedback,
        "hooks": _text(fields["hooks"]),
        "completed_at": fields["completed_at"] or shown(ended_at),
        "created_at": short(document["created_at"]),
        "updated_at": short(changed_at),
        "version": job.seq + task.revision,
        "job_id": job.id,
        "damage": job.damage and job.damage.reason,
        "lease_id": f"{job.id}.{job.lease.fence}" if runs and job.lease else None,
    }
    return TaskAnswer(**shown_fields)


def _plain(value: Any) -> Any:
    """Yes and no as Octopoid has them: 1 and 0."""
    return int(value) if isinstance(value, bool) else value


def _text(value: Any) -> str | None:
    """Hooks as Octopoid has them: JSON in a string."""
    return value if value is None or isinstance(value, str) else orjson.dumps(value).decode()
