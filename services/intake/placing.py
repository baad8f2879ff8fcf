"""From a job and what its payload needs to a lane that is there.

What is derived from a payload may differ from job to job, and a lane for each would use up what a tenant may
have. So it has a part of the tenant's share. Beyond that it leaves the lane's key, files first, and stands
in the job as `needs`, which is looked at when a worker is about to start it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from switchyard.events.errors import InvalidError, LimitError
from switchyard.events.requirements.matching import Limits, canonical
from switchyard.events.values import JobSpec
from switchyard.services.connectors.derived.needs import Needs
from switchyard.services.connectors.registry import derivation
from switchyard.services.intake.routing import route_of
from switchyard.services.records.lanes import Lanes

WIDE: Final = Limits(clauses=10_000, bytes=1024**2, items=10_000)
"""How large `needs` may be; what is in it is a part of a payload, whose size is limited."""
WHOLE_PART: Final = 0.5
SHARED_PART: Final = 0.75


def needs_of(kind: str, payload: Mapping[str, Any]) -> Needs | None:
    """What a payload needs of a worker; None for nothing, or nothing that is known."""
    found = derivation(kind)
    needs = None if found is None else found.needs(payload)
    return None if needs is None or needs.is_empty else needs


async def placed(lanes: Lanes, spec: JobSpec, needs: Needs | None, tenant_lanes: int) -> JobSpec:
    """The job in its lane, which is there.

    Args:
        lanes: the queues.
        spec: as submitted.
        needs: what its payload needs beside that.
        tenant_lanes: how many lanes a tenant may open.

    Raises:
        InvalidError: a condition of the job is not in the language of requirements.
        LimitError: no lane can be made for it.
        UnavailableError: the broker does not answer.
    """
    if needs is None:
        return await _own(lanes, spec)
    route_of(spec)  # what was submitted is judged alone
    for form, part in _forms(spec, needs):
        try:
            route = route_of(form)
            if not lanes.ready(route.lanes[0], form.priority):
                if lanes.opened_by(form.tenant) >= part * tenant_lanes:
                    continue
                await lanes.ensure(route.keys[0], route.lanes[0], form.priority, form.tenant)
        except (InvalidError, LimitError):  # it is too large a requirement, or one lane too many
            continue
        return route.into(form)
    return await _own(lanes, msgspec.structs.replace(spec, needs=_wide(needs.requires + needs.files)))


def _forms(spec: JobSpec, needs: Needs) -> Iterator[tuple[JobSpec, float]]:
    """The job with more and more of its needs out of its lane, each with its part of the tenant's share."""
    whole = msgspec.structs.replace(
        spec, requires=_together(spec.requires, needs.requires + needs.files),
        prefers=spec.prefers or dict(needs.prefers),
    )  # fmt: skip
    yield whole, WHOLE_PART
    if whole.prefers:
        yield msgspec.structs.replace(whole, prefers=spec.prefers), WHOLE_PART
    if needs.files:
        shared = _together(spec.requires, needs.requires)
        yield (
            msgspec.structs.replace(spec, requires=shared, prefers=whole.prefers, needs=_wide(needs.files)),
            SHARED_PART,
        )
        yield msgspec.structs.replace(spec, requires=shared, needs=_wide(needs.files)), SHARED_PART


async def _own(lanes: Lanes, spec: JobSpec) -> JobSpec:
    """The job in the lane of its own conditions; a preference is dropped before a job is refused."""
    route = route_of(spec)
    if not lanes.ready(route.lanes[0], spec.priority):
        try:
            await lanes.ensure(route.keys[0], route.lanes[0], spec.priority, spec.tenant)
        except LimitError:
            if not route.prefers:
                raise
            return await _own(lanes, msgspec.structs.replace(spec, prefers={}))
    return route.into(spec)


def _together(requires: dict[str, Any], parts: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    if not parts:
        return requires
    return {"$and": [*([requires] if requires else []), *parts]}


def _wide(parts: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    return canonical(_together({}, parts), field="payload", limits=WIDE)
