"""What Cog servers say of a prediction, in both generations of their protocol. Pure.

Source: recorded from Cog 0.16.12 and 0.23.1, running. The older one names the input and its times too.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from switchyard.events.errors import InvalidError, RejectedError
from switchyard.events.outcome import MAX_NAME_CHARS, MAX_NAMES, MESSAGE_CHARS, progress_of
from switchyard.events.values import JobError
from switchyard.events.vocabulary.ids import Fence, JobId
from switchyard.services.access.ticket_claims import OutcomeClaims
from switchyard.services.dispatch.push.outputs import Outputs
from switchyard.services.dispatch.push.report import (
    BY_SERVER,
    FAILURE,
    SHOWN_CHARS,
    Done,
    Failed,
    Heard,
    Report,
    Running,
    Stopped,
    body_of,
)

ANSWER_INVALID: Final = "answer_invalid"
WITHOUT_LINES: Final = "cog.without-lines"
"""What the tickets of predictions say whose pusher hears the lines itself."""
_RUNNING: Final = frozenset({"starting", "processing"})
_FAILED: Final = frozenset({"failed", "aborted"})
_PERCENT: Final = re.compile(r"(?<![\d.])(\d{1,3})%\|")
"""How tqdm shows how far it is."""
_TAIL_CHARS: Final = 400

Bytes = Annotated[int, Meta(ge=0, le=256 * 1024 * 1024)]


class CogOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the owner of a Cog server may choose.

    Args:
        mode: `async` is answered 202 and calls back; `sync` is answered with the whole prediction; `stream`
            with events while it runs, which the model has to be marked for.
        logs: whether log lines are asked for while a prediction runs, and not only at its end.
        input_bytes: the most that input files of one job may have, which are sent within the request.
        fetch_outputs: whether outputs that are URLs are fetched and become artifacts, or stay URLs.
    """

    mode: Literal["async", "sync", "stream"] = "async"
    logs: bool = True
    input_bytes: Bytes = 16 * 1024 * 1024
    fetch_outputs: bool = True


def health_url(predict: str) -> str | None:
    """What is asked whether a server is well whose predictions are taken under this URL."""
    base, _, last = predict.partition("?")[0].rstrip("/").rpartition("/")
    return f"{base}/health-check" if last == "predictions" else None


def prediction_id(job: JobId, fence: Fence) -> str:
    """What a server knows an attempt as; no other attempt of any job ever has it."""
    return f"{job}-{fence}"


def called_back(raw: bytes, claims: OutcomeClaims) -> Heard:
    """What a webhook says.

    A body that cannot be kept is the server's word of the attempt all the same, which fails of it: it would
    never come in another form.

    Raises:
        InvalidError: it is about another prediction, or has no status that is known.
    """
    try:
        body = body_of(raw)
    except RejectedError as error:
        message = f"it called back with what is no JSON object that can be kept: {error.message}"
        return Heard(Failed(JobError(ANSWER_INVALID, message[:MESSAGE_CHARS])))
    wanted = prediction_id(claims.job, claims.fence)
    if body.get("id") != wanted:
        said = str(body.get("id"))[:SHOWN_CHARS]
        raise InvalidError(f"id: expected that of the prediction, not {said!r}", field="id")
    found = report_of(body, claims.job, claims.fence)
    if found is None:
        said = str(body.get("status"))[:SHOWN_CHARS]
        raise InvalidError(f"status: expected that of a prediction, not {said!r}", field="status")
    if claims.profile == WITHOUT_LINES:
        return Heard(found, wanted)
    return Heard(found, wanted, lines_of(body, ended=not isinstance(found, Running)))


def report_of(body: dict[str, Any], job: JobId, fence: Fence) -> Report | None:
    """What a prediction object says; None where it is none."""
    status = body.get("status")
    if not isinstance(status, str):
        return None
    if status in _RUNNING:
        return Running(progress_in(body.get("logs")))
    if status == "canceled":
        return Stopped()
    if status in _FAILED:
        error = body.get("error")
        message = error if isinstance(error, str) and error else BY_SERVER
        return Failed(JobError(FAILURE, message[:MESSAGE_CHARS]))
    return _done(body, job, fence) if status == "succeeded" else None


def _done(body: dict[str, Any], job: JobId, fence: Fence) -> Done:
    metrics = body.get("metrics")
    metrics = metrics if isinstance(metrics, dict) else {}
    outputs = Outputs(job, fence)
    result = {"output": outputs.without_files(body.get("output"), ("output",)), "metrics": metrics}
    return Done(result, tuple(outputs.files), usage_of(metrics), tuple(outputs.links))


def usage_of(metrics: dict[str, Any]) -> dict[str, float]:
    """The metrics that are amounts; the others stand in the result alone."""
    found = {
        name: value
        for name, value in metrics.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        and 0 < len(name) <= MAX_NAME_CHARS
    }  # fmt: skip
    return dict(list(found.items())[:MAX_NAMES])


def lines_of(body: dict[str, Any], *, ended: bool) -> tuple[str, ...]:
    """All lines that a prediction has printed; the last one once it is whole."""
    logs = body.get("logs")
    if not isinstance(logs, str) or not logs:
        return ()
    lines = logs.split("\n")
    last = lines.pop()
    return (*lines, last) if ended and last else tuple(lines)


def progress_in(logs: Any) -> dict[str, Any] | None:
    """How far the last bar of tqdm is; None where there is none."""
    if not isinstance(logs, str):
        return None
    found = _PERCENT.findall(logs[-_TAIL_CHARS:])
    return progress_of(int(found[-1]) / 100, "", "", None) if found else None
