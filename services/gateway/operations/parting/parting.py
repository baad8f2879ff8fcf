"""Ends attempts over REST in parts, and says how parts ended to those who join them."""

from __future__ import annotations

from typing import Any

from switchyard.events.commands import FanOut
from switchyard.events.errors import ConflictError, InvalidError, NotFoundError
from switchyard.events.job import Job
from switchyard.events.rules.erasable import check_outcome
from switchyard.events.rules.parts import check_may_part
from switchyard.events.vocabulary.causes import JoinPolicy
from switchyard.events.vocabulary.ids import JobId
from switchyard.services import clock
from switchyard.services.access.principal import Caller
from switchyard.services.access.ticket_claims import LeaseClaims
from switchyard.services.dispatch.parts.joining import Parts
from switchyard.services.files import artifact_id
from switchyard.services.gateway.operations.leases import Leases
from switchyard.services.gateway.operations.outcomes import reference
from switchyard.services.intake.parts import PLAN, PlannedPart


class Parting:
    """Does it for the holders of leases.

    Args:
        leases: knows who they are.
        parts: reads plans and parts.
    """

    def __init__(self, leases: Leases, parts: Parts) -> None:
        self._leases = leases
        self._parts = parts

    async def part(
        self,
        caller: Caller,
        claims: LeaseClaims,
        *,
        parts: list[PlannedPart] | None,
        policy: JoinPolicy,
        usage: dict[str, float],
    ) -> Job:
        """End an attempt in parts; the job after it.

        Args:
            caller: who hands it in.
            claims: the lease.
            parts: what they are to do; None where the attempt has stored that as the artifact `parts.json`.
            policy: what becomes of the job when one does not succeed.
            usage: by unit.

        Raises:
            RejectedError: they break a rule, or the job has ended in parts before.
            StaleLeaseError: the lease is gone.
            UnavailableError: the broker does not answer.
        """
        job = await self._leases.loaded(claims)
        plan: list[PlannedPart] = []
        stored: dict[str, Any] = {}
        kept: dict[str, JobId] = {}
        if job.damage is None and job.lease is not None and job.lease.fence == claims.fence:
            check_may_part(job)
            if job.erasable:
                check_outcome((), usage)
            plan, stored = await self._plan(caller, job, claims, parts)
            kept = await self._parts.kept(job, plan) if job.parts else {}
        command = FanOut(
            now=clock.now(), fence=claims.fence, parts=tuple((one.name, one.kind) for one in plan),
            policy=policy, plan=stored, usage=usage, kept=kept,
        )  # fmt: skip
        return await self._leases.end(caller, claims, job, command, "part")

    async def _plan(
        self, caller: Caller, job: Job, claims: LeaseClaims, parts: list[PlannedPart] | None
    ) -> tuple[list[PlannedPart], dict[str, Any]]:
        """What the parts are to do, and the artifact that says so."""
        outcomes, file_id = self._leases.outcomes, artifact_id(job.id, claims.fence, PLAN)
        if parts is not None:
            info = await outcomes.store_plan(job, claims, parts, caller.key)
            return parts, reference(info)
        try:
            return await self._parts.plan(job.tenant, file_id), reference(await outcomes.info(job, file_id))
        except NotFoundError:
            message = f"parts: expected them, or an artifact {PLAN} that was uploaded within the lease"
            raise InvalidError(message, code="unknown_file", field="parts") from None

    async def outcome(self, claims: LeaseClaims, part_id: JobId) -> dict[str, Any]:
        """How a part of the job ended that the lease is for.

        Returns:
            As `Parts.outcome`; a result that is a file is not read.

        Raises:
            ConflictError: the attempt joins no parts.
            NotFoundError: it has no such part.
            StaleLeaseError: the lease is gone.
            UnavailableError: the broker does not answer.
        """
        job = await self._leases.running(claims, "join the parts of")
        if not job.parted_by:
            message = f"job {job.id} has not ended in parts: this attempt joins none"
            raise ConflictError(message, code="illegal_transition")
        return await self._parts.outcome(job, part_id, inline=False)
