"""One tenant's share, counted from the figures of a read model and what was written since."""

from __future__ import annotations

import asyncio

import pytest

from switchyard.events.errors import LimitError, UnavailableError, VersionConflictError
from switchyard.projections.tenants import NOTHING, Use
from switchyard.services.broker.publisher import AckLostError
from switchyard.services.intake.shares import MOST_TENANTS, Share, Shares
from switchyard.services.settings import Settings

SETTINGS = Settings(tenant_jobs=5, tenant_job_bytes=100, tenant_waits=3)


class Figures:
    """What a read model says, or that there is none."""

    def __init__(self, use: Use | None = NOTHING) -> None:
        self.use = use
        self.asked = 0

    def __call__(self, _tenant: str) -> Use:
        self.asked += 1
        if self.use is None:
            raise UnavailableError("there is none")
        return self.use


def jobs(shares: Shares, tenant: str = "acme") -> int:
    return shares.usage(tenant)["jobs"][0]


def flying(share: Share, size_bytes: int = 1) -> asyncio.Future[int]:
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    share.sent(future, size_bytes, 0)
    return future


async def test_a_job_counts_once_on_its_way_stored_and_projected() -> None:
    figures = Figures()
    shares = Shares(figures, SETTINGS)
    future = flying(shares.take("acme", 1))
    assert jobs(shares) == 1
    future.set_result(7)
    assert jobs(shares) == 1
    figures.use = Use(6, 0, 0, 0, 0, 0)
    assert jobs(shares) == 1
    figures.use = Use(7, 1, 1, 0, 1, 1)
    assert jobs(shares) == 1
    figures.use = Use(9, 0, 0, 0, 1, 1)
    assert jobs(shares) == 0


async def test_a_job_that_was_projected_before_it_was_acknowledged_counts_once_then() -> None:
    figures = Figures()
    shares = Shares(figures, SETTINGS)
    future = flying(shares.take("acme", 1))
    figures.use = Use(7, 1, 1, 0, 1, 1)
    future.set_result(7)
    assert jobs(shares) == 1


@pytest.mark.parametrize("error", [VersionConflictError(3), UnavailableError("full")])
async def test_what_was_not_stored_is_given_back(error: Exception) -> None:
    shares = Shares(Figures(), SETTINGS)
    flying(shares.take("acme", 1)).set_exception(error)
    assert shares.usage("acme")["jobs"] == (0, 5)
    assert shares.usage("acme")["job_bytes"] == (0, 100)


@pytest.mark.parametrize("end", ["lost", "cancelled"])
async def test_what_may_have_been_stored_counts_until_something_younger_is_seen(end: str) -> None:
    figures = Figures(Use(10, 0, 0, 0, 0, 0))
    shares = Shares(figures, SETTINGS)
    future = flying(shares.take("acme", 1))
    if end == "lost":
        future.set_exception(AckLostError("late"))
    else:
        future.cancel()
    assert jobs(shares) == 1
    figures.use = Use(11, 1, 1, 0, 1, 1)
    assert jobs(shares) == 1


async def test_limits_name_the_tenants_own_number() -> None:
    shares = Shares(Figures(Use(1, 4, 90, 2, 4, 90)), SETTINGS)
    for size_bytes, waits, code, number in (
        (11, 0, "too_many_job_bytes", "90"),
        (1, 2, "too_many_waits", "for 2 others"),
    ):
        with pytest.raises(LimitError, match=number) as refused:
            shares.take("acme", size_bytes, waits)
        assert (refused.value.status, refused.value.code) == (429, code)
        assert refused.value.retry_after_s is not None
    shares.take("acme", 10, 1)
    with pytest.raises(LimitError, match=r"acme has 5 jobs .* of at most 5"):
        shares.take("acme", 0)
    shares.take("beta", 0)


async def test_without_a_read_model_what_was_written_here_is_limited() -> None:
    shares = Shares(Figures(None), SETTINGS)
    for number in range(5):
        flying(shares.take("acme", 1)).set_result(number + 1)
    with pytest.raises(LimitError):
        shares.take("acme", 1)


async def test_figures_that_go_away_stand_as_they_were() -> None:
    figures = Figures(Use(1, 4, 0, 0, 4, 0))
    shares = Shares(figures, SETTINGS)
    shares.take("acme", 1)
    figures.use = None
    assert jobs(shares) == 5
    with pytest.raises(LimitError):
        shares.take("acme", 1)


async def test_refused_tenants_do_not_make_the_read_model_be_asked_each_time() -> None:
    figures = Figures(Use(1, 5, 0, 0, 5, 0))
    shares = Shares(figures, SETTINGS)
    for _ in range(1000):
        with pytest.raises(LimitError):
            shares.take("acme", 1)
    assert figures.asked < 100


async def test_many_jobs_are_counted_in_little_memory_and_all_of_them_are_dropped_when_seen() -> None:
    figures = Figures()
    shares = Shares(figures, Settings())
    count = 10_000
    for number in range(count):
        share = shares.take("acme", 2)
        flying(share, 2).set_result(number + 1)
    assert len(share.blocks) < count / 30
    assert jobs(shares) == count
    figures.use = Use(count, count, 2 * count, 0, count, 2 * count)
    assert shares.usage("acme")["jobs"][0] == count
    assert shares.usage("acme")["job_bytes"][0] == 2 * count
    assert not share.blocks
    assert share.is_idle


async def test_tenants_that_have_nothing_on_their_way_are_forgotten() -> None:
    shares = Shares(Figures(), SETTINGS)
    kept = shares.take("kept", 1)
    for number in range(MOST_TENANTS):
        shares.check(f"t{number}", 1)
    for share in shares._tenants.values():
        share.read_at -= 10.0
    shares.check("another", 1)
    assert set(shares._tenants) == {"kept", "another"}
    assert shares._tenants["kept"] is kept
