"""Entries of attempts that have ended, or are elsewhere: taken away by whoever meets them."""

from __future__ import annotations

from typing import Final

import structlog

from switchyard.events.errors import SwitchyardError, UnavailableError
from switchyard.events.job import Job
from switchyard.services.dispatch.backends.index import Index, Noted
from switchyard.services.event_store import EventStore

log = structlog.get_logger()

SWEPT_AT_ONCE: Final = 500


async def current(index: Index, store: EventStore, noted: Noted) -> Job | None:
    """The job of an entry, as it is now; None where nothing will come of the entry, which is taken away.

    Raises:
        UnavailableError: the broker does not answer.
    """
    last = await store.last_of_leader(noted.claims.job)
    job = None if last is None else await store.load(noted.claims.job, at_least=last.seq)
    if job is not None and not noted.is_stale(job):
        return job
    await index.drop(noted)
    return None


async def sweep(index: Index, store: EventStore, start: int) -> tuple[int, int]:
    """Look at some hundred entries: how many were taken away, and the revision from which to go on.

    Raises:
        UnavailableError: the broker does not answer.
    """
    dropped = seen = 0
    async for noted in index.since(start, SWEPT_AT_ONCE):
        if seen == SWEPT_AT_ONCE:
            return dropped, noted.revision
        seen += 1
        try:
            dropped += await current(index, store, noted) is None
        except UnavailableError:
            raise
        except SwitchyardError as error:
            log.warning("backend_entry_left", job=noted.claims.job, error=str(error))
    return dropped, 1
