"""What the jobs of a kind are like where a submission does not say: the bucket `kinds`, kept in memory."""

from __future__ import annotations

import contextlib
from typing import Annotated, Final

import msgspec
from msgspec import Meta
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.errors import LimitError
from switchyard.events.retry import RetryPolicy
from switchyard.events.subjects import NAME_PATTERN
from switchyard.events.values import Ageing
from switchyard.services.broker.publisher import Publisher
from switchyard.services.broker.quarantine import read_or
from switchyard.services.broker.reader import PAGE, Stored, follow, read_range
from switchyard.services.settings import Settings

STREAM: Final = f"KV_{subjects.BUCKET_KINDS}"
DAY_S: Final = 86400.0
MAX_RETRY_S: Final = 366 * DAY_S
MAX_WAIT_S: Final = 3660 * DAY_S
MAX_WEIGHT: Final = 1000

Priority = Annotated[int, Meta(ge=0, le=100)]
Attempts = Annotated[int, Meta(ge=1, le=100)]
AttemptSeconds = Annotated[float, Meta(gt=0, le=MAX_RETRY_S)]
WaitSeconds = Annotated[float, Meta(gt=0, le=MAX_WAIT_S)]
Tenant = Annotated[str, Meta(pattern=NAME_PATTERN)]


class RetryRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Delays between attempts, as in `switchyard.events.retry.RetryPolicy`."""

    base_s: Annotated[float, Meta(ge=0, le=MAX_RETRY_S)] = 5.0
    factor: Annotated[float, Meta(ge=1, le=100)] = 2.0
    max_s: Annotated[float, Meta(ge=0, le=MAX_RETRY_S)] = 3600.0
    jitter: Annotated[float, Meta(ge=0, le=1)] = 0.1

    def policy(self) -> RetryPolicy:
        """As events hold it."""
        return RetryPolicy(self.base_s, self.factor, self.max_s, self.jitter)


class AgeingRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a waiting job's priority rises, as in `switchyard.events.values.Ageing`."""

    every_s: Annotated[float, Meta(ge=1, le=MAX_RETRY_S)]
    step: Annotated[int, Meta(ge=1, le=100)] = 1
    max: Priority = 100

    def ageing(self) -> Ageing:
        """As events hold it."""
        return Ageing(self.every_s, self.step, self.max)


class KindDefaults(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a kind's jobs get where their submission does not say; None leaves it to Switchyard's own default.

    Args:
        queue_timeout_s: within which a job has to start, counted from when it is first queued.
        deadline_s: for the whole job, counted from its submission or its start time.
        fair_share: whether tenants share the kind's workers by weight.
        weights: of tenants in that; one that is not named weighs 1.
    """

    priority: Priority | None = None
    max_attempts: Attempts | None = None
    retry: RetryRequest | None = None
    attempt_timeout_s: AttemptSeconds | None = None
    queue_timeout_s: WaitSeconds | None = None
    deadline_s: WaitSeconds | None = None
    ageing: AgeingRequest | None = None
    fair_share: bool = False
    weights: dict[Tenant, Annotated[int, Meta(ge=1, le=MAX_WEIGHT)]] = {}


DECODER: Final = msgspec.json.Decoder(KindDefaults)
NONE: Final = KindDefaults()


class Kinds:
    """The defaults of every kind that has some, kept current by push.

    Args:
        nc: an open connection.
        publisher: started, on the same connection.
        settings: limits and timeouts.
    """

    def __init__(self, nc: Client, publisher: Publisher, settings: Settings) -> None:
        self._nc = nc
        self._publisher = publisher
        self._settings = settings
        self._kinds: dict[str, KindDefaults] = {}
        self._versions: dict[str, int] = {}
        self._seen = 0

    def of(self, kind: str) -> KindDefaults:
        """The kind's defaults; `NONE` when it has none of its own."""
        return self._kinds.get(kind, NONE)

    def all(self) -> dict[str, KindDefaults]:
        """All kinds that have some, by name."""
        return {kind: self._kinds[kind] for kind in sorted(self._kinds)}

    async def put(self, kind: str, defaults: KindDefaults) -> None:
        """Set a kind's defaults in the place of those it had; in force here at once, elsewhere in moments.

        Raises:
            LimitError: there are too many kinds, or weights.
            UnavailableError: the broker does not answer.
        """
        if kind not in self._kinds and len(self._kinds) >= self._settings.kinds:
            raise LimitError(
                f"{self._settings.kinds} kinds have defaults, which is the most", status=422, field="kind"
            )
        if len(defaults.weights) > self._settings.kind_weights:
            most = self._settings.kind_weights
            raise LimitError(
                f"weights: {len(defaults.weights)} of at most {most}", status=422, field="weights"
            )
        body = msgspec.json.encode(defaults)
        self._note(kind, defaults, await self._publisher.publish(subjects.kind_entry(kind), body, {}))

    async def delete(self, kind: str) -> None:
        """Take a kind's defaults away.

        Raises:
            UnavailableError: the broker does not answer.
        """
        headers = {"KV-Operation": "PURGE", subjects.H_ROLLUP: "sub"}
        self._note(kind, None, await self._publisher.publish(subjects.kind_entry(kind), b"", headers))

    async def load(self) -> None:
        """Read all of them, so that none is missed from the first submission on."""
        while True:
            found = await read_range(
                self._nc, STREAM, subjects.kind_entry(">"),
                start=self._seen + 1, limit=PAGE, timeout_s=self._settings.request_timeout_s,
            )  # fmt: skip
            for stored in found:
                await self._take(stored)
            if len(found) < PAGE:
                return

    async def run(self) -> None:
        """Follow the bucket until cancelled."""
        timeout_s = self._settings.request_timeout_s
        changes = follow(self._nc, STREAM, start=self._seen + 1, timeout_s=timeout_s)
        async with contextlib.aclosing(changes):
            async for stored in changes:
                await self._take(stored)

    async def _take(self, stored: Stored) -> None:
        self._seen = stored.seq
        # Defaults that cannot be read are none.
        defaults = await read_or(self._nc, STREAM, stored, _defaults, None)
        self._note(stored.subject.split(".", 2)[2], defaults, stored.seq)

    def _note(self, kind: str, defaults: KindDefaults | None, seq: int) -> None:
        if seq <= self._versions.get(kind, 0):
            return  # what was written here is told to us as well
        self._versions[kind] = seq
        self._kinds.pop(kind, None)
        if defaults is not None:
            self._kinds[kind] = defaults


def _defaults(stored: Stored) -> KindDefaults | None:
    """What a message of the bucket sets; None when it takes away."""
    if not subjects.is_name(stored.subject.split(".", 2)[2]):
        raise ValueError("the name of a kind was expected")
    return DECODER.decode(stored.data) if stored.data else None
