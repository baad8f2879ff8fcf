"""Servers of the Cloudflare task system's protocol, in both of its forms (docs/push.md)."""

from __future__ import annotations

from typing import Final

import aiohttp
import orjson

from switchyard.events.errors import RejectedError
from switchyard.events.values import JobError
from switchyard.services.dispatch.push import report
from switchyard.services.dispatch.push.report import Running
from switchyard.services.outbound.client import bounded
from switchyard.services.pusher.calling import Answer, Broken, Reading, Said, Statuses, refused, shown
from switchyard.services.pusher.profiles.protocol import Asked, Profile, Ref, Task
from switchyard.services.records.servers.condition import Outcome

STATUSES: Final = Statuses(full=frozenset({409, 429, 503}), of_the_job=frozenset({400, 413, 414, 415, 422}))


class TaskProfile(Profile):
    """Posts `{"task_id", "request", "async", "callback_url"}`."""

    async def request(self, task: Task, /) -> Asked:
        """As `Profile.request`."""
        body = orjson.dumps({
            "task_id": task_id(task.ref), "request": task.payload, "async": task.ref.options.calls_back,
            "callback_url": task.callback_url,
        })  # fmt: skip
        return Asked(task.ref.server.endpoints.predict, body)

    async def judged(self, _task: Task, answer: aiohttp.ClientResponse, reading: Reading, /) -> Answer:
        """As `Profile.judged`."""
        if (found := await refused(answer, STATUSES, reading)) is not None:
            return found
        status = answer.status
        raw = await bounded(answer, reading.most_bytes)
        if status == 202 and not raw.strip():
            return Said(Running(), "")
        try:
            body = report.body_of(raw)
        except RejectedError as error:
            message = (
                f"it answered {status} with what is no JSON object that can be kept: "
                f"{shown(str(error), reading.hidden)}"
            )
            return Broken(JobError("answer_invalid", message), Outcome.NOT_JSON, status)
        said = report.answered(body)
        if status == 202 and not isinstance(said, Running):
            said = Running()
        return Said(said, report.remote_id_of(body))

    def cancels(self, ref: Ref, /) -> Asked | None:
        """As `Profile.cancels`."""
        url = ref.server.endpoints.cancel
        return None if url is None else Asked(url, orjson.dumps({"task_id": task_id(ref)}))


def task_id(ref: Ref) -> str:
    """What the server knows the job as: the same at every attempt."""
    return f"task-{ref.job}"
