"""How a handler says that an attempt did not succeed.

HandlerError
├── Retry      the attempt failed; another may succeed
├── Fatal      no attempt can succeed
└── Release    not now: the job goes back to its lane, and nothing is counted

Any other exception is a failure with the code `internal`, and another attempt follows; what would
end a program, such as an exit, is one with the code `stopped`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any, Final

from switchyard.events.encoding.json_written import type_name
from switchyard.events.errors import InvalidError, SwitchyardError
from switchyard.events.outcome import ERROR_BYTES, exception_text, failure_of, text_of
from switchyard.events.values import JobError

STOPPED: Final = "stopped"


class HandlerError(Exception):
    """The root of the tree drawn above.

    Args:
        message: for people.
        code: for programs; a stable word: 1 to 100 of A-Z a-z 0-9 _ . : -.
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


BASES: Final = (Retry, Fatal, Release, HandlerError, Cancelled, Exception, BaseException)
TRACEBACK: Final[Any] = BaseException.__dict__["__traceback__"]
KNOWN: Final = frozenset({*BASES, StopIteration, StopAsyncIteration, asyncio.CancelledError})


def plain(error: BaseException) -> BaseException:
    """The exception; where its class raises one when it is looked at, another that says the same."""
    if type(error) in KNOWN:  # nearly always
        return error
    try:
        isinstance(error, _Nothing)  # asks it for its class
        seen = error.__cause__, error.__context__, error.__suppress_context__, error.__traceback__
        getattr(error, "traceback", seen)
    except BaseException:  # noqa: BLE001 - a class of the user's own may do anything here
        base = next(base for base in BASES if issubclass(type(error), base))
        stand_in: BaseException = type(type_name(error), (base,), {})(text_of(error, ERROR_BYTES))
        stand_in.__context__, stand_in.__suppress_context__ = error, True  # found when all is forgotten
        return stand_in.with_traceback(TRACEBACK.__get__(error))
    return error


class _Nothing:
    """What no exception is."""


def as_failure(error: BaseException) -> Exception:
    """The exception, or for one that would end the whole program the failure that it is for the attempt."""
    if isinstance(error, Exception):
        return error
    kind = Fatal if isinstance(error, Cancelled) else Retry
    return kind(f"the handler stopped by itself: {exception_text(error)}", code=STOPPED)


def failure(error: BaseException) -> JobError:
    """What the log keeps of a handler's exception; one whose code is none counts as `invalid_error`."""
    if not isinstance(error, HandlerError):
        return JobError("internal", exception_text(error))
    code, message = _part(error, "code"), _part(error, "message")
    text = "" if message is None else text_of(message, ERROR_BYTES)
    return failure_of(code, text or type_name(error), retryable=not isinstance(error, Fatal))


def _part(error: HandlerError, name: str) -> Any:
    try:
        return getattr(error, name, None)
    except BaseException:  # noqa: BLE001 - a class of the user's own may do anything here
        return None


@contextlib.contextmanager
def contained() -> Iterator[None]:
    """What would end a program is a failure of the attempt."""
    try:
        yield
    except Exception:
        raise
    except BaseException as error:
        raise as_failure(error) from error


@contextlib.contextmanager
def named() -> Iterator[None]:
    """A value that is refused by name is the handler's fault, and no other attempt helps."""
    try:
        yield
    except InvalidError as error:
        raise Fatal(error.message, code=error.code) from None


class HandlersError(SwitchyardError):
    """Handlers cannot be used: what is wrong, and where."""


class StuckError(SwitchyardError):
    """A handler did not stop when it was asked to, and still runs: only the end of its process ends it."""
