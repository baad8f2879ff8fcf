"""What Octopoid keeps beside tasks: messages, projects, drafts and actions of a scope."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final

import msgspec
from aiohttp import web
from msgspec import Meta

from switchyard.events.errors import ConflictError, InvalidError, NotFoundError, VersionConflictError
from switchyard.services.gateway.doors.octopoid.answers import ProjectTasks
from switchyard.services.gateway.doors.octopoid.desk import Desk, desk_of, now, page_of
from switchyard.services.gateway.doors.octopoid.listing import tasks_of
from switchyard.services.gateway.doors.octopoid.tasks import task_view
from switchyard.services.gateway.http.callers import json_response
from switchyard.services.gateway.http.routes import Call
from switchyard.services.records.entries import Document

MESSAGE: Final = "message"
PROJECT: Final = "project"
DRAFT: Final = "draft"
ACTION: Final = "action"
COUNTER: Final = "counter"

Word = Annotated[str, Meta(min_length=1, max_length=255)]
Text = Annotated[str, Meta(max_length=200_000)]


class MessageForm(msgspec.Struct, frozen=True):
    """The body of a message."""

    task_id: Word
    from_actor: Word
    type: Word
    content: Annotated[Text, Meta(min_length=1)]
    to_actor: Word | None = None
    parent_message_id: Word | None = None


class ProjectForm(msgspec.Struct, frozen=True):
    """The body of a project's creation."""

    id: Word
    title: Word
    branch: Word | None = None
    description: Text | None = None
    status: Word = "draft"
    base_branch: Word = "main"
    auto_accept: bool | int = False
    created_by: Word | None = None


class ProjectChange(msgspec.Struct, frozen=True):
    """The body of a project's change."""

    title: Word | msgspec.UnsetType = msgspec.UNSET
    branch: Word | msgspec.UnsetType | None = msgspec.UNSET
    description: Text | msgspec.UnsetType | None = msgspec.UNSET
    status: Word | msgspec.UnsetType = msgspec.UNSET
    base_branch: Word | msgspec.UnsetType = msgspec.UNSET
    auto_accept: bool | int | msgspec.UnsetType = msgspec.UNSET
    completed_at: str | msgspec.UnsetType | None = msgspec.UNSET


class DraftForm(msgspec.Struct, frozen=True):
    """The body of a draft's creation."""

    title: Word
    author: Word
    status: Word = "idea"
    domain: Word | None = None
    file_path: Annotated[str, Meta(max_length=4096)] | None = None
    linked_task_id: Word | None = None
    linked_project_id: Word | None = None
    tags: Any = None


class ActionForm(msgspec.Struct, frozen=True):
    """The body of an action's creation."""

    entity_type: Word
    entity_id: Word
    label: Word
    action_type: Word = "proposal"
    description: Text | None = None
    action_data: Any = None
    proposed_by: Word | None = None
    expires_at: str | None = None
    metadata: Any = None


class ActionResult(msgspec.Struct, frozen=True):
    """The body of an action's end."""

    result: Any = None


async def _new(desk: Desk, sort: str, name: str, fields: Document) -> Document:
    tenant, documents = desk.tenant, desk.documents
    found = await documents.find(tenant, sort, name)
    if found.document is None:
        document = fields | {"id": fields.get("id", name), "scope": desk.scope}
        try:
            await documents.create(tenant, sort, name, document, found.revision)
        except VersionConflictError:
            pass  # somebody was faster
        else:
            return document
    raise ConflictError(f"{sort.capitalize()} {name[:64]} already exists", code="exists")


async def _listed(call: Call[Any], sort: str, filters: tuple[str, ...], order: str) -> list[Document]:
    """The documents of a sort that have the values asked for, the newest first."""
    desk = desk_of(call)
    found = await desk.documents.all(desk.tenant, sort)
    wanted = {name: value for name in filters if (value := call.query.text(name))}
    listed = [
        document
        for document, _ in found
        if document is not None and all(str(document.get(name)) == value for name, value in wanted.items())
    ]
    return sorted(listed, key=lambda document: str(document[order]), reverse=True)


def _page(call: Call[Any], name: str, listed: list[Document]) -> web.Response:
    offset, limit = page_of(call)
    page = listed[offset : offset + limit]
    return json_response({name: page, "total": len(listed), "offset": offset, "limit": limit})


async def _change(call: Call[Any], sort: str, change: Callable[[Document], Document]) -> web.Response:
    desk = desk_of(call)
    tenant, name = desk.tenant, call.named("id")
    return json_response((await desk.documents.change(tenant, sort, name, change)).document)


# --- Messages


async def post_message(desk: Desk, fields: Mapping[str, Any]) -> Document:
    """Keep a message."""
    name = f"msg-{secrets.token_hex(8)}"
    given = {"to_actor": None, "parent_message_id": None, "created_at": now(), **fields}
    return await _new(desk, MESSAGE, name, given)


async def create_message(call: Call[MessageForm]) -> web.Response:
    """`POST /api/v1/messages`."""
    desk = desk_of(call)
    asked = call.body
    if asked.parent_message_id is not None:
        tenant, documents = desk.tenant, desk.documents
        parent = (await documents.find(tenant, MESSAGE, asked.parent_message_id)).document
        if parent is None:
            raise InvalidError("parent_message_id: there is no such message", field="parent_message_id")
        if parent["task_id"] != asked.task_id:
            rule = "the message is about another task"
            raise InvalidError(f"parent_message_id: {rule}", field="parent_message_id")
    return json_response(await post_message(desk, msgspec.structs.asdict(asked)), status=201)


async def list_messages(call: Call[None]) -> web.Response:
    """`GET /api/v1/messages` and `GET /api/v1/tasks/{id}/messages`: the oldest first."""
    listed = await _listed(call, MESSAGE, ("task_id", "to_actor", "type"), "created_at")
    listed.reverse()
    if "id" in call.request.match_info:
        listed = [message for message in listed if message["task_id"] == call.named("id")]
    if thread := call.query.text("thread_id"):
        members = {thread}
        for message in listed:  # an answer is younger than what it answers
            if message["parent_message_id"] in members:
                members.add(message["id"])
        listed = [message for message in listed if message["id"] in members]
    if call.query.text("unreplied") == "true":
        answered = {message["parent_message_id"] for message in listed}
        listed = [message for message in listed if message["id"] not in answered]
    return _page(call, "messages", listed)


# --- Projects


async def create_project(call: Call[ProjectForm]) -> web.Response:
    """`POST /api/v1/projects`."""
    desk = desk_of(call)
    asked = call.body
    fields = msgspec.structs.asdict(asked) | {"created_at": now(), "completed_at": None}
    return json_response(await _new(desk, PROJECT, asked.id, fields), status=201)


async def list_projects(call: Call[None]) -> web.Response:
    """`GET /api/v1/projects`."""
    return _page(call, "projects", await _listed(call, PROJECT, ("status", "created_by"), "created_at"))


async def get_project(call: Call[None]) -> web.Response:
    """`GET /api/v1/projects/{id}`."""
    desk = desk_of(call)
    tenant, name = desk.tenant, call.named("id")
    return json_response((await desk.documents.get(tenant, PROJECT, name)).document)


async def patch_project(call: Call[ProjectChange]) -> web.Response:
    """`PATCH /api/v1/projects/{id}`."""
    asked = call.body
    fields = {
        name: value for name, value in msgspec.structs.asdict(asked).items() if value is not msgspec.UNSET
    }
    if not fields:
        raise InvalidError("No fields to update")

    def change(document: Document) -> Document:
        completed = document["completed_at"]
        if fields.get("status") == "completed" and completed is None:
            completed = now()
        return document | {"completed_at": completed} | fields

    return await _change(call, PROJECT, change)


async def project_tasks(call: Call[None]) -> web.Response:
    """`GET /api/v1/projects/{id}/tasks`."""
    desk = desk_of(call)
    name = call.named("id")
    await desk.documents.get(desk.tenant, PROJECT, name)
    tasks = [task for task in await tasks_of(desk) if task.document["fields"].get("project_id") == name]
    views = sorted((task_view(desk, task) for task in tasks), key=lambda view: view.priority)
    return json_response(ProjectTasks(project_id=name, tasks=views, total=len(views)))


# --- Drafts


async def create_draft(call: Call[DraftForm]) -> web.Response:
    """`POST /api/v1/drafts`: its id is the next whole number of the scope."""
    desk = desk_of(call)
    asked = call.body
    tenant, documents, at = desk.tenant, desk.documents, now()
    try:
        counted = await documents.change(tenant, COUNTER, DRAFT, lambda count: {"last": count["last"] + 1})
    except NotFoundError:
        try:
            found = await documents.find(tenant, COUNTER, DRAFT)
            await documents.create(tenant, COUNTER, DRAFT, {"last": 0}, found.revision)
        except VersionConflictError:
            pass  # somebody was faster
        counted = await documents.change(tenant, COUNTER, DRAFT, lambda count: {"last": count["last"] + 1})
    number = (counted.document or {})["last"]
    fields = msgspec.structs.asdict(asked) | {"id": number, "created_at": at, "updated_at": at}
    return json_response(await _new(desk, DRAFT, str(number), fields), status=201)


async def list_drafts(call: Call[None]) -> web.Response:
    """`GET /api/v1/drafts`."""
    names = ("status", "author", "domain", "linked_task_id", "linked_project_id")
    return _page(call, "drafts", await _listed(call, DRAFT, names, "created_at"))


# --- Actions


async def create_action(call: Call[ActionForm]) -> web.Response:
    """`POST /api/v1/actions`."""
    desk = desk_of(call)
    asked = call.body
    fields = msgspec.structs.asdict(asked) | {
        "status": "proposed", "proposed_at": now(), "executed_at": None, "result": None,
    }  # fmt: skip
    return json_response(await _new(desk, ACTION, f"act-{secrets.token_hex(8)}", fields), status=201)


async def list_actions(call: Call[None]) -> web.Response:
    """`GET /api/v1/actions`."""
    names = ("entity_type", "entity_id", "status")
    listed = await _listed(call, ACTION, names, "proposed_at")
    return _page(call, "actions", [action for action in listed if not _has_expired(action)])


def _has_expired(action: Document) -> bool:
    return bool(action["expires_at"]) and str(action["expires_at"]) < now()


async def execute_action(call: Call[None]) -> web.Response:
    """`POST /api/v1/actions/{id}/execute`."""

    def change(action: Document) -> Document:
        if action["status"] != "proposed" or _has_expired(action):
            state = "expired" if action["status"] == "proposed" else action["status"]
            raise InvalidError(f"an action that is {state} cannot be executed", field="id")
        return action | {"status": "execute_requested", "executed_at": now()}

    return await _change(call, ACTION, change)


async def complete_action(call: Call[ActionResult]) -> web.Response:
    """`POST /api/v1/actions/{id}/complete`."""
    return await _ended(call, "completed")


async def fail_action(call: Call[ActionResult]) -> web.Response:
    """`POST /api/v1/actions/{id}/fail`."""
    return await _ended(call, "failed")


async def _ended(call: Call[ActionResult], status: str) -> web.Response:
    asked = call.body
    return await _change(call, ACTION, lambda action: action | {"status": status, "result": asked.result})
