"""What `streams.json` may say, and how it compares with what a broker holds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal

import orjson
import pydantic

from switchyard.events.errors import SwitchyardError

UNLIMITED: Final = -1

_NANOSECONDS: Final = {"ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_BYTES: Final = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_QUANTITY: Final = re.compile(r"([0-9]+)([A-Za-z]+)")


class TopologyError(SwitchyardError):
    """The broker or `streams.json` is not as it must be."""


def _quantity(value: object, units: Mapping[str, int]) -> object:
    if isinstance(value, str):
        match = _QUANTITY.fullmatch(value)
        if match is None or match[2] not in units:
            raise ValueError(f"expected a whole number and one of {', '.join(units)}, got {value!r}")
        return int(match[1]) * units[match[2]]
    return value


Duration = Annotated[int, pydantic.BeforeValidator(lambda value: _quantity(value, _NANOSECONDS))]
Size = Annotated[int, pydantic.BeforeValidator(lambda value: _quantity(value, _BYTES))]


class _Declared(pydantic.BaseModel):
    """Part of a JetStream configuration, with the broker's own defaults and field names."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", strict=True)

    fixed: ClassVar[frozenset[str]]
    """Fields that the broker never lets be changed."""

    description: str = ""

    @property
    def label(self) -> str:
        """What people call it."""
        raise NotImplementedError

    def config(self) -> dict[str, Any]:
        """The configuration as the broker's API takes it: durations in nanoseconds."""
        return self.model_dump(mode="json")

    def compare(self, found: Mapping[str, Any]) -> tuple[Difference, ...]:
        """The fields in which the broker's configuration differs; it leaves out empty ones."""
        return tuple(
            Difference(self.label, name, declared, found.get(name))
            for name, declared in self.config().items()
            if _plain(found.get(name)) != _plain(declared)
        )


class Transform(pydantic.BaseModel):
    """A subject mapping of a source."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", strict=True)

    src: str
    dest: str


class Source(pydantic.BaseModel):
    """A stream whose messages the broker copies."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str
    subject_transforms: list[Transform] = []


class Stream(_Declared):
    """A declared stream; key-value buckets and object stores are streams with a naming rule."""

    fixed: ClassVar = frozenset({"storage", "retention", "max_consumers"})

    name: str
    subjects: list[str] = []
    sources: list[Source] = []
    storage: Literal["file", "memory"]
    retention: Literal["limits", "interest", "workqueue"]
    discard: Literal["old", "new"]
    num_replicas: int = 1
    max_consumers: int = UNLIMITED
    max_msgs: int = UNLIMITED
    max_bytes: Size = UNLIMITED
    max_age: Duration = 0
    max_msgs_per_subject: int = UNLIMITED
    max_msg_size: int = UNLIMITED
    duplicate_window: Duration
    subject_delete_marker_ttl: Duration = 0
    compression: Literal["none", "s2"] = "none"
    no_ack: bool = False
    sealed: bool = False
    deny_delete: bool = False
    deny_purge: bool = False
    allow_direct: bool = False
    allow_rollup_hdrs: bool = False
    allow_msg_ttl: bool = False
    allow_msg_schedules: bool = False
    new: dict[str, str] = pydantic.Field(default={}, exclude=True)
    """Metadata that a new stream is made with, and that one which was there before never gets."""
    is_sized: bool = pydantic.Field(default=True, exclude=True)
    """Whether somebody has said how large it may become; else the broker's operator has."""

    def compare(self, found: Mapping[str, Any]) -> tuple[Difference, ...]:
        """The fields in which the broker's configuration differs; a size that is not ours to say does not."""
        differences = super().compare(found)
        if self.is_sized:
            return differences
        return tuple(difference for difference in differences if difference.field != "max_bytes")

    @property
    def label(self) -> str:
        """The stream's name."""
        return self.name


class Consumer(_Declared):
    """A declared durable pull consumer."""

    fixed: ClassVar = frozenset({"ack_policy", "deliver_policy"})

    stream: str = pydantic.Field(exclude=True)
    durable_name: str
    filter_subjects: list[str]
    ack_policy: Literal["explicit"] = "explicit"
    deliver_policy: Literal["all"] = "all"
    ack_wait: Duration
    max_ack_pending: int
    max_deliver: int = UNLIMITED
    headers_only: bool = False

    @property
    def label(self) -> str:
        """The consumer's name after its stream's."""
        return f"{self.stream} > {self.durable_name}"


class Topology(pydantic.BaseModel):
    """The content of `streams.json`."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", strict=True)

    streams: list[Stream]
    consumers: list[Consumer]

    @property
    def reserved_bytes(self) -> int:
        """What each broker that holds a copy of every stream must have for files."""
        return sum(max(stream.max_bytes, 0) for stream in self.streams if stream.storage == "file")


@dataclass(frozen=True, slots=True)
class Difference:
    """One field that is not as declared; `field` is None where all of it is missing."""

    where: str
    field: str | None
    declared: Any = None
    found: Any = None

    def __str__(self) -> str:
        if self.field is None:
            return f"{self.where}: declared, not found"
        return (
            f"{self.where}.{self.field}: declared {self._show(self.declared)}, found {self._show(self.found)}"
        )

    def _show(self, value: Any) -> str:
        if self.field in {"max_age", "duplicate_window", "subject_delete_marker_ttl", "ack_wait"}:
            return f"{(value or 0) / 1e9:g}s"
        return value if isinstance(value, str) and value else orjson.dumps(value).decode()


def load(
    replicas: int = 1,
    max_bytes: Mapping[str, int] | None = None,
    max_age_s: Mapping[str, float] | None = None,
) -> Topology:
    """Read `streams.json`.

    Args:
        replicas: copies of each stream, 1 to 5.
        max_bytes: limits by stream name that replace the declared ones.
        max_age_s: ages by stream name that replace the declared ones; 0 for any age.

    Raises:
        TopologyError: the file is missing or breaks a rule.
    """
    beside = Path(__file__).with_name("streams.json")  # in a wheel; in a source tree it is one level up
    path = beside if beside.exists() else Path(__file__).resolve().parents[2] / "streams.json"
    try:
        declared = orjson.loads(path.read_bytes())
        for stream in declared["streams"]:
            stream["num_replicas"] = replicas
            # One without a limit of its own must not get any: reaching it would lose a job.
            stream["is_sized"] = "max_bytes" not in stream
            if max_bytes and stream["name"] in max_bytes:
                stream["max_bytes"] = max_bytes[stream["name"]]
                stream["is_sized"] = True
            if max_age_s and stream["name"] in max_age_s:
                stream["max_age"] = round(max_age_s[stream["name"]] * 1e9)
        return Topology.model_validate(declared)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise TopologyError(f"{path} cannot be used: {error}") from error


def _plain(value: Any) -> Any:
    """A value in which what the broker leaves out and what is empty are the same."""
    if isinstance(value, dict):
        value = {key: plain for key, item in value.items() if (plain := _plain(item)) is not None}
    elif isinstance(value, list):
        value = [_plain(item) for item in value]
    return value or None
