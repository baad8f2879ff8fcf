"""From the conditions of a job to the lanes in which it may wait."""

from __future__ import annotations

import functools
from typing import Any, Final, NamedTuple

import msgspec
import orjson

from switchyard.events.errors import InvalidError
from switchyard.events.lane import LaneKey, keys_of, lane_id
from switchyard.events.requirements.matching import canonical, canonical_prefers
from switchyard.events.values import JobSpec
from switchyard.events.vocabulary.ids import LaneId

KNOWN_ROUTES: Final = 4096


class Route(NamedTuple):
    """The canonical conditions of a job and the lanes that they give: the first, and where it goes later."""

    requires: dict[str, Any]
    prefers: dict[str, Any]
    keys: tuple[LaneKey, ...]
    lanes: tuple[LaneId, ...]

    def into(self, spec: JobSpec) -> JobSpec:
        """The job with these conditions and lanes."""
        return msgspec.structs.replace(
            spec,
            requires=self.requires,
            prefers=self.prefers,
            lane=self.lanes[0],
            shared_lane=(*self.lanes, LaneId(""))[1],
        )


def route_of(spec: JobSpec) -> Route:
    """The lanes of a job; its requirement and preference are as the client wrote them.

    Raises:
        InvalidError: they are not in the language of `switchyard.events.requirements.matching`.
    """
    conditions = (
        spec.kind,
        spec.requires,
        spec.prefers,
        spec.isolation,
        spec.limits,
        spec.tenant,
        spec.fair_share,
    )
    try:
        return _known_route(orjson.dumps(conditions))
    except orjson.JSONEncodeError as error:
        raise InvalidError(f"requires: {error}", field="requires") from None


# Conditions come again and again, and making them canonical costs more than all the rest of a submission.
@functools.lru_cache(maxsize=KNOWN_ROUTES)
def _known_route(conditions: bytes) -> Route:
    kind, requires, prefers, isolation, limits, tenant, fair_share = orjson.loads(conditions)
    spec = JobSpec(
        kind=kind, tenant=tenant, lane=LaneId(""), requires=canonical(requires),
        prefers=canonical_prefers(prefers), isolation=isolation, limits=tuple(limits), fair_share=fair_share,
    )  # fmt: skip
    keys = keys_of(spec)
    return Route(spec.requires, spec.prefers, keys, tuple(map(lane_id, keys)))
