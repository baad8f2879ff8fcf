"""A payload's references to results, replaced when an attempt begins."""

from __future__ import annotations

from typing import Any, Final

import orjson

from switchyard.events.errors import InvalidError, NotFoundError
from switchyard.events.job import Job
from switchyard.events.references import find, resolve
from switchyard.events.values import JobSpec
from switchyard.events.vocabulary.ids import JobId
from switchyard.services.concurrency import each
from switchyard.services.connectors.protocol import FatalError
from switchyard.services.event_store import EventStore
from switchyard.services.files import DamagedFileError, Files
from switchyard.services.files.named import with_names
from switchyard.services.intake.vault import PAYLOAD

AT_ONCE: Final = 8


async def resolved_payload(store: EventStore, files: Files, spec: JobSpec) -> dict[str, Any]:
    """The payload with results in the place of references; a job that waited for none costs nothing.

    Raises:
        FatalError: code `unresolved_reference`, a reference leads nowhere; or `payload_gone`, the payload of
            a job that can be erased was, or cannot be read.
        UnavailableError: the broker does not answer.
    """
    payload: dict[str, Any] = (await _kept(files, spec) if spec.erasable else spec.payload) or {}
    if not spec.depends_on:
        return payload
    try:
        named = {reference.job for _, reference in find(payload)}.intersection(spec.depends_on)
        parents = await each(lambda job_id: _parent(store, files, job_id), named, at_once=AT_ONCE)
        own = {parent.id: parent for parent in parents if parent.tenant == spec.tenant}
        resolved: dict[str, Any] = resolve(payload, own)
    except InvalidError as error:
        raise FatalError("unresolved_reference", error.message) from error
    return resolved


async def _kept(files: Files, spec: JobSpec) -> Any:
    """The payload of a job that can be erased, from its file."""
    try:
        info = await files.info(spec.tenant, str(spec.payload[PAYLOAD]))
        return orjson.loads(b"".join([block async for block in files.read(info)]))
    except (NotFoundError, DamagedFileError, KeyError, TypeError, ValueError) as error:
        raise FatalError("payload_gone", f"the payload cannot be had: {error}") from error


async def _parent(store: EventStore, files: Files, job_id: JobId) -> Job:
    """A job at its end, though a replica may lag behind that, with the names that references say."""
    last = await store.last_of_leader(job_id)
    return await with_names(files, await store.load(job_id, at_least=0 if last is None else last.seq))
