"""Why a command was not carried out.

SwitchyardError
├── RejectedError         the caller's doing; a 4xx, never retried
│   ├── InvalidError      422  a field breaks a rule
│   │   └── UnwritableError    an event that its readers could not read
│   ├── NotFoundError     404  no such thing for this tenant
│   ├── ConflictError     409  the job is in a state that does not allow it
│   ├── ForbiddenError    403  the caller's role does not allow it
│   ├── PreconditionFailedError  412  a condition of the request does not hold
│   └── LimitError        402, 413, 422 or 429  a limit named in the settings
├── VersionConflictError  somebody wrote first; load and decide again
├── UnavailableError      the broker or a part of it does not answer; back off and try again
│   ├── NewerVersionError      a newer version of the program wrote the job's log
│   └── StorageFullError  507  there is no room for a file
└── UnknownEventError     a schedule that this version cannot read
"""

from __future__ import annotations


class SwitchyardError(Exception):
    """The root of the tree drawn above."""


class RejectedError(SwitchyardError):
    """A command that cannot be carried out as it was given.

    Args:
        message: what was expected, what came, and where.
        code: a stable word for programs.
        field: the dotted path of the field at fault, if one is.
    """

    status = 400
    code = "rejected"

    def __init__(self, message: str, *, code: str | None = None, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.field = field


class InvalidError(RejectedError):
    """A field breaks a rule."""

    status = 422
    code = "invalid"


class UnwritableError(InvalidError):
    """An event that its readers could not read, and that was therefore not written."""

    code = "unwritable"


class NotFoundError(RejectedError):
    """There is no such thing for this tenant."""

    status = 404
    code = "not_found"


class ForbiddenError(RejectedError):
    """The caller's role does not allow it."""

    status = 403
    code = "forbidden"


class PreconditionFailedError(RejectedError):
    """A condition of the request does not hold."""

    status = 412
    code = "precondition_failed"


class ConflictError(RejectedError):
    """The job's state does not allow it.

    Args:
        message: which state the job is in and what was asked.
        allowed: the actions of the API that its state allows, where that is what is wrong.
    """

    status = 409
    code = "conflict"

    def __init__(
        self, message: str, *, code: str | None = None, allowed: tuple[str, ...] | None = None
    ) -> None:
        super().__init__(message, code=code)
        self.allowed = allowed


class LimitError(RejectedError):
    """A limit named in the settings was reached.

    Args:
        message: the limit and how far it was passed.
        status: 402, 413, 422 or 429.
        retry_after_s: seconds after which another try makes sense, if any does.
    """

    code = "limit"

    def __init__(
        self,
        message: str,
        *,
        status: int = 429,
        code: str | None = None,
        field: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, code=code, field=field)
        self.status = status
        self.retry_after_s = retry_after_s


class VersionConflictError(SwitchyardError):
    """The job's last event is not the one that the writer knew.

    Args:
        last_seq: the sequence of the job's last event as the broker reported it, or None.
    """

    def __init__(self, last_seq: int | None = None) -> None:
        super().__init__(f"the job's last event is now {last_seq}")
        self.last_seq = last_seq


class UnavailableError(SwitchyardError):
    """The broker does not answer, or refuses for want of room.

    Args:
        message: what did not answer.
        retry_after_s: seconds after which another try makes sense.
    """

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class NewerVersionError(UnavailableError):
    """A newer version of the program wrote the job's log; nothing may be decided before this one is upgraded.

    Args:
        message: which job, and what could not be read.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message, retry_after_s=60.0)


class StorageFullError(UnavailableError):
    """There is no room for a file, in their stream or on the broker's disk."""


class UnknownEventError(SwitchyardError):
    """A stored record is of a form that this program cannot read; a newer one wrote it."""
