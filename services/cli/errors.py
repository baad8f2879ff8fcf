"""What commands exit with, and how errors are reported."""

from __future__ import annotations

import sys
from typing import Final, NoReturn

from switchyard import errors as client
from switchyard.events.errors import (
    ForbiddenError,
    NotFoundError,
    RejectedError,
    SwitchyardError,
    UnavailableError,
)
from switchyard.services.cli.output import say
from switchyard.services.distribution import IncompleteError
from switchyard.services.run.connection_file import AlreadyRunningError

EXIT_CODES: Final = {
    0: "done",
    1: "the job ended as dead, cancelled or expired, or is damaged; a check failed; the streams differ; "
    "or another error",
    2: "the command or a setting was not understood, or what it needs is not installed",
    3: "the gateway or the broker cannot be reached, or is not ready",
    4: "not allowed: no token, a bad one, or a role that is missing",
    5: "there is no such thing",
    6: "refused: a rule or a limit was broken, or the state does not allow it",
    7: "not ended within the time given",
    130: "interrupted with Ctrl-C",
}


def exit_code(error: BaseException) -> int:
    """What the command exits with."""
    match error:
        case ForbiddenError() | client.AuthenticationError() | client.ForbiddenError():
            return 4
        case NotFoundError() | client.NotFoundError():
            return 5
        case RejectedError() | AlreadyRunningError():
            return 6
        case UnavailableError() | ConnectionError() | client.ServerError() | client.UnreachableError():
            return 3
        case client.ApiError():
            return 6
        case client.ConfigurationError() | client.InvalidValueError() | IncompleteError():
            return 2
        case client.JobFailedError() | client.JobDamagedError():
            return 1
        case TimeoutError():
            return 7
        case _:
            return next((FOREIGN[name] for name in _names(error) if name in FOREIGN), 1)


FOREIGN: Final = {
    "aiohttp.client_exceptions.ClientError": 3,
    "pydantic_core._pydantic_core.ValidationError": 2,
    "switchyard._worker.handler_errors.HandlersError": 2,
    "switchyard.services.broker.server.files.BrokerError": 1,
    "switchyard.services.broker.topology_spec.TopologyError": 1,
    "switchyard.services.connectors.sections.ConnectorsError": 2,
    "switchyard.services.settings.errors.SettingsError": 2,
}
"""Errors of what takes long to import, by name: it need not be imported to say that it did not fail."""


def is_known(error: BaseException) -> bool:
    """Whether an error is one that a person can do something about; all others are bugs."""
    if isinstance(error, SwitchyardError | IncompleteError | OSError | TimeoutError):
        return True
    return any(name in FOREIGN for name in _names(error)) or is_full(error)


def is_full(error: BaseException) -> bool:
    """Whether a disk has no room for the read model; other errors of SQLite are bugs."""
    sqlite3 = sys.modules.get("sqlite3")
    if sqlite3 is None or not isinstance(error, sqlite3.OperationalError):
        return False
    return bool(error.sqlite_errorcode == sqlite3.SQLITE_FULL)


def _names(error: BaseException) -> list[str]:
    return [f"{sort.__module__}.{sort.__qualname__}" for sort in type(error).__mro__]


def report(error: BaseException) -> NoReturn:
    """Say a known error in one sentence, and exit."""
    if "pydantic_core._pydantic_core.ValidationError" in _names(error):
        first = error.errors()[0]  # type: ignore[attr-defined] # known by its name
        message = f"setting {'.'.join(map(str, first['loc']))}: {first['msg']}"
    elif is_full(error):
        message = "the disk of the data directory is full: free some space and start again"
    else:
        message = str(error) or type(error).__name__
    say(f"switchyard: {message}", err=True, lines=True)
    sys.exit(exit_code(error))
