"""What Octopoid keeps beside tasks: messages, projects, drafts and actions of a scope."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final

import msgspec
from aiohttp import web
from msgspec import Meta

from switchyard.events.errors import ConflictError, InvalidError, NotFoundError, VersionConflictError
from switchyard.services.gateway.doors.octopoid.door import DOCUMENTS, SCOPE, form, now, page_of
from switchyard.services.gateway.doors.octopoid.listing import tasks_of
from switchyard.services.gateway.doors.octopoid.tasks import task_view
from switchyard.services.gateway.http.callers import PRINCIPAL, json_response
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


async def _new(request: web.Request, sort: str, name: str, fields: Document) -> Document:
    tenant, documents = request[PRINCIPAL].tenant, request.app[DOCUMENTS]
    found = await documents.find(tenant, sort, name)
    if found.document is None:
        document = fields | {"id": fields.get("id", name), "scope": request[SCOPE]}
        try:
            await documents.create(tenant, sort, name, document, found.revision)
        except VersionConflictError:
            pass  # somebody was faster
        else:
            return document
    raise ConflictError(f"{sort.capitalize()} {name[:64]} already exists", code="exists")


async def _listed(request: web.Request, sort: str, filters: tuple[str, ...], order: str) -> list[Document]:
    """The documents of a sort that have the values asked for, the newest first."""
    found = await request.app[DOCUMENTS].all(request[PRINCIPAL].tenant, sort)
    wanted = {name: request.query[name] for name in filters if request.query.get(name)}
    listed = [
        document
        for document, _ in found
        if document is not None and all(str(document.get(name)) == value for name, value in wanted.items())
    ]
    return sorted(listed, key=lambda document: str(document[order]), reverse=True)


def _page(request: web.Request, name: str, listed: list[Document]) -> web.Response:
    offset, limit = page_of(request)
    page = listed[offset : offset + limit]
    return json_response({name: page, "total": len(listed), "offset": offset, "limit": limit})


async def _change(request: web.Request, sort: str, change: Callable[[Document], Document]) -> web.Response:
    tenant, name = request[PRINCIPAL].tenant, request.match_info["id"]
    return json_response((await request.app[DOCUMENTS].change(tenant, sort, name, change)).document)


# --- Messages


async def post_message(request: web.Request, fields: Mapping[str, Any]) -> Document:
    """Keep a message."""
    name = f"msg-{secrets.token_hex(8)}"
    given = {"to_actor": None, "parent_message_id": None, "created_at": now(), **fields}
    return await _new(request, MESSAGE, name, given)


async def create_message(request: web.Request) -> web.Response:
    """`POST /api/v1/messages`."""
    asked = await form(request, MessageForm)
    if asked.parent_message_id is not None:
        tenant, documents = request[PRINCIPAL].tenant, request.app[DOCUMENTS]
        parent = (await documents.find(tenant, MESSAGE, asked.parent_message_id)).document
        if parent is None:
            raise InvalidError("parent_message_id: there is no such message", field="parent_message_id")
        if parent["task_id"] != asked.task_id:
            rule = "the message is about another task"
            raise InvalidError(f"parent_message_id: {rule}", field="parent_message_id")
    return json_response(await post_message(request, msgspec.structs.asdict(asked)), status=201)


async def list_messages(request: web.Request) -> web.Response:
    """`GET /api/v1/messages` and `GET /api/v1/tasks/{id}/messages`: the oldest first."""
    listed = await _listed(request, MESSAGE, ("task_id", "to_actor", "type"), "created_at")
    listed.reverse()
    if "id" in request.match_info:
        listed = [message for message in listed if message["task_id"] == request.match_info["id"]]
    if thread := request.query.get("thread_id"):
        members = {thread}
        for message in listed:  # an answer is younger than what it answers
            if message["parent_message_id"] in members:
                members.add(message["id"])
        listed = [message for message in listed if message["id"] in members]
    if request.query.get("unreplied") == "true":
        answered = {message["parent_message_id"] for message in listed}
        listed = [message for message in listed if message["id"] not in answered]
    return _page(request, "messages", listed)


# --- Projects


async def create_project(request: web.Request) -> web.Response:
    """`POST /api/v1/projects`."""
    asked = await form(request, ProjectForm)
    fields = msgspec.structs.asdict(asked) | {"created_at": now(), "completed_at": None}
    return json_response(await _new(request, PROJECT, asked.id, fields), status=201)


async def list_projects(request: web.Request) -> web.Response:
    """`GET /api/v1/projects`."""
    return _page(request, "projects", await _listed(request, PROJECT, ("status", "created_by"), "created_at"))


async def get_project(request: web.Request) -> web.Response:
    """`GET /api/v1/projects/{id}`."""
    tenant, name = request[PRINCIPAL].tenant, request.match_info["id"]
    return json_response((await request.app[DOCUMENTS].get(tenant, PROJECT, name)).document)


async def patch_project(request: web.Request) -> web.Response:
    """`PATCH /api/v1/projects/{id}`."""
    asked = await form(request, ProjectChange)
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

    return await _change(request, PROJECT, change)


async def project_tasks(request: web.Request) -> web.Response:
    """`GET /api/v1/projects/{id}/tasks`."""
    name = request.match_info["id"]
    await request.app[DOCUMENTS].get(request[PRINCIPAL].tenant, PROJECT, name)
    tasks = [task for task in await tasks_of(request) if task.document["fields"].get("project_id") == name]
    views = sorted((task_view(request, task) for task in tasks), key=lambda view: str(view["priority"]))
    return json_response({"project_id": name, "tasks": views, "total": len(views)})


# --- Drafts


async def create_draft(request: web.Request) -> web.Response:
    """`POST /api/v1/drafts`: its id is the next whole number of the scope."""
    asked = await form(request, DraftForm)
    tenant, documents, at = request[PRINCIPAL].tenant, request.app[DOCUMENTS], now()
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
    return json_response(await _new(request, DRAFT, str(number), fields), status=201)


async def list_drafts(request: web.Request) -> web.Response:
    """`GET /api/v1/drafts`."""
    names = ("status", "author", "domain", "linked_task_id", "linked_project_id")
    return _page(request, "drafts", await _listed(request, DRAFT, names, "created_at"))


# --- Actions


async def create_action(request: web.Request) -> web.Response:
    """`POST /api/v1/actions`."""
    asked = await form(request, ActionForm)
    fields = msgspec.structs.asdict(asked) | {
        "status": "proposed", "proposed_at": now(), "executed_at": None, "result": None,
    }  # fmt: skip
    return json_response(await _new(request, ACTION, f"act-{secrets.token_hex(8)}", fields), status=201)


async def list_actions(request: web.Request) -> web.Response:
    """`GET /api/v1/actions`."""
    names = ("entity_type", "entity_id", "status")
    listed = await _listed(request, ACTION, names, "proposed_at")
    return _page(request, "actions", [action for action in listed if not _has_expired(action)])


def _has_expired(action: Document) -> bool:
    return bool(action["expires_at"]) and str(action["expires_at"]) < now()


async def execute_action(request: web.Request) -> web.Response:
    """`POST /api/v1/actions/{id}/execute`."""

    def change(action: Document) -> Document:
        if action["status"] != "proposed" or _has_expired(action):
            state = "expired" if action["status"] == "proposed" else action["status"]
            raise InvalidError(f"an action that is {state} cannot be executed", field="id")
        return action | {"status": "execute_requested", "executed_at": now()}

    return await _change(request, ACTION, change)


async def complete_action(request: web.Request) -> web.Response:
    """`POST /api/v1/actions/{id}/complete`."""
    return await _ended(request, "completed")


async def fail_action(request: web.Request) -> web.Response:
    """`POST /api/v1/actions/{id}/fail`."""
    return await _ended(request, "failed")


async def _ended(request: web.Request, status: str) -> web.Response:
    asked = await form(request, ActionResult)
    return await _change(request, ACTION, lambda action: action | {"status": status, "result": asked.result})
