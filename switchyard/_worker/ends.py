"""How an attempt that has failed is reported to the gateway."""

from __future__ import annotations

import logging
from typing import Any

from switchyard._worker.handler_errors import HandlerError, Release, failure
from switchyard._worker.traceback import formatted
from switchyard.errors import ApiError, UnreachableError
from switchyard.events.outcome import failure_of, trace_of
from switchyard.events.values import JobError

log = logging.getLogger("switchyard.worker")


def failed(job_id: str, error: Exception) -> tuple[str, dict[str, Any]]:
    """The call that reports a handler's exception."""
    match error:
        case Release():
            return "release", {}
        case HandlerError():
            return "fail", error_of(failure(error), traceback=formatted(error))
        case UnreachableError():
            return "release", {}  # a file could not be read or stored: that is not the job's failure
        case ApiError():
            retryable = error.status >= 500 or error.status == 429
            return "fail", error_of(failure_of(error.code, error, retryable=retryable))
        case _:
            log.error("the handler of job %s failed\n%s", job_id, trace_of(error))
            return "fail", error_of(failure(error), traceback=formatted(error))


def error_of(error: JobError, *, traceback: str = "") -> dict[str, Any]:
    """The body of the call that reports an error."""
    described = {"code": error.code, "message": error.message, "retryable": error.retryable}
    return {"error": {**described, "traceback": traceback} if traceback else described}
