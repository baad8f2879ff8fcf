"""What commands exit with, and how errors are reported."""

from __future__ import annotations

import sqlite3
import sys
from typing import Any, Final, NoReturn

import aiohttp
import pydantic

from switchyard.errors import InvalidValueError
from switchyard.events.errors import (
    ForbiddenError,
    NotFoundError,
    RejectedError,
    SwitchyardError,
    UnavailableError,
)
from switchyard.handlers import HandlersError
from switchyard.services.broker.server.files import BrokerError
from switchyard.services.broker.topology_spec import TopologyError
from switchyard.services.cli.output import say
from switchyard.services.connectors.sections import ConnectorsError
from switchyard.services.distribution import IncompleteError
from switchyard.services.environment import UnknownSettingError
from switchyard.services.run.connection_file import AlreadyRunningError

EXIT_CODES: Final = {
    0: "done",
    1: "the job ended as dead, cancelled or expired, or is damaged; a check failed; the streams differ; "
    "or another error",
    2: "the command was not understood, or what it needs is not installed",
    3: "the gateway or the broker cannot be reached, or is not ready",
    4: "not allowed: no token, a bad one, or a role that is missing",
    5: "there is no such thing",
    6: "refused: a rule or a limit was broken, or the state does not allow it",
    7: "not ended within the time given",
    130: "interrupted with Ctrl-C",
}


class ApiError(SwitchyardError):
    """The gateway's refusal: a problem document.

    Args:
        status: HTTP status.
        problem: the document.
    """

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        field = problem.get("field")
        detail = problem.get("detail") or problem.get("title") or f"the gateway answered {status}"
        is_named = not field or str(detail).startswith(f"{field}:")
        super().__init__(str(detail) if is_named else f"{field}: {detail}")
        self.status = status
        self.problem = problem


def exit_code(error: BaseException) -> int:
    """What the command exits with."""
    match error:
        case ApiError(status=401 | 403) | ForbiddenError():
            return 4
        case ApiError(status=404) | NotFoundError():
            return 5
        case ApiError(status=status) if status >= 500:
            return 3
        case ApiError() | RejectedError() | AlreadyRunningError():
            return 6
        case UnavailableError() | aiohttp.ClientError() | ConnectionError():
            return 3
        case TimeoutError():
            return 7
        case pydantic.ValidationError() | UnknownSettingError() | HandlersError() | InvalidValueError():
            return 2
        case IncompleteError() | ConnectorsError():
            return 2
        case _:
            return 1


KNOWN: Final = (
    SwitchyardError,
    IncompleteError,
    BrokerError,
    TopologyError,
    aiohttp.ClientError,
    OSError,
    TimeoutError,
    pydantic.ValidationError,
)


def is_full(error: BaseException) -> bool:
    """Whether a disk has no room for the read model; other errors of SQLite are bugs."""
    return isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode == sqlite3.SQLITE_FULL


def report(error: BaseException) -> NoReturn:
    """Say a known error in one sentence, and exit."""
    if isinstance(error, pydantic.ValidationError):
        first = error.errors()[0]
        message = f"setting {'.'.join(map(str, first['loc']))}: {first['msg']}"
    elif is_full(error):
        message = "the disk of the data directory is full: free some space and start again"
    else:
        message = str(error) or type(error).__name__
    say(f"switchyard: {message}", err=True, lines=True)
    sys.exit(exit_code(error))
