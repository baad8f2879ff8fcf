"""How a handler says that an attempt did not succeed.

HandlerError
├── Retry      the attempt failed; another may succeed
├── Fatal      no attempt can succeed
└── Release    not now: the job goes back to its lane, and nothing is counted

Any other exception is a failure with the code `internal`, and another attempt follows.
"""

from __future__ import annotations

from events.errors import SwitchyardError


class HandlerError(Exception):
    """The root of the tree drawn above.

    Args:
        message: for people.
        code: for programs; a stable word of up to 100 characters.
    """

    def __init__(self, message: str, *, code: str = "handler_failed") -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class Retry(HandlerError):  # noqa: N818 - it says what is to be done
    """Another attempt may succeed."""


class Fatal(HandlerError):  # noqa: N818 - as above
    """No attempt can succeed; the job is dead at once."""


class Release(HandlerError):  # noqa: N818 - as above
    """The job cannot be worked on here and now; it goes back to its lane and nothing is counted."""


class Cancelled(BaseException):
    """The attempt is to stop: a plain handler's next call of its context raises it.

    As asyncio's, it is none of those that `except Exception` holds up.
    """


class HandlersError(SwitchyardError):
    """Handlers cannot be used: what is wrong, and where."""
