"""The files of a nats-server of ours, and why one does not run."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

LOG_TAIL_BYTES: Final = 4_000


class BrokerError(Exception):
    """The embedded broker cannot do what was asked; the message says what to do."""


class BinaryNotFoundError(BrokerError):
    """There is no nats-server to start."""


class PortTakenError(BrokerError):
    """Another program listens on the port."""


class DirectoryInUseError(BrokerError):
    """Another Switchyard runs its broker in the data directory."""


class BrokerStartError(BrokerError):
    """The broker ended or stayed silent instead of becoming ready."""


@dataclass(frozen=True, slots=True)
class Files:
    """Where a broker keeps its things."""

    directory: Path

    @property
    def lock(self) -> Path:
        """Held while the broker runs."""
        return self.directory / "lock"

    @property
    def config(self) -> Path:
        """The configuration; its path in a command line is how our broker is recognised."""
        return self.directory / "nats.conf"

    @property
    def pid(self) -> Path:
        """The broker's pid, written by the broker."""
        return self.directory / "pid"

    @property
    def port(self) -> Path:
        """The port chosen automatically."""
        return self.directory / "port"

    @property
    def log(self) -> Path:
        """The broker's log."""
        return self.directory / "nats.log"

    @property
    def key_mark(self) -> Path:
        """What stands for the key that the streams are encrypted with."""
        return self.directory / "key-mark"

    @property
    def stderr(self) -> Path:
        """The broker's standard error."""
        return self.directory / "stderr"

    def write(self, path: Path, text: str) -> None:
        """Replace a file as a whole, readable by its owner only."""
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
        draft.replace(path)

    def read_int(self, path: Path) -> int | None:
        """The number in a file, or None where there is none."""
        try:
            return int(path.read_text())
        except (FileNotFoundError, ValueError):
            return None

    def password(self) -> str:
        """The broker's password, generated at the first call."""
        path = self.directory / "password"
        with contextlib.suppress(FileNotFoundError):
            if password := path.read_text().strip():
                return password
        password = secrets.token_urlsafe(32)
        self.write(path, password)
        return password


def lock(files: Files) -> int:
    """Claim the directory for this process, until the returned descriptor is closed or we die."""
    descriptor = os.open(files.lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if error.errno not in {errno.EAGAIN, errno.EACCES}:
            raise
        owner = files.read_int(files.lock) or "unknown"
        raise DirectoryInUseError(
            f"another Switchyard (pid {owner}) is using the data directory {files.directory.parent}; "
            "stop it or choose another data directory"
        ) from None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, str(os.getpid()).encode())
    return descriptor


def start_error(files: Files, logged: int, port: int) -> BrokerError:
    """Why the broker ended, from what it wrote since it was started."""
    with files.log.open("rb") if files.log.exists() else files.stderr.open("rb") as log:
        log.seek(logged)
        output = log.read(LOG_TAIL_BYTES * 4).decode(errors="replace")
    output += files.stderr.read_text(errors="replace")[-LOG_TAIL_BYTES:]
    if "address already in use" in output:
        return PortTakenError(f"port {port} is taken by another program; choose another one or end it")
    fatal = [line for line in output.splitlines() if "[FTL]" in line] or output.splitlines()[-1:]
    reason = fatal[0].partition("[FTL] ")[2] or fatal[0] if fatal else "it wrote nothing"
    return BrokerStartError(f"nats-server did not start: {reason} (see {files.log})")
