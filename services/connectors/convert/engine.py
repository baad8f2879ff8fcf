"""The converter as a child process calls it: what it refuses, in the words of connectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from switchyard.services.connectors import protocol
from switchyard.services.documents import convert as documents
from switchyard.services.documents import errors


def convert(arguments: dict[str, Any], report: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """As `switchyard.services.documents.convert.convert`.

    Raises:
        FatalError: the document cannot be converted.
        RetryableError: another attempt may succeed.
    """
    try:
        return documents.convert(arguments, report)
    except errors.DocumentError as error:
        fatal = isinstance(error, errors.FatalError)
        kind = protocol.FatalError if fatal else protocol.RetryableError
        raised = kind(error.code, error.message).with_traceback(error.__traceback__)
        raised.__suppress_context__ = True
        raise raised from error.__cause__
