"""Payloads of jobs that can be erased: files of theirs, which the first event only names."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Final

import msgspec
import orjson
from nats.aio.client import Client

from switchyard.events.errors import ConflictError, InvalidError, NotFoundError
from switchyard.events.subjects import JOB_ID
from switchyard.events.values import JobSpec
from switchyard.events.vocabulary.ids import JobId
from switchyard.services.broker.bucket import Bucket
from switchyard.services.files import Files
from switchyard.services.files.erasures import ERASURES, Certificates
from switchyard.services.ids import new_id
from switchyard.services.intake.request import JobRequest
from switchyard.services.records.kinds import KindDefaults
from switchyard.services.records.limits import Limit
from switchyard.services.settings import Settings

PAYLOAD: Final = "payload"
"""The name of the file, and of the field by which the event names it."""
MOST_FILES: Final = 256
"""Most files that the payload of such a job may name."""


class Vault:
    """Keeps them.

    Args:
        nc: an open connection.
        files: where they are stored.
        settings: limits.
    """

    def __init__(self, nc: Client, files: Files, settings: Settings) -> None:
        self._files = files
        self._erasures = Bucket(nc, ERASURES, timeout_s=settings.request_timeout_s)
        self._certificates = Certificates(nc, settings)
        self._settings = settings

    async def exists(self, tenant: str, file_id: str) -> bool:
        """Whether a tenant has a file."""
        return await self._files.exists(tenant, file_id)

    async def keep(self, job_id: JobId, tenant: str, payload: bytes, key: str = "") -> msgspec.Raw:
        """Store a payload; what stands for it in the event.

        Raises:
            ConflictError: code `idempotency_conflict`; a job of this id was erased.
            InvalidError: code `not_erasable`; it names a file that was not stored to be erasable.
            LimitError: code `too_many_erasures`.
            StorageFullError: there is no room for it.
            UnavailableError: the broker does not answer.
        """
        known = await self._erasures.get((tenant, job_id))
        if known.value is not None or known.is_unreadable:
            message = f"the idempotency key stands for job {job_id}, which was erased: take another key"
            raise ConflictError(message, code="idempotency_conflict")
        await self._certificates.check(tenant)
        named = named_in(orjson.loads(payload))
        if len(named) > MOST_FILES:
            raise InvalidError(
                f"payload: it names {len(named)} files of at most {MOST_FILES}", field="payload"
            )
        for file_id in named:
            try:
                found = await self._files.info(tenant, file_id)
            except NotFoundError:
                continue  # no file at all: a field that names one was checked before
            if found.lock is None:
                raise InvalidError(
                    f"payload: file {file_id} cannot be erased, and the job can: "
                    "upload it with ?erasable=true",
                    code="not_erasable", field="payload",
                )  # fmt: skip
        info = await self._files.put(
            tenant=tenant, file_id=f"{job_id}.{PAYLOAD}.{new_id()}", name=PAYLOAD, type="application/json",
            body=_once(payload), max_bytes=len(payload), ttl_s=self._settings.file_ttl_max_s, key=key,
            erasable=True, in_broker=True,
        )  # fmt: skip
        return msgspec.Raw(orjson.dumps({PAYLOAD: info.id}))


def erasing_of(request: JobRequest, defaults: KindDefaults, limit: Limit | None) -> dict[str, Any]:
    """Whether a job can be erased, and after how many seconds it is: the shortest that is said of it.

    Raises:
        InvalidError: it cannot be erased, or asks for more than its kind or its tenant allows.
    """
    erasable = request.erasable or defaults.erasable
    bounds = [
        bound for bound in (defaults.erase_s, None if limit is None else limit.erase_s) if bound is not None
    ]
    if request.erase_s is None:
        return {"erasable": erasable, "erase_s": min(bounds, default=None) if erasable else None}
    if not erasable:
        raise InvalidError("erase_s: only a job with `erasable` has it", field="erase_s")
    if bounds and request.erase_s > min(bounds):
        raise InvalidError(f"erase_s: at most {min(bounds):g} was expected here", field="erase_s")
    return {"erasable": True, "erase_s": request.erase_s}


def refuse_in_clear(spec: JobSpec) -> None:
    """Refuse what cannot be erased, because whoever makes the job later keeps its payload in clear.

    Raises:
        InvalidError: code `not_erasable`.
    """
    if spec.erasable:
        message = "erasable: what makes this job later keeps its payload in clear, so it cannot be erased"
        raise InvalidError(message, code="not_erasable", field="erasable")


def named_in(payload: Any) -> Sequence[str]:
    """Whatever in a payload may be the id of an upload, once each."""
    return list(dict.fromkeys(text for text in _texts(payload) if JOB_ID.fullmatch(text)))


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for inner in value.values():
                yield from _texts(inner)
        case list():
            for inner in value:
                yield from _texts(inner)


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body
