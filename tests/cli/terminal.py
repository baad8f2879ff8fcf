"""A command at a terminal, as a person sees it."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys

from tests.cli.site import COMMAND_S, Site, deadline


def at_terminal(
    site: Site,
    *arguments: str,
    typed: str = "",
    until: str | None = None,
    number: signal.Signals = signal.SIGTERM,
    **environment: str,
) -> tuple[int, str]:
    """Exit code and all that a command shows at a terminal.

    Args:
        site: where it runs.
        arguments: those of the command.
        typed: what the person answers.
        until: what must have been shown before the command is asked to stop.
        number: how it is asked.
        environment: others of its variables.
    """
    ours, theirs = pty.openpty()
    shown_in = {"TERM": "dumb", "COLUMNS": "400"}
    process = subprocess.Popen(
        [sys.executable, "-m", "switchyard.services.cli", *arguments],
        cwd=site.directory, env=site.environment | shown_in | environment, text=True,
        stdin=theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    os.write(ours, typed.encode())
    shown = b""
    with deadline(process, COMMAND_S):
        while until is None or until.encode() not in shown:
            block = _block(ours)
            if not block:
                break
            shown += block
        if until is not None and until.encode() in shown:
            process.send_signal(number)
            shown += _rest(ours)
        process.wait()
    os.close(ours)
    return process.returncode, shown.decode()


def _rest(terminal: int) -> bytes:
    """What is shown until the end."""
    shown = b""
    while block := _block(terminal):
        shown += block
    return shown


def _block(terminal: int) -> bytes:
    """What is shown next; nothing at the end."""
    try:
        return os.read(terminal, 65536)
    except OSError:  # it has ended
        return b""
