"""Histograms that are cheap to add to: the library's takes a lock and several microseconds for each value."""

from __future__ import annotations

from bisect import bisect_left

from prometheus_client.metrics_core import HistogramMetricFamily
from prometheus_client.utils import floatToGoString

from switchyard.services.telemetry.names import BY_NAME


class Durations:
    """Seconds by labels, added to by one thread and read by any.

    Args:
        name: that of the table.
    """

    def __init__(self, name: str) -> None:
        self._spec = BY_NAME[name]
        self._bounds = self._spec.buckets
        self._counts: dict[tuple[str, ...], list[float]] = {}
        """For each bucket how many, then the sum."""
        if not self._spec.labels:
            self._counts[()] = self._none()

    def _none(self) -> list[float]:
        return [0.0] * (len(self._bounds) + 2)

    def add(self, labels: tuple[str, ...], seconds: float) -> None:
        """Take one in; less than none, as clocks may have it, is none."""
        counts = self._counts.get(labels)
        if counts is None:
            counts = self._counts[labels] = self._none()
        counts[bisect_left(self._bounds, seconds)] += 1
        if seconds > 0:
            counts[-1] += seconds

    def family(self) -> HistogramMetricFamily:
        """What the library makes text of."""
        family = HistogramMetricFamily(self._spec.name, self._spec.meaning, labels=self._spec.labels)
        bounds = [*map(floatToGoString, self._bounds), "+Inf"]
        for labels, values in self._counts.copy().items():
            *counts, total_s = values.copy()
            buckets, so_far = [], 0.0
            for bound, count in zip(bounds, counts, strict=True):
                so_far += count
                buckets.append((bound, so_far))
            family.add_metric(labels, buckets, total_s)
        return family
