"""The routes of the door for Replicate's clients."""

from __future__ import annotations

from typing import Any, Final

from switchyard.services.access.principal import Role
from switchyard.services.gateway.doors.compat.replicate import (
    answers,
    files,
    forms,
    models,
    predictions,
    stream,
)
from switchyard.services.gateway.doors.compat.replicate.views import BASE
from switchyard.services.gateway.http.routes import Handler, Lasts, Media, Parameter, Route, plain

_READ: Final = (Role.VIEWER,)
_SUBMIT: Final = (Role.SUBMITTER,)
_NO_SUCH: Final = ((404, "not_found"),)
_CURSOR: Final = (Parameter("cursor"),)
_MADE: Final = (
    (403, "kind_not_allowed"), (404, "not_found"), (409, "idempotency_conflict"), (409, "conflict"),
    (413, "payload_too_large"), (422, "too_many_lanes"), (422, "too_many_priorities"), (429, "key_spent"),
    (402, "budget_spent"), (429, "quota_spent"), (429, "too_many_erasures"),
    (429, "limit"), (429, "too_many_jobs"), (429, "too_many_job_bytes"), (429, "too_many_waits"),
    (507, "storage_full"),
)  # fmt: skip


def _made(path: str, handler: Handler, summary: str, body: Any) -> Route:
    return Route(
        method="POST", path=BASE + path, handler=handler, summary=summary, roles=_SUBMIT, body=body,
        lenient=True, headers=("Idempotency-Key", forms.PREFER, forms.CANCEL_AFTER),
        answers={201: answers.Prediction, 200: answers.Prediction},
        answer_headers=("Location", predictions.APPLIED), errors=_MADE, waits=forms.asked_s,
    )  # fmt: skip


def _read(path: str, handler: Handler, summary: str, answer: Any, *, is_list: bool = False) -> Route:
    return Route(
        method="GET", path=BASE + path, handler=handler, summary=summary, roles=_READ, lenient=True,
        answers={200: answer}, query=_CURSOR if is_list else (), errors=() if is_list else _NO_SUCH,
    )  # fmt: skip


ROUTES: Final = (
    _made("/predictions", predictions.by_version, "Make a prediction", forms.VersionForm),
    _made(
        "/models/{owner}/{name}/predictions", predictions.by_model, "Make a prediction of a model",
        forms.ModelForm,
    ),
    _made(
        "/deployments/{owner}/{name}/predictions", predictions.by_model,
        "Make a prediction of a deployment", forms.ModelForm,
    ),
    _read("/predictions", predictions.listed, "List predictions", answers.Predictions, is_list=True),
    _read("/predictions/{id}", predictions.read, "Read a prediction", answers.Prediction),
    Route(
        method="POST", path=BASE + "/predictions/{id}/cancel", handler=predictions.cancel,
        summary="Cancel a prediction", roles=_SUBMIT, lenient=True, answers={200: answers.Prediction},
        errors=(*_NO_SUCH, (409, "illegal_transition"), (409, "conflict"), (409, "damaged")),
    ),
    Route(
        method="GET", path=BASE + "/predictions/{id}/stream", handler=plain(stream.stream),
        summary="Follow a prediction as server-sent events", headers=(stream.LAST,), lenient=True,
        answers={200: Media("text/event-stream")}, errors=_NO_SUCH, lasts=Lasts.CONNECTION,
    ),
    Route(
        method="POST", path=BASE + "/files", handler=files.create, summary="Store a file", roles=_SUBMIT,
        body=Media("multipart/form-data"), lenient=True, headers=("Idempotency-Key", "Switchyard-TTL"),
        answers={201: answers.File, 200: answers.File},
        errors=(
            (400, "body_broken_off"), (408, "upload_stalled"), (408, "upload_timeout"),
            (409, "idempotency_conflict"), (413, "file_too_large"), (413, "quota_exceeded"),
            (422, "digest_mismatch"), (429, "too_many_transfers"), (507, "storage_full"),
        ),
        lasts=Lasts.BODY, expects=True,
    ),
    _read("/files", files.listed, "List files", answers.Files, is_list=True),
    _read("/files/{id}", files.read, "Show a file", answers.File),
    Route(
        method="DELETE", path=BASE + "/files/{id}", handler=files.delete, summary="Remove a file",
        roles=_SUBMIT, lenient=True, answers={204: None}, errors=(*_NO_SUCH, (409, "not_erasable")),
        lasts=Lasts.BODY,
    ),
    _read("/models/{owner}/{name}", models.model, "Show a kind as a model", answers.Model),
    _read(
        "/models/{owner}/{name}/versions", models.versions, "List the one version of a model",
        answers.Versions,
    ),
    _read(
        "/models/{owner}/{name}/versions/{id}", models.version, "Show a version of a model", answers.Version,
    ),
    _read("/deployments/{owner}/{name}", models.deployment, "Show a deployment", answers.Deployment),
    _read("/account", models.account, "Show the tenant as an account", answers.Account),
)  # fmt: skip
