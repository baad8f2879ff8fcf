"""What one part of Switchyard exports and is asked, and what the process makes of its parts."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from switchyard.services.telemetry.appends import Appends
from switchyard.services.telemetry.names import BY_NAME

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for every one, which nobody reads

Checks = dict[str, dict[str, Any]]
"""What was looked at, each with `ok`."""
Ask = Callable[[], Awaitable[Checks]]
Value = float | Mapping[tuple[str, ...], float] | None
"""A metric's value: a number, one for the values of each of its labels, or nothing to say."""

REFRESH_S: Final = 2.0


class Part:
    """The registry and the health of one part.

    A part that restarts in its process, as a worn worker does, takes the same one: its counters continue, and
    the values it shows and its checks are those of the new one.

    Args:
        name: gateway, keeper, projector, worker, or that of the process.
        names: how many kinds, and how many tenants, its labels name; what comes later is `other`.
    """

    def __init__(self, name: str, *, names: int) -> None:
        self.name = name
        self.names = names
        self.registry = CollectorRegistry()
        self.checks: Ask | None = None
        self.refresh: Callable[[], Awaitable[None]] | None = None
        """Asks for what is to be shown, in the part's own loop, before it is read."""
        self._values = _Values()
        self.registry.register(self._values)
        self._made: dict[str, Counter | Histogram] = {}

    @functools.cached_property
    def appends(self) -> Appends:
        """What its event store reports of each append; a part that writes nothing exports none of it."""
        appends = Appends(names=self.names)
        self.registry.register(appends)
        return appends

    def counter(self, name: str) -> Counter:
        """The counter of the table that has this name."""
        made = self._made.get(name)
        if made is None:
            spec = BY_NAME[name]
            made = self._made[name] = Counter(name, spec.meaning, spec.labels, registry=self.registry)
        assert isinstance(made, Counter)
        return made

    def histogram(self, name: str) -> Histogram:
        """The histogram of the table that has this name."""
        made = self._made.get(name)
        if made is None:
            spec = BY_NAME[name]
            made = self._made[name] = Histogram(
                name, spec.meaning, spec.labels, buckets=spec.buckets, registry=self.registry
            )
        assert isinstance(made, Histogram)
        return made

    def values(self, name: str, read: Callable[[], Value]) -> None:
        """Show what `read` gives as a gauge or counter when somebody looks, maybe from another thread."""
        self._values.read[name] = read


class _Values(Collector):
    def __init__(self) -> None:
        self.read: dict[str, Callable[[], Value]] = {}

    def collect(self) -> Iterator[Metric]:
        for name, read in list(self.read.items()):
            spec, value = BY_NAME[name], read()
            make = CounterMetricFamily if spec.type == "counter" else GaugeMetricFamily
            family = make(name, spec.meaning, labels=spec.labels)
            if isinstance(value, Mapping):
                for labels, number in value.items():
                    family.add_metric(labels, number)
            elif value is not None:
                family.add_metric((), value)
            if value is not None:
                yield family


class Telemetry:
    """The parts of one process; every sample says of which it is.

    Args:
        process: what runs in it: the name of the part, or `up` for all in one.
        names: how many kinds, and how many tenants, labels name.
    """

    def __init__(self, process: str, *, names: int = 100) -> None:
        self.process = process
        self._names = names
        self.parts: dict[str, Part] = {}
        ProcessCollector(registry=self.part(process).registry)

    def part(self, name: str) -> Part:
        """One of them; made when it is asked for first."""
        if name not in self.parts:
            self.parts[name] = Part(name, names=self._names)
        return self.parts[name]

    async def refresh(self) -> None:
        """Have each part look at what it shows; what does not answer soon shows what it knew."""
        looks = [part.refresh() for part in self.parts.values() if part.refresh is not None]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REFRESH_S):
                await asyncio.gather(*looks)

    async def ask(self) -> dict[str, Checks]:
        """What each part says of its own health."""
        return {part.name: await part.checks() for part in self.parts.values() if part.checks is not None}

    def text(self) -> bytes:
        """All metrics of all parts in the text format 0.0.4, each family once."""
        return generate_latest(_Together(list(self.parts.values())))


class _Together(Collector):
    def __init__(self, parts: list[Part]) -> None:
        self._parts = parts

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for part in self._parts:
            for family in part.registry.collect():
                known = families.setdefault(
                    family.name, Metric(family.name, family.documentation, family.type)
                )
                known.samples += [
                    sample._replace(labels={**sample.labels, "part": part.name}) for sample in family.samples
                ]
        yield from families.values()
