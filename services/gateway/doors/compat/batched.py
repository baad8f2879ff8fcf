"""Batches as the doors for clients of others find and count them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final

from msgspec import Meta

from switchyard.events.errors import InvalidError, NotFoundError, RejectedError
from switchyard.services.gateway.app_keys import BATCHES
from switchyard.services.gateway.http.callers import key_of
from switchyard.services.gateway.http.routes import Call
from switchyard.services.gateway.operations.batches.request import BatchRequest
from switchyard.services.intake.batches.forms import ENDPOINTS
from switchyard.services.intake.request import parse_key
from switchyard.services.records.batches.record import Batch, Compat

SHOWN_CHARS: Final = 80
PAIRS: Final = 16
FAILED: Final = ("dead", "cancelled", "expired")

Key = Annotated[str, Meta(min_length=1, max_length=64)]
Value = Annotated[str, Meta(max_length=512)]
Metadata = Annotated[dict[Key, Value], Meta(max_length=PAIRS)]


def check_endpoint(endpoint: str, form: str) -> None:
    """Let an endpoint pass that a batch may have.

    Raises:
        InvalidError: it is none.
    """
    if endpoint not in ENDPOINTS[form]:
        known = " or ".join(ENDPOINTS[form])
        message = f"endpoint: {known} was expected, not {endpoint[:SHOWN_CHARS]!r}"
        raise InvalidError(message, field="endpoint")


async def created(call: Call[Any], asked: BatchRequest, compat: Compat, *, named: str) -> Batch:
    """Make a batch.

    Args:
        call: whose, with its idempotency key.
        asked: the file and the window.
        compat: in which form.
        named: what the client calls the file.

    Raises:
        RejectedError: as `Batches.create`.
    """
    header = key_of(call.request)
    key = None if header is None else parse_key(header)
    try:
        batch, _ = await call.part(BATCHES).create(call.caller, asked, key, compat)
    except RejectedError as error:
        if error.field == "input":
            error.field = named
            error.message = error.message.replace("input:", f"{named}:", 1)
        raise
    return batch


async def found(call: Call[Any], batch_id: str, form: str) -> Batch:
    """A batch that was made at this door.

    Args:
        call: whose.
        batch_id: its id.
        form: that of the door.

    Raises:
        NotFoundError: the tenant has none of this id.
        UnavailableError: the broker does not answer.
    """
    batch = await call.part(BATCHES).get(call.caller.tenant, batch_id)
    if batch.compat is None or batch.compat.form != form:
        raise NotFoundError(f"there is no batch {batch_id[:SHOWN_CHARS]!r}", field="id")
    return batch


def counts(call: Call[Any], batch: Batch) -> tuple[int, int]:
    """How many lines have succeeded and failed, as far as is known."""
    if batch.has_ended:
        return batch.succeeded, batch.failed
    jobs: Mapping[str, int] = call.part(BATCHES).jobs(batch) or {}
    return jobs.get("succeeded", 0), sum(jobs.get(state, 0) for state in FAILED) + batch.refused


def seconds(at: datetime | None) -> int | None:
    """A time as seconds since 1970."""
    return None if at is None else int(at.timestamp())
