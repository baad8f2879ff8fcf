"""Projects: what several tasks belong to, and the branch that those are made on."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, UnsetType

from switchyard.events.errors import ConflictError
from switchyard.services.gateway.doors.octopoid.answers import (
    Gone,
    ProjectAnswer,
    ProjectPage,
    ProjectTasks,
)
from switchyard.services.gateway.doors.octopoid.desk import Desk, desk_of, now
from switchyard.services.gateway.doors.octopoid.kept import documents as kept
from switchyard.services.gateway.doors.octopoid.kept.documents import Maybe, Text, Word
from switchyard.services.gateway.doors.octopoid.kept.sorts import PROJECT, TASK
from switchyard.services.gateway.doors.octopoid.listing import tasks_of
from switchyard.services.gateway.doors.octopoid.tasks import task_view
from switchyard.services.gateway.http.callers import json_response
from switchyard.services.gateway.http.routes import Call
from switchyard.services.records.entries.documents import Document

FILTERS: Final = ("status", "created_by")
Flag = bool | Annotated[int, Meta(ge=0, le=1)]


class ProjectForm(msgspec.Struct, frozen=True):
    """The body of a project's creation."""

    id: Word
    title: Word
    branch: Maybe | None = None
    description: Text | None = None
    status: Maybe | None = None
    base_branch: Maybe | None = None
    auto_accept: Flag | None = None
    created_by: Maybe | None = None


class ProjectChange(msgspec.Struct, frozen=True):
    """The body of a project's change."""

    title: Word | UnsetType = UNSET
    branch: Word | UnsetType | None = UNSET
    description: Text | UnsetType | None = UNSET
    status: Word | UnsetType = UNSET
    base_branch: Word | UnsetType = UNSET
    auto_accept: Flag | UnsetType = UNSET
    completed_at: Word | UnsetType | None = UNSET


async def create_project(call: Call[ProjectForm]) -> web.Response:
    """`POST /api/v1/projects`."""
    desk = desk_of(call)
    asked = call.body
    fields = kept.said(asked) | {
        "status": asked.status or "draft", "base_branch": asked.base_branch or "main",
        "auto_accept": bool(asked.auto_accept), "created_at": now(), "completed_at": None,
    }  # fmt: skip
    return json_response(_view(await kept.new(desk, PROJECT, asked.id, fields)), status=201)


async def list_projects(call: Call[None]) -> web.Response:
    """`GET /api/v1/projects`."""
    page = await kept.listed(call, PROJECT, FILTERS)
    projects = [_view(document) for document in page.documents]
    return json_response(
        ProjectPage(projects=projects, total=page.total, offset=page.offset, limit=page.limit)
    )


async def get_project(call: Call[None]) -> web.Response:
    """`GET /api/v1/projects/{id}`."""
    desk = desk_of(call)
    found = await desk.documents.get(desk.tenant, PROJECT, call.named("id"))
    return json_response(_view(found.document or {}))


async def patch_project(call: Call[ProjectChange]) -> web.Response:
    """`PATCH /api/v1/projects/{id}`."""
    fields = kept.given(call.body)
    if "auto_accept" in fields:
        fields["auto_accept"] = bool(fields["auto_accept"])

    def change(document: Document) -> Document:
        completed = document["completed_at"]
        if fields.get("status") == "completed" and not completed:
            completed = now()
        return document | {"completed_at": completed} | fields

    return json_response(_view(await kept.change(call, PROJECT, call.named("id"), change)))


async def delete_project(call: Call[None]) -> web.Response:
    """`DELETE /api/v1/projects/{id}`: one that has no tasks."""
    desk = desk_of(call)
    name = call.named("id")
    await desk.documents.get(desk.tenant, PROJECT, name)
    rows = await desk.documents.rows(desk.tenant, TASK)
    count = sum(
        row.facts["fields"].get("project_id") == name for row in rows.values() if not row.facts["deleted"]
    )
    if count:
        message = f"Cannot delete project {name[:64]}: has {count} tasks; delete or unlink them first"
        raise ConflictError(message, code="has_tasks")
    await kept.delete(desk, PROJECT, name)
    return json_response(Gone(message=f"Project {name[:64]} deleted"))


async def project_tasks(call: Call[None]) -> web.Response:
    """`GET /api/v1/projects/{id}/tasks`: the most urgent first, and of those the newest."""
    desk = desk_of(call)
    name = call.named("id")
    await desk.documents.get(desk.tenant, PROJECT, name)
    views = [task_view(desk, task) for task in await tasks_of(desk, {"project_id": [name]})]
    views.sort(key=lambda view: view.created_at, reverse=True)
    views.sort(key=lambda view: view.priority)
    return json_response(ProjectTasks(project_id=name, tasks=views, total=len(views)))


async def branch_of(desk: Desk, project_id: str | None) -> str | None:
    """The branch that a project's tasks are made on; None where it says none, or is not there."""
    if not project_id:
        return None
    found = (await desk.documents.find(desk.tenant, PROJECT, project_id)).document
    branch = None if found is None else found.get("branch")
    return branch if isinstance(branch, str) else None


def _view(document: Document) -> ProjectAnswer:
    known: dict[str, Any] = {name: document.get(name) for name in ProjectAnswer.__struct_fields__}
    return ProjectAnswer(**known | {"auto_accept": bool(known["auto_accept"])})
