"""Handlers that return, raise and save odd things, change what a process has once, and leave much behind."""

from __future__ import annotations

import builtins
import dataclasses
import decimal
import enum
import gc
import io
import locale
import logging
import os
import random
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, cast

import pydantic

from switchyard.handlers import Fatal, Handlers, Retry
from tests.handlers.odd import Case, fails, register, result

handlers: Final = Handlers()
ASYNC: Final = "crooked-on-the-loop"
THREAD: Final = "crooked-in-a-thread"
PROCESS: Final = "crooked-in-a-process"


def bug(act: Callable[[Any], Any], says: str) -> Case:
    return Case(act, "internal", says, retryable=True)


def stops(act: Callable[[Any], Any], says: str) -> Case:
    return Case(act, "stopped", says, retryable=True)


def fine(act: Callable[[Any], Any]) -> Case:
    return Case(act)


def done(act: Callable[[Any], Any]) -> Case:
    """Whatever it comes to is no result."""

    def acted(context: Any) -> str:
        act(context)
        return "done"

    return Case(acted)


# --- Raised


def deep(levels: int) -> Any:
    return deep(levels + 1)


def chained(links: int) -> Any:
    error: BaseException = ValueError("the first")
    for number in range(links):
        following = ValueError(number)
        following.__cause__ = error
        error = following
    raise error


def circular() -> Any:
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    raise one


def noted() -> Any:
    error = ValueError("noted")
    for number in range(10_000):
        error.add_note(f"{number}" * 1_000)
    raise error


class ReducedError(Exception):
    def __reduce__(self) -> Any:
        sys.exit(9)


class LoopingError(Exception):
    def __str__(self) -> str:
        return str(self)


class NumberError(Exception):
    def __str__(self) -> Any:
        return 5  # noqa: PLE0307 - the point of it


class Named(type):
    @property
    def __name__(cls) -> Any:  # type: ignore[override]
        sys.exit(9)


class LyingError(Exception):
    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        sys.exit(9)

    @property
    def traceback(self) -> Any:
        sys.exit(9)


def from_liar() -> Any:
    raise ValueError("from a liar") from LyingError("cause")


class OddNameError(Exception, metaclass=Named):
    pass


class EqualError(Exception):
    def __eq__(self, _: object) -> bool:
        sys.exit(9)

    __hash__ = None  # type: ignore[assignment]


LongNameError: Final = type("N" * 1_000_000, (Exception,), {})


def in_finally() -> Any:
    try:
        raise ValueError("in the body")
    finally:
        sys.exit(4)


# --- Returned


class OddDict(dict[str, Any]):
    def items(self) -> Any:
        sys.exit(9)

    def __iter__(self) -> Iterator[str]:
        sys.exit(9)


class OddList(list[Any]):
    def __iter__(self) -> Iterator[Any]:
        sys.exit(9)


class OddText(str):
    __slots__ = ()

    def __str__(self) -> str:  # noqa: PLE0307 - it returns nothing
        sys.exit(9)

    def encode(self, *_: Any) -> bytes:
        sys.exit(9)


class OddNumber(int):
    def __int__(self) -> int:
        sys.exit(9)

    def __index__(self) -> int:  # noqa: PLE0305 - the point of it
        sys.exit(9)


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int = 1


class Model(pydantic.BaseModel):
    x: Any = None


class OddModel(Model):
    def model_dump(self, **_: Any) -> Any:
        sys.exit(9)


class LyingResult:
    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        sys.exit(9)

    def __await__(self) -> Any:
        sys.exit(9)


def numbers() -> Iterator[int]:
    yield 1


# --- The scratch directory


def replaced(context: Any) -> None:
    """A link in its place, to what is not the handler's."""
    outside = Path(tempfile.gettempdir()) / "switchyard-outside"
    outside.mkdir(exist_ok=True)
    (outside / "precious").write_text("precious")
    context.scratch.rmdir()
    context.scratch.symlink_to(outside)


def linked(context: Any) -> None:
    outside = Path(tempfile.gettempdir()) / "switchyard-outside"
    outside.mkdir(exist_ok=True)
    (outside / "precious").write_text("precious")
    (context.scratch / "link").symlink_to(outside)


def deepened(context: Any) -> None:
    """Deeper than a path can be long."""
    at = os.open(context.scratch, os.O_RDONLY)
    for _ in range(1_500):
        os.mkdir("x" * 100, dir_fd=at)
        below = os.open("x" * 100, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)


def odd_names(context: Any) -> None:
    for name in (b"\xff\xfe", b"a\nb", b"-rf", b" "):
        Path(os.fsdecode(os.path.join(os.fsencode(context.scratch), name))).write_bytes(b"x")  # noqa: PTH118


def locked(context: Any) -> None:
    below = context.scratch / "below"
    below.mkdir()
    (below / "file").write_text("x")
    below.chmod(0)
    context.scratch.chmod(0)


def crowded(context: Any) -> None:
    for number in range(2_000):
        (context.scratch / str(number)).touch()


def piped(context: Any) -> Path:
    path: Path = context.scratch / "pipe"
    os.mkfifo(path)
    return path


def socketed(context: Any) -> Path:
    path: Path = context.scratch / "s"
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))
    return path


# --- What a process has once


def environment(_: Any) -> None:
    os.environ.clear()
    os.environ["PATH"] = "/nowhere"


def limits(_: Any) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))


def cored(_: Any) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def warned(_: Any) -> None:
    warnings.simplefilter("error")
    warnings.warn("a warning", stacklevel=1)


def raised_warning(_: Any) -> None:
    warnings.simplefilter("error")


def traced(_: Any) -> None:
    sys.setprofile(lambda *_: sys.exit(9))


def hooked(_: Any) -> None:
    sys.excepthook = threading.excepthook = sys.unraisablehook = lambda *_: sys.exit(9)  # type: ignore[assignment]


def printed(_: Any) -> None:
    for _ in range(200):
        os.write(1, b"x" * 1_000)
        os.write(2, b"y\r\xff")


def logged(context: Any) -> None:
    for number in range(20_000):
        context.log(f"line {number}")


def reported(context: Any) -> None:
    for number in range(20_000):
        context.progress(number / 20_000, "s" * 200, "m" * 2_000)


def used(context: Any) -> None:
    context.usage = {"a": 1}
    del context.usage


def torn(context: Any) -> None:
    for name in list(vars(context)):
        delattr(context, name)


def rewritten(context: Any) -> None:
    for name in list(vars(context)):
        setattr(context, name, None)


# --- What is left


def daemon(_: Any) -> None:
    code = "import os,time\nif os.fork(): os._exit(0)\nos.closerange(0, 100)\ntime.sleep(20)"
    subprocess.run([sys.executable, "-S", "-c", code], check=True, start_new_session=True)


def left_program(_: Any) -> None:
    subprocess.Popen(["/bin/sleep", "20"], start_new_session=True)


def left_descriptors(_: Any) -> None:
    for _ in range(50):
        os.pipe()


def left_logging(context: Any) -> None:
    """A thread that logs, reports and saves after the attempt's end."""

    def later() -> None:
        until = time.monotonic() + 2
        while time.monotonic() < until:
            try:
                context.log("late")
                context.progress(0.5, "late")
            except BaseException:  # noqa: BLE001 - whatever it is told
                time.sleep(0.001)

    threading.Thread(target=later, daemon=True).start()


class Undead:
    def __del__(self) -> None:
        sys.exit(9)


def undead(_: Any) -> None:
    one = Undead()
    one.me = one  # type: ignore[attr-defined]
    del one
    gc.collect()


CASES: Final = {
    # Raised
    "recursion": bug(lambda _: deep(0), "RecursionError"),
    "memory": bug(lambda _: bytearray(1 << 62), "MemoryError"),
    "chain": bug(lambda _: chained(5_000), "ValueError: 4999"),
    "circle": bug(lambda _: circular(), "ValueError: one"),
    "notes": bug(lambda _: noted(), "ValueError: noted"),
    "reduced": bug(lambda _: fails(ReducedError("r")), "ReducedError: r"),
    "looping text": bug(lambda _: fails(LoopingError("l")), "LoopingError"),
    "text is a number": bug(lambda _: fails(NumberError("n")), "NumberError"),
    "lies about its class": bug(lambda _: fails(LyingError("class")), "LyingError: class"),
    "its cause lies": bug(lambda _: from_liar(), "ValueError: from a liar"),
    "name exits": bug(lambda _: fails(OddNameError("odd")), "OddNameError: odd"),
    "name is long": bug(lambda _: fails(LongNameError("long")), "NNN"),
    "equal exits": bug(lambda _: fails(EqualError("equal")), "EqualError: equal"),
    "no exception": bug(lambda _: fails(5), "TypeError: exceptions must"),  # type: ignore[arg-type]
    "exit in finally": stops(lambda _: in_finally(), "SystemExit: 4"),
    "exit of many": stops(lambda _: sys.exit("x" * 5_000_000), "SystemExit: xxx"),
    "group of many": bug(lambda _: fails(ExceptionGroup("g", [ValueError("x")] * 20_000)), "ExceptionGroup"),
    "fatal group": bug(lambda _: fails(ExceptionGroup("g", [Fatal("f")])), "ExceptionGroup"),
    "retry of none": Case(lambda _: fails(Retry(None)), "handler_failed", "", retryable=True),  # type: ignore[arg-type]
    "unicode": bug(lambda _: "\ud800".encode(), "UnicodeEncodeError"),
    "system error": bug(lambda _: fails(SystemError("s")), "SystemError: s"),
    "os error": bug(lambda _: fails(OSError(24, "Too many open files")), "Too many open files"),
    # Returned
    "odd dict": fine(lambda _: OddDict(a=1)),
    "odd list": fine(lambda _: OddList([1])),
    "odd text": fine(lambda _: OddText("a")),
    "odd number": fine(lambda _: OddNumber(1)),
    "enum": fine(lambda _: Colour.RED),
    "dataclass": fine(lambda _: Point()),
    "model": fine(lambda _: Model(x=[1, {"a": 2}])),
    "model of an object": result(Model(x=object())),
    "odd model": stops(lambda _: OddModel(), "SystemExit: 9"),
    "model NaN": fine(lambda _: Model(x=float("nan"))),
    "lying result": stops(lambda _: LyingResult(), "SystemExit: 9"),
    "generator": result(numbers()),
    "class": result(dict),
    "context": Case(lambda context: context, "invalid_result", "result: "),
    "function": result(print),
    "descriptor": result(io.StringIO()),
    "not implemented": result(NotImplemented),
    "exception": result(ValueError("returned")),
    "bytearray": result(bytearray(b"x")),
    "2 MB": fine(lambda _: "x" * 2_000_000),
    "wide": fine(lambda _: list(range(100_000))),
    "float max": fine(lambda _: [sys.float_info.max, 5e-324, -0.0]),
    "nul": fine(lambda _: "\0\x1b[2J\u202e"),
    # The scratch directory
    "no scratch": done(lambda context: context.scratch.rmdir()),
    "scratch is a file": done(lambda context: (context.scratch.rmdir(), context.scratch.write_text("x"))),
    "scratch is a link": done(replaced),
    "link in scratch": done(linked),
    "deep scratch": done(deepened),
    "odd names": done(odd_names),
    "locked": done(locked),
    "crowded": done(crowded),
    "pipe in scratch": done(piped),
    # What is saved
    "saves a directory": Case(lambda context: context.save("a", context.scratch), "invalid_call", "data: "),
    "saves a pipe": Case(lambda context: context.save("a", piped(context)), "invalid_call", "data: "),
    "saves a socket": Case(lambda context: context.save("a", socketed(context)), "invalid_call", "data: "),
    "saves zeros": Case(lambda context: context.save("a", Path("/dev/zero")), "invalid_call", "data: "),
    "saves itself": Case(lambda context: context.save("result.json", b"{}")),
    # What a process has once
    "umask": done(lambda _: os.umask(0o777)),
    "environment": done(environment),
    "temporary": done(lambda _: setattr(tempfile, "tempdir", "/nowhere")),
    "descriptor limit": bug(limits, "the limits are the worker's"),
    "file size": bug(cored, "the limits are the worker's"),
    "locale": done(lambda _: locale.setlocale(locale.LC_ALL, "C")),
    "recursion limit": bug(lambda _: sys.setrecursionlimit(200), "the limits are the worker's"),
    "no collector": done(lambda _: gc.disable()),
    "switch interval": done(lambda _: sys.setswitchinterval(1e-6)),
    "warnings": bug(warned, "UserWarning: a warning"),
    "warnings are errors": done(raised_warning),
    "tracing": stops(traced, "SystemExit: 9"),
    "hooks": done(hooked),
    "digits": done(lambda _: sys.set_int_max_str_digits(640)),
    "decimals": done(lambda _: decimal.setcontext(decimal.Context(prec=1))),
    "seed": done(lambda _: random.seed(1)),
    "no stdout": done(lambda _: setattr(sys, "stdout", None)),
    "stdout is closed": done(lambda _: cast("Any", sys.__stdout__).close()),
    "stderr is closed": done(lambda _: cast("Any", sys.__stderr__).close()),
    "no stderr": done(lambda _: setattr(sys, "stderr", None)),
    "stdout of text": done(lambda _: setattr(sys, "stdout", io.StringIO())),
    "no logging": done(lambda _: logging.disable()),
    "logging ends": done(lambda _: logging.shutdown()),
    "root handlers": done(lambda _: logging.getLogger().handlers.clear()),
    "builtins": done(lambda _: setattr(builtins, "switchyard_own", 1)),
    "path": done(lambda _: sys.path.clear()),
    "rmtree": done(lambda context: shutil.rmtree(context.scratch)),
    # What is said
    "prints": done(printed),
    "logs much": done(logged),
    "reports much": done(reported),
    "no usage": bug(used, "usage"),
    "tears its context": bug(torn, ""),
    "rewrites its context": Case(rewritten, "invalid_usage", "usage: "),
    # What is left
    "daemon": done(daemon),
    "program": done(left_program),
    "descriptors": done(left_descriptors),
    "late thread": done(left_logging),
    "undead": done(undead),
    "fine": Case(lambda _: {"fine": True}),
}  # fmt: skip

IN_A_PROCESS: Final = {
    # There the lack of memory has a name of its own, and the limits are the child's.
    "memory": Case(lambda _: bytearray(1 << 62), "memory_exceeded", "memory"),
    "recursion limit": done(lambda _: sys.setrecursionlimit(200)),
    "descriptor limit": done(limits),
    "file size": done(cored),
}

register(handlers, CASES, (ASYNC, THREAD, PROCESS))
