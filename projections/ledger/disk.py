"""What tenants and kinds take of the disk, as the read model knows it, and what that takes itself."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

from switchyard.events.errors import UnavailableError
from switchyard.projections import database

MOST: Final = 1000
_TENANTS: Final = """
    SELECT tenant, sum(jobs), sum(job_bytes), sum(files), sum(file_bytes) FROM (
        SELECT tenant, jobs, bytes AS job_bytes, 0 AS files, 0 AS file_bytes FROM tenants
        UNION ALL SELECT tenant, 0, 0, count(*), sum(size_bytes) FROM files GROUP BY tenant
    ) GROUP BY tenant ORDER BY sum(job_bytes) + sum(file_bytes) DESC, tenant LIMIT ?
"""
_KINDS: Final = """
    SELECT kind, sum(jobs), sum(bytes) FROM counts GROUP BY kind ORDER BY sum(bytes) DESC, kind LIMIT ?
"""
PARTS: Final = ("", "-wal", "-shm")


class TenantDisk(NamedTuple):
    """What a tenant takes: jobs that are not archived, as they were submitted, and files."""

    tenant: str
    jobs: int
    job_bytes: int
    files: int
    file_bytes: int


class KindDisk(NamedTuple):
    """What the jobs of a kind take that are not archived, as they were submitted."""

    kind: str
    jobs: int
    job_bytes: int


def by_owner(path: Path, most: int = MOST) -> tuple[list[TenantDisk], list[KindDisk]]:
    """What tenants and kinds take, those with the most first.

    Raises:
        UnavailableError: there is no read model, or it cannot be read now.
    """
    try:
        with closing(database.open_reader(path)) as connection:
            tenants = [TenantDisk(*row) for row in connection.execute(_TENANTS, (most,))]
            kinds = [KindDisk(*row) for row in connection.execute(_KINDS, (most,))]
    except sqlite3.Error as error:
        raise UnavailableError(f"the read model cannot be read now: {error}") from error
    return tenants, kinds


def size_of(path: Path) -> int:
    """Bytes of the read model with what SQLite keeps beside it."""
    size_bytes = 0
    for part in PARTS:
        try:
            size_bytes += path.with_name(path.name + part).stat().st_size
        except OSError:  # that one is not there
            continue
    return size_bytes
