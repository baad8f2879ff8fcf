"""How many lanes may be open: of all tenants, and opened by each.

A lane counts for the tenant that opened it, whoever uses it then. Plain lanes come beside, so that a tenant
whose requirements take many lanes can still submit what is served: those of kinds that are configured, or
that workers of all tenants serve, count for nobody at their own priority, and others have as much room again,
also those that are a tenant's own for a limit on all of its jobs or for fair shares.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, NamedTuple

import msgspec

from switchyard.events.errors import LimitError
from switchyard.events.lane import NONE, LaneEntry, LaneKey
from switchyard.services.records.limits import TENANT_WIDE, limit_key
from switchyard.services.settings import Settings

NAMED_KEYS: Final = 3
NAMED_S: Final = 1.0
PLAIN_ROOM: Final = 2

Place = tuple[str, int]


class Serving(NamedTuple):
    """Who cares for a kind.

    Args:
        everybody: it is configured, or workers serve it for all tenants.
        tenant: workers of the tenant in question serve it.
        priority: which its jobs have where they do not say.
    """

    everybody: bool = False
    tenant: bool = False
    priority: int = 50


ServedBy = Callable[[str, str], Serving]
"""Who cares for a kind, as far as it concerns a tenant."""


def nobody(_kind: str, _tenant: str) -> Serving:
    """Nobody is known to serve a kind."""
    return Serving()


class LaneLimits:
    """Counts open lanes, and judges whether one more may be opened.

    Args:
        settings: the limits.
        served_by: who cares for a kind.
    """

    def __init__(self, settings: Settings, served_by: ServedBy) -> None:
        self._settings = settings
        self._served_by = served_by
        self._entries: dict[Place, LaneEntry] = {}
        self._priorities: Counter[str] = Counter()
        self._opened: Counter[str] = Counter()
        self._opening: Counter[str] = Counter()
        self._named: dict[str, tuple[float, str]] = {}

    @property
    def entries(self) -> Mapping[Place, LaneEntry]:
        """The open lanes."""
        return self._entries

    def opened_by(self, tenant: str) -> int:
        """How many of the open lanes a tenant has opened."""
        return self._opened[tenant]

    def opened(self, place: Place, entry: LaneEntry) -> None:
        """Count a lane, as whoever opened it says."""
        self.closed(place)
        self._entries[place] = entry
        self._priorities[place[0]] += 1
        if entry.opened_by:
            self._opened[entry.opened_by] += 1

    def closed(self, place: Place) -> None:
        """Count a lane no more."""
        entry = self._entries.pop(place, None)
        if entry is None:
            return
        self._priorities[place[0]] -= 1
        if not self._priorities[place[0]]:
            del self._priorities[place[0]]
        if entry.opened_by:
            self._opened[entry.opened_by] -= 1
            if not self._opened[entry.opened_by]:
                del self._opened[entry.opened_by]

    @contextmanager
    def opening(self, entry: LaneEntry) -> Iterator[None]:
        """Count a lane while it is being made: others of its tenant may be judged before it is."""
        self._opening[entry.opened_by] += 1
        try:
            yield
        finally:
            self._opening[entry.opened_by] -= 1
            if not self._opening[entry.opened_by]:
                del self._opening[entry.opened_by]

    def entry_for(self, key: LaneKey, place: Place, tenant: str, *, checked: bool) -> LaneEntry:
        """The entry of a lane that a tenant opens.

        Args:
            key: what it is made of.
            place: its name and priority.
            tenant: who opens it; "" for nobody in particular.
            checked: whether limits count; they do not for a job that is in the log already.

        Raises:
            LimitError: no more lanes, or priorities in this lane, may be in use.
        """
        is_plain = _is_plain(key, tenant)
        serving = self._served_by(key.kind, tenant) if is_plain else Serving()
        if serving.everybody and place[1] == serving.priority and key == LaneKey(key.kind):
            return _entry(key, "")
        if checked:
            self._check(key, place, tenant, is_known=serving.everybody or serving.tenant)
        return _entry(key, tenant)

    def _check(self, key: LaneKey, place: Place, tenant: str, *, is_known: bool) -> None:
        settings = self._settings
        in_lane = self._priorities[place[0]]
        if in_lane >= settings.priorities_per_lane:
            raise LimitError(
                f"kind {key.kind!r} has {in_lane} priorities in use, the most allowed",
                status=422, code="too_many_priorities", field="priority",
            )  # fmt: skip
        own, most = self._opened[tenant] + self._opening[tenant], settings.tenant_lanes
        in_all = len(self._entries) + self._opening.total()
        if tenant and own >= (PLAIN_ROOM * most if is_known else most):
            raise self._refusal(
                key, tenant, f"tenant {tenant} has opened {own} lanes that are in use, of at most {most}, and"
            )
        if not is_known and in_all >= settings.lanes:
            raise self._refusal(
                key, "", f"{in_all} lanes of all tenants are in use, of at most {settings.lanes}, and"
            )

    def _refusal(self, key: LaneKey, tenant: str, counted: str) -> LimitError:
        message = f"{counted} kind {key.kind!r} would need one more"
        if guilty := self._varied(key, tenant):
            message += f"; many come of the values of {guilty} in requires"
        field = "requires" if key.requires else "kind"
        return LimitError(message, status=422, code="too_many_lanes", field=field)

    def _varied(self, wanted: LaneKey, tenant: str) -> str:
        """The keys of this requirement that have the most different values in the lanes of its kind.

        They are sought once a second: a tenant at its limit is refused as often as it asks.
        """
        now = time.monotonic()
        name = f"{tenant}\0{wanted.kind}"
        at, named = self._named.get(name, (0.0, ""))
        if name in self._named and now - at < NAMED_S:
            return named
        if len(self._named) >= self._settings.tenant_lanes:
            self._named.clear()
        values: dict[str, set[bytes]] = defaultdict(set)
        for key in self._entries.values():
            if key.kind == wanted.kind and tenant in ("", key.opened_by):
                for varied in wanted.requires.keys() & key.requires.keys():
                    values[varied].add(msgspec.json.encode(key.requires[varied], order="deterministic"))
        names = sorted(
            (name for name in values if len(values[name]) > 1), key=lambda name: -len(values[name])
        )
        named = ", ".join(f"{name} ({len(values[name])})" for name in names[:NAMED_KEYS])
        self._named[name] = now, named
        return named


def _is_plain(key: LaneKey, tenant: str) -> bool:
    """Whether a tenant's jobs of a lane want nothing in particular, though the lane may be its own."""
    return (
        not (key.requires or key.prefers)
        and key.isolation == NONE
        and set(key.limits) <= {limit_key(tenant, TENANT_WIDE)}
    )


def _entry(key: LaneKey, opened_by: str) -> LaneEntry:
    return LaneEntry(**{name: getattr(key, name) for name in LaneKey.__struct_fields__}, opened_by=opened_by)
