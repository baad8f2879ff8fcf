"""Why a call of the client did not do what it was asked for.

ClientError
├── ConfigurationError        no URL or no token is known
├── InvalidValueError         a value cannot be sent as JSON; `field` names it (a ValueError too)
├── UnreachableError          the gateway does not answer, after all tries
├── NotEndedError             the job has not ended in the time given (a TimeoutError too)
├── ForkedError               a stream that was begun in the process that this one was forked from
├── JobFailedError            the job ended without a result
├── JobDamagedError           the job's log cannot be read, and it does not end by itself
├── BrokenTransferError       a download does not have the bytes that were stored
└── ApiError                  the gateway refuses; `status`, `code`, `detail` and `field` say why
    ├── AuthenticationError   401  no token, or not one that counts
    ├── ForbiddenError        403  a role is missing
    ├── NotFoundError         404
    ├── ConflictError         409  the state does not allow it
    ├── GoneError             410  the job was archived without its result
    ├── InvalidError          422  `field` breaks a rule
    ├── LimitError            402, 408, 413 and 429  a limit was reached
    └── ServerError           5xx
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from switchyard.events.errors import SwitchyardError

if TYPE_CHECKING:
    from switchyard.models import Job


class ClientError(SwitchyardError):
    """The root of the tree drawn above."""


class ConfigurationError(ClientError):
    """Neither an argument, nor the environment, nor the data directory names a gateway and a token."""


class ForkedError(ClientError):
    """A stream cannot continue in a forked process: its connection is the parent's."""


class InvalidValueError(ClientError, ValueError):
    """A value cannot be sent as JSON: a number not finite or beyond 64 bits, too deep, or no JSON at all.

    Args:
        message: the field and the rule that it breaks.
        field: the value's name, such as `payload.x`.
    """

    def __init__(self, message: str, *, field: str) -> None:
        super().__init__(message)
        self.field = field


class UnreachableError(ClientError):
    """The gateway does not answer."""


class NotEndedError(ClientError, TimeoutError):
    """The job has not ended in the time given; it continues."""


class BrokenTransferError(ClientError):
    """What was downloaded is not what was stored."""


class JobFailedError(ClientError):
    """A job ended without a result.

    Args:
        job: as it ended; `job.state`, `job.error` and `job.reason` say why.
    """

    def __init__(self, job: Job) -> None:
        error = job.error
        why = f": {error.code}: {error.message}" if error else ""
        super().__init__(f"job {job.id} has no result, it is {job.archived_as or job.state}{why}")
        self.job = job


class JobDamagedError(ClientError):
    """A message of the job's log cannot be read: nothing more happens to it before it is repaired.

    Args:
        job: as it is; `job.damage` says why.
    """

    def __init__(self, job: Job) -> None:
        damage = job.damage
        where = f": event {damage.event!r} at sequence {damage.seq}: {damage.reason}" if damage else ""
        newer = damage is not None and damage.newer_version
        advice = "; a newer version of Switchyard wrote it" if newer else "; it can be repaired or discarded"
        super().__init__(f"job {job.id} is damaged{where}{advice}")
        self.job = job


class ApiError(ClientError):
    """The gateway's refusal.

    Args:
        status: of HTTP.
        problem: the problem document; `docs/api.md` lists the codes.
        retry_after_s: seconds after which another try makes sense, if the gateway says so.
    """

    def __init__(self, status: int, problem: dict[str, Any], *, retry_after_s: float | None = None) -> None:
        self.status = status
        self.problem = problem
        self.retry_after_s = retry_after_s
        self.code = str(problem.get("code", "http_error"))
        self.detail = str(problem.get("detail") or problem.get("title") or f"the gateway answered {status}")
        self.field: str | None = problem.get("field")
        named = self.field is None or re.search(
            rf"(?<![\w.]){re.escape(str(self.field))}(?![\w])", self.detail
        )
        super().__init__(self.detail if named else f"{self.field}: {self.detail}")


class AuthenticationError(ApiError):
    """There is no token, or not one that counts."""


class ForbiddenError(ApiError):
    """The token's roles do not allow it."""


class NotFoundError(ApiError):
    """There is no such thing for the token's tenant."""


class ConflictError(ApiError):
    """The state of the thing does not allow it."""


class GoneError(ApiError):
    """The job was archived without its result."""


class InvalidError(ApiError):
    """A field breaks a rule."""


class LimitError(ApiError):
    """A limit was reached."""


class ServerError(ApiError):
    """The gateway cannot do it now, or has a fault."""


_BY_STATUS: Final[dict[int, type[ApiError]]] = {
    401: AuthenticationError, 403: ForbiddenError, 404: NotFoundError, 409: ConflictError, 410: GoneError,
    422: InvalidError, 402: LimitError, 408: LimitError, 413: LimitError, 429: LimitError,
}  # fmt: skip


def api_error(status: int, problem: dict[str, Any], *, retry_after_s: float | None = None) -> ApiError:
    """The exception that an answer's status stands for."""
    kind = ServerError if status >= 500 else _BY_STATUS.get(status, ApiError)
    return kind(status, problem, retry_after_s=retry_after_s)
