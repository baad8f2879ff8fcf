"""How many jobs of a tenant may run at once and start a minute, all together or by name."""

from __future__ import annotations

from typing import NamedTuple

from switchyard.events import subjects
from switchyard.events.errors import InvalidError, NotFoundError
from switchyard.projections.reader import ReadModel
from switchyard.services import clock
from switchyard.services.records.lanes import Lanes
from switchyard.services.records.limits import TENANT_WIDE, Limit, Limits, limit_key

SHOWN_CHARS = 80


class Use(NamedTuple):
    """How much of a limit is in use: how many of its jobs run, and whether one more may start this minute."""

    running: int
    starts_left: bool


class TenantLimits:
    """Reads and sets limits by tenant and name; `all` is the tenant's own, for every job of it."""

    def __init__(self, limits: Limits, lanes: Lanes, read_model: ReadModel) -> None:
        self._limits = limits
        self._lanes = lanes
        self._read_model = read_model

    async def put(
        self,
        tenant: str,
        name: str,
        *,
        concurrency: int | None,
        per_minute: int | None,
        requests_per_minute: int | None = None,
    ) -> tuple[Limit, bool]:
        """Set a limit; it, and whether it is new.

        Raises:
            InvalidError: the name is none, none of the three is there, or another limit than the tenant's own
                counts requests.
        """
        key = _key(tenant, name)
        if concurrency is None and per_minute is None and requests_per_minute is None:
            message = "concurrency, per_minute or requests_per_minute: one of them was expected"
            raise InvalidError(message, field="concurrency")
        if requests_per_minute is not None and name != TENANT_WIDE:
            message = f"requests_per_minute: only the limit {TENANT_WIDE} counts requests"
            raise InvalidError(message, field="requests_per_minute")
        created = await self._limits.get(key) is None
        limit = Limit(concurrency, per_minute, clock.now(), requests_per_minute)
        await self._limits.put(key, limit)
        return limit, created

    async def get(self, tenant: str, name: str) -> Limit:
        """A limit.

        Raises:
            NotFoundError: there is none of that name.
        """
        limit = await self._limits.get(_key(tenant, name))
        if limit is None:
            raise NotFoundError(f"there is no limit {name[:SHOWN_CHARS]}", field="name")
        return limit

    async def all(self, tenant: str) -> dict[str, Limit]:
        """The limits of a tenant, by name."""
        found = await self._limits.all()
        prefix = limit_key(tenant, "")
        return {key.removeprefix(prefix): found[key] for key in sorted(found) if key.startswith(prefix)}

    async def delete(self, tenant: str, name: str) -> None:
        """Let jobs that count against a limit run without.

        Raises:
            NotFoundError: there is none of that name.
        """
        await self.get(tenant, name)
        await self._limits.delete(_key(tenant, name))

    async def use(self, tenant: str, name: str, limit: Limit) -> Use:
        """How much of a limit is in use."""
        return await self.use_of(limit_key(tenant, name), limit)

    async def use_of(self, key: str, limit: Limit) -> Use:
        """How much of the limit with a key is in use."""
        running = self._read_model.running_in(self._lanes.with_limit(key))
        starts_left = limit.per_minute is None or await self._limits.may_start(key)
        return Use(running, starts_left)

    def known(self, key: str) -> Limit | None:
        """The limit with a key, as far as this process knows."""
        return self._limits.known.get(key)


def _key(tenant: str, name: str) -> str:
    """The key of a limit.

    Raises:
        InvalidError: the name is none.
    """
    if subjects.NAME.fullmatch(name) is None:
        raise InvalidError(f"name: a name that matches {subjects.NAME.pattern} was expected", field="name")
    return limit_key(tenant, name)
