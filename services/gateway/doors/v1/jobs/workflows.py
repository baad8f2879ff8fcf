"""`/v1/workflows`: templates of payloads, and the jobs that are made of them."""

from __future__ import annotations

from typing import Any, Final

from aiohttp import web

from switchyard.events.subjects import NAME
from switchyard.projections.job_view import job_view
from switchyard.services.files.named import jobs_named
from switchyard.services.gateway.app_keys import JOBS, TENANT_FILES, WORKFLOWS
from switchyard.services.gateway.doors.v1.answers.workflows import (
    BatchAnswer,
    WorkflowAnswer,
    WorkflowPage,
    WorkflowVersions,
    head_answer,
    workflow_answer,
)
from switchyard.services.gateway.doors.v1.parts import (
    H_KEY,
    H_TRACE,
    JOBS_SHARE,
    NO_SUCH,
    PAGED,
    READ,
    SUBMIT,
    TENANT,
    after_name,
    page_limit,
)
from switchyard.services.gateway.http.callers import json_response, key_of
from switchyard.services.gateway.http.query import scope, wrong
from switchyard.services.gateway.http.routes import Call, Route
from switchyard.services.gateway.operations.workflows.request import WorkflowRequest, WorkflowSubmission
from switchyard.services.gateway.operations.workflows.workflows import LABEL_BATCH
from switchyard.services.intake.request import parse_key


async def list_workflows(call: Call[None]) -> web.Response:
    """A page of workflows by name."""
    limit, after = page_limit(call), after_name(call)
    page, cursor = await call.part(WORKFLOWS).page(_tenant(call), after, limit)
    return json_response(WorkflowPage(workflows=[head_answer(head) for head in page], cursor=cursor))


async def get(call: Call[None]) -> web.Response:
    """A version of a workflow, the newest without one; with the schema of its inputs and an example."""
    tenant, workflows = _tenant(call), call.part(WORKFLOWS)
    version, head = await workflows.get(tenant, call.named("name"))
    choices = workflows.choices(tenant, version.template.kind)
    return json_response(workflow_answer(version, head, choices))


async def versions(call: Call[None]) -> web.Response:
    """The numbers of a workflow's versions."""
    name = call.named("name")
    found = await call.part(WORKFLOWS).versions(_tenant(call), name)
    return json_response(WorkflowVersions(name=name, versions=found))


async def put(call: Call[WorkflowRequest]) -> web.Response:
    """Make the next version of a workflow, unless the newest says the same."""
    workflows = call.part(WORKFLOWS)
    version, head, is_new = await workflows.put(call.caller, call.named("name"), call.body)
    choices = workflows.choices(call.caller.tenant, version.template.kind)
    location = {"Location": f"/v1/workflows/{version.name}@{version.number}"}
    answer = workflow_answer(version, head, choices)
    return json_response(answer, status=201 if is_new else 200, headers=location)


async def delete(call: Call[None]) -> web.Response:
    """Delete a workflow with all of its versions; the jobs that were made of it stay."""
    await call.part(WORKFLOWS).delete(_tenant(call), call.named("name"))
    return web.Response(status=204)


async def submit(call: Call[WorkflowSubmission]) -> web.Response:
    """Make jobs of a workflow, each with its own seed."""
    header = key_of(call.request)
    key = None if header is None else parse_key(header)
    found = await call.part(WORKFLOWS).submit(call.caller, call.named("name"), call.body, key)
    jobs = call.part(JOBS)
    named = await jobs_named(call.part(TENANT_FILES).files, found.jobs)
    views = [job_view(job, jobs.progress(job)) for job in named]
    answer = BatchAnswer(batch=found.id, workflow=found.workflow, jobs=views)
    location = {"Location": f"/v1/jobs?label={LABEL_BATCH}:{found.id}"}
    return json_response(answer, status=201 if found.is_new else 200, headers=location)


def _tenant(call: Call[Any]) -> str:
    tenant = scope(call.caller, call.query)
    if NAME.fullmatch(tenant) is None:
        raise wrong("tenant", tenant, "the name of one tenant")
    return tenant


_MADE: Final = (
    (413, "payload_too_large"), (413, "too_large"), (422, "too_many_workflows"), (422, "editors_form"),
    (429, "too_many_bytes"),
)  # fmt: skip

ROUTES: Final = (
    Route(
        method="GET", path="/v1/workflows", handler=list_workflows, summary="List workflows",
        roles=READ, query=(TENANT, *PAGED), answers={200: WorkflowPage},
    ),
    Route(
        method="GET", path="/v1/workflows/{name}", handler=get, summary="Read a workflow",
        roles=READ, query=(TENANT,), answers={200: WorkflowAnswer}, errors=NO_SUCH,
    ),
    Route(
        method="PUT", path="/v1/workflows/{name}", handler=put, summary="Make a version of a workflow",
        roles=SUBMIT, body=WorkflowRequest, answers={201: WorkflowAnswer, 200: WorkflowAnswer},
        answer_headers=("Location",), errors=_MADE,
    ),
    Route(
        method="DELETE", path="/v1/workflows/{name}", handler=delete, summary="Delete a workflow",
        roles=SUBMIT, query=(TENANT,), answers={204: None}, errors=NO_SUCH,
    ),
    Route(
        method="GET", path="/v1/workflows/{name}/versions", handler=versions,
        summary="List the versions of a workflow", roles=READ, query=(TENANT,),
        answers={200: WorkflowVersions}, errors=NO_SUCH,
    ),
    Route(
        method="POST", path="/v1/workflows/{name}/jobs", handler=submit, summary="Make jobs of a workflow",
        roles=SUBMIT, body=WorkflowSubmission, headers=(H_KEY, H_TRACE),
        answers={201: BatchAnswer, 200: BatchAnswer}, answer_headers=("Location",),
        errors=(
            *NO_SUCH, (409, "idempotency_conflict"), (413, "payload_too_large"), (422, "unknown_file"),
            (422, "unknown_limit"), (422, "unknown_dependency"), *JOBS_SHARE,
        ),
    ),
)  # fmt: skip
