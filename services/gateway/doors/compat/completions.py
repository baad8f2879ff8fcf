"""Completions and embeddings for clients of several services: a job, and its result as the answer."""

from __future__ import annotations

import contextlib
from typing import Annotated, Any, Final

import msgspec
from aiohttp import hdrs, web
from msgspec import Meta

from switchyard.events.errors import ConflictError
from switchyard.events.job import Job
from switchyard.events.values import Status
from switchyard.services.gateway.app_keys import READ_MODEL, SETTINGS, TENANT_FILES
from switchyard.services.gateway.doors.compat.answering import Wording, failed, result_file
from switchyard.services.gateway.doors.compat.jobs import LABEL, end_of, submitted, waited
from switchyard.services.gateway.doors.compat.stored import payload_of
from switchyard.services.gateway.doors.compat.streaming import Stream
from switchyard.services.gateway.http.callers import json_response, key_of
from switchyard.services.gateway.http.routes import Call
from switchyard.services.gateway.http.sending import send_blocks
from switchyard.services.intake.batches.forms import MODEL_CHARS, STREAMS, kind_for

CHAT: Final = "/v1/chat/completions"
EMBEDDINGS: Final = "/v1/embeddings"

Model = Annotated[str, Meta(min_length=1, max_length=MODEL_CHARS)]


class StreamOptions(msgspec.Struct, frozen=True):
    """How a stream is."""

    include_usage: bool | None = None


class ChatForm(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation; the fields that are not named here reach the server as they are."""

    model: Model
    messages: list[Any]
    stream: bool | None = None
    stream_options: StreamOptions | None = None


class EmbeddingsForm(msgspec.Struct, frozen=True, kw_only=True):
    """Texts; the same holds."""

    model: Model
    input: Any


async def chat(call: Call[ChatForm], words: Wording, *, usage: bool) -> web.StreamResponse:
    """A completion, whole or as a stream.

    Args:
        call: what is asked.
        words: those of the door.
        usage: whether a stream says at its end how many tokens were used.
    """
    form = call.body
    job, wait_s, is_ours = await made(call, form.model, CHAT, words)
    if form.stream:
        return await Stream(call, job, words, usage=usage, is_ours=is_ours).sent(wait_s)
    return await _whole(call, await waited(call, job, wait_s), words)


async def embeddings(call: Call[EmbeddingsForm], words: Wording) -> web.StreamResponse:
    """The embeddings of some texts."""
    job, wait_s, _ = await made(call, call.body.model, EMBEDDINGS, words)
    return await _whole(call, await waited(call, job, wait_s), words)


def asked_s(request: web.Request) -> float:
    """How long an answer may be waited for, at most."""
    return request.app[SETTINGS].wait_s


def known(call: Call[None]) -> list[str]:
    """Models that the settings name, and kinds of the tenant's jobs that serve any."""
    named = {name for name in call.part(SETTINGS).compat_kinds if not name.startswith("/")}
    counts = call.part(READ_MODEL).counts(tenant=call.caller.tenant)
    kinds = {kind for kind, _ in counts if kind.endswith(("chat", "embeddings"))}
    return sorted(named | kinds)


def wait_of(call: Call[Any]) -> float:
    """How long the answer is waited for: as `?wait=` says, else as long as may be."""
    most_s = call.part(SETTINGS).wait_s
    asked_s = call.query.seconds("wait", most=most_s)
    return most_s if asked_s is None else asked_s


async def made(call: Call[Any], model: str, endpoint: str, words: Wording) -> tuple[Job, float, bool]:
    """The job of a request, which ends when nobody waits for it any more, how long that is, and whose it is.

    The last says whether it is of this request alone: no other can come by it, as by an idempotency key.
    """
    wait_s = wait_of(call)
    kind = kind_for(call.part(SETTINGS).compat_kinds, model, endpoint)
    payload = payload_of(call.raw, *STREAMS)
    job, is_new = await submitted(
        call, kind, payload, {LABEL: words.label}, named="", deadline_s=max(wait_s, 1.0)
    )
    return job, wait_s, is_new and key_of(call.request) is None


async def _whole(call: Call[Any], job: Job, words: Wording) -> web.StreamResponse:
    if end_of(job) is not Status.SUCCEEDED:
        return failed(job, words)
    if job.result is not None:
        has_none = words.needs_id and isinstance(job.result, dict) and "id" not in job.result
        return json_response({"id": job.id, **job.result} if has_none else job.result)
    named = result_file(job)
    if named is None:
        raise ConflictError(f"job {job.id} has no result that is kept", code="no_result")
    files = call.part(TENANT_FILES)
    info = await files.files.info(job.tenant, named.file)
    response = web.StreamResponse(headers={hdrs.CONTENT_TYPE: "application/json"})
    response.content_length = info.size_bytes
    with files.transfer(job.tenant):
        async with contextlib.aclosing(files.files.read(info)) as blocks:
            idle_s = call.part(SETTINGS).transfer_idle_s
            await send_blocks(call.request, response, blocks, idle_s=idle_s, file=info.id)
    return response
