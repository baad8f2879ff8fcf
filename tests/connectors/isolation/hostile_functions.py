"""What handlers do that reaches beyond their call, for the tests of the process pool."""

from __future__ import annotations

import ctypes
import importlib
import locale
import logging
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

Report = Callable[[dict[str, Any]], None]
go_on = threading.Event()
kept: list[Any] = []


def fork(arguments: dict[str, Any], report: Report) -> Any:
    """Come back twice: in this process, and in a copy of it."""
    read, write = os.pipe()
    if os.fork():
        os.close(write)
        while arguments.get("wait", True) and os.read(read, 1):
            pass
        os.close(read)
        return {"pid": os.getpid(), "job": arguments["job"]}
    if arguments["how"] == "fails":
        raise ValueError("in the copy")
    if arguments["how"] == "exits":
        sys.exit(3)
    if arguments["how"] == "reports":
        report({"job": "a copy's"})
    return {"job": "a copy's"}


def report_later(arguments: dict[str, Any], report: Report) -> Any:
    """Leave a thread behind that reports for as long as it lives."""

    def go_on_reporting() -> None:
        while True:
            report({"job": arguments["job"]})

    threading.Thread(target=go_on_reporting, daemon=True).start()
    return {"pid": os.getpid()}


def report_from_threads(arguments: dict[str, Any], report: Report) -> Any:
    """Reports larger than the socket's buffer, from several threads at once."""

    def many(name: int) -> None:
        for number in range(20):
            report({"thread": name, "number": number, "fill": str(name) * 300_000})

    threads = [threading.Thread(target=many, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"pid": os.getpid()}


def report_in_a_signal_handler(arguments: dict[str, Any], report: Report) -> Any:
    """Reports that interrupt a report on its way out."""
    before = signal.signal(signal.SIGALRM, lambda *_: report({"from": "handler"}))
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    for _ in range(30):
        report({"from": "function", "fill": "x" * 1_000_000})
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
    return "done"


def escape(arguments: dict[str, Any], report: Report) -> Any:
    """Start a daemon: another session, no group, no environment, no parent."""
    code = "import os,sys,time\nos.setsid()\nif os.fork(): os._exit(0)\nprint(os.getpid(), flush=True)\n"
    code += "os.dup2(os.open(os.devnull, os.O_RDWR), 1)\ntime.sleep(3600)"
    program = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env={}, close_fds=True)
    assert program.stdout is not None
    pid = int(program.stdout.readline())
    program.wait()
    program.stdout.close()
    report({"pids": [os.getpid(), pid]})
    if arguments.get("stay"):
        threading.Event().wait()
    if arguments.get("leave"):
        os._exit(0)
    return {"pids": [os.getpid(), pid]}


def kill_the_supervisor(arguments: dict[str, Any], report: Report) -> NoReturn:
    program = subprocess.Popen(["sleep", "3600"], start_new_session=True)
    report({"pids": [os.getpid(), program.pid]})
    os.kill(os.getppid(), signal.SIGKILL)
    while True:
        time.sleep(1)


def stop_the_supervisor(arguments: dict[str, Any], report: Report) -> NoReturn:
    os.kill(os.getppid(), signal.SIGSTOP)
    report({"pids": [os.getpid()]})
    while True:
        time.sleep(1)


def _thread() -> None:
    threading.Thread(target=go_on.wait, daemon=True).start()


def _module() -> None:
    sys.modules["json"] = types.ModuleType("json")


def _umask() -> None:
    os.umask(0o111)


def _chdir() -> None:
    os.chdir("/")


def _environ() -> None:
    os.environ["SECRET"] = "of another"


def _odd_environ() -> None:
    for number in range(100):
        os.environb[b"\xff%d" % number] = b"x"


def _odd_thread() -> None:
    threading.Thread(target=go_on.wait, daemon=True, name="\ud800" * 20_000_000).start()


def _handler() -> None:
    signal.signal(signal.SIGUSR1, lambda *_: None)


def _mask() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))


def _descriptor() -> None:
    kept.append(Path(__file__).open())  # noqa: SIM115 - the point of the test


def _stdout() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _stream() -> None:
    sys.stdout = sys.stderr


def _path() -> None:
    sys.path.insert(0, "/elsewhere")


def _logging() -> None:
    logging.getLogger("a").addHandler(logging.StreamHandler())


def _level() -> None:
    logging.root.setLevel(logging.DEBUG)


def _locale() -> None:
    locale.setlocale(locale.LC_ALL, "C.UTF-8" if locale.setlocale(locale.LC_ALL) == "C" else "C")


def _alarm() -> None:
    signal.alarm(3600)


def _process() -> None:
    kept.append(subprocess.Popen(["sleep", "3600"]))


def _recursion() -> None:
    sys.setrecursionlimit(5000)


TRACES: dict[str, Callable[[], None]] = {
    "threads": _thread, "modules": _module, "umask": _umask, "working directory": _chdir,
    "environment": _environ, "environment: ": _odd_environ, "threads alive: ": _odd_thread,
    "signal handlers": _handler, "signal mask": _mask, "resource limits": _limit,
    "descriptors: /": _descriptor, "descriptors: 1": _stdout, "standard streams": _stream, "sys.path": _path,
    "logging": _logging, "logging level": _level, "locale": _locale, "timers": _alarm,
    "processes": _process, "recursion limit": _recursion,
}  # fmt: skip


def leave_a_trace(arguments: dict[str, Any], report: Report) -> Any:
    TRACES[arguments["what"]]()
    return {"pid": os.getpid()}


def clean(arguments: dict[str, Any], report: Report) -> Any:
    """Everything that a call may do, undone before it ends."""
    subprocess.run(["true"], check=True)
    forgotten = os.posix_spawnp("true", ["true"], os.environ)  # nobody takes it away
    os.waitid(os.P_PID, forgotten, os.WEXITED | os.WNOWAIT)
    with Path(__file__).open() as file:
        file.read()
    thread = threading.Thread(target=list)
    thread.start()
    thread.join()
    importlib.import_module("colorsys")
    cycle: list[Any] = [Path(__file__).open()]  # noqa: SIM115 - closed when it is collected
    cycle.append(cycle)
    return {"pid": os.getpid()}


def say(arguments: dict[str, Any], report: Report) -> Any:
    print("from print")  # noqa: T201
    sys.stdout.write("without end")
    sys.stdout.flush()
    sys.stdout.write(", ended\n")
    logging.getLogger("some").warning("from logging")
    ctypes.CDLL(None).puts(b"from C")
    subprocess.run(["echo", "from a program"], check=True)
    for percent in (1, 50, 100):
        sys.stderr.write(f"\r{percent} %")
    sys.stderr.write("\n")
    os.write(2, b"\xff\xfe odd\n")
    sys.stdout.write("é" * 100_000 + "\n")
    sys.stdout.write("the last, unfinished")
    if arguments.get("die"):
        os.abort()
    return {"pid": os.getpid()}


def say_much(arguments: dict[str, Any], report: Report) -> Any:
    os.write(1, b"")
    for _ in range(arguments["chunks"]):
        os.write(1, b"y\n" * 10_000)
    return {"pid": os.getpid()}


def grow(arguments: dict[str, Any], report: Report) -> Any:
    """Take memory, here or in a program, for longer than the test lasts."""
    if arguments.get("program"):
        code = f"import time; kept = b'x' * {arguments['size']}; time.sleep(3600)"
        subprocess.run([sys.executable, "-c", code], check=True)
    kept.append(b"x" * arguments["size"])
    if arguments.get("wait", True):
        time.sleep(3600)
    return {"pid": os.getpid()}


def share(arguments: dict[str, Any], report: Report) -> Any:
    """Copies of a process share its memory: together they take no more than it."""
    block = b"x" * arguments["size"]
    read, write = os.pipe()
    pids = []
    for _ in range(4):
        pid = os.fork()
        if not pid:
            os.close(write)
            os.read(read, 1)
            os._exit(len(block) and 0)
        pids.append(pid)
    time.sleep(arguments["seconds"])
    os.close(write)
    os.close(read)
    for pid in pids:
        os.waitpid(pid, 0)
    return {"pid": os.getpid()}


def reserve(arguments: dict[str, Any], report: Report) -> Any:
    """Reserve address space as the drivers of graphics cards do, and touch none of it."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    anonymous = 0x22 | 0x4000  # MAP_PRIVATE, MAP_ANONYMOUS, MAP_NORESERVE
    at = libc.mmap(None, ctypes.c_size_t(arguments["size"]), 0, anonymous, -1, ctypes.c_long(0))
    assert at != ctypes.c_void_p(-1).value
    return {"pid": os.getpid()}


def mark(arguments: dict[str, Any]) -> None:
    with Path(arguments["file"]).open("a") as file:
        file.write(f"{arguments['word']} {os.getpid()}\n")


def mark_at_the_end(arguments: dict[str, Any], _: Report) -> None:
    mark(arguments)


def refuse(arguments: dict[str, Any]) -> None:
    if Path(arguments["file"]).exists():
        return
    Path(arguments["file"]).touch()
    raise RuntimeError("not yet")


def print_later(arguments: dict[str, Any], report: Report) -> Any:
    """Leave a program behind that prints when the call has ended."""
    read, write = os.pipe()
    command = f"read line; echo late; echo done >&{write}"
    program = subprocess.Popen(["sh", "-c", command], stdin=subprocess.PIPE, pass_fds=(write,))
    kept.extend((program, read))
    return {"pid": os.getpid()}


def let_it_print(arguments: dict[str, Any], report: Report) -> None:
    program, read = kept
    program.communicate(b"now\n")
    os.read(read, 1)


def begin_with_helpers(arguments: dict[str, Any]) -> None:
    """What a library has for as long as the process lives."""
    kept.append(subprocess.Popen(["sleep", "3600"]))
    kept.append(Path(__file__).open())  # noqa: SIM115 - the point of the test
    threading.Thread(target=go_on.wait, daemon=True).start()
    os.environ["LIBRARY"] = "ready"
