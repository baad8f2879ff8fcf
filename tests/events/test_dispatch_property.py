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
from switchyard.services.records.tenancy import tenancy_of
from switchyard.services.records.workers import WorkerRecord, new_record
from tests.events.test_matching import CAPABILITIES, REQUIREMENTS, ROOMY, naive
from tests.sizes import examples

GAMES_PLAYED = 300
MANY_GAMES = 20_000

WORKERS = ("w1", "w2", "w3")
TENANTS = ("acme", "other", "third")
KINDS = ("convert", "simulate")

NAMES = st.sampled_from(WORKERS)
TENANCIES = st.builds(
    lambda tenants, excluded: tenancy_of(tenants, excluded - tenants),
    st.just(frozenset()) | st.frozensets(st.sampled_from(TENANTS)),
    st.just(frozenset()) | st.frozensets(st.sampled_from(TENANTS)),
)
SUBMIT = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(KINDS),
        "requires": REQUIREMENTS | st.just({}),
        "tenant": st.sampled_from(TENANTS),
        "isolation": st.sampled_from(["none", "none", "strict", "loose"]),
    }
).map(lambda job: ("submit", "", job))
ARRIVE = st.tuples(
    st.just("arrive"),
    NAMES,
    st.fixed_dictionaries(
        {
            "kinds": st.lists(st.sampled_from(KINDS), min_size=1, unique=True).map(tuple),
            "tenancy": TENANCIES,
            "capabilities": CAPABILITIES,
        }
    ),
)
CHANGE = st.tuples(st.just("change"), NAMES, CAPABILITIES)
SERVE = st.tuples(st.just("serve"), NAMES, TENANCIES)
OTHER = st.tuples(st.sampled_from(["leave", "pull", "pull", "lease", "lease", "age"]), NAMES, st.none())
GAMES = st.lists(st.one_of(SUBMIT, ARRIVE, CHANGE, SERVE, OTHER, OTHER), min_size=4, max_size=40)


class Given(NamedTuple):
    """A lease: what was asked for as it was written, who got it at which revision, and when."""

    job: dict[str, Any]
    is_aged: bool
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
            case "serve":
                record, served = self.records[worker], what
                changed = msgspec.structs.replace(
                    record, tenant=served.alone, tenants=served.several, excluded=served.excluded,
                    revision=record.revision + 1,
                )  # fmt: skip
                self._declare(worker, changed)
            case "age":
                self._age()
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
        keys = keys_of(spec)
        lane, shared = lane_id(keys[0]), "" if len(keys) == 1 else lane_id(keys[1])
        for key in keys:
            assert self.lanes.setdefault(lane_id(key), key) == key
            for worker in self.records:
                self._match(worker, lane_id(key))
        self.waiting[lane].append((msgspec.structs.replace(spec, lane=lane, shared_lane=LaneId(shared)), job))

    def _age(self) -> None:
        """What waits has waited for its tenant's own workers long enough."""
        for lane in list(self.waiting):
            for spec, job in list(self.waiting[lane]):
                if spec.shared_lane and spec.lane != spec.shared_lane:
                    self.waiting[lane].remove((spec, job))
                    moved = msgspec.structs.replace(spec, lane=spec.shared_lane)
                    self.waiting[moved.lane].append((moved, job))

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
        record = self.records[worker]
        for lane in self.fitting[worker]:
            mine = [each for each in self.waiting[lane] if record.runs_for(each[0].tenant)]
            assert len(mine) == len(self.waiting[lane]) or record.passes_by(self.lanes[lane])
            if mine:
                self.waiting[lane].remove(mine[0])
                self.held[worker].append(mine[0])

    def _lease(self, worker: str) -> None:
        record = self.records[worker]
        for held in list(self.held[worker]):
            spec, job = held
            if record.runs_for(spec.tenant) and record.fits(key_of(spec, spec.lane)):
                is_aged = spec.lane == spec.shared_lane
                self.given.append(Given(job, is_aged, (worker, self.runs[worker]), record.revision))
                self.held[worker].remove(held)
        self._hand_back(worker)


def fits(job: dict[str, Any], record: WorkerRecord, *, is_aged: bool) -> bool:
    """The same question, asked of what was written and not of its canonical form."""
    served, excluded = record.tenancy
    tenant, isolation = job["tenant"], job["isolation"]
    if job["kind"] not in record.kinds or not naive(job["requires"], record.capabilities):
        return False
    if tenant in excluded or (served and tenant not in served):
        return False
    if isolation == "strict" or (isolation == "loose" and not is_aged):
        return served == (tenant,)
    return isolation == "loose" or len(served) != 1  # a dedicated worker is kept for isolated jobs


@given(GAMES)
@settings(max_examples=examples(GAMES_PLAYED), deadline=None)
def test_every_lease_meets_its_requirement_at_the_revision_that_it_names(
    steps: list[tuple[str, str, Any]],
) -> None:
    game = Game()
    for step in steps:
        game.play(*step)
    for lease in game.given:
        assert fits(lease.job, game.declared[(*lease.run, lease.revision)], is_aged=lease.is_aged)


@given(GAMES)
@settings(max_examples=examples(GAMES_PLAYED), deadline=None)
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
        for spec, job in jobs:
            is_aged = spec.lane == spec.shared_lane
            assert not any(fits(job, record, is_aged=is_aged) for record in game.records.values())


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
