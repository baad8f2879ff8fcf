"""The converter as a child process calls it: what it refuses, in the words of connectors."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from switchyard._worker.given.errors import FatalError, RetryableError
from switchyard.services.documents import convert as documents
from switchyard.services.documents import errors


def convert(arguments: dict[str, Any], report: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """As `switchyard.services.documents.convert.convert`.

    Raises:
        FatalError: the document cannot be converted.
        RetryableError: another attempt may succeed.
    """
    with refusals():
        return documents.convert(arguments, report)


def read_part(arguments: dict[str, Any], report: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """As `switchyard.services.documents.pdf.parts.convert.read_part`; raises as `convert`."""
    from switchyard.services.documents.pdf.parts import convert as parts  # noqa: PLC0415 - of PDFs alone

    with refusals():
        return parts.read_part(arguments, report)


def join(arguments: dict[str, Any], report: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """As `switchyard.services.documents.pdf.parts.convert.join`; raises as `convert`."""
    from switchyard.services.documents.pdf.parts import convert as parts  # noqa: PLC0415

    with refusals():
        return parts.join(arguments, report)


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """What is wrong with a document is raised as connectors say it."""
    try:
        yield
    except errors.DocumentError as error:
        fatal = isinstance(error, errors.FatalError)
        kind = FatalError if fatal else RetryableError
        raised = kind(error.code, error.message).with_traceback(error.__traceback__)
        raised.__suppress_context__ = True
        raise raised from error.__cause__
