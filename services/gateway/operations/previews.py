"""Previews: what an attempt over REST shows, and the last of a job."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from nats.aio.client import Client

from switchyard._worker.previews import TOO_FAST, TOO_LARGE, UNREADABLE, UNSENT, Pace
from switchyard.events import subjects
from switchyard.events.encoding.preview import (
    PREVIEW_BYTES,
    PREVIEWS,
    PREVIEWS_S,
    Preview,
    is_shown,
)
from switchyard.events.errors import InvalidError, LimitError, NotFoundError, UnavailableError
from switchyard.events.job import Job
from switchyard.services.access.ticket_claims import LeaseClaims
from switchyard.services.broker.connection import on_reconnect
from switchyard.services.dispatch.previews import Stamp, last_preview, packed, restored, unpacked
from switchyard.services.gateway.operations.leases import Leases
from switchyard.services.settings import Settings

log = structlog.get_logger()

RETRY_S: Final = 1.0
PACES: Final = 10_000
SENT: Final = "sent"
WAIT_S: Final = PREVIEWS_S / PREVIEWS


class JobPreviews:
    """Takes and shows previews.

    Args:
        nc: an open connection.
        leases: knows who holds one.
        settings: how long the broker may take.
        count: called with what became of each.
    """

    def __init__(self, nc: Client, leases: Leases, settings: Settings, count: Callable[[str], None]) -> None:
        self._nc = nc
        self._leases = leases
        self._settings = settings
        self._count = count
        self._paces: OrderedDict[str, Pace] = OrderedDict()

    async def run(self) -> None:
        """Make the stream again whenever the broker comes back without it, until cancelled.

        It is looked at once at the start: the broker may have come back while no gateway ran.
        """
        again = asyncio.Event()
        again.set()
        on_reconnect(self._nc, again.set)
        while True:
            await again.wait()
            again.clear()
            try:
                await restored(self._nc, self._settings)
            except UnavailableError as error:
                log.debug("previews_waiting", error=str(error))
                again.set()
                await asyncio.sleep(RETRY_S)

    async def show(
        self, claims: LeaseClaims, media_type: str, read: Callable[[int], Awaitable[bytes]]
    ) -> Job:
        """Show a preview of an attempt; the job.

        Args:
            claims: the lease.
            media_type: one of those that may be shown.
            read: the image; at most one byte more than it is given.

        Raises:
            LimitError: they come too fast, before anything is read, or it is too large.
            InvalidError: it is no such image.
            StaleLeaseError: the lease is gone.
            UnavailableError: the broker does not answer.
        """
        if not self._pace(claims.id).take():
            self._count(TOO_FAST)
            raise LimitError(
                f"a lease may show {PREVIEWS} previews within {PREVIEWS_S:g} s", code="previews_too_fast",
                retry_after_s=WAIT_S,
            )  # fmt: skip
        await self._leases.running(claims, "show a preview of")
        data = await read(PREVIEW_BYTES)
        if len(data) > PREVIEW_BYTES:
            self._count(TOO_LARGE)
            raise LimitError(
                f"a preview has at most {PREVIEW_BYTES} bytes", status=413, code="preview_too_large"
            )
        preview = Preview(data, media_type)
        if not is_shown(preview):
            self._count(UNREADABLE)
            raise InvalidError(
                f"body: expected a {media_type} that can be shown", code="invalid_preview", field="body"
            )
        # The body may have taken its time: nothing is shown of an attempt that has ended since.
        try:
            job = await self._leases.running(claims, "show a preview of")
            stamp = {"fence": claims.fence, "attempt": job.attempt, "tenant": job.tenant, "kind": job.kind}
            await self._nc.publish(subjects.preview(job.id), packed(preview, stamp))
        except BaseException:
            self._count(UNSENT)
            raise
        self._count(SENT)
        return job

    async def last(self, job: Job) -> tuple[Stamp, Preview]:
        """The last preview of the running attempt of a job.

        Raises:
            NotFoundError: there is none: it runs no attempt, or that has shown nothing for a minute.
            UnavailableError: the broker does not answer.
        """
        none = NotFoundError(f"there is no preview of job {job.id}", code="no_preview")
        if job.lease is None:
            raise none
        body = await last_preview(self._nc, job.id, self._settings)
        if body is None:
            raise none
        try:
            stamp, preview = unpacked(body)
        except ValueError:
            raise none from None
        if stamp.fence != job.lease.fence:
            raise none
        return stamp, preview

    def _pace(self, lease: str) -> Pace:
        pace = self._paces.get(lease)
        if pace is None:
            pace = self._paces[lease] = Pace(PREVIEWS, PREVIEWS_S)
            if len(self._paces) > PACES:
                self._paces.popitem(last=False)
        else:
            self._paces.move_to_end(lease)
        return pace
