"""How many jobs of a tenant may run at once and start a minute, all together or by name."""

from __future__ import annotations

from typing import Any, NamedTuple

from switchyard.events import subjects
from switchyard.events.errors import InvalidError, NotFoundError
from switchyard.projections.lists.brief import Brief
from switchyard.projections.reader import ReadModel
from switchyard.services import clock
from switchyard.services.records.lanes import Lanes
from switchyard.services.records.limits import TENANT_WIDE, Limit, Limits, limit_key

SHOWN_CHARS = 80
MOST_HOLDERS = 100


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
        keep_s: float | None = None,
        keep_dead_s: float | None = None,
        erase_s: float | None = None,
    ) -> tuple[Limit, bool]:
        """Set a limit; it, and whether it is new.

        Raises:
            InvalidError: the name is none, no number is there, or another limit than the tenant's own has one
                that only that may have.
        """
        key = _key(tenant, name)
        of_tenant: dict[str, Any] = {
            "requests_per_minute": requests_per_minute, "keep_s": keep_s, "keep_dead_s": keep_dead_s,
            "erase_s": erase_s,
        }  # fmt: skip
        given = [field for field, value in of_tenant.items() if value is not None]
        if concurrency is None and per_minute is None and not given:
            message = f"concurrency, per_minute, {', '.join(of_tenant)}: one of them was expected"
            raise InvalidError(message, field="concurrency")
        if given and name != TENANT_WIDE:
            message = f"{given[0]}: only the limit {TENANT_WIDE} may have it"
            raise InvalidError(message, field=given[0])
        created = await self._limits.get(key) is None
        limit = Limit(concurrency, per_minute, clock.now(), **of_tenant)
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

    def holders(self, tenant: str, name: str) -> list[Brief]:
        """Jobs that take places of a limit now, `MOST_HOLDERS` of them at most."""
        lanes = self._lanes.with_limit(limit_key(tenant, name))
        return self._read_model.jobs_in(lanes, tenant, MOST_HOLDERS)

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
