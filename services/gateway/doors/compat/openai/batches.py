"""Batches: made of a stored file, read, listed and cancelled."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

import msgspec
from aiohttp import web
from msgspec import Meta

from switchyard.events.errors import InvalidError, NotFoundError
from switchyard.projections.lists.cursors import encode_cursor
from switchyard.services.gateway.app_keys import BATCHES, SETTINGS
from switchyard.services.gateway.doors.compat.batched import (
    Metadata,
    check_endpoint,
    counts,
    created,
    found,
    seconds,
)
from switchyard.services.gateway.doors.compat.openai import answers
from switchyard.services.gateway.http.callers import json_response
from switchyard.services.gateway.http.routes import Call
from switchyard.services.gateway.operations.batches.request import BatchRequest
from switchyard.services.intake.batches.forms import OPENAI
from switchyard.services.records.batches.record import Batch, BatchState, Compat

LIMIT: Final = 20
MOST: Final = 100
MOST_HOURS: Final = 24 * 30
SHOWN_CHARS: Final = 80
_WINDOW: Final = re.compile(r"([0-9]{1,4})([hd])")


class BatchForm(msgspec.Struct, frozen=True, kw_only=True):
    """A new batch; fields that are not known are passed over."""

    input_file_id: Annotated[str, Meta(min_length=1, max_length=200)]
    endpoint: str
    completion_window: str
    metadata: Metadata | None = None
    output_expires_after: Any = None

    def window_s(self) -> float:
        """Seconds that it may take.

        Raises:
            InvalidError: a field breaks a rule.
        """
        check_endpoint(self.endpoint, OPENAI)
        if self.output_expires_after is not None:
            message = "output_expires_after: outputs are kept for SWITCHYARD_BATCH_KEEP_S"
            raise InvalidError(message, field="output_expires_after")
        given = _WINDOW.fullmatch(self.completion_window)
        hours = 0 if given is None else int(given[1]) * (24 if given[2] == "d" else 1)
        if not 1 <= hours <= MOST_HOURS:
            message = (
                f"completion_window: 1h to {MOST_HOURS}h or 1d to {MOST_HOURS // 24}d was expected, not "
                f"{self.completion_window[:SHOWN_CHARS]!r}"
            )
            raise InvalidError(message, field="completion_window")
        return hours * 3600.0


async def create(call: Call[BatchForm]) -> web.Response:
    """`POST /batches`: a batch of a file's lines."""
    form = call.body
    asked = BatchRequest(input=form.input_file_id, deadline_s=form.window_s())
    compat = Compat(
        form=OPENAI, endpoint=form.endpoint, window=form.completion_window,
        kinds=dict(call.part(SETTINGS).compat_kinds), metadata=form.metadata or {},
    )  # fmt: skip
    return json_response(_answer(call, await created(call, asked, compat, named="input_file_id")))


async def read(call: Call[None]) -> web.Response:
    """`GET /batches/{id}`: a batch, and how far it has come."""
    return json_response(_answer(call, await found(call, call.named("id"), OPENAI)))


async def cancel(call: Call[None]) -> web.Response:
    """`POST /batches/{id}/cancel`: submit no more lines, and cancel the jobs that have not ended."""
    batch = await found(call, call.named("id"), OPENAI)
    batch = await call.part(BATCHES).cancel(call.caller, call.caller.tenant, batch.id)
    return json_response(_answer(call, batch))


async def listed(call: Call[None]) -> web.Response:
    """`GET /batches`: a page of those that were made here, newest first."""
    limit = call.query.integer("limit", default=LIMIT, least=1, most=MOST)
    after, cursor = call.query.text("after"), None
    if after is not None:
        try:
            last = await found(call, after, OPENAI)
        except NotFoundError as error:
            raise InvalidError(f"after: {error.message}", field="after") from None
        cursor = encode_cursor((last.created_at, last.id))
    page, more = await call.part(BATCHES).page(call.caller.tenant, cursor, limit, OPENAI)
    data = [_answer(call, batch) for batch in page]
    return json_response(
        answers.Batches(
            data=data, has_more=more is not None, first_id=data[0].id if data else None,
            last_id=data[-1].id if data else None,
        )
    )  # fmt: skip


def _answer(call: Call[Any], batch: Batch) -> answers.Batch:
    compat, state = batch.compat, batch.state
    assert compat is not None  # none other is shown here
    ended_at = batch.ended_at
    return answers.Batch(
        id=batch.id, endpoint=compat.endpoint, input_file_id=batch.input, completion_window=compat.window,
        status=state.value, errors=_faults(batch), output_file_id=batch.results or None,
        error_file_id=batch.errors or None, created_at=int(batch.created_at.timestamp()),
        in_progress_at=seconds(batch.started_at), expires_at=int(batch.deadline_at.timestamp()),
        completed_at=seconds(ended_at) if state is BatchState.COMPLETED else None,
        failed_at=seconds(ended_at) if state is BatchState.FAILED else None,
        expired_at=seconds(ended_at) if state is BatchState.EXPIRED else None,
        cancelled_at=seconds(ended_at) if state is BatchState.CANCELLED else None,
        request_counts=_counts(call, batch), metadata=compat.metadata or None,
    )  # fmt: skip


def _faults(batch: Batch) -> answers.BatchFaults | None:
    if not batch.faults:
        return None
    data = [
        answers.BatchFault(code=one.code, message=one.message, line=one.line or None) for one in batch.faults
    ]
    return answers.BatchFaults(data=data)


def _counts(call: Call[Any], batch: Batch) -> answers.Counts:
    completed, failed = counts(call, batch)
    return answers.Counts(total=batch.lines, completed=completed, failed=failed)
