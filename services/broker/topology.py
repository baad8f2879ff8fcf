"""What the broker must hold: the streams, buckets, object store and consumers of `streams.json`.

`apply` creates what is missing and changes what the broker lets be changed; what it does not is an
error that shows every difference. Fields that `streams.json` cannot name (placement, metadata,
republishing) are the operator's and stay as they are, and so do consumers that are not declared: those
of the lanes come and go with the lanes. The size of a stream is whatever its setting says or, where that is
not set, what the operator of the broker has made it.

Three choices that `streams.json` cannot explain itself:

- `WORK` and `TIMERS` have no limit on their size, since reaching it would lose a job or a wake-up: `WORK`
  holds copies of events in `JOBS`, and `TIMERS` one message for each purpose of each job.
- `TIMERS` is a work queue with one message per subject: a wake-up that was acknowledged is gone, one that
  nobody fetched is replaced by the next. The broker accepts schedules only with discard old, and in
  an interest stream it drops them at once (tried on nats-server 2.15.1).
- `LOGS` stands beside `PROGRESS` because progress is conflated to a few messages per job and must not
  take lines of output with it, and because lines are worth a disk.

The configurations are sent as plain JSON: nats-py's classes lack several of these fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import nats.errors
import orjson
import structlog
from nats.aio.client import Client

from switchyard.events.errors import UnavailableError
from switchyard.services.broker.jetstream import api_subject, is_not_now
from switchyard.services.broker.topology_spec import (
    UNLIMITED,
    Consumer,
    Difference,
    Stream,
    Topology,
    TopologyError,
    load,
)

log = structlog.get_logger()

API_TIMEOUT_S: Final = 10.0
STREAM_NOT_FOUND: Final = 10059
CONSUMER_NOT_FOUND: Final = 10014
NO_ROOM: Final = "insufficient storage"  # with error 10047, and in a cluster with 10005
NO_MEMORY: Final = "insufficient memory"
GIB: Final = 1 << 30
MIN_SERVER: Final = (2, 12, 0)  # message schedules; Source: ADR-51, and the tests pass on 2.12.8


class DriftError(TopologyError):
    """The broker holds something that differs from what is declared and cannot be changed.

    Args:
        message: what cannot be changed.
        differences: all of them, also those that could be changed.
    """

    def __init__(self, message: str, differences: tuple[Difference, ...]) -> None:
        super().__init__("\n".join((message, *(f"  {difference}" for difference in differences))))
        self.differences = differences


@dataclass(frozen=True, slots=True)
class Change:
    """Something that `apply` did: `fields` are those that were changed, empty when it was created."""

    where: str
    action: Literal["created", "updated"]
    fields: tuple[Difference, ...] = ()

    def __str__(self) -> str:
        return "\n".join((f"{self.where}: {self.action}", *(f"  {field}" for field in self.fields)))


async def diff(
    nc: Client,
    *,
    replicas: int = 1,
    max_bytes: Mapping[str, int] | None = None,
    max_age_s: Mapping[str, float] | None = None,
) -> list[Difference]:
    """Every field in which the broker is not as declared.

    Raises:
        UnavailableError: the broker does not answer.
    """
    topology = load(replicas, max_bytes, max_age_s)
    return [difference for part in await _examine(nc, topology) for difference in part.differences]


async def apply(
    nc: Client,
    *,
    replicas: int = 1,
    max_bytes: Mapping[str, int] | None = None,
    max_age_s: Mapping[str, float] | None = None,
) -> list[Change]:
    """Make the broker as declared, and say what was changed; nothing where all is well.

    Several processes may do it at once.

    Args:
        nc: a connection to the broker.
        replicas: copies of each stream; 1, or 3 in a cluster.
        max_bytes: limits by stream name that replace the declared ones.
        max_age_s: ages by stream name that replace the declared ones; 0 for any age.

    Raises:
        DriftError: something cannot be changed. Nothing was, unless it is the broker that refused.
        TopologyError: the broker cannot hold the topology: too old, or too small.
        UnavailableError: the broker does not answer.
    """
    _require_server(nc)
    declared = load(replicas, max_bytes, max_age_s)
    parts = await _examine(nc, declared)
    fixed = tuple(
        difference
        for part in parts
        for difference in part.differences
        if difference.field in part.declared.fixed
    )
    if fixed:
        raise DriftError(
            "the broker does not let these be changed; delete the stream or consumer, or use another broker:",
            tuple(difference for part in parts for difference in part.differences),
        )
    _refuse_small(parts)
    changes = []
    for part in parts:
        if part.found is None:
            try:
                await _call(nc, part.create, part.request(), part.declared.label)
            except _RefusedError as error:
                raise TopologyError(f"{error}{_advice(error, declared)}") from error
            changes.append(Change(part.declared.label, "created"))
        elif part.differences:
            try:
                await _call(nc, part.update, part.request(), part.declared.label)
            except _RefusedError as error:
                raise DriftError(f"{error}{_advice(error, declared)}", part.differences) from error
            changes.append(Change(part.declared.label, "updated", part.differences))
    return changes


async def restore_consumer(nc: Client, stream: str, durable: str) -> bool:
    """Make a declared consumer if the broker has lost it; whether it had.

    Raises:
        TopologyError: it is not declared, or the broker refuses it.
        UnavailableError: the broker does not answer.
    """
    declared = load()
    for consumer in declared.consumers:
        if (consumer.stream, consumer.durable_name) == (stream, durable):
            [part] = await _examine(nc, Topology(streams=[], consumers=[consumer]))
            if part.found is None:
                await _call(nc, part.create, part.request(), consumer.label)
            return part.found is None
    raise TopologyError(f"no consumer {durable} of {stream} is declared")


async def restore_stream(
    nc: Client, name: str, *, replicas: int = 1, max_bytes: Mapping[str, int] | None = None
) -> bool:
    """Make a declared stream if the broker has lost it, as it does with one in memory; whether it had.

    Raises:
        TopologyError: it is not declared, or the broker refuses it.
        UnavailableError: the broker does not answer.
    """
    for stream in load(replicas, max_bytes).streams:
        if stream.name == name:
            [part] = await _examine(nc, Topology(streams=[stream], consumers=[]))
            if part.found is None:
                await _call(nc, part.create, part.request(), stream.label)
            return part.found is None
    raise TopologyError(f"no stream {name} is declared")


@dataclass(frozen=True, slots=True)
class _Part:
    """A declared stream or consumer and what the broker holds in its place."""

    declared: Stream | Consumer
    found: Mapping[str, Any] | None
    used_bytes: int = 0

    @property
    def differences(self) -> tuple[Difference, ...]:
        if self.found is None:
            return (Difference(self.declared.label, None),)
        return self.declared.compare(self.found)

    @property
    def create(self) -> str:
        match self.declared:
            case Stream(name=name):
                return f"STREAM.CREATE.{name}"
            case Consumer(stream=stream, durable_name=name):
                return f"CONSUMER.CREATE.{stream}.{name}"

    @property
    def update(self) -> str:
        return self.create.replace("STREAM.CREATE.", "STREAM.UPDATE.")

    def request(self) -> dict[str, Any]:
        config = dict(self.found or {}) | self.declared.config()
        match self.declared:
            case Stream(is_sized=is_sized, new=new):
                if self.found is None and new:
                    config["metadata"] = new
                if self.found is not None and not is_sized:
                    config["max_bytes"] = self.found.get("max_bytes", UNLIMITED)
                return config
            case Consumer(stream=stream):
                config.pop("filter_subject", None)  # the broker's other spelling of a single filter
                return {"stream_name": stream, "config": config}


def _refuse_small(parts: list[_Part]) -> None:
    """Change nothing where a stream would be made smaller than what is in it.

    Raises:
        TopologyError: one would.
    """
    for part in parts:
        match part.declared:
            case Stream(name=name, max_bytes=size) if (
                any(difference.field == "max_bytes" for difference in part.differences)
                and 0 < size < part.used_bytes
            ):
                raise TopologyError(
                    f"{name} holds {part.used_bytes} bytes, more than the {size} that "
                    f"SWITCHYARD_{name.upper()}_BYTES sets: make room in it first, or set more"
                )
            case Stream(name=name, is_sized=False, max_bytes=size) if part.found is not None:
                if part.found.get("max_bytes", UNLIMITED) != size:
                    log.info("stream_size_kept", stream=name, bytes=part.found["max_bytes"], declared=size)
            case _:
                pass


async def _examine(nc: Client, topology: Topology) -> list[_Part]:
    parts = []
    everything: tuple[Stream | Consumer, ...] = (*topology.streams, *topology.consumers)
    for declared in everything:
        match declared:
            case Stream(name=name):
                api, missing = f"STREAM.INFO.{name}", {STREAM_NOT_FOUND}
            case Consumer(stream=stream, durable_name=name):
                api, missing = f"CONSUMER.INFO.{stream}.{name}", {STREAM_NOT_FOUND, CONSUMER_NOT_FOUND}
        try:
            info = await _call(nc, api, None, declared.label)
            found, used = info["config"], info.get("state", {}).get("bytes", 0)
        except _RefusedError as error:
            if error.code not in missing:
                raise
            found, used = None, 0
        parts.append(_Part(declared, found, used))
    return parts


class _RefusedError(TopologyError):
    def __init__(self, label: str, code: int, description: str) -> None:
        super().__init__(f"the broker refuses {label}: {description} (JetStream error {code})")
        self.code = code


async def _call(nc: Client, api: str, body: Mapping[str, Any] | None, label: str) -> dict[str, Any]:
    """One request to the JetStream API.

    Raises:
        UnavailableError: no answer, or an answer that another try may better.
        _RefusedError: any other error that the broker answers.
    """
    try:
        answer = await nc.request(api_subject(api), orjson.dumps(body) if body else b"", API_TIMEOUT_S)
    except nats.errors.NoRespondersError as error:
        raise UnavailableError("the broker runs without JetStream, or its cluster has no leader") from error
    except (nats.errors.Error, TimeoutError) as error:
        raise UnavailableError(f"the broker does not answer for {label}: {error or 'timeout'}") from error
    document: dict[str, Any] = orjson.loads(answer.data)
    if refusal := document.get("error"):
        if is_not_now(refusal):
            raise UnavailableError(f"the broker is not ready for {label}: {refusal['description']}")
        raise _RefusedError(label, refusal["err_code"], refusal["description"])
    return document


def _advice(error: _RefusedError, declared: Topology) -> str:
    """What to do about a refusal: the broker takes a stream only if all may grow to their limits."""
    if NO_MEMORY in str(error):
        return (
            "; the stream is in the broker's memory: raise max_memory_store in the broker's configuration, "
            "or set a smaller SWITCHYARD_PREVIEWS_BYTES"
        )
    if NO_ROOM not in str(error):
        return ""
    return (
        f"; the streams reserve {declared.reserved_bytes / GIB:.1f} GiB on each broker, free or not: raise "
        "SWITCHYARD_BROKER_FILE_BYTES for the embedded broker, or max_file_store in another's configuration"
    )


def _require_server(nc: Client) -> None:
    version = nc.connected_server_version
    if (version.major, version.minor, version.patch) < MIN_SERVER:
        needed = ".".join(map(str, MIN_SERVER))
        raise TopologyError(f"nats-server {version} is too old; {needed} or newer is needed")
