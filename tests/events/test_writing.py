"""An event is written where every reader finds it and can read it, or refused by the name of its field."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import msgspec
import pytest

from switchyard.events import wakes
from switchyard.events.encoding.codec import MAX_BYTES, MAX_LEVELS, write
from switchyard.events.encoding.json_value import dumps
from switchyard.events.errors import UnwritableError
from switchyard.events.events import AnyEvent, Blocked, Failed, Queued, Scheduled, Submitted, Succeeded
from switchyard.events.lane import LOOSE, NONE, STRICT, LaneKey, admits, isolated, keys_of, lane_id
from switchyard.events.numbers import LAST, later
from switchyard.events.values import Damage, JobError, JobSpec
from switchyard.events.vocabulary.ids import Fence, JobId, LaneId, Seq
from tests.events.examples import (
    BLOCKED,
    DAMAGE,
    DEAD,
    ERROR,
    JOB_ID,
    LATER,
    NOW,
    QUEUED,
    RETRYING,
    REVIEW,
    RUNNING,
    SCHEDULED,
    SPEC,
    run,
    subject_of,
)


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


def spec(**fields: Any) -> JobSpec:
    return msgspec.structs.replace(SPEC, **fields)


ODD: Any = object()

UNWRITABLE: list[tuple[AnyEvent, str]] = [
    (Succeeded(at=NOW, fence=Fence(7), result=math.nan), "result"),
    (Succeeded(at=NOW, fence=Fence(7), artifacts=({"file": ODD},)), "artifacts[0].file"),
    (Failed(at=NOW, fence=ODD, error=ERROR, retry_at=LATER), "fence"),
    (Failed(at=NOW, fence=Fence(7), error=JobError("c", "x" * MAX_BYTES), retry_at=LATER), "error"),
    (
        Succeeded(at=NOW, fence=Fence(7), result=msgspec.Raw(msgspec.json.encode(nested(MAX_LEVELS)))),
        "result",
    ),
    (Failed(at=NOW, fence=cast("Any", "7"), error=ERROR, retry_at=LATER), "fence"),
    (Queued(at=NOW, cause="requeued", lane=LaneId("no lane"), priority=50), "lane"),
    (Blocked(at=NOW, depends_on=(JobId("no job"),), job=SPEC), "depends_on"),
    (Submitted(at=NOW, job=spec(kind="No kind")), "job"),
    (Submitted(at=NOW, job=spec(shared_lane="no lane")), "job"),
]  # fmt: skip


@pytest.mark.parametrize(("event", "field"), UNWRITABLE, ids=range(len(UNWRITABLE)))
def test_what_no_reader_could_read_names_its_field(event: AnyEvent, field: str) -> None:
    with pytest.raises(UnwritableError) as raised:
        write(JOB_ID, event)
    assert (raised.value.field or "").startswith(field.split("[", maxsplit=1)[0])


def test_an_event_stands_under_its_name_and_in_its_lane() -> None:
    scheduled = Scheduled(at=NOW, start_at=LATER)
    assert write(JOB_ID, scheduled)[0] == subject_of(scheduled, JOB_ID) == f"job.{JOB_ID}.scheduled"
    queued = Queued(at=NOW, cause="requeued", lane=LaneId("ocr-1"), priority=7)
    assert write(JOB_ID, queued)[0] == subject_of(queued, JOB_ID) == f"job.{JOB_ID}.queued.ocr-1.7"
    raw = Succeeded(at=NOW, fence=Fence(7), result=msgspec.Raw(b'{"n":1}'))
    assert b'"result":{"n":1}' in write(JOB_ID, raw)[1]


def test_integers_beyond_64_bits_that_were_stored_once_are_shown() -> None:
    assert dumps({"n": 2**70}) == b'{"n":%d}' % 2**70
    assert dumps({"n": 1}) == b'{"n":1}'


def test_no_time_comes_after_the_last() -> None:
    assert later(NOW, 60) == NOW + timedelta(seconds=60)
    assert later(datetime(9999, 12, 31, tzinfo=UTC), 1e6) == LAST


# --- When time has something to do


def test_time_has_nothing_to_do_with_what_is_damaged_or_over() -> None:
    damaged = msgspec.structs.replace(QUEUED, damage=Damage(Seq(7), DAMAGE.event, DAMAGE.reason))
    assert wakes.next_wake(damaged) is None
    assert damaged.shown_state == "damaged"
    assert (QUEUED.shown_state, wakes.next_wake(DEAD)) == ("queued", None)


def test_a_waiting_job_is_woken_for_what_comes_first() -> None:
    assert wakes.next_wake(SCHEDULED) == LATER
    assert wakes.next_wake(BLOCKED) == BLOCKED.deadline_at
    assert wakes.next_wake(RETRYING) == RETRYING.retry_at
    assert wakes.next_wake(RUNNING) == wakes.next_wake(REVIEW) == SPEC.deadline_at
    assert run(job=QUEUED) is QUEUED


# --- Lanes


def test_a_loosely_isolated_job_waits_for_its_tenants_own_workers_first() -> None:
    key, shared = keys_of(spec(isolation=isolated(LOOSE, "acme"), fair_share=True))
    assert (key.isolation, shared.isolation, key.tenant) == ("strict:acme", "loose:acme", "acme")
    (only,) = keys_of(spec(isolation=isolated(NONE, "acme")))
    assert (only.isolation, only.tenant) == (NONE, "")
    assert lane_id(key) != lane_id(shared)
    assert lane_id(LaneKey("a" * 60)).startswith("a" * 50 + "-")


def test_a_worker_takes_from_lanes_of_its_tenant_or_from_those_of_all() -> None:
    lanes = [NONE, f"{LOOSE}:acme", f"{STRICT}:acme"]
    assert [admits(lane, None) for lane in lanes] == [True, True, False]
    assert [admits(lane, "acme") for lane in lanes] == [False, True, True]
    assert not any(admits(lane, "other") for lane in lanes)
