"""The lines of batches that clients of other services make, as submissions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from switchyard.events.errors import InvalidError
from switchyard.services.intake.ocr import request as ocr
from switchyard.services.records.batches.record import Compat

OPENAI: Final = "openai"
MISTRAL: Final = "mistral"
LABEL: Final = "compat"
"""The label that says by which door a job came."""
OCR: Final = "/v1/ocr"
DEFAULT_KINDS: Final = {"/v1/chat/completions": "chat", "/v1/embeddings": "embeddings", OCR: ocr.KIND}
"""Endpoints that there are, and the kind that serves each where the settings name none."""
ENDPOINTS: Final = {OPENAI: ("/v1/chat/completions", "/v1/embeddings"), MISTRAL: tuple(DEFAULT_KINDS)}
"""By form, those that a batch may have."""
MODEL_CHARS: Final = 200
SHOWN_CHARS: Final = 80
STREAMS: Final = ("stream", "stream_options")


class Meant(NamedTuple):
    """What a line stands for.

    Args:
        fields: those of a submission; the payload lacks `file` where the document came with the line.
        inline: that document.
        shown: what of a conversion is answered; None where the result is the answer.
    """

    fields: dict[str, Any]
    inline: ocr.Inline | None = None
    shown: ocr.Shown | None = None


def kind_for(kinds: Mapping[str, str], model: str, endpoint: str) -> str:
    """The kind that serves a model at an endpoint.

    Args:
        kinds: those that the settings name, by model and by endpoint.
        model: as the client names it.
        endpoint: one of `DEFAULT_KINDS`.
    """
    return kinds.get(model) or kinds.get(endpoint) or DEFAULT_KINDS[endpoint]


def submission_of(compat: Compat, fields: Mapping[str, Any]) -> Meant:
    """The submission that a line stands for.

    Args:
        compat: the form of the batch.
        fields: what the line says: `custom_id`, `body`, and to OpenAI `method` and `url`.

    Raises:
        InvalidError: one of them breaks a rule; it names the field.
    """
    is_openai = compat.form == OPENAI
    for name in ("custom_id", "body") if is_openai else ("body",):
        if fields.get(name) is None:
            raise InvalidError(f"{name}: missing, but required", field=name)
    for name, wanted in (("method", "POST"), ("url", compat.endpoint)) if is_openai else ():
        found = fields.get(name)
        if found != wanted:
            shown = repr(found)[:SHOWN_CHARS]
            raise InvalidError(f"{name}: {wanted!r} was expected, not {shown}", field=name)
    body = fields["body"]
    if not isinstance(body, dict):
        raise InvalidError("body: an object was expected", field="body")
    if compat.model and body.get("model") is None:
        body = {**body, "model": compat.model}
    labels = {LABEL: compat.form}
    if compat.endpoint == OCR:
        asked = ocr.from_fields(body, within="body")
        kind = kind_for(compat.kinds, asked.shown.model, OCR)
        meant = {"kind": kind, "payload": asked.payload(asked.file), "labels": labels}
        return Meant(meant, asked.inline, asked.shown)
    model = body.get("model")
    if not isinstance(model, str) or not 0 < len(model) <= MODEL_CHARS:
        message = f"body.model: a text of 1 to {MODEL_CHARS} characters was expected"
        raise InvalidError(message, field="body.model")
    if body.get("stream"):
        raise InvalidError("body.stream: the answers of a batch do not come as streams", field="body.stream")
    payload = {name: value for name, value in body.items() if name not in STREAMS}
    return Meant(
        {"kind": kind_for(compat.kinds, model, compat.endpoint), "payload": payload, "labels": labels}
    )
