"""The bucket `workflows`: heads and versions, and those versions in memory that were used of late."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import msgspec
from nats.aio.client import Client

from switchyard.events.errors import NotFoundError, UnavailableError, VersionConflictError
from switchyard.services import clock
from switchyard.services.broker.bucket import Bucket
from switchyard.services.broker.bucket_use import Bounds, BucketUse
from switchyard.services.broker.publisher import Publisher
from switchyard.services.records.workflows.record import (
    HEAD,
    VERSION,
    WORKFLOWS,
    Head,
    Reference,
    Template,
    Version,
    place_of,
)
from switchyard.services.settings import Settings

HEAD_BYTES: Final = 256
DELETED_S: Final = 400 * 86400.0
"""How long the last number of a deleted workflow is remembered: no other one gets it in that time."""


class Workflows:
    """Reads and writes workflows.

    Args:
        nc: an open connection.
        publisher: started, on the same connection; only writes need it.
        settings: limits and timeouts.
        use: how much each tenant has, where writes are to be refused for that.
    """

    def __init__(
        self, nc: Client, publisher: Publisher, settings: Settings, use: BucketUse | None = None
    ) -> None:
        self._bucket = Bucket(
            nc, WORKFLOWS, publisher, timeout_s=settings.request_timeout_s, tries=settings.append_tries,
            use=use,
        )  # fmt: skip
        self._tries = settings.append_tries
        self._most_bytes = settings.workflow_cache_bytes
        self._known: OrderedDict[tuple[str, str], tuple[Version, int]] = OrderedDict()
        self._known_bytes = 0

    # --- Reads

    async def head(self, tenant: str, name: str) -> Head:
        """A workflow as a whole.

        Raises:
            NotFoundError: the tenant has none of this name.
            UnavailableError: the broker does not answer.
        """
        head, _ = await self._head(tenant, name)
        if head is None or not head.is_there:
            raise _missing(name)
        return head

    async def heads(self, tenant: str) -> list[Head]:
        """Those of a tenant, by name.

        Raises:
            UnavailableError: the broker does not answer.
        """
        entries = await self._bucket.load(tenant, HEAD)
        found = [one.value for one in entries if isinstance(one.value, Head) and one.value.is_there]
        return sorted(found, key=lambda head: head.name)

    async def find(self, tenant: str, wanted: Reference) -> Version:
        """A version.

        Raises:
            NotFoundError: the tenant has none of this name, or not in this version.
            UnavailableError: the broker does not answer.
        """
        head = await self.head(tenant, wanted.name)
        number = wanted.number or head.latest
        version = None if number <= head.gone else await self._version(tenant, wanted.name, number)
        if version is None:
            message = f"workflow {wanted.name} has no version {number}; its newest is {head.latest}"
            raise NotFoundError(message, field="workflow")
        return version

    async def versions(self, tenant: str, name: str) -> list[int]:
        """The numbers of a workflow's versions, oldest first.

        Raises:
            NotFoundError: the tenant has none of this name.
            UnavailableError: the broker does not answer.
        """
        head = await self.head(tenant, name)
        numbers = await self._numbers(tenant, name)
        return [number for number in numbers if head.gone < number <= head.latest]

    async def _numbers(self, tenant: str, name: str) -> list[int]:
        """The numbers of all that stands there, oldest first."""
        found = [place.rpartition("@") for _, _, place in await self._bucket.keys(tenant, VERSION)]
        return sorted(int(number) for of, _, number in found if of == name and number.isdecimal())

    # --- Writes

    async def put(self, tenant: str, name: str, template: Template, actor: str) -> tuple[Version, bool]:
        """Make a version, unless the newest one says the same; the newest then, and whether it is new.

        Raises:
            LimitError: the tenant has as many workflows, versions or bytes as it may.
            UnavailableError: the broker does not answer, or others were always faster.
        """
        made: Version | None = None
        is_new = True
        for _ in range(self._tries):
            head, revision = await self._head(tenant, name)
            if head is None:
                # Where a head cannot be read, the versions say which number comes next.
                latest = max(await self._numbers(tenant, name), default=0) if revision else 0
                head = Head(tenant=tenant, name=name, latest=latest, updated_at=clock.now())
                self._bucket.check_room((tenant, HEAD, name), HEAD_BYTES)  # before a version is made
            if made is None and head.is_there:
                newest = await self._version(tenant, name, head.latest)
                if newest is not None and newest.template == template:
                    return newest, False
            if made is None:
                made, is_new = await self._make(tenant, name, head.latest + 1, template, actor)
            if made.number <= head.latest:
                return made, is_new  # a newer one stands in the head already
            after = msgspec.structs.replace(
                head, latest=made.number, kind=template.kind, title=template.title, updated_at=clock.now()
            )
            try:
                await self._bucket.put((tenant, HEAD, name), after, revision=revision)
            except VersionConflictError:
                continue
            return made, is_new
        raise UnavailableError(f"workflow {name}: other writers were always faster")

    async def delete(self, tenant: str, name: str) -> None:
        """Delete a workflow with all of its versions; jobs that were made of it have what they need.

        Raises:
            NotFoundError: the tenant has none of this name.
            UnavailableError: the broker does not answer, or others were always faster.
        """
        for _ in range(self._tries):
            head, revision = await self._head(tenant, name)
            if head is None or not head.is_there:
                raise _missing(name)
            gone = msgspec.structs.replace(head, gone=head.latest, updated_at=clock.now())
            try:
                await self._bucket.put((tenant, HEAD, name), gone, revision=revision, ttl_s=DELETED_S)
            except VersionConflictError:
                continue
            for number in await self._numbers(tenant, name):
                if not head.gone < number <= head.latest:
                    continue
                await self._bucket.delete((tenant, VERSION, place_of(name, number)))
                self._forget((tenant, place_of(name, number)))
            return
        raise UnavailableError(f"workflow {name}: other writers were always faster")

    async def _make(
        self, tenant: str, name: str, least: int, template: Template, actor: str
    ) -> tuple[Version, bool]:
        """The version, written under the first number from one on that is free, and whether it is new.

        One that is taken is of somebody who is about to say so in the head, or who died before that; if it
        says the same, it is the version.
        """
        for number in range(least, least + self._tries):
            version = Version(
                tenant=tenant, name=name, number=number, template=template, created_at=clock.now(),
                created_by=actor,
            )  # fmt: skip
            try:
                await self._bucket.create((tenant, VERSION, place_of(name, number)), version)
            except VersionConflictError:
                taken = await self._version(tenant, name, number)
                if taken is not None and taken.template == template:
                    return taken, False
                continue
            return version, True
        raise UnavailableError(f"workflow {name}: other writers were always faster")

    # --- Entries

    async def _head(self, tenant: str, name: str) -> tuple[Head | None, int]:
        entry = await self._bucket.get((tenant, HEAD, name))
        return (entry.value if isinstance(entry.value, Head) else None), entry.revision

    async def _version(self, tenant: str, name: str, number: int) -> Version | None:
        key = tenant, place_of(name, number)
        if (known := self._known.get(key)) is not None:
            self._known.move_to_end(key)
            return known[0]
        entry = await self._bucket.get((tenant, VERSION, key[1]))
        if not isinstance(entry.value, Version):
            return None
        self._known[key] = entry.value, entry.size_bytes
        self._known_bytes += entry.size_bytes
        while self._known_bytes > self._most_bytes and len(self._known) > 1:
            self._forget(next(iter(self._known)))
        return entry.value

    def _forget(self, key: tuple[str, str]) -> None:
        _, size_bytes = self._known.pop(key, (None, 0))
        self._known_bytes -= size_bytes


def use_of(nc: Client, settings: Settings) -> BucketUse:
    """Counts what each tenant has."""
    bounds = Bounds(
        "workflows", settings.workflows, settings.workflow_bytes, status=422, code="too_many_workflows",
        of_sorts={VERSION: settings.workflow_versions},
    )  # fmt: skip
    return BucketUse(nc, WORKFLOWS.stream, bounds, timeout_s=settings.request_timeout_s)


def _missing(name: str) -> NotFoundError:
    return NotFoundError(f"there is no workflow {name}", field="workflow")
