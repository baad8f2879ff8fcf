"""A command at a terminal, as a person sees it."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

from tests.cli.site import COMMAND_S, Site, deadline


def at_terminal(site: Site, *arguments: str, typed: str = "", until: str | None = None) -> tuple[int, str]:
    """Exit code and all that a command shows at a terminal.

    Args:
        site: where it runs.
        arguments: those of the command.
        typed: what the person answers.
        until: what must have been shown before the command is asked to stop.
    """
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "switchyard.services.cli", *arguments],
        cwd=site.directory, env=site.environment | {"TERM": "dumb", "COLUMNS": "400"}, text=True,
        stdin=theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    os.write(ours, typed.encode())
    shown = b""
    with deadline(process, COMMAND_S):
        while until is None or until.encode() not in shown:
            try:
                block = os.read(ours, 65536)
            except OSError:  # it has ended
                break
            if not block:
                break
            shown += block
        if until is not None:
            process.terminate()
        process.wait()
    os.close(ours)
    return process.returncode, shown.decode()
