"""What the jobs of a kind are like where a submission does not say: the bucket `kinds`, kept in memory."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.errors import LimitError
from switchyard.events.retry import RetryPolicy
from switchyard.events.subjects import NAME_PATTERN
from switchyard.events.values import Ageing
from switchyard.services.broker.bucket import Bucket, Form, Gone, Key, Mirror, json_values
from switchyard.services.broker.publisher import Publisher
from switchyard.services.settings import Settings

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
        keep_s: for which a job stays after its end before it is archived.
        keep_dead_s: the same for a dead job; three times `keep_s` where it is not given.
        fair_share: whether tenants share the kind's workers by weight.
        weights: those of tenants in that; one that is not named weighs 1.
        erasable: whether the content of its jobs can be erased, and so stands in files alone.
        erase_s: after which its jobs are erased, counted from their end; the longest that one may ask for.
    """

    priority: Priority | None = None
    max_attempts: Attempts | None = None
    retry: RetryRequest | None = None
    attempt_timeout_s: AttemptSeconds | None = None
    queue_timeout_s: WaitSeconds | None = None
    deadline_s: WaitSeconds | None = None
    ageing: AgeingRequest | None = None
    keep_s: WaitSeconds | None = None
    keep_dead_s: WaitSeconds | None = None
    fair_share: bool = False
    erasable: bool = False
    erase_s: WaitSeconds | None = None
    weights: dict[Tenant, Annotated[int, Meta(ge=1, le=MAX_WEIGHT)]] = {}


DECODER: Final = msgspec.json.Decoder(KindDefaults)
NONE: Final = KindDefaults()


def _is_kind(key: Key) -> None:
    if not subjects.is_name(key[0]):
        raise ValueError("the name of a kind was expected")


KINDS: Final = Form(
    name=subjects.BUCKET_KINDS, parts=("kind",), values=json_values(KindDefaults), check=_is_kind,
    gone=Gone("PURGE", rolls_up=True),
)  # fmt: skip


class Kinds:
    """The defaults of every kind that has some, kept current by push.

    Args:
        nc: an open connection.
        publisher: started, on the same connection.
        settings: limits and timeouts.
    """

    def __init__(self, nc: Client, publisher: Publisher, settings: Settings) -> None:
        self._settings = settings
        self._bucket = Bucket(nc, KINDS, publisher, timeout_s=settings.request_timeout_s)
        self._mirror = Mirror(self._bucket)
        self.load: Final = self._mirror.load
        self.run: Final = self._mirror.run

    def of(self, kind: str) -> KindDefaults:
        """The kind's defaults; `NONE` when it has none of its own."""
        return self._mirror.get(kind) or NONE

    def all(self) -> dict[str, KindDefaults]:
        """All kinds that have some, by name."""
        return {kind: self.of(kind) for (kind,) in sorted(self._mirror.entries)}

    async def put(self, kind: str, defaults: KindDefaults) -> None:
        """Set a kind's defaults in the place of those it had; in force here at once, elsewhere in moments.

        Raises:
            LimitError: there are too many kinds, or weights.
            UnavailableError: the broker does not answer.
        """
        known = self._mirror.entries
        if (kind,) not in known and len(known) >= self._settings.kinds:
            raise LimitError(
                f"{self._settings.kinds} kinds have defaults, the most allowed", status=422, field="kind"
            )
        if len(defaults.weights) > self._settings.kind_weights:
            most = self._settings.kind_weights
            raise LimitError(
                f"weights: {len(defaults.weights)} of at most {most}", status=422, field="weights"
            )
        self._mirror.note(await self._bucket.put(kind, defaults))

    async def delete(self, kind: str) -> None:
        """Take a kind's defaults away.

        Raises:
            UnavailableError: the broker does not answer.
        """
        self._mirror.note(await self._bucket.delete(kind))
