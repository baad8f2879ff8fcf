"""The routes of the door for RunPod's clients."""

from __future__ import annotations

from typing import Any, Final

from switchyard.services.access.principal import Role
from switchyard.services.gateway.doors.compat.runpod import answers, endpoints, forms, jobs
from switchyard.services.gateway.http.routes import Handler, Parameter, Route

BASE: Final = "/compat/runpod/v2/{endpoint_id}"
_READ: Final = (Role.VIEWER,)
_SUBMIT: Final = (Role.SUBMITTER,)
_REFUSED: Final = ((400, "invalid"), (404, "not_found"))
_CHANGED: Final = ((409, "conflict"), (409, "damaged"), (409, "illegal_transition"))
_MADE: Final = (
    (400, "nested_too_deeply"), (400, "too_many_lanes"), (400, "too_many_priorities"),
    (403, "kind_not_allowed"), (409, "idempotency_conflict"), (409, "conflict"), (413, "payload_too_large"),
    (429, "key_spent"),
    (402, "budget_spent"), (429, "quota_spent"), (429, "too_many_erasures"), (429, "limit"),
    (429, "too_many_jobs"), (429, "too_many_job_bytes"),
    (429, "too_many_waits"), (507, "storage_full"),
)  # fmt: skip
_STARTED: Final = (
    (429, "limit"), (429, "too_many_jobs"), (429, "too_many_job_bytes"), (429, "too_many_waits"),
    (507, "storage_full"),
)  # fmt: skip


def _run(path: str, handler: Handler, summary: str, **more: Any) -> Route:
    return Route(
        method="POST", path=BASE + path, handler=handler, summary=summary, roles=_SUBMIT, body=forms.RunForm,
        lenient=True, headers=("Idempotency-Key",), answers={200: answers.JobAnswer},
        errors=(*_REFUSED, *_MADE), **more,
    )  # fmt: skip


def _route(
    method: str, path: str, handler: Handler, summary: str, answer: Any, *errors: tuple[int, str]
) -> Route:
    return Route(
        method=method, path=BASE + path, handler=handler, summary=summary,
        roles=_READ if method == "GET" else _SUBMIT, lenient=True, answers={200: answer},
        errors=(*_REFUSED, *errors),
    )  # fmt: skip


ROUTES: Final = (
    _run("/run", jobs.run, "Run a job"),
    _run(
        "/runsync", jobs.run_sync, "Run a job and wait for its end", query=(Parameter("wait", "integer"),),
        waits=forms.asked_s,
    ),
    _route("GET", "/status/{id}", jobs.status, "Read a job", answers.JobAnswer),
    _route("GET", "/stream/{id}", jobs.stream, "Read what is new of a job's output", answers.StreamAnswer),
    _route("POST", "/cancel/{id}", jobs.cancel, "Cancel a job", answers.JobAnswer, *_CHANGED),
    _route(
        "POST", "/retry/{id}", jobs.retry, "Start a failed job again", answers.JobAnswer, *_CHANGED, *_STARTED
    ),
    _route("GET", "/health", endpoints.health, "Count the jobs and workers of a kind", answers.Health),
    _route("POST", "/purge-queue", endpoints.purge, "Cancel what waits", answers.Purged, *_CHANGED),
)  # fmt: skip
