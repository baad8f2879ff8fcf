"""Limits on how many jobs may run at once and how many may start a minute, by tenant and name.

A limit is a record in the bucket `limits` and, for each of its numbers, that many token messages in the work
queue `TOKENS` with a durable consumer. The record is the truth; `Limits.apply` makes the tokens follow it,
and may be called by anybody at any time.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
import structlog
from msgspec import Meta
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.errors import UnavailableError, VersionConflictError
from switchyard.services.broker.bucket import Bucket, Form, Key, follow, json_values
from switchyard.services.broker.inbox import Inbox
from switchyard.services.broker.jetstream import DELETE_FAILED, GONE, NAK, NOTHING, api, pull_subject
from switchyard.services.broker.publisher import Publisher, PublishRefusedError
from switchyard.services.broker.reader import NO_MESSAGE, last_of_leader
from switchyard.services.settings import Settings

log = structlog.get_logger()

TENANT_WIDE: Final = "all"
MAX_TOKENS: Final = 10_000
MINUTE_S: Final = 60.0
EMPTY: Final = ("404", "408")  # a pull that found nothing
# A lease is given up for lost a whole lease after its last renewal; its place must not be free before.
LEASES_OF_A_PLACE: Final = 2.0

Places = Annotated[int, Meta(ge=1, le=MAX_TOKENS)]
KeepSeconds = Annotated[float, Meta(gt=0, le=3660 * 86400.0)]
Requests = Annotated[int, Meta(ge=1, le=1_000_000_000)]


class Limit(msgspec.Struct, frozen=True, omit_defaults=True):
    """One limit.

    Args:
        concurrency: how many of its jobs may run at once; None for any number.
        per_minute: how many of its jobs may start within any 60 seconds; None for any number.
        changed_at: when somebody set it.
        requests_per_minute: how many requests the tenant may make a minute, at each gateway; it has a meaning
            for the tenant's own limit alone.
        keep_s: how long its jobs stay after their end before they are archived; as for that.
        keep_dead_s: the same for dead ones; three times `keep_s` where it is not given.
        erase_s: after which its jobs that can be erased are, counted from their end; as for `keep_s`.
    """

    concurrency: Places | None
    per_minute: Places | None
    changed_at: datetime
    requests_per_minute: Requests | None = None
    keep_s: KeepSeconds | None = None
    keep_dead_s: KeepSeconds | None = None
    erase_s: KeepSeconds | None = None


def _are_names(key: Key) -> None:
    if not all(map(subjects.NAME.fullmatch, key)):
        raise ValueError("a key of tenant and name was expected")


LIMITS: Final = Form(
    name=subjects.BUCKET_LIMITS, parts=("tenant", "name"), values=json_values(Limit), check=_are_names
)  # fmt: skip


def limit_key(tenant: str, name: str) -> str:
    """What stands for a limit in a lane, and in the names of its tokens."""
    return f"{tenant}.{name}"


def _parts(key: str) -> Key:
    return tuple(key.split(".", 1))


class Limits:
    """Keeps the limits and their tokens."""

    def __init__(self, nc: Client, publisher: Publisher, settings: Settings) -> None:
        self._nc = nc
        self._publisher = publisher
        self._settings = settings
        self._timeout_s = settings.request_timeout_s
        self._bucket = Bucket(nc, LIMITS, publisher, timeout_s=self._timeout_s)
        self.known: dict[str, Limit] = {}

    async def load(self) -> None:
        """Learn the limits that there are.

        Raises:
            UnavailableError: the broker does not answer.
        """
        self.known = await self.all()

    async def run(self, *, applying: bool = False) -> None:
        """Learn of changes, until cancelled; a keeper applies them too."""
        async for entry in follow(self._bucket):
            key = limit_key(*entry.key)
            self._learn(key, entry.value)
            if applying:
                try:
                    await self.apply(key)
                except UnavailableError as error:  # it is applied again at the next change or start
                    log.warning("limit_not_applied", limit=key, error=str(error))

    def _learn(self, key: str, limit: Limit | None) -> None:
        if limit is None:
            self.known.pop(key, None)
        else:
            self.known[key] = limit

    def requests_of(self, tenant: str) -> int | None:
        """How many requests a tenant may make a minute; None for any number."""
        limit = self.known.get(limit_key(tenant, TENANT_WIDE))
        return None if limit is None else limit.requests_per_minute

    def tenants_own(self, tenant: str) -> Limit | None:
        """The limit for all that a tenant does."""
        return self.known.get(limit_key(tenant, TENANT_WIDE))

    def of(self, tenant: str, names: tuple[str, ...]) -> tuple[tuple[str, ...], str | None]:
        """The keys of a job's limits, its tenant's own included, and a name that is unknown, if one is."""
        keys = {limit_key(tenant, name) for name in names}
        unknown = next((name for name in names if limit_key(tenant, name) not in self.known), None)
        everything = limit_key(tenant, TENANT_WIDE)
        if (limit := self.known.get(everything)) is not None and (limit.concurrency or limit.per_minute):
            keys.add(everything)
        return tuple(sorted(keys)), unknown

    async def get(self, key: str) -> Limit | None:
        """The limit as it stands in the bucket.

        Raises:
            UnavailableError: the broker does not answer.
        """
        return (await self._bucket.get(_parts(key), leader=False)).value

    async def all(self) -> dict[str, Limit]:
        """Every limit by key.

        Raises:
            UnavailableError: the broker does not answer.
        """
        return {
            limit_key(*entry.key): entry.value
            for entry in await self._bucket.load()
            if entry.value is not None
        }

    async def may_start(self, key: str) -> bool:
        """Whether a start within this minute is left: a token is taken and handed back.

        Raises:
            UnavailableError: the broker does not answer.
        """
        consumer = subjects.token_consumer("start", key)
        call = pull_subject(subjects.TOKENS, consumer)
        async with Inbox(self._nc) as inbox:
            await self._nc.publish(call, b'{"batch":1,"no_wait":true}', reply=inbox.subject)
            try:
                token = await inbox.next(self._timeout_s)
            except TimeoutError:
                raise UnavailableError("the broker does not answer") from None
            if token.reply:
                await self._nc.publish(token.reply, NAK)
                return True
            status = (token.headers or {}).get("Status", "")
            if status not in EMPTY:  # the consumer has no leader, or is being made again
                raise UnavailableError(f"limit {key} cannot be read: status {status}")
            return False

    async def put(self, key: str, limit: Limit) -> None:
        """Set a limit; it holds when this returns.

        Raises:
            UnavailableError: the broker does not answer.
        """
        await self._bucket.put(_parts(key), limit)
        self._learn(key, limit)
        await self.apply(key)

    async def delete(self, key: str) -> None:
        """Remove a limit; jobs that count against it run without.

        Raises:
            UnavailableError: the broker does not answer.
        """
        await self._bucket.delete(_parts(key))
        self._learn(key, None)
        await self.apply(key)

    async def apply(self, key: str) -> None:
        """Make consumers and tokens what the record says.

        Raises:
            UnavailableError: the broker does not answer.
        """
        limit = await self.get(key)
        run_s = self._settings.lease_s * LEASES_OF_A_PLACE
        for sort, number, ack_wait_s in (
            ("run", limit and limit.concurrency, run_s),
            ("start", limit and limit.per_minute, MINUTE_S),
        ):
            await self.set_places(sort, key, number or 0, ack_wait_s)

    async def set_places(self, sort: str, key: str, number: int, ack_wait_s: float) -> None:
        """Have that many tokens of a sort; one that is not answered for so long can be taken again.

        Raises:
            UnavailableError: the broker does not answer.
        """
        if number:
            await self._make_consumer(sort, key, ack_wait_s)
        await self._set_tokens(sort, key, number)
        if number and await self._has_lost_all(sort, key):
            name = subjects.token_consumer(sort, key)
            log.warning("limit_places_lost", limit=key, consumer=name)
            await self._delete_consumer(name)  # the next one delivers every token
            await self._make_consumer(sort, key, ack_wait_s)

    async def remove_places(self, sort: str, key: str) -> None:
        """Have no tokens of a sort, and nothing that gives them out.

        Raises:
            UnavailableError: the broker does not answer.
        """
        await self._set_tokens(sort, key, 0)
        await self._delete_consumer(subjects.token_consumer(sort, key))

    async def _delete_consumer(self, name: str) -> None:
        await api(self._nc, f"CONSUMER.DELETE.{subjects.TOKENS}.{name}", timeout_s=self._timeout_s)

    async def _make_consumer(self, sort: str, key: str, ack_wait_s: float) -> None:
        name = subjects.token_consumer(sort, key)
        config = {
            "durable_name": name, "filter_subject": subjects.token(sort, key, "*"), "ack_policy": "explicit",
            "ack_wait": int(ack_wait_s * 1e9), "max_deliver": -1, "max_ack_pending": MAX_TOKENS,
            "max_waiting": 100_000,
        }  # fmt: skip
        body = {"stream_name": subjects.TOKENS, "config": config}
        await self._api(f"CONSUMER.DURABLE.CREATE.{subjects.TOKENS}.{name}", body)

    async def _has_lost_all(self, sort: str, key: str) -> bool:
        """Whether tokens are there and the consumer has none, neither given out nor to give."""
        last = await last_of_leader(
            self._nc, subjects.TOKENS, subjects.token(sort, key, "*"), timeout_s=self._timeout_s
        )
        consumer = f"{subjects.TOKENS}.{subjects.token_consumer(sort, key)}"
        info = await api(self._nc, f"CONSUMER.INFO.{consumer}", timeout_s=self._timeout_s)
        if last is None or "error" in info:
            return False
        return not info["num_pending"] and not info["num_ack_pending"]

    async def _set_tokens(self, sort: str, key: str, number: int) -> None:
        """Add the tokens that are missing and take away those that are too many, in use or not."""
        query = {"subjects_filter": subjects.token(sort, key, "*")}
        state = (await self._api(f"STREAM.INFO.{subjects.TOKENS}", query))["state"]
        wanted = {subjects.token(sort, key, place): 1 for place in range(number)}
        have: dict[str, int] = state.get("subjects") or {}
        for missing in wanted.keys() - have.keys():
            try:
                await self._publisher.publish(missing, b"", {subjects.H_EXPECTED_SEQ: "0"})
            except (VersionConflictError, PublishRefusedError):
                continue  # somebody else has added it
        if have.items() - wanted.items():
            await self._delete_surplus(subjects.token(sort, key, "*"), wanted.keys())

    async def _delete_surplus(self, tokens: str, wanted: Collection[str]) -> None:
        """Delete all but one token of each place, by their sequences and never by a purge of a subject.

        Tried on nats-server 2.15.1: a purge of some of what a consumer has delivered moves its floor of
        acknowledgements over the rest, and nobody gets those any more, at once or after the next start.
        """
        kept: set[str] = set()
        start = 1
        while (token := await self._next_token(tokens, start)) is not None:
            subject, start = token["subject"], token["seq"] + 1
            if subject in wanted and subject not in kept:
                kept.add(subject)
                continue
            query = {"seq": token["seq"], "no_erase": True}
            await api(
                self._nc, f"STREAM.MSG.DELETE.{subjects.TOKENS}", query, timeout_s=self._timeout_s,
                expected=GONE | {DELETE_FAILED},
            )  # fmt: skip

    async def _next_token(self, tokens: str, start: int) -> dict[str, Any] | None:
        """The first token from a sequence on, as the leader has it: a replica may not know of a new one."""
        query = {"seq": start, "next_by_subj": tokens}
        answer = await api(
            self._nc, f"STREAM.MSG.GET.{subjects.TOKENS}", query, timeout_s=self._timeout_s,
            expected={NO_MESSAGE},
        )  # fmt: skip
        found: dict[str, Any] | None = answer.get("message")
        return found

    async def _api(self, call: str, body: dict[str, Any]) -> dict[str, Any]:
        return await api(self._nc, call, body, timeout_s=self._timeout_s, expected=NOTHING)
