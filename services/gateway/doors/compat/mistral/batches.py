"""Batch jobs: made of stored files or of requests in the body, read, listed, cancelled and forgotten."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any, Final

import msgspec
from aiohttp import web
from msgspec import Meta

from switchyard.events.errors import InvalidError, LimitError, NotFoundError
from switchyard.services.files import FileInfo
from switchyard.services.gateway.app_keys import BATCHES, SETTINGS, TENANT_FILES
from switchyard.services.gateway.doors.compat.batched import (
    Metadata,
    check_endpoint,
    counts,
    created,
    found,
    seconds,
)
from switchyard.services.gateway.doors.compat.mistral import answers
from switchyard.services.gateway.http.callers import json_response
from switchyard.services.gateway.http.query import TENANT, wrong
from switchyard.services.gateway.http.routes import Call
from switchyard.services.gateway.operations.batches.request import BatchRequest
from switchyard.services.ids import new_id
from switchyard.services.intake.batches.forms import MISTRAL, MODEL_CHARS
from switchyard.services.records.batches.record import Batch, BatchState, Compat

HOURS: Final = 24
MOST_HOURS: Final = 24 * 30
MOST_FILES: Final = 16
MOST_REQUESTS: Final = 10_000
PAGE_SIZE: Final = 100
MOST_PAGE: Final = 100_000
INLINE_BYTES: Final = 8 * 1024 * 1024
"""The most of outputs that an answer holds."""
LINES: Final = "application/jsonl; purpose=batch"
INPUT: Final = "input_files"
REQUESTS: Final = "requests"
KNOWN: Final = frozenset({
    "page", "page_size", "model", "agent_id", "created_after", "created_by_me", "status", "order_by", TENANT,
})  # fmt: skip
"""What a list may be asked for; the clients send each pair of metadata as a parameter of its own."""
ORDERS: Final = ("-created", "created")
STATES: Final = {
    BatchState.VALIDATING: "QUEUED",
    BatchState.IN_PROGRESS: "RUNNING",
    BatchState.FINALIZING: "RUNNING",
    BatchState.CANCELLING: "CANCELLATION_REQUESTED",
    BatchState.COMPLETED: "SUCCESS",
    BatchState.FAILED: "FAILED",
    BatchState.EXPIRED: "TIMEOUT_EXCEEDED",
    BatchState.CANCELLED: "CANCELLED",
}
"""The words of the clients for where a batch stands."""

FileId = Annotated[str, Meta(min_length=1, max_length=200)]


class BatchLine(msgspec.Struct, frozen=True):
    """A request within the body."""

    body: dict[str, Any]
    custom_id: str | None = None


class BatchForm(msgspec.Struct, frozen=True, kw_only=True):
    """A new batch job; fields that are not known are passed over."""

    endpoint: str
    input_files: Annotated[list[FileId], Meta(max_length=MOST_FILES)] | None = None
    requests: Annotated[list[BatchLine], Meta(max_length=MOST_REQUESTS)] | None = None
    model: Annotated[str, Meta(min_length=1, max_length=MODEL_CHARS)] | None = None
    agent_id: str | None = None
    metadata: Metadata | None = None
    timeout_hours: Annotated[int, Meta(ge=1, le=MOST_HOURS)] = HOURS

    def check(self) -> None:
        """Whether it can be done.

        Raises:
            InvalidError: a field breaks a rule.
        """
        check_endpoint(self.endpoint, MISTRAL)
        if self.agent_id is not None:
            raise InvalidError("agent_id: there are no agents here", field="agent_id")
        if bool(self.input_files) == bool(self.requests):
            raise InvalidError(f"{INPUT}: some were expected, or else {REQUESTS}", field=INPUT)


async def create(call: Call[BatchForm]) -> web.Response:
    """`POST /batch/jobs`: a batch of the lines of some files, or of requests."""
    form = call.body
    form.check()
    named = list(form.input_files or ())
    joined = named[0] if len(named) == 1 else await _joined(call, form)
    compat = Compat(
        form=MISTRAL, endpoint=form.endpoint, kinds=dict(call.part(SETTINGS).compat_kinds),
        metadata=form.metadata or {}, model=form.model or "", inputs=tuple(named or (joined,)),
    )  # fmt: skip
    asked = BatchRequest(input=joined, deadline_s=form.timeout_hours * 3600.0)
    return json_response(_answer(call, await created(call, asked, compat, named=INPUT)))


async def _joined(call: Call[BatchForm], form: BatchForm) -> str:
    """One file of all lines; its id."""
    files, tenant, settings = call.part(TENANT_FILES).files, call.caller.tenant, call.part(SETTINGS)
    infos = []
    for number, file_id in enumerate(form.input_files or ()):
        try:
            infos.append(await files.info(tenant, file_id))
        except NotFoundError:
            message = f"{INPUT}[{number}]: there is no such file"
            raise InvalidError(message, code="unknown_file", field=f"{INPUT}[{number}]") from None
    total = sum(info.size_bytes + 1 for info in infos)
    if total > settings.batch_bytes:
        message = f"{INPUT}: the files have {total} bytes of at most {settings.batch_bytes}"
        raise LimitError(message, status=413, code="file_too_large", field=INPUT)
    body = _lines_of(call, infos) if infos else _requests(form.requests or ())
    info = await files.put(
        tenant=tenant, file_id=new_id(), name="batch.jsonl", type=LINES, body=body,
        max_bytes=settings.batch_bytes, ttl_s=min(settings.file_ttl_s, settings.file_ttl_max_s),
        key=call.caller.key,
    )  # fmt: skip
    return info.id


async def _lines_of(call: Call[Any], infos: Sequence[FileInfo]) -> AsyncIterator[bytes]:
    for info in infos:
        async with contextlib.aclosing(call.part(TENANT_FILES).files.read(info)) as blocks:
            async for block in blocks:
                yield block
        yield b"\n"


async def _requests(requests: Sequence[BatchLine]) -> AsyncIterator[bytes]:
    for one in requests:
        yield msgspec.json.encode(one) + b"\n"


async def read(call: Call[None]) -> web.Response:
    """`GET /batch/jobs/{id}`: a batch job, and how far it has come; with its outputs where they are few."""
    batch = await found(call, call.named("id"), MISTRAL)
    answer = _answer(call, batch)
    if call.query.flag("inline") and batch.has_ended:
        answer = msgspec.structs.replace(answer, outputs=await _outputs(call, batch))
    return json_response(answer)


async def cancel(call: Call[None]) -> web.Response:
    """`POST /batch/jobs/{id}/cancel`: submit no more lines, and cancel the jobs that have not ended."""
    batch = await found(call, call.named("id"), MISTRAL)
    batch = await call.part(BATCHES).cancel(call.caller, call.caller.tenant, batch.id)
    return json_response(_answer(call, batch))


async def delete(call: Call[None]) -> web.Response:
    """`DELETE /batch/jobs/{id}`: forget one that has ended, with its outputs."""
    batch = await found(call, call.named("id"), MISTRAL)
    await call.part(BATCHES).delete(call.caller.tenant, batch.id)
    return json_response(answers.Deleted(id=batch.id, object="batch"))


async def listed(call: Call[None]) -> web.Response:
    """`GET /batch/jobs`: a page of those that were made here."""
    query = call.query
    size = query.integer("page_size", default=PAGE_SIZE, least=1, most=PAGE_SIZE * 10)
    page = query.integer("page", default=0, least=0, most=MOST_PAGE)
    order = query.text("order_by") or ORDERS[0]
    if order not in ORDERS:
        raise wrong("order_by", order, " or ".join(ORDERS))
    model, states, after = query.text("model"), set(query.all("status")), query.time("created_after")
    metadata = {name: value for name, value in call.request.query.items() if name not in KNOWN}
    all_, _ = await call.part(BATCHES).page(call.caller.tenant, None, MOST_PAGE, MISTRAL)
    fitting = [
        batch
        for batch in all_
        if batch.compat is not None
        and (model is None or batch.compat.model == model)
        and (not states or STATES[batch.state] in states)
        and (after is None or batch.created_at > after)
        and metadata.items() <= batch.compat.metadata.items()
    ]
    if order == ORDERS[1]:
        fitting.reverse()
    data = [_answer(call, batch) for batch in fitting[page * size : (page + 1) * size]]
    return json_response(answers.Batches(data=data, total=len(fitting)))


async def _outputs(call: Call[None], batch: Batch) -> list[Any] | None:
    """The lines of both outputs; None where they are too many for an answer, or gone."""
    files = call.part(TENANT_FILES).files
    named = [file_id for file_id in (batch.results, batch.errors) if file_id]
    try:
        infos = [await files.info(batch.tenant, file_id) for file_id in named]
        if sum(info.size_bytes for info in infos) > INLINE_BYTES:
            return None
        body = b"".join([block async for block in _lines_of(call, infos)])
    except NotFoundError:
        return None
    return [msgspec.Raw(line) for line in body.splitlines() if line]


def _answer(call: Call[Any], batch: Batch) -> answers.Batch:
    compat = batch.compat
    assert compat is not None  # none other is shown here
    succeeded, failed = counts(call, batch)
    return answers.Batch(
        id=batch.id, input_files=compat.inputs or (batch.input,), endpoint=compat.endpoint,
        model=compat.model or None, metadata=compat.metadata or None, status=STATES[batch.state],
        errors=[answers.BatchFault(message=_said(one.line, one.message)) for one in batch.faults],
        created_at=int(batch.created_at.timestamp()), started_at=seconds(batch.started_at),
        completed_at=seconds(batch.ended_at), total_requests=batch.lines,
        completed_requests=succeeded + failed, succeeded_requests=succeeded, failed_requests=failed,
        output_file=batch.results or None, error_file=batch.errors or None,
    )  # fmt: skip


def _said(line: int, message: str) -> str:
    return f"line {line}: {message}" if line else message
