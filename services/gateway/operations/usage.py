"""What a tenant has of what all tenants share, and how much it may have."""

from __future__ import annotations

from switchyard.services.broker.bucket_use import BucketUse
from switchyard.services.files.quota import Quota
from switchyard.services.intake.shares import Shares
from switchyard.services.records.lanes import Lanes
from switchyard.services.settings import Settings


class Usage:
    """Adds up what a tenant has.

    Args:
        shares: those of jobs.
        lanes: the queues.
        quota: that of files.
        schedules: use of that bucket.
        claim_keys: use of that bucket.
        documents: use of that bucket.
        workflows: use of that bucket.
        settings: limits.
    """

    def __init__(
        self,
        shares: Shares,
        lanes: Lanes,
        quota: Quota,
        *,
        schedules: BucketUse,
        claim_keys: BucketUse,
        documents: BucketUse,
        workflows: BucketUse,
        settings: Settings,
    ) -> None:
        self._shares = shares
        self._lanes = lanes
        self._quota = quota
        self._schedules = schedules
        self._claim_keys = claim_keys
        self._documents = documents
        self._workflows = workflows
        self._settings = settings

    def of(self, tenant: str) -> dict[str, tuple[int, float]]:
        """From what it is to how much of it the tenant has and may have, which may be infinite.

        Raises:
            UnavailableError: there is no read model.
        """
        return {
            **self._shares.usage(tenant),
            "lanes": (self._lanes.opened_by(tenant), self._settings.tenant_lanes),
            **self._quota.usage(tenant),
            "schedules": _entries(self._schedules, tenant),
            "schedule_bytes": _bytes(self._schedules, tenant),
            "claim_keys": _entries(self._claim_keys, tenant),
            "octopoid_bytes": _bytes(self._documents, tenant),
            "workflow_bytes": _bytes(self._workflows, tenant),
        }


def _entries(use: BucketUse, tenant: str) -> tuple[int, float]:
    return use.entries(tenant), use.bounds.entries


def _bytes(use: BucketUse, tenant: str) -> tuple[int, float]:
    return use.size_bytes(tenant), use.bounds.size_bytes
