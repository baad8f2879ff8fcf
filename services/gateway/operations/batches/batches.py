"""Batches: made, read, cancelled, and their outputs."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

import msgspec

from switchyard.events.errors import (
    ConflictError,
    InvalidError,
    LimitError,
    NotFoundError,
    UnavailableError,
    VersionConflictError,
)
from switchyard.events.job import Job
from switchyard.events.numbers import Time
from switchyard.projections.lists.cursors import decode_cursor, encode_cursor
from switchyard.projections.reader import ReadModel
from switchyard.services import clock
from switchyard.services.access.principal import Caller
from switchyard.services.files import FileInfo, Files
from switchyard.services.gateway.operations.batches.request import BatchRequest, defaults_of
from switchyard.services.ids import id_for_key, new_id
from switchyard.services.records.batches.record import LABEL_BATCH, Batch, BatchState, Compat
from switchyard.services.records.batches.store import Batches as Store
from switchyard.services.settings import Settings

CANCELLED: Final = "cancelled"
RESULTS: Final = "results"
ERRORS: Final = "errors"
WAITING: Final = ("queued", "blocked", "scheduled", "retrying", "review", "running")
_CURSOR: Final = msgspec.json.Decoder(tuple[Time, str])


class Made(NamedTuple):
    """A batch, and whether this request made it."""

    batch: Batch
    is_new: bool


class Batches:
    """Does what callers ask about batches.

    Args:
        store: those of all tenants.
        files: where their inputs and outputs are.
        read_model: counts their jobs.
        settings: limits.
    """

    def __init__(self, store: Store, files: Files, read_model: ReadModel, settings: Settings) -> None:
        self._store = store
        self._files = files
        self._read_model = read_model
        self._settings = settings

    async def create(
        self, caller: Caller, asked: BatchRequest, key: str | None, compat: Compat | None = None
    ) -> Made:
        """Make a batch of a stored file; a keeper then checks the file, and carries it on.

        Args:
            caller: whose it is.
            asked: what of it.
            key: its idempotency key.
            compat: whose form the lines have; None for ours.

        Raises:
            InvalidError: a field breaks a rule, or there is no such file.
            LimitError: the file is too large, or the tenant has as many batches as it may.
            ConflictError: the idempotency key stands for another batch.
            UnavailableError: the broker does not answer.
        """
        settings, now = self._settings, clock.now()
        said: Any = asked if compat is None else (asked, compat)
        digest = hashlib.sha256(msgspec.json.encode(said, order="deterministic")).hexdigest()
        batch_id = new_id() if key is None else id_for_key(caller.tenant, f"batches\0{key}")
        if key is not None and (found := await self._earlier(caller.tenant, batch_id, digest)):
            return Made(found, is_new=False)
        defaults = defaults_of(asked, settings)
        if caller.grant is not None and "kind" in defaults:
            caller.grant.check_kind(defaults["kind"])
        window = asked.window or settings.batch_window
        if window > settings.batch_window_max:
            message = f"window: at most {settings.batch_window_max} was expected, not {window}"
            raise InvalidError(message, field="window")
        await self._check_input(caller.tenant, asked.input)
        grant = caller.grant
        batch = Batch(
            tenant=caller.tenant, id=batch_id, name=asked.name, created_at=now, created_by=caller.actor,
            key=caller.key, request_hash=digest, input=asked.input, defaults=defaults,
            window=window, deadline_at=_after(now, asked.deadline_s or settings.batch_deadline_s),
            kinds=None if grant is None or grant.kinds is None else tuple(sorted(grant.kinds)),
            jobs_per_day=None if grant is None else grant.jobs_per_day, compat=compat,
        )  # fmt: skip
        try:
            await self._store.bucket.create((batch.tenant, batch.id), batch)
        except VersionConflictError:
            found = await self._earlier(caller.tenant, batch_id, digest)
            if found is None:
                raise UnavailableError(f"batch {batch_id} cannot be read yet") from None
            return Made(found, is_new=False)
        return Made(batch, is_new=True)

    async def get(self, tenant: str, batch: str) -> Batch:
        """A batch.

        Raises:
            NotFoundError: there is none of this id for this tenant.
            UnavailableError: the broker does not answer.
        """
        return await self._store.get(tenant, batch)

    async def page(
        self, tenant: str, cursor: str | None, limit: int, form: str | None = None
    ) -> tuple[list[Batch], str | None]:
        """A page of batches, newest first, and the cursor of the next.

        Args:
            tenant: whose.
            cursor: that of the page before; None for the first.
            limit: how many.
            form: only batches whose lines have this form; None for all.

        Raises:
            InvalidError: the cursor is not one of ours.
            UnavailableError: the broker does not answer.
        """
        found = await self._store.all(tenant)
        if form is not None:
            found = [one for one in found if one.compat is not None and one.compat.form == form]
        if cursor is not None:
            below = decode_cursor(cursor, _CURSOR)
            found = [one for one in found if (one.created_at, one.id) < below]
        page = found[:limit]
        more = len(found) > limit
        return page, encode_cursor((page[-1].created_at, page[-1].id)) if more else None

    def jobs(self, batch: Batch) -> Mapping[str, int] | None:
        """Its jobs by state, as far as the read model has come; None without one."""
        try:
            return self._read_model.batch(batch.tenant, batch.id)
        except UnavailableError:
            return None

    async def cancel(self, caller: Caller, tenant: str, batch: str) -> Batch:
        """Take in no more lines, and cancel the jobs that have not ended; one that has ended stays so.

        Raises:
            NotFoundError, UnavailableError: as for `get`.
        """

        def stopped(found: Batch) -> Batch:
            if found.has_ended or found.stopped or found.state is BatchState.FINALIZING:
                return found
            return msgspec.structs.replace(
                found, stopped=CANCELLED, stopped_by=caller.actor, state=BatchState.CANCELLING, waits_for=""
            )

        return await self._store.change(tenant, batch, stopped)

    async def delete(self, tenant: str, batch: str) -> None:
        """Forget a batch that has ended, with its outputs; its jobs stay.

        Raises:
            ConflictError: it has not ended.
            NotFoundError, UnavailableError: as for `get`.
        """
        found = await self._store.get(tenant, batch)
        if not found.has_ended:
            message = f"batch {batch} is {found.state.value}: cancel it first"
            raise ConflictError(message, code="illegal_transition")
        for file_id in (found.results, found.errors, found.plan):
            if file_id:
                with contextlib.suppress(NotFoundError):
                    await self._files.delete(tenant, file_id)
        await self._store.forget_refusals(found)
        await self._store.bucket.delete((tenant, batch))

    async def output(self, tenant: str, batch: str, which: str) -> FileInfo | None:
        """The file of an output; None where it has no line.

        Args:
            tenant: whose.
            batch: its id.
            which: `results` or `errors`.

        Raises:
            ConflictError: code `batch_not_ended`.
            NotFoundError: there is no such batch, or the file was removed.
            UnavailableError: the broker does not answer.
        """
        found = await self._store.get(tenant, batch)
        if not found.has_ended:
            message = f"batch {batch} is {found.state.value}: its outputs are there when it has ended"
            raise ConflictError(message, code="batch_not_ended")
        file_id = found.results if which == RESULTS else found.errors
        return await self._files.info(tenant, file_id) if file_id else None

    def waiting_job(self, batch: Batch) -> Job | None:
        """A job of a batch that waits or runs, the last of them that was made; None where none does.

        Raises:
            UnavailableError: there is no read model.
        """
        for state in WAITING:
            jobs, _ = self._read_model.jobs(
                tenant=batch.tenant, states=(state,), labels=((LABEL_BATCH, batch.id),), limit=1
            )
            if jobs:
                return jobs[0]
        return None

    async def _earlier(self, tenant: str, batch: str, digest: str) -> Batch | None:
        entry = await self._store.find(tenant, batch)
        if entry is None or entry.value is None:
            return None
        if entry.value.request_hash != digest:
            message = f"the idempotency key stands for batch {batch}, which was made by another request"
            raise ConflictError(message, code="idempotency_conflict")
        return entry.value

    async def _check_input(self, tenant: str, file_id: str) -> None:
        try:
            info = await self._files.info(tenant, file_id)
        except NotFoundError:
            raise InvalidError("input: there is no such file", code="unknown_file", field="input") from None
        most = self._settings.batch_bytes
        if info.size_bytes > most:
            message = f"input: the file has {info.size_bytes} bytes of at most {most}"
            raise LimitError(message, status=413, code="file_too_large", field="input")


def _after(now: datetime, seconds: float) -> datetime:
    try:
        return now + timedelta(seconds=seconds)
    except OverflowError:
        raise InvalidError("deadline_s: the time is out of range", field="deadline_s") from None
