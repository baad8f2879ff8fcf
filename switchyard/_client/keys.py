"""API keys, for both clients: `client.keys`."""

from __future__ import annotations

from builtins import list as list_  # `AsyncKeys.list` hides it
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

from switchyard._client.transport import Transport
from switchyard.models import Key, NewKey

T = TypeVar("T")
_NEW = msgspec.json.Decoder(NewKey)
_ONE = msgspec.json.Decoder(Key)


class _Page(msgspec.Struct):
    keys: list_[Key]


class AsyncKeys:
    """The API keys of a tenant; needs role `tenant-admin`.

    An answer with a secret is never asked for again by itself: who repeats `create` makes another key.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def create(
        self,
        name: str,
        roles: Sequence[str],
        *,
        kinds: Sequence[str] | None = None,
        expires_at: datetime | None = None,
        expires_s: float | None = None,
        per_minute: int | None = None,
        burst: int | None = None,
        jobs_per_day: int | None = None,
        key: str | None = None,
        tenant: str | None = None,
    ) -> NewKey:
        """Make a key; its secret is `NewKey.key`, which nobody can ask for again.

        Args:
            name: for people.
            roles: at most one's own.
            kinds: which kinds of jobs it may submit and claim; any by default.
            expires_at: until when it counts, or
            expires_s: for how many seconds.
            per_minute: requests a minute, on average.
            burst: how many of those at once.
            jobs_per_day: jobs that it may submit in a day, by UTC.
            key: the secret, where another system made it; needs role `admin`.
            tenant: whose it is, for an operator or admin; one's own by default.
        """
        rate = None if per_minute is None else {"per_minute": per_minute, "burst": burst}
        fields: dict[str, Any] = {
            "name": name, "roles": list_(roles), "kinds": None if kinds is None else list_(kinds),
            "expires_at": expires_at and expires_at.astimezone(UTC).isoformat(), "expires_s": expires_s,
            "rate": rate, "spend": None if jobs_per_day is None else {"jobs_per_day": jobs_per_day},
            "key": key,
        }  # fmt: skip
        body = {field: value for field, value in fields.items() if value is not None}
        return _NEW.decode(await self._call("POST", "", tenant, json=body))

    async def list(self, *, tenant: str | None = None) -> list_[Key]:
        """The keys, the oldest first."""
        return msgspec.json.decode(await self._call("GET", "", tenant), type=_Page).keys

    async def get(self, key_id: str, *, tenant: str | None = None) -> Key:
        """One key, by its id."""
        return _ONE.decode(await self._call("GET", _path(key_id), tenant))

    async def rotate(self, key_id: str, *, overlap_s: float = 3600.0, tenant: str | None = None) -> NewKey:
        """Give a key another secret; the one before counts for `overlap_s` seconds more."""
        body = {"overlap_s": overlap_s}
        return _NEW.decode(await self._call("POST", _path(key_id, "/rotate"), tenant, json=body))

    async def revoke(self, key_id: str, *, tenant: str | None = None) -> None:
        """Take a key away, at every gateway."""
        await self._call("DELETE", _path(key_id), tenant)

    async def _call(self, method: str, path: str, tenant: str | None, **options: Any) -> bytes:
        params = {} if tenant is None else {"tenant": tenant}
        again = method == "GET"
        return await self._transport.call(method, f"/v1/keys{path}", params=params, again=again, **options)


class SyncKeys:
    """`AsyncKeys` for programs without asyncio: the same arguments, the same errors."""

    def __init__(self, run: Callable[[Coroutine[Any, Any, Any]], Any], keys: AsyncKeys) -> None:
        self._run = run
        self._keys = keys

    def create(self, name: str, roles: Sequence[str], **options: Any) -> NewKey:
        """Make a key; see `AsyncKeys.create`."""
        made: NewKey = self._run(self._keys.create(name, roles, **options))
        return made

    def list(self, *, tenant: str | None = None) -> list_[Key]:
        """The keys, the oldest first."""
        found: list_[Key] = self._run(self._keys.list(tenant=tenant))
        return found

    def get(self, key_id: str, *, tenant: str | None = None) -> Key:
        """One key, by its id."""
        found: Key = self._run(self._keys.get(key_id, tenant=tenant))
        return found

    def rotate(self, key_id: str, *, overlap_s: float = 3600.0, tenant: str | None = None) -> NewKey:
        """Give a key another secret; see `AsyncKeys.rotate`."""
        made: NewKey = self._run(self._keys.rotate(key_id, overlap_s=overlap_s, tenant=tenant))
        return made

    def revoke(self, key_id: str, *, tenant: str | None = None) -> None:
        """Take a key away, at every gateway."""
        self._run(self._keys.revoke(key_id, tenant=tenant))


def _path(key_id: str, rest: str = "") -> str:
    return f"/{quote(key_id, safe='')}{rest}"
