"""Octopoid's API: lists of tasks show every change, and read no more than their page and what changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switchyard.events.commands import RequestCancel
from switchyard.events.job import Job
from switchyard.events.vocabulary.ids import JobId
from switchyard.projections.reader import ReadModel
from switchyard.services.gateway.doors.octopoid.claim import CANDIDATES
from switchyard.services.gateway.doors.octopoid.kept import cards
from switchyard.services.gateway.doors.octopoid.kept.cards import Card, Cards, ScopeCards
from switchyard.services.records.entries import index as document_index
from switchyard.services.records.entries.index import Row, Shelf
from tests.broker.shared import SharedBroker
from tests.gateway.octopoid.client import Octopoid
from tests.gateway.octopoid.test_octopoid_moves import documents
from tests.gateway.rest import Gateway, gateway, now

QUEUES = ("incoming", "claimed", "done")
PRIORITIES = ("P0", "P1", "P2")


@pytest.fixture
async def octo(api: Gateway) -> Octopoid:
    found = Octopoid(api)
    assert (await found.register()).status == 201
    return found


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[JobId]:
    """The jobs that were read from the read model."""
    found: list[JobId] = []
    read: Callable[[ReadModel, JobId], Job | None] = ReadModel.job

    def counted(self: ReadModel, job_id: JobId) -> Job | None:
        found.append(job_id)
        return read(self, job_id)

    monkeypatch.setattr(ReadModel, "job", counted)
    return found


# --- What a list reads


async def test_a_list_reads_its_page_and_what_changed_since(octo: Octopoid, reads: list[JobId]) -> None:
    for number in range(30):
        await octo.create(f"t{number}", priority="P1" if number % 2 else "P3")
    assert len(await octo.listed("limit=2")) == 2
    for query in ("limit=2", "queue=incoming&limit=2", "priority=P1&sort=priority&limit=2"):
        reads.clear()
        assert len(await octo.listed(query)) == 2
        assert len(reads) == 2, query
    await octo.claim()
    await octo.patch("t8", title="other")
    reads.clear()
    assert len(await octo.listed("limit=2")) == 2
    assert len(reads) == 4
    reads.clear()
    await octo.call("GET", "/scheduler/poll?orchestrator_id=prod-m1")
    assert reads == []


async def test_a_review_is_claimed_without_reading_all_that_wait(octo: Octopoid, reads: list[JobId]) -> None:
    for number in range(CANDIDATES + 5):
        await octo.create(f"t{number:02}", queue="provisional", priority="P3" if number < 2 else "P1")
    await octo.listed()
    for number in range(2, CANDIDATES + 2):
        reads.clear()
        assert (await octo.claim(queue="provisional")).json["id"] == f"t{number:02}"
        assert len(reads) <= CANDIDATES + 1
    left = [(await octo.claim(queue="provisional")).json["id"] for _ in range(5)]
    assert left == ["t22", "t23", "t24", "t00", "t01"]
    assert (await octo.claim(queue="provisional")).status == 404


async def test_lists_follow_claims_moves_priorities_and_deletions(octo: Octopoid) -> None:
    for number, priority in enumerate(("P3", "P1", "P2", "P0")):
        await octo.create(f"t{number}", priority=priority, role="a" if number % 2 else "b", type="x,y")
    assert await octo.listed() == ["t3", "t2", "t1", "t0"]
    assert await octo.listed("sort=priority") == ["t3", "t1", "t2", "t0"]
    assert await octo.listed("sort=priority&offset=1&limit=2") == ["t1", "t2"]
    assert await octo.listed("offset=3") == ["t0"]
    assert await octo.listed("offset=4") == []
    assert await octo.listed("role=a&priority=P0,P2,P3") == ["t3"]
    assert await octo.listed("claimed_by=agent-1") == []
    await octo.claim()
    assert await octo.listed("claimed_by=agent-1") == await octo.listed("queue=claimed,done") == ["t3"]
    await octo.patch("t0", priority="P0")
    assert await octo.listed("queue=incoming&sort=priority") == ["t0", "t1", "t2"]
    await octo.call("DELETE", "/tasks/t1")
    assert await octo.listed("queue=incoming&sort=priority") == ["t0", "t2"]
    await octo.create("t1")
    assert await octo.listed("queue=incoming&sort=priority") == ["t0", "t2", "t1"]
    await octo.patch("t2", needs_intervention=True)
    assert await octo.listed("needs_intervention=true") == ["t2"]
    await octo.patch("t3", queue="failed")
    assert (await octo.listed("claimed_by=agent-1"), await octo.listed("queue=failed")) == ([], ["t3"])


async def test_every_gateway_lists_what_was_written_at_another(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with (
        gateway(shared_broker.url, tmp_path / "a") as one,
        gateway(shared_broker.url, tmp_path / "b") as other,
    ):
        here = Octopoid(one)
        await here.register()
        there = Octopoid(other, here.scope)
        there.key = here.key
        for number in range(5):
            await here.create(f"t{number}")
            assert len(await there.listed()) == number + 1
            assert (await there.claim()).json["id"] == f"t{number}"
            assert await here.listed("queue=incoming") == []
        await here.call("DELETE", "/tasks/t3")
        assert await there.listed("queue=claimed") == ["t4", "t2", "t1", "t0"]


# --- The lists by themselves


def card(digest: str, at: str, queue: str, priority: str) -> Card:
    return Card(
        Row(digest, 1, {}), job_id=f"j{digest}", id=digest, queue=queue, priority=priority, claimed_by=None,
        orchestrator_id=None, needs_intervention="false", created_at=at, role=["odd"], type=None,
        project_id=None, flow=None, hooks=None, pr_number=None,
    )  # fmt: skip


CARDS = st.builds(card, *map(st.sampled_from, ("abcdef", "12", QUEUES, PRIORITIES)))
ASKED = st.fixed_dictionaries(
    {}, optional={name: st.lists(st.sampled_from(values)) for name, values in
                  (("queue", QUEUES), ("priority", PRIORITIES), ("role", ("odd",)))},
)  # fmt: skip
STEPS = st.lists(st.one_of(CARDS, st.sampled_from("abcdef"), st.tuples(ASKED, st.booleans())), max_size=40)


def _sorted(known: dict[str, Card], asked: dict[str, Any], *, by_priority: bool) -> list[Card]:
    found = [one for one in known.values() if all(getattr(one, n) in v for n, v in asked.items() if v)]
    found.sort(key=lambda one: (one.created_at, one.id), reverse=not by_priority)
    return sorted(found, key=lambda one: one.priority) if by_priority else found


@given(STEPS)
def test_a_list_is_what_sorting_all_cards_would_give(steps: list[Any]) -> None:
    scope, known = ScopeCards(), dict[str, Card]()
    for step in steps:
        if isinstance(step, Card):
            scope.put(step.row.digest, step)
            known[step.row.digest] = step
        elif isinstance(step, str):
            scope.drop(step)
            known.pop(step, None)
        else:
            asked, by_priority = step
            every = _sorted(known, asked, by_priority=by_priority)
            assert scope.all(asked, by_priority=by_priority) == every
            assert scope.page(asked, 1, 2, by_priority=by_priority) == every[1:3]
            assert scope.count(asked) == len(every)


def test_lists_and_scopes_that_nobody_asks_for_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cards, "MOST_LISTS", 2)
    monkeypatch.setattr(cards, "MOST_CARDS", 3)
    every = Cards()
    for tenant in "xyz":
        scope = every.of(tenant)
        for digest in "ab":
            scope.put(digest, card(digest, "1", "done", "P0"))
        assert [scope.count({"queue": [queue]}) for queue in QUEUES] == [0, 0, 2]
    assert len(every.of("x")) == 0
    assert len(every.of("z")) == 2


def test_who_follows_a_shelf_sees_each_change_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document_index, "MOST_GONE", 2)
    shelf, revisions = Shelf(), iter(range(1, 100))

    def take(digests: str) -> None:
        for digest in digests:
            shelf.seen = next(revisions)
            shelf.take(Row(digest, shelf.seen, {}))

    def delete(digests: str) -> None:
        for digest in digests:
            shelf.seen = next(revisions)
            shelf.delete(digest, shelf.seen)

    take("abc")
    first = shelf.changes(None)
    assert (first.is_whole, [row.digest for row in first.rows]) == (True, ["c", "b", "a"])
    assert not shelf.changes(first.mark).rows
    take("a")
    delete("b")
    second = shelf.changes(first.mark)
    assert (second.is_whole, [row.digest for row in second.rows], second.gone) == (False, ["a"], ["b"])
    delete("ac")
    assert sorted(shelf.changes(second.mark).gone) == ["a", "c"]
    assert shelf.changes(first.mark).is_whole  # more were deleted than are remembered
    shelf.clear()
    assert shelf.changes(second.mark).is_whole


# --- What comes of it at once


async def test_an_acceptance_releases_what_waits_for_it_alone_without_a_keeper(octo: Octopoid) -> None:
    await octo.create("a")
    await octo.create("other", priority="P3")
    await octo.create("b", blocked_by="a")
    await octo.create("c", blocked_by="other,a")
    await octo.claim()
    await octo.submit("a")
    assert (await octo.get("b"))["blocked_by"] == "a"
    assert (await octo.post("a", "accept", accepted_by="x")).status == 200
    assert ((await octo.get("b"))["blocked_by"], (await octo.get("c"))["blocked_by"]) == (None, "other,a")
    assert (await octo.claim()).json["id"] == "b"
    assert (await octo.post("other", "force-queue", queue="done", reason="r")).status == 200
    assert (await octo.claim()).json["id"] == "c"


async def test_a_task_that_waits_gets_another_role_and_type(octo: Octopoid) -> None:
    await octo.create("t", role="implement", type="product", priority="P0")
    await octo.claim()
    await octo.submit("t")
    await octo.post("t", "reject", reason="no", rejected_by="x")
    before = await octo.get("t")
    after = (await octo.patch("t", type="hotfix", role="test", title="new")).json
    assert (after["type"], after["role"], after["title"]) == ("hotfix", "test", "new")
    same = ("queue", "feedback", "rejection_count", "attempt_count", "priority", "created_at", "blocked_by")
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    assert (await octo.claim(type_filter="product")).status == 404
    assert (await octo.claim(type_filter="hotfix", role_filter="test")).json["id"] == "t"
    assert await octo.listed() == ["t"]
    refused = await octo.patch("t", type="product")
    assert (refused.status, refused.json["code"]) == (409, "wrong_queue")
    assert (await octo.patch("t", type="hotfix", title="newer")).json["title"] == "newer"


async def test_a_role_or_type_that_no_job_could_have_changes_nothing(octo: Octopoid) -> None:
    before = await octo.create("t", role="implement", type="product")
    refused: list[Any] = ["x" * 256, "x" * 300_000, 5, ["a"], {}, True]
    for odd in refused:
        for name in ("role", "type"):
            assert (await octo.patch("t", **{name: odd})).status == 400, odd
    assert await octo.get("t") == before
    for kind in ("$any", "\x00", "é" * 255, "", None):
        assert (await octo.patch("t", type=kind)).status in (200, 400), kind
        assert (await octo.get("t"))["queue"] == "incoming", kind
    assert (await octo.claim(role_filter="implement")).json["id"] == "t"


async def test_a_change_of_type_that_broke_off_goes_on(octo: Octopoid) -> None:
    task = await octo.create("t", type="product")

    def planned(document: dict[str, Any]) -> dict[str, Any]:
        fields = document["fields"] | {"type": "hotfix"}
        return document | {"next": {"nonce": "n", "queue": "incoming"}, "fields": fields}

    tenant = f"oct-{octo.scope}"
    await documents(octo).change(tenant, "task", "t", planned)
    job = await octo.api.store.load(JobId(task["job_id"]))
    cancel = RequestCancel(now=now(), by="x", grace_s=0, reason="r")
    await octo.api.store.transition(job, cancel, actor="x")
    assert (await octo.patch("t", type="hotfix")).json["queue"] == "incoming"
    assert (await octo.claim(type_filter="hotfix")).json["id"] == "t"
