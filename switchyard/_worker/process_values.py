"""What a process has once and Python keeps: hooks, tracing, the environment, streams; noted, and put back.

What code adds stays as a rule, for libraries add when they are first used: what it takes away or changes is
put back.
"""

from __future__ import annotations

import contextlib
import gc
import io
import locale
import logging
import os
import socket
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple, cast

_locale: Final[Any] = getattr(sys.modules.get("_locale"), "setlocale", locale.setlocale)


class _Value(NamedTuple):
    """Something that is read and written as a whole."""

    read: Callable[[], Any]
    write: Callable[[Any], object]


def _attribute(owner: Any, name: str) -> _Value:
    return _Value(partial(getattr, owner, name), partial(setattr, owner, name))


def _collect(wanted: bool) -> None:  # noqa: FBT001 - as it was
    if wanted:
        gc.enable()


VALUES: Final = (
    _Value(sys.getrecursionlimit, sys.setrecursionlimit),
    _Value(sys.getswitchinterval, sys.setswitchinterval),
    _Value(sys.get_int_max_str_digits, sys.set_int_max_str_digits),
    _Value(socket.getdefaulttimeout, socket.setdefaulttimeout),
    _Value(sys.getprofile, sys.setprofile),
    _Value(sys.gettrace, sys.settrace),
    _Value(threading.getprofile, threading.setprofile),
    _Value(threading.gettrace, threading.settrace),
    _Value(gc.isenabled, _collect),
    # The module's own function takes the answer apart, and `restore` asks after every attempt.
    _Value(partial(_locale, locale.LC_ALL), partial(locale.setlocale, locale.LC_ALL)),
    _attribute(sys, "excepthook"),
    _attribute(sys, "unraisablehook"),
    _attribute(threading, "excepthook"),
    _attribute(tempfile, "tempdir"),
    _attribute(logging.root.manager, "disable"),
)
READS: Final = tuple(value.read for value in VALUES)
STREAMS: Final = ("stdin", "stdout", "stderr")


class Values:
    """The values as they are when this is made, or noted again."""

    def __init__(self) -> None:
        tempfile.gettempdir()  # which writes a file the first time
        self.note()

    def note(self) -> None:
        """From now on what is now counts."""
        self._values = [read() for read in READS]
        self._path = list(sys.path)
        # As bytes: `os.environ` decodes at every look.
        self._environ: dict[bytes, bytes] = dict(_environ())
        self._handlers = list(logging.root.handlers)
        self._filters = list(warnings.filters)
        self._errors = _filters_that_raise()

    def restore(self) -> None:
        """Put back what is not as it was noted."""
        if [read() for read in READS] != self._values:
            self._write()
        if sys.path != self._path and any(place not in sys.path for place in self._path):
            sys.path[:] = self._path + [place for place in sys.path if place not in self._path]
        environ = _environ()
        if not environ.items() >= self._environ.items():
            for name, noted in self._environ.items():
                if environ.get(name) != noted:
                    os.environ[os.fsdecode(name)] = os.fsdecode(noted)
        if not logging.root.handlers and self._handlers:
            logging.root.handlers[:] = self._handlers
        if warnings.filters != self._filters:
            self._tame()

    def _write(self) -> None:
        for value, noted in zip(VALUES, self._values, strict=True):
            if value.read() != noted:
                with contextlib.suppress(RecursionError, ValueError, locale.Error):
                    value.write(noted)

    def _tame(self) -> None:
        if added := [each for each in _filters_that_raise() if each not in self._errors]:
            warnings.filters[:] = [each for each in warnings.filters if each not in added]  # type: ignore[index]
            cast("Any", warnings)._filters_mutated()  # noqa: SLF001 - as `warnings.simplefilter` does


def _environ() -> dict[bytes, bytes]:
    return cast("dict[bytes, bytes]", cast("Any", os.environ)._data)  # noqa: SLF001


def _filters_that_raise() -> list[Any]:
    """Filters of warnings that make errors of them for everybody."""
    return [each for each in warnings.filters if each[0] == "error"]


class Streams:
    """Standard streams that may be closed: the descriptor below stays, and does not become another file's."""

    def __init__(self) -> None:
        self._before = {name: (getattr(sys, name), getattr(sys, f"__{name}__")) for name in STREAMS}
        self._ours: dict[str, io.TextIOWrapper] = {}
        for name, (stream, original) in self._before.items():
            own = _shared(original)
            if own is not None:
                self._put(name, own)
                if stream is not original:
                    setattr(sys, name, stream)

    def _put(self, name: str, own: io.TextIOWrapper) -> None:
        self._ours[name] = own
        setattr(sys, name, own)
        setattr(sys, f"__{name}__", own)

    def restore(self) -> None:
        """Put back those that were closed or replaced."""
        for name, own in self._ours.items():
            stream, original = self._before[name]
            if own.closed:
                again = _shared(original)
                if again is None:  # the descriptor itself is closed
                    continue
                self._put(name, again)
            elif getattr(sys, f"__{name}__") is not own:
                setattr(sys, f"__{name}__", own)
            if stream is original:
                if getattr(sys, name) is not self._ours[name]:
                    setattr(sys, name, self._ours[name])
            elif _is_unusable(getattr(sys, name)) and not _is_unusable(stream):
                setattr(sys, name, stream)

    def undo(self) -> None:
        """Give back the streams that were there before."""
        for name, own in self._ours.items():
            stream, original = self._before[name]
            with contextlib.suppress(OSError, ValueError):
                own.flush()
            if getattr(sys, f"__{name}__") is own:
                setattr(sys, f"__{name}__", original)
            if getattr(sys, name) is own:
                setattr(sys, name, stream)


def _shared(stream: Any) -> io.TextIOWrapper | None:
    """Another stream to the same descriptor, which it does not close; None where there is none."""
    if not isinstance(stream, io.TextIOWrapper):
        return None
    try:
        number = stream.buffer.fileno()
        raw = open(number, "wb" if stream.buffer.writable() else "rb", closefd=False)  # noqa: SIM115
    except (OSError, ValueError):
        return None
    return io.TextIOWrapper(
        raw, encoding=stream.encoding, errors=stream.errors,
        line_buffering=stream.line_buffering, write_through=stream.write_through,
    )  # fmt: skip


def _is_unusable(stream: Any) -> bool:
    return stream is None or bool(getattr(stream, "closed", False))
