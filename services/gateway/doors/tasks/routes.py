"""The routes of the task door."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from switchyard.services.access.principal import Role
from switchyard.services.gateway.doors.tasks import answers, forms, reports, stats, tasks
from switchyard.services.gateway.doors.tasks.servers import forms as server_forms
from switchyard.services.gateway.doors.tasks.servers import handlers, views
from switchyard.services.gateway.http.routes import Handler, OneOf, Parameter, Route

TASK: Final = "/api/task"
STATS: Final = "/api/stats"
SERVERS: Final = "/api/servers"
BALANCER: Final = "/api/loadbalancer"
_ADMIN: Final = (Role.TENANT_ADMIN,)
_SUBMIT: Final = (Role.SUBMITTER,)
_REFUSED: Final = ((400, "invalid"), (403, "kind_not_allowed"), (404, "not_found"))
_CHANGED: Final = (
    (409, "conflict"), (409, "damaged"), (409, "illegal_transition"), (409, "idempotency_conflict"),
    (413, "payload_too_large"), (422, "unknown_limit"), (429, "key_spent"),
    (402, "budget_spent"), (429, "quota_spent"), (429, "too_many_erasures"), (429, "limit"),
    (429, "too_many_jobs"), (429, "too_many_job_bytes"), (507, "storage_full"),
)  # fmt: skip
_REPORTED: Final = (
    (400, "invalid"), (404, "not_found"), (409, "damaged"), (409, "illegal_transition"), (409, "no_attempt"),
    (409, "not_delegated"), (413, "payload_too_large"), (413, "quota_exceeded"),
)  # fmt: skip
_OF_SERVERS: Final = (
    (400, "invalid"), (403, "kind_not_allowed"), (404, "not_found"), (409, "conflict"),
    (409, "server_exists"), (413, "too_large"), (429, "too_many_bytes"),
)  # fmt: skip


def _route(
    method: str,
    path: str,
    handler: Handler,
    summary: str,
    body: Any = None,
    *,
    answer: Any,
    empty: bytes | None = None,
    query: Sequence[str] = (),
    roles: Sequence[Role] | None = None,
    errors: Sequence[tuple[int, str]] | None = None,
) -> Route:
    """A route as the task system has them: unknown parameters and fields are passed over."""
    who = (Role.VIEWER,) if method == "GET" else _SUBMIT
    return Route(
        method=method, path=path, handler=handler, summary=summary, body=body, empty=empty,
        roles=who if roles is None else tuple(roles), lenient=True, answers={200: answer},
        query=tuple(Parameter(name) for name in query),
        errors=tuple(errors or (_REFUSED if method == "GET" else (*_REFUSED, *_CHANGED))),
    )  # fmt: skip


def _of_admins(
    method: str, path: str, handler: Handler, summary: str, body: Any = None, *, answer: Any, **more: Any
) -> Route:
    """A route about servers."""
    return _route(
        method, path, handler, summary, body, answer=answer, roles=_ADMIN, errors=_OF_SERVERS, **more
    )


ROUTES: Final = (
    _route(
        "POST", TASK, tasks.create, "Make a task", forms.TaskForm,
        answer=OneOf((answers.TaskAnswer, answers.Made)),
    ),
    _route(
        "GET", TASK + "/{id}", tasks.read, "Read a task", answer=OneOf((answers.TaskAnswer, answers.Status)),
    ),
    _route(
        "PUT", TASK + "/{id}", reports.report, "Report on a task that a server has", forms.Report,
        answer=OneOf((answers.TaskAnswer, answers.Changed)), errors=_REPORTED,
    ),
    _route("POST", TASK + "/batch", tasks.batch, "Make tasks", forms.BatchForm, answer=answers.Batch),
    _route("POST", TASK + "/{id}/retry", tasks.retry, "Start a failed task again", answer=answers.Done),
    _route("DELETE", TASK + "/{id}", tasks.cancel, "Cancel a task", answer=answers.Done),
    _route(
        "GET", STATS, stats.of_day, "Count the tasks of a day", query=("date",), answer=answers.DayAnswer,
    ),
    _route(
        "GET", STATS + "/hourly", stats.by_hour, "Count them by hour", query=("date",),
        answer=list[answers.HourAnswer],
    ),
    _route(
        "GET", STATS + "/server/{id}", stats.of_server, "Count those of a server", query=("date",),
        answer=answers.ServerDay,
    ),
    _of_admins(
        "POST", SERVERS, handlers.create, "Register a prediction server", server_forms.ServerForm,
        answer=OneOf((views.Registered, views.Taken)),
    ),
    _of_admins(
        "GET", SERVERS, handlers.list_servers, "List prediction servers", answer=views.Listed,
        query=("status", "group"),
    ),
    _of_admins(
        "POST", SERVERS + "/cleanup", handlers.cleanup, "Remove prediction servers that have long been dead",
        server_forms.CleanupForm, empty=b"{}", answer=views.Cleaned,
    ),
    _of_admins("GET", SERVERS + "/{id}", handlers.read, "Read a prediction server", answer=views.ServerView),
    _of_admins(
        "DELETE", SERVERS + "/{id}", handlers.delete, "Remove a prediction server", answer=views.Gone
    ),
    _of_admins(
        "POST", SERVERS + "/{id}/heartbeat", handlers.heartbeat, "Say that a prediction server lives",
        answer=views.Beaten,
    ),
    _of_admins(
        "PUT", SERVERS + "/{id}/maintenance", handlers.maintenance,
        "Give a prediction server no new tasks, or some again", server_forms.MaintenanceForm,
        answer=answers.Done,
    ),
    _of_admins(
        "GET", SERVERS + "/{id}/metrics", handlers.metrics, "Count the tasks of a prediction server today",
        answer=views.Metrics,
    ),
    _of_admins(
        "GET", BALANCER + "/status", handlers.balance, "Show how tasks are spread", answer=views.Balance
    ),
    _of_admins(
        "PUT", BALANCER + "/algorithm", handlers.choose, "Ask for another way of spreading tasks",
        server_forms.AlgorithmForm, answer=answers.Done,
    ),
)  # fmt: skip
