"""Cog servers: `PUT /predictions/{id}`, answered with a 202 and webhooks, at once, or with a stream.

The id is made of job and fence, so it is sent once: a server runs a finished one that comes again. What it
prints and how far it is comes with the answer or, after a 202, by webhook. The end comes by webhook in any
case, for its pusher may have died.

Source: recorded from Cog 0.16.12 and 0.23.1, running.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import msgspec
import orjson

from switchyard.events.errors import RejectedError
from switchyard.events.values import JobError
from switchyard.services.connectors.protocol import FatalError
from switchyard.services.dispatch.push.cog import (
    ANSWER_INVALID,
    WITHOUT_LINES,
    health_url,
    lines_of,
    prediction_id,
    report_of,
)
from switchyard.services.dispatch.push.report import Running, body_of
from switchyard.services.outbound.client import bounded
from switchyard.services.pusher.calling import (
    Answer,
    Broken,
    Full,
    NotTaken,
    Reading,
    Said,
    Statuses,
    refused,
    shown,
)
from switchyard.services.pusher.profiles.cog.inputs import with_files
from switchyard.services.pusher.profiles.cog.streaming import streamed
from switchyard.services.pusher.profiles.protocol import Asked, Profile, Ref, Task
from switchyard.services.records.servers.condition import Outcome

STATUSES: Final = Statuses(full=frozenset(), of_the_job=frozenset({400, 413, 414, 415}))
LATER: Final = frozenset({409, 503})
"""No slot is free, or the model is not ready, or its worker has crashed: its health says which."""
EVENTS: Final = "text/event-stream"
HEALTH_BYTES: Final = 1024 * 1024
"""The answer to a health check has all that the model printed while it was set up."""
PLACES: Final = 5
_WELL: Final = frozenset({"READY", "BUSY"})
_SOON: Final = frozenset({"STARTING", "UNKNOWN"})


class _Health(msgspec.Struct, frozen=True):
    status: str


_HEALTH: Final = msgspec.json.Decoder(_Health)


class CogProfile(Profile):
    """Both generations; where they differ, their answers say which it is."""

    health_bytes = HEALTH_BYTES

    async def request(self, task: Task, /) -> Asked:
        """As `Profile.request`; the payload is the input, its references to files `data:` URIs."""
        ref, options = task.ref, task.ref.options
        given = await with_files(task.payload, task.files, options.input_bytes)
        name = prediction_id(ref.job, ref.fence)
        events = ["start", "completed"]
        if options.logs and options.mode == "async":
            events.append("logs")
        body = {"id": name, "input": given, "webhook": task.callback_url, "webhook_events_filter": events}
        try:
            raw = orjson.dumps(body)
        except TypeError as error:
            raise FatalError("invalid_payload", f"it cannot be sent as JSON: {error}") from error
        headers = {"Accept": EVENTS if options.mode == "stream" else "application/json"}
        if options.mode == "async":
            headers["Prefer"] = "respond-async"
        return Asked(prediction_url(ref.server.endpoints.predict, name), raw, "PUT", headers)

    async def judged(self, task: Task, answer: aiohttp.ClientResponse, reading: Reading, /) -> Answer:
        """As `Profile.judged`."""
        if answer.status in LATER:
            answer.close()
            return await self._later(task, answer.status, reading)
        if answer.status == 422:
            return await _invalid_input(answer, reading)
        if answer.status == 406:  # the model streams nothing, whatever the options say
            answer.close()
            return NotTaken(Outcome.STATUS, 406)
        if (found := await refused(answer, STATUSES, reading)) is not None:
            return found
        if answer.content_type == EVENTS:
            return await streamed(task.ref, answer, reading)
        raw = await bounded(answer, reading.files_bytes)
        try:
            body = body_of(raw)
        except RejectedError as error:
            return _unusable(answer.status, f"no JSON object that can be kept: {error}", reading)
        return _of_object(task.ref, answer.status, body, reading)

    async def _later(self, task: Task, status: int, reading: Reading) -> Answer:
        """A server that takes nothing is full only while it is well: one whose worker is gone stays so."""
        endpoints = task.ref.server.endpoints
        url = endpoints.health or health_url(endpoints.predict)
        raw = None if url is None else await reading.ask(url, HEALTH_BYTES)
        if raw is None or self.health(raw) in (Outcome.PASSED, Outcome.NOT_READY):
            return Full(None)
        return NotTaken(Outcome.UNWELL, status)

    def health(self, raw: bytes, /) -> Outcome:
        """As `Profile.health`."""
        try:
            status = _HEALTH.decode(raw).status
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return Outcome.NOT_JSON
        if status in _WELL:
            return Outcome.PASSED
        return Outcome.NOT_READY if status in _SOON else Outcome.UNWELL

    def ticket(self, ref: Ref, /) -> str:
        """As `Profile.ticket`; where the answer brings the lines, webhooks are not to bring them again."""
        return ref.server.profile if ref.options.mode == "async" else WITHOUT_LINES

    def cancels(self, ref: Ref, /) -> Asked | None:
        """As `Profile.cancels`."""
        name = prediction_id(ref.job, ref.fence)
        return Asked(prediction_url(ref.server.endpoints.predict, name, "cancel"), b"{}")


def prediction_url(predict: str, name: str, *rest: str) -> str:
    """The URL of one prediction."""
    parts = urlsplit(predict)
    path = "/".join((parts.path.rstrip("/"), name, *rest))
    return urlunsplit(parts._replace(path=path))


def _of_object(ref: Ref, status: int, body: dict[str, Any], reading: Reading) -> Answer:
    name = prediction_id(ref.job, ref.fence)
    if body.get("id") != name:
        return _unusable(status, "another prediction's id", reading)
    found = report_of(body, ref.job, ref.fence)
    if found is None:
        return _unusable(status, "no status of a prediction", reading)
    if not isinstance(found, Running):
        for line in lines_of(body, ended=True):
            reading.news.line(line)
    return Said(found, name)


def _unusable(status: int, what: str, reading: Reading) -> Broken:
    message = f"it answered {status} with {shown(what, reading.hidden)}"
    return Broken(JobError(ANSWER_INVALID, message), Outcome.NOT_JSON, status)


async def _invalid_input(answer: aiohttp.ClientResponse, reading: Reading) -> Broken:
    """What the model's schema says of the input, by field."""
    message = "it answered 422"
    try:
        said = body_of(await bounded(answer, reading.most_bytes)).get("detail")
    except RejectedError:
        said = None
    if isinstance(said, list):
        places = "; ".join(_place(one) for one in said[:PLACES] if isinstance(one, dict))
        message = f"{message}: {shown(places, reading.hidden)}"
    elif isinstance(said, str):
        message = f"{message}: {shown(said, reading.hidden)}"
    return Broken(JobError("server_refused", message, retryable=False), None, 422)


def _place(fault: dict[str, Any]) -> str:
    where = fault.get("loc")
    parts = [str(part) for part in where if part != "body"] if isinstance(where, list) else []
    return f"{'.'.join(parts) or 'input'}: {fault.get('msg')}"
