"""What a worker that fetches models says to a gateway, and what it is answered: alike over NATS and REST."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Annotated, Final, Protocol, runtime_checkable

import msgspec
from msgspec import Meta

MOST_LACKING: Final = 50
MOST_FILES: Final = 64

Text = Annotated[str, Meta(min_length=1, max_length=320)]
Id = Annotated[str, Meta(min_length=1, max_length=200)]
Bytes = Annotated[int, Meta(ge=0, le=2**53)]
Seconds = Annotated[float, Meta(ge=0, le=1e9)]


class Lack(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Files for want of which a worker has handed back a tenant's job.

    Args:
        kind: that of the job.
        files: folder and name of each.
    """

    kind: Id
    tenant: Id
    files: Annotated[list[tuple[Text, Text]], Meta(min_length=1, max_length=MOST_FILES)]


class Doing(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How far a fetch is; the first four are those of its order."""

    folder: Text
    name: Text
    claim: Id
    revision: Annotated[int, Meta(ge=1, le=2**63 - 1)]
    done_bytes: Bytes
    left_s: Seconds | None = None


class Ended(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A fetch goes on no more, whatever it has come to."""

    folder: Text
    name: Text
    claim: Id


class Report(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What one connector of a worker says.

    Args:
        worker: over REST, as in its claims.
        instance: the id of the connector.
        doing: what it fetches.
        ended: what it fetched until now.
        lacking: what it was just seen to lack.
        wants: whether it could fetch something now.
    """

    worker: Id
    instance: Id
    doing: Doing | None = None
    ended: Ended | None = None
    lacking: Annotated[list[Lack], Meta(max_length=MOST_LACKING)] = []
    wants: bool = False


class Order(msgspec.Struct, frozen=True, omit_defaults=True):
    """A file to be fetched.

    Args:
        folder: that of ComfyUI in which it belongs.
        name: below that.
        claim: names this fetch in reports.
        revision: that of the catalogue's entry.
        url: where it is.
        sha256: that of all of it, in lower hex.
        size_bytes: exactly.
        headers: what the request carries, to the origin of `url` alone.
        keep: folder and name of files that must not be removed for it.
    """

    folder: str
    name: str
    claim: str
    revision: int
    url: str
    sha256: str
    size_bytes: int
    headers: dict[str, str] = {}
    keep: list[tuple[str, str]] = []

    @property
    def place(self) -> tuple[str, str]:
        """Folder and name."""
        return self.folder, self.name

    @property
    def path(self) -> str:
        """Folder and name as people see them."""
        return f"{self.folder}/{self.name}"


class Reply(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a gateway answers.

    Args:
        order: what is to be fetched next; None for nothing.
        go_on: whether what is being fetched is still wanted.
        why: why it is not.
    """

    order: Order | None = None
    go_on: bool = True
    why: str = ""


class Supply(Protocol):
    """Where a worker reports, and gets its orders."""

    async def report(self, report: Report) -> Reply:
        """Say how it stands, and hear what is next.

        Raises:
            SwitchyardError: no gateway answers, or it refuses.
        """


class Fetching(Protocol):
    """What fetches for a connector."""

    async def run(self, supply: Supply, lacking: Callable[[], list[Lack]]) -> None:
        """Ask for orders and carry them out, until cancelled.

        Args:
            supply: where they come from.
            lacking: what the worker was seen to lack of late.
        """


@runtime_checkable
class ModelConnector(Protocol):
    """A connector whose back end needs model files, which it may fetch."""

    fetching: Fetching | None


async def run_fetches(
    connectors: Iterable[object], supply: Supply, lacking: Callable[[], list[Lack]]
) -> None:
    """Fetch for all connectors that may, until cancelled."""
    found = [one.fetching for one in connectors if isinstance(one, ModelConnector)]
    async with asyncio.TaskGroup() as tasks:
        for fetching in found:
            if fetching is not None:
                tasks.create_task(fetching.run(supply, lacking))
