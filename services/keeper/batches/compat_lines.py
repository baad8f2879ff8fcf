"""The outputs' lines of batches that clients of other services have made."""

from __future__ import annotations

import contextlib
from typing import Any, Final

import msgspec

from switchyard.events.errors import NotFoundError
from switchyard.events.job import Job
from switchyard.events.outcome import Reference
from switchyard.events.values import RESULT_ARTIFACT
from switchyard.services.files import Files
from switchyard.services.intake.batches.forms import MISTRAL, OPENAI
from switchyard.services.intake.ocr.answer import Answer, NoAnswerError
from switchyard.services.intake.ocr.request import Shown

MOST_BYTES: Final = 16 * 1024 * 1024
"""The largest result that a line holds."""
NOT_DONE: Final = {"cancelled": "batch_cancelled", "expired": "batch_expired"}
"""The codes of lines that a batch has not come to, as clients know them."""
INVALID: Final = {OPENAI: 400, MISTRAL: 422}
"""By form, the status of a line at fault."""
_ENCODE: Final = msgspec.json.Encoder().encode


class GoneError(Exception):
    """There is a result, and no line can hold it.

    Args:
        code: a word for programs.
        message: a sentence for people.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def result_line(custom_id: str | None, job: Job, body: Any) -> bytes:
    """A line with a result.

    Args:
        custom_id: that of the line.
        job: its job.
        body: the result, or its JSON as it is stored.
    """
    response = {"status_code": 200, "request_id": job.id, "body": body}
    return _ENCODE({"id": job.id, "custom_id": custom_id, "response": response, "error": None})


def error_line(
    form: str, line_id: str, custom_id: str | None, code: str, message: str, field: str | None, *, ran: bool
) -> bytes:
    """A line without a result.

    Args:
        form: that of the batch.
        line_id: the id of its job, also where none was made.
        custom_id: that of the line.
        code: why.
        message: the same, for people.
        field: the part of the line at fault.
        ran: whether there was a job.
    """
    if code in NOT_DONE:
        error = {"code": NOT_DONE[code], "message": message}
        return _ENCODE({"id": line_id, "custom_id": custom_id, "response": None, "error": error})
    param = field
    if param is not None and param.partition(".")[0] == "payload":
        param = "body" + param.removeprefix("payload")
        message = "body" + message.removeprefix("payload") if message.startswith("payload") else message
    said = {
        "message": message, "type": "server_error" if ran else "invalid_request_error", "param": param,
        "code": code,
    }  # fmt: skip
    body = {"object": "error", **said} if form == MISTRAL else {"error": said}
    status = 500 if ran else INVALID[form]
    response = {"status_code": status, "request_id": line_id, "body": body}
    return _ENCODE({"id": line_id, "custom_id": custom_id, "response": response, "error": None})


async def body_of(files: Files, job: Job, shown: Shown | None) -> Any:
    """The result of a job, also where it lies in a file.

    Args:
        files: where it may lie.
        job: whose.
        shown: what of a conversion is answered; None where the result is the answer.

    Raises:
        GoneError: the file is gone, or too large for a line.
        UnavailableError: the broker does not answer.
    """
    if shown is not None:
        return msgspec.Raw(await _ocr(files, job, shown))
    if job.result is not None:
        return job.result
    for named in job.artifacts:
        try:
            one = msgspec.convert(named, Reference)
        except msgspec.ValidationError:  # somebody else has written what is none
            continue
        if one.name == RESULT_ARTIFACT:
            return msgspec.Raw(await _read(files, job.tenant, one.file))
    return None


async def _ocr(files: Files, job: Job, shown: Shown) -> bytes:
    """A conversion as OCR answers it."""
    body = bytearray()
    try:
        answer = await Answer.of(files, job, shown)
        async with contextlib.aclosing(answer.blocks()) as blocks:
            async for block in blocks:
                body += block
                if len(body) > MOST_BYTES:
                    message = f"the answer has more than {MOST_BYTES} bytes: the job {job.id} has its parts"
                    raise GoneError("result_too_large", message)
    except NoAnswerError as error:
        raise GoneError(error.code, error.message) from error
    except NotFoundError as error:
        raise GoneError("result_gone", f"the result is gone: {error}") from error
    return bytes(body)


async def _read(files: Files, tenant: str, file_id: str) -> bytes:
    try:
        info = await files.info(tenant, file_id)
        if info.size_bytes > MOST_BYTES:
            message = f"the result has {info.size_bytes} bytes of at most {MOST_BYTES}: it is file {file_id}"
            raise GoneError("result_too_large", message)
        body = bytearray()
        async with contextlib.aclosing(files.read(info)) as blocks:
            async for block in blocks:
                body += block
    except NotFoundError as error:
        raise GoneError("result_gone", f"the result is gone: {error}") from error
    return bytes(body)
