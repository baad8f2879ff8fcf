"""What the tests of the process pool call in a child."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from switchyard.services.connectors.isolation.child import die_with_parent
from switchyard.services.connectors.protocol import BusyError, FatalError, RetryableError

type_of_error = {"fatal": FatalError, "retryable": RetryableError, "busy": BusyError}
Report = Callable[[dict[str, Any]], None]


def echo(arguments: dict[str, Any], report: Report) -> Any:
    for number in range(arguments.get("reports", 0)):
        report({"number": number})
    return {"pid": os.getpid(), "echo": arguments.get("echo")}


def surroundings(arguments: dict[str, Any], report: Report) -> Any:
    return dict(os.environ)


def inherited(arguments: dict[str, Any], report: Report) -> Any:
    umask = os.umask(0o077)
    os.umask(umask)
    return {"directory": str(Path.cwd()), "umask": umask}


def large(arguments: dict[str, Any], report: Report) -> Any:
    return "x" * arguments["size"]


def unserializable(arguments: dict[str, Any], report: Report) -> Any:
    return object()


def noisy(arguments: dict[str, Any], report: Report) -> Any:
    sys.stdout.write("Hello" * 100_000)
    sys.stderr.write("Hello" * 100_000)
    os.write(1, b"\x00" * 1000)
    subprocess.run(["echo", "hello"], check=True)
    return "quiet"


def fail(arguments: dict[str, Any], report: Report) -> Any:
    kind = arguments.get("kind")
    if kind is None:
        raise KeyError("surprise")
    raise type_of_error[kind]("the_code", "the message")


def leave(arguments: dict[str, Any], report: Report) -> Any:
    sys.stderr.write("last words")
    sys.exit(7)


def die(arguments: dict[str, Any], report: Report) -> Any:
    sys.stderr.write("y" * 10_000 + "last words")
    sys.stderr.flush()
    os.kill(os.getpid(), arguments["signal"])


def die_out_of_memory(arguments: dict[str, Any], report: Report) -> Any:
    sys.stderr.write("terminate called after throwing an instance of 'std::bad_alloc'")
    sys.stderr.flush()
    os.abort()


def send_garbage(arguments: dict[str, Any], report: Report) -> Any:
    descriptor = int(sys.argv[1])
    os.write(descriptor, b"\xff" * 100_000)
    time.sleep(3600)


def hog(arguments: dict[str, Any], report: Report) -> Any:
    kept = []
    while True:
        kept.append(bytearray(1024 * 1024))


def hog_wrapped(arguments: dict[str, Any], report: Report) -> Any:
    try:
        hog(arguments, report)
    except MemoryError:
        raise ValueError("the library knows better") from None


def wait(arguments: dict[str, Any], report: Report) -> Any:
    """Never end; with "stubborn", not at SIGTERM either; with "program", inside another program."""
    if arguments.get("stubborn"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "farewell" in arguments:

        def leave_a_note(*_: object) -> None:
            Path(arguments["farewell"]).touch()
            os._exit(0)

        signal.signal(signal.SIGTERM, leave_a_note)
    program = None
    if arguments.get("program"):
        # It is one system call, so the reader thread's locks do not matter.
        program = subprocess.Popen(["sleep", "3600"], preexec_fn=die_with_parent)  # noqa: PLW1509
    report({"pids": [os.getpid(), *(child.pid for child in psutil.Process().children())]})
    if program is not None:
        program.wait()
    threading.Event().wait()
