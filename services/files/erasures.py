"""What was erased: the bucket `erasures`, and a copy of it beside the broker's data.

A backup of the broker knows nothing of what was erased after it. So every host keeps a copy in its data
directory, a line each, from which a keeper completes a bucket that was restored.
"""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec
import structlog
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.errors import LimitError, UnavailableError
from switchyard.events.numbers import Time
from switchyard.services.broker.bucket import Form, Key, json_values
from switchyard.services.broker.reader import count
from switchyard.services.files.keys import scope_of
from switchyard.services.settings import Settings

log = structlog.get_logger()

FILE_NAME: Final = "erasures"


class Erasure(msgspec.Struct, frozen=True, omit_defaults=True):
    """That a job or a file was erased, as anybody may be shown.

    Args:
        tenant: whose it was.
        job: its id, or that of the file.
        kind: that of the job, or `file`.
        scopes: what its keys were under: the job, and every upload that its payload named; of a file
            `<file>/<nuid>` for each time that one of this id was deleted.
        by: who wanted it.
        reason: what they said.
        requested_at: when that was.
        erased_at: when the last key was overwritten; None for an erasure that is under way.
        keys: how many were.
    """

    tenant: str
    job: str
    kind: str
    scopes: tuple[str, ...]
    by: str
    requested_at: Time
    reason: str = ""
    erased_at: Time | None = None
    keys: int = 0

    @property
    def is_of_file(self) -> bool:
        """Whether a file alone was deleted."""
        return bool(self.scopes) and all("/" in scope for scope in self.scopes)


def file_scope(file_id: str, nuid: str) -> str:
    """What the key of a file is under that was stored once."""
    return f"{file_id}/{nuid}"


def key_prefix(tenant: str, scope: str) -> Key:
    """The parts with which the keys of a scope begin in the bucket of keys."""
    file_id, _, nuid = scope.partition("/")
    return (tenant, scope_of(file_id), nuid) if nuid else (tenant, scope)


def _belongs(key: Key, erasure: Erasure) -> None:
    if key != (erasure.tenant, erasure.job):
        raise ValueError("an erasure of this job was expected")


ERASURES: Final = Form(
    name=subjects.BUCKET_ERASURES, parts=("tenant", "job"), values=json_values(Erasure), belongs=_belongs
)
FRESH_S: Final = 10.0
TENANTS: Final = 10_000
_LINE: Final = msgspec.json.Decoder(Erasure)


class Certificates:
    """How many there are of each tenant, as counted at most `FRESH_S` ago: they are kept for good.

    Args:
        nc: an open connection.
        settings: how many there may be.
    """

    def __init__(self, nc: Client, settings: Settings) -> None:
        self._nc = nc
        self._most = settings.erasures
        self._timeout_s = settings.request_timeout_s
        self._known: OrderedDict[str, tuple[float, int]] = OrderedDict()

    async def check(self, tenant: str) -> None:
        """Let pass what will have a certificate.

        Raises:
            LimitError: code `too_many_erasures`; the tenant has as many as it may.
            UnavailableError: the broker does not answer.
        """
        at, found = self._known.get(tenant, (0.0, 0))
        if not at or time.monotonic() - at >= FRESH_S:
            subject = ERASURES.filter(tenant)
            found = await count(self._nc, ERASURES.stream, subject, timeout_s=self._timeout_s)
            self._known[tenant] = time.monotonic(), found
            self._known.move_to_end(tenant)
            if len(self._known) > TENANTS:
                self._known.popitem(last=False)
        if found >= self._most:
            message = f"tenant {tenant} has {found} certificates of erasures, of at most {self._most}"
            raise LimitError(message, code="too_many_erasures")


class Copy:
    """The copy of a host.

    Args:
        data_dir: where the file is.
    """

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / FILE_NAME

    def add(self, erasures: Iterable[Erasure]) -> None:
        """Add lines, which are on the disk when this returns.

        Raises:
            UnavailableError: they cannot be written.
        """
        try:
            self._add(erasures)
        except OSError as error:
            raise UnavailableError(f"{self._path} cannot be written: {error}") from error

    def _add(self, erasures: Iterable[Erasure]) -> None:
        lines = b"".join(msgspec.json.encode(erasure) + b"\n" for erasure in erasures)
        if not lines:
            return
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            # One that a power failure has cut is not joined to the next.
            os.write(descriptor, lines if self._ends_well() else b"\n" + lines)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def read(self) -> dict[Key, Erasure]:
        """The erasures by key, the last line of each; a line that cannot be read is left out, and logged."""
        found: dict[Key, Erasure] = {}
        try:
            lines = self._path.read_bytes().splitlines()
        except FileNotFoundError:
            return found
        for number, line in enumerate(lines, 1):
            if not line:
                continue
            try:
                erasure = _LINE.decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                log.warning("erasure_unreadable", path=str(self._path), line=number, error=str(error))
                continue
            found[erasure.tenant, erasure.job] = erasure
        return found

    def _ends_well(self) -> bool:
        with self._path.open("rb") as file:
            if not file.seek(0, os.SEEK_END):
                return True
            file.seek(-1, os.SEEK_END)
            return file.read() == b"\n"
