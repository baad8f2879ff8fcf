"""Structured logs: constant event names, values as fields, to standard error.

As JSON each line also says which part of which process and version it is of. Lines about a job have it as
`job`, and those of an attempt its `fence` and, where it has one, its `trace`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from contextvars import ContextVar
from typing import Any, Final, TextIO, cast

import structlog
from structlog.contextvars import STRUCTLOG_KEY_PREFIX

from switchyard.services import distribution
from switchyard.services.visible import redacted, visible

_configured: dict[str, Any] = {}
_PART: Final = ContextVar[str](f"{STRUCTLOG_KEY_PREFIX}part")


def configure(*, level: str = "info", as_json: bool | None = None) -> None:
    """Set up logging for this process.

    Args:
        level: `debug`, `info`, `warning` or `error`.
        as_json: one JSON object a line; by default when standard error is no terminal. The other form has
            colours on a terminal alone, and none where `NO_COLOR` is set.
    """
    as_json = not sys.stderr.isatty() if as_json is None else as_json
    _configured.update(level=level, as_json=as_json)
    renderers: list[structlog.typing.Processor] = (
        [_place, structlog.processors.JSONRenderer()]
        if as_json
        else [
            _show,
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty() and not os.environ.get("NO_COLOR")),
        ]
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _redact,
            *renderers,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        # A line and its end in one write: other processes write to the same place.
        logger_factory=structlog.WriteLoggerFactory(_own_stderr()),
        cache_logger_on_first_use=True,
    )


def name_part(part: str) -> None:
    """Say in lines of this task, and of those that it starts, which part of Switchyard they are of."""
    _PART.set(part)


def _place(
    _logger: structlog.typing.WrappedLogger, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    event["pid"] = os.getpid()
    event["version"] = distribution.version()
    return event


class _Lines:
    """A stream of our own: a handler that closes the standard ones, or a full disk, costs lines alone."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


def _own_stderr() -> TextIO:
    try:
        # It stays open for as long as the process logs.
        stream: TextIO = os.fdopen(
            os.dup(sys.stderr.fileno()), "w", encoding="utf-8", errors="backslashreplace"
        )
    except (OSError, ValueError):  # in a test it may be no file
        stream = sys.stderr
    return cast("TextIO", _Lines(stream))


def _redact(
    _logger: structlog.typing.WrappedLogger, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Write no key or token: errors and tracebacks may hold what a caller sent."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = redacted(value)
    return event


def _show(
    _logger: structlog.typing.WrappedLogger, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Make control characters visible: subjects and errors may hold anybody's words."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = visible(value, keep="\n\t")
    return event


def is_debug() -> bool:
    """Whether lines of level debug are written, for what would be dear to put together for nothing."""
    return _configured.get("level") == "debug"


def configuration() -> dict[str, Any]:
    """How this process logs, for a process that belongs to it."""
    return dict(_configured)
