"""The plan of a batch: its file once it was checked, a line of JSON for each line with something in it.

A line that can be no submission stands there with the reason. So whoever works on the plan, and whoever does
so after a crash, finds the same lines in the same places, whatever becomes of the file.
"""

from __future__ import annotations

import json
from typing import Any, Final, NamedTuple

import msgspec
import orjson

from switchyard.events.errors import InvalidError, RejectedError
from switchyard.events.numbers import Time
from switchyard.services.ids import id_for_key
from switchyard.services.intake.batches.forms import submission_of
from switchyard.services.intake.bodies import decoded
from switchyard.services.intake.faults import from_msgspec
from switchyard.services.intake.ocr.request import Inline, Shown
from switchyard.services.intake.request import JobRequest
from switchyard.services.records.batches.record import LABEL_BATCH, LABEL_LINE, Batch, Refusal

CUSTOM_ID: Final = "custom_id"
CUSTOM_ID_CHARS: Final = 512
SHOWN_CHARS: Final = 64
MESSAGE_CHARS: Final = 1000
PLAN_LINE_BYTES: Final = 8 * 1024
"""What a line of the plan may have beside the line that it is of."""
_FIELDS: Final = msgspec.json.Decoder(dict[str, Any])


class Planned(
    msgspec.Struct, frozen=True, omit_defaults=True, rename={"request": "r", "refusal": "e", "shown": "s"}
):
    """A line of the plan.

    Args:
        n: its number in the file.
        c: its custom id, if it has one.
        request: what it says of a job.
        refusal: why it can be none.
        shown: what of a conversion is answered, where its batch has another service's form.
    """

    n: int
    c: str | None = None
    request: msgspec.Raw = msgspec.Raw()
    refusal: Refusal | None = None
    shown: Shown | None = None


class Coming(NamedTuple):
    """A document that came within a line, to be stored before its job is made.

    Args:
        file_id: under which id.
        document: what.
    """

    file_id: str
    document: Inline


_ENCODER: Final = msgspec.json.Encoder()
_PLANNED: Final = msgspec.json.Decoder(Planned)


class Planner:
    """Makes the plan of one batch, line by line and in order.

    Args:
        batch: whose defaults count.
    """

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._seen: dict[str, int] = {}
        self.coming: Coming | None = None
        """The document of the line that was planned last, if it has one."""

    def plan(self, number: int, text: bytes | None, most_bytes: int) -> Planned:
        """What stands in the plan for a line.

        Args:
            number: that of the line.
            text: the line; None for one that is too long.
            most_bytes: what a line may have.
        """
        self.coming = None
        if text is None:
            message = f"the line is longer than {most_bytes} bytes"
            return Planned(number, refusal=Refusal(number, "line_too_large", message))
        custom_id: str | None = None
        shown: Shown | None = None
        try:
            fields = decoded(text, _FIELDS)
        except RejectedError as error:
            custom_id = _custom_id_in(text)
            if custom_id is not None:
                self._seen.setdefault(custom_id, number)
            return Planned(number, custom_id, refusal=refusal_of(number, error))
        try:
            custom_id = _custom_id_of(fields)
            self._check_new(number, custom_id)
            compat = self._batch.compat
            if compat is not None:
                fields, inline, shown = submission_of(compat, fields)
                if inline is not None:
                    self.coming = Coming(document_id(self._batch, number), inline)
                    fields["payload"]["file"] = self.coming.file_id
            request_of(self._batch, fields)
        except RejectedError as error:
            self.coming = None
            return Planned(number, custom_id, refusal=refusal_of(number, error))
        request = text.strip() if compat is None else _ENCODER.encode(fields)
        return Planned(number, custom_id, msgspec.Raw(request), shown=shown)

    def _check_new(self, number: int, custom_id: str | None) -> None:
        if custom_id is None:
            return
        first = self._seen.setdefault(custom_id, number)
        if first != number:
            message = f"{CUSTOM_ID}: line {first} has {custom_id[:SHOWN_CHARS]!r} too"
            raise InvalidError(message, code="duplicate_custom_id", field=CUSTOM_ID)


def document_id(batch: Batch, line: int) -> str:
    """The id of the document that came within a line: the same, whoever plans the line."""
    return id_for_key(batch.tenant, f"batch document\0{batch.id}\0{line}")


def _custom_id_of(fields: dict[str, Any]) -> str | None:
    found = fields.get(CUSTOM_ID)
    if found is not None and (not isinstance(found, str) or not 0 < len(found) <= CUSTOM_ID_CHARS):
        message = f"{CUSTOM_ID}: a text of 1 to {CUSTOM_ID_CHARS} characters was expected"
        raise InvalidError(message, field=CUSTOM_ID)
    return found


def _custom_id_in(text: bytes) -> str | None:
    """The custom id of a line with something else that no job may have, such as a number of 400 digits."""
    try:
        found = _custom_id_of(json.loads(text))
    except (ValueError, TypeError, AttributeError, RecursionError, RejectedError):
        return None
    return found if found is None or _is_whole(found) else None


def _is_whole(text: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in text)


def encode(planned: Planned) -> bytes:
    """A line of the plan as it is stored."""
    return _ENCODER.encode(planned) + b"\n"


def decode(line: bytes) -> Planned:
    """A line of the plan.

    Raises:
        msgspec.MsgspecError: it is none.
    """
    return _PLANNED.decode(line)


def request_of(batch: Batch, fields: dict[str, Any], line: int = 0) -> JobRequest:
    """The submission that a line stands for.

    Args:
        batch: whose defaults count, whose labels the job has, and before whose deadline it ends.
        fields: what the line says.
        line: its number; 0 where it is only to be judged.

    Raises:
        InvalidError: a field breaks a rule.
    """
    said = {name: value for name, value in fields.items() if name != CUSTOM_ID}
    merged = {**batch.defaults, **said}
    labels = _labels(batch.defaults.get("labels"), said.get("labels"))
    merged["labels"] = {**labels, LABEL_BATCH: batch.id, LABEL_LINE: str(line)}
    try:
        request = msgspec.convert(merged, JobRequest)
    except msgspec.ValidationError as error:
        raise from_msgspec(error) from None
    if not request.kind and request.workflow is None:
        raise InvalidError("kind: missing, but required", field="kind")
    if request.deadline_s is not None:
        return request
    return msgspec.structs.replace(request, deadline_at=_earlier(request.deadline_at, batch.deadline_at))


def _labels(*groups: Any) -> dict[str, Any]:
    labels: dict[str, Any] = {}
    for group in groups:
        if group is None:
            continue
        if not isinstance(group, dict):
            raise InvalidError("labels: an object was expected", field="labels")
        labels.update(group)
    for name in (LABEL_BATCH, LABEL_LINE):
        if name in labels:
            raise InvalidError(f"labels.{name}: the batch sets this label", field=f"labels.{name}")
    return labels


def _earlier(own: Time | None, of_batch: Time) -> Time:
    return of_batch if own is None else min(own, of_batch)


def refusal_of(line: int, error: RejectedError) -> Refusal:
    """Why no job was made of a line, of an error."""
    return Refusal(line, error.code, error.message[:MESSAGE_CHARS], (error.field or "")[:MESSAGE_CHARS])


def fields_of(planned: Planned) -> dict[str, Any]:
    """What a line of the plan says of a job."""
    found: dict[str, Any] = orjson.loads(bytes(planned.request))
    return found
