"""The routes of the document door."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from switchyard.services.access.principal import Role
from switchyard.services.gateway.doors.ilios import answers, convert, usage
from switchyard.services.gateway.doors.ilios.batches.routes import BATCH
from switchyard.services.gateway.doors.ilios.batches.routes import ROUTES as OF_BATCHES
from switchyard.services.gateway.doors.ilios.documents import handlers, signed
from switchyard.services.gateway.http.identity import TICKET
from switchyard.services.gateway.http.routes import Handler, Lasts, Media, OneOf, Parameter, Route

CONVERT: Final = "/v1/convert"
DOCUMENTS: Final = "/api/documents"
USAGE: Final = "/api/usage"
SIGNED: Final = DOCUMENTS + "/{id}/file"
"""Where files come and go by addresses that are signed, without a key."""
FORM: Final = Media("multipart/form-data")
TEXT: Final = Media("text/plain; charset=utf-8")
ANY: Final = Media("*/*")
_READ: Final = (Role.VIEWER,)
_SUBMIT: Final = (Role.SUBMITTER,)
_REFUSED: Final = ((400, "invalid"), (400, "rejected"), (404, "not_found"))
_MADE: Final = (
    (403, "kind_not_allowed"), (409, "conflict"), (429, "key_spent"), (402, "budget_spent"),
    (429, "quota_spent"), (429, "too_many_erasures"), (429, "limit"),
    (429, "too_many_jobs"), (429, "too_many_job_bytes"),
    (507, "storage_full"), (429, "too_many_lanes"),
)  # fmt: skip
_SENT: Final = (
    (400, "body_broken_off"), (400, "no_file"), (400, "empty_file"), (400, "too_many"), (400, "too_large"),
    (400, "file_too_large"), (400, "malformed"), (408, "upload_stalled"), (408, "upload_timeout"),
    (413, "file_too_large"), (413, "quota_exceeded"), (429, "too_many_transfers"), (507, "storage_full"),
)  # fmt: skip
_LEFT: Final = ((400, "not_ready"), (410, "gone"), (500, "internal"))


def _sent(path: str, handler: Handler, summary: str, answer: Any, **more: Any) -> Route:
    """A route that takes a file in a form."""
    errors = (*_SENT, *_MADE, *more.pop("errors", ()))
    return Route(
        method="POST", path=path, handler=handler, summary=summary, roles=_SUBMIT, body=FORM, lenient=True,
        answers=answer, errors=errors, lasts=Lasts.BODY, expects=True, **more,
    )  # fmt: skip


def _route(
    method: str,
    path: str,
    handler: Handler,
    summary: str,
    answer: Any,
    errors: Sequence[tuple[int, str]] = (),
    **more: Any,
) -> Route:
    roles = _READ if method == "GET" else _SUBMIT
    return Route(
        method=method, path=path, handler=handler, summary=summary, roles=roles, lenient=True,
        answers=answer, errors=(*_REFUSED, *errors), **more,
    )  # fmt: skip


ROUTES: Final[tuple[Route, ...]] = (
    _sent(
        CONVERT, convert.convert, "Convert a document and wait for its text",
        {200: OneOf((TEXT, answers.Converted)), 202: answers.Waiting},
        answer_headers=(convert.H_TIME, convert.H_PAGES, convert.H_ID, convert.H_STORED, "Location"),
        errors=((410, "gone"), (500, "conversion_failed")),
    ),
    _route(
        "POST", DOCUMENTS + "/upload-url", handlers.upload_url, "Ask where a document is to be put",
        {200: answers.UploadAddress}, (*_SENT, *_MADE), body=handlers.UploadForm,
    ),
    _route(
        "POST", DOCUMENTS + "/upload-complete/{id}", handlers.upload_complete,
        "Say that a document was put there", {200: answers.Confirmed},
        (*_SENT, *_MADE, (400, "not_uploaded")), lasts=Lasts.BODY,
    ),
    _sent(
        DOCUMENTS + "/submit", handlers.submit, "Send a document that is converted later",
        {200: answers.Taken},
    ),
    _route(
        "GET", DOCUMENTS + "/status/{id}", handlers.status, "Read where a document stands",
        {200: answers.DocumentStatus},
    ),
    _route(
        "GET", DOCUMENTS + "/{id}", handlers.read, "Read the text of a document",
        {200: OneOf((TEXT, answers.DocumentAnswer))}, _LEFT, query=(Parameter("format"),), lasts=Lasts.BODY,
    ),
    _route(
        "GET", DOCUMENTS + "/{id}/original", handlers.original, "Go to the bytes of a document", {302: None},
        _LEFT, answer_headers=("Location",),
    ),
    Route(
        method="PUT", path=SIGNED, handler=signed.put, summary="Put the bytes of a document", body=ANY,
        query=(Parameter(TICKET),), lenient=True, answers={200: ANY}, answer_headers=("ETag",),
        errors=(*_REFUSED, *_SENT, (403, "address_invalid"), (403, "address_expired"), (409, "confirmed")),
        lasts=Lasts.BODY, expects=True,
    ),
    Route(
        method="GET", path=SIGNED, handler=signed.get, summary="Get the bytes of a document",
        query=(Parameter(TICKET),), lenient=True, answers={200: ANY, 206: ANY, 304: None},
        headers=(
            "Range", "If-Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since",
        ),
        answer_headers=("ETag", "Accept-Ranges", "Content-Range", "Content-Disposition"),
        errors=(
            *_REFUSED, (403, "address_invalid"), (403, "address_expired"), (412, "precondition_failed"),
            (416, "range_not_satisfiable"), (429, "too_many_transfers"),
        ),
        lasts=Lasts.BODY,
    ),
    _route(
        "GET", USAGE + "/summary", usage.summary, "Read what was used", {200: answers.Summary},
        ((422, "too_much_usage"),), query=(Parameter("startDate", "time"), Parameter("endDate", "time")),
    ),
    _route(
        "GET", USAGE + "/breakdown", usage.breakdown, "Read what was used, by operation",
        {200: answers.Breakdown}, ((422, "too_much_usage"),),
    ),
    *OF_BATCHES,
)  # fmt: skip

__all__ = ["BATCH", "CONVERT", "DOCUMENTS", "ROUTES", "SIGNED", "USAGE"]
