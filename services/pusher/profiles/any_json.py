"""Servers with a protocol of their own, which their owner describes (docs/push.md)."""

from __future__ import annotations

from typing import Any, Final

import aiohttp
import orjson
from yarl import URL

from switchyard.events.errors import InvalidError, RejectedError
from switchyard.events.values import JobError
from switchyard.services.broker.bucket import Key
from switchyard.services.connectors.protocol import FatalError
from switchyard.services.dispatch.push.any_json.options import HEADER_CHARS, PathTemplate, Plan, plan_of
from switchyard.services.dispatch.push.any_json.reading import remote_id_of, said
from switchyard.services.dispatch.push.any_json.template import Template
from switchyard.services.dispatch.push.report import Done, Failed, Report, Running, body_of
from switchyard.services.outbound.client import AnswerTooLargeError, bounded
from switchyard.services.pusher.calling import (
    Answer,
    Broken,
    Reading,
    Said,
    Statuses,
    refused,
    shown,
    without,
)
from switchyard.services.pusher.profiles.protocol import Asked, Profile, Ref, Task
from switchyard.services.records.servers.condition import Outcome

STATUSES: Final = Statuses(full=frozenset({409, 429, 503}), of_the_job=frozenset({400, 413, 414, 415, 422}))
UNKNOWN: Final = frozenset({404, 410})
PLANS: Final = 1000


class JsonProfile(Profile):
    """Sends what the template makes of a job, and reads answers by paths."""

    async def request(self, task: Task, /) -> Asked:
        """What the template makes."""
        plan = _plan(task.ref)
        values = {
            **_values(task.ref, task.ref.kind),
            "payload": task.payload,
            "callback_url": task.callback_url,
        }
        try:
            body = plan.body.render(values)
            headers = {name: _header(name, template, values) for name, template in plan.headers.items()}
        except InvalidError as error:
            raise FatalError("payload_invalid", error.message) from error
        url = task.ref.server.endpoints.predict
        return Asked(url, orjson.dumps(body), method=plan.options.method, headers=headers)

    async def judged(self, task: Task, answer: aiohttp.ClientResponse, reading: Reading, /) -> Answer:
        """The outcome in mode `sync`; else what the server calls the task, or its end where it says that."""
        if (found := await refused(answer, STATUSES, reading)) is not None:
            return found
        plan, status = _plan(task.ref), answer.status
        mode = plan.options.mode
        raw = await bounded(answer, reading.most_bytes)
        if mode == "callback" and not raw.strip():
            return Said(Running(), "")
        try:
            body = body_of(raw)
            remote_id = remote_id_of(plan, body)
            report = _hiding(_first(plan, body), reading)
        except RejectedError as error:
            message = f"it answered {status} with what cannot be used: {shown(error.message, reading.hidden)}"
            return Broken(JobError("answer_invalid", message), Outcome.NOT_JSON, status)
        if (
            mode == "poll"
            and isinstance(report, Running)
            and not remote_id
            and plan.paths.remote_id is not None
        ):
            where = plan.options.remote_id
            message = f"it answered {status} without what it calls the task, which is to stand at {where!r}"
            return Broken(JobError("answer_invalid", message), Outcome.NOT_JSON, status)
        return Said(report, remote_id)

    def calls_back(self, ref: Ref, /) -> bool:
        """As `Profile.calls_back`: in that mode alone."""
        return _plan(ref).options.mode == "callback"

    def cancels(self, ref: Ref, /) -> Asked | None:
        """What the options say, or the server's id of the task at `endpoints.cancel`."""
        plan, url = _plan(ref), ref.server.endpoints.cancel
        cancel, values = plan.options.cancel, _values(ref, ref.kind)
        try:
            if plan.cancel is not None:
                url = _at(ref, plan.cancel, values)
            if url is None:
                return None
            if cancel is None:
                return Asked(url, orjson.dumps({"task_id": values["task_id"]}))
            body = b"" if cancel.body is None else orjson.dumps(plan.cancel_body.render(values))
        except InvalidError:
            return None  # the server has not said what it calls the task
        return Asked(url, body, method=cancel.method)

    def polls(self, ref: Ref, /) -> float | None:
        """As often as the options say."""
        poll = _plan(ref).options.poll
        return None if poll is None else poll.interval_s

    def poll(self, ref: Ref, /) -> Asked:
        """The question after a task."""
        plan = _plan(ref)
        if plan.poll is None or plan.options.poll is None:
            raise AssertionError("only mode poll asks")
        return Asked(_at(ref, plan.poll, _values(ref, ref.kind)), method=plan.options.poll.method)

    async def polled(self, ref: Ref, answer: aiohttp.ClientResponse, reading: Reading, /) -> Report | None:
        """How the task stands; what says nothing of it is asked again."""
        if answer.status in UNKNOWN:
            return None
        if not 200 <= answer.status < 300:
            return Running()
        try:
            body = body_of(await bounded(answer, reading.most_bytes))
        except AnswerTooLargeError:
            message = f"its answer has more than {reading.most_bytes} bytes"
            return Failed(JobError("answer_too_large", message))
        except RejectedError:
            return Running()
        try:
            return _hiding(said(_plan(ref), body), reading)
        except InvalidError as error:
            if error.field == "options.result":
                return Failed(JobError("answer_invalid", shown(error.message, reading.hidden)))
            return Running()


def _hiding(report: Report, reading: Reading) -> Report:
    """What is said, without credentials that a server repeats when it fails."""
    if not isinstance(report, Failed):
        return report
    error = report.error
    return Failed(JobError(error.code, without(error.message, reading.hidden), error.retryable))


def _first(plan: Plan, body: dict[str, Any]) -> Report:
    """What the answer to the request says; a task that is not answered for at once is at work."""
    mode = plan.options.mode
    if mode == "sync":
        return said(plan, body, at_end=True)
    try:
        report = said(plan, body)
    except InvalidError:
        return Running()
    if isinstance(report, Done) and plan.paths.status is None:
        return report if mode == "poll" else Running()
    return report


def _header(name: str, template: Template, values: dict[str, Any]) -> str:
    value = template.render(values)
    text = value if isinstance(value, str) else "" if value is None else orjson.dumps(value).decode()
    if len(text) > HEADER_CHARS or not (text.isascii() and text.isprintable()):
        message = f"options.headers.{name}: at most {HEADER_CHARS} characters of visible ASCII were expected"
        raise InvalidError(message, field=f"options.headers.{name}")
    return text


def _values(ref: Ref, kind: str) -> dict[str, Any]:
    values = {"task_id": f"task-{ref.job}", "job_id": ref.job, "kind": kind}
    return values | ({"remote_id": ref.remote_id} if ref.remote_id else {})


def _at(ref: Ref, path: PathTemplate, values: dict[str, Any]) -> str:
    return f"{URL(ref.server.endpoints.predict).origin()}{path.made(values)}"


_plans: dict[Key, tuple[str, Plan]] = {}


def _plan(ref: Ref) -> Plan:
    """That of a server; a change of its options makes another generation of it.

    Raises:
        InvalidError: an older or newer gateway took them, and they are none here.
    """
    server = ref.server
    found = _plans.get(server.key)
    if found is not None and found[0] == server.generation:
        return found[1]
    plan = plan_of(ref.options)
    _plans.pop(server.key, None)
    if len(_plans) >= PLANS:
        del _plans[next(iter(_plans))]
    _plans[server.key] = server.generation, plan
    return plan
