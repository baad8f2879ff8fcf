"""What callers say of a batch."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from switchyard.events.errors import InvalidError
from switchyard.events.subjects import NAME_PATTERN
from switchyard.services.intake.faults import from_msgspec
from switchyard.services.intake.labels import check_labels
from switchyard.services.intake.request import JobRequest
from switchyard.services.records.batches.record import LABEL_BATCH, LABEL_LINE
from switchyard.services.records.kinds import Priority, WaitSeconds
from switchyard.services.settings import Settings

DEFAULTS_BYTES = 64 * 1024
NOT_FOR_ALL = ("deadline_at", "deadline_s")

Name = Annotated[str, Meta(max_length=200)]


class BatchRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body that makes a batch.

    Args:
        input: the id of a stored file with a submission a line.
        name: for people.
        kind: that of every line which does not say its own.
        priority: likewise.
        job: other fields of a submission for every line that does not say them.
        window: most of its jobs that have not ended, at once.
        deadline_s: seconds that it may take.
    """

    input: Annotated[str, Meta(min_length=1, max_length=200)]
    name: Name = ""
    kind: Annotated[str, Meta(pattern=NAME_PATTERN)] | None = None
    priority: Priority | None = None
    job: dict[str, Any] = {}
    window: Annotated[int, Meta(ge=1)] | None = None
    deadline_s: WaitSeconds | None = None


def defaults_of(asked: BatchRequest, settings: Settings) -> dict[str, Any]:
    """The fields of a submission that lines need not say.

    Raises:
        InvalidError: one breaks a rule.
    """
    defaults = dict(asked.job)
    for name in NOT_FOR_ALL:
        if name in defaults:
            raise InvalidError(f"job.{name}: the batch has a deadline_s of its own", field=f"job.{name}")
    for name, value in (("kind", asked.kind), ("priority", asked.priority)):
        if value is not None:
            if name in defaults:
                raise InvalidError(f"job.{name}: not together with {name}", field=f"job.{name}")
            defaults[name] = value
    if len(msgspec.json.encode(defaults)) > DEFAULTS_BYTES:
        raise InvalidError(f"job: at most {DEFAULTS_BYTES} bytes as JSON were expected", field="job")
    try:
        request = msgspec.convert(defaults, JobRequest)
    except msgspec.ValidationError as error:
        raise from_msgspec(error, within="job") from None
    for label in (LABEL_BATCH, LABEL_LINE):
        if label in request.labels:
            field = f"job.labels.{label}"
            raise InvalidError(f"{field}: the batch sets this label", field=field)
    check_labels(request.labels, settings)
    return defaults
