"""`connection.json` in the data directory: how commands find a running Switchyard."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from switchyard.events.errors import SwitchyardError

FILE_NAME: Final = "connection.json"
LOCK_NAME: Final = "up.lock"


class AlreadyRunningError(SwitchyardError):
    """Another `switchyard up` runs on the data directory."""


class ConnectionInfo(NamedTuple):
    """How to reach a running Switchyard; the file has mode 0600, for it holds a token and a password.

    Args:
        url: that of the gateway.
        token: that of an admin.
        nats_url: that of the broker, with credentials.
        pids: process ids by part.
    """

    url: str
    token: str
    nats_url: str
    pids: dict[str, int]


def write(data_dir: Path, info: ConnectionInfo) -> None:
    """Write the file at once and whole."""
    path = data_dir / FILE_NAME
    draft = path.with_suffix(f".{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(json.dumps(info._asdict(), indent=2) + "\n")
    draft.replace(path)


def read(data_dir: Path) -> ConnectionInfo | None:
    """The file's content; None when it is not there or is none of ours."""
    try:
        content: dict[str, Any] = json.loads((data_dir / FILE_NAME).read_bytes())
        found = ConnectionInfo(*(content[name] for name in ConnectionInfo._fields))
        texts, pids = found[:3], found.pids.items()
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    is_ours = all(isinstance(text, str) for text in texts) and all(isinstance(pid, int) for _, pid in pids)
    return found if is_ours else None


@contextlib.contextmanager
def claimed(data_dir: Path) -> Iterator[None]:
    """Be the one Switchyard of a data directory; one that was killed leaves no claim, only its file.

    Raises:
        AlreadyRunningError: another process is; the message says which.
    """
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (data_dir / LOCK_NAME).open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            found = read(data_dir)
            where = f" at {found.url}" if found else ""
            raise AlreadyRunningError(
                f"a Switchyard (pid {lock.read().strip() or 'unknown'}) runs on {data_dir} already{where}; "
                "stop it, or choose another directory with --data-dir"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        remove(data_dir)
        try:
            yield
        finally:
            remove(data_dir)


def hint(data_dir: Path, info: ConnectionInfo) -> str:
    """What to add to the news that what the file names cannot be reached."""
    pid = info.pids.get("switchyard")
    if pid is None or _lives(pid):
        return ""
    left = f"{data_dir / FILE_NAME} was left by a Switchyard (pid {pid}) that was killed"
    return f"; {left}: start it again with `switchyard up`"


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def remove(data_dir: Path) -> None:
    """Delete the file."""
    (data_dir / FILE_NAME).unlink(missing_ok=True)
