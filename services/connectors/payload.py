"""The payload of an attempt, as its connector's model reads it."""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeVar

import pydantic

from switchyard.services.connectors.protocol import FatalError

Model = TypeVar("Model", bound=pydantic.BaseModel)


IS_FILE: Final = "switchyard-file"
FileId = Annotated[str, pydantic.Field(min_length=1, max_length=255, json_schema_extra={"format": IS_FILE})]
"""A field that names an input file; the gateway refuses a job whose file is not there."""


class Payload(pydantic.BaseModel):
    """What all payload models share: unknown fields are errors and nothing is converted silently."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def parse(model: type[Model], payload: dict[str, Any]) -> Model:
    """The payload as `model`.

    Raises:
        FatalError: code `invalid_payload`, naming the field and the rule.
    """
    try:
        return model.model_validate(payload)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "payload"
        raise FatalError("invalid_payload", f"{field}: {first['msg']}") from error


def file_fields(model: type[pydantic.BaseModel]) -> tuple[str, ...]:
    """The fields of a payload model that are of type `FileId`."""
    return tuple(
        name
        for name, field in model.model_fields.items()
        if isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("format") == IS_FILE
    )
