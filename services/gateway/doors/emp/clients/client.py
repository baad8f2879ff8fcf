"""A client over a WebSocket: what it asks for, in either generation's messages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar, Final

from switchyard.events.errors import (
    ConflictError,
    InvalidError,
    NotFoundError,
    RejectedError,
    SwitchyardError,
    UnavailableError,
)
from switchyard.events.events import Queued
from switchyard.events.job import Job
from switchyard.events.values import FINAL, Status
from switchyard.services.access.principal import Role
from switchyard.services.gateway.doors.emp import names, views, wire
from switchyard.services.gateway.doors.emp.clients.following import Following
from switchyard.services.gateway.doors.emp.monitors.boards import BOARDS, Snapshots
from switchyard.services.gateway.doors.emp.results import whole
from switchyard.services.gateway.doors.emp.session import EmpSession
from switchyard.services.gateway.doors.emp.submission import generation_of, submission_of, submitted
from switchyard.services.gateway.http.problems import problem_of
from switchyard.services.gateway.live.index import LiveEvent, Progress
from switchyard.services.gateway.live.messages import Item
from switchyard.services.visible import redacted

Message = Mapping[str, Any]
ID_CHARS: Final = names.ID_CHARS
CANCELLED: Final = "Manually cancelled"
CLEARED: Final = "Job failure history cleared. Job can now be assigned to any worker."
NOTHING_TO_CLEAR: Final = "Job has no failure history to clear."


class Client:
    """Submits jobs and follows them.

    Args:
        session: its connection.
    """

    pings: ClassVar[bool] = True

    def __init__(self, session: EmpSession) -> None:
        self._session = session
        self._hub = session.hub
        self._following = Following(session)
        self._snapshots: Snapshots | None = None
        self.limit_bytes = session.hub.settings.body_bytes
        self._handlers: Mapping[str, Callable[[Message], Awaitable[None]]] = {
            "submit_job": self._submit,
            "request_job_status": self._status, "get_job_status": self._status_ts,
            "subscribe_job": self._subscribe, "subscribe_progress": self._subscribe_ts,
            "unsubscribe_progress": self._unsubscribe_ts,
            "cancel_job": self._cancel, "force_retry_job": self._force_retry,
            "subscribe_stats": self._subscribe_stats, "request_stats": self._request_stats,
            "stay_alive": self._stay_alive, "heartbeat": self._heartbeat,
        }  # fmt: skip

    async def begin(self) -> None:
        """Welcome it, in both generations' ways, and follow its jobs."""
        session = self._session
        session.takes_chunks = True
        self._hub.join(session)
        session.send(
            "connection_established", message=f"Welcome Client {session.id}! Connected to Switchyard",
            client_id=session.id,
        )  # fmt: skip
        session.say(wire.item_ts("connected", client_id=session.id))
        await self._following.begin()

    async def received(self, message: Message) -> None:
        """Do what a message asks for; a refusal names the message where that has an id."""
        type_ = message.get("type")
        try:
            handler = self._handlers.get(type_) if isinstance(type_, str) else None
            if handler is None:
                raise RejectedError(f"Unsupported message type: {str(type_)[:80]}", code="unknown_type")
            await handler(message)
        except SwitchyardError as error:
            self._refuse(message, error)

    async def end(self) -> None:
        """Remember where it resumes."""
        if self._snapshots is not None:
            self._snapshots.leave()
        self._following.end()

    def event(self, event: LiveEvent) -> None:
        """Send what it is to the client, in its turn."""
        self._following.event(event)

    def progress(self, job_id: str, progress: Progress) -> Item | None:
        """The message for it."""
        return self._following.progress(job_id, progress)

    def missed(self) -> None:
        """Nothing but asking for its jobs' states helps the client, and it does that by itself."""

    def _refuse(self, message: Message, error: SwitchyardError) -> None:
        problem = problem_of(error)
        text = redacted(problem.detail)
        said = message.get("message_id") or message.get("id")
        named = said if isinstance(said, int) or (isinstance(said, str) and len(said) <= ID_CHARS) else None
        details = {"code": problem.code, "field": problem.field, "message_id": named}
        self._session.send("error", error=text, details=details, message_id=named)

    # --- Jobs

    async def _submit(self, message: Message) -> None:
        session, hub = self._session, self._hub
        session.principal.check(Role.SUBMITTER)
        session.count()
        generation = generation_of(message)
        fields = message.get("data", message)
        if not isinstance(fields, dict):
            raise InvalidError("data: an object was expected", field="data")
        asked = submission_of(
            fields, hub.settings, generation=generation, client=names.label_of(session.id),
            sent_id=message.get("message_id"),
        )  # fmt: skip
        async with self._following.held:  # nothing is said of the job before it is accepted
            job = (await submitted(hub, session.caller, asked)).job
            self._following.took(job, generation)
            self._accept(message, job, generation)
        if job.labels.get(names.CLIENT) != names.label_of(session.id):  # somebody else was first
            await self._following.follow(job, generation)
        await self._following.final(job)

    def _accept(self, message: Message, job: Job, generation: str) -> None:
        session = self._session
        if generation == names.TYPESCRIPT:
            session.say(
                wire.item_ts("job_submitted", job_id=names.sent_id(job), message_id=message.get("id"))
            )
        else:
            session.send(
                "job_accepted", job_id=names.sent_id(job), status=views.status_of(job, generation),
                position=self._position(job), notified_workers=0,
            )  # fmt: skip

    def _position(self, job: Job) -> int | None:
        if job.status is not Status.QUEUED:
            return None
        try:
            return self._hub.jobs.read_model.place(job) + 1
        except UnavailableError:
            return None

    async def _found(self, message: Message) -> Job:
        if not message.get("job_id"):
            raise InvalidError(f"Missing job_id in {message['type']} request", field="job_id")
        return await self._hub.find(self._session.tenant, message["job_id"])

    async def _status(self, message: Message) -> None:
        job = await self._found(message)
        await self._following.follow(job, names.PYTHON)
        await self._session.deliver(await self._status_of(job))

    async def _status_of(self, job: Job) -> Item:
        progress = self._hub.jobs.progress(job)
        result = await self._result(job)
        fields = views.status_fields(job, names.PYTHON, progress, result)
        return wire.item("response_job_status", **fields)

    async def _result(self, job: Job) -> Any:
        return await whole(self._hub, job.tenant, job.result, job.artifacts)

    async def _status_ts(self, message: Message) -> None:
        shown: dict[str, Any] | None
        try:
            job = await self._found(message)
            spec = await self._hub.jobs.store.spec(job.id)
            progress = self._hub.jobs.progress(job)
            shown = views.job_ts(job, progress, result=await self._result(job), payload=spec.payload)
        except NotFoundError:
            shown = None
        item = wire.item_ts("job_status", keep=("job",), message_id=message.get("id"), job=shown)
        await self._session.deliver(item)

    async def _subscribe(self, message: Message) -> None:
        job = await self._found(message)
        await self._following.follow(job, names.PYTHON)
        self._session.send("subscription_confirmed", job_id=names.sent_id(job))
        await self._following.final(job)

    async def _subscribe_ts(self, message: Message) -> None:
        job = await self._found(message)
        await self._following.follow(job, names.TYPESCRIPT)
        self._session.say(wire.item_ts("subscribed", job_id=names.sent_id(job), message_id=message.get("id")))
        await self._following.final(job)

    async def _unsubscribe_ts(self, message: Message) -> None:
        job = await self._found(message)
        self._following.leave(job)
        self._session.say(
            wire.item_ts("unsubscribed", job_id=names.sent_id(job), message_id=message.get("id"))
        )

    async def _cancel(self, message: Message) -> None:
        session = self._session
        session.principal.check(Role.SUBMITTER)
        session.count()
        job = await self._found(message)
        reason = message.get("reason") or CANCELLED
        if not isinstance(reason, str):
            raise InvalidError("reason: a text was expected", field="reason")
        if job.status in FINAL:
            text = f"Failed to cancel job {names.sent_id(job)}. Job is already in a terminal state."
            raise ConflictError(text, code="illegal_transition")
        async with self._following.held:
            job = await self._hub.jobs.cancel(session.caller, job, reason)
            self._following.cancelled(job)
        if generation_of(message) == names.TYPESCRIPT:
            session.say(
                wire.item_ts("job_cancelled", job_id=names.sent_id(job), message_id=message.get("id"))
            )
            return
        fields = views.status_fields(job, names.PYTHON, None, None)
        session.send("response_job_status", **{**fields, "message": f"Job cancelled: {reason}"})

    async def _force_retry(self, message: Message) -> None:
        session = self._session
        session.principal.check(Role.SUBMITTER)
        session.count()
        job, text = await self._found(message), NOTHING_TO_CLEAR
        if job.status is Status.DEAD:
            job = await self._hub.jobs.redrive(session.caller, job)
            self._following.again(job)
            text = CLEARED
        elif job.status in (Status.QUEUED, Status.RETRYING):
            job, event = await self._hub.jobs.retry(session.caller, job)
            text = CLEARED if isinstance(event, Queued) else text
        if job.status in FINAL:
            named = f"job {names.sent_id(job)} is {views.status_of(job, names.PYTHON)}"
            raise ConflictError(f"Failed to force retry: {named}", code="illegal_transition")
        fields = views.status_fields(job, names.PYTHON, self._hub.jobs.progress(job), None)
        await self._following.follow(job, names.PYTHON)
        session.send("response_job_status", **{**fields, "message": text})

    # --- The rest

    async def _subscribe_stats(self, message: Message) -> None:
        self._session.send("subscription_confirmed", job_id="stats", channels=["stats"])
        if message.get("enabled", True) is False:
            if self._snapshots is not None:
                self._snapshots.leave()
                self._snapshots = None
        elif self._snapshots is None:
            self._snapshots = self._hub.app[BOARDS].join(self._session)

    async def _request_stats(self, message: Message) -> None:
        stats = self._hub.app[BOARDS].stats(self._session.tenant)
        self._session.send("response_stats", stats=stats)
        named = message.get("message_id")
        if isinstance(named, str):
            self._session.send("ack", original_id=named, original_type="request_stats")

    async def _stay_alive(self, message: Message) -> None:
        del message
        self._session.send(
            "response_job_status", job_id="keep-alive", status="acknowledged", message="Connection is alive"
        )

    async def _heartbeat(self, message: Message) -> None:
        self._session.say(wire.item_ts("heartbeat_ack", message_id=message.get("id")))
