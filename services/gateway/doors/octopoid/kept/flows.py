"""Flows: which queues the tasks of a scope may stand in, and which ways lead from one to another."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from aiohttp import web
from msgspec import Meta

from switchyard.events.errors import ConflictError, InvalidError, VersionConflictError
from switchyard.services.gateway.doors.octopoid.answers import FlowAnswer, FlowDeleted, FlowList
from switchyard.services.gateway.doors.octopoid.desk import Desk, desk_of, now
from switchyard.services.gateway.doors.octopoid.tasks import BUILT_IN, Task
from switchyard.services.gateway.http.callers import json_response
from switchyard.services.gateway.http.routes import Call
from switchyard.services.records.entries.documents import Document

SORT: Final = "flow"
MAX_QUEUES: Final = 200

QueueName = Annotated[str, Meta(min_length=1, max_length=100)]


class FlowForm(msgspec.Struct, frozen=True):
    """The body of a flow's registration."""

    states: Annotated[list[QueueName], Meta(max_length=MAX_QUEUES)]
    transitions: Annotated[list[dict[str, Any]], Meta(max_length=10 * MAX_QUEUES)]
    description: str | None = None
    child_flow: dict[str, Any] | None = None


async def flow_named(desk: Desk, name: str) -> Document | None:
    """A flow of the caller's scope, if it is registered."""
    return (await desk.documents.find(desk.tenant, SORT, name)).document


async def check_queue(desk: Desk, flow: str, queue: str) -> None:
    """Let a queue pass that tasks of the flow may stand in; any where no such flow is registered.

    Raises:
        InvalidError: it is none of the flow's.
    """
    if not isinstance(queue, str) or not 0 < len(queue) <= 100:
        raise InvalidError("queue: the name of a queue was expected", field="queue")
    if queue in BUILT_IN:
        return
    known = await flow_named(desk, flow)
    if known is not None and queue not in known["states"]:
        names = ", ".join(known["states"])
        raise InvalidError(f'Invalid queue "{queue}". Valid queues for flow "{flow}": {names}', field="queue")


async def check_way(desk: Desk, task: Task, to: str, otherwise: frozenset[str], verb: str) -> None:
    """Let a task pass that may go from its queue to another.

    Args:
        desk: that of its scope.
        task: as it stands.
        to: where it is to go.
        otherwise: queues from which it may where its flow is not registered.
        verb: what is being done.

    Raises:
        ConflictError: it may not.
    """
    queue = task.queue
    known = await flow_named(desk, task.flow)
    if known is None:
        if queue in otherwise:
            return
        expected = " or ".join(sorted(otherwise))
        raise ConflictError(
            f"Failed to {verb} task: it is in {queue}, expected {expected}", code="wrong_queue"
        )
    if not any(way.get("from") == queue and way.get("to") == to for way in known["transitions"]):
        message = f'Failed to {verb} task: flow "{task.flow}" does not allow {queue} -> {to}'
        raise ConflictError(message, code="wrong_queue")


async def put(call: Call[FlowForm]) -> web.Response:
    """`PUT /api/v1/flows/{name}`: register a flow, in the place of the one of that name."""
    desk = desk_of(call)
    tenant, name = desk.tenant, call.named("name")
    asked = call.body
    missing = BUILT_IN - set(asked.states)
    if missing:
        names = ", ".join(sorted(missing))
        raise InvalidError(f"states: the built-in queues {names} are missing", field="states")
    documents = desk.documents
    found = await documents.find(tenant, SORT, name)
    at = now()
    document: Document = {
        "name": name, "scope": desk.scope, **msgspec.structs.asdict(asked),
        "registered_at": (found.document or {}).get("registered_at", at), "updated_at": at,
    }  # fmt: skip
    try:
        if found.document is None:
            await documents.create(tenant, SORT, name, document, found.revision)
        else:
            await documents.put(tenant, SORT, name, document, found.revision)
    except VersionConflictError:
        raise ConflictError(f"flow {name[:64]}: another request changed it meanwhile") from None
    return json_response(_view(document))


async def list_flows(call: Call[None]) -> web.Response:
    """`GET /api/v1/flows`."""
    desk = desk_of(call)
    found = await desk.documents.all(desk.tenant, SORT)
    flows = [flow.document for flow in found if flow.document is not None]
    return json_response(
        FlowList(flows=[_view(flow) for flow in sorted(flows, key=lambda flow: str(flow["name"]))])
    )


async def get(call: Call[None]) -> web.Response:
    """`GET /api/v1/flows/{name}`."""
    desk = desk_of(call)
    found = await desk.documents.get(desk.tenant, SORT, call.named("name"))
    return json_response(_view(found.document or {}))


async def delete(call: Call[None]) -> web.Response:
    """`DELETE /api/v1/flows/{name}`."""
    desk = desk_of(call)
    tenant, name = desk.tenant, call.named("name")
    found = await desk.documents.get(tenant, SORT, name)
    try:
        await desk.documents.delete(tenant, SORT, name, found.revision)
    except VersionConflictError:
        raise ConflictError(f"flow {name[:64]}: another request changed it meanwhile") from None
    return json_response(FlowDeleted(name=name, scope=desk.scope))


def _view(document: Document) -> FlowAnswer:
    known: dict[str, Any] = {name: document.get(name) for name in FlowAnswer.__struct_fields__}
    return FlowAnswer(**known)
