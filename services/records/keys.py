"""API keys: one record per key in the bucket `keys`, with hashes of its secrets and never one itself.

A key is `swy_`, 16 hex digits that are its id, `_` and 48 hex digits that are secret. One that another system
made has any form, and is found by its hash alone; a second entry, `foreign.<hash>`, says whose it is, so that
no two tenants have the same. When a key was last used is kept in memory and written once a minute.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import secrets
from datetime import datetime, timedelta
from typing import Annotated, Final

import msgspec
import structlog
from msgspec import Meta
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.errors import (
    ConflictError,
    LimitError,
    NotFoundError,
    UnavailableError,
    VersionConflictError,
)
from switchyard.services import clock
from switchyard.services.broker.bucket import Bucket, Entry, Form, Gone, Mirror, json_values
from switchyard.services.broker.publisher import AckLostError, Publisher
from switchyard.services.settings import Settings

log = structlog.get_logger()

PREFIX: Final = "swy_"
FORM: Final = re.compile(r"swy_(?P<id>[0-9a-f]{16})_[0-9a-f]{48}")
ID: Final = re.compile(r"[0-9a-f]{16}")
ID_BYTES: Final = 8
SECRET_BYTES: Final = 24
USED_S: Final = 60.0
SHOWN_S: Final = 30 * 86400.0
"""How long a key that has expired is still listed."""
CLAIM_S: Final = 60.0
"""How long whoever claims another system's key may take to write its record."""
USED_TTL_S: Final = 400 * 86400.0
"""After which nobody asks when a key was last used; it keeps the bucket bounded."""
MAX_SECRETS: Final = 8
"""Secrets of one key that are in force at once, while it is rotated."""

Hash = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]


class Secret(msgspec.Struct, frozen=True, omit_defaults=True):
    """One secret of a key: its SHA-256 in hex, and until when it counts, if not as long as the key."""

    hash: Hash
    until: datetime | None = None


class KeyRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """An API key.

    Args:
        id: names it everywhere; not a secret.
        tenant: whose it is.
        name: for people.
        roles: by name, without those that they imply.
        secrets: the newest first.
        created_at: when somebody made it.
        created_by: the actor who did.
        expires_at: until when it counts.
        kinds: which kinds of jobs it may submit and claim; None for any.
        per_minute: requests that it may make a minute; None for any number.
        burst: how many of those at once.
        jobs_per_day: jobs that it may submit in a day, by UTC; None for any number.
        rotated_at: when it was last given another secret.
        foreign: whether another system made its first secret.
    """

    id: Annotated[str, Meta(pattern=r"^[0-9a-f]{16}\Z")]
    tenant: Annotated[str, Meta(pattern=subjects.NAME_PATTERN)]
    name: str
    roles: tuple[str, ...]
    secrets: tuple[Secret, ...]
    created_at: datetime
    created_by: str
    expires_at: datetime | None = None
    kinds: tuple[str, ...] | None = None
    per_minute: Annotated[int, Meta(ge=1)] | None = None
    burst: Annotated[int, Meta(ge=0)] = 0
    jobs_per_day: Annotated[int, Meta(ge=1)] | None = None
    rotated_at: datetime | None = None
    foreign: bool = False

    def ended_at(self, secret: Secret) -> datetime | None:
        """Until when one of its secrets counts; None for ever."""
        ends = [end for end in (self.expires_at, secret.until) if end is not None]
        return min(ends, default=None)


class _Used(msgspec.Struct, frozen=True):
    at: datetime


class _Claim(msgspec.Struct, frozen=True):
    id: str
    at: datetime


def _belongs(key: tuple[str, ...], record: KeyRecord) -> None:
    if key != (record.id,):
        raise ValueError("it stands in another place than its own")


_GONE: Final = Gone("PURGE", rolls_up=True, ttl_s=3600)
_RECORDS: Final = Form(
    name=subjects.BUCKET_KEYS, parts=("id",), under=("api",), values=json_values(KeyRecord),
    belongs=_belongs, gone=_GONE,
)  # fmt: skip
_FOREIGN: Final = Form(
    name=subjects.BUCKET_KEYS, parts=("hash",), under=("foreign",), values=json_values(_Claim), gone=_GONE
)
_USED: Final = Form(
    name=subjects.BUCKET_KEYS, parts=("id",), under=("used",), values=json_values(_Used), gone=_GONE
)


def hash_of(secret: str) -> str:
    """The SHA-256 of a key, in hex."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


class ApiKeys:
    """Reads and writes keys; knows all of them once it is loaded, and learns of changes while it runs.

    Args:
        nc: an open connection.
        publisher: started, on the same connection.
        settings: limits and timeouts.
    """

    def __init__(self, nc: Client, publisher: Publisher, settings: Settings) -> None:
        self._settings = settings
        timeout_s = settings.request_timeout_s
        self._records = Bucket(nc, _RECORDS, publisher, timeout_s=timeout_s, tries=settings.append_tries)
        self._claims = Bucket(nc, _FOREIGN, publisher, timeout_s=timeout_s, tries=settings.append_tries)
        self._uses = Bucket(nc, _USED, publisher, timeout_s=timeout_s)
        self._known = Mirror(self._records, on_change=self._learn)
        self._used = Mirror(self._uses)
        self._foreign: dict[str, str] = {}
        self._hashes: dict[str, tuple[str, ...]] = {}
        self._now_used: dict[str, datetime] = {}

    # --- Reads

    async def load(self) -> None:
        """Read all keys, so that none is missed from the first request on.

        Raises:
            UnavailableError: the broker does not answer.
        """
        await self._known.load()
        await self._used.load()

    async def run(self) -> None:
        """Follow the keys, and write when they were used, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._known.run())
            tasks.create_task(self._used.run())
            tasks.create_task(self._note_uses())

    async def find(self, secret: str) -> tuple[KeyRecord, Secret] | None:
        """The key that a secret opens, whether or not its time is over; None when it is nobody's.

        One of our form that is not known here is asked of the broker: another gateway may just have made it.

        Raises:
            UnavailableError: the broker does not answer.
        """
        digest = hash_of(secret)
        form = FORM.fullmatch(secret)
        if form is not None:
            record = await self.known(form["id"])
        else:
            place = self._foreign.get(digest)
            record = None if place is None else self._known.get(place)
        for one in () if record is None else record.secrets:
            if record is not None and hmac.compare_digest(one.hash, digest):
                return record, one
        return None

    async def known(self, key_id: str) -> KeyRecord | None:
        """A key as it is known here; one that is not is asked of the broker. None where there is none.

        Raises:
            UnavailableError: the broker does not answer.
        """
        return self._known.get(key_id) or await self._look(key_id)

    async def _look(self, key_id: str) -> KeyRecord | None:
        entry = await self._records.get(key_id)
        if entry.value is not None:
            self._known.note(entry)
        return entry.value

    def of(self, tenant: str | None) -> list[KeyRecord]:
        """The keys of a tenant, or of all, the oldest first."""
        found = [entry.value for entry in self._known.entries.values() if entry.value is not None]
        return sorted(
            (record for record in found if tenant in (None, record.tenant)),
            key=lambda record: (record.created_at, record.id),
        )

    def last_used(self, key_id: str) -> datetime | None:
        """When a key was last used, as far as is known here; up to a minute late for other gateways' sake."""
        written = self._used.get(key_id)
        times = [] if written is None else [written.at]
        if (here := self._now_used.get(key_id)) is not None:
            times.append(here)
        return max(times, default=None)

    def use(self, key_id: str) -> None:
        """Note that a key is used now; it is written within a minute."""
        self._now_used[key_id] = clock.now()

    async def get(self, tenant: str | None, key_id: str) -> KeyRecord:
        """A key as the broker knows it now.

        Raises:
            NotFoundError: the tenant has none of this id.
            UnavailableError: the broker does not answer.
        """
        return (await self._entry(tenant, key_id))[1]

    async def _entry(self, tenant: str | None, key_id: str) -> tuple[Entry[KeyRecord], KeyRecord]:
        if ID.fullmatch(key_id):
            entry = await self._records.get(key_id)
            if entry.value is not None and tenant in (None, entry.value.tenant):
                return entry, entry.value
        raise NotFoundError(f"there is no key {key_id[:16]}", field="id")

    # --- Writes

    async def create(self, record: KeyRecord, foreign: str | None = None) -> tuple[KeyRecord, str]:
        """Write a new key; it counts at every gateway when this returns.

        Args:
            record: what it allows; id and secrets are drawn here.
            foreign: the secret that another system made.

        Returns:
            The record, and the secret, which is kept nowhere.

        Raises:
            LimitError: its tenant has as many keys as it may.
            ConflictError: the foreign secret is a key already.
            UnavailableError: the broker does not answer.
        """
        most = self._settings.api_keys
        if len(self.of(record.tenant)) >= most:
            message = f"tenant {record.tenant} has {most} keys, the most allowed"
            raise LimitError(message, status=422, code="too_many_keys")
        key_id = secrets.token_hex(ID_BYTES)
        secret = foreign or _draw(key_id)
        digest = hash_of(secret)
        if foreign is not None:
            await self._claim(digest, key_id)
        made = msgspec.structs.replace(
            record, id=key_id, secrets=(Secret(digest),), foreign=foreign is not None
        )
        await self._write(made, revision=0)
        return made, secret

    async def rotate(self, tenant: str | None, key_id: str, overlap_s: float) -> tuple[KeyRecord, str]:
        """Give a key another secret; those that it had count for `overlap_s` seconds more at most.

        Raises:
            NotFoundError: the tenant has no such key.
            ConflictError: another request changed it meanwhile.
            LimitError: too many of its secrets are in force.
            UnavailableError: the broker does not answer.
        """
        entry, record = await self._entry(tenant, key_id)
        now = clock.now()
        end = now + timedelta(seconds=overlap_s)
        kept = [
            Secret(one.hash, end if one.until is None else min(one.until, end))
            for one in record.secrets
            if one.until is None or one.until > now
        ]
        kept = [one for one in kept if one.until is not None and one.until > now]
        if len(kept) >= MAX_SECRETS:
            message = f"{len(kept)} earlier secrets of this key still count, the most allowed"
            raise LimitError(message, status=422, code="too_many_secrets", field="overlap_s")
        secret = _draw(key_id)
        made = msgspec.structs.replace(record, secrets=(Secret(hash_of(secret)), *kept), rotated_at=now)
        await self._write(made, revision=entry.revision)
        return made, secret

    async def revoke(self, tenant: str | None, key_id: str) -> None:
        """Take a key away; other gateways know within moments.

        Raises:
            NotFoundError: the tenant has no such key.
            ConflictError: another request changed it meanwhile.
            UnavailableError: the broker does not answer.
        """
        entry, record = await self._entry(tenant, key_id)
        try:
            self._known.note(await self._records.delete(key_id, revision=entry.revision))
        except VersionConflictError:
            raise ConflictError("another request changed the key meanwhile") from None
        except AckLostError as error:
            raise UnavailableError(f"the broker does not acknowledge it: {error}") from error
        self._now_used.pop(key_id, None)
        await self._uses.delete(key_id)
        if record.foreign:
            for one in record.secrets:
                claim = await self._claims.get(one.hash)
                if claim.value is not None and claim.value.id == key_id:
                    await self._claims.delete(one.hash, revision=claim.revision)

    async def _claim(self, digest: str, key_id: str) -> None:
        """Take another system's key for one of ours.

        Raises:
            ConflictError: it is a key already.
        """
        found = await self._claims.get(digest)
        if found.value is not None:
            is_new = found.value.at > clock.now() - timedelta(seconds=CLAIM_S)
            owner = (await self._records.get(found.value.id)).value
            if is_new or (owner is not None and any(one.hash == digest for one in owner.secrets)):
                raise ConflictError("key: it is an API key already", code="key_exists")
        try:
            await self._claims.put(digest, _Claim(key_id, clock.now()), revision=found.revision)
        except VersionConflictError:
            raise ConflictError("key: it is an API key already", code="key_exists") from None

    async def _write(self, record: KeyRecord, *, revision: int) -> None:
        ttl_s = None
        if record.expires_at is not None:
            ttl_s = max(0.0, (record.expires_at - clock.now()).total_seconds()) + SHOWN_S
        try:
            entry = await self._records.put(record.id, record, revision=revision, ttl_s=ttl_s)
        except VersionConflictError:
            raise ConflictError("another request changed the key meanwhile") from None
        except AckLostError as error:
            raise UnavailableError(f"the broker does not acknowledge the key: {error}") from error
        self._known.note(entry)

    # --- What is known

    def _learn(self, entry: Entry[KeyRecord]) -> None:
        for digest in self._hashes.pop(entry.key[0], ()):
            self._foreign.pop(digest, None)
        if entry.value is not None and entry.value.foreign:
            digests = self._hashes[entry.key[0]] = tuple(one.hash for one in entry.value.secrets)
            self._foreign.update(dict.fromkeys(digests, entry.key[0]))

    async def _note_uses(self) -> None:
        """Write once a minute which keys were used; what is lost with a process is that minute."""
        while True:
            await asyncio.sleep(USED_S)
            await self.write_uses()

    async def write_uses(self) -> None:
        """Write when keys were used, those of which that is not known already."""
        for key_id, at in list(self._now_used.items()):
            written = self._used.get(key_id)
            if self._known.get(key_id) is None or (written is not None and written.at >= at):
                self._now_used.pop(key_id, None)
                continue
            try:
                self._used.note(await self._uses.put(key_id, _Used(at), ttl_s=USED_TTL_S))
            except (UnavailableError, AckLostError) as error:
                log.warning("key_use_not_written", error=str(error))
                return  # in a minute again
            if self._now_used.get(key_id) == at:
                del self._now_used[key_id]


def _draw(key_id: str) -> str:
    return f"{PREFIX}{key_id}_{secrets.token_hex(SECRET_BYTES)}"
