"""The routes of the door for Mistral's clients."""

from __future__ import annotations

from typing import Any, Final

from switchyard.services.access.principal import Role
from switchyard.services.gateway.doors.compat import completions
from switchyard.services.gateway.doors.compat.mistral import answers, batches, chat, files, ocr
from switchyard.services.gateway.http.routes import Handler, Lasts, Media, OneOf, Parameter, Route
from switchyard.services.intake.ocr.request import OcrForm

BASE: Final = "/mistral/v1"
SIGNED: Final = BASE + "/files/{id}/signed"
"""Where a file can be had by an address that is signed, without a key."""
_READ: Final = (Role.VIEWER,)
_SUBMIT: Final = (Role.SUBMITTER,)
_NO_SUCH: Final = ((404, "not_found"),)
_INVALID: Final = ((400, "invalid"),)
_PAGED: Final = (Parameter("page", "integer"), Parameter("page_size", "integer"))
_WAIT: Final = (Parameter("wait", "seconds"),)
_KEY: Final = ("Idempotency-Key",)
_STORED: Final = ((413, "file_too_large"), (413, "quota_exceeded"), (507, "storage_full"))
_MADE: Final = (
    *_INVALID, (400, "nested_too_deeply"), (400, "too_many_lanes"), (400, "too_many_priorities"),
    (402, "budget_spent"), (403, "kind_not_allowed"), (404, "not_found"), (409, "idempotency_conflict"),
    (409, "conflict"), (409, "no_result"), (413, "payload_too_large"), (429, "key_spent"),
    (429, "quota_spent"), (429, "limit"), (429, "too_many_jobs"), (429, "too_many_job_bytes"),
    (429, "too_many_waits"), (429, "too_many_transfers"), (408, "timeout"), (507, "storage_full"),
)  # fmt: skip


def _read(path: str, handler: Handler, summary: str, answer: Any, **more: Any) -> Route:
    return Route(
        method="GET", path=BASE + path, handler=handler, summary=summary, roles=_READ, lenient=True,
        answers={200: answer}, errors=(*_INVALID, *_NO_SUCH), **more,
    )  # fmt: skip


ROUTES: Final = (
    Route(
        method="POST", path=BASE + "/files", handler=files.create, summary="Store a file", roles=_SUBMIT,
        body=Media("multipart/form-data"), lenient=True, headers=_KEY, answers={200: answers.File},
        errors=(
            *_INVALID, *_STORED, (400, "body_broken_off"), (408, "upload_stalled"), (408, "upload_timeout"),
            (409, "idempotency_conflict"), (400, "digest_mismatch"), (429, "too_many_transfers"),
        ),
        lasts=Lasts.BODY, expects=True,
    ),
    _read(
        "/files", files.listed, "List files", answers.Files,
        query=(
            *_PAGED, Parameter("include_total", "boolean"), Parameter("sample_type", repeated=True),
            Parameter("source", repeated=True), Parameter("search"), Parameter("purpose"),
            Parameter("mimetypes", repeated=True),
        ),
    ),
    _read("/files/{id}", files.read, "Show a file", answers.File),
    Route(
        method="GET", path=BASE + "/files/{id}/content", handler=files.content, summary="Download a file",
        roles=_READ, lenient=True, answers={200: Media("*/*")}, answer_headers=("Content-Disposition",),
        errors=(*_NO_SUCH, (429, "too_many_transfers")), lasts=Lasts.BODY,
    ),
    _read(
        "/files/{id}/url", files.address, "Sign an address of a file", answers.Address,
        query=(Parameter("expiry", "integer"),),
    ),
    Route(
        method="GET", path=SIGNED, handler=files.signed, summary="Download a file by its address",
        lenient=True, query=(Parameter("ticket"),), answers={200: Media("*/*")},
        answer_headers=("Content-Disposition",),
        errors=(
            *_NO_SUCH, (403, "address_invalid"), (403, "address_expired"), (429, "too_many_transfers"),
        ),
        lasts=Lasts.BODY,
    ),
    Route(
        method="DELETE", path=BASE + "/files/{id}", handler=files.delete, summary="Remove a file",
        roles=_SUBMIT, lenient=True, answers={200: answers.Deleted}, errors=_NO_SUCH, lasts=Lasts.BODY,
    ),
    Route(
        method="POST", path=BASE + "/ocr", handler=ocr.read, summary="Read a document", roles=_SUBMIT,
        body=OcrForm, reads=True, lenient=True, headers=_KEY, answers={200: answers.Ocr},
        errors=(*_MADE, *_STORED, (400, "unknown_file"), (400, "address_refused")), query=_WAIT,
        waits=completions.asked_s,
    ),
    Route(
        method="POST", path=BASE + "/batch/jobs", handler=batches.create, summary="Make a batch job",
        roles=_SUBMIT, body=batches.BatchForm, lenient=True, headers=_KEY, answers={200: answers.Batch},
        errors=(
            *_INVALID, *_STORED, (400, "nested_too_deeply"), (400, "unknown_file"),
            (400, "too_many_batches"), (409, "idempotency_conflict"), (413, "too_large"),
        ),
    ),
    _read(
        "/batch/jobs", batches.listed, "List batch jobs", answers.Batches,
        query=(
            *_PAGED, Parameter("model"), Parameter("created_after", "time"),
            Parameter("status", repeated=True), Parameter("order_by"),
        ),
    ),
    _read(
        "/batch/jobs/{id}", batches.read, "Read a batch job", answers.Batch,
        query=(Parameter("inline", "boolean"),),
    ),
    Route(
        method="POST", path=BASE + "/batch/jobs/{id}/cancel", handler=batches.cancel,
        summary="Cancel a batch job", roles=_SUBMIT, lenient=True, answers={200: answers.Batch},
        errors=_NO_SUCH,
    ),
    Route(
        method="DELETE", path=BASE + "/batch/jobs/{id}", handler=batches.delete,
        summary="Forget a batch job that has ended", roles=_SUBMIT, lenient=True,
        answers={200: answers.Deleted}, errors=(*_NO_SUCH, (409, "illegal_transition")),
    ),
    Route(
        method="POST", path=BASE + "/chat/completions", handler=chat.chat, summary="Complete a chat",
        roles=_SUBMIT, body=completions.ChatForm, lenient=True, headers=_KEY,
        answers={200: OneOf((answers.Completion,))}, errors=_MADE, query=_WAIT, waits=completions.asked_s,
    ),
    Route(
        method="POST", path=BASE + "/embeddings", handler=chat.embeddings, summary="Embed texts",
        roles=_SUBMIT, body=completions.EmbeddingsForm, lenient=True, headers=_KEY,
        answers={200: answers.Embeddings}, errors=_MADE, query=_WAIT, waits=completions.asked_s,
    ),
    _read("/models", chat.models, "List models", answers.Models),
    _read("/models/{id}", chat.model, "Show a model", answers.Model),
)  # fmt: skip
