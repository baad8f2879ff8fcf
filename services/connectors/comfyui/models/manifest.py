"""What was fetched into a folder of models: a file of its own says so, and nothing else is ever removed.

Several instances and processes may share a folder. A change is made under a lock of the file system, which
ends with the process that holds it, and is written to a new file that takes the place of the old one. The
order of use is a number that grows, not a time: clocks may be wrong.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, Literal, TypeVar

import msgspec
import structlog

log = structlog.get_logger()

FILE: Final = ".switchyard-models.json"
LOCK: Final = ".switchyard-models.lock"
UNREADABLE: Final = ".switchyard-models.unreadable.json"
MOST_BYTES: Final = 16 * 1024 * 1024
MOST_FAILED: Final = 100

T = TypeVar("T")


class Kept(msgspec.Struct):
    """A file that was fetched.

    Args:
        size_bytes: as it was fetched.
        sha256: likewise.
        used: the higher, the later a job used it.
        state: `landing` from before it takes its name until after.
        inode, changed_ns: of the file as it was put there; another one is somebody else's.
    """

    size_bytes: int
    sha256: str
    used: int
    state: Literal["here", "landing"] = "here"
    inode: int = 0
    changed_ns: int = 0


class Part(msgspec.Struct):
    """A file on its way.

    Args:
        file: its path below the folder of models.
        revision: that of the catalogue's entry.
        size_bytes: that it will have.
        tag: what the server calls this version of it; "" where it does not say.
        resumed: whether it came in pieces, between which the server may have changed it.
    """

    file: str
    revision: int
    size_bytes: int
    tag: str = ""
    resumed: bool = False


class Failed(msgspec.Struct):
    """An entry that is not fetched again for now, and why."""

    revision: int
    reason: str


class Manifest(msgspec.Struct):
    """All that is known of a folder; files by `folder/name`."""

    version: int = 1
    uses: int = 0
    files: dict[str, Kept] = {}
    parts: dict[str, Part] = {}
    failed: dict[str, Failed] = {}

    def use(self, paths: Iterable[str]) -> None:
        """A job uses files now."""
        self.uses += 1
        for path in paths:
            if path in self.files:
                self.files[path].used = self.uses

    def fail(self, path: str, revision: int, reason: str) -> None:
        """Note why an entry is not fetched again."""
        self.failed.pop(path, None)
        self.failed[path] = Failed(revision, reason)
        while len(self.failed) > MOST_FAILED:
            del self.failed[next(iter(self.failed))]


_DECODER: Final = msgspec.json.Decoder(Manifest)


def read(root: Path) -> Manifest:
    """What is known of a folder; nothing where that cannot be read, so that nothing is removed.

    Raises:
        OSError: the folder cannot be read.
    """
    try:
        with (root / FILE).open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        return Manifest()
    try:
        return _DECODER.decode(data)
    except ValueError as error:
        log.warning(
            "models_manifest_unreadable", folder=str(root), error=str(error),
            effect="what was fetched before stays, and is not counted",
        )  # fmt: skip
        with contextlib.suppress(OSError):
            (root / FILE).replace(root / UNREADABLE)
        return Manifest()


def change(root: Path, edit: Callable[[Manifest], T]) -> T:
    """Change what is known of a folder; what `edit` returns.

    Raises:
        OSError: it cannot be written; it is as before then.
    """
    with locked(root / LOCK):
        manifest = read(root)
        found = edit(manifest)
        _write(root, manifest)
        return found


def _write(root: Path, manifest: Manifest) -> None:
    draft = root / f"{FILE}.{os.getpid()}"
    try:
        with draft.open("wb") as file:
            file.write(msgspec.json.encode(manifest))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(root / FILE)
    except OSError:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep others out while the block lasts; waits for them."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def try_lock(path: Path, *, shared: bool = False, create: bool = False) -> int | None:
    """Lock a file without waiting: an open descriptor, to be closed; None where somebody else has it.

    Raises:
        OSError: it is not there, or cannot be opened.
    """
    flags = os.O_RDWR | os.O_CREAT if create else os.O_RDONLY
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
