"""What a submission says of other jobs: which it waits for, and whose results its payload refers to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import pydantic

from switchyard.events.errors import InvalidError
from switchyard.events.references import MARK, Place, dotted, excuses, find
from switchyard.events.subjects import JOB_ID
from switchyard.events.vocabulary.ids import JobId
from switchyard.services.concurrency import each
from switchyard.services.event_store import EventStore
from switchyard.services.intake.faults import from_details
from switchyard.services.settings import Settings

AT_ONCE: Final = 16
SHOWN_CHARS: Final = 64


def distinct(depends_on: Sequence[JobId], settings: Settings) -> tuple[JobId, ...]:
    """The jobs that are waited for, each once.

    Raises:
        InvalidError: they are too many.
    """
    ids = tuple(dict.fromkeys(depends_on))
    limit = settings.dependencies
    if len(ids) > limit:
        raise InvalidError(f"depends_on: {len(ids)} jobs, of at most {limit}", field="depends_on")
    return ids


async def check_known(store: EventStore, tenant: str, depends_on: Sequence[JobId]) -> None:
    """Make sure that the jobs are there and the tenant's own.

    Raises:
        InvalidError: code `unknown_dependency`, naming the first that is not.
        UnavailableError: the broker does not answer.
    """
    ids = list(dict.fromkeys(depends_on))

    async def known(job_id: JobId) -> bool:
        if JOB_ID.fullmatch(job_id) is None:
            return False
        # A replica that lags may not know of a job whose submission was answered just now.
        last = await store.last(job_id) or await store.last_of_leader(job_id)
        return last is not None and await store.owner(last) == tenant

    for job_id, is_known in zip(ids, await each(known, ids, at_once=AT_ONCE), strict=True):
        if not is_known:
            field = f"depends_on[{depends_on.index(job_id)}]"
            shown = job_id[:SHOWN_CHARS]
            raise InvalidError(f"{field}: there is no job {shown!r}", code="unknown_dependency", field=field)


def references_in(
    payload: dict[str, Any], encoded: bytes, depends_on: Sequence[JobId], settings: Settings
) -> Sequence[Place]:
    """Where the payload refers to results.

    Args:
        payload: as it was submitted.
        encoded: the same as JSON.
        depends_on: the jobs that may be referred to.
        settings: limits.

    Raises:
        InvalidError: a reference has not the form of one or names another job, or they are too many.
    """
    if MARK not in encoded:
        return ()
    places: list[Place] = []
    for place, reference in find(payload):
        if reference.job not in depends_on:
            field = dotted((*place, "$result", "job"))
            raise InvalidError(f"{field}: not one of the jobs in depends_on", field=field)
        if len(places) == settings.references:
            field = dotted(place)
            raise InvalidError(f"{field}: one reference more than the {len(places)} allowed", field=field)
        places.append(place)
    return places


def check_model(model: type[pydantic.BaseModel], payload: dict[str, Any], places: Sequence[Place]) -> None:
    """Validate a payload as far as its references allow; the connector validates it again with their values.

    Raises:
        InvalidError: a field breaks a rule.
    """
    try:
        model.model_validate(payload)
    except pydantic.ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        faults = [fault for fault in faults if not excuses(places, payload, fault["loc"])]
        if faults:
            raise from_details(faults, within="payload") from None
