"""What a connector raises, for processes that need nothing else of `switchyard.connectors`."""

from __future__ import annotations

from typing import Final

from switchyard._worker.traceback import formatted

_SHOWN: Final = "switchyard.connectors"  # where people import them from, and tracebacks name them


class ConnectorError(Exception):
    """A failure with a stable `code` for programs and a message for people."""

    __module__ = _SHOWN
    traceback: str = ""
    """Where it came about, if that was in another process."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class RetryableError(ConnectorError):
    """Another attempt may succeed."""

    __module__ = _SHOWN


class BackendLostError(RetryableError):
    """The back end is gone, or does not know the work that was left to it; nobody is blamed."""

    __module__ = _SHOWN


class FatalError(ConnectorError):
    """No attempt can succeed; the job is dead at once."""

    __module__ = _SHOWN


class BusyError(ConnectorError):
    """The back end cannot take the work now; the job goes back to its lane and nothing is counted."""

    __module__ = _SHOWN


def traceback_of(error: BaseException) -> str:
    """Where an attempt failed; nothing for what a connector of ours says on purpose, which is no mistake."""
    if isinstance(error, ConnectorError):
        return formatted(error, always=False) if error.traceback or error.__cause__ is not None else ""
    return formatted(error)
