"""Handlers that change what a process has once, leave much behind, and save odd things."""

from __future__ import annotations

import builtins
import decimal
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
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, cast

from switchyard.handlers import Handlers
from tests.handlers.odd import Case, register

handlers: Final = Handlers()
ASYNC: Final = "untidy-on-the-loop"
THREAD: Final = "untidy-in-a-thread"
PROCESS: Final = "untidy-in-a-process"


def bug(act: Callable[[Any], Any], says: str) -> Case:
    return Case(act, "internal", says, retryable=True)


def stops(act: Callable[[Any], Any], says: str) -> Case:
    return Case(act, "stopped", says, retryable=True)


def done(act: Callable[[Any], Any]) -> Case:
    """Whatever it comes to is no result."""

    def acted(context: Any) -> str:
        act(context)
        return "done"

    return Case(acted)


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
    for _ in range(300):
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
            except BaseException:  # noqa: BLE001 - whatever stops it
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
    # There the limits are the child's own.
    "recursion limit": done(lambda _: sys.setrecursionlimit(200)),
    "descriptor limit": done(limits),
    "file size": done(cored),
}  # fmt: skip

register(handlers, CASES, (ASYNC, THREAD, PROCESS))
