"""The routes of batches."""

from __future__ import annotations

from typing import Final

from switchyard.services.access.principal import Role
from switchyard.services.gateway.doors.ilios.batches import handlers
from switchyard.services.gateway.doors.ilios.batches.answers import BatchStatus, SubmittedBatch
from switchyard.services.gateway.http.routes import Lasts, Media, OneOf, Parameter, Route

BATCH: Final = "/v1/batch"
_SUBMIT: Final = (Role.SUBMITTER,)
_READ: Final = (Role.VIEWER,)
_REFUSED: Final = ((400, "invalid"), (404, "not_found"))
_LINES: Final = Media("application/x-ndjson")

ROUTES: Final[tuple[Route, ...]] = (
    Route(
        method="POST", path=BATCH + "/submit", handler=handlers.submit,
        summary="Send documents that are converted later", roles=_SUBMIT,
        body=Media("multipart/form-data"), lenient=True, answers={202: SubmittedBatch},
        errors=(
            *_REFUSED, (400, "body_broken_off"), (400, "no_file"), (400, "empty_file"), (400, "too_many"),
            (400, "too_large"), (400, "file_too_large"), (400, "malformed"), (408, "upload_stalled"),
            (408, "upload_timeout"), (413, "file_too_large"), (413, "quota_exceeded"),
            (429, "too_many_transfers"), (507, "storage_full"), (400, "too_many_batches"),
            (403, "kind_not_allowed"),
        ),
        lasts=Lasts.BODY, expects=True,
    ),
    Route(
        method="GET", path=BATCH + "/status/{id}", handler=handlers.status,
        summary="Read where a batch stands", roles=_READ, lenient=True, query=(Parameter("details"),),
        answers={200: BatchStatus}, errors=_REFUSED,
    ),
    Route(
        method="POST", path=BATCH + "/cancel/{id}", handler=handlers.cancel, summary="Cancel a batch",
        roles=_SUBMIT, lenient=True, answers={200: BatchStatus}, errors=_REFUSED,
    ),
    Route(
        method="GET", path=BATCH + "/download/{id}", handler=handlers.download,
        summary="Read the texts of a batch", roles=_READ, lenient=True, query=(Parameter("format"),),
        answers={200: OneOf((_LINES, Media("application/zip")))},
        answer_headers=("Content-Disposition",), errors=(*_REFUSED, (400, "not_ready")),
        lasts=Lasts.BODY,
    ),
)  # fmt: skip
