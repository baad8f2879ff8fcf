"""No worker is given a job whose requirement it fails, however workers come, change and go.

This plays the dispatch of any number of jobs and workers with the functions that decide it, and holds every
lease against another reading of the requirement.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from switchyard.events.lane import LaneKey, isolated, keys_of, lane_id
from switchyard.events.requirements.matching import canonical
from switchyard.events.values import JobSpec
from switchyard.events.vocabulary.ids import LaneId, WorkerId
from switchyard.services.records.lanes import key_of
from switchyard.services.records.workers import WorkerRecord, new_record
from tests.events.test_matching import CAPABILITIES, REQUIREMENTS, ROOMY, naive

GAMES_PLAYED = 300
MANY_GAMES = 20_000

WORKERS = ("w1", "w2", "w3")
TENANTS = ("acme", "other")
KINDS = ("convert", "simulate")

NAMES = st.sampled_from(WORKERS)
SUBMIT = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(KINDS),
        "requires": REQUIREMENTS | st.just({}),
        "tenant": st.sampled_from(TENANTS),
        "isolation": st.sampled_from(["none", "none", "strict"]),
    }
).map(lambda job: ("submit", "", job))
ARRIVE = st.tuples(
    st.just("arrive"),
    NAMES,
    st.fixed_dictionaries(
        {
            "kinds": st.lists(st.sampled_from(KINDS), min_size=1, unique=True).map(tuple),
            "tenant": st.sampled_from([None, None, *TENANTS]),
            "capabilities": CAPABILITIES,
        }
    ),
)
CHANGE = st.tuples(st.just("change"), NAMES, CAPABILITIES)
OTHER = st.tuples(st.sampled_from(["leave", "pull", "pull", "lease", "lease"]), NAMES, st.none())
GAMES = st.lists(st.one_of(SUBMIT, ARRIVE, CHANGE, OTHER, OTHER), min_size=4, max_size=40)


class Given(NamedTuple):
    """A lease: what was asked for as it was written, and who got it at which revision."""

    job: dict[str, Any]
    run: tuple[str, int]
    revision: int


class Game:
    """Lanes with jobs, and workers with the lanes that they take to fit."""

    def __init__(self) -> None:
        self.lanes: dict[str, LaneKey] = {}
        self.waiting: defaultdict[str, list[tuple[JobSpec, dict[str, Any]]]] = defaultdict(list)
        self.runs: defaultdict[str, int] = defaultdict(int)
        self.records: dict[str, WorkerRecord] = {}
        self.fitting: defaultdict[str, set[str]] = defaultdict(set)
        self.held: defaultdict[str, list[tuple[JobSpec, dict[str, Any]]]] = defaultdict(list)
        self.declared: dict[tuple[str, int, int], WorkerRecord] = {}
        self.given: list[Given] = []

    def play(self, step: str, worker: str, what: Any) -> None:
        match step:
            case "submit":
                self._submit(what)
            case "arrive":
                self._leave(worker)
                self.runs[worker] += 1
                self._declare(worker, new_record(worker_id=WorkerId(worker), slots=1, lease_s=30.0, **what))
            case _ if worker not in self.records:
                return
            case "change":
                record = self.records[worker]
                changed = msgspec.structs.replace(record, capabilities=what, revision=record.revision + 1)
                self._declare(worker, changed)
            case "leave":
                self._leave(worker)
            case "pull":
                self._pull(worker)
            case "lease":
                self._lease(worker)

    def _submit(self, job: dict[str, Any]) -> None:
        spec = JobSpec(
            kind=job["kind"],
            tenant=job["tenant"],
            lane=LaneId(""),
            requires=canonical(job["requires"], limits=ROOMY),
            isolation=isolated(job["isolation"], job["tenant"]),
        )
        (key,) = keys_of(spec)
        lane = lane_id(key)
        assert self.lanes.setdefault(lane, key) == key
        self.waiting[lane].append((msgspec.structs.replace(spec, lane=lane), job))
        for worker in self.records:
            self._match(worker, lane)

    def _match(self, worker: str, lane: str) -> None:
        if self.records[worker].fits(self.lanes[lane]):
            self.fitting[worker].add(lane)
        else:
            self.fitting[worker].discard(lane)

    def _declare(self, worker: str, record: WorkerRecord) -> None:
        self.records[worker] = record
        self.declared[worker, self.runs[worker], record.revision] = record
        for lane in self.lanes:
            self._match(worker, lane)

    def _leave(self, worker: str) -> None:
        self._hand_back(worker)
        self.records.pop(worker, None)
        self.fitting.pop(worker, None)

    def _hand_back(self, worker: str) -> None:
        for spec, job in reversed(self.held.pop(worker, [])):
            self.waiting[spec.lane].insert(0, (spec, job))

    def _pull(self, worker: str) -> None:
        """What is pulled now may be leased after the worker has changed."""
        for lane in self.fitting[worker]:
            if self.waiting[lane]:
                self.held[worker].append(self.waiting[lane].pop(0))

    def _lease(self, worker: str) -> None:
        record = self.records[worker]
        for held in list(self.held[worker]):
            spec, job = held
            if record.fits(key_of(spec, spec.lane)):
                self.given.append(Given(job, (worker, self.runs[worker]), record.revision))
                self.held[worker].remove(held)
        self._hand_back(worker)


def fits(job: dict[str, Any], record: WorkerRecord) -> bool:
    """The same question, asked of what was written and not of its canonical form."""
    dedicated = job["tenant"] if job["isolation"] == "strict" else None
    return (
        job["kind"] in record.kinds
        and record.tenant == dedicated
        and naive(job["requires"], record.capabilities)
    )


@given(GAMES)
@settings(max_examples=GAMES_PLAYED, deadline=None)
def test_every_lease_meets_its_requirement_at_the_revision_that_it_names(
    steps: list[tuple[str, str, Any]],
) -> None:
    game = Game()
    for step in steps:
        game.play(*step)
    for lease in game.given:
        assert fits(lease.job, game.declared[(*lease.run, lease.revision)])


@given(GAMES)
@settings(max_examples=GAMES_PLAYED, deadline=None)
def test_what_waits_in_the_end_is_what_no_worker_fits(steps: list[tuple[str, str, Any]]) -> None:
    game = Game()
    for step in steps:
        game.play(*step)
    for _ in [step for step in steps if step[0] == "submit"]:
        for worker in list(game.records):
            game.play("lease", worker, None)
            game.play("pull", worker, None)
            game.play("lease", worker, None)
    for jobs in game.waiting.values():
        for _, job in jobs:
            assert not any(fits(job, record) for record in game.records.values())


def many(test: Any) -> Any:
    """The same test with more games."""

    @pytest.mark.drill
    @pytest.mark.timeout(3600)
    @given(GAMES)
    @settings(max_examples=MANY_GAMES, deadline=None)
    def played(steps: list[tuple[str, str, Any]]) -> None:
        test.hypothesis.inner_test(steps)

    return played


test_every_lease_of_many_games_meets_its_requirement = many(
    test_every_lease_meets_its_requirement_at_the_revision_that_it_names
)
test_what_waits_at_the_end_of_many_games_is_what_no_worker_fits = many(
    test_what_waits_in_the_end_is_what_no_worker_fits
)
